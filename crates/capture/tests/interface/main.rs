//! The ring on real interfaces, in network namespaces that the tests create.
//!
//! Every test counts: the sent datagrams have numbers, and the frames from the ring are compared with
//! them and with the kernel's counters. Only `capture` reads the blocks.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking; these are not #[test] functions"
)]

mod filters;
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
        .chain(tun::tests())
        .chain(filters::tests());
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
