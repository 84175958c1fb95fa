//! A web server with the sidecar while something happens to the sidecar or its node: how long its pod was
//! not Ready, and whether the server's container was touched.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use acceptance::objects::{get, until};
use acceptance::scenario::text;
use acceptance::{Load, Manifests, Result, Scenario, arrivals};
use serde_json::Value;
use testbed::kind::Cluster;

use crate::fixture::{LIMIT, capture, capturing_sensor, status, web_mirrors};

/// Ends the servers of a Deployment without a lost request: each waits until its address is gone from the
/// services.
fn graceful(deployment: &str) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {deployment}}}
spec:
  template:
    spec:
      containers:
      - {{name: web, lifecycle: {{preStop: {{sleep: {{seconds: 5}}}}}}}}
"
    )
}

/// Applies a capturing sensor and two web servers with the sidecar, and returns the servers' pods when they
/// mirror.
pub(crate) fn web(scenario: &Scenario<'_>) -> Result<Vec<Value>> {
    scenario.apply(&capturing_sensor("sensor", 1, "eth0"))?;
    scenario.rolled_out(&["deployment/sensor"], LIMIT)?;
    let manifests = scenario.manifests().resource("examples/base/web");
    let manifests = manifests
        .resource("rbac/own-namespace")
        .patch(&graceful("web"));
    scenario.apply_manifests(&manifests)?;
    web_mirrors(scenario)?;
    scenario.pods("app=web")
}

/// Applies the same servers without the sidecar, as the Deployment and Service `plain`, for comparison.
pub(crate) fn plain(scenario: &Scenario<'_>) -> Result<()> {
    let yaml = Manifests::file("examples/base/web/web.yaml")?
        .replace("name: web\n", "name: plain\n")
        .replace("app: web", "app: plain")
        // The container keeps its name, for the patch.
        .replace("- name: plain\n", "- name: web\n");
    scenario.apply_manifests(&scenario.manifests().yaml(&yaml).patch(&graceful("plain")))?;
    scenario.rolled_out(&["deployment/plain"], LIMIT)
}

pub(crate) fn name(object: &Value) -> String {
    text(&object["metadata"]["name"])
}

pub(crate) fn pod(scenario: &Scenario<'_>, name: &str) -> Result<Value> {
    let path = ["-n", scenario.namespace(), "pod", name];
    get(scenario.cluster(), &path)
}

/// The container of the web server is the same as before, and was never restarted.
pub(crate) fn assert_server_untouched(before: &Value, after: &Value) {
    let identity = |pod: &Value| {
        let server = status(pod, "web");
        let fields = ["containerID", "restartCount", "state"];
        fields.map(|field| server[field].clone())
    };
    assert_eq!(identity(before), identity(after));
}

pub(crate) fn restarts(pod: &Value) -> u64 {
    let count = status(pod, "podspan")["restartCount"].as_u64();
    count.unwrap_or(u64::MAX)
}

/// Starts the loads, and returns when all run.
pub(crate) fn start(scenario: &Scenario<'_>, loads: &[Load]) -> Result<()> {
    for load in loads {
        load.start(scenario)?;
    }
    for load in loads {
        let pod = format!("pod/{}", load.name);
        scenario.kubectl(&["wait", "--for=condition=Ready", "--timeout=120s", &pod])?;
    }
    Ok(())
}

/// Waits for the end of the loads: each request was answered.
pub(crate) fn finish(scenario: &Scenario<'_>, loads: &[Load]) -> Result<()> {
    for load in loads {
        let report = load.finish(scenario)?;
        println!("{}: {report:?}", load.name);
        report.complete(load)?;
    }
    Ok(())
}

/// The times of the copies from the pods with these addresses, as far as the sensor's capture has them.
pub(crate) fn copies(scenario: &Scenario<'_>, addresses: &[String]) -> Result<Vec<f64>> {
    let folder = tempfile::tempdir().unwrap();
    let sensors = scenario.pod_names("run=sensor")?;
    let file = capture(scenario, sensors.first().unwrap(), &folder);
    let mut times = Vec::new();
    for address in addresses {
        times.extend(arrivals(&file, address)?);
    }
    Ok(times)
}

pub(crate) fn address(pod: &Value) -> String {
    text(&pod["status"]["podIP"])
}

/// Waits until the sidecar runs after this number of restarts and the pod is Ready, and returns the pod.
pub(crate) fn restarted(
    scenario: &Scenario<'_>,
    name: &str,
    count: u64,
    limit: Duration,
) -> Result<Value> {
    until(&format!("restart {count} of {name}"), limit, || {
        let pod = pod(scenario, name)?;
        let state = status(&pod, "podspan")["state"].clone();
        let running = state["running"].is_object() && restarts(&pod) == count;
        Ok(if running && is_ready(&pod) {
            Ok(pod)
        } else {
            Err(state.to_string())
        })
    })
}

pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Runs a shell script on the pod's node; `$1` is the number of the sidecar's process there.
pub(crate) fn at_sidecar(cluster: &Cluster, pod: &Value, script: &str) -> Result<String> {
    const FIND: &str = r#"for f in /proc/[0-9]*/cgroup; do
        grep -q "$1" $f 2>/dev/null && p=${f%/cgroup} && set -- ${p#/proc/} && break
    done
    "#;
    let id = text(&status(pod, "podspan")["containerID"]);
    let id = id.rsplit('/').next().unwrap_or_default();
    let node = text(&pod["spec"]["nodeName"]);
    let script = format!("{FIND}{script}");
    Ok(cluster.exec_in_node(&node, &["sh", "-ec", &script, "sh", id])?)
}

/// Follows the condition Ready of a pod.
pub(crate) struct ReadyWatch {
    kubectl: Child,
    reader: JoinHandle<Vec<(Instant, bool)>>,
}

impl ReadyWatch {
    pub(crate) fn start(scenario: &Scenario<'_>, pod: &str) -> Self {
        let output = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}{"\n"}"#;
        let mut command = scenario.cluster().kubectl_command();
        command
            .args(["-n", scenario.namespace(), "get", "pod", pod, "--watch"])
            .args(["-o", output])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut kubectl = command.spawn().unwrap();
        let lines = BufReader::new(kubectl.stdout.take().unwrap()).lines();
        let reader = thread::spawn(move || {
            let state = |line: String| (Instant::now(), line.trim() == "True");
            lines
                .map_while(std::result::Result::ok)
                .map(state)
                .collect()
        });
        Self { kubectl, reader }
    }

    /// The times in which the pod was not Ready, each until it was again.
    pub(crate) fn finish(mut self) -> Vec<Duration> {
        self.kubectl.kill().unwrap();
        self.kubectl.wait().unwrap();
        let states = self.reader.join().unwrap();
        assert!(
            states.first().is_some_and(|(_, ready)| *ready),
            "{states:?}"
        );
        let mut times = Vec::new();
        let mut since = None;
        for (time, ready) in states {
            if !ready {
                since.get_or_insert(time);
            } else if let Some(since) = since.take() {
                times.push(time - since);
            }
        }
        times.extend(since.map(|since: Instant| since.elapsed()));
        times
    }
}
