//! The places of analysis, each in both forms of a sensor: in the pod, on the node, central.

use std::thread;
use std::time::{Duration, Instant};

use acceptance::objects::until;
use acceptance::scenario::text;
use acceptance::{Load, Manifests, Received, Scenario};
use keys::{PresharedKey, PrivateKey};
use serde_json::Value;

use testbed::kind::Cluster;

use crate::fixture::{
    Followed, LIMIT, apply_sensors_first, delete_and_read_totals, mirrors, sum, web_mirrors,
    workers,
};
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "in_the_pod_both_forms_deliver",
        in_the_pod_both_forms_deliver,
    ),
    (
        "on_the_node_all_forms_deliver",
        on_the_node_all_forms_deliver,
    ),
    ("central_both_forms_deliver", central_both_forms_deliver),
    (
        "central_through_encrypted_tunnels_delivers",
        central_through_encrypted_tunnels_delivers,
    ),
    ("the_classic_way_delivers", the_classic_way_delivers),
    (
        "no_copy_leaves_the_node_while_its_sensor_is_ready",
        no_copy_leaves_the_node_while_its_sensor_is_ready,
    ),
];

/// Applies an example, sends requests, and checks that what the sensors counted is what the podspans
/// sent: each frame, once.
fn delivers(cluster: &Cluster, namespace: &str, example: &str) -> Outcome {
    let scenario = Scenario::new(cluster, namespace, &[])?;
    delivers_in(&scenario, &scenario.manifests().resource(example), example)
}

/// The same with these manifests, which are those of the example or changed ones.
pub(crate) fn delivers_in(
    scenario: &Scenario<'_>,
    manifests: &Manifests,
    example: &str,
) -> Outcome {
    apply_sensors_first(scenario, manifests, "app=web")?;
    for object in scenario
        .kubectl(&["get", "deployments,daemonsets", "-o", "name"])?
        .lines()
    {
        scenario.rolled_out(&[object], LIMIT)?;
    }
    web_mirrors(scenario)?;
    let load = Load::new("load", "http://web/", 50, 2);
    let report = load.run(scenario)?;
    report.complete(&load)?;
    // In the pod, the sensor ends with podspan: its own last second is not in its log any more.
    let logs: Vec<_> = sensor_pods(scenario)?
        .iter()
        .map(|pod| Followed::start(scenario, pod, "sensor"))
        .collect();
    let totals = delete_and_read_totals(scenario, "web", "app=web")?;
    scenario.kubectl(&["delete", "deployments,daemonsets", "--all", "--wait=false"])?;
    let mut received = Received::default();
    for log in logs {
        received.add(&Received::read(&log.finish()));
    }
    for total in &totals {
        assert_eq!(total.get("ring_drops")?, 0, "{}", total.line());
        assert_eq!(total.get("datagrams_dropped")?, 0, "{}", total.line());
    }
    let sent = sum(&totals, "datagrams_sent")?;
    println!("{example}: {sent} datagrams sent, {received:?}");
    // The sidecar starts before the container of a sensor in the same pod, so there the copies of the
    // pod's first seconds are missing.
    let missing = sent.saturating_sub(received.frames);
    let allowed = if example.contains("in-pod") { 100 } else { 0 };
    assert!(
        missing <= allowed,
        "{example}: {missing} copies did not arrive"
    );
    let expected = Received {
        frames: sent - missing,
        ..Received::default()
    };
    assert_eq!(
        received, expected,
        "{example}: each copy arrives once, and nothing is wrong with it"
    );
    // A request and its answer are at least eight frames of a connection.
    assert!(
        sent > 8 * report.requests,
        "{sent} copies of {} connections",
        report.requests
    );
    Ok(())
}

fn sensor_pods(scenario: &Scenario<'_>) -> Result<Vec<String>, acceptance::Error> {
    Ok(Received::of_each(scenario)?.into_keys().collect())
}

fn in_the_pod_both_forms_deliver(cluster: &Cluster) -> Outcome {
    delivers(cluster, "in-pod-sniffing", "examples/in-pod/sniffing")?;
    delivers(cluster, "in-pod-device", "examples/in-pod/vxlan-device")
}

fn on_the_node_all_forms_deliver(cluster: &Cluster) -> Outcome {
    delivers(cluster, "per-node-sniffing", "examples/per-node/sniffing")?;
    delivers(cluster, "per-node-device", "examples/per-node/vxlan-device")?;
    delivers(cluster, "per-node-host", "examples/per-node/host-network")
}

fn central_both_forms_deliver(cluster: &Cluster) -> Outcome {
    delivers(cluster, "central-sniffing", "examples/central/sniffing")?;
    delivers(cluster, "central-device", "examples/central/vxlan-device")
}

/// Nobody between the pods reads a copy; what podspan sends is what arrives all the same.
fn central_through_encrypted_tunnels_delivers(cluster: &Cluster) -> Outcome {
    let scenario = Scenario::new(cluster, "encrypted", &[])?;
    apply_keys(&scenario)?;
    let example = "examples/encrypted";
    delivers_in(&scenario, &scenario.manifests().resource(example), example)
}

/// Makes the Secrets of the sensors and of the podspans.
pub(crate) fn apply_keys(scenario: &Scenario<'_>) -> Outcome {
    let (sensor, preshared) = (PrivateKey::generate(), PresharedKey::generate());
    scenario.apply(&format!(
        r"
apiVersion: v1
kind: Secret
metadata: {{name: podspan-receive}}
stringData:
  private-key: {}
  preshared-keys: {}
---
apiVersion: v1
kind: Secret
metadata: {{name: podspan-tunnel}}
stringData:
  sensor-key: {}
  preshared-key: {}
",
        *sensor.to_base64(),
        *preshared.to_base64(),
        sensor.public(),
        *preshared.to_base64(),
    ))?;
    Ok(())
}

/// The way of the script that podspan replaces: a second plain container, `default` bound to `view`.
fn the_classic_way_delivers(cluster: &Cluster) -> Outcome {
    let scenario = Scenario::new(cluster, "classic", &[])?;
    let manifests = scenario
        .manifests()
        .resource("examples/classic")
        .yaml(CLASSIC_SERVICE);
    apply_sensors_first(&scenario, &manifests, "run=example")?;
    scenario.rolled_out(&["deployment/example", "deployment/sensor"], LIMIT)?;
    let pods = scenario.pod_names("run=example")?;
    let pod = pods.first().ok_or("no pod of the example")?;
    mirrors(&scenario, pod)?;
    let load = Load::new("load", "http://example:8080/", 50, 2);
    let report = load.run(&scenario)?;
    report.complete(&load)?;
    let sensors: Vec<_> = sensor_pods(&scenario)?
        .iter()
        .map(|pod| Followed::start(&scenario, pod, "sensor"))
        .collect();
    let totals = delete_and_read_totals(&scenario, "example", "run=example")?;
    scenario.kubectl(&["delete", "deployments", "--all", "--wait=false"])?;
    let mut received = Received::default();
    for log in sensors {
        received.add(&Received::read(&log.finish()));
    }
    let sent = sum(&totals, "datagrams_sent")?;
    println!("examples/classic: {sent} datagrams sent, {received:?}");
    assert_eq!(
        received,
        Received {
            frames: sent,
            ..Received::default()
        }
    );
    assert!(
        sent > 8 * report.requests,
        "{sent} copies of {} connections",
        report.requests
    );
    Ok(())
}

const CLASSIC_SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: example}
spec: {selector: {run: example}, ports: [{port: 8080}]}
";

/// Counts the copies that come into a node from pods of other nodes; `@pods@` are the pods' addresses.
const COUNT: &str = r#"nft -f - <<'N'
table netdev podspan_test
delete table netdev podspan_test
table netdev podspan_test {
  chain from_other_nodes {
    type filter hook ingress device "eth0" priority 0;
    ip saddr { @pods@ } udp dport 4789 counter;
  }
}
N"#;

fn crossed(cluster: &Cluster, node: &str) -> Result<u64, acceptance::Error> {
    let list = ["nft", "-j", "list", "table", "netdev", "podspan_test"];
    let text = cluster.exec_in_node(node, &list)?;
    let json: Value = serde_json::from_str(&text).unwrap_or_default();
    let packets = json["nftables"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|entry| entry["rule"]["expr"].as_array())
        .flatten()
        .find_map(|expression| expression["counter"]["packets"].as_u64());
    packets.ok_or_else(|| acceptance::Error::Unexpected {
        what: format!("the counter of {node}"),
        text,
    })
}

fn no_copy_leaves_the_node_while_its_sensor_is_ready(cluster: &Cluster) -> Outcome {
    let scenario = Scenario::new(cluster, "preference", &[])?;
    let nodes = workers(cluster);
    let [near, far] = nodes.as_slice() else {
        return Err(format!("two workers are needed, not {nodes:?}").into());
    };
    let manifests = scenario
        .manifests()
        .resource("examples/per-node/vxlan-device");
    apply_sensors_first(&scenario, &manifests, "app=web")?;
    scenario.rolled_out(&["deployment/web", "daemonset/sensor"], LIMIT)?;
    web_mirrors(&scenario)?;
    let pods = scenario.pods("app=web")?;
    let addresses: Vec<_> = pods
        .iter()
        .map(|pod| text(&pod["status"]["podIP"]))
        .collect();
    let count = COUNT.replace("@pods@", &addresses.join(", "));
    for node in &nodes {
        cluster.exec_in_node(node, &["sh", "-c", &count])?;
    }
    let load = Load {
        seconds: 40,
        ..Load::new("load", "http://web/", 50, 40)
    };
    load.start(&scenario)?;
    thread::sleep(Duration::from_secs(5));
    let counts = (crossed(cluster, near)?, crossed(cluster, far)?);
    println!("packets to port 4789 from other nodes while the sensors are Ready: {counts:?}");
    assert_eq!(counts, (0, 0));

    // The near sensor goes, and does not come back.
    let pods = scenario.pods("run=sensor")?;
    let of_near = pods
        .iter()
        .find(|pod| text(&pod["spec"]["nodeName"]) == *near);
    let sensor = text(&of_near.ok_or("no sensor on the near node")?["metadata"]["name"]);
    scenario.kubectl(&["label", "pod", &sensor, "run-"])?;
    let begin = Instant::now();
    let delay = until("copies to the other node", Duration::from_secs(20), || {
        let packets = crossed(cluster, far)?;
        Ok(if packets > 0 {
            Ok(begin.elapsed())
        } else {
            Err("none".to_owned())
        })
    })?;
    println!(
        "copies reach the other node {} ms after the sensor is gone",
        delay.as_millis()
    );
    for node in &nodes {
        cluster.exec_in_node(node, &["nft", "delete", "table", "netdev", "podspan_test"])?;
    }
    let report = load.finish(&scenario)?;
    report.complete(&load)?;
    Ok(())
}
