//! The accounting: what became of every frame and every datagram.
//!
//! Only the worker counts, in plain integers; it publishes a copy after each block. Two equations
//! hold whenever no batch is open, and [`Totals::check`] says whether they do:
//!
//! - frames seen = frames mirrored + sum of frames dropped by reason
//! - datagrams built = datagrams sent + sum of datagrams dropped by reason
//!
//! A frame is mirrored when the kernel took all of its datagrams. A frame some of whose datagrams
//! were dropped is dropped, for the reason of the first of them.

use core::fmt;

/// Why a frame, or a datagram of it, did not reach the kernel's network stack.
///
/// The labels are a contract: logs carry them, metrics will.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// No sensor is known, or none that can take traffic.
    NoSensor,
    /// The kernel cut the frame on its way into the ring; half a frame is no copy.
    Truncated,
    /// The frame is too large for the path to the sensor, and too garbled to be cut.
    Malformed,
    /// The frame is too large for the path to the sensor, and neither TCP nor IP.
    Oversize,
    /// An offload that we do not know how to undo.
    UnknownOffload,
    /// An ICMP error about one of our own datagrams: to mirror it could cause the next one.
    OwnError,
    /// It was still in the ring when the time for the drain was over.
    NotDrained,
    /// The path to the sensor became narrower than the datagram (`EMSGSIZE`).
    PathMtu,
    /// The socket's or the interface's queue stayed full (`EAGAIN`, `ENOBUFS`).
    QueueFull,
    /// The sensor cannot be reached (`EHOSTUNREACH`, `ENETUNREACH`, `ENETDOWN`).
    Unreachable,
    /// The kernel refused the datagram for another reason.
    SendError,
}

impl DropReason {
    /// All reasons, each at its own number.
    pub const ALL: [Self; 11] = [
        Self::NoSensor,
        Self::Truncated,
        Self::Malformed,
        Self::Oversize,
        Self::UnknownOffload,
        Self::OwnError,
        Self::NotDrained,
        Self::PathMtu,
        Self::QueueFull,
        Self::Unreachable,
        Self::SendError,
    ];

    /// The name in logs and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoSensor => "no_sensor",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::Oversize => "oversize",
            Self::UnknownOffload => "unknown_offload",
            Self::OwnError => "own_error",
            Self::NotDrained => "not_drained",
            Self::PathMtu => "path_mtu",
            Self::QueueFull => "queue_full",
            Self::Unreachable => "unreachable",
            Self::SendError => "send_error",
        }
    }

    const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A count for each reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped([u64; DropReason::ALL.len()]);

impl Dropped {
    /// Counts one more.
    pub const fn count(&mut self, reason: DropReason) {
        self.add(reason, 1);
    }

    /// Counts several more.
    pub const fn add(&mut self, reason: DropReason, more: u64) {
        self.0[reason.index()] += more;
    }

    /// How many for one reason.
    #[must_use]
    pub const fn of(&self, reason: DropReason) -> u64 {
        self.0[reason.index()]
    }

    /// Sets how many for one reason; for reading published counts back.
    pub const fn set(&mut self, reason: DropReason, count: u64) {
        self.0[reason.index()] = count;
    }

    /// How many for all reasons.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// What happened since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Frames taken from the ring.
    pub frames_seen: u64,
    /// Frames all of whose datagrams the kernel took.
    pub frames_mirrored: u64,
    /// Frames that were not mirrored.
    pub frames_dropped: Dropped,
    /// Datagrams made.
    pub datagrams_built: u64,
    /// Datagrams the kernel took.
    pub datagrams_sent: u64,
    /// Datagrams it did not take.
    pub datagrams_dropped: Dropped,
    /// Bytes of the datagrams sent, from the VXLAN header on.
    pub bytes_sent: u64,
}

impl Totals {
    /// Counts a frame that was seen and of which no datagram is made.
    pub const fn drop_frame(&mut self, reason: DropReason) {
        self.drop_frames(reason, 1);
    }

    /// Counts several such frames.
    pub const fn drop_frames(&mut self, reason: DropReason, frames: u64) {
        self.frames_seen += frames;
        self.frames_dropped.add(reason, frames);
    }

    /// Whether both equations hold.
    #[must_use]
    pub fn check(&self) -> bool {
        self.frames_seen == self.frames_mirrored + self.frames_dropped.sum()
            && self.datagrams_built == self.datagrams_sent + self.datagrams_dropped.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_number_and_label() {
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
        let mut labels: Vec<_> = DropReason::ALL.map(DropReason::label).to_vec();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), DropReason::ALL.len());
    }

    #[test]
    fn a_wrong_count_is_detected() {
        let mut totals = Totals::default();
        totals.drop_frame(DropReason::Oversize);
        assert!(totals.check());
        totals.frames_seen += 1;
        assert!(!totals.check());
    }
}
