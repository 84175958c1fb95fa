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
mod answers;
mod bytes;
mod crash;
mod idle;
mod lifecycle;
mod log;
#[path = "../shared/memory.rs"]
mod memory;
mod order;
mod privilege;
mod quota;
mod runs;
mod scene;
mod sensor;
mod start;
mod streams;
#[path = "../shared/totals.rs"]
mod totals;
mod truth;

use std::panic;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libtest_mimic::{Arguments, Trial};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The processors that no scene uses. A scene and its processes stay on one: on two, the kernel's own
/// queues sometimes swap packets of one flow, and two captures at the same place can differ in the order.
/// This is a property of the lab and not of the copies.
struct Processors(Mutex<Vec<usize>>);

impl Processors {
    fn allowed() -> Self {
        let allowed = sched_getaffinity(Pid::from_raw(0)).expect("the processors allowed");
        let numbers = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu) == Ok(true));
        Self(Mutex::new(numbers.collect()))
    }

    fn free(&self) -> MutexGuard<'_, Vec<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `test`, and the threads and processes that it starts, on one processor.
    fn run_on_one(&self, test: fn()) {
        let processor = self.free().pop().expect("a processor for each thread");
        let mut one = CpuSet::new();
        one.set(processor).expect("a processor's number");
        sched_setaffinity(Pid::from_raw(0), &one).expect("the processor is among those allowed");
        let outcome = panic::catch_unwind(test);
        self.free().push(processor);
        if let Err(payload) = outcome {
            panic::resume_unwind(payload);
        }
    }
}

fn main() -> ExitCode {
    if let Some(code) = sensor::run_as_receiver() {
        return code;
    }
    testbed::user_namespace::enter().expect("a user namespace for the lab");
    let processors = Arc::new(Processors::allowed());
    let mut arguments = Arguments::from_args();
    // More than one scene on a processor would disturb each other's measurements.
    let count = processors.free().len();
    arguments.test_threads = Some(
        arguments
            .test_threads
            .map_or(count, |given| given.min(count)),
    );
    let trial = |(name, test): (&str, fn())| {
        let processors = Arc::clone(&processors);
        Trial::test(name, move || {
            processors.run_on_one(test);
            Ok(())
        })
    };
    let tests = [
        truth::TESTS,
        runs::TESTS,
        bytes::TESTS,
        accounting::TESTS,
        lifecycle::TESTS,
        crash::TESTS,
        order::TESTS,
        log::TESTS,
        answers::TESTS,
        privilege::TESTS,
        idle::TESTS,
        quota::TESTS,
        start::TESTS,
        sensor::TESTS,
    ];
    let trials = tests.concat().into_iter().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
