//! Interfaces and sensors are added, removed and changed, and podspan continues.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use testbed::traffic::{Family, UdpStream, await_ping, udp_datagrams, udp_stream};
use testbed::{Decoded, Frame, Lab, Link, Process, veth};

use crate::scene::{LIMIT, PORT, Scene, VNI, decoded_at, podspan, sensor_of};
use crate::totals::Totals;

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "an_interface_that_is_missing_is_waited_for",
        missing_interface,
    ),
    (
        "an_interface_that_goes_down_and_up_is_captured_again",
        down_and_up,
    ),
    (
        "an_interface_that_is_made_again_is_captured_again",
        made_again,
    ),
    ("an_interface_that_is_renamed_is_still_captured", renamed),
    ("several_interfaces_are_captured_at_once", several),
    (
        "a_sensor_that_comes_back_gets_copies_within_a_second",
        sensor_returns,
    ),
    ("the_flows_of_a_missing_sensor_move_to_the_others", failover),
    ("a_changed_mtu_is_applied", mtu_changes),
    (
        "a_smaller_path_mtu_is_found_under_traffic",
        path_mtu_under_traffic,
    ),
    ("what_is_in_the_ring_is_sent_before_the_end", drain),
];

/// The pod's address on the second link.
pub(crate) const NET1: &str = "10.99.0.1";

/// Sends a stream of datagrams, and returns the time until the first copy is at the sensor.
fn until_mirrored(lab: &Lab) -> Duration {
    let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let sniffer = decoded_at(&lab.sensor);
    let stream = UdpStream {
        size: 64,
        count: 300,
        per_second: 200,
    };
    udp_stream(&lab.client, &lab.pod, Family::V4, stream).unwrap();
    let (Decoded { sink, .. }, _) = sniffer.stop().unwrap();
    let first = sink.iter().find(|frame| frame.bytes.len() == 64 + 42);
    first
        .expect("a datagram is mirrored in 1.5 s")
        .time
        .saturating_sub(start)
}

fn missing_interface() {
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let sensor = sensor_of(&lab, Family::V4);
    let environment = [("SENSOR", sensor.as_str()), ("INTERFACE", "net1")];
    let mut agent = Process::spawn(podspan(&lab, &environment)).unwrap();
    agent
        .wait_for_output("no such interface; waiting for it", LIMIT)
        .unwrap();
    add_net1(&lab);
    agent
        .wait_for_output("capturing (index", Duration::from_secs(3))
        .unwrap();
    ping_over(&lab);
    agent.terminate().unwrap();
    assert!(agent.wait(LIMIT).unwrap().success());
    assert!(Totals::read(&agent.stderr()).get("frames_mirrored") > 0);
}

/// Adds a second link between pod and client, `net1` at both ends, with addresses and up. Returns the
/// pod's end and the client's.
pub(crate) fn add_net1(lab: &Lab) -> (Link, Link) {
    let (near, far) = veth(
        (&lab.pod.namespace, "net1"),
        (&lab.client.namespace, "net1"),
    )
    .unwrap();
    for (end, address) in [(&near, NET1), (&far, "10.99.0.2")] {
        end.add_address(address.parse().unwrap(), 24).unwrap();
        end.up().unwrap();
    }
    (near, far)
}

fn ping_over(lab: &Lab) {
    await_ping(&lab.client.namespace, NET1.parse().unwrap(), LIMIT).unwrap();
}

fn down_and_up() {
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let mut scene = Scene::start(lab, Family::V4);
    udp_datagrams(&scene.lab.client, &scene.lab.pod, Family::V4, &[100; 10]).unwrap();
    scene.lab.pod.eth0.down().unwrap();
    scene.agent.wait_for_output("down", LIMIT).unwrap();
    scene.lab.pod.eth0.up().unwrap();
    await_ping(
        &scene.lab.client.namespace,
        scene.lab.pod.ipv4.into(),
        LIMIT,
    )
    .unwrap();
    await_ping(
        &scene.lab.pod.namespace,
        scene.lab.sensor.ipv4.into(),
        LIMIT,
    )
    .unwrap();
    assert!(until_mirrored(&scene.lab) < Duration::from_secs(1));
    scene.end();
}

fn made_again() {
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let sensor = sensor_of(&lab, Family::V4);
    add_net1(&lab);
    let environment = [("SENSOR", sensor.as_str()), ("INTERFACE", "net1")];
    let mut agent = Process::spawn(podspan(&lab, &environment)).unwrap();
    agent.wait_for_output("capturing (index", LIMIT).unwrap();
    ping_over(&lab);
    for _ in 0..2 {
        let before = agent.stderr().matches("capturing").count();
        lab.pod.namespace.link("net1").unwrap().delete().unwrap();
        add_net1(&lab);
        let end = Instant::now() + Duration::from_secs(3);
        while agent.stderr().matches("capturing").count() == before {
            assert!(Instant::now() < end, "{}", agent.stderr());
            thread::sleep(Duration::from_millis(20));
        }
        ping_over(&lab);
    }
    agent.terminate().unwrap();
    assert!(agent.wait(LIMIT).unwrap().success());
    // Each time an echo request and its answer, at least.
    assert!(Totals::read(&agent.stderr()).get("frames_mirrored") >= 6);
}

fn renamed() {
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let sensor = sensor_of(&lab, Family::V4);
    let (mut near, _far) = add_net1(&lab);
    let environment = [("SENSOR", sensor.as_str()), ("INTERFACE", "net1")];
    let mut agent = Process::spawn(podspan(&lab, &environment)).unwrap();
    agent.wait_for_output("capturing (index", LIMIT).unwrap();
    near.rename("net2").unwrap();
    agent.wait_for_output("net2", LIMIT).unwrap();
    near.up().unwrap();
    ping_over(&lab);
    agent.terminate().unwrap();
    assert!(agent.wait(LIMIT).unwrap().success());
    assert!(Totals::read(&agent.stderr()).get("frames_mirrored") >= 2);
}

fn several() {
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let sensor = sensor_of(&lab, Family::V4);
    add_net1(&lab);
    let environment = [("SENSOR", sensor.as_str()), ("INTERFACE", "eth0,net1,lo")];
    let mut scene = Scene::start_with(lab, &environment, Vec::<Frame>::new());
    scene.agent.wait_for_output("interface=lo", LIMIT).unwrap();
    ping_over(&scene.lab);
    udp_datagrams(&scene.lab.client, &scene.lab.pod, Family::V4, &[200; 5]).unwrap();
    await_ping(
        &scene.lab.pod.namespace,
        "127.0.0.1".parse().unwrap(),
        LIMIT,
    )
    .unwrap();
    let (_lab, outcome) = scene.end();
    let holds = |address: [u8; 4]| {
        outcome
            .inner
            .iter()
            .any(|frame| frame.bytes.windows(4).any(|bytes| bytes == address))
    };
    assert!(holds([10, 99, 0, 2]) && holds([10, 77, 0, 1]) && holds([127, 0, 0, 1]));
}

fn sensor_returns() {
    let lab = Lab::builder().build().unwrap();
    let scene = Scene::start(lab, Family::V4);
    until_mirrored(&scene.lab);
    scene.lab.sensor.eth0.down().unwrap();
    let stream = UdpStream {
        size: 64,
        count: 1000,
        per_second: 200,
    };
    udp_stream(&scene.lab.client, &scene.lab.pod, Family::V4, stream).unwrap();
    scene.lab.sensor.eth0.up().unwrap();
    await_ping(
        &scene.lab.sensor.namespace,
        scene.lab.client.ipv4.into(),
        LIMIT,
    )
    .unwrap();
    let time = until_mirrored(&scene.lab);
    assert!(time < Duration::from_secs(1), "{time:?}");
    let Scene { mut agent, .. } = scene;
    agent.terminate().unwrap();
    assert!(agent.wait(LIMIT).unwrap().success());
    Totals::read(&agent.stderr());
}

/// Two sensors, of which one is missing at first. Later the client's host has its address.
fn failover() {
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let missing = "10.77.0.99";
    let both = format!("{},{missing}:{PORT}", sensor_of(&lab, Family::V4));
    let environment = [("SENSOR", both.as_str()), ("SPREAD", "flows")];
    let mut agent = Process::spawn(podspan(&lab, &environment)).unwrap();
    agent.wait_for_output("capturing (index", LIMIT).unwrap();

    // The traffic between client and pod continues, one flow after the other.
    let flows = |count: usize| {
        let stream = UdpStream {
            size: 64,
            count: 20,
            per_second: 400,
        };
        for _ in 0..count {
            udp_stream(&lab.client, &lab.pod, Family::V4, stream).unwrap();
        }
    };
    let end = Instant::now() + LIMIT;
    while !agent.stderr().contains("the other sensor gets its flows") {
        assert!(Instant::now() < end, "{}", agent.stderr());
        flows(4);
    }
    let said = format!("the other sensor gets its flows address={missing}:{PORT}");
    assert!(agent.stderr().contains(&said), "{}", agent.stderr());
    let other = decoded_at(&lab.sensor);
    flows(16);
    thread::sleep(Duration::from_millis(100));
    let (Decoded { sink, .. }, _) = other.stop().unwrap();
    let copies = sink
        .iter()
        .filter(|frame| frame.bytes.len() == 64 + 42)
        .count();
    assert_eq!(copies, 16 * 20, "every flow goes to the reachable sensor");

    lab.client
        .eth0
        .add_address(missing.parse().unwrap(), 24)
        .unwrap();
    agent.wait_for_output("gets its flows back", LIMIT).unwrap();
    agent.terminate().unwrap();
    assert!(agent.wait(LIMIT).unwrap().success());
    Totals::read(&agent.stderr());
}

/// The kernel has no path MTU for the sensor before the first datagrams.
fn path_mtu_under_traffic() {
    let lab = Lab::builder().routed(1400).build().unwrap();
    let mut scene = Scene::start(lab, Family::V4);
    let sizes = [1400; 40];
    udp_datagrams(&scene.lab.client, &scene.lab.pod, Family::V4, &sizes).unwrap();
    scene.agent.wait_for_output("path_mtu=1400", LIMIT).unwrap();
    let before = until_mirrored(&scene.lab);
    assert!(before < Duration::from_secs(1));
    udp_datagrams(&scene.lab.client, &scene.lab.pod, Family::V4, &sizes).unwrap();
    let (_lab, outcome) = scene.end();
    // Only datagrams that are sent before the router's report are lost.
    let lost = outcome.totals.get("datagrams_sent") - outcome.inner.len() as u64;
    assert!(
        lost <= 80,
        "{lost} of {}",
        outcome.totals.get("datagrams_sent")
    );
}

fn mtu_changes() {
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let mut scene = Scene::start(lab, Family::V4);
    for (mtu, sizes) in [(1300, [1200_usize; 5]), (1500, [1400; 5])] {
        for end in [&scene.lab.pod.eth0, &scene.lab.pod.port] {
            end.set_mtu(mtu).unwrap();
        }
        let expected = format!("path_mtu={mtu}");
        scene
            .agent
            .wait_for_output(&expected, Duration::from_secs(3))
            .unwrap();
        udp_datagrams(&scene.lab.client, &scene.lab.pod, Family::V4, &sizes).unwrap();
    }
    let (_lab, outcome) = scene.end();
    outcome.totals.assert_lossless_but(&[]);
}

fn drain() {
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let scene = Scene::start(lab, Family::V4);
    scene.agent.signal(testbed::Signal::SIGSTOP).unwrap();
    let stream = UdpStream {
        size: 500,
        count: 5000,
        per_second: u32::MAX,
    };
    let stream = udp_stream(&scene.lab.client, &scene.lab.pod, Family::V4, stream).unwrap();
    scene.agent.terminate().unwrap();
    scene.agent.signal(testbed::Signal::SIGCONT).unwrap();
    let (_lab, outcome) = scene.ended();
    let copies = outcome
        .inner
        .iter()
        .filter(|frame| frame.bytes.len() == 542)
        .count();
    assert_eq!(copies as u64, stream.sent);
    outcome.totals.assert_lossless_but(&[]);
}
