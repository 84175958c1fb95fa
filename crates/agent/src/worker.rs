//! The one thread that frames pass through.
//!
//! In: the rings, the sockets, and a snapshot of the sensors. Each block runs to completion: every
//! frame is pushed, the batch is sent whenever it is full and at the end of the block, and only then
//! the block goes back to the kernel, since datagrams are ranges of its memory. Nothing is locked,
//! allocated or logged on the way; the totals are published once a block.
//!
//! The worker sleeps in `epoll_wait` until a ring has a closed block, links, addresses or routes change,
//! an interface fails, or the control side asks it to stop. While there is traffic, and for some seconds
//! more, it reports four times a second what the network answers. Whether anything is due is checked
//! after each block too, and the request to stop whenever a batch is full: under a small CPU quota a
//! block can take most of a second. Several rings take turns block by block. After the request to stop
//! the worker ends capturing, drains the rings within [`DRAIN_MAX`], and returns the exact totals.
//!
//! Where the sensors have a name, it first waits for their first view, see [`crate::start_wait`].

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use capture::{Frames, NetworkChanges, Ring, Walk};
use mirror::{Batch, DropReason, Mirror, SensorTable, Totals};
use nix::errno::Errno;
use transmit::Transmitter;

use crate::flag::Flag;
use crate::published::{Event, Events, Published, RingTotals, Snapshot};
use crate::sources::Sources;
use crate::start_wait::{Backlog, Over, State};

/// How often the network's answers and the rings' counters are read while there is traffic.
const REPORT_EVERY: Duration = Duration::from_millis(250);
/// How long after the last block that goes on: an answer to the last datagram comes within this time. A
/// neighbour's silence takes the kernel three seconds.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// How often interfaces are refreshed though the kernel has told of no change, to be sure.
const REFRESH_EVERY: Duration = Duration::from_secs(10);
/// The same where the kernel refuses to tell.
const REFRESH_UNTOLD: Duration = Duration::from_millis(250);
/// As many changes of an interface are reported by a refresh: it is bound, renamed, and down.
const CHANGES_MAX: usize = 4;
/// The least time between two refreshes. A node's network can change all the time.
const REFRESH_AFTER: Duration = Duration::from_millis(20);
/// How long the drain may take, from when the request to stop is seen.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// How often the drain checks whether the kernel has closed the last block.
const DRAIN_CHECK_EVERY: Duration = Duration::from_millis(2);
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
        // Without it interfaces are refreshed often instead.
        let changes = NetworkChanges::subscribe().ok();
        if let Some(changes) = &changes {
            sources.add(changes, Sources::CHANGES)?;
        }
        let mut running = Running {
            rings: self.rings,
            path: DataPath {
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
            changes,
            has_changed: false,
            refreshed: Instant::now(),
            next_refresh: Instant::now(),
            next_report: Instant::now(),
            active_until: Instant::now(),
            turn: 0,
        };
        running.wait_for_sensors(&self.first_view, self.start_wait)?;
        while !running.path.stop.is_raised() {
            running.sleep(REFRESH_EVERY)?;
            running.take_turns();
        }
        running.drain();
        running.path.publish();
        running.report_sending();
        Ok(Snapshot {
            totals: running.path.totals,
            ring: ring_totals(&mut running.rings),
        })
    }
}

/// A worker at work.
struct Running {
    rings: Vec<Ring>,
    path: DataPath,
    events: Events,
    sources: Sources,
    /// The kernel's word that links, addresses or routes have changed.
    changes: Option<NetworkChanges>,
    /// Whether they have since interfaces were refreshed.
    has_changed: bool,
    /// When interfaces were refreshed, and when they are to be refreshed again.
    refreshed: Instant,
    next_refresh: Instant,
    /// When the network's answers and the counters are read again.
    next_report: Instant,
    /// Until when answers may come.
    active_until: Instant,
    /// The ring that has the next turn.
    turn: usize,
}

impl Running {
    /// Does what is due, and sleeps until there is something to do, at most so long.
    fn sleep(&mut self, most: Duration) -> Result<(), Errno> {
        self.do_what_is_due();
        let left = self.due().saturating_duration_since(Instant::now());
        let woken = self.sources.wait(left.min(most))?;
        if woken.interface_failed {
            // The error must be taken, or the next wait would end at once.
            self.refresh();
        }
        if woken.network_changed {
            self.network_changed();
        }
        Ok(())
    }

    /// When the next thing is due that does not come with a block.
    fn due(&self) -> Instant {
        self.next_refresh.min(self.next_report)
    }

    fn do_what_is_due(&mut self) {
        let now = Instant::now();
        if now >= self.next_refresh {
            self.refresh();
        }
        if now >= self.next_report {
            self.report();
        }
    }

    /// Has interfaces, source addresses and paths refreshed soon.
    fn network_changed(&mut self) {
        if self.changes.as_ref().is_some_and(NetworkChanges::clear) {
            self.has_changed = true;
            self.next_refresh = self.next_refresh.min(self.refreshed + REFRESH_AFTER);
        }
    }

    /// Takes a block of each ring in turn while there are any, until something else is due. One is
    /// taken in any case, or a busy machine would refresh interfaces and do nothing else.
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
            let now = Instant::now();
            self.active_until = now + ANSWERS_WITHIN;
            self.next_report = self.next_report.min(now + REPORT_EVERY);
            if self.path.stop.is_raised() || now >= self.due() {
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
        self.sources.add(first_view, Sources::OTHERS)?;
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
        self.sources.remove(first_view)?;
        if !rings_wake {
            self.sources.add_all(&self.rings)?;
        }
        if let Over::GivenUp(cause) = over {
            let waited = begun.elapsed();
            self.send_event(Event::WaitGivenUp { cause, waited });
        }
        for block in backlog.blocks() {
            let walk = Walk::check(block);
            self.path
                .mirror_block(walk.frames(), block, walk.unreadable());
            self.do_what_is_due();
        }
        Ok(())
    }

    /// Finds the interfaces anew, has the sockets find their ways anew, and reports what has changed.
    fn refresh(&mut self) {
        self.refreshed = Instant::now();
        self.next_refresh = self.refreshed
            + match self.changes {
                Some(_) => REFRESH_EVERY,
                None => REFRESH_UNTOLD,
            };
        self.path.transmitter.reconnect();
        if mem::take(&mut self.has_changed) {
            self.send_event(Event::NetworkChanged);
        }
        for ring in &mut self.rings {
            // A ring returns one change at a time; a few calls return all that can be.
            for _ in 0..CHANGES_MAX {
                let event = match ring.refresh() {
                    Ok(None) => break,
                    Ok(Some(change)) => Event::Interface {
                        name: ring.interface().clone(),
                        change,
                    },
                    Err(error) => Event::InterfaceFailed {
                        name: ring.interface().clone(),
                        error: error.to_string(),
                    },
                };
                let is_over = matches!(event, Event::InterfaceFailed { .. });
                self.events.send(event, &self.path.published);
                if is_over {
                    break;
                }
            }
        }
    }

    /// Publishes the rings' counters, and reports what the network has answered.
    fn report(&mut self) {
        let now = Instant::now();
        let pause = if now < self.active_until {
            REPORT_EVERY
        } else {
            REFRESH_EVERY
        };
        self.next_report = now + pause;
        let totals = ring_totals(&mut self.rings);
        self.path.published.store_ring(totals);
        self.report_sending();
    }

    fn report_sending(&mut self) {
        let report = self.path.transmitter.report(&self.path.table.load());
        if !report.is_empty() {
            self.send_event(Event::Sending(report));
        }
    }

    fn send_event(&self, event: Event) {
        self.events.send(event, &self.path.published);
    }

    /// Ends capturing and takes what is left in the rings.
    fn drain(&mut self) {
        for ring in &mut self.rings {
            if let Err(error) = ring.stop() {
                let event = Event::InterfaceFailed {
                    name: ring.interface().clone(),
                    error: format!("capturing could not be ended: {error}"),
                };
                self.events.send(event, &self.path.published);
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
            std::thread::sleep(DRAIN_CHECK_EVERY);
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

/// What takes each block its way: decisions, sockets, counts.
struct DataPath {
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

impl DataPath {
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
        self.batch.count_outcomes(&mut self.totals);
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
