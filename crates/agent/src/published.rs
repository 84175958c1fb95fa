//! What the worker lets the control side see: its totals, and what happened to its interfaces and
//! its sending.
//!
//! Only the worker writes. Numbers are stored after each block with relaxed stores, without a read,
//! a lock or a wait; a reader may see one number a block ahead of another, and sees all of them
//! exact once the worker has ended. Rare events go through a bounded channel that never blocks the
//! worker: what does not fit is counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use capture::{InterfaceChange, InterfaceName};
use mirror::totals::{DropReason, Dropped, Totals};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use transmit::Report;

use crate::start_wait::Cause;

const REASONS: usize = DropReason::ALL.len();
/// More events than the control side could miss in a second of standing still.
const EVENTS_MAX: usize = 256;

/// A rare event worth a line in the log.
#[derive(Debug)]
pub(crate) enum Event {
    /// Something has become of an interface.
    Interface {
        /// The one of the configuration.
        name: InterfaceName,
        /// What.
        change: InterfaceChange,
    },
    /// A look at an interface failed.
    InterfaceFailed {
        /// The one of the configuration.
        name: InterfaceName,
        /// What the system said.
        error: String,
    },
    /// News of sending.
    Sending(Report),
    /// Links, addresses or routes have changed.
    NetworkChanged,
    /// No view of the sensors has come, and frames wait for it no longer.
    WaitGivenUp {
        /// Why.
        cause: Cause,
        /// How long the wait was.
        waited: Duration,
    },
}

/// What the kernel counted, for all rings together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RingTotals {
    /// Frames that passed the filter, the dropped ones included.
    pub(crate) packets: u64,
    /// Frames that found no room in the ring.
    pub(crate) drops: u64,
}

/// All numbers of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Snapshot {
    /// What became of frames and datagrams.
    pub(crate) totals: Totals,
    /// What the kernel counted before.
    pub(crate) ring: RingTotals,
}

/// The numbers, as the worker last stored them.
#[derive(Debug, Default)]
pub(crate) struct Published {
    frames_seen: AtomicU64,
    frames_mirrored: AtomicU64,
    frames_dropped: [AtomicU64; REASONS],
    datagrams_built: AtomicU64,
    datagrams_sent: AtomicU64,
    datagrams_dropped: [AtomicU64; REASONS],
    bytes_sent: AtomicU64,
    ring_packets: AtomicU64,
    ring_drops: AtomicU64,
    events_lost: AtomicU64,
}

impl Published {
    /// Stores what the worker has counted.
    pub(crate) fn store_totals(&self, totals: &Totals) {
        let pairs = [
            (&self.frames_seen, totals.frames_seen),
            (&self.frames_mirrored, totals.frames_mirrored),
            (&self.datagrams_built, totals.datagrams_built),
            (&self.datagrams_sent, totals.datagrams_sent),
            (&self.bytes_sent, totals.bytes_sent),
        ];
        for (place, number) in pairs {
            place.store(number, Ordering::Relaxed);
        }
        store_dropped(&self.frames_dropped, &totals.frames_dropped);
        store_dropped(&self.datagrams_dropped, &totals.datagrams_dropped);
    }

    /// Stores what the kernel has counted.
    pub(crate) fn store_ring(&self, ring: RingTotals) {
        self.ring_packets.store(ring.packets, Ordering::Relaxed);
        self.ring_drops.store(ring.drops, Ordering::Relaxed);
    }

    /// How many events did not fit the channel.
    pub(crate) fn events_lost(&self) -> u64 {
        self.events_lost.load(Ordering::Relaxed)
    }

    /// All numbers.
    pub(crate) fn read(&self) -> Snapshot {
        let number = |place: &AtomicU64| place.load(Ordering::Relaxed);
        Snapshot {
            totals: Totals {
                frames_seen: number(&self.frames_seen),
                frames_mirrored: number(&self.frames_mirrored),
                frames_dropped: load_dropped(&self.frames_dropped),
                datagrams_built: number(&self.datagrams_built),
                datagrams_sent: number(&self.datagrams_sent),
                datagrams_dropped: load_dropped(&self.datagrams_dropped),
                bytes_sent: number(&self.bytes_sent),
            },
            ring: RingTotals {
                packets: number(&self.ring_packets),
                drops: number(&self.ring_drops),
            },
        }
    }
}

fn store_dropped(places: &[AtomicU64; REASONS], dropped: &Dropped) {
    for (place, reason) in places.iter().zip(DropReason::ALL) {
        place.store(dropped.of(reason), Ordering::Relaxed);
    }
}

fn load_dropped(places: &[AtomicU64; REASONS]) -> Dropped {
    let mut dropped = Dropped::default();
    for (place, reason) in places.iter().zip(DropReason::ALL) {
        dropped.set(reason, place.load(Ordering::Relaxed));
    }
    dropped
}

/// The worker's end of the events.
#[derive(Debug)]
pub(crate) struct Events(Sender<Event>);

impl Events {
    /// Both ends.
    pub(crate) fn channel() -> (Self, Receiver<Event>) {
        let (sender, receiver) = channel(EVENTS_MAX);
        (Self(sender), receiver)
    }

    /// Hands an event to the control side, or counts that there was no room for it.
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
    fn what_was_stored_is_read() {
        let mut totals = Totals {
            frames_mirrored: 2,
            datagrams_built: 9,
            ..Totals::default()
        };
        totals.drop_frame(DropReason::Oversize);
        totals.datagrams_dropped.count(DropReason::QueueFull);
        let ring = RingTotals {
            packets: 4,
            drops: 1,
        };
        let published = Published::default();
        published.store_totals(&totals);
        published.store_ring(ring);
        assert_eq!(published.read(), Snapshot { totals, ring });
    }

    #[test]
    fn an_event_that_does_not_fit_is_counted() {
        let (events, _receiver) = Events::channel();
        let published = Published::default();
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
