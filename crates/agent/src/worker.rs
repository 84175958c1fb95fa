//! The one thread that frames pass through.
//!
//! In: the rings, the sockets, and a snapshot of the sensors. Each block is processed completely: every
//! frame is pushed into a batch, and the batch is sealed for the sensors with a tunnel, and sent, when it is full
//! and at the end of the block. Only
//! then the block goes back to the kernel, because datagrams are ranges of its memory. This path has no
//! lock, no allocation and no logging; the totals are published once a block.
//!
//! The worker sleeps in `epoll_wait` until a ring has a closed block, links, addresses or routes change,
//! an interface fails, or the control side asks it to stop. While there is traffic, it reports the
//! network's answers four times a second, and less often for some seconds after it. It checks after each
//! block what is due, and after each full batch whether to stop: under a small CPU quota a block can take
//! most of a second. Several rings take turns, block by block. After the request to stop, the worker ends
//! capturing, drains the rings within [`DRAIN_MAX`], and returns the exact totals.
//!
//! **Other threads first.** A block is milliseconds of work. The scheduler lets a thread that runs continue for a slice
//! (`base_slice_ns`, about 1 to 3 ms), and does not interrupt it for the application's thread that becomes ready on the same
//! processor. So with a CPU quota, which means that podspan has a control group of its own, the worker and `transmit`
//! yield (`sched_yield(2)`) after each piece of at most about a hundred microseconds. The application waits less
//! (docs/performance.md, `cargo xtask bench --application`).
//!
//! If the sensor is a name, the worker first waits for the first list of sensors, see
//! [`crate::start_wait`].

use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use capture::{Cursor, NetworkChanges, Ring, RingStatistics, Walk};
use mirror::{Batch, DropReason, Mirror, SensorTable, Totals};
use nix::errno::Errno;
use transmit::Transmitter;
use wire::{BlockMemory, Timestamp};

use crate::flag::Flag;
use crate::published::{Event, EventSender, Published, RingTotals, Snapshot};
use crate::report_schedule::ReportSchedule;
use crate::sealing::Sessions;
use crate::sources::Sources;
use crate::start_wait::{Backlog, WaitEnd, WaitState};
use crate::work::Work;

/// How often interfaces are refreshed even if the kernel has reported no change.
const REFRESH_EVERY: Duration = Duration::from_secs(10);
/// How often interfaces are refreshed if the kernel does not report changes.
const REFRESH_EVERY_UNSUBSCRIBED: Duration = Duration::from_millis(250);
/// The most changes of an interface in one refresh: it is bound, renamed, and down.
const CHANGES_MAX: usize = 4;
/// The minimum time between two refreshes. A node's network can change all the time.
const REFRESH_AFTER: Duration = Duration::from_millis(20);
/// The maximum duration of the drain, from when the worker reads the request to stop.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// How often the drain checks whether the kernel has closed the last block.
const DRAIN_CHECK_EVERY: Duration = Duration::from_millis(2);
/// How often a wait for the sensors checks whether half of a ring is in use, once the backlog is full.
const WAIT_CHECK_EVERY: Duration = Duration::from_millis(5);

/// After so many frames the worker lets other threads run.
const FRAMES_AT_ONCE: u32 = 256;

/// The parts of the data path.
pub(crate) struct Worker {
    /// One for each interface.
    pub(crate) rings: Vec<Ring>,
    /// The sockets.
    pub(crate) transmitter: Transmitter,
    /// What builds the datagrams.
    pub(crate) mirror: Mirror,
    /// What seals those of sensors with a tunnel; none without tunnels.
    pub(crate) sessions: Option<Sessions>,
    /// The table of sensors; the control side replaces it.
    pub(crate) table: Arc<ArcSwap<SensorTable>>,
    /// The worker stores its numbers here.
    pub(crate) published: Arc<Published>,
    /// The worker sends rare events here.
    pub(crate) events: EventSender,
    /// The request to stop.
    pub(crate) stop: Flag,
    /// Raised when the first list of sensors is in the table.
    pub(crate) first_list: Flag,
    /// How long frames wait for it.
    pub(crate) start_wait: Duration,
}

impl Worker {
    /// Mirrors until the request to stop; then drains, and returns the totals.
    ///
    /// # Errors
    /// When epoll(7) fails. Without it the worker cannot continue.
    pub(crate) fn run(self) -> Result<Snapshot, Errno> {
        let sources = Sources::of(&self.rings, &self.stop)?;
        // Without the subscription, interfaces are refreshed often instead.
        let changes = NetworkChanges::subscribe().ok();
        if let Some(changes) = &changes {
            sources.add(changes, Sources::CHANGES)?;
        }
        if let Some(sessions) = &self.sessions {
            sources.add(sessions, Sources::SESSIONS)?;
        }
        let mut running = Running {
            rings: self.rings,
            path: DataPath {
                transmitter: self.transmitter,
                mirror: self.mirror,
                sessions: self.sessions,
                table: self.table,
                batch: Batch::new(),
                totals: Totals::default(),
                work: Work::default(),
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
            reports: ReportSchedule::new(Instant::now()),
            last_ring: 0,
        };
        running.wait_for_sensors(&self.first_list, self.start_wait)?;
        while !running.path.stop.is_raised() {
            running.sleep(REFRESH_EVERY)?;
            running.process_blocks();
        }
        running.drain();
        running.path.publish();
        running.publish_rings();
        running.report_sending();
        Ok(running.path.published.read())
    }
}

/// The state of a running worker.
struct Running {
    rings: Vec<Ring>,
    path: DataPath,
    events: EventSender,
    sources: Sources,
    /// The subscription to changes of links, addresses and routes.
    changes: Option<NetworkChanges>,
    /// Whether there was a change since the last refresh.
    has_changed: bool,
    /// When interfaces were last refreshed, and when they are refreshed next.
    refreshed: Instant,
    next_refresh: Instant,
    /// When the network's answers and the counters are read next.
    reports: ReportSchedule,
    /// The ring whose block was processed last; the one after it is next.
    last_ring: usize,
}

impl Running {
    /// Does what is due, and sleeps until there is something to do, at most for `max`.
    fn sleep(&mut self, max: Duration) -> Result<(), Errno> {
        self.do_what_is_due();
        let now = Instant::now();
        let sleep = self.due().saturating_duration_since(now).min(max);
        self.path.published.expect_progress(now + sleep);
        let woken = self.sources.wait(sleep)?;
        if woken.interface_failed {
            // The refresh reads the error; otherwise the next wait would end at once.
            self.refresh();
        }
        if woken.network_changed {
            self.network_changed();
        }
        if woken.has_message
            && let Some(sessions) = &mut self.path.sessions
        {
            sessions.receive(Instant::now());
        }
        Ok(())
    }

    /// When the next refresh or report is due.
    fn due(&self) -> Instant {
        self.next_refresh.min(self.reports.next())
    }

    fn do_what_is_due(&mut self) {
        let now = Instant::now();
        if now >= self.next_refresh {
            self.refresh();
        }
        if now >= self.reports.next() {
            self.report();
        }
    }

    /// Schedules a refresh of interfaces, source addresses and paths.
    fn network_changed(&mut self) {
        if self.changes.as_ref().is_some_and(NetworkChanges::clear) {
            self.has_changed = true;
            self.next_refresh = self.next_refresh.min(self.refreshed + REFRESH_AFTER);
        }
    }

    /// Processes a block of each ring in turn while there are any, until something else is due. At least
    /// one block is processed: otherwise a busy machine could only refresh interfaces.
    fn process_blocks(&mut self) {
        let mut without_block = 0;
        while without_block < self.rings.len() {
            self.last_ring = (self.last_ring + 1) % self.rings.len();
            let ring = self.rings.get_mut(self.last_ring);
            let closed = ring.map_or(0, |ring| self.path.process_block(ring));
            if closed == 0 {
                without_block += 1;
                continue;
            }
            without_block = 0;
            self.report_traffic();
            let now = Instant::now();
            let published = &self.path.published;
            published.expect_progress(now);
            published.closed_blocks(self.last_ring, closed, now);
            self.reports.block(now);
            if self.path.stop.is_raised() || now >= self.due() {
                return;
            }
        }
    }

    /// Lets frames wait for the first list of sensors, at most for `limit`; zero is no wait.
    fn wait_for_sensors(&mut self, first_list: &Flag, limit: Duration) -> Result<(), Errno> {
        if limit.is_zero() {
            return Ok(());
        }
        let start = Instant::now();
        let mut backlog = Backlog::default();
        let mut rings_wake = true;
        self.sources.add(first_list, Sources::OTHERS)?;
        let end = loop {
            fill(&mut backlog, &mut self.rings);
            let waited = start.elapsed();
            let state = WaitState {
                has_list: first_list.is_raised(),
                is_stopped: self.path.stop.is_raised(),
                is_half_full: self.rings.iter().any(Ring::is_half_full),
                waited,
            };
            if let Some(end) = state.end(limit) {
                break end;
            }
            if rings_wake && !backlog.has_space() {
                // The rings stay readable, so the wait would end at once each time.
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
        self.sources.remove(first_list)?;
        if !rings_wake {
            self.sources.add_all(&self.rings)?;
        }
        if let WaitEnd::Limit(cause) = end {
            let waited = start.elapsed();
            self.send_event(Event::WaitEnded { cause, waited });
        }
        for block in backlog.blocks_mut() {
            let walk = Walk::check(block);
            let (cursor, unreadable) = (walk.cursor(), walk.unreadable());
            self.path.mirror_block(cursor, block, unreadable);
            self.report_traffic();
            self.do_what_is_due();
        }
        Ok(())
    }

    /// Checks the interfaces, lets the sockets choose their routes again, and reports changes.
    fn refresh(&mut self) {
        self.refreshed = Instant::now();
        self.next_refresh = self.refreshed
            + match self.changes {
                Some(_) => REFRESH_EVERY,
                None => REFRESH_EVERY_UNSUBSCRIBED,
            };
        self.path.transmitter.reconnect();
        if mem::take(&mut self.has_changed) {
            self.path.transmitter.retry_runs();
            self.send_event(Event::NetworkChanged);
        }
        for ring in &mut self.rings {
            // A ring returns one change at a time; a few calls return all of them.
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
                let has_failed = matches!(event, Event::InterfaceFailed { .. });
                self.events.send(event, &self.path.published);
                if has_failed {
                    break;
                }
            }
        }
    }

    /// Publishes the rings' counters, and reports the network's answers.
    fn report(&mut self) {
        self.reports.reported(Instant::now());
        // A ring can lose frames without a processed block, during the wait for the sensors.
        if self.publish_rings() {
            self.report_traffic();
        }
        self.report_sending();
    }

    /// Publishes the kernel's counters; returns whether they are new.
    fn publish_rings(&mut self) -> bool {
        let mut is_new = false;
        for (number, ring) in self.rings.iter_mut().enumerate() {
            // After a failed read, the kernel keeps its counters for the next one.
            if let Ok(RingStatistics { packets, drops }) = ring.statistics() {
                let totals = RingTotals { packets, drops };
                is_new |= self.path.published.store_ring(number, totals);
            }
        }
        is_new
    }

    /// Wakes the control side after a change of the numbers, if it has requested this.
    fn report_traffic(&self) {
        if self.path.published.clear_traffic_request() {
            self.send_event(Event::Traffic);
        }
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

    /// Ends capturing and processes what is left in the rings.
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
            let mut any_block = false;
            for ring in &mut self.rings {
                any_block |= self.path.process_block(ring) > 0;
            }
            if any_block {
                continue;
            }
            if self.rings.iter_mut().map(waiting).sum::<u64>() == 0 {
                return;
            }
            // The open block is closed by the kernel's timer, a few milliseconds from now.
            thread::sleep(DRAIN_CHECK_EVERY);
        }
        for ring in &mut self.rings {
            let left = waiting(ring);
            self.path.totals.drop_frames(DropReason::NotDrained, left);
        }
    }
}

/// Copies closed blocks into the backlog while it has space, one of each ring in turn.
fn fill(backlog: &mut Backlog, rings: &mut [Ring]) {
    let mut any_block = true;
    while any_block {
        any_block = false;
        for ring in &mut *rings {
            if !backlog.has_space() {
                return;
            }
            if let Some(block) = ring.next_block() {
                backlog.push(block.used());
                any_block = true;
            }
        }
    }
}

/// What processes each block: decisions, sockets, counters.
struct DataPath {
    transmitter: Transmitter,
    mirror: Mirror,
    sessions: Option<Sessions>,
    table: Arc<ArcSwap<SensorTable>>,
    batch: Batch,
    totals: Totals,
    work: Work,
    published: Arc<Published>,
    stop: Flag,
    /// When the drain must end; set when the request to stop is first read.
    drain_until: Option<Instant>,
}

impl DataPath {
    /// Processes the next block of a ring, if the kernel has closed one; returns how many it had closed.
    fn process_block(&mut self, ring: &mut Ring) -> usize {
        let closed = ring.closed_blocks();
        let Some(mut block) = ring.next_block() else {
            return 0;
        };
        let (cursor, unreadable) = (block.cursor(), block.unreadable());
        self.mirror_block(cursor, &mut block, unreadable);
        closed.max(1)
    }

    /// Sends the frames of a block. After the request to stop, it sends only those for which there is time.
    fn mirror_block(
        &mut self,
        mut frames: Cursor,
        block: &mut (impl BlockMemory + ?Sized),
        unreadable: u32,
    ) {
        if !self.is_time_over() {
            let table = self.table.load();
            let first = frames.clone().next(block.bytes());
            let mut oldest = first.map_or_else(Timestamp::default, |frame| frame.timestamp);
            while let Some(frame) = frames.next(block.bytes()) {
                self.mirror
                    .push(&frame, &table, &mut self.batch, &mut self.totals);
                if frames.left() > 0 && frames.left().is_multiple_of(FRAMES_AT_ONCE) {
                    self.transmitter.let_others_run();
                }
                if self.batch.is_full(&table) {
                    // The next batch begins with the next frame, which is not older.
                    let newest = frame.timestamp;
                    self.send(block, &table, oldest);
                    oldest = newest;
                    if self.is_time_over() {
                        break;
                    }
                }
            }
            self.send(block, &table, oldest);
        }
        let left = frames.left().into();
        self.totals.drop_frames(DropReason::NotDrained, left);
        self.totals
            .drop_frames(DropReason::Malformed, unreadable.into());
        self.publish();
    }

    /// Sends the batch; `oldest` is the time of its oldest frame.
    fn send(
        &mut self,
        block: &mut (impl BlockMemory + ?Sized),
        table: &Arc<SensorTable>,
        oldest: Timestamp,
    ) {
        if !self.batch.is_empty() {
            if let Some(sessions) = &mut self.sessions {
                sessions.begin(table, Instant::now());
                self.batch.seal(block, table, sessions);
                sessions.publish();
            }
            let sent = self.transmitter.send(&mut self.batch, block, table);
            self.totals.messages_sent += sent.messages;
            self.totals.trailer_bytes += sent.trailer_bytes;
            let datagrams = self.batch.datagrams().len();
            self.work.sent(datagrams, oldest, SystemTime::now());
        }
        self.batch.count_outcomes(&mut self.totals);
    }

    /// Whether the time for the drain is over. It starts when this first reads the request to stop.
    fn is_time_over(&mut self) -> bool {
        if !self.stop.is_raised() {
            return false;
        }
        let now = Instant::now();
        now >= *self.drain_until.get_or_insert(now + DRAIN_MAX)
    }

    fn publish(&self) {
        self.published.store_totals(&self.totals);
        self.published.store_work(&self.work);
    }
}

/// The number of frames in a ring; 0 if the kernel does not return it.
fn waiting(ring: &mut Ring) -> u64 {
    ring.waiting().unwrap_or(0)
}
