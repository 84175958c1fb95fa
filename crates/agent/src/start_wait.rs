//! The wait for the first list of sensors, if `SENSOR` is a name.
//!
//! Capturing does not wait for the API server. Frames that are captured before its first answer wait in
//! memory until the first list of sensors arrives, and are mirrored then. An empty list also ends the
//! wait.
//!
//! The kernel closes a block after 16 ms, even with one frame in it: a few frames can fill a ring with
//! closed blocks in half a second. So the used part of each closed block is first copied into a
//! [`Backlog`], which has room for seconds of little traffic. When the backlog is full, blocks stay in
//! the ring until half of it is in use: the other half is for frames that arrive while these are sent.
//!
//! Invariant: the backlog is sent before any later block, so the order of frames does not change.

use std::fmt;
use std::mem;
use std::time::Duration;

use capture::BLOCK_LEN;

/// The state that decides whether the wait is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WaitState {
    /// The first list has arrived.
    pub(crate) has_list: bool,
    /// podspan was asked to stop.
    pub(crate) is_stopped: bool,
    /// Half of a ring is in use.
    pub(crate) is_half_full: bool,
    /// The duration of the wait so far.
    pub(crate) waited: Duration,
}

/// How a wait has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    /// The first list has arrived, or podspan was asked to stop.
    Done,
    /// A limit was reached first.
    Limit(Cause),
}

/// Which limit has ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The duration.
    Time,
    /// The memory for frames that wait.
    Memory,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Time => {
                "START_WAIT is over; if the API server is slow, increase START_WAIT (60s at most)"
            }
            Self::Memory => {
                "half of a ring is in use; if the API server is slow, increase RING_SIZE"
            }
        })
    }
}

impl WaitState {
    /// Whether a wait of at most `limit` is over, and how it has ended.
    pub(crate) fn end(self, limit: Duration) -> Option<WaitEnd> {
        if self.has_list || self.is_stopped {
            Some(WaitEnd::Done)
        } else if self.waited >= limit {
            Some(WaitEnd::Limit(Cause::Time))
        } else if self.is_half_full {
            Some(WaitEnd::Limit(Cause::Memory))
        } else {
            None
        }
    }
}

/// Copies of blocks, in their order.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    bytes: Vec<u8>,
    /// Where each copy ends.
    ends: Vec<usize>,
}

impl Backlog {
    /// The largest size. Only the used part becomes resident, and only during the wait.
    const CAPACITY: usize = 4 * BLOCK_LEN;

    /// Whether a full block still fits.
    pub(crate) const fn has_space(&self) -> bool {
        Self::CAPACITY - self.bytes.len() >= BLOCK_LEN
    }

    /// Appends a copy of a block's used bytes. Call it only if there is space.
    pub(crate) fn push(&mut self, used: &[u8]) {
        // All memory at once, so the bytes are never moved.
        self.bytes
            .reserve_exact(Self::CAPACITY - self.bytes.len().min(Self::CAPACITY));
        self.bytes.extend_from_slice(used);
        self.ends.push(self.bytes.len());
    }

    /// The copies, the oldest first.
    pub(crate) fn blocks_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let mut rest = self.bytes.as_mut_slice();
        let mut start = 0;
        self.ends.iter().map_while(move |end| {
            let (block, after) = mem::take(&mut rest).split_at_mut_checked(end - start)?;
            (rest, start) = (after, *end);
            Some(block)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[test]
    fn the_wait_ends_with_a_list_a_stop_its_time_or_half_a_ring() {
        let waiting = WaitState {
            has_list: false,
            is_stopped: false,
            is_half_full: false,
            waited: LIMIT.saturating_sub(Duration::from_nanos(1)),
        };
        let (full, late) = (
            WaitState {
                is_half_full: true,
                ..waiting
            },
            WaitState {
                waited: LIMIT,
                ..waiting
            },
        );
        assert_eq!(waiting.end(LIMIT), None);
        assert_eq!(full.end(LIMIT), Some(WaitEnd::Limit(Cause::Memory)));
        assert_eq!(late.end(LIMIT), Some(WaitEnd::Limit(Cause::Time)));
        for state in [waiting, full, late] {
            let (listed, stopped) = (
                WaitState {
                    has_list: true,
                    ..state
                },
                WaitState {
                    is_stopped: true,
                    ..state
                },
            );
            assert_eq!(listed.end(LIMIT), Some(WaitEnd::Done));
            assert_eq!(stopped.end(LIMIT), Some(WaitEnd::Done));
        }
    }

    #[test]
    fn the_backlog_keeps_blocks_separate_and_in_order() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.blocks_mut().count(), 0);
        for block in [&b"one"[..], b"", b"three"] {
            backlog.push(block);
        }
        assert_eq!(
            backlog.blocks_mut().collect::<Vec<_>>(),
            [&b"one"[..], b"", b"three"]
        );
    }

    #[test]
    fn a_block_for_which_there_is_space_fits_without_more_memory() {
        let mut backlog = Backlog::default();
        let block = vec![1; BLOCK_LEN / 3 + 1];
        while backlog.has_space() {
            backlog.push(&block);
            assert_eq!(backlog.bytes.capacity(), Backlog::CAPACITY);
        }
        assert!(backlog.bytes.len() > Backlog::CAPACITY - BLOCK_LEN);
        assert!(backlog.bytes.len() <= Backlog::CAPACITY);
    }
}
