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
//! On any other cluster, without access to its nodes and with images that it can pull:
//!
//! ```text
//! cargo xtask test --only cluster --kubeconfig PATH --image REF --tools REF
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
mod web;

use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use testbed::kind::{Cluster, Source};

pub(crate) type Outcome = Result<(), Failed>;
/// A test's name, and the test.
pub(crate) type Test = (&'static str, fn(&Cluster) -> Outcome);

/// The tests that run a program on a node. They are not run on a cluster that is given by a kubeconfig.
const NEED_NODES: &[&str] = &[
    "every_request_and_response_is_complete_at_the_sensors",
    "no_copy_leaves_the_node_while_its_sensor_is_ready",
];

/// The cluster, where `PODSPAN_CLUSTER` names none.
const CLUSTER: &str = "podspan-test";

/// The cluster of `PODSPAN_KUBECONFIG` and `PODSPAN_CONTEXT`, or else the one with the name in
/// `PODSPAN_CLUSTER`.
fn cluster() -> Result<Cluster, testbed::kind::Error> {
    if let Some(kubeconfig) = env::var_os("PODSPAN_KUBECONFIG") {
        let context = env::var("PODSPAN_CONTEXT").ok();
        return testbed::kind::given(Path::new(&kubeconfig), context.as_deref());
    }
    let name = env::var("PODSPAN_CLUSTER").unwrap_or_else(|_| CLUSTER.to_owned());
    testbed::kind::adopt(&name)
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let tests = [web::TESTS, placements::TESTS];
    let cluster = match cluster() {
        Ok(cluster) => Arc::new(cluster),
        Err(error) => {
            eprintln!("{error}\nrun the tests with: cargo xtask test --only cluster");
            return ExitCode::FAILURE;
        }
    };
    // Two cores carry two tests: they mostly wait for kubelets.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let without_nodes = cluster.source() == Source::Given;
    let not_run = |name| without_nodes && NEED_NODES.contains(&name);
    let trial = |(name, test): Test| {
        let cluster = Arc::clone(&cluster);
        Trial::test(name, move || test(&cluster)).with_ignored_flag(not_run(name))
    };
    let trials = tests.concat().into_iter().map(trial).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if without_nodes {
        println!("NOT RUN: {} tests need access to nodes:", NEED_NODES.len());
        for name in NEED_NODES {
            println!("  {name}");
        }
    }
    conclusion.exit_code()
}
