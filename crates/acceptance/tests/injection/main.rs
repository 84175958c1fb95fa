//! The ways of injection against a real API server: each gives the pod that the crate `inject` gives.
//!
//! etcd and kube-apiserver run in a network namespace with only `lo` up, without root and without a kubelet: the
//! tests look at the pod that the API server stores, or would store (`dryRun=All`). All tests use one API server,
//! one after the other, because some change the parameters of all.
//!
//! `INJECTION_RELEASE` chooses the API server's release, for example 1.34; `cargo xtask test --only versions` runs
//! the suite with each.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::unnecessary_wraps,
    reason = "tests say what they expect by panicking; clippy.toml's exception is for #[test] only; all tests have \
              one type"
)]

mod checks;
mod cluster;
#[path = "../../../inject/tests/common/mod.rs"]
mod common;
mod equal;
mod files;
mod parameters;
mod random;
mod valid;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Failed, Trial};
use testbed::kubernetes::Binaries;
use testbed::user_namespace;

use cluster::Cluster;

type Outcome = Result<(), Failed>;
/// A test's name, and the test.
type Test = (&'static str, fn(&Cluster) -> Outcome);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let needs_cluster = arguments.filter.as_deref() != Some("files");
    if needs_cluster {
        // Building them may download, which is not possible in the user namespace.
        if let Err(error) = Binaries::of(cluster::release()) {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
        if let Err(error) = user_namespace::enter() {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    arguments.test_threads = Some(1);
    let shared: Arc<OnceLock<Cluster>> = Arc::default();
    let trial = |(name, test): Test| {
        let shared = Arc::clone(&shared);
        Trial::test(name, move || {
            test(shared.get_or_init(|| Cluster::start().unwrap()))
        })
    };
    let tests = [
        equal::TESTS,
        checks::TESTS,
        parameters::TESTS,
        random::TESTS,
    ]
    .concat();
    let mut trials: Vec<Trial> = tests.into_iter().map(trial).collect();
    trials.push(Trial::test(
        "files_of_the_policy_are_generated",
        files::generated,
    ));
    libtest_mimic::run(&arguments, trials).exit_code()
}
