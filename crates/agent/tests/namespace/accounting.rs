//! The equations of the accounting, with losses. [`Totals::read`](crate::totals::Totals::read)
//! asserts them at the end of every scene; here are the scenes where something is lost.

use std::thread;
use std::time::{Duration, Instant};

use testbed::traffic::{Family, UdpStream, udp_stream};
use testbed::verify::is_error_about;
use testbed::{Frame, Lab, Process, Signal};

use crate::metrics::Samples;
use crate::scene::{LIMIT, PORT, Scene, VNI, podspan, sensor_of};
use crate::totals::Totals;

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "a_ring_that_overflows_loses_frames_and_counts_them",
        overflow,
    ),
    (
        "a_sensor_without_a_route_loses_frames_and_counts_them",
        no_route,
    ),
    (
        "a_sensor_that_does_not_answer_is_named_in_the_log",
        silent_neighbour,
    ),
    ("frames_too_large_for_the_tunnel_are_counted", oversize),
    (
        "a_few_errors_about_podspans_own_datagrams_are_mirrored",
        own_errors,
    ),
];

const FLOOD: UdpStream = UdpStream {
    size: 1000,
    count: 20_000,
    per_second: u32::MAX,
};

fn overflow() {
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let sensor = sensor_of(&lab, Family::V4);
    let environment = [("SENSOR", sensor.as_str()), ("RING_SIZE", "2MiB")];
    let scene = Scene::start_with(lab, &environment, Vec::new());
    scene.agent.signal(Signal::SIGSTOP).unwrap();
    udp_stream(&scene.lab.client, &scene.lab.pod, Family::V4, FLOOD).unwrap();
    scene.agent.signal(Signal::SIGCONT).unwrap();
    udp_stream(
        &scene.lab.client,
        &scene.lab.pod,
        Family::V4,
        UdpStream {
            count: 100,
            ..FLOOD
        },
    )
    .unwrap();
    let samples = Samples::settled(&scene.lab.pod);
    let most = samples.get("ring_closed_blocks_max{interface=\"eth0\"}");
    assert_eq!((most, samples.get("ring_blocks")), (2, 2));
    let (_lab, outcome) = scene.end();
    assert!(
        outcome.totals.get("ring_drops") > 1000,
        "{:?}",
        outcome.totals
    );
    assert!(outcome.inner.len() > 100);
}

/// Runs podspan under traffic with an address that has no sensor, and returns its log.
fn log_without_sensor(sensor: &str, stay: Duration) -> String {
    let lab = Lab::builder().build().unwrap();
    let mut agent = Process::spawn(podspan(&lab, &[("SENSOR", sensor)])).unwrap();
    agent.wait_for_output("capturing (index", LIMIT).unwrap();
    let stream = UdpStream {
        count: 2000,
        per_second: 20_000,
        ..FLOOD
    };
    udp_stream(&lab.client, &lab.pod, Family::V4, stream).unwrap();
    thread::sleep(stay);
    udp_stream(&lab.client, &lab.pod, Family::V4, stream).unwrap();
    agent.terminate().unwrap();
    assert!(agent.wait(LIMIT).unwrap().success());
    agent.stderr()
}

fn no_route() {
    let log = log_without_sensor("203.0.113.1", Duration::from_secs(3));
    let totals = Totals::read(&log);
    assert!(totals.frames_dropped["unreachable"] >= 4000, "{totals:?}");
    assert_eq!(totals.get("frames_mirrored"), 0, "{totals:?}");
    assert!(
        log.contains("frames are not mirrored reason=\"unreachable\""),
        "{log}"
    );
    assert!(
        log.matches(" WARN ").count() <= 3,
        "changes, not frames: {log}"
    );
    assert_eq!(
        log.matches("frames are not mirrored").count(),
        1,
        "at the change: {log}"
    );
}

fn silent_neighbour() {
    // The kernel probes the neighbour three times before it reports an error.
    let log = log_without_sensor("10.77.0.77", Duration::from_secs(5));
    Totals::read(&log);
    let said =
        "a sensor is unreachable; it is the only sensor and stays in use address=10.77.0.77:4789";
    assert_eq!(log.matches(said).count(), 1, "{log}");
    assert!(!log.contains("flows"), "there are no others: {log}");
}

fn oversize() {
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let (client, pod) = (lab.client.clone(), lab.pod.clone());
    let scene = Scene::start(lab, Family::V4);
    let socket = testbed::traffic::RawSocket::open(&client.eth0).unwrap();
    let mut mpls = [&pod.mac[..], &client.mac, &[0x88, 0x47, 0, 1, 0x41, 64]].concat();
    mpls.resize(1514, 0);
    let mut malformed = [&pod.mac[..], &client.mac, &[0x08, 0x00, 0x43]].concat();
    malformed.resize(1514, 0);
    for _ in 0..3 {
        socket.send(&mpls).unwrap();
    }
    socket.send(&malformed).unwrap();
    let (_lab, outcome) = scene.end();
    assert_eq!(outcome.totals.frames_dropped.get("oversize"), Some(&3));
    assert_eq!(outcome.totals.frames_dropped.get("malformed"), Some(&1));
}

/// The sensor sniffs, so its host answers every datagram with a port unreachable error.
fn own_errors() {
    let lab = Lab::builder().build().unwrap();
    let sensor = &lab.sensor.namespace;
    sensor.set_sysctl("ipv4/icmp_ratelimit", "0").unwrap();
    // Older kernels have this setting only for all namespaces together; their thousand a second is
    // enough.
    let _ = sensor.set_sysctl("ipv4/icmp_msgs_per_sec", "1000000");
    let begin = Instant::now();
    let scene = Scene::start(lab, Family::V4);
    let stream = UdpStream {
        size: 64,
        count: 30_000,
        per_second: 10_000,
    };
    udp_stream(&scene.lab.client, &scene.lab.pod, Family::V4, stream).unwrap();
    let (_lab, outcome) = scene.end();
    let seconds = begin.elapsed().as_secs();
    let not_mirrored = outcome.totals.frames_dropped["own_error"];
    assert!(not_mirrored > 1000, "{:?}", outcome.totals);
    let is_error = |frame: &&Frame| is_error_about(&frame.bytes, PORT);
    let mirrored = outcome.inner.iter().filter(is_error).count() as u64;
    assert!(
        (10..=10 * (seconds + 2)).contains(&mirrored),
        "{mirrored} mirrored in {seconds} s, {not_mirrored} not"
    );
}
