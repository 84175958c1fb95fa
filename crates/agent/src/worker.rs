//! The one thread that frames pass through.
//!
//! In: the rings, the sockets, and a snapshot of the sensors. Each block runs to completion: every
//! frame is pushed, the batch is sent whenever it is full and at the end of the block, and only then
//! the block goes back to the kernel, since datagrams are ranges of its memory. Nothing is locked,
//! allocated or logged on the way; the totals are published once a block.
//!
//! The worker sleeps in `epoll_wait` until a ring has a closed block, an interface fails, or the control
//! side asks it to stop, and wakes four times a second to look after interfaces and sockets. After the request to
//! stop it ends capturing, drains the rings within [`DRAIN_MAX`], and returns the exact totals.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use capture::Ring;
use mirror::{Batch, DropReason, Mirror, SensorTable, Totals};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use transmit::Transmitter;

use crate::published::{Event, Events, Published, RingTotals, Snapshot};

/// How often interfaces and sockets are looked after: so long may a dead sensor or an interface
/// that was made again go unnoticed. A round takes some fifty short system calls.
const ATTEND_EVERY: Duration = Duration::from_millis(250);
/// How many blocks of one ring are taken before the next ring has its turn.
const BLOCKS_A_TURN: usize = 16;
/// How long the drain may take.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// How often the drain looks whether the kernel has closed the last block.
const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(2);

/// Asks the worker to stop, from any thread.
#[derive(Debug, Clone)]
pub(crate) struct Stop(Arc<EventFd>);

impl Stop {
    /// A request that was not made yet.
    ///
    /// # Errors
    /// When the kernel has no descriptor to give.
    pub(crate) fn new() -> Result<Self, Errno> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        Ok(Self(Arc::new(EventFd::from_value_and_flags(0, flags)?)))
    }

    /// Makes the request.
    ///
    /// # Errors
    /// None that a working eventfd gives.
    pub(crate) fn request(&self) -> Result<(), Errno> {
        self.0.write(1).map(drop)
    }
}

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
    pub(crate) stop: Stop,
}

/// What the worker has at hand for each block, apart from the rings.
struct Path {
    transmitter: Transmitter,
    mirror: Mirror,
    table: Arc<ArcSwap<SensorTable>>,
    batch: Batch,
    totals: Totals,
    /// Whether the last look at a ring found a block.
    took_any: bool,
}

impl Worker {
    /// Mirrors until it is asked to stop; then drains, and returns the totals.
    ///
    /// # Errors
    /// When epoll(7) fails for good, which leaves no way to go on.
    pub(crate) fn run(self) -> Result<Snapshot, Errno> {
        let Self {
            mut rings,
            transmitter,
            mirror,
            table,
            published,
            events,
            stop,
        } = self;
        let (batch, totals) = (Batch::new(), Totals::default());
        let mut path = Path {
            transmitter,
            mirror,
            table,
            batch,
            totals,
            took_any: false,
        };
        let control = Control {
            published: &published,
            events: &events,
        };
        let sources = Sources::of(&rings, &stop)?;
        let mut next_look = Instant::now();
        loop {
            let now = Instant::now();
            if now >= next_look {
                next_look = now + ATTEND_EVERY;
                control.attend(&mut rings, &mut path);
            }
            let woken = sources.wait(next_look.saturating_duration_since(now))?;
            if woken.stop {
                break;
            }
            for ring in &mut rings {
                path.take_blocks(ring, BLOCKS_A_TURN, &published);
            }
            if woken.interface_failed {
                // The error must be taken, or the next wait would end at once.
                control.attend(&mut rings, &mut path);
            }
        }
        drain(&mut rings, &mut path, &control);
        published.store_totals(&path.totals);
        control.attend(&mut [], &mut path);
        Ok(Snapshot {
            totals: path.totals,
            ring: ring_totals(&mut rings),
        })
    }
}

impl Path {
    /// Takes at most `most` blocks that the kernel has closed.
    fn take_blocks(&mut self, ring: &mut Ring, most: usize, published: &Published) {
        self.took_any = false;
        for _ in 0..most {
            let Some(block) = ring.next_block() else {
                return;
            };
            let table = self.table.load();
            for frame in block.frames() {
                self.mirror
                    .push(&frame, &table, &mut self.batch, &mut self.totals);
                if self.batch.is_full() {
                    self.send(block.bytes(), &table);
                }
            }
            self.send(block.bytes(), &table);
            let unreadable = block.unreadable().into();
            self.totals.drop_frames(DropReason::Malformed, unreadable);
            self.took_any = true;
            published.store_totals(&self.totals);
        }
    }

    fn send(&mut self, block: &[u8], table: &SensorTable) {
        if !self.batch.is_empty() {
            self.transmitter.send(&mut self.batch, block, table);
        }
        self.batch.settle(&mut self.totals);
    }
}

/// The worker's side towards the control side.
struct Control<'w> {
    published: &'w Published,
    events: &'w Events,
}

impl Control<'_> {
    /// Looks after the interfaces, and tells what happened to them and to sending.
    fn attend(&self, rings: &mut [Ring], path: &mut Path) {
        for ring in rings.iter_mut() {
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
            self.events.tell(event, self.published);
        }
        if !rings.is_empty() {
            self.published.store_ring(ring_totals(rings));
        }
        let report = path.transmitter.attend(&path.table.load());
        if !report.is_empty() {
            self.events.tell(Event::Sending(report), self.published);
        }
    }
}

/// Everything that can wake the worker.
struct Sources(Epoll);

/// What ended a wait.
#[derive(Default)]
struct Woken {
    stop: bool,
    interface_failed: bool,
}

impl Sources {
    const STOP: u64 = 0;
    const RING: u64 = 1;
    /// As many are told at a time; more rings take another turn.
    const EVENTS: usize = 8;

    fn of(rings: &[Ring], stop: &Stop) -> Result<Self, Errno> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(
            stop.0.as_fd(),
            EpollEvent::new(EpollFlags::EPOLLIN, Self::STOP),
        )?;
        for ring in rings {
            epoll.add(ring, EpollEvent::new(EpollFlags::EPOLLIN, Self::RING))?;
        }
        Ok(Self(epoll))
    }

    /// Waits until something is there to be done.
    fn wait(&self, most: Duration) -> Result<Woken, Errno> {
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
        let mut woken = Woken::default();
        for event in &events[..count] {
            woken.stop |= event.data() == Self::STOP;
            woken.interface_failed |= event.events().contains(EpollFlags::EPOLLERR);
        }
        Ok(woken)
    }
}

/// Ends capturing and takes what is left in the rings.
fn drain(rings: &mut [Ring], path: &mut Path, control: &Control<'_>) {
    for ring in rings.iter_mut() {
        if let Err(error) = ring.stop() {
            let event = Event::InterfaceFailed {
                name: ring.interface().clone(),
                error: format!("capturing could not be ended: {error}"),
            };
            control.events.tell(event, control.published);
        }
    }
    let end = Instant::now() + DRAIN_MAX;
    while Instant::now() < end {
        for ring in rings.iter_mut() {
            path.take_blocks(ring, 1, control.published);
        }
        let waiting: u64 = rings.iter_mut().map(waiting).sum();
        if waiting == 0 {
            return;
        }
        if !path.took_any {
            // The open block is closed by the kernel's timer, a few milliseconds from now.
            std::thread::sleep(DRAIN_LOOK_EVERY);
        }
    }
    for ring in rings.iter_mut() {
        path.totals
            .drop_frames(DropReason::NotDrained, waiting(ring));
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
