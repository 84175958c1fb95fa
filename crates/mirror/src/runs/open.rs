//! A run that is made longer, one step after the other.
//!
//! In: a datagram, then those after it. Out: the run with the next one, if the kernel's rules allow it
//! (`udp_send_skb`, see [`runs`](super)). Equal datagrams are one step.
//!
//! Invariant: the run obeys the rules after each step, and its trailers never become fewer.

use super::{BYTES_MAX, OUTER_HEADERS, Place, RUN_MAX, Run};

/// A run that can be extended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    pub(super) count: u32,
    pub(super) segment: u32,
    /// Bytes of its datagrams without trailers.
    pub(super) bytes: u32,
    /// Bytes of the trailers.
    pub(super) trailers: u32,
    /// The longest datagram that can be added: a datagram that can get no trailer and has the length of a segment
    /// allows none longer; if it is shorter, it is the last, and this is zero.
    next_max: u32,
}

impl Open {
    /// Equal datagrams, of which there are some.
    #[inline]
    pub(super) const fn start(first: &Place, count: u32) -> Self {
        let next_max = if first.shows_end {
            u32::MAX
        } else {
            first.length
        };
        Self {
            count,
            segment: first.length,
            bytes: count * first.length,
            trailers: 0,
            next_max,
        }
    }

    /// With the next datagram, if the rules allow it and there are fewer bytes of trailers than given. If that
    /// datagram has the length of a segment, the equal ones after it need no trailers either and come with it.
    #[inline]
    pub(super) fn extended(&self, next: &Place, trailers_below: u32) -> Option<Self> {
        let segment = self.segment.max(next.length);
        let before = self.count * segment;
        let trailers = before - self.bytes;
        if trailers >= trailers_below
            || self.count >= RUN_MAX
            || before + next.length > BYTES_MAX
            || next.length > self.next_max
        {
            return None;
        }
        let is_shorter = next.length < segment;
        let more = if is_shorter {
            1
        } else {
            equal(next, self.count)
        };
        let next_max = match (next.shows_end, is_shorter) {
            (true, _) => self.next_max,
            (false, false) => segment,
            (false, true) => 0,
        };
        Some(Self {
            count: self.count + more,
            segment,
            bytes: self.bytes + more * next.length,
            trailers,
            next_max,
        })
    }

    /// Bytes of its datagrams on the wire without trailers.
    pub(super) const fn on_wire(&self) -> u32 {
        self.bytes + self.count * OUTER_HEADERS
    }
}

/// How many of the equal datagrams from a place on fit into a run in which there are some of their length.
#[inline]
fn equal(first: &Place, count: u32) -> u32 {
    if first.equal == 1 {
        return 1;
    }
    let more = u32::from(first.equal).min(RUN_MAX - count);
    if (count + more) * first.length > BYTES_MAX {
        (BYTES_MAX / first.length).saturating_sub(count)
    } else {
        more
    }
}

/// How many datagrams of one length can be one run.
pub(super) fn equal_max(length: u32) -> u8 {
    let equal = (BYTES_MAX / length.max(1)).clamp(1, RUN_MAX);
    u8::try_from(equal).unwrap_or(u8::MAX)
}

impl From<Open> for Run {
    #[inline]
    fn from(open: Open) -> Self {
        Self {
            count: open.count,
            segment: open.segment,
            trailers: open.trailers,
        }
    }
}
