//! What the worker publishes for the control side: its totals, and events of interfaces and of sending.
//!
//! Only the worker writes. It stores the numbers after each block with relaxed stores, without a read,
//! a lock or a wait. A reader may see one number a block ahead of another; after the worker has ended, all
//! numbers are exact. Rare events go through a bounded channel that never blocks the worker: an event
//! that does not fit is counted.
//!
//! The worker also says by when it makes progress at the latest: before it sleeps the end of the sleep, and after each
//! block the present. If that time is long over, it is stuck ([`Published::late`]).
//!
//! The control side writes one flag: before it sleeps, it requests an event at the next change of the
//! numbers, which wakes it ([`Published::request_traffic_event`]).

use std::iter::Sum;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use capture::InterfaceChange;
use mirror::totals::{DropReason, Dropped, Totals};
use tokio::sync::mpsc::{self, error::TrySendError};
use transmit::Report;
use wire::InterfaceName;

use crate::start_wait::Cause;
use crate::work::{PublishedWork, Work};

const REASONS: usize = DropReason::ALL.len();
/// More events than the worker sends while the control side stalls for a second.
const EVENTS_MAX: usize = 256;

/// A rare event that is logged.
#[derive(Debug)]
pub(crate) enum Event {
    /// An interface has changed.
    Interface {
        /// Its name in the configuration.
        name: InterfaceName,
        /// The change.
        change: InterfaceChange,
    },
    /// An operation on an interface failed.
    InterfaceFailed {
        /// Its name in the configuration.
        name: InterfaceName,
        /// The error.
        error: String,
    },
    /// A report about sending.
    Sending(Report),
    /// Links, addresses or routes have changed.
    NetworkChanged,
    /// The numbers have changed for the first time since the control side requested this event.
    Traffic,
    /// Frames no longer wait for the first list of sensors, which has not arrived.
    WaitEnded {
        /// Which limit has ended the wait.
        cause: Cause,
        /// The duration of the wait.
        waited: Duration,
    },
}

/// What the kernel has counted, the sum of all rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RingTotals {
    /// Frames that passed the filter, including the dropped ones.
    pub(crate) packets: u64,
    /// Frames that found no room in the ring.
    pub(crate) drops: u64,
}

impl Sum for RingTotals {
    fn sum<I: Iterator<Item = Self>>(rings: I) -> Self {
        rings.fold(Self::default(), |sum, ring| Self {
            packets: sum.packets + ring.packets,
            drops: sum.drops + ring.drops,
        })
    }
}

/// All numbers at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Snapshot {
    /// The counters of frames and datagrams.
    pub(crate) totals: Totals,
    /// The kernel's counters.
    pub(crate) ring: RingTotals,
    /// The batches.
    pub(crate) work: Work,
}

/// The kernel's counters of one ring.
#[derive(Debug, Default)]
struct RingCounters {
    packets: AtomicU64,
    drops: AtomicU64,
    /// The most closed blocks in the current minute and in the one before it, and which minute it is.
    most: AtomicU64,
    most_before: AtomicU64,
    minute: AtomicU64,
}

impl RingCounters {
    /// Only the worker calls this.
    fn observe(&self, blocks: u64, minute: u64) {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let most = if load(&self.minute) == minute {
            load(&self.most)
        } else {
            let before = self.most_of(minute.wrapping_sub(1));
            self.most_before.store(before, Ordering::Relaxed);
            self.minute.store(minute, Ordering::Relaxed);
            0
        };
        self.most.store(most.max(blocks), Ordering::Relaxed);
    }

    /// The most of one minute; zero if the worker has found no block in it.
    fn most_of(&self, minute: u64) -> u64 {
        if self.minute.load(Ordering::Relaxed) == minute {
            self.most.load(Ordering::Relaxed)
        } else {
            0
        }
    }

    /// The most of this minute and the one before it.
    fn most_until(&self, minute: u64) -> u64 {
        if self.minute.load(Ordering::Relaxed) == minute {
            let before = self.most_before.load(Ordering::Relaxed);
            self.most.load(Ordering::Relaxed).max(before)
        } else {
            self.most_of(minute.wrapping_sub(1))
        }
    }

    fn read(&self) -> RingTotals {
        RingTotals {
            packets: self.packets.load(Ordering::Relaxed),
            drops: self.drops.load(Ordering::Relaxed),
        }
    }
}

/// The kernel's counters of one ring, and how full it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RingNumbers {
    pub(crate) totals: RingTotals,
    /// The most closed blocks that the worker found in the last one to two minutes.
    pub(crate) most_blocks: u64,
}

/// The numbers that the worker last stored.
#[derive(Debug)]
pub(crate) struct Published {
    frames_seen: AtomicU64,
    frames_mirrored: AtomicU64,
    frames_dropped: [AtomicU64; REASONS],
    datagrams_built: AtomicU64,
    datagrams_sent: AtomicU64,
    datagrams_dropped: [AtomicU64; REASONS],
    bytes_sent: AtomicU64,
    messages_sent: AtomicU64,
    trailer_bytes: AtomicU64,
    work: PublishedWork,
    /// One for each interface, in the order of the configuration.
    rings: Box<[RingCounters]>,
    /// What the next time counts from.
    begun: Instant,
    /// In milliseconds, when the worker makes progress at the latest.
    progress_by: AtomicU64,
    events_lost: AtomicU64,
    traffic_requested: AtomicBool,
}

impl Published {
    /// No numbers, of so many rings.
    pub(crate) fn new(rings: usize) -> Self {
        Self {
            frames_seen: AtomicU64::default(),
            frames_mirrored: AtomicU64::default(),
            frames_dropped: Default::default(),
            datagrams_built: AtomicU64::default(),
            datagrams_sent: AtomicU64::default(),
            datagrams_dropped: Default::default(),
            bytes_sent: AtomicU64::default(),
            messages_sent: AtomicU64::default(),
            trailer_bytes: AtomicU64::default(),
            work: PublishedWork::default(),
            rings: (0..rings).map(|_| RingCounters::default()).collect(),
            begun: Instant::now(),
            progress_by: AtomicU64::default(),
            events_lost: AtomicU64::default(),
            traffic_requested: AtomicBool::default(),
        }
    }

    /// Stores the counters of batches.
    pub(crate) fn store_work(&self, work: &Work) {
        self.work.store(work);
    }

    /// Stores the worker's counters.
    pub(crate) fn store_totals(&self, totals: &Totals) {
        let pairs = [
            (&self.frames_seen, totals.frames_seen),
            (&self.frames_mirrored, totals.frames_mirrored),
            (&self.datagrams_built, totals.datagrams_built),
            (&self.datagrams_sent, totals.datagrams_sent),
            (&self.bytes_sent, totals.bytes_sent),
            (&self.messages_sent, totals.messages_sent),
            (&self.trailer_bytes, totals.trailer_bytes),
        ];
        for (counter, number) in pairs {
            counter.store(number, Ordering::Relaxed);
        }
        store_dropped(&self.frames_dropped, &totals.frames_dropped);
        store_dropped(&self.datagrams_dropped, &totals.datagrams_dropped);
    }

    /// Stores the kernel's counters of a ring, by its number; returns whether they are new.
    pub(crate) fn store_ring(&self, number: usize, ring: RingTotals) -> bool {
        let Some(counters) = self.rings.get(number) else {
            return false;
        };
        let is_new = counters.read() != ring;
        counters.packets.store(ring.packets, Ordering::Relaxed);
        counters.drops.store(ring.drops, Ordering::Relaxed);
        is_new
    }

    /// The numbers of each ring.
    pub(crate) fn rings(&self, now: Instant) -> impl Iterator<Item = RingNumbers> {
        let minute = self.minute(now);
        self.rings.iter().map(move |ring| RingNumbers {
            totals: ring.read(),
            most_blocks: ring.most_until(minute),
        })
    }

    /// The worker has found so many closed blocks in a ring, by its number.
    pub(crate) fn closed_blocks(&self, number: usize, blocks: usize, now: Instant) {
        if let Some(ring) = self.rings.get(number) {
            ring.observe(blocks as u64, self.minute(now));
        }
    }

    fn minute(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.begun).as_secs() / 60
    }

    /// The worker makes progress by this time, or is late.
    pub(crate) fn expect_progress(&self, by: Instant) {
        let ms = by.saturating_duration_since(self.begun).as_millis();
        let ms = u64::try_from(ms).unwrap_or(u64::MAX);
        self.progress_by.store(ms, Ordering::Relaxed);
    }

    /// By how much the worker is late.
    pub(crate) fn late(&self, now: Instant) -> Duration {
        let by = Duration::from_millis(self.progress_by.load(Ordering::Relaxed));
        now.saturating_duration_since(self.begun).saturating_sub(by)
    }

    /// Requests [`Event::Traffic`] at the next change of the numbers. Returns false if the numbers already differ from
    /// `last`: then there may be no event.
    pub(crate) fn request_traffic_event(&self, last: &Snapshot) -> bool {
        self.traffic_requested.store(true, Ordering::Relaxed);
        // It pairs with the fence of the worker, which stores numbers and then reads the request: at
        // least one of the two reads gets the other side's value.
        fence(Ordering::SeqCst);
        self.read() == *last
    }

    /// Clears the request for [`Event::Traffic`]; returns whether there was one. The worker calls this after
    /// it has stored its numbers.
    pub(crate) fn clear_traffic_request(&self) -> bool {
        fence(Ordering::SeqCst);
        self.traffic_requested.load(Ordering::Relaxed)
            && self.traffic_requested.swap(false, Ordering::Relaxed)
    }

    /// The number of events that did not fit the channel.
    pub(crate) fn events_lost(&self) -> u64 {
        self.events_lost.load(Ordering::Relaxed)
    }

    /// All numbers.
    pub(crate) fn read(&self) -> Snapshot {
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            totals: Totals {
                frames_seen: number(&self.frames_seen),
                frames_mirrored: number(&self.frames_mirrored),
                frames_dropped: load_dropped(&self.frames_dropped),
                datagrams_built: number(&self.datagrams_built),
                datagrams_sent: number(&self.datagrams_sent),
                datagrams_dropped: load_dropped(&self.datagrams_dropped),
                bytes_sent: number(&self.bytes_sent),
                messages_sent: number(&self.messages_sent),
                trailer_bytes: number(&self.trailer_bytes),
            },
            ring: self.rings.iter().map(RingCounters::read).sum(),
            work: self.work.read(),
        }
    }
}

fn store_dropped(counters: &[AtomicU64; REASONS], dropped: &Dropped) {
    for (counter, reason) in counters.iter().zip(DropReason::ALL) {
        counter.store(dropped.of(reason), Ordering::Relaxed);
    }
}

fn load_dropped(counters: &[AtomicU64; REASONS]) -> Dropped {
    let mut dropped = Dropped::default();
    for (counter, reason) in counters.iter().zip(DropReason::ALL) {
        dropped.set(reason, counter.load(Ordering::Relaxed));
    }
    dropped
}

/// The worker's end of the channel of events.
#[derive(Debug)]
pub(crate) struct EventSender(mpsc::Sender<Event>);

impl EventSender {
    /// Both ends.
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        (Self(sender), receiver)
    }

    /// Sends an event to the control side, or counts it as lost.
    pub(crate) fn send(&self, event: Event, published: &Published) {
        if let Err(TrySendError::Full(_)) = self.0.try_send(event) {
            published.events_lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_has_the_stored_numbers() {
        let mut totals = Totals {
            frames_mirrored: 2,
            datagrams_built: 9,
            messages_sent: 3,
            trailer_bytes: 4,
            ..Totals::default()
        };
        totals.drop_frame(DropReason::Oversize);
        totals.datagrams_dropped.count(DropReason::QueueFull);
        let ring = RingTotals {
            packets: 4,
            drops: 1,
        };
        let published = Published::new(2);
        published.store_totals(&totals);
        assert!(published.store_ring(0, ring));
        assert!(published.store_ring(1, ring));
        assert!(!published.store_ring(1, ring));
        let rings = published.rings(Instant::now());
        let rings: Vec<_> = rings.map(|ring| ring.totals).collect();
        assert_eq!(rings, [ring, ring]);
        let ring = RingTotals {
            packets: 8,
            drops: 2,
        };
        let work = Work::default();
        assert_eq!(published.read(), Snapshot { totals, ring, work });
    }

    #[test]
    fn the_most_closed_blocks_are_those_of_the_last_one_to_two_minutes() {
        let published = Published::new(1);
        let at = |seconds| published.begun + Duration::from_secs(seconds);
        let most = |seconds| published.rings(at(seconds)).next().unwrap().most_blocks;
        assert_eq!(most(0), 0);
        for (seconds, blocks, expected) in [
            (10, 3, 3),
            (20, 9, 9),
            (59, 1, 9),
            (61, 2, 9),
            (119, 1, 9),
            (120, 1, 2),
            (300, 4, 4),
        ] {
            published.closed_blocks(0, blocks, at(seconds));
            assert_eq!(most(seconds), expected, "{seconds} s");
            assert_eq!(most(seconds), expected, "reading does not reset it");
        }
        assert_eq!([359, 360, 419, 420].map(most), [4, 4, 4, 0]);
    }

    #[test]
    fn a_worker_that_sleeps_is_late_only_after_the_end_of_its_sleep() {
        let published = Published::new(1);
        let start = Instant::now();
        let seconds = Duration::from_secs;
        // It has not begun.
        assert!(published.late(start + seconds(20)) >= seconds(20));
        published.expect_progress(start + seconds(30));
        assert_eq!(published.late(start + seconds(29)), Duration::ZERO);
        let late = published.late(start + seconds(45));
        // Whole milliseconds are stored.
        let error = late.abs_diff(seconds(15));
        assert!(error <= Duration::from_millis(1), "{late:?}");
    }

    #[test]
    fn a_request_for_traffic_is_cleared_once_and_fails_if_there_was_traffic() {
        let published = Published::new(1);
        let none = Snapshot::default();
        assert!(!published.clear_traffic_request());
        assert!(published.request_traffic_event(&none));
        assert!(published.clear_traffic_request());
        assert!(!published.clear_traffic_request());
        let totals = Totals {
            frames_seen: 1,
            ..Totals::default()
        };
        published.store_totals(&totals);
        assert!(!published.request_traffic_event(&none));
    }

    #[test]
    fn an_event_that_does_not_fit_is_counted() {
        let (events, _receiver) = EventSender::channel();
        let published = Published::new(1);
        let name: InterfaceName = "eth0".parse().unwrap();
        for _ in 0..=EVENTS_MAX {
            let event = Event::Interface {
                name: name.clone(),
                change: InterfaceChange::Down,
            };
            events.send(event, &published);
        }
        assert_eq!(published.events_lost(), 1);
    }
}
