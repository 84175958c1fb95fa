//! The wait for the first view of the sensors, where `SENSOR` is a name.
//!
//! Capturing never waits for the API server. What is captured before it has answered would find no
//! sensor, so it waits in memory until the first view has come, and is mirrored then. An empty view is
//! a view.
//!
//! The kernel closes a block after 16 ms, even with one frame in it: few frames fill a ring with
//! closed blocks in half a second. So the used part of each closed block is copied into a [`Backlog`]
//! first, which lasts for seconds of little traffic. When the backlog is full, blocks stay in the ring,
//! until half of one is in use: the other half is for what comes while these are sent.
//!
//! Invariant: the backlog is sent before any later block is taken, so the order of frames stays.

use std::fmt;
use std::time::Duration;

use capture::BLOCK_LEN;

/// What decides whether the wait is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct State {
    /// The first view has come.
    pub(crate) has_view: bool,
    /// podspan shall end.
    pub(crate) is_stopped: bool,
    /// Half of a ring waits.
    pub(crate) is_half_full: bool,
    /// How long the wait has been.
    pub(crate) waited: Duration,
}

/// Why a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Nothing more to wait for: a view has come, or podspan shall end.
    Done,
    /// Given up.
    GivenUp(Cause),
}

/// Why a wait was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It was as long as it may be.
    Time,
    /// The memory for frames that wait was full.
    Memory,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Time => {
                "START_WAIT is over; where the API server only answers late, set START_WAIT higher \
                 (60s at most)"
            }
            Self::Memory => {
                "half of a ring waits; where the API server only answers late, set RING_SIZE higher"
            }
        })
    }
}

impl State {
    /// Whether a wait of at most `limit` is over.
    pub(crate) fn judge(self, limit: Duration) -> Option<Over> {
        if self.has_view || self.is_stopped {
            Some(Over::Done)
        } else if self.waited >= limit {
            Some(Over::GivenUp(Cause::Time))
        } else if self.is_half_full {
            Some(Over::GivenUp(Cause::Memory))
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
    /// All that it may hold. Only what is used becomes resident, and for the wait alone.
    const CAPACITY: usize = 4 * BLOCK_LEN;

    /// Whether any block fits, however full it is.
    pub(crate) const fn has_space(&self) -> bool {
        Self::CAPACITY - self.bytes.len() >= BLOCK_LEN
    }

    /// Keeps a copy of a block's used bytes. To be called where there is space.
    pub(crate) fn push(&mut self, used: &[u8]) {
        // At once, so that nothing is moved later.
        self.bytes
            .reserve_exact(Self::CAPACITY - self.bytes.len().min(Self::CAPACITY));
        self.bytes.extend_from_slice(used);
        self.ends.push(self.bytes.len());
    }

    /// The copies, the first first.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = &[u8]> {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        let places = starts.zip(&self.ends);
        places.filter_map(|(start, end)| self.bytes.get(start..*end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[test]
    fn the_wait_ends_with_a_view_the_end_its_time_or_half_a_ring() {
        let nothing = State {
            has_view: false,
            is_stopped: false,
            is_half_full: false,
            waited: LIMIT.saturating_sub(Duration::from_nanos(1)),
        };
        let (full, late) = (
            State {
                is_half_full: true,
                ..nothing
            },
            State {
                waited: LIMIT,
                ..nothing
            },
        );
        assert_eq!(nothing.judge(LIMIT), None);
        assert_eq!(full.judge(LIMIT), Some(Over::GivenUp(Cause::Memory)));
        assert_eq!(late.judge(LIMIT), Some(Over::GivenUp(Cause::Time)));
        for state in [nothing, full, late] {
            let (seen, stopped) = (
                State {
                    has_view: true,
                    ..state
                },
                State {
                    is_stopped: true,
                    ..state
                },
            );
            assert_eq!(seen.judge(LIMIT), Some(Over::Done));
            assert_eq!(stopped.judge(LIMIT), Some(Over::Done));
        }
    }

    #[test]
    fn the_backlog_keeps_blocks_apart_and_in_order() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.blocks().count(), 0);
        for block in [&b"one"[..], b"", b"three"] {
            backlog.push(block);
        }
        assert_eq!(
            backlog.blocks().collect::<Vec<_>>(),
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
