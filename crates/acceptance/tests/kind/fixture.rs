//! What several tests need: a capturing sensor, and the sidecar's state in a pod.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use acceptance::scenario::text;
use acceptance::{Images, Load, Manifests, Quota, Received, Result, Scenario, Totals};
use serde_json::Value;
use testbed::kind::Cluster;

/// Long enough for a slow machine to start pods.
pub(crate) const LIMIT: Duration = Duration::from_mins(5);

/// The names of the workers.
pub(crate) fn workers(cluster: &Cluster) -> Vec<String> {
    cluster.nodes().iter().skip(1).cloned().collect()
}

/// A Deployment of sensors whose pods write what they see on `interface` into a file.
pub(crate) fn capturing_sensor(name: &str, replicas: u32, interface: &str) -> String {
    let image = Images::from_environment().tools;
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, labels: {{run: {name}}}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{run: {name}}}}}
  template:
    metadata:
      labels: {{run: {name}}}
      annotations: {{podspan.dev/receiver: sniffer}}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 1
      containers:
      - name: tcpdump
        image: {image}
        imagePullPolicy: IfNotPresent
        # -U: each packet is in the file as soon as it is seen.
        command: [tcpdump, -n, -U, -Q, in, -B, "16384", -Z, root, -i, {interface}, -w, /tmp/capture.pcap, "ip or ip6"]
        readinessProbe: {{exec: {{command: [test, -s, /tmp/capture.pcap]}}, periodSeconds: 1}}
        securityContext:
          runAsUser: 0
          allowPrivilegeEscalation: false
          capabilities: {{drop: [ALL], add: [NET_RAW, DAC_OVERRIDE, SETGID, SETUID]}}
"#
    )
}

/// Copies the capture of a sensor's pod to this machine.
pub(crate) fn capture(scenario: &Scenario<'_>, pod: &str, folder: &tempfile::TempDir) -> PathBuf {
    let namespace = scenario.namespace();
    let arguments = [
        "-n",
        namespace,
        "exec",
        pod,
        "--",
        "cat",
        "/tmp/capture.pcap",
    ];
    let bytes = scenario.cluster().kubectl_bytes(&arguments).unwrap();
    let path = folder.path().join(format!("{pod}.pcap"));
    fs::write(&path, bytes).unwrap();
    path
}

/// The status of a container, also of an init container.
pub(crate) fn status<'a>(pod: &'a Value, container: &str) -> &'a Value {
    ["initContainerStatuses", "containerStatuses"]
        .iter()
        .filter_map(|list| pod["status"][list].as_array())
        .flatten()
        .find(|status| status["name"] == container)
        .unwrap_or_else(|| panic!("no container {container} in {pod}"))
}

/// Applies an example in two parts: the application comes when the sensors capture, so that each copy can
/// be counted.
pub(crate) fn apply_sensors_first(
    scenario: &Scenario<'_>,
    manifests: &Manifests,
    selector: &str,
) -> Result<()> {
    let yaml = manifests.render(scenario.cluster())?;
    let others = selector.replace('=', "!=");
    let arguments = [
        "-n",
        scenario.namespace(),
        "apply",
        "-l",
        &others,
        "-f",
        "-",
    ];
    match scenario.cluster().kubectl_with_input(&arguments, &yaml) {
        // The sensor is in the application's own pod: there is nothing else.
        Err(testbed::kind::Error::Command { output, .. })
            if output.contains("no objects passed") => {}
        other => drop(other?),
    }
    for object in scenario
        .kubectl(&["get", "deployments,daemonsets", "-o", "name"])?
        .lines()
    {
        scenario.rolled_out(&[object], LIMIT)?;
    }
    for pod in Received::of_each(scenario)?.keys() {
        scenario.logged(pod, "sensor", "reading ", LIMIT)?;
    }
    scenario.apply(&yaml)
}

/// Waits until podspan in a pod has a sensor.
pub(crate) fn mirrors(scenario: &Scenario<'_>, pod: &str) -> Result<()> {
    scenario.mirrors(pod, LIMIT)
}

/// Waits until the web servers run and podspan in each of their pods has a sensor.
pub(crate) fn web_mirrors(scenario: &Scenario<'_>) -> Result<()> {
    scenario.rolled_out(&["deployment/web"], LIMIT)?;
    for pod in scenario.pod_names("app=web")? {
        mirrors(scenario, &pod)?;
    }
    Ok(())
}

/// Starts the loads, and returns when all have sent requests for some time, so that some are copied.
pub(crate) fn send_for_some_time(scenario: &Scenario<'_>, loads: &[Load]) -> Result<()> {
    for load in loads {
        load.start(scenario)?;
    }
    for load in loads {
        load.runs(scenario, LIMIT)?;
    }
    thread::sleep(Duration::from_secs(2));
    Ok(())
}

/// One of the numbers of several podspans, added up.
pub(crate) fn sum(totals: &[Totals], name: &str) -> Result<u64> {
    totals.iter().map(|total| Ok(total.get(name)?)).sum()
}

/// What the sidecar of a pod has used of its CPU.
pub(crate) fn quota(cluster: &Cluster, pod: &Value) -> Result<Quota> {
    let node = text(&pod["spec"]["nodeName"]);
    let id = text(&status(pod, "podspan")["containerID"]);
    Quota::read(cluster, &node, &id)
}

/// A container's log, read to the container's end. It survives the pod.
pub(crate) struct Followed {
    kubectl: Child,
    reader: JoinHandle<String>,
}

impl Followed {
    pub(crate) fn start(scenario: &Scenario<'_>, pod: &str, container: &str) -> Self {
        let mut command = scenario.cluster().kubectl_command();
        command
            .args([
                "-n",
                scenario.namespace(),
                "logs",
                "--follow",
                pod,
                "-c",
                container,
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut kubectl = command.spawn().unwrap();
        let mut stdout = kubectl.stdout.take().unwrap();
        let reader = thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stdout.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Self { kubectl, reader }
    }

    /// The whole log. The container has ended, or is about to.
    pub(crate) fn finish(mut self) -> String {
        let text = self.reader.join().unwrap();
        self.kubectl.wait().unwrap();
        text
    }
}

/// Deletes a Deployment and returns the last totals of its pods' sidecars.
pub(crate) fn delete_and_read_totals(
    scenario: &Scenario<'_>,
    deployment: &str,
    selector: &str,
) -> Result<Vec<Totals>> {
    let logs: Vec<Followed> = scenario
        .pod_names(selector)?
        .iter()
        .map(|pod| Followed::start(scenario, pod, "podspan"))
        .collect();
    scenario.kubectl(&["delete", "deployment", deployment, "--wait=false"])?;
    logs.into_iter()
        .map(|log| Ok(Totals::read(&log.finish())?))
        .collect()
}

/// The container that `components/sidecar` adds, for pods and Jobs that a test makes itself.
pub(crate) fn sidecar(scenario: &Scenario<'_>) -> Result<Value> {
    let manifests = scenario.manifests().resource("examples/base/web");
    let yaml = manifests.render(scenario.cluster())?;
    let arguments = ["create", "--dry-run=client", "-o", "json", "-f", "-"];
    let objects = scenario.cluster().kubectl_with_input(&arguments, &yaml)?;
    let container = serde_json::Deserializer::from_str(&objects)
        .into_iter::<Value>()
        .filter_map(std::result::Result::ok)
        .map(|object| object["spec"]["template"]["spec"]["initContainers"][0].clone())
        .find(|container| container["name"] == "podspan");
    container.ok_or_else(|| acceptance::Error::Unexpected {
        what: "the example with the sidecar".to_owned(),
        text: objects,
    })
}
