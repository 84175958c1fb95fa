//! The ring on real interfaces, in network namespaces of our own.
//!
//! Every test counts: what was sent is numbered, and what comes out of the ring is compared with it
//! and with the kernel's counters. The judge is the kernel; nothing here reads a block but `capture`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests say what they expect by panicking; these are no #[test] functions"
)]

mod lifecycle;
mod support;
mod traffic;
mod tun;

use libtest_mimic::{Arguments, Trial};

fn main() {
    if let Err(error) = testbed::user_namespace::enter() {
        eprintln!("{error}");
        std::process::exit(1);
    }
    let tests = traffic::tests()
        .into_iter()
        .chain(lifecycle::tests())
        .chain(tun::tests());
    let trials = tests
        .map(|(name, test)| {
            Trial::test(name, move || {
                test();
                Ok(())
            })
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
