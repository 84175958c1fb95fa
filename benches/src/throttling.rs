//! How long a CPU quota stops a thread: the longest time in which it gets no CPU.
//!
//! A process in a control group with the quota does nothing but read the clock. A time between two readings
//! in which it was stopped is long, so the longest one is the result. Other programs on the machine stop it
//! too, so the table has the median over the rounds of each round's longest time.
//! `crates/agent/src/ring_size/geometry.rs` computes with whole periods.

use std::process::Command;
use std::time::{Duration, Instant};

use testbed::{ControlGroup, Process};

use crate::error::{Error, Result};
use crate::statistics::median;
use crate::table::{Align, Table};

/// The argument that makes the program of this package the process that is stopped.
pub const ROLE: &str = "read-the-clock";
/// Quotas of 100 ms, in ms.
const QUOTAS: [u64; 6] = [50, 25, 10, 5, 2, 1];
/// Several times as long as the longest time.
const ROUND: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_mins(1);

/// The process that is stopped: prints the longest time without CPU, in microseconds.
pub fn read_the_clock() {
    let start = Instant::now();
    let (mut last, mut longest) = (start, Duration::ZERO);
    while last.duration_since(start) < ROUND {
        let now = Instant::now();
        longest = longest.max(now.duration_since(last));
        last = now;
    }
    println!("{}", longest.as_micros());
}

/// Measures all quotas; `None` where this user may not make a control group.
///
/// # Errors
/// [`Error::Lab`] where the process does not run, [`Error::Unreadable`] where it prints something else.
pub fn table(rounds: usize) -> Result<Option<Table>> {
    let mut table = Table::new(&[
        ("quota of 100 ms", Align::Right),
        ("longest without CPU, median", Align::Right),
        ("largest", Align::Right),
    ]);
    for quota in QUOTAS {
        let mut longest = Vec::new();
        for _ in 0..rounds {
            match measure(Duration::from_millis(quota))? {
                Some(time) => longest.push(time.as_secs_f64() * 1e3),
                None => return Ok(None),
            }
        }
        let largest = longest.iter().copied().fold(0.0, f64::max);
        let middle = median(longest).unwrap_or(0.0);
        table.row([
            format!("{quota} ms"),
            format!("{middle:.0} ms"),
            format!("{largest:.0} ms"),
        ]);
    }
    Ok(Some(table))
}

fn measure(quota: Duration) -> Result<Option<Duration>> {
    let Some(group) = ControlGroup::with_quota(quota) else {
        return Ok(None);
    };
    let program = std::env::current_exe().map_err(|source| Error::Io {
        doing: "finding this program",
        source,
    })?;
    let mut command = Command::new(program);
    command.arg(ROLE);
    group.add(&mut command)?;
    let mut process = Process::spawn(command)?;
    process.wait(LIMIT)?;
    let text = process.stdout();
    let micros = text
        .trim()
        .parse()
        .map_err(|_| Error::Unreadable { text })?;
    Ok(Some(Duration::from_micros(micros)))
}
