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

mod crash;
mod disturbed;
mod fixture;
mod injection;
mod lifecycle;
mod nodes;
mod placements;
mod rollout;
mod security_contexts;
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

/// The tests that run on a cluster that is given by a kubeconfig: they change nothing outside their
/// namespace and need no access to nodes. Any other test is not run there.
const ON_ANY_CLUSTER: &[&str] = &[
    "the_sidecar_leaves_the_applications_container_as_it_was",
    "in_the_pod_both_forms_deliver",
    "on_the_node_all_forms_deliver",
    "central_both_forms_deliver",
    "central_through_encrypted_tunnels_delivers",
    "the_classic_way_delivers",
    "a_rollout_of_the_application_fails_no_request_and_loses_no_copy",
    "all_that_two_hosts_send_each_other_is_at_one_of_three_sensors",
    "a_restart_of_three_sensors_loses_little_and_all_of_it_is_counted",
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
    let cluster = match cluster() {
        Ok(cluster) => Arc::new(cluster),
        Err(error) => {
            eprintln!("{error}\nrun the tests with: cargo xtask test --only cluster");
            return ExitCode::FAILURE;
        }
    };
    let is_given = cluster.source() == Source::Given;
    let is_not_run = |name| is_given && !ON_ANY_CLUSTER.contains(&name);
    let trial = |(name, test): Test| {
        let cluster = Arc::clone(&cluster);
        Trial::test(name, move || test(&cluster)).with_ignored_flag(is_not_run(name))
    };
    // The longest first: the others run at the same time.
    let together = [
        crash::TESTS,
        web::TESTS,
        placements::TESTS,
        lifecycle::TESTS,
        rollout::TESTS,
        security_contexts::TESTS,
    ]
    .concat();
    // What measures times or disturbs a node comes after them, one at a time.
    let alone = [lifecycle::ALONE, injection::ALONE, nodes::TESTS].concat();
    let names = together.iter().chain(&alone).map(|(name, _)| *name);
    let not_run: Vec<&str> = names.filter(|name| is_not_run(name)).collect();

    // Two cores carry four tests: they mostly wait for kubelets.
    arguments.test_threads = arguments.test_threads.or(Some(4));
    let first = libtest_mimic::run(&arguments, together.into_iter().map(trial).collect());
    arguments.test_threads = Some(1);
    let second = libtest_mimic::run(&arguments, alone.into_iter().map(trial).collect());
    if !not_run.is_empty() {
        println!(
            "NOT RUN, because they need or change nodes: {} tests",
            not_run.len()
        );
        for name in not_run {
            println!("  {name}");
        }
    }
    if first.has_failed() {
        return first.exit_code();
    }
    second.exit_code()
}
