//! The rows of the document, and the pod of each.
//!
//! In: `docs/SECURITY.md`. Out: a row as data, its security context, and its pod. A cell that cannot be read
//! fails the test.

use acceptance::images;
use serde_json::{Value, json};

pub(super) const DOCUMENT: &str = include_str!("../../../../../docs/SECURITY.md");
/// Levels of Pod Security, the strictest last.
pub(super) const LEVELS: [&str; 3] = ["privileged", "baseline", "restricted"];

/// A row of the document's table.
#[derive(Debug)]
pub(super) struct Row {
    /// From 1, also the VNI.
    pub(super) number: usize,
    pub(super) user: u32,
    has_file_capability: bool,
    allows_escalation: bool,
    /// Also `hostUsers: false`, as the document has it.
    capabilities: String,
    /// The folder below `manifests/components` that makes this row.
    pub(super) component: Option<String>,
    /// The strictest one that admits the pod.
    pub(super) level: String,
    pub(super) works: bool,
}

impl Row {
    fn read(number: usize, line: &str) -> Self {
        let plain = line.replace(['*', '`'], "");
        let cells: Vec<&str> = plain.trim_matches('|').split('|').map(str::trim).collect();
        let [
            user,
            file,
            escalation,
            capabilities,
            component,
            level,
            result,
            proof,
        ] = cells.as_slice()
        else {
            panic!("eight cells are expected: {line}");
        };
        assert_eq!(
            *proof, "each_row_of_the_security_contexts_is_true",
            "{line}"
        );
        assert!(LEVELS.contains(level), "{line}");
        assert!(["yes", "no"].contains(file), "{line}");
        let works = result.starts_with("works");
        assert!(works || *result == "exit 77, or idle", "{line}");
        Self {
            number,
            user: user.parse().unwrap(),
            has_file_capability: *file == "yes",
            allows_escalation: *escalation == "true",
            capabilities: (*capabilities).to_owned(),
            component: (*component != "-").then(|| (*component).to_owned()),
            level: (*level).to_owned(),
            works,
        }
    }

    /// All rows of the document.
    pub(super) fn all() -> Vec<Self> {
        let section = DOCUMENT.split_once("\n## Security contexts\n").unwrap().1;
        let table = section.split_once("\n|-|-|").unwrap().1;
        let lines = table
            .lines()
            .skip(1)
            .take_while(|line| line.starts_with('|'));
        let rows: Vec<Self> = (1..)
            .zip(lines)
            .map(|(number, line)| Self::read(number, line))
            .collect();
        assert!(!rows.is_empty());
        rows
    }

    /// Otherwise it drops the other capabilities by name.
    pub(super) fn drops_all(&self) -> bool {
        self.capabilities.starts_with("drop ALL, ")
    }

    pub(super) fn adds_net_raw(&self) -> bool {
        self.capabilities.contains("add NET_RAW")
    }

    pub(super) fn has_user_namespace(&self) -> bool {
        self.capabilities.ends_with("hostUsers: false")
    }

    pub(super) fn pod_name(&self) -> String {
        format!("row-{}", self.number)
    }

    /// The pod of a row that does not work, with `ON_FAILURE=exit`.
    pub(super) fn exiting_pod_name(&self) -> String {
        format!("row-{}-exit", self.number)
    }

    /// `others` are the capabilities that containerd grants, without `NET_RAW`.
    pub(super) fn security_context(&self, others: &Value) -> Value {
        let mut capabilities =
            json!({"drop": if self.drops_all() { json!(["ALL"]) } else { others.clone() }});
        if self.adds_net_raw() {
            capabilities["add"] = json!(["NET_RAW"]);
        }
        json!({
            "runAsNonRoot": self.user != 0,
            "runAsUser": self.user,
            "runAsGroup": self.user,
            "allowPrivilegeEscalation": self.allows_escalation,
            "readOnlyRootFilesystem": true,
            "capabilities": capabilities,
            "seccompProfile": {"type": "RuntimeDefault"},
        })
    }

    /// The pod, from that of the component `sidecar`.
    pub(super) fn pod(&self, sidecar: &Value, others: &Value, sensor: &str) -> Value {
        let mut pod = sidecar.clone();
        pod["metadata"]["name"] = json!(self.pod_name());
        let spec = &mut pod["spec"];
        if self.has_user_namespace() {
            spec["hostUsers"] = json!(false);
        }
        let podspan = &mut spec["initContainers"][0];
        podspan["securityContext"] = self.security_context(others);
        set(podspan, "SENSOR", sensor);
        set(podspan, "VNI", &self.number.to_string());
        if !self.has_file_capability {
            without_file_capability(spec);
        }
        pod
    }
}

/// Sets a variable of a container.
pub(super) fn set(container: &mut Value, name: &str, value: &str) {
    let list = container["env"].as_array_mut().unwrap();
    list.retain(|variable| variable["name"] != name);
    list.push(json!({"name": name, "value": value}));
}

/// Makes the sidecar run a copy of its program: a copy has no file capability.
fn without_file_capability(spec: &mut Value) {
    let copy = json!({
        "name": "copy",
        "image": images::TOOLS,
        "command": ["cp", "/image/podspan", "/copy/podspan"],
        "securityContext": spec["containers"][0]["securityContext"],
        "volumeMounts": [
            {"name": "image", "mountPath": "/image", "readOnly": true},
            {"name": "copy", "mountPath": "/copy"},
        ],
    });
    spec["volumes"] = json!([
        {"name": "image", "image": {"reference": images::PODSPAN, "pullPolicy": "IfNotPresent"}},
        {"name": "copy", "emptyDir": {}},
    ]);
    let containers = spec["initContainers"].as_array_mut().unwrap();
    containers[0]["command"] = json!(["/copy/podspan"]);
    containers[0]["volumeMounts"] =
        json!([{"name": "copy", "mountPath": "/copy", "readOnly": true}]);
    containers.insert(0, copy);
}
