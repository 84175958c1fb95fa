//! The step `test`: all tests of the workspace, the namespace suite beside the others.
//!
//! The namespace suite mostly waits, and keeps itself on the first processor (see
//! `crates/agent/tests/namespace/main.rs`). The other tests run at the same time on the other
//! processors, so that neither disturbs the other. On one processor, they run one after the other.
//!
//! In: the test programs that cargo has built, and the programs of the control plane. A build beside the
//! namespace suite would disturb it.
//! Out: each of them has run once. The output of the namespace suite follows that of the others.

use std::process::Command;
use std::thread;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::cargo::{Executable, cargo, executables, run, run_and_print_later};
use crate::failure::{Failure, Result};
use crate::tools;

/// The test target that runs beside the others.
const NAMESPACE: &str = "namespace";

const THIS_THREAD: Pid = Pid::from_raw(0);

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
    let others = others(&executables(test(&["--no-run"]))?)?;
    tools::control_plane()?;
    let namespace = test(&["--test", NAMESPACE]);
    let mut first = test(&["--lib", "--bins"]);
    first.args(others.iter().flat_map(|name| ["--test", name]));
    let documentation = test(&["--doc"]);
    side_by_side(namespace, || run(first).and_then(|()| run(documentation)))
}

/// The test targets among `built` but [`NAMESPACE`].
fn others(built: &[Executable]) -> Result<Vec<String>> {
    let (namespace, others): (Vec<_>, Vec<_>) = built
        .iter()
        .filter(|executable| executable.is_test_target)
        .map(|executable| executable.target.clone())
        .partition(|target| target == NAMESPACE);
    if namespace.len() == 1 {
        return Ok(others);
    }
    let message = format!("{} test targets are named {NAMESPACE:?}", namespace.len());
    Err(Failure::Wrong(message))
}

/// Runs both to their ends at the same time, `others` on all processors but the first.
fn side_by_side(namespace: Command, others: impl FnOnce() -> Result<()>) -> Result<()> {
    let all = sched_getaffinity(THIS_THREAD).map_err(|errno| failed("reading", errno))?;
    let Some(rest) = all_but_first(all)? else {
        return run(namespace).and_then(|()| others());
    };
    thread::scope(|scope| {
        // A process inherits the processors of the thread that starts it.
        let namespace = scope.spawn(|| run_and_print_later(namespace));
        sched_setaffinity(THIS_THREAD, &rest).map_err(|errno| failed("setting", errno))?;
        let others = others();
        sched_setaffinity(THIS_THREAD, &all).map_err(|errno| failed("setting", errno))?;
        let panicked = |_| Failure::Wrong("the thread of the namespace suite panicked".to_owned());
        let namespace = namespace.join().map_err(panicked)?;
        others.and(namespace)
    })
}

/// What is left of `processors` without the first, if anything is.
fn all_but_first(mut processors: CpuSet) -> Result<Option<CpuSet>> {
    let is_set = |set: &CpuSet, cpu| set.is_set(cpu) == Ok(true);
    if let Some(first) = (0..CpuSet::count()).find(|cpu| is_set(&processors, *cpu)) {
        let unset = processors.unset(first);
        unset.map_err(|errno| failed("choosing", errno))?;
    }
    Ok((0..CpuSet::count())
        .any(|cpu| is_set(&processors, cpu))
        .then_some(processors))
}

fn failed(doing: &str, errno: nix::Error) -> Failure {
    Failure::system(format!("{doing} processors for tests"), errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(processors: &[usize]) -> CpuSet {
        let mut set = CpuSet::new();
        for processor in processors {
            set.set(*processor).unwrap();
        }
        set
    }

    #[test]
    fn the_first_processor_is_left_to_the_namespace_suite() {
        assert_eq!(all_but_first(set(&[0, 1])).unwrap(), Some(set(&[1])));
        assert_eq!(all_but_first(set(&[2, 5, 9])).unwrap(), Some(set(&[5, 9])));
        assert_eq!(all_but_first(set(&[3])).unwrap(), None);
    }

    #[test]
    fn every_test_target_runs_beside_the_namespace_suite() {
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
        ];
        assert_eq!(others(&all).unwrap(), ["cluster", "cli"]);
        let error = others(&all[1..]).unwrap_err().to_string();
        assert!(error.contains("0 test targets"), "{error}");
    }
}
