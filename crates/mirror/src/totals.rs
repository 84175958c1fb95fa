//! The accounting: the outcome of every frame and every datagram.
//!
//! Only the worker counts, in plain integers; it publishes a copy after each block. Two equations are
//! true when no batch is open, and [`Totals::check`] checks them:
//!
//! - frames seen = frames mirrored + sum of frames dropped by reason
//! - datagrams built = datagrams sent + sum of datagrams dropped by reason
//!
//! A frame is mirrored if the kernel accepted all of its datagrams. If some of them were dropped, the
//! frame is dropped, with the reason of the first of them.

use core::fmt;

/// Why a frame, or a datagram of it, did not reach the kernel's network stack.
///
/// The labels are stable: logs and metrics contain them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// The sensor table is empty.
    NoSensor,
    /// There is no session of the tunnel to the sensor.
    NoSession,
    /// The kernel truncated the frame when it wrote it into the ring.
    Truncated,
    /// The frame is too large for the path to the sensor, and too malformed to be split; or it is in a
    /// damaged block of the ring.
    Malformed,
    /// The frame is too large for the path to the sensor, and neither TCP nor IP.
    Oversize,
    /// podspan cannot split a frame with this offload.
    UnknownOffload,
    /// An ICMP error about one of podspan's datagrams: mirroring it could cause the next one. Or a datagram of
    /// an earlier podspan that was killed, or an answer of a tunnel's other end.
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
    pub const ALL: [Self; 12] = [
        Self::NoSensor,
        Self::NoSession,
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
            Self::NoSession => "no_session",
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

    /// The count for one reason.
    #[must_use]
    pub const fn of(&self, reason: DropReason) -> u64 {
        self.0[reason.index()]
    }

    /// Sets the count for one reason; to read published counts.
    pub const fn set(&mut self, reason: DropReason, count: u64) {
        self.0[reason.index()] = count;
    }

    /// The sum for all reasons.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// The counters since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Frames read from the ring.
    pub frames_seen: u64,
    /// Frames whose datagrams the kernel accepted, all of them.
    pub frames_mirrored: u64,
    /// Frames that were not mirrored.
    pub frames_dropped: Dropped,
    /// Datagrams made.
    pub datagrams_built: u64,
    /// Datagrams that the kernel accepted.
    pub datagrams_sent: u64,
    /// Datagrams that were not sent.
    pub datagrams_dropped: Dropped,
    /// Bytes of the datagrams sent, from the VXLAN header on, or through a tunnel from its header on, without
    /// trailers.
    pub bytes_sent: u64,
    /// Messages in which the datagrams were sent: one system call's argument with one or more datagrams.
    pub messages_sent: u64,
    /// Bytes of the Ethernet trailers that were added to datagrams of one message.
    pub trailer_bytes: u64,
}

impl Totals {
    /// Counts a frame for which no datagram is made.
    pub const fn drop_frame(&mut self, reason: DropReason) {
        self.drop_frames(reason, 1);
    }

    /// Counts several such frames.
    pub const fn drop_frames(&mut self, reason: DropReason, frames: u64) {
        self.frames_seen += frames;
        self.frames_dropped.add(reason, frames);
    }

    /// Whether both equations are true.
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
