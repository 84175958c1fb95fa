//! The control plane that other tests stand on: it starts, is real, survives what they do to it,
//! and accepts the manifests we ship.
//!
//! Everything runs in a network namespace with only `lo` up, without root. The binaries are built
//! before the host's network is left, since building may download. Tests that only ask share one
//! control plane; those that break it or bind rights to the shipped names have their own.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests say what they expect by panicking; clippy.toml's exception is for #[test] only"
)]

mod access;
mod manifests;
mod pods;
mod servers;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use testbed::kubernetes::{Binaries, ControlPlane, Error, Options};
use testbed::{Namespace, user_namespace};

type Outcome = Result<(), Failed>;

/// One control plane for several tests, started by the first; `main` drops the last handle.
#[derive(Clone, Default)]
struct Shared(Arc<OnceLock<ControlPlane>>);

fn main() -> ExitCode {
    if env::var_os(servers::HOLDER).is_some() {
        return servers::hold();
    }
    let prepared = Binaries::find()
        .map(drop)
        .map_err(|error| error.to_string());
    let prepared =
        prepared.and_then(|()| user_namespace::enter().map_err(|error| error.to_string()));
    if let Err(error) = prepared {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    let mut arguments = Arguments::from_args();
    // A control plane that starts keeps two cores busy.
    arguments.test_threads.get_or_insert(1);
    let shared = Shared::default();
    let trials = vec![
        own("starts_within_15_seconds", servers::starts),
        own("serves_a_lab_over_ipv4_and_ipv6", servers::in_a_lab),
        own("a_killed_server_comes_back_with_its_data", servers::restart),
        own("a_frozen_api_server_hangs_and_goes_on", servers::freeze),
        own(
            "after_compaction_an_old_resource_version_is_gone",
            servers::compaction,
        ),
        own("a_server_that_fails_shows_its_log", servers::failing),
        own("nothing_is_left_after_drop", servers::dropped),
        own("the_servers_die_with_a_killed_test", servers::killed),
        own("roles_open_what_they_name_and_no_more", access::roles),
        common("short_tokens_expire", &shared, access::short_tokens),
        common(
            "pod_credentials_are_renewed_in_one_step",
            &shared,
            access::pod_credentials,
        ),
        common("the_wrong_ca_is_refused", &shared, access::wrong_ca),
        common(
            "every_manifest_builds_and_is_accepted",
            &shared,
            manifests::accepted,
        ),
        common(
            "the_sidecar_starts_first",
            &shared,
            manifests::sidecar_first,
        ),
        common("pod_security_levels", &shared, manifests::pod_security),
        common(
            "pods_have_the_status_that_is_drafted",
            &shared,
            pods::drafted,
        ),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A test that starts its own control plane.
fn own(name: &str, test: fn() -> Outcome) -> Trial {
    Trial::test(name, test)
}

/// A test that asks the shared control plane.
fn common(name: &str, shared: &Shared, test: fn(&ControlPlane) -> Outcome) -> Trial {
    let Shared(cell) = shared.clone();
    Trial::test(name, move || {
        test(cell.get_or_init(|| start(false).unwrap()))
    })
}

/// A control plane in a network namespace of its own.
fn start(controller_manager: bool) -> Result<ControlPlane, Failed> {
    let namespace = Some(Namespace::new()?);
    Ok(ControlPlane::start(Options {
        namespace,
        controller_manager,
        ..Options::default()
    })?)
}

/// Runs a future in a network namespace.
fn block_on<T: Send>(namespace: &Namespace, work: impl AsyncFnOnce() -> T + Send) -> T {
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(work())
    })
}

fn manifest(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../manifests")
        .join(path)
}

/// A kubeconfig of a client that shows `token`.
fn kubeconfig_with(control_plane: &ControlPlane, token: &str) -> Result<PathBuf, Error> {
    let path = control_plane.folder().join("workload.token");
    fs::write(&path, token).unwrap();
    control_plane.write_token_kubeconfig("workload", &path)
}

/// What kubectl says when it is refused.
fn refusal(result: Result<String, Error>) -> String {
    match result {
        Err(Error::Kubectl { stderr, .. }) => stderr,
        other => panic!("not refused: {other:?}"),
    }
}

/// Waits up to 30 s for `done`.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        thread::sleep(Duration::from_millis(100));
    }
}
