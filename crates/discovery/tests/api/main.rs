//! Discovery against a real API server with RBAC on, and what it does when that server fails.
//!
//! Everything runs in a network namespace with only `lo` up, without root. The binaries are built
//! before the host's network is left, since building may download.
//!
//! Cases that only send requests share one control plane and run in parallel. Cases that break their
//! control plane use two more, one case after the other. So all cases together need little more time
//! than the longest case and the start of the control planes, which keeps two processors busy.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by a panic; clippy.toml's exception is for #[test] only"
)]

mod access;
mod finder;
mod load;
mod outages;
mod pods;
mod proxy;
mod rights;
mod scripted;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use discovery::ClientSource;
use kube::Client;
use libtest_mimic::{Arguments, Failed, Trial};
use testbed::kubernetes::{ControlPlane, Options, Pods, run_in_namespace};
use tokio::runtime::{Builder, Runtime};

type Outcome = Result<(), Failed>;

/// A control plane that cases use in parallel, each with its own namespace and pod names.
#[derive(Clone, Default)]
struct SharedPlane(Arc<OnceLock<ControlPlane>>);

/// A control plane that cases break, one case after the other.
#[derive(Clone, Default)]
struct ExclusivePlane(Arc<Mutex<Option<ControlPlane>>>);

fn main() -> ExitCode {
    run_in_namespace(run)
}

fn run() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The cases wait most of the time.
    arguments.test_threads.get_or_insert(24);
    let (shared, killed, frozen) = (
        SharedPlane::default(),
        ExclusivePlane::default(),
        ExclusivePlane::default(),
    );
    // The longest cases come first.
    let trials = vec![
        frozen.case("a_429_and_its_retry_time_are_logged", outages::throttled),
        killed.case("a_killed_api_server_is_found_again", outages::killed),
        Trial::test("a_server_that_streams_no_lists", outages::no_streaming),
        killed.case("compaction_never_empties_the_list", outages::compaction),
        frozen.case("a_frozen_api_server_changes_nothing", outages::frozen),
        killed.case("etcd_may_start_later", outages::without_etcd),
        shared.case("other_pods_are_not_sent_to_podspan", load::other_pods),
        shared.case(
            "an_expired_token_is_replaced_without_a_gap",
            access::expired_token,
        ),
        shared.case("a_cut_path_changes_nothing", outages::cut_path),
        shared.case("pods_come_and_go", pods::come_and_go),
        shared.case("a_burst_is_one_list_in_50_ms", load::burst),
        shared.case("the_reason_not_to_use_a_pod_is_logged_once", pods::unusable),
        shared.case(
            "names_are_searched_in_the_configured_namespaces",
            pods::scopes,
        ),
        shared.case("the_shipped_and_the_printed_roles_suffice", rights::roles),
        shared.case("each_removed_verb_is_named", rights::removed_verbs),
        shared.case("list_is_not_needed_where_lists_stream", rights::no_list),
        shared.case("a_wrong_ca_is_named", access::wrong_ca),
        shared.case("credentials_may_appear_later", access::late_credentials),
        shared.case("a_missing_kubeconfig_is_named", access::no_kubeconfig),
        shared.case("a_path_without_the_api_is_a_404", access::wrong_path),
        shared.case("a_selector_that_is_refused_is_a_400", access::bad_request),
        shared.case("an_address_without_a_server_is_named", access::closed_port),
        shared.case("an_unknown_host_name_is_logged", access::unknown_name),
        Trial::test("a_longer_retry_after_is_obeyed", scripted::retry_after),
        Trial::test("a_server_that_never_ends_its_list", scripted::endless_list),
        Trial::test("foreign_texts_forge_no_line", scripted::forged_lines),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

impl SharedPlane {
    fn case(&self, name: &str, test: fn(&ControlPlane) -> Outcome) -> Trial {
        let Self(plane) = self.clone();
        let start = || ControlPlane::start(Options::default()).unwrap();
        Trial::test(name, move || test(plane.get_or_init(start)))
    }
}

impl ExclusivePlane {
    fn case(&self, name: &str, test: fn(&mut ControlPlane) -> Outcome) -> Trial {
        let Self(plane) = self.clone();
        Trial::test(name, move || {
            let mut plane = plane.lock().unwrap_or_else(PoisonError::into_inner);
            if plane.is_none() {
                *plane = Some(ControlPlane::start(Options::default())?);
            }
            test(plane.as_mut().ok_or("no control plane")?)
        })
    }
}

/// The administrator, who creates and changes pods.
struct Admin {
    runtime: Runtime,
    client: Client,
}

impl Admin {
    fn new(control_plane: &ControlPlane) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(control_plane.client()).unwrap();
        Self { runtime, client }
    }

    fn pods(&self, namespace: &str) -> Pods {
        Pods::new(self.client.clone(), namespace)
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}

/// Creates a namespace where the service account `default` has the rights of the shipped Role, and
/// returns credentials of that account as a pod has them.
fn namespace(control_plane: &ControlPlane, name: &str) -> Result<ClientSource, Failed> {
    control_plane.create_namespace(name)?;
    grant(control_plane, name, &["list", "watch"])?;
    credentials(control_plane, name)
}

/// Applies the shipped Role and its binding for the account `default`, with these verbs.
fn grant(control_plane: &ControlPlane, namespace: &str, verbs: &[&str]) -> Outcome {
    let folder = manifest("rbac/own-namespace");
    let shipped = control_plane.kustomize(&folder, namespace)?;
    let all = "verbs:\n  - list\n  - watch";
    assert!(
        shipped.contains(all),
        "the shipped Role has changed:\n{shipped}"
    );
    let granted = shipped.replace(all, &format!("verbs: [{}]", verbs.join(", ")));
    Ok(control_plane.apply_text(&granted)?)
}

/// The folder with the credentials that a pod of the service account `default` would have.
fn credentials_folder(control_plane: &ControlPlane, namespace: &str) -> PathBuf {
    control_plane
        .folder()
        .join(format!("credentials-{namespace}"))
}

fn credentials(control_plane: &ControlPlane, namespace: &str) -> Result<ClientSource, Failed> {
    let token = control_plane.request_token(namespace, "default", Duration::from_mins(10))?;
    let folder = credentials_folder(control_plane, namespace);
    control_plane.write_pod_credentials(&folder, namespace, &token)?;
    Ok(in_cluster(control_plane.address().port(), folder))
}

/// The source of a pod that reaches the API server through this port of loopback.
fn in_cluster(port: u16, credentials: PathBuf) -> ClientSource {
    ClientSource::InCluster {
        host: "127.0.0.1".to_owned(),
        port: port.to_string(),
        credentials,
    }
}

fn manifest(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../manifests")
        .join(path)
}
