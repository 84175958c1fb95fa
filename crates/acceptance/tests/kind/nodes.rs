//! A node is drained, and a kubelet is restarted, under load. These tests run one at a time, after all others.

use std::thread;
use std::time::Duration;

use acceptance::objects::until;
use acceptance::scenario::text;
use acceptance::{Load, Result, Scenario, Totals};
use serde_json::Value;
use testbed::kind::Cluster;

use crate::disturbed::{
    ReadyWatch, address, assert_server_untouched, copies, name, plain, pod, restarts, web,
};
use crate::fixture::{
    Followed, LIMIT, capturing_sensor, delete_and_read_totals, mirrors, send_for_some_time, workers,
};
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_drained_nodes_pod_moves_with_every_copy_and_no_request_fails",
        drained,
    ),
    (
        "a_restarted_kubelet_leaves_sidecar_and_application_alone",
        kubelet_restarted,
    ),
];

/// Waits until the sensor has this number of copies from the pods with these addresses.
fn copies_arrive(scenario: &Scenario<'_>, addresses: &[String], sent: u64) -> Result<()> {
    // tcpdump writes a packet up to a second after it has come.
    let limit = Duration::from_secs(20);
    until(&format!("{sent} copies from {addresses:?}"), limit, || {
        let copies = copies(scenario, addresses)?.len();
        Ok(if copies as u64 == sent {
            Ok(())
        } else {
            Err(format!("{copies}"))
        })
    })
}

/// What a sidecar sent, when it has lost nothing.
fn sent_of_all(totals: &Totals) -> Result<u64> {
    let line = totals.line();
    assert_eq!(totals.get("ring_drops")?, 0, "{line}");
    assert_eq!(totals.get("datagrams_dropped")?, 0, "{line}");
    assert!(!line.contains("not_drained"), "{line}");
    Ok(totals.get("datagrams_sent")?)
}

/// Makes a node schedulable again, also when the test fails.
struct Uncordon<'a> {
    cluster: &'a Cluster,
    node: &'a str,
}

impl Drop for Uncordon<'_> {
    fn drop(&mut self) {
        let _ = self.cluster.kubectl(&["uncordon", self.node]);
    }
}

/// Stops the loads some time later: each request was answered.
fn stop_after(time: Duration, scenario: &Scenario<'_>, loads: &[Load]) -> Result<()> {
    thread::sleep(time);
    for load in loads {
        let report = load.stop(scenario)?;
        println!("{}: {report:?}", load.name);
        assert!(report.requests > 0);
        assert_eq!(report.answered, report.requests, "{}", report.errors);
    }
    Ok(())
}

fn budget(app: &str) -> String {
    format!(
        "{{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {{name: {app}}}, \
         spec: {{minAvailable: 1, selector: {{matchLabels: {{app: {app}}}}}}}}}"
    )
}

fn on_node(pods: &[Value], node: &str) -> Option<Value> {
    let mut pods = pods.iter();
    pods.find(|pod| text(&pod["spec"]["nodeName"]) == node)
        .cloned()
}

fn drained(cluster: &Cluster) -> Outcome {
    let scenario = Scenario::new(cluster, "drained", &[])?;
    let nodes = workers(cluster);
    let [near, far] = nodes.as_slice() else {
        return Err(format!("two workers are needed, not {nodes:?}").into());
    };
    let _uncordon = Uncordon {
        cluster,
        node: near,
    };
    // The sensor and the clients are on the other node; only the servers are on both.
    cluster.kubectl(&["cordon", near])?;
    scenario.apply(&capturing_sensor("sensor", 1, "eth0"))?;
    scenario.rolled_out(&["deployment/sensor"], LIMIT)?;
    cluster.kubectl(&["uncordon", near])?;
    web(&scenario)?;
    plain(&scenario)?;
    cluster.kubectl(&["cordon", near])?;
    for app in ["web", "plain"] {
        scenario.apply(&budget(app))?;
    }
    let loads = ["web", "plain"].map(|app| {
        let name = format!("load-{app}");
        Load::endless(&name, &format!("http://{app}/"), 20)
    });
    send_for_some_time(&scenario, &loads)?;
    let before = scenario.pods("app=web")?;
    let leaving = on_node(&before, near).ok_or("no pod on the node")?;
    let log = Followed::start(&scenario, &name(&leaving), "podspan");
    cluster.kubectl(&[
        "drain",
        near,
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--timeout=120s",
    ])?;
    let totals = Totals::read(&log.finish())?;
    let sent = sent_of_all(&totals)?;
    scenario.rolled_out(&["deployment/web", "deployment/plain"], LIMIT)?;
    let after = scenario.pods("app=web")?;
    let is_new = |pod: &&Value| before.iter().all(|old| name(old) != name(pod));
    let moved = after.iter().find(is_new).ok_or("no new pod")?;
    assert_eq!(text(&moved["spec"]["nodeName"]), *far);
    mirrors(&scenario, &name(moved))?;
    stop_after(Duration::from_secs(5), &scenario, &loads)?;
    copies_arrive(&scenario, &[address(&leaving)], sent)?;
    println!("{sent} copies of the pod that was evicted, all at the sensor");
    let log = Followed::start(&scenario, &name(moved), "podspan");
    scenario.kubectl(&["delete", "pod", &name(moved), "--wait=false"])?;
    let sent = sent_of_all(&Totals::read(&log.finish())?)?;
    copies_arrive(&scenario, &[address(moved)], sent)?;
    println!("{sent} copies of the pod on the other node, all at the sensor");
    assert!(sent > 0);
    Ok(())
}

fn kubelet_restarted(cluster: &Cluster) -> Outcome {
    let scenario = Scenario::new(cluster, "kubelet", &[])?;
    let pods = web(&scenario)?;
    let before = pods.first().ok_or("no pod")?;
    let node = text(&before["spec"]["nodeName"]);
    let watch = ReadyWatch::start(&scenario, &name(before));
    let loads = [Load::endless("load", "http://web/", 20)];
    send_for_some_time(&scenario, &loads)?;
    let process = "systemctl show --property=MainPID --value kubelet";
    let kubelet = || cluster.exec_in_node(&node, &["sh", "-c", process]);
    let old = kubelet()?;
    cluster.exec_in_node(&node, &["systemctl", "restart", "kubelet"])?;
    assert_ne!(kubelet()?, old, "another kubelet runs");
    // The new kubelet reports its pods in the first seconds.
    stop_after(Duration::from_secs(10), &scenario, &loads)?;
    cluster.wait("condition=Ready", &[&format!("node/{node}")], LIMIT)?;
    let unready = watch.finish();
    assert!(unready.is_empty(), "the pod was not Ready for {unready:?}");
    for before in &pods {
        let after = pod(&scenario, &name(before))?;
        assert_server_untouched(before, &after);
        assert_eq!(restarts(&after), 0);
    }
    let mut sent = 0;
    let totals = delete_and_read_totals(&scenario, "web", "app=web")?;
    for total in &totals {
        sent += sent_of_all(total)?;
    }
    let addresses: Vec<_> = pods.iter().map(address).collect();
    copies_arrive(&scenario, &addresses, sent)?;
    println!("{sent} copies sent, all at the sensor");
    Ok(())
}
