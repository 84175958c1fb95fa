//! The built program as a plugin of the real kubectl, with a real API server.
//!
//! Each case has a namespace of the cluster. Nothing makes pods of the objects: there is no controller manager.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests say what they expect by panicking; clippy allows it only in `#[test]` functions"
)]

mod changes;
mod fixture;
mod keys;
mod manifests;
mod refusals;
mod selection;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Failed, Trial};
use testbed::kubernetes::run_in_namespace;

use fixture::{Cluster, Outcome};

/// A test's name, and the test.
type Test = (&'static str, fn(&Cluster) -> Outcome);

fn main() -> ExitCode {
    run_in_namespace(run)
}

fn run() -> ExitCode {
    let arguments = Arguments::from_args();
    let cluster: Arc<OnceLock<Cluster>> = Arc::default();
    let trial = |(name, test): Test| {
        let cluster = Arc::clone(&cluster);
        Trial::test(name, move || -> Result<(), Failed> {
            test(cluster.get_or_init(Cluster::start))
        })
    };
    let tests = [
        changes::TESTS,
        keys::TESTS,
        refusals::TESTS,
        selection::TESTS,
        manifests::TESTS,
    ];
    let trials = tests.concat().into_iter().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
