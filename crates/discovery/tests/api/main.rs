//! Discovery against a real API server with RBAC on, and what it does when that server fails.
//!
//! Everything stays on loopback. Cases that only ask share one control plane and keep apart by
//! namespace; those that break their control plane share another, one after the other.

#![expect(
    clippy::unwrap_used,
    reason = "tests say what they expect by panicking; clippy.toml's exception is for #[test] only"
)]

mod access;
mod finder;
mod load;
mod outages;
mod pods;
mod proxy;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use discovery::ClientSource;
use kube::Client;
use libtest_mimic::{Arguments, Failed, Trial};
use testbed::kubernetes::{Binaries, ControlPlane, Options, Pods};
use tokio::runtime::{Builder, Runtime};

type Outcome = Result<(), Failed>;
type Test = fn(&mut ControlPlane) -> Outcome;

/// A control plane that the first test starts and `main` ends.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Option<ControlPlane>>>);

fn main() -> ExitCode {
    if let Err(error) = Binaries::find() {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    let mut arguments = Arguments::from_args();
    // The cases take turns at two control planes, which keep two cores busy.
    arguments.test_threads.get_or_insert(1);
    let (lasting, failing) = (Shared::default(), Shared::default());
    let cases: [(&str, &Shared, Test); 19] = [
        ("pods_come_and_go", &lasting, pods::come_and_go),
        (
            "a_pod_that_is_not_used_says_why_once",
            &lasting,
            pods::unusable,
        ),
        ("names_are_looked_up_where_asked", &lasting, pods::scopes),
        ("the_shipped_role_suffices", &lasting, access::shipped_role),
        (
            "without_watch_the_log_has_the_role_to_apply",
            &lasting,
            access::no_watch,
        ),
        (
            "list_is_not_needed_where_lists_stream",
            &lasting,
            access::no_list,
        ),
        (
            "all_namespaces_need_a_cluster_role",
            &lasting,
            access::all_namespaces,
        ),
        (
            "an_expired_token_is_replaced_without_a_gap",
            &lasting,
            access::expired_token,
        ),
        ("a_wrong_ca_is_named", &lasting, access::wrong_ca),
        (
            "credentials_may_come_later",
            &lasting,
            access::late_credentials,
        ),
        (
            "addresses_that_lead_nowhere_are_named",
            &lasting,
            access::nowhere,
        ),
        ("a_burst_is_one_view_in_50_ms", &lasting, load::burst),
        ("other_pods_do_not_reach_us", &lasting, load::other_pods),
        ("a_cut_path_changes_nothing", &failing, outages::cut_path),
        (
            "a_killed_api_server_is_found_again",
            &failing,
            outages::killed,
        ),
        (
            "a_frozen_api_server_changes_nothing",
            &failing,
            outages::frozen,
        ),
        (
            "compaction_never_empties_the_view",
            &failing,
            outages::compaction,
        ),
        ("a_429_says_when_to_come_back", &failing, outages::throttled),
        ("etcd_may_come_later", &failing, outages::without_etcd),
    ];
    let mut trials: Vec<Trial> = cases
        .into_iter()
        .map(|(name, Shared(plane), test)| {
            let plane = Arc::clone(plane);
            Trial::test(name, move || {
                let mut plane = plane.lock().unwrap_or_else(PoisonError::into_inner);
                if plane.is_none() {
                    *plane = Some(ControlPlane::start(Options::default())?);
                }
                test(plane.as_mut().ok_or("no control plane")?)
            })
        })
        .collect();
    trials.push(Trial::test(
        "a_server_that_streams_no_lists",
        outages::no_streaming,
    ));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The administrator, who makes and changes pods.
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

/// A fresh namespace where the service account `default` may do what the shipped Role allows, and
/// credentials of that account as a pod has them.
fn namespace(control_plane: &ControlPlane, name: &str) -> Result<ClientSource, Failed> {
    control_plane.create_namespace(name)?;
    grant(control_plane, name, &["list", "watch"])?;
    credentials(control_plane, name)
}

/// The shipped Role and its binding for the account `default` of a namespace, with these verbs.
fn grant(control_plane: &ControlPlane, namespace: &str, verbs: &[&str]) -> Outcome {
    let folder = manifest("rbac/own-namespace");
    let shipped = control_plane.kubectl(["kustomize".as_ref(), folder.as_os_str()])?;
    let ours = shipped.replace("namespace: default", &format!("namespace: {namespace}"));
    let all = "verbs:\n  - list\n  - watch";
    assert!(ours.contains(all), "the shipped Role has changed:\n{ours}");
    let ours = ours.replace(all, &format!("verbs: [{}]", verbs.join(", ")));
    let admin = control_plane.admin_kubeconfig();
    control_plane.kubectl_as(&admin, ["apply", "-f", "-"], &ours)?;
    Ok(())
}

/// The folder that a pod of the service account `default` would see.
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

/// As a pod reaches the API server, through any port of loopback.
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
