//! helm installs, changes and removes the chart on a real API server, without root and without a kubelet.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by a panic; clippy.toml's exception is for #[test] only"
)]

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use testbed::kubernetes::{ControlPlane, Options, run_in_namespace};

/// A policy acts up to ten seconds after it is written; a busy machine needs longer.
const TIMEOUT: Duration = Duration::from_mins(1);

const POD: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"containers": [{"name": "web", "image": "example.invalid/web"}]}}"#;

/// What the chart makes that belongs to no namespace.
const CLUSTER_WIDE: &str = "mutatingadmissionpolicies,mutatingadmissionpolicybindings,\
     validatingadmissionpolicies,validatingadmissionpolicybindings,mutatingwebhookconfigurations";

fn main() -> ExitCode {
    // Building may download, which is not possible in the namespace.
    if let Err(error) = testbed::build_helm() {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    run_in_namespace(|| {
        let name = "a_release_injects_pods_changes_its_way_and_leaves_nothing";
        let trial = Trial::test(name, release);
        libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
    })
}

struct Cluster {
    plane: ControlPlane,
}

impl Cluster {
    #[track_caller]
    fn helm(&self, arguments: &[&str]) {
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/chart");
        let mut helm = testbed::helm(&self.plane.folder().join("helm")).unwrap();
        helm.arg(arguments[0]).arg("podspan");
        if arguments[0] != "uninstall" {
            helm.arg(chart);
        }
        let output = helm
            .args(["--namespace", "podspan-system"])
            .args(&arguments[1..])
            .env("KUBECONFIG", self.plane.admin_kubeconfig())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// The names of objects.
    fn names(&self, of: &[&str]) -> Result<Vec<String>, Failed> {
        let printed = self
            .plane
            .kubectl([&["get", "--output=name"], of].concat())?;
        Ok(printed.lines().map(str::to_owned).collect())
    }

    /// The names of the objects of podspan that belong to no namespace.
    fn cluster_wide(&self) -> Result<Vec<String>, Failed> {
        let mut names = self.names(&[CLUSTER_WIDE])?;
        names.retain(|name| name.contains("podspan"));
        Ok(names)
    }

    /// The first init container that the API server would store of a new pod.
    fn first(&self) -> Result<Value, Failed> {
        let arguments = ["create", "--dry-run=server", "--output=json", "-f", "-"];
        let stored = self
            .plane
            .kubectl_as(&self.plane.admin_kubeconfig(), arguments, POD)?;
        let stored: Value = serde_json::from_str(&stored)?;
        Ok(stored["spec"]["initContainers"][0].clone())
    }
}

fn release() -> Result<(), Failed> {
    let cluster = Cluster {
        plane: ControlPlane::start(Options::default())?,
    };
    cluster.plane.create_namespace("shop")?;
    let label = format!("{}=true", inject::LABEL);
    cluster
        .plane
        .kubectl(["label", "namespace", "shop", &label])?;
    assert!(cluster.first()?.is_null());

    let values =
        "image=registry.example/podspan:2,defaults.sensor=zeek,rbac.ownNamespace.shop={default}";
    cluster.helm(&["install", "--create-namespace", "--set", values]);
    let begun = Instant::now();
    let first = loop {
        let first = cluster.first()?;
        if !first.is_null() {
            break first;
        }
        assert!(begun.elapsed() < TIMEOUT, "no pod is injected");
        thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(first["name"], "podspan");
    assert_eq!(first["image"], "registry.example/podspan:2");
    let sensor = serde_json::json!({"name": "SENSOR", "value": "zeek"});
    assert!(
        first["env"].as_array().unwrap().contains(&sensor),
        "{first}"
    );
    let roles = cluster.names(&["roles", "--namespace=shop"])?;
    assert_eq!(roles, ["role.rbac.authorization.k8s.io/podspan-discovery"]);

    cluster.helm(&["upgrade", "--reuse-values", "--set", "way=webhook"]);
    let webhook = "mutatingwebhookconfiguration.admissionregistration.k8s.io/podspan-webhook";
    assert_eq!(cluster.cluster_wide()?, [webhook]);
    let deployments = cluster.names(&["deployments", "--namespace=podspan-system"])?;
    assert_eq!(deployments, ["deployment.apps/podspan-webhook"]);

    cluster.helm(&["uninstall"]);
    assert!(cluster.cluster_wide()?.is_empty());
    for namespace in ["--namespace=podspan-system", "--namespace=shop"] {
        let kinds = "deployments,services,roles,rolebindings,serviceaccounts,poddisruptionbudgets";
        let mut left = cluster.names(&[kinds, namespace])?;
        left.retain(|name| name.contains("podspan"));
        assert!(left.is_empty(), "{left:?}");
    }
    Ok(())
}
