//! The built `podspan` in a pod beside a real API server: sensors found by name come, go and fail
//! under traffic, and each packet is accounted for at the sensors.
//!
//! ```text
//!   client ---- bridge ---- pod         podspan, with a service account's credentials
//!                 |-------- sensor, second sensor
//!                 '-------- API server  etcd and kube-apiserver, with RBAC on
//! ```
//! Everything runs without root, within namespaces that the tests make. There is no kubelet: a pod
//! is what a test writes through the API, and its address is that of a host of the lab.
//!
//! The figures that the documents give are printed by these tests.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests say what they expect by panicking; clippy knows only `#[test]` functions"
)]

mod fixture;
mod load;
#[path = "../shared/memory.rs"]
mod memory;
mod moving;
mod outage;
mod selection;
mod stream;
#[path = "../shared/totals.rs"]
mod totals;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial};
use testbed::kubernetes::Binaries;
use testbed::user_namespace;

use fixture::Cluster;

pub(crate) type Outcome = Result<(), Failed>;
/// A test's name, and the test.
pub(crate) type Test = (&'static str, fn(&mut Cluster) -> Outcome);

fn main() -> ExitCode {
    // Building them may download, which the user namespace's networks cannot.
    if let Err(error) = Binaries::find() {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    user_namespace::enter().expect("a user namespace for the lab");
    let mut arguments = Arguments::from_args();
    // Side by side the scenes would measure each other.
    arguments.test_threads = arguments.test_threads.or(Some(1));
    let shared: Arc<Mutex<Option<Cluster>>> = Arc::default();
    let trial = |(name, test): Test| {
        let shared = Arc::clone(&shared);
        Trial::test(name, move || {
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            if shared.is_none() {
                *shared = Some(Cluster::start()?);
            }
            test(shared.as_mut().ok_or("no cluster")?)
        })
    };
    let tests = [selection::TESTS, moving::TESTS, load::TESTS, outage::TESTS];
    let trials = tests.concat().into_iter().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
