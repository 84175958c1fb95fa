//! The step `test`: all tests of the workspace, the agent's suite with API servers beside the others.
//!
//! That suite mostly waits: for API servers to start, to fail, and to come back. The others run at the same
//! time. The namespace suite measures times and losses under a quota, so it runs alone, after them.
//!
//! In: the test programs that cargo has built, and the programs of the control plane. Out: each test target has
//! run once. The output of the suite that runs beside the others follows theirs.

use std::process::Command;
use std::thread;

use crate::cargo::{Executable, cargo, executables, run, run_and_print_later};
use crate::failure::{Failure, Result};
use crate::tools;

/// The test target that runs beside the others.
const WAITS: &str = "cluster";
/// The test target that runs alone.
const MEASURES: &str = "namespace";

/// Runs all tests of the workspace with `features`, a flag of cargo.
///
/// `--workspace` gives each crate the features that any member needs: so testbed's own tests of
/// its feature `kubernetes` run too.
pub(crate) fn run_all(features: &str) -> Result<()> {
    let test = |arguments: &[&str]| {
        let mut command = cargo();
        command
            .args(["test", "--workspace", features])
            .args(arguments);
        command
    };
    // A build at the same time would make the tests slower.
    let built = executables(test(&["--no-run"]))?;
    let others = others(&built)?;
    tools::control_plane()?;
    let mut beside = test(&["--lib", "--bins"]);
    beside.args(others.iter().flat_map(|name| ["--test", name]));
    side_by_side(test(&["--test", WAITS]), beside)?;
    run(test(&["--test", MEASURES]))?;
    run(test(&["--doc"]))
}

/// The test targets among `built` but [`WAITS`] and [`MEASURES`].
fn others(built: &[Executable]) -> Result<Vec<&str>> {
    let targets = || {
        let tests = built.iter().filter(|executable| executable.is_test_target);
        tests.map(|executable| executable.target.as_str())
    };
    for named in [WAITS, MEASURES] {
        let count = targets().filter(|target| *target == named).count();
        if count != 1 {
            let message = format!("{count} test targets are named {named:?}");
            return Err(Failure::Wrong(message));
        }
    }
    let is_other = |target: &&str| ![WAITS, MEASURES].contains(target);
    Ok(targets().filter(is_other).collect())
}

/// Runs both to their ends at the same time.
fn side_by_side(waits: Command, beside: Command) -> Result<()> {
    thread::scope(|scope| {
        let waits = scope.spawn(|| run_and_print_later(waits));
        let beside = run(beside);
        let panicked = |_| Failure::Wrong(format!("the thread of {WAITS} panicked"));
        let waits = waits.join().map_err(panicked)?;
        beside.and(waits)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_target_is_among_the_others_or_has_its_place() {
        let built = |target: &str, is_test_target| Executable {
            path: target.into(),
            target: target.to_owned(),
            is_test_target,
        };
        let all = [
            built("namespace", true),
            built("mirror", false),
            built("cluster", true),
            built("cli", true),
            built("api", true),
        ];
        assert_eq!(others(&all).unwrap(), ["cli", "api"]);
        let error = others(&all[1..]).unwrap_err().to_string();
        assert!(error.contains("0 test targets"), "{error}");
    }
}
