//! The built `podspan` in a pod's network namespace, real traffic, and a sensor that decodes it.
//!
//! Everything runs without root, in namespaces that the tests make. Code from outside the project
//! verifies the results: etherparse, tshark, tcpdump, the kernel's vxlan device and its counters.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests say what they expect by panicking; clippy allows it only in `#[test]` functions"
)]

mod accounting;
mod annotations;
mod answers;
mod bytes;
mod crash;
#[path = "../shared/endpoint.rs"]
mod endpoint;
mod filter;
mod idle;
mod lifecycle;
mod log;
#[path = "../shared/memory.rs"]
mod memory;
mod metrics;
mod order;
mod privilege;
mod quota;
mod ring;
mod runs;
mod scene;
mod sensor;
mod start;
mod streams;
#[path = "../shared/totals.rs"]
mod totals;
mod truth;
mod tunnel;
mod tunnel_ends;
mod tunnel_flood;
mod tunnel_keys;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Keeps this process and its children on one processor. On two, the kernel's own queues sometimes swap
/// packets of one flow, and two captures at the same place can differ in the order. This is a
/// property of the lab and not of the copies.
fn run_on_one_processor() {
    let mut one = CpuSet::new();
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("the processors allowed");
    let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu) == Ok(true));
    one.set(first.expect("a processor"))
        .expect("a processor's number");
    sched_setaffinity(Pid::from_raw(0), &one).expect("one processor is among those allowed");
}

/// The scenes of one module.
type Scenes = [(&'static str, fn())];

fn main() -> ExitCode {
    if let Some(code) = sensor::run_as_receiver() {
        return code;
    }
    if let Some(code) = tunnel_ends::run_as_receive() {
        return code;
    }
    // Building may need a network, which a new namespace does not have.
    tunnel_ends::build();
    testbed::user_namespace::enter().expect("a user namespace for the lab");
    run_on_one_processor();
    let mut arguments = Arguments::from_args();
    let trial = |(name, test): (&str, fn())| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    // Scenes that mostly wait run together, the longest first.
    let together = [
        tunnel::LONG,
        idle::TESTS,
        answers::TESTS,
        lifecycle::TESTS,
        accounting::TESTS,
        filter::TESTS,
        annotations::TESTS,
        log::TESTS,
        metrics::TESTS,
        start::TESTS,
        sensor::TESTS,
        privilege::TESTS,
    ];
    // Scenes that need the processor or measure it run one at a time.
    let alone = [
        truth::TESTS,
        tunnel::TESTS,
        metrics::ALONE,
        runs::TESTS,
        bytes::TESTS,
        crash::TESTS,
        order::TESTS,
        quota::TESTS,
        ring::TESTS,
    ];
    let run = |arguments: &Arguments, tests: &[&Scenes]| {
        libtest_mimic::run(arguments, tests.concat().into_iter().map(trial).collect())
    };
    arguments.test_threads = arguments.test_threads.or(Some(4));
    let first = run(&arguments, &together);
    arguments.test_threads = Some(1);
    let second = run(&arguments, &alone);
    if first.has_failed() {
        return first.exit_code();
    }
    second.exit_code()
}
