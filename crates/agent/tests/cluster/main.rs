//! The built `podspan` in a pod with a real API server: sensors found by name are added, removed and
//! fail under traffic, and each packet is counted at the sensors.
//!
//! ```text
//!   client ---- bridge ---- pod         podspan, with a service account's credentials
//!                 |-------- sensor, second sensor
//!                 '-------- API server  etcd and kube-apiserver, with RBAC on
//! ```
//! Everything runs without root, in namespaces that the tests make. There is no kubelet: a test writes
//! each pod through the API, and the pod's address is that of a host of the lab.
//!
//! These tests print the figures in the documents.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests say what they expect by panicking; clippy allows it only in `#[test]` functions"
)]

mod annotations;
#[path = "../shared/endpoint.rs"]
mod endpoint;
mod fixture;
mod kinds;
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
    // Building them may download, which is not possible in the user namespace.
    if let Err(error) = Binaries::find() {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    user_namespace::enter().expect("a user namespace for the lab");
    let mut arguments = Arguments::from_args();
    // Each thread has a cluster of its own. With more, the tests would disturb each other's measurements.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let unused: Arc<Mutex<Vec<Cluster>>> = Arc::default();
    let trial = |(name, test): Test| {
        let unused = Arc::clone(&unused);
        Trial::test(name, move || {
            let lock = || unused.lock().unwrap_or_else(PoisonError::into_inner);
            let cluster = lock().pop();
            let mut cluster = cluster.map_or_else(Cluster::start, Ok)?;
            test(&mut cluster)?;
            lock().push(cluster);
            Ok(())
        })
    };
    // The longest first: the others run at the same time.
    let tests = [
        outage::TESTS,
        selection::TESTS,
        moving::TESTS,
        annotations::TESTS,
        kinds::TESTS,
        load::TESTS,
    ];
    let trials = tests.concat().into_iter().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
