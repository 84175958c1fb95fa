//! The built `podspan` in a pod's network namespace, real traffic, and a sensor that decodes it.
//!
//! Everything runs without root, within namespaces that the tests make. What is right is judged by
//! others: etherparse, tshark, tcpdump, the kernel's vxlan device and its counters.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests say what they expect by panicking; clippy knows only `#[test]` functions"
)]

mod accounting;
mod bytes;
mod lifecycle;
mod privilege;
mod scene;
mod streams;
mod truth;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    testbed::user_namespace::enter().expect("a user namespace for the lab");
    let mut arguments = Arguments::from_args();
    // Each scene takes both cores: side by side they would measure each other.
    arguments.test_threads = arguments.test_threads.or(Some(1));
    let trial = |(name, test): (&str, fn())| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let tests = [
        truth::TESTS,
        bytes::TESTS,
        accounting::TESTS,
        lifecycle::TESTS,
        privilege::TESTS,
    ];
    let trials = tests.concat().into_iter().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
