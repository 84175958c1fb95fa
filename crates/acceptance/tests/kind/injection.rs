//! An unmodified Deployment that opts in by one label: through the policy and through the webhook, beside the ways
//! that change its text.

use std::time::{Duration, Instant};

use acceptance::objects::{from_json, get, until};
use acceptance::scenario::text;
use acceptance::{Images, Manifests, Scenario, images};
use inject::{LABEL, NAMESPACE as SYSTEM};
use serde_json::{Value, json};
use testbed::kind::Cluster;

use crate::fixture::LIMIT;
use crate::lifecycle::{
    application_without_podspan, from_its_first_packet_to_its_last, script_to_a_mirrored_peer,
};
use crate::placements::{apply_keys, delivers_in};
use crate::{Outcome, Test};

/// Policy and webhook are objects of the whole cluster, and only one of them may act.
pub(crate) const ALONE: &[Test] = &[(
    "a_deployment_that_opts_in_is_mirrored_from_its_first_packet_and_all_ways_give_equal_pods",
    a_deployment_that_opts_in_is_mirrored_from_its_first_packet_and_all_ways_give_equal_pods,
)];

fn a_deployment_that_opts_in_is_mirrored_from_its_first_packet_and_all_ways_give_equal_pods(
    cluster: &Cluster,
) -> Outcome {
    let mut containers = vec![
        ("way-text", mirrored(cluster, "way-text", apply_injected)?),
        (
            "way-component",
            mirrored(cluster, "way-component", apply_with_component)?,
        ),
    ];
    let policy = Installed::apply(cluster, "injection/policy")?;
    containers.push((
        "way-policy",
        mirrored(cluster, "way-policy", apply_opted_in)?,
    ));
    delivers_through_tunnels(cluster)?;
    drop(policy);
    let webhook = Installed::apply(cluster, "injection/webhook")?;
    let rollout = [
        "-n",
        SYSTEM,
        "rollout",
        "status",
        "deployment/podspan-webhook",
    ];
    cluster.kubectl(&[&rollout[..], &["--timeout=300s"]].concat())?;
    containers.push((
        "way-webhook",
        mirrored(cluster, "way-webhook", apply_opted_in)?,
    ));
    asked_only_about_pods_that_opted_in(cluster)?;
    pods_are_created_without_the_webhook(cluster)?;
    drop(webhook);
    let (_, first) = &containers[0];
    for (way, container) in &containers {
        assert_eq!(container, first, "{way}");
    }
    Ok(())
}

/// Starts the application by one of the ways and checks what the sensor has of it. Returns podspan's container, as
/// the API server has it.
fn mirrored(
    cluster: &Cluster,
    namespace: &str,
    way: fn(&Scenario<'_>, &Value) -> Outcome,
) -> Result<Value, libtest_mimic::Failed> {
    let scenario = Scenario::new(cluster, namespace, &[])?;
    let script = script_to_a_mirrored_peer(&scenario)?;
    let labels = json!({"app": "application", LABEL: "true"});
    way(
        &scenario,
        &application_without_podspan(&scenario, &script, &labels),
    )?;
    scenario.rolled_out(&["deployment/application"], LIMIT)?;
    let deployment = get(
        cluster,
        &["-n", scenario.namespace(), "deployment", "application"],
    )?;
    let pods = scenario.pods("app=application")?;
    let pod = pods.first().ok_or("no pod of the application")?;
    let containers = pod["spec"]["initContainers"].as_array();
    let mut container = containers
        .and_then(|list| list.first())
        .ok_or("the pod has no init container")?
        .clone();
    assert_eq!(container["name"], "podspan", "it is the first");
    assert_eq!(
        deployment["spec"]["template"]["spec"]["containers"][0]["command"],
        pod["spec"]["containers"][0]["command"]
    );
    let name = text(&pod["metadata"]["name"]);
    from_its_first_packet_to_its_last(&scenario, &name, "deployment/application")?;
    // The name of the token's volume is different in each pod.
    if let Some(fields) = container.as_object_mut() {
        fields.remove("volumeMounts");
    }
    Ok(container)
}

/// podspan is not in the text of the application, which names the Secret of the keys by an annotation.
fn delivers_through_tunnels(cluster: &Cluster) -> Outcome {
    const WITHOUT_PODSPAN: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    metadata:
      labels: {podspan.dev/inject: "true"}
      annotations:
        podspan.dev/tunnel: required
        podspan.dev/tunnel-secret: podspan-tunnel
    spec:
      initContainers:
      - {name: podspan, $patch: delete}
      volumes:
      - {name: podspan-tunnel, $patch: delete}
"#;
    let scenario = Scenario::new(cluster, "way-tunnel", &[])?;
    apply_keys(&scenario)?;
    let example = "examples/encrypted";
    let manifests = scenario.manifests().resource(example);
    delivers_in(&scenario, &manifests.patch(WITHOUT_PODSPAN), example)
}

/// As `kubectl podspan inject` does.
fn apply_injected(scenario: &Scenario<'_>, application: &Value) -> Outcome {
    let options = inject::Options {
        image: scenario.images().podspan.clone(),
        ..inject::Options::new(&[], |_| Ok(()))
    };
    let output = inject::yaml::inject(application.to_string().as_bytes(), &options)
        .map_err(|error| error.to_string())?;
    scenario.apply(&output.text)?;
    Ok(())
}

fn apply_with_component(scenario: &Scenario<'_>, application: &Value) -> Outcome {
    let manifests = scenario.manifests().yaml(&application.to_string());
    scenario.apply_manifests(&manifests.component("components/sidecar"))?;
    Ok(())
}

/// As it is. A policy acts up to ten seconds after it was applied.
fn apply_opted_in(scenario: &Scenario<'_>, application: &Value) -> Outcome {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "trial", "labels": {LABEL: "true"}},
        "spec": application["spec"]["template"]["spec"],
    });
    until("podspan in a pod that opted in", LIMIT, || {
        let created = dry_run(scenario, &pod)?;
        let first = &created["spec"]["initContainers"][0]["name"];
        Ok(if first == "podspan" {
            Ok(())
        } else {
            Err(created.to_string())
        })
    })?;
    let mut other = pod.clone();
    other["metadata"]["labels"] = json!({});
    let created = dry_run(scenario, &other)?;
    assert!(created["spec"].get("initContainers").is_none(), "{created}");
    scenario.apply(&application.to_string())?;
    Ok(())
}

fn dry_run(scenario: &Scenario<'_>, pod: &Value) -> Result<Value, acceptance::Error> {
    let namespace = scenario.namespace();
    let arguments = [
        "-n",
        namespace,
        "create",
        "--dry-run=server",
        "-o",
        "json",
        "-f",
        "-",
    ];
    let cluster = scenario.cluster();
    let output = cluster.kubectl_with_input(&arguments, &pod.to_string())?;
    from_json("a pod of a dry run", &output)
}

/// Objects of one of the repository's folders, with the images of the test. They are deleted when this is dropped.
struct Installed<'a> {
    cluster: &'a Cluster,
    yaml: String,
}

impl<'a> Installed<'a> {
    fn apply(cluster: &'a Cluster, folder: &str) -> Result<Self, libtest_mimic::Failed> {
        let path = Manifests::folder(folder)?;
        let yaml = cluster.kubectl(&["kustomize", &path.display().to_string()])?;
        let version = env!("CARGO_PKG_VERSION");
        let yaml = [
            ("ghcr.io/podspan/podspan-webhook", images::WEBHOOK),
            (
                "ghcr.io/podspan/podspan",
                &Images::from_environment().podspan,
            ),
        ]
        .iter()
        .fold(yaml, |yaml, (published, image)| {
            yaml.replace(&format!("{published}:{version}"), image)
        });
        let installed = Self { cluster, yaml };
        cluster.kubectl_with_input(&["apply", "-f", "-"], &installed.yaml)?;
        Ok(installed)
    }
}

impl Drop for Installed<'_> {
    fn drop(&mut self) {
        let arguments = ["delete", "--ignore-not-found", "--timeout=120s", "-f", "-"];
        let deleted = self.cluster.kubectl_with_input(&arguments, &self.yaml);
        if let Err(error) = deleted {
            eprintln!("{error}");
        }
    }
}

/// The counters of both replicas.
fn asked_only_about_pods_that_opted_in(cluster: &Cluster) -> Outcome {
    let list = get(cluster, &["-n", SYSTEM, "pods"])?;
    let mut counted = std::collections::BTreeMap::<String, u64>::new();
    for pod in list["items"].as_array().into_iter().flatten() {
        let name = text(&pod["metadata"]["name"]);
        let path = format!("/api/v1/namespaces/{SYSTEM}/pods/{name}:8080/proxy/metrics");
        let metrics = cluster.kubectl(&["get", "--raw", &path])?;
        for line in metrics.lines() {
            let Some(rest) = line.strip_prefix("podspan_webhook_requests_total{result=\"") else {
                continue;
            };
            let (result, value) = rest.split_once("\"} ").ok_or(line)?;
            *counted.entry(result.to_owned()).or_default() += value.parse::<u64>()?;
        }
    }
    println!("the webhook answered {counted:?}");
    assert!(counted["injected"] > 0, "{counted:?}");
    counted.remove("injected");
    counted.remove("unchanged");
    assert!(counted.values().all(|count| *count == 0), "{counted:?}");
    Ok(())
}

/// Nobody answers, and the API server waits at most two seconds.
fn pods_are_created_without_the_webhook(cluster: &Cluster) -> Outcome {
    let scenario = Scenario::new(cluster, "way-no-webhook", &[])?;
    cluster.kubectl(&[
        "-n",
        SYSTEM,
        "scale",
        "deployment/podspan-webhook",
        "--replicas=0",
    ])?;
    until("no webhook", LIMIT, || {
        let pods = get(cluster, &["-n", SYSTEM, "pods"])?;
        let count = pods["items"].as_array().map_or(0, Vec::len);
        Ok(if count == 0 {
            Ok(())
        } else {
            Err(format!("{count} pods"))
        })
    })?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "trial", "labels": {LABEL: "true"}},
        "spec": {"containers": [{"name": "app", "image": images::TOOLS}]},
    });
    let begin = Instant::now();
    let created = dry_run(&scenario, &pod)?;
    let elapsed = begin.elapsed();
    println!(
        "without the webhook a pod is created in {} ms",
        elapsed.as_millis()
    );
    assert!(created["spec"].get("initContainers").is_none(), "{created}");
    // Two seconds, and what kubectl needs on a slow machine.
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
    Ok(())
}
