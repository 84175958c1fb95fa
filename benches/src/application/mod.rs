//! The application's view: throughput and latency of an application with podspan, with tc mirred in its place,
//! and with neither, in turns; and what the capture itself costs it.
//!
//! Comes in: the command line ([`arguments`]). In each round, each mirror of [`plan`] runs after the other in one lab
//! ([`stand`]), under bulk TCP ([`bulk`]) and requests at half load ([`requests`]); then a thread sends beside several
//! kinds of rings ([`capture`]). Goes out: medians, ratios and bars ([`results`]), tables and charts ([`report`]), and files.

pub mod arguments;
pub mod bulk;
pub mod capture;
pub mod others;
pub mod plan;
pub mod report;
pub mod requests;
pub mod results;
pub mod stand;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::matrix::measure::copy_bits_per_second;
use crate::matrix::{Result, load_average};

use arguments::Arguments;
use capture::Beside;
use others::undisturbed;
use plan::{Direction, Mirror, Part};
use requests::Schedule;
use results::{Latency, Results, Throughput, percentiles};
use stand::Stand;

/// The name of the files.
const NAME: &str = "application";
/// The search for the highest rate of requests starts here, and each step is so much higher.
const SLOWEST: f64 = 5_000.0;
const STEP: f64 = 1.25;
const FASTEST: f64 = 400_000.0;
/// How long a rate is tried, and how often.
const TRIAL: Duration = Duration::from_millis(500);
const TRIALS: usize = 2;
/// So many rates one after the other that are too high end the search.
const FAILURES: usize = 2;
/// The highest load is the last where the 99th percentile is at most this, in microseconds, and each request has
/// its response.
const P99_MAX: f64 = 1_000.0;

/// Measures as the command line says, and prints the tables.
///
/// # Errors
/// [`crate::matrix::Error`].
pub fn command(words: impl IntoIterator<Item = OsString>) -> Result<()> {
    let arguments = Arguments::read(words)?;
    testbed::user_namespace::enter()?;
    let start = Instant::now();
    let results = measured(&arguments)?;
    for (title, table) in report::tables(&results) {
        println!("\n{title}\n{table}");
    }
    for file in write(&arguments, &results)? {
        println!("{}", file.display());
    }
    println!(
        "other programs used up to {:.1} % of the processors in a turn; load average {:.1} before and {:.1} after; {} s",
        100.0 * results.others(),
        results.load_average.first().unwrap_or(&0.0),
        results.load_average.last().unwrap_or(&0.0),
        start.elapsed().as_secs()
    );
    Ok(())
}

fn write(arguments: &Arguments, results: &Results) -> Result<Vec<PathBuf>> {
    let charts = report::charts(results);
    let all = (results, results.bars());
    let mut files = crate::files::write(&arguments.output, NAME, &all, &charts)?;
    if let Some(folder) = &arguments.save {
        files.extend(crate::files::write_charts(folder, NAME, &charts)?);
    }
    Ok(files)
}

fn measured(arguments: &Arguments) -> Result<Results> {
    let stand = Stand::new(arguments.quota)?;
    let mut results = Results {
        quota_ms: u64::try_from(arguments.quota.as_millis()).unwrap_or(u64::MAX),
        seconds: arguments.time.as_secs_f64(),
        copy_nanos_per_kib: 1024.0 * 8.0 * 1e9 / copy_bits_per_second().max(1.0),
        load_average: vec![load_average()],
        ..Results::default()
    };
    if arguments.parts.contains(&Part::Latency) {
        results.half_per_second = match arguments.requests {
            Some(requests) => requests,
            None => highest_rate(&stand)? / 2.0,
        };
        eprintln!(
            "half load: {:.0} requests a second",
            results.half_per_second
        );
    }
    for round in 1..=arguments.rounds {
        for part in &arguments.parts {
            match part {
                Part::Throughput => throughput(&stand, arguments, round, &mut results)?,
                Part::Latency => latency(&stand, arguments, round, &mut results)?,
                Part::Ring => {
                    for beside in Beside::all() {
                        let turn = || capture::turn(&stand, &arguments.podspan, round, beside);
                        let (sent, _) = undisturbed(turn)?;
                        results.sent.push(sent);
                    }
                }
            }
        }
        eprintln!("round {round} of {}", arguments.rounds);
    }
    results.load_average.push(load_average());
    Ok(results)
}

fn throughput(
    stand: &Stand,
    arguments: &Arguments,
    round: u32,
    results: &mut Results,
) -> Result<()> {
    for direction in Direction::ALL {
        for mirror in Mirror::ALL {
            let ((bulk, copies), others) = undisturbed(|| {
                let running = stand.start(&arguments.podspan, mirror)?;
                let bulk = bulk::bulk(stand, direction, arguments.time)?;
                Ok((bulk, running.stop()?))
            })?;
            results.throughput.push(Throughput {
                round,
                direction,
                mirror,
                bulk,
                copies,
                others,
            });
        }
    }
    Ok(())
}

fn latency(stand: &Stand, arguments: &Arguments, round: u32, results: &mut Results) -> Result<()> {
    for mirror in Mirror::ALL {
        let schedule = Schedule::new(results.half_per_second, arguments.time);
        let ((answered, copies), others) = undisturbed(|| {
            let running = stand.start(&arguments.podspan, mirror)?;
            let answered = requests::run(&stand.lab, schedule)?;
            Ok((answered, running.stop()?))
        })?;
        results.latency.push(Latency {
            round,
            mirror,
            micros: percentiles(&answered.micros).unwrap_or([f64::NAN; 3]),
            missing: answered.missing,
            copies,
            others,
        });
    }
    Ok(())
}

/// The highest rate of requests without a mirror: the last before two that are too high.
fn highest_rate(stand: &Stand) -> Result<f64> {
    let (mut good, mut rate, mut failures) = (SLOWEST, SLOWEST, 0);
    while rate <= FASTEST && failures < FAILURES {
        if is_in_time(stand, rate)? {
            (good, failures) = (rate, 0);
        } else {
            failures += 1;
        }
        rate *= STEP;
    }
    Ok(good)
}

fn is_in_time(stand: &Stand, rate: f64) -> Result<bool> {
    for _ in 0..TRIALS {
        let trial = || requests::run(&stand.lab, Schedule::new(rate, TRIAL));
        let (answered, _) = undisturbed(trial)?;
        let micros = percentiles(&answered.micros);
        if answered.missing == 0 && micros.is_some_and(|[_, p99, _]| p99 <= P99_MAX) {
            return Ok(true);
        }
    }
    Ok(false)
}
