//! The one thread that frames pass through.
//!
//! In: the rings, the sockets, and a snapshot of the sensors. Each block runs to completion: every
//! frame is pushed, the batch is sent whenever it is full and at the end of the block, and only then
//! the block goes back to the kernel, since datagrams are ranges of its memory. Nothing is locked,
//! allocated or logged on the way; the totals are published once a block.
//!
//! The worker sleeps in `epoll_wait` until a ring has a closed block, an interface fails, or the control
//! side asks it to stop, and wakes four times a second to look after interfaces and sockets. Whether
//! that is due is checked after each block too, and the request to stop whenever a batch is full: under a
//! small CPU quota a block can take most of a second. Several rings take turns block by block. After the request
//! to stop the worker ends capturing, drains the rings within [`DRAIN_MAX`], and returns the exact
//! totals.
//!
//! Where the sensors have a name, it first waits for their first view, see [`crate::start_wait`].

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use capture::{Frames, Ring, Walk};
use mirror::{Batch, DropReason, Mirror, SensorTable, Totals};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use transmit::Transmitter;

use crate::flag::Flag;
use crate::published::{Event, Events, Published, RingTotals, Snapshot};
use crate::start_wait::{Backlog, Over, State};

/// How often interfaces and sockets are looked after: so long may a dead sensor or an interface
/// that was made again go unnoticed. A round takes some fifty short system calls.
const ATTEND_EVERY: Duration = Duration::from_millis(250);
/// How long the drain may take, from when the request to stop is seen.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// How often the drain looks whether the kernel has closed the last block.
const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(2);
/// How often a wait for the sensors checks whether half of a ring is in use, once the backlog is full.
const WAIT_CHECK_EVERY: Duration = Duration::from_millis(5);

/// What the data path is made of.
pub(crate) struct Worker {
    /// One for each interface.
    pub(crate) rings: Vec<Ring>,
    /// The sockets.
    pub(crate) transmitter: Transmitter,
    /// The decisions.
    pub(crate) mirror: Mirror,
    /// The sensors; the control side puts new ones there.
    pub(crate) table: Arc<ArcSwap<SensorTable>>,
    /// Where the numbers go.
    pub(crate) published: Arc<Published>,
    /// Where rare events go.
    pub(crate) events: Events,
    /// The request to stop.
    pub(crate) stop: Flag,
    /// That a first view of the sensors is in the table.
    pub(crate) first_view: Flag,
    /// How long frames may wait for it.
    pub(crate) start_wait: Duration,
}

impl Worker {
    /// Mirrors until it is asked to stop; then drains, and returns the totals.
    ///
    /// # Errors
    /// When epoll(7) fails for good, which leaves no way to go on.
    pub(crate) fn run(self) -> Result<Snapshot, Errno> {
        let sources = Sources::of(&self.rings, &self.stop)?;
        let mut running = Running {
            rings: self.rings,
            path: Path {
                transmitter: self.transmitter,
                mirror: self.mirror,
                table: self.table,
                batch: Batch::new(),
                totals: Totals::default(),
                published: self.published,
                stop: self.stop,
                drain_until: None,
            },
            events: self.events,
            sources,
            next_attend: Instant::now(),
            turn: 0,
        };
        running.wait_for_sensors(&self.first_view, self.start_wait)?;
        while !running.path.stop.is_raised() {
            running.sleep(ATTEND_EVERY)?;
            running.take_turns();
        }
        running.drain();
        running.path.publish();
        running.attend_sockets();
        Ok(Snapshot {
            totals: running.path.totals,
            ring: ring_totals(&mut running.rings),
        })
    }
}

/// A worker at work.
struct Running {
    rings: Vec<Ring>,
    path: Path,
    events: Events,
    sources: Sources,
    /// When interfaces and sockets are looked after again.
    next_attend: Instant,
    /// The ring that has the next turn.
    turn: usize,
}

impl Running {
    /// Sleeps until there is something to do, at most so long, and looks after interfaces and sockets
    /// where that is due.
    fn sleep(&mut self, most: Duration) -> Result<(), Errno> {
        self.attend_if_due();
        let left = self.next_attend.saturating_duration_since(Instant::now());
        if self.sources.wait(left.min(most))? {
            // The error must be taken, or the next wait would end at once.
            self.attend();
        }
        Ok(())
    }

    /// Takes a block of each ring in turn while there are any, until something else is due. One is
    /// taken in any case, or a busy machine would look after interfaces and do nothing else.
    fn take_turns(&mut self) {
        let mut without_block = 0;
        while without_block < self.rings.len() {
            self.turn = (self.turn + 1) % self.rings.len();
            let ring = self.rings.get_mut(self.turn);
            if !ring.is_some_and(|ring| self.path.take_block(ring)) {
                without_block += 1;
                continue;
            }
            without_block = 0;
            if self.path.stop.is_raised() || Instant::now() >= self.next_attend {
                return;
            }
        }
    }

    /// Lets frames wait until the first view of the sensors has come, at most so long; zero is no wait.
    fn wait_for_sensors(&mut self, first_view: &Flag, limit: Duration) -> Result<(), Errno> {
        if limit.is_zero() {
            return Ok(());
        }
        let begun = Instant::now();
        let mut backlog = Backlog::default();
        let mut rings_wake = true;
        self.sources.add(first_view)?;
        let over = loop {
            fill(&mut backlog, &mut self.rings);
            let waited = begun.elapsed();
            let state = State {
                has_view: first_view.is_raised(),
                is_stopped: self.path.stop.is_raised(),
                is_half_full: self.rings.iter().any(Ring::is_half_full),
                waited,
            };
            if let Some(over) = state.judge(limit) {
                break over;
            }
            if rings_wake && !backlog.has_space() {
                // They stay readable, and would have us run in a circle.
                self.sources.remove_all(&self.rings)?;
                rings_wake = false;
            }
            let left = limit.saturating_sub(waited);
            self.sleep(if rings_wake {
                left
            } else {
                left.min(WAIT_CHECK_EVERY)
            })?;
        };
        self.sources.0.delete(first_view)?;
        if !rings_wake {
            self.sources.add_all(&self.rings)?;
        }
        if let Over::GivenUp(cause) = over {
            let waited = begun.elapsed();
            self.report(Event::WaitGivenUp { cause, waited });
        }
        for block in backlog.blocks() {
            let walk = Walk::check(block);
            self.path
                .mirror_block(walk.frames(), block, walk.unreadable());
            self.attend_if_due();
        }
        Ok(())
    }

    fn attend_if_due(&mut self) {
        if Instant::now() >= self.next_attend {
            self.attend();
        }
    }

    /// Looks after interfaces and sockets, and reports what happened to them.
    fn attend(&mut self) {
        self.next_attend = Instant::now() + ATTEND_EVERY;
        for ring in &mut self.rings {
            let event = match ring.attend() {
                Ok(None) => continue,
                Ok(Some(change)) => Event::Interface {
                    name: ring.interface().clone(),
                    change,
                },
                Err(error) => Event::InterfaceFailed {
                    name: ring.interface().clone(),
                    error: error.to_string(),
                },
            };
            self.events.tell(event, &self.path.published);
        }
        let totals = ring_totals(&mut self.rings);
        self.path.published.store_ring(totals);
        self.attend_sockets();
    }

    fn attend_sockets(&mut self) {
        let report = self.path.transmitter.attend(&self.path.table.load());
        if !report.is_empty() {
            self.report(Event::Sending(report));
        }
    }

    fn report(&self, event: Event) {
        self.events.tell(event, &self.path.published);
    }

    /// Ends capturing and takes what is left in the rings.
    fn drain(&mut self) {
        for ring in &mut self.rings {
            if let Err(error) = ring.stop() {
                let event = Event::InterfaceFailed {
                    name: ring.interface().clone(),
                    error: format!("capturing could not be ended: {error}"),
                };
                self.events.tell(event, &self.path.published);
            }
        }
        while !self.path.is_time_over() {
            let mut took_any = false;
            for ring in &mut self.rings {
                took_any |= self.path.take_block(ring);
            }
            if took_any {
                continue;
            }
            if self.rings.iter_mut().map(waiting).sum::<u64>() == 0 {
                return;
            }
            // The open block is closed by the kernel's timer, a few milliseconds from now.
            std::thread::sleep(DRAIN_LOOK_EVERY);
        }
        for ring in &mut self.rings {
            let left = waiting(ring);
            self.path.totals.drop_frames(DropReason::NotDrained, left);
        }
    }
}

/// Moves closed blocks into the backlog while it has space, one of each ring in turn.
fn fill(backlog: &mut Backlog, rings: &mut [Ring]) {
    let mut took_any = true;
    while took_any {
        took_any = false;
        for ring in &mut *rings {
            if !backlog.has_space() {
                return;
            }
            if let Some(block) = ring.next_block() {
                backlog.push(block.used());
                took_any = true;
            }
        }
    }
}

/// What the worker has at hand for each block, apart from the rings.
struct Path {
    transmitter: Transmitter,
    mirror: Mirror,
    table: Arc<ArcSwap<SensorTable>>,
    batch: Batch,
    totals: Totals,
    published: Arc<Published>,
    stop: Flag,
    /// When the drain ends, once the request to stop was seen.
    drain_until: Option<Instant>,
}

impl Path {
    /// Takes the next block of a ring, if the kernel has closed one.
    fn take_block(&mut self, ring: &mut Ring) -> bool {
        let Some(block) = ring.next_block() else {
            return false;
        };
        self.mirror_block(block.frames(), block.bytes(), block.unreadable());
        true
    }

    /// Sends the frames of a block, or those for which there is time when podspan shall end.
    fn mirror_block(&mut self, mut frames: Frames<'_>, block: &[u8], unreadable: u32) {
        if !self.is_time_over() {
            let table = self.table.load();
            for frame in frames.by_ref() {
                self.mirror
                    .push(&frame, &table, &mut self.batch, &mut self.totals);
                if self.batch.is_full() {
                    self.send(block, &table);
                    if self.is_time_over() {
                        break;
                    }
                }
            }
            self.send(block, &table);
        }
        let left = u64::try_from(frames.len()).unwrap_or(u64::MAX);
        self.totals.drop_frames(DropReason::NotDrained, left);
        self.totals
            .drop_frames(DropReason::Malformed, unreadable.into());
        self.publish();
    }

    fn send(&mut self, block: &[u8], table: &SensorTable) {
        if !self.batch.is_empty() {
            self.transmitter.send(&mut self.batch, block, table);
        }
        self.batch.settle(&mut self.totals);
    }

    /// Whether podspan shall have ended by now. The time begins when this first sees the request.
    fn is_time_over(&mut self) -> bool {
        if !self.stop.is_raised() {
            return false;
        }
        let now = Instant::now();
        now >= *self.drain_until.get_or_insert(now + DRAIN_MAX)
    }

    fn publish(&self) {
        self.published.store_totals(&self.totals);
    }
}

/// Everything that can wake the worker.
struct Sources(Epoll);

impl Sources {
    /// As many are told at a time; more rings take another turn.
    const EVENTS: usize = 8;

    fn of(rings: &[Ring], stop: &Flag) -> Result<Self, Errno> {
        let sources = Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        sources.add(stop)?;
        sources.add_all(rings)?;
        Ok(sources)
    }

    fn add(&self, source: impl AsFd) -> Result<(), Errno> {
        // What woke us shows by itself, an error of an interface aside.
        self.0.add(source, EpollEvent::new(EpollFlags::EPOLLIN, 0))
    }

    fn add_all(&self, rings: &[Ring]) -> Result<(), Errno> {
        rings.iter().try_for_each(|ring| self.add(ring))
    }

    fn remove_all(&self, rings: &[Ring]) -> Result<(), Errno> {
        rings.iter().try_for_each(|ring| self.0.delete(ring))
    }

    /// Waits until there is something to do, and says whether an interface failed.
    fn wait(&self, most: Duration) -> Result<bool, Errno> {
        // Rounded up: to wake a moment early would mean to wait again at once.
        let timeout = EpollTimeout::try_from(most + Duration::from_millis(1));
        let mut events = [EpollEvent::empty(); Self::EVENTS];
        let count = match self
            .0
            .wait(&mut events, timeout.unwrap_or(EpollTimeout::ZERO))
        {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error),
        };
        let failed = |event: &EpollEvent| event.events().contains(EpollFlags::EPOLLERR);
        Ok(events.iter().take(count).any(failed))
    }
}

/// How many frames wait in a ring; none when the kernel will not say.
fn waiting(ring: &mut Ring) -> u64 {
    ring.waiting().unwrap_or(0)
}

fn ring_totals(rings: &mut [Ring]) -> RingTotals {
    let mut totals = RingTotals::default();
    // A reading that fails leaves the kernel's counters for the next one.
    for statistics in rings.iter_mut().filter_map(|ring| ring.statistics().ok()) {
        totals.packets += statistics.packets;
        totals.drops += statistics.drops;
    }
    totals
}
