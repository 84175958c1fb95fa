//! Which nodes a run uses: two that take pods, or one where there is no other.

use acceptance::objects::get;
use acceptance::scenario::text;
use serde_json::Value;
use testbed::kind::Cluster;

use super::error::{Error, Result};
use super::results::Node;

/// The node of the application, and that of the load client and the sensors.
pub(super) fn choose(cluster: &Cluster) -> Result<(Node, Node)> {
    first_two(&get(cluster, &["nodes"])?).ok_or(Error::NoNode)
}

/// The first two in the order of their names.
fn first_two(list: &Value) -> Option<(Node, Node)> {
    let mut nodes: Vec<Node> = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|node| takes_pods(node))
        .map(describe)
        .collect();
    nodes.sort_by(|one, other| one.name.cmp(&other.name));
    let first = nodes.first()?.clone();
    let second = nodes.get(1).unwrap_or(&first).clone();
    Some((first, second))
}

fn takes_pods(node: &Value) -> bool {
    let list = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
    let ready = list(&node["status"]["conditions"])
        .iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    let tainted = list(&node["spec"]["taints"])
        .iter()
        .any(|taint| taint["effect"] == "NoSchedule" || taint["effect"] == "NoExecute");
    ready && !tainted && node["spec"]["unschedulable"] != true
}

fn describe(node: &Value) -> Node {
    let info = |name: &str| text(&node["status"]["nodeInfo"][name]);
    Node {
        name: text(&node["metadata"]["name"]),
        hostname: text(&node["metadata"]["labels"]["kubernetes.io/hostname"]),
        cpus: text(&node["status"]["capacity"]["cpu"]),
        kernel: info("kernelVersion"),
        architecture: info("architecture"),
        runtime: info("containerRuntimeVersion"),
        kubelet: info("kubeletVersion"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, ready: &str, spec: &Value) -> Value {
        json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": spec,
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        })
    }

    #[test]
    fn nodes_that_take_no_pods_are_left_out() {
        let mut nodes = vec![
            node("d", "True", &json!({})),
            node("a", "True", &json!({"taints": [{"effect": "NoSchedule"}]})),
            node("b", "False", &json!({})),
            node("c", "True", &json!({"unschedulable": true})),
        ];
        let names = |nodes: &[Value]| {
            let (application, client) = first_two(&json!({"items": nodes}))?;
            Some((application.name, client.name))
        };
        assert_eq!(names(&nodes), Some(("d".to_owned(), "d".to_owned())));
        nodes.push(node(
            "e",
            "True",
            &json!({"taints": [{"effect": "PreferNoSchedule"}]}),
        ));
        assert_eq!(names(&nodes), Some(("d".to_owned(), "e".to_owned())));
        assert_eq!(names(&[]), None);
    }
}
