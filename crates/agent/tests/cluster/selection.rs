//! Which pods podspan uses as sensors, and when it starts to search for them.

use std::net::UdpSocket;
use std::ops::Range;
use std::thread;
use std::time::Duration;

use testbed::kubernetes::{Component, PodDraft};

use crate::fixture::{Agent, Cluster, PORT, sensor};
use crate::stream::{Stream, Tap, missing};
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    ("its_own_pod_is_never_a_sensor", own_pod),
    ("a_sensor_on_the_same_node_comes_first", node),
    (
        "a_sensor_on_the_same_node_that_refuses_leaves_its_flows_to_the_others",
        node_refuses,
    ),
    ("a_sensor_with_only_ipv6_gets_its_copies_over_ipv6", ipv6),
    ("it_captures_before_the_api_server_answers", early),
    ("a_start_under_traffic_loses_no_frame", no_loss),
    ("frames_wait_for_an_api_server_that_answers_late", late),
];

/// The sidecar's own pod has the sensor's label too.
fn own_pod(cluster: &mut Cluster) -> Outcome {
    cluster.add_namespace("own-pod")?;
    let (lab, me) = (&cluster.lab, sensor("me", &cluster.lab.pod));
    let uid = cluster.administer("own-pod", async |pods| {
        pods.create(&me).await.map(|pod| pod.metadata.uid)
    })?;
    // podspan recognizes its own pod with the address only, and with any part of the downward API.
    let by_uid = ("POD_UID", uid.as_deref().ok_or("no UID")?);
    for identity in [
        &[][..],
        &[by_uid][..],
        &[("POD_NAME", "me"), ("POD_NAMESPACE", "own-pod")],
    ] {
        let agent = cluster.podspan("own-pod", identity)?;
        agent.until_logged(&["WARN", "own-pod/me", "never mirrors to its own pod"]);
        let tap = Tap::start(&lab.pod)?;
        let stream = Stream::start(lab, 4, 1000)?;
        thread::sleep(Duration::from_millis(300));
        stream.stop();
        let (totals, log) = agent.end()?;
        assert_eq!(tap.stop()?.1, 0, "{log}");
        assert_eq!(totals.get("datagrams_sent"), 0, "{log}");
        assert_eq!(
            log.matches("never mirrors to its own pod").count(),
            1,
            "{log}"
        );
    }
    Ok(())
}

fn node(cluster: &mut Cluster) -> Outcome {
    cluster.add_namespace("node")?;
    let (near, far) = (&cluster.lab.sensor, &cluster.second);
    cluster.add_sensor("node", &sensor("near", near))?;
    cluster.add_sensor("node", &sensor("far", far).node("node-2"))?;
    let agent = cluster.podspan("node", &[("NODE_NAME", "node-1")])?;
    agent.until_in_use(&[near]);
    cluster.administer("node", async |pods| pods.set_ready("near", false).await)?;
    agent.until_in_use(&[far]);
    cluster.administer("node", async |pods| pods.set_ready("near", true).await)?;
    agent.until_in_use(&[near]);
    agent.end()?;
    let any = [("NODE_NAME", "node-1"), ("SENSOR_PREFER", "any")];
    let agent = cluster.podspan("node", &any)?;
    agent.until_in_use(&[near, far]);
    agent.end()?;
    Ok(())
}

/// The annotation of this node's sensor says `socket`, and nothing listens there.
fn node_refuses(cluster: &mut Cluster) -> Outcome {
    cluster.add_namespace("node-refuses")?;
    let (near, far) = (&cluster.lab.sensor, &cluster.second);
    let refusing = sensor("near", near).annotation("podspan.dev/receiver", "socket");
    cluster.add_sensor("node-refuses", &refusing)?;
    cluster.add_sensor("node-refuses", &sensor("far", far).node("node-2"))?;
    let agent = cluster.podspan("node-refuses", &[("NODE_NAME", "node-1")])?;
    agent.until_in_use(&[near]);
    let tap = Tap::start(far)?;
    let stream = Stream::start(&cluster.lab, 16, 1000)?;
    agent.until_logged(&["WARN", "is closed", "the other sensor gets its flows"]);
    agent.until_in_use(&[far]);
    thread::sleep(Duration::from_millis(500));
    // When a socket listens, this sensor is preferred again.
    let socket = near.namespace.run(|| UdpSocket::bind((near.ipv4, PORT)))?;
    agent.until_in_use(&[near]);
    thread::sleep(Duration::from_millis(500));
    stream.stop();
    let (_, log) = agent.end()?;
    drop(socket);
    let (copies, _) = tap.stop()?;
    assert!(copies.len() > 300, "{} copies", copies.len());
    let said = "sensors in use: 10.77.0.4:4789 listed=2 ejected=1 on_other_nodes=0";
    assert!(log.contains(said), "{log}");
    Ok(())
}

fn ipv6(cluster: &mut Cluster) -> Outcome {
    cluster.add_namespace("ipv6")?;
    let lab = &cluster.lab;
    let draft = PodDraft::new("a")
        .label("run", "zeek")
        .address(lab.sensor.ipv6);
    cluster.add_sensor("ipv6", &draft.ready())?;
    let tap = Tap::start(&lab.sensor)?;
    let agent = cluster.podspan("ipv6", &[])?;
    agent.until_in_use_at(&[lab.sensor.ipv6.into()]);
    let stream = Stream::start(lab, 4, 1000)?;
    thread::sleep(Duration::from_millis(300));
    let sent = stream.stop();
    let (totals, _) = agent.end()?;
    let (copies, datagrams) = tap.stop()?;
    assert_eq!(copies.len(), sent as usize);
    assert_eq!(datagrams, totals.get("datagrams_sent"));
    Ok(())
}

fn early(cluster: &mut Cluster) -> Outcome {
    cluster.add_namespace("early")?;
    cluster.add_sensor("early", &sensor("a", &cluster.lab.sensor))?;
    cluster.plane.freeze(Component::ApiServer)?;
    // This waits until it captures.
    let agent = cluster.podspan("early", &[])?;
    let stream = Stream::start(&cluster.lab, 4, 1000)?;
    // The wait for the sensors ends after its time.
    agent.until_logged(&["WARN", "no list of sensors", "START_WAIT"]);
    agent.until_logged(&["WARN", "frames are not mirrored", "no_sensor"]);
    cluster.plane.thaw(Component::ApiServer)?;
    agent.until_in_use(&[&cluster.lab.sensor]);
    let tap = Tap::start(&cluster.lab.sensor)?;
    thread::sleep(Duration::from_millis(300));
    stream.stop();
    agent.end()?;
    let (copies, _) = tap.stop()?;
    assert!(copies.len() > 200, "{} copies", copies.len());
    Ok(())
}

/// All frames are mirrored from the first one on, although the sensors are found later.
fn no_loss(cluster: &mut Cluster) -> Outcome {
    cluster.add_namespace("no-loss")?;
    cluster.add_sensor("no-loss", &sensor("a", &cluster.lab.sensor))?;
    for _ in 0..5 {
        let tap = Tap::start(&cluster.lab.sensor)?;
        let stream = Stream::start(&cluster.lab, 16, 2000)?;
        let agent = cluster.podspan("no-loss", &[])?;
        let captured_from = stream.sent();
        agent.until_in_use(&[&cluster.lab.sensor]);
        let sent = stream.stop();
        assert_all_mirrored(agent, tap, captured_from..sent)?;
    }
    Ok(())
}

fn late(cluster: &mut Cluster) -> Outcome {
    cluster.add_namespace("late")?;
    cluster.add_sensor("late", &sensor("a", &cluster.lab.sensor))?;
    let tap = Tap::start(&cluster.lab.sensor)?;
    cluster.plane.freeze(Component::ApiServer)?;
    let agent = cluster.podspan("late", &[("START_WAIT", "60s")])?;
    let stream = Stream::start(&cluster.lab, 16, 1000)?;
    thread::sleep(Duration::from_secs(3));
    assert_eq!(tap.count(), 0);
    cluster.plane.thaw(Component::ApiServer)?;
    agent.until_in_use(&[&cluster.lab.sensor]);
    let sent = stream.stop();
    assert!(sent > 2000, "{sent}");
    assert_all_mirrored(agent, tap, 0..sent)
}

/// Asserts that no frame was dropped, and that the frames with these numbers arrived at the tap.
fn assert_all_mirrored(agent: Agent, tap: Tap, numbers: Range<u32>) -> Outcome {
    let (totals, log) = agent.end()?;
    totals.assert_lossless_but(&[]);
    let (copies, _) = tap.stop()?;
    let missing = missing(numbers.end, &copies);
    let missing = missing.iter().filter(|number| numbers.contains(number));
    assert_eq!(missing.count(), 0, "{log}");
    Ok(())
}
