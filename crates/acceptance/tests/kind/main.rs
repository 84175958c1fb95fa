//! podspan on a kind cluster: real kubelets, with the quota enforced.
//!
//! `cargo xtask test --only cluster` brings the cluster up, loads the images and runs these tests.
//! By hand, on the cluster that `PODSPAN_KEEP_CLUSTER=1` kept of it:
//!
//! ```text
//! PODSPAN_CLUSTER=podspan-test cargo test -p acceptance --features kind --test kind -- NAME
//! cargo xtask cluster down --name podspan-test
//! ```
//!
//! Each test makes a namespace and deletes it. The figures that the documents give are printed.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests say what they expect by panicking; clippy knows only `#[test]` functions"
)]

mod fixture;
mod placements;
mod security_contexts;
mod web;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use testbed::kind::Cluster;

pub(crate) type Outcome = Result<(), Failed>;
/// A test's name, and the test.
pub(crate) type Test = (&'static str, fn(&Cluster) -> Outcome);

/// The cluster, where `PODSPAN_CLUSTER` names none.
const CLUSTER: &str = "podspan-test";

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let tests = [web::TESTS, placements::TESTS, security_contexts::TESTS];
    let name = env::var("PODSPAN_CLUSTER").unwrap_or_else(|_| CLUSTER.to_owned());
    let cluster = match testbed::kind::adopt(&name) {
        Ok(cluster) => Arc::new(cluster),
        Err(error) => {
            eprintln!("{error}\nrun the tests with: cargo xtask test --only cluster");
            return ExitCode::FAILURE;
        }
    };
    // Two cores carry two tests: they mostly wait for kubelets.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let trial = |(name, test): Test| {
        let cluster = Arc::clone(&cluster);
        Trial::test(name, move || test(&cluster))
    };
    let trials = tests.concat().into_iter().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
