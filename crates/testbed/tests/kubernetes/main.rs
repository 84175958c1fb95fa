//! The control plane of other tests: it starts, it is real, it recovers from all that they do to it,
//! and it accepts podspan's manifests.
//!
//! Everything runs in a network namespace with only `lo` up, without root. The binaries are built
//! before the process leaves the host's network, because building may download. Tests that only send
//! requests share one control plane and run at the same time. Tests that break theirs use another
//! one, one after the other.

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
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use testbed::kubernetes::{Binaries, ControlPlane, Error, Options};
use testbed::{Namespace, user_namespace};

type Outcome = Result<(), Failed>;

/// A control plane that several tests use at the same time, with a controller manager.
#[derive(Clone, Default)]
struct Shared(Arc<OnceLock<ControlPlane>>);

/// A control plane that tests break, one after the other.
#[derive(Clone, Default)]
struct Breakable(Arc<Mutex<Option<ControlPlane>>>);

/// Held for writing by the test that measures, for reading by the others.
type Quiet = Arc<RwLock<()>>;

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
    // A control plane that starts keeps two processors busy.
    arguments.test_threads.get_or_insert(4);
    let (quiet, shared, breakable) = (Quiet::default(), Shared::default(), Breakable::default());
    let own = |name, test: fn() -> Outcome| trial(name, &quiet, test);
    let asks = |name, test: fn(&ControlPlane) -> Outcome| {
        let Shared(plane) = shared.clone();
        let start = || start(true).unwrap();
        trial(name, &quiet, move || test(plane.get_or_init(start)))
    };
    let breaks = |name, test: fn(&mut Option<ControlPlane>) -> Outcome| {
        let Breakable(plane) = breakable.clone();
        trial(name, &quiet, move || test(&mut held(&plane)))
    };
    let trials = vec![
        exclusive(
            "starts_within_15_seconds",
            &quiet,
            &breakable,
            servers::starts,
        ),
        breaks("a_killed_server_comes_back_with_its_data", servers::restart),
        asks("roles_allow_what_they_name_and_nothing_else", access::roles),
        own("serves_a_lab_over_ipv4_and_ipv6", servers::in_a_lab),
        own("the_servers_die_with_a_killed_test", servers::killed),
        own("a_server_that_fails_shows_its_log", servers::failing),
        asks("short_tokens_expire", access::short_tokens),
        asks(
            "pod_credentials_are_renewed_in_one_step",
            access::pod_credentials,
        ),
        asks("the_wrong_ca_is_refused", access::wrong_ca),
        asks("every_manifest_builds_and_is_accepted", manifests::accepted),
        asks("the_examples_have_both_forms", manifests::forms),
        asks(
            "the_encrypted_example_has_its_keys_where_they_are_needed",
            manifests::encrypted,
        ),
        asks("the_sidecar_starts_first", manifests::sidecar_first),
        asks(
            "the_components_and_the_injection_give_the_same_pod",
            manifests::injection,
        ),
        asks("pod_security_levels", manifests::pod_security),
        asks("pods_have_the_status_that_is_drafted", pods::drafted),
        breaks("a_frozen_api_server_hangs_and_continues", servers::freeze),
        breaks(
            "after_compaction_an_old_resource_version_is_gone",
            servers::compaction,
        ),
        breaks("nothing_is_left_after_drop", servers::dropped),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A test that can run at the same time as others.
fn trial(name: &str, quiet: &Quiet, test: impl FnOnce() -> Outcome + Send + 'static) -> Trial {
    let quiet = Arc::clone(quiet);
    Trial::test(name, move || {
        let _busy = quiet.read().unwrap_or_else(PoisonError::into_inner);
        test()
    })
}

/// A test that runs while no other runs. The tests that break something use what it starts.
fn exclusive(
    name: &str,
    quiet: &Quiet,
    Breakable(plane): &Breakable,
    test: fn() -> Result<ControlPlane, Failed>,
) -> Trial {
    let (quiet, plane) = (Arc::clone(quiet), Arc::clone(plane));
    Trial::test(name, move || {
        let _quiet = quiet.write().unwrap_or_else(PoisonError::into_inner);
        *held(&plane) = Some(test()?);
        Ok(())
    })
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The running control plane, or else a new one, without a controller manager.
fn running(plane: &mut Option<ControlPlane>) -> Result<&mut ControlPlane, Failed> {
    if plane.is_none() {
        *plane = Some(start(false)?);
    }
    Ok(plane.as_mut().ok_or("no control plane")?)
}

/// A control plane in its own network namespace.
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

/// A kubeconfig of a client that sends `token`; `name` is in its file's name.
fn kubeconfig_with(
    control_plane: &ControlPlane,
    name: &str,
    token: &str,
) -> Result<PathBuf, Error> {
    let path = control_plane.folder().join(format!("{name}.token"));
    fs::write(&path, token).unwrap();
    control_plane.write_token_kubeconfig(name, &path)
}

/// kubectl's standard error when it is refused.
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
