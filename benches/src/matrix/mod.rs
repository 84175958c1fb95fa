//! The matrix: podspan and other mirrors in turns, under many loads, in the lab.
//!
//! Comes in: the command line ([`arguments`]) and what meets in what case ([`plan`]). In each round, every
//! contender of a case runs after the other in the same lab ([`stand`]), under the frames of a load
//! ([`frames`], [`inject`]). Goes out: medians and ratios ([`results`]), a verdict for each bar ([`bars`]),
//! tables and charts ([`report`]), and files. [`limits`] says how long runs can be at all. Everything between the
//! command line and the files is a pure function of numbers, except [`stand`], [`counter`], [`contenders`],
//! [`tunnel`], [`inject`] and [`measure`].

pub mod arguments;
pub mod bars;
pub mod contenders;
pub mod counter;
mod error;
pub mod frames;
pub mod inject;
pub mod limits;
pub mod loads;
pub mod measure;
pub mod plan;
pub mod report;
pub mod results;
pub mod search;
pub mod stand;
#[cfg(test)]
mod tests;
pub mod tunnel;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use instructions::recording::Recording;
use testbed::ControlGroup;

pub use error::{Error, Result};

use arguments::Arguments;
use contenders::Programs;
use loads::Loads;
use measure::{Bench, copy_bits_per_second, guess};
use plan::{Case, Contender, Part};
use results::{Cost, Found, Results};
use stand::Stand;

/// The name of the files.
const NAME: &str = "matrix";

/// Runs the matrix as the command line says, and prints its tables.
///
/// # Errors
/// [`Error`].
pub fn command(words: impl IntoIterator<Item = OsString>) -> Result<()> {
    let arguments = Arguments::read(words)?;
    // In a user namespace Go cannot fetch modules.
    let with_tunnel = arguments.parts.contains(&Part::Tunnel);
    let wireguard = with_tunnel.then(testbed::build_wireguard).transpose()?;
    testbed::user_namespace::enter()?;
    let start = Instant::now();
    let results = measured(&arguments, wireguard.as_deref())?;
    let bars = bars::bars(&results);
    for (title, table) in report::tables(&results, &bars) {
        println!("\n{title}\n{table}");
    }
    let (turns, wrong) = results.disagreements();
    println!(
        "podspan's totals and the receiver agree in {} of {turns} turns",
        turns - wrong
    );
    let mut files = write(&arguments, &results)?;
    if let Some(folder) = &arguments.save {
        let charts = report::charts(&results);
        files.extend(crate::files::write_charts(folder, NAME, &charts)?);
    }
    for file in files {
        println!("{}", file.display());
    }
    println!("{} s", start.elapsed().as_secs());
    Ok(())
}

/// Writes the results and charts so far.
fn write(arguments: &Arguments, results: &Results) -> Result<Vec<PathBuf>> {
    let charts = report::charts(results);
    let all = (results, bars::bars(results));
    Ok(crate::files::write(&arguments.output, NAME, &all, &charts)?)
}

fn measured(arguments: &Arguments, wireguard: Option<&Path>) -> Result<Results> {
    let searches = |part: &Part| matches!(part, Part::Quota | Part::Tunnel);
    if arguments.parts.iter().any(searches) {
        // Before anything else is measured, so that no time is lost.
        ControlGroup::with_quota(arguments.quota).ok_or(Error::NoQuota)?;
    }
    let web = Recording::read(&arguments.web).map_err(crate::Error::from)?;
    let loads = Loads::new(&web)?;
    let stand = Stand::new()?;
    let bench = Bench {
        stand: &stand,
        loads: &loads,
        programs: Programs {
            podspan: &arguments.podspan,
            receive: &arguments.receive,
            wireguard,
            peer: arguments.peer.as_deref(),
        },
        time: arguments.time,
        quota: arguments.quota,
    };
    let mut results = Results {
        quota_ms: u64::try_from(arguments.quota.as_millis()).unwrap_or(u64::MAX),
        seconds: arguments.time.as_secs_f64(),
        copy_bits_per_second: copy_bits_per_second(),
        load_average: vec![load_average()],
        limits: limits::limits(&loads),
        ..Results::default()
    };
    for round in 1..=arguments.rounds {
        for part in &arguments.parts {
            run(&bench, *part, round, arguments.peer.is_some(), &mut results)?;
        }
        // What an interrupted run has measured stays.
        write(arguments, &results)?;
        eprintln!("round {round} of {}", arguments.rounds);
    }
    results.load_average.push(load_average());
    Ok(results)
}

fn run(
    bench: &Bench<'_>,
    part: Part,
    round: u32,
    with_peer: bool,
    results: &mut Results,
) -> Result<()> {
    match part {
        Part::Cost => {
            measure_costs(bench, round, plan::costs(with_peer), results)?;
        }
        Part::Scale => {
            let both = |case| (case, vec![Contender::Socket, Contender::Plain]);
            let cases = plan::scales().into_iter().map(both).collect();
            measure_costs(bench, round, cases, results)?;
        }
        Part::Quota => {
            search(bench, round, plan::searches(with_peer), results)?;
        }
        Part::Idle => results.idle.push(bench.idle(bench.programs.podspan)?),
        Part::Tunnel => {
            measure_costs(bench, round, plan::tunnel_costs(), results)?;
            search(bench, round, plan::tunnel_searches(), results)?;
        }
    }
    Ok(())
}

/// Measures costs, but those that another part of this round has measured.
fn measure_costs(
    bench: &Bench<'_>,
    round: u32,
    cases: Vec<(Case, Vec<Contender>)>,
    results: &mut Results,
) -> Result<()> {
    for (case, contenders) in cases {
        for contender in contenders {
            let is_same =
                |cost: &Cost| (cost.round, cost.case, cost.contender) == (round, case, contender);
            if results.costs.iter().any(is_same) {
                continue;
            }
            results.costs.push(bench.cost(round, case, contender)?);
        }
    }
    Ok(())
}

/// Searches the highest loads, but those that another part of this round has found.
fn search(
    bench: &Bench<'_>,
    round: u32,
    cases: Vec<(Case, Vec<Contender>)>,
    results: &mut Results,
) -> Result<()> {
    for (case, contenders) in cases {
        for contender in contenders {
            let is_same = |found: &Found| {
                (found.round, found.case, found.contender) == (round, case, contender)
            };
            if results.found.iter().any(is_same) {
                continue;
            }
            let expected = expected(bench, results, case, contender);
            let found = bench.search(round, case, contender, expected)?;
            results.found.push(found);
        }
    }
    Ok(())
}

/// Where a search starts: at the result of the round before, or at what the CPU time per frame allows.
fn expected(bench: &Bench<'_>, results: &Results, case: Case, contender: Contender) -> f64 {
    let is_same = |found: &&Found| found.case == case && found.contender == contender;
    let before = results.found.iter().rev().find(is_same);
    if let Some(found) = before.filter(|found| found.frames_per_second > 0.0) {
        return found.frames_per_second;
    }
    let cases = [case, plan::through_tunnels(case.load)];
    let mut costs = cases
        .iter()
        .filter_map(|case| results.cost((*case, contender), results::Cost::own_of_a_frame));
    let per_frame = costs.next();
    per_frame.map_or_else(
        || guess(bench.loads, case, contender),
        |cost| bench.quota.as_secs_f64() * 10.0 * 1e9 / cost.max(1.0),
    )
}

/// The first number of `/proc/loadavg`.
pub(crate) fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split(' ').next().and_then(|word| word.parse().ok());
    first.unwrap_or_default()
}
