//! How much CPU time other programs of the machine used during a turn, so that a turn can be repeated.
//!
//! In: the busy time of all processors (`/proc/stat`), and the CPU time of this process, of the children that it has
//! waited for, and of the kernel's threads for the network. Out: the rest, as a part of all processors. A turn
//! must have ended its programs before it is measured. `/proc/stat` counts in ticks of 10 ms, so turns are seconds.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use crate::error::Error as BenchError;
use crate::matrix::Result;
use crate::matrix::stand::softirq_threads;

/// `USER_HZ`, which is the same on all kernels that podspan supports.
const TICK: Duration = Duration::from_millis(10);
/// Other programs may use this part of all processors.
const QUIET: f64 = 0.03;
/// How often a turn is repeated at most.
const REPEATS: usize = 4;
/// Before a turn is repeated, a time like this without other programs is awaited, for this time at most.
const CALM: Duration = Duration::from_millis(300);
const CALM_LIMIT: Duration = Duration::from_secs(15);

/// Repeats a turn while other programs disturb it, and returns the least disturbed one with their part.
///
/// # Errors
/// Of the turn.
pub fn undisturbed<T>(mut turn: impl FnMut() -> Result<T>) -> Result<(T, f64)> {
    let mut best: Option<(T, f64)> = None;
    for _ in 0..REPEATS {
        let before = Clock::now()?;
        let one = turn()?;
        let others = before.others_until(&Clock::now()?);
        if best.as_ref().is_none_or(|(_, least)| others < *least) {
            best = Some((one, others));
        }
        if others <= QUIET {
            break;
        }
        await_calm()?;
    }
    best.ok_or_else(|| BenchError::LoadFailed.into())
}

fn await_calm() -> Result<()> {
    let end = Instant::now() + CALM_LIMIT;
    while Instant::now() < end {
        let before = Clock::now()?;
        thread::sleep(CALM);
        if before.others_until(&Clock::now()?) <= QUIET {
            break;
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Clock {
    time: Instant,
    busy: Busy,
    own: Duration,
}

impl Clock {
    fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let busy = busy(&text).ok_or(BenchError::Unreadable { text })?;
        let mut own = softirq_threads();
        for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
            let usage = getrusage(who).map_err(|source| BenchError::System {
                doing: "reading CPU times",
                source,
            })?;
            for time in [usage.user_time(), usage.system_time()] {
                let micros = time.tv_sec() * 1_000_000 + time.tv_usec();
                own += Duration::from_micros(micros.cast_unsigned());
            }
        }
        let time = Instant::now();
        Ok(Self { time, busy, own })
    }

    fn others_until(&self, end: &Self) -> f64 {
        let busy = end.busy.time.saturating_sub(self.busy.time);
        let others = busy.saturating_sub(end.own.saturating_sub(self.own));
        let all =
            end.time.duration_since(self.time).as_secs_f64() * f64::from(self.busy.processors);
        others.as_secs_f64() / all.max(1e-9)
    }
}

/// What `/proc/stat` says.
#[derive(Debug, PartialEq, Eq)]
struct Busy {
    time: Duration,
    processors: u32,
}

fn busy(text: &str) -> Option<Busy> {
    let mut lines = text.lines();
    let numbers = lines.next()?.strip_prefix("cpu ")?;
    let numbers: Option<Vec<u32>> = numbers
        .split_whitespace()
        .map(|word| word.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; the rest is in the first two.
    let [user, nice, system, _, _, irq, softirq, steal, ..] = numbers?[..] else {
        return None;
    };
    let processors = lines.take_while(|line| line.starts_with("cpu")).count();
    Some(Busy {
        time: TICK * (user + nice + system + irq + softirq + steal),
        processors: u32::try_from(processors).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busy_time_is_read() {
        let text = "cpu  1 2 3 1000 2000 4 5 6 7 8\ncpu0 1 2 3 4\ncpu1 1 2 3 4\nintr 5\n";
        let expected = Busy {
            time: Duration::from_millis(210),
            processors: 2,
        };
        assert_eq!(busy(text), Some(expected));
        assert_eq!(busy("cpu  1 2 3\n"), None);
        assert_eq!(busy(""), None);
    }

    #[test]
    fn what_is_not_ours_is_that_of_others() {
        let clock = |time, busy: u64, own| Clock {
            time,
            busy: Busy {
                time: Duration::from_millis(busy),
                processors: 2,
            },
            own: Duration::from_millis(own),
        };
        let start = Instant::now();
        let end = clock(start + Duration::from_secs(1), 1800, 900);
        let others = clock(start, 1000, 600).others_until(&end);
        assert!((others - 0.25).abs() < 1e-9, "{others}");
    }
}
