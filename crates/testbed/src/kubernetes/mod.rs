//! A real Kubernetes control plane for tests: etcd, kube-apiserver and, on request,
//! kube-controller-manager, with RBAC on and certificates of their own.
//!
//! In: [`Options`]. Out: a [`ControlPlane`], which is a folder, a CA and two or three
//! child processes. The binaries are built once from their Go modules (`kubernetes/go.mod` in this
//! crate) into cargo's target folder, or used from `KUBEBUILDER_ASSETS`.
//!
//! ```text
//!   test ---- kube client, kubectl ---- https://127.0.0.1:<reserved port> ---- kube-apiserver
//!                                                                                    |
//!   test ---- POST /v3/kv/compaction ---- <folder>/etcd.sock ------------------------+---- etcd
//! ```
//!
//! There is no kubelet and no scheduler. A test makes each pod: [`Pods`] creates it and writes its
//! `status` through the real API, as a kubelet does.
//!
//! Invariants:
//! - Nothing outlives the value: its processes are killed and its folder is removed on drop, and
//!   the kernel kills them when the test process itself is killed (`PR_SET_PDEATHSIG`).
//! - Its port belongs to it from start to drop, also while the API server is down.
//! - Nothing listens anywhere but on [`Options::address`] and on sockets in its folder, so that it
//!   runs in an empty network namespace with only `lo` up, without root. Building downloads: call
//!   [`Binaries::find`] before [`user_namespace::enter`].

mod access;
mod binaries;
mod control_plane;
mod error;
mod etcd;
mod pki;
mod pods;
mod server;

use std::process::ExitCode;

use crate::{Namespace, user_namespace};

pub use binaries::Binaries;
pub use control_plane::{Component, ControlPlane, Options};
pub use error::Error;
pub use pki::Authority;
pub use pods::{PodDraft, Pods};

/// Runs tests that share control planes, in a network namespace with only `lo` up: its threads, and the servers that
/// they start, run there too. It is for the `main` of a suite, before the first thread exists.
///
/// The servers are built before, because building may download. What is missing is printed, and the exit code says
/// that the suite has failed.
#[must_use]
pub fn run_in_namespace(run: fn() -> ExitCode) -> ExitCode {
    let ready = Binaries::find()
        .map(drop)
        .map_err(|error| error.to_string());
    let ready = ready.and_then(|()| {
        let entered = user_namespace::enter().and_then(|()| Namespace::new());
        entered.map_err(|error| error.to_string())
    });
    match ready {
        Ok(network) => network.run(run),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
