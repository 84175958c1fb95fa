//! The objects of a run: sensors, the application with and without the sidecar, and the load client.
//!
//! ```text
//!   components/sidecar --kustomize--> a Deployment's pod template --> Jobs `with-...`, one for each load
//!   the same Deployment without it --------------------------------> Job `without-...`
//!   components/receiver ------------------------------------------> Deployments `sensor-...`, one each
//! ```
//! The sidecar and the sensors are those of the repository's components, as a user applies them. Each load
//! has a pod and a sensor of its own, so the totals of podspan and the sensor are of this load only. The
//! application's Job ends when its named pipe is written to; then the sidecar ends and logs its totals.

use acceptance::Scenario;
use acceptance::objects::from_json;
use serde_json::{Value, json};

use super::arguments::SensorForm;
use super::client::{HTTP_PORT, IPERF3_PORT};
use super::error::{Error, Result};

/// The container of the application, and of the load client.
pub(super) const APP: &str = "app";
/// Writing to it ends the application.
pub(super) const END: &str = "/tmp/end";

/// The sensors, one for each load.
pub(super) fn sensors(
    scenario: &Scenario<'_>,
    form: SensorForm,
    count: usize,
    hostname: &str,
) -> Result<()> {
    let yaml: Vec<String> = (0..count).map(|number| sensor(number, hostname)).collect();
    let mut manifests = scenario
        .manifests()
        .resource("rbac/own-namespace")
        .yaml(&yaml.join("---\n"))
        .component("components/receiver");
    if form == SensorForm::Device {
        manifests = manifests.component("components/receiver-vxlan-device");
    }
    Ok(scenario.apply_manifests(&manifests)?)
}

/// The name of a sensor, which is also what its podspan searches for.
pub(super) fn sensor_name(number: usize) -> String {
    format!("sensor-{number}")
}

fn sensor(number: usize, hostname: &str) -> String {
    let name = sensor_name(number);
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  labels: {{run: {name}, podspan.dev/example: receiver}}
spec:
  selector: {{matchLabels: {{run: {name}}}}}
  template:
    metadata: {{labels: {{run: {name}, podspan.dev/bench: sensor}}}}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 1
      nodeSelector: {{kubernetes.io/hostname: {hostname:?}}}
"
    )
}

/// The application's pod template, with the sidecar or without.
pub(super) fn template(scenario: &Scenario<'_>, hostname: &str, sidecar: bool) -> Result<Value> {
    let mut manifests = scenario
        .manifests()
        .yaml(&application(&scenario.images().tools, hostname));
    if sidecar {
        manifests = manifests.component("components/sidecar");
    }
    let yaml = manifests.render(scenario.cluster())?;
    let arguments = ["create", "--dry-run=client", "-o", "json", "-f", "-"];
    let text = scenario
        .cluster()
        .kubectl_with_input(&arguments, &yaml)
        .map_err(Error::from)?;
    let mut template = from_json("the application's manifest", &text)?["spec"]["template"].take();
    template["spec"]["restartPolicy"] = "Never".into();
    Ok(template)
}

/// nginx and iperf3 as servers. The processes of the pod see each other, so that the sidecar's CPU time can
/// be read in any cluster.
fn application(image: &str, hostname: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: app}}
spec:
  selector: {{matchLabels: {{app: app}}}}
  template:
    metadata: {{labels: {{app: app}}}}
    spec:
      shareProcessNamespace: true
      terminationGracePeriodSeconds: 5
      nodeSelector: {{kubernetes.io/hostname: {hostname:?}}}
      containers:
      - name: {APP}
        image: {image:?}
        imagePullPolicy: IfNotPresent
        command: [/bin/sh, -ec]
        args: ['mkfifo {END}; nginx & iperf3 -s -p {IPERF3_PORT} >/dev/null & read line <{END}']
        # Once, so that no check runs during the load.
        startupProbe: {{tcpSocket: {{port: {HTTP_PORT}}}, periodSeconds: 1, failureThreshold: 60}}
        resources: {{requests: {{cpu: 10m, memory: 16Mi}}}}
        securityContext:
          runAsNonRoot: true
          runAsUser: 65534
          allowPrivilegeEscalation: false
          capabilities: {{drop: [ALL]}}
          seccompProfile: {{type: RuntimeDefault}}
"
    )
}

/// A Job that runs the application once, with `sensor` as the sidecar's `SENSOR`.
pub(super) fn job(name: &str, template: &Value, sensor: &str, deadline: u32) -> Value {
    let mut template = template.clone();
    template["metadata"]["labels"] = json!({"bench": name});
    let containers = template["spec"]["initContainers"].as_array_mut();
    for container in containers.into_iter().flatten() {
        let variables = container["env"].as_array_mut();
        for variable in variables.into_iter().flatten() {
            if variable["name"] == "SENSOR" {
                variable["value"] = sensor.into();
            }
        }
    }
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {"bench": name}},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": deadline,
            "template": template,
        },
    })
}

/// The load client: it waits for programs to be run in it, and ends by itself.
pub(super) fn client(image: &str, hostname: &str, deadline: u32) -> Value {
    let spec = json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": false,
        "nodeSelector": {"kubernetes.io/hostname": hostname},
        "containers": [{
            "name": APP,
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["/bin/sleep", deadline.to_string()],
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 65534,
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }],
    });
    job(
        "client",
        &json!({"metadata": {}, "spec": spec}),
        "",
        deadline,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_has_the_sidecar_with_its_own_sensor() {
        let template = json!({
            "metadata": {"labels": {"app": "app"}},
            "spec": {"initContainers": [{"name": "podspan", "env": [
                {"name": "SENSOR", "value": "sensor"},
                {"name": "ON_FAILURE", "value": "idle"},
            ]}]},
        });
        let job = job("with-0-3", &template, "sensor-3", 100);
        let pod = &job["spec"]["template"];
        let variables = &pod["spec"]["initContainers"][0]["env"];
        assert_eq!(variables[0]["value"], "sensor-3");
        assert_eq!(variables[1]["value"], "idle");
        assert_eq!(pod["metadata"]["labels"]["bench"], "with-0-3");
        assert_eq!(job["spec"]["activeDeadlineSeconds"], 100);
    }
}
