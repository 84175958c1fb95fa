//! How long a cycle of the processor takes, without a counter of the processor, which virtual machines rarely
//! have: a chain of dependent instructions of one cycle each.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Turns of the chain; one takes six cycles.
const TURNS: u32 = 200_000;
const CYCLES_A_TURN: u32 = 6;

/// The time of a cycle now, in nanoseconds.
pub(crate) fn cycle() -> f64 {
    let chain = timed(|| {
        black_box(chain(black_box(TURNS)));
    });
    nanoseconds(chain) / f64::from(TURNS * CYCLES_A_TURN)
}

pub(crate) fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

pub(crate) fn nanoseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

/// Three shifts and three additions without carry in each turn (Marsaglia's xorshift). Each needs the
/// result of the one before, and takes one cycle on every x86-64 and aarch64 processor; where one
/// instruction does both, it takes two.
fn chain(turns: u32) -> u64 {
    let mut state = black_box(0x2545_f491_4f6c_dd1d_u64);
    for _ in 0..turns {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_no_turns_keeps_its_start() {
        assert_eq!(chain(0), 0x2545_f491_4f6c_dd1d);
        assert_ne!(chain(1), chain(2));
    }
}
