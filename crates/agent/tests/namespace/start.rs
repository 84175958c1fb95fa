//! A start that fails and is repeated, and one that waits for the first list of sensors.

use std::thread;
use std::time::{Duration, Instant};

use testbed::traffic::{Family, UdpStream, udp_datagrams, udp_stream};
use testbed::{Lab, Process};

use crate::scene::{LIMIT, VNI, podspan, sensor_of};
use crate::totals::Totals;

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "with_on_failure_idle_a_missing_net_raw_keeps_it_alive_until_sigterm",
        idle_without_net_raw,
    ),
    (
        "with_on_failure_idle_it_mirrors_when_the_cause_is_fixed",
        cause_is_fixed,
    ),
    (
        "without_a_list_of_sensors_the_wait_ends_after_start_wait",
        wait_ends_with_time,
    ),
    (
        "without_a_list_of_sensors_the_wait_ends_at_half_a_ring",
        wait_ends_at_half,
    ),
    ("a_wait_of_0s_is_none", no_wait),
    ("sigterm_ends_the_wait_for_the_sensors", end_of_the_wait),
];

/// A name that cannot be found: there is no API server.
const NOT_FOUND: (&str, &str) = ("SENSOR", "zeek");

fn idle_without_net_raw() {
    let lab = Lab::builder().build().unwrap();
    let sensor = sensor_of(&lab, Family::V4);
    let start = || {
        let program = env!("CARGO_BIN_EXE_podspan");
        let pod = &lab.pod.namespace;
        let mut command = pod.command_with_capabilities(program, &[]);
        command.env_clear();
        command.env("SENSOR", &sensor).env("ON_FAILURE", "idle");
        let mut agent = Process::spawn(command).unwrap();
        agent.wait_for_output("add: [NET_RAW]", LIMIT).unwrap();
        agent
    };
    let mut agent = start();
    thread::sleep(Duration::from_millis(3500));
    assert!(agent.try_wait().unwrap().is_none(), "{}", agent.stderr());
    let log = agent.stderr();
    // There were three attempts, and nothing new to log.
    assert_eq!(log.matches("ON_FAILURE=idle").count(), 1, "{log}");
    assert!(log.contains("next attempt in 1s"), "{log}");
    let used = agent.cpu_time().unwrap();
    assert!(used < Duration::from_millis(500), "{used:?}");
    let begun = Instant::now();
    agent.terminate().unwrap();
    assert!(agent.wait(LIMIT).unwrap().success(), "{}", agent.stderr());
    // The next attempt would have been seconds later.
    assert!(begun.elapsed() < Duration::from_secs(3));
    let mut agent = start();
    agent.interrupt().unwrap();
    assert!(agent.wait(LIMIT).unwrap().success(), "{}", agent.stderr());
}

/// At first the kernel refuses podspan's source ports.
fn cause_is_fixed() {
    const FIRST_FREE: &str = "ipv4/ip_unprivileged_port_start";
    const DYNAMIC: &str = "ipv4/ip_local_port_range";
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let sensor = sensor_of(&lab, Family::V4);
    let environment = [("SENSOR", sensor.as_str())];
    lab.pod
        .namespace
        .set_sysctl(DYNAMIC, "65000 65535")
        .unwrap();
    lab.pod.namespace.set_sysctl(FIRST_FREE, "65000").unwrap();
    let mut agent = Process::spawn(podspan(&lab, &environment)).unwrap();
    assert_eq!(agent.wait(LIMIT).unwrap().code(), Some(71));

    let environment = [environment[0], ("ON_FAILURE", "idle")];
    let mut agent = Process::spawn(podspan(&lab, &environment)).unwrap();
    agent
        .wait_for_output("bind: Permission denied", LIMIT)
        .unwrap();
    assert!(agent.stderr().contains("ON_FAILURE=idle"));
    lab.pod.namespace.set_sysctl(FIRST_FREE, "1024").unwrap();
    agent
        .wait_for_output("the start has succeeded", LIMIT)
        .unwrap();
    agent.wait_for_output("capturing (index", LIMIT).unwrap();
    let status = agent.status_field("CapPrm").unwrap();
    assert_eq!(status.trim_start_matches('0'), "", "{status}");
    udp_datagrams(&lab.client, &lab.pod, Family::V4, &[100; 20]).unwrap();
    let (totals, _) = end(agent);
    totals.assert_lossless_but(&[]);
    assert!(totals.get("frames_mirrored") >= 40, "{totals:?}");
}

/// Starts podspan with a name that cannot be found.
fn start_without_sensors(lab: &Lab, more: &[(&str, &str)]) -> Process {
    let mut command = podspan(lab, &[NOT_FOUND]);
    command.envs(more.iter().copied());
    let mut agent = Process::spawn(command).unwrap();
    agent.wait_for_output("capturing (index", LIMIT).unwrap();
    agent
}

fn end(mut agent: Process) -> (Totals, String) {
    agent.terminate().unwrap();
    assert!(agent.wait(LIMIT).unwrap().success(), "{}", agent.stderr());
    let log = agent.stderr();
    (Totals::read(&log), log)
}

/// Asserts that every frame was counted as `no_sensor`, and that there were `at_least` as many.
#[track_caller]
fn assert_none_mirrored(totals: &Totals, at_least: u64) {
    let seen = totals.get("frames_seen");
    assert!(seen >= at_least, "{totals:?}");
    assert_eq!(totals.frames_dropped["no_sensor"], seen, "{totals:?}");
    assert_eq!(totals.get("ring_drops"), 0, "{totals:?}");
}

fn wait_ends_with_time() {
    let lab = Lab::builder().build().unwrap();
    let mut agent = start_without_sensors(&lab, &[("START_WAIT", "1500ms")]);
    udp_datagrams(&lab.client, &lab.pod, Family::V4, &[100; 20]).unwrap();
    agent.wait_for_output("no list of sensors", LIMIT).unwrap();
    agent
        .wait_for_output("frames are not mirrored", LIMIT)
        .unwrap();
    let (totals, log) = end(agent);
    assert_none_mirrored(&totals, 40);
    let line = log.lines().find(|line| line.contains("no list of sensors"));
    let line = line.unwrap();
    assert!(
        line.contains("WARN") && line.contains("START_WAIT"),
        "{line}"
    );
    let waited = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("waited=")?.strip_suffix('s'));
    let waited: f64 = waited.unwrap().parse().unwrap();
    assert!(waited >= 1.5, "{line}");
    assert_eq!(log.matches("no list of sensors").count(), 1, "{log}");
}

fn wait_ends_at_half() {
    let lab = Lab::builder().build().unwrap();
    let settings = [("START_WAIT", "60s"), ("RING_SIZE", "64MiB")];
    let mut agent = start_without_sensors(&lab, &settings);
    let flood = |count| {
        let stream = UdpStream {
            size: 1000,
            count,
            per_second: u32::MAX,
        };
        let outcome = udp_stream(&lab.client, &lab.pod, Family::V4, stream).unwrap();
        outcome.sent
    };
    // More than is copied out of the ring, and far less than half of the ring: podspan waits and
    // sleeps.
    let mut sent = flood(4000);
    thread::sleep(Duration::from_millis(500));
    let before = agent.cpu_time().unwrap();
    thread::sleep(Duration::from_secs(2));
    let used = agent.cpu_time().unwrap().saturating_sub(before);
    assert!(used < Duration::from_millis(200), "{used:?} in 2 s");
    assert!(
        !agent.stderr().contains("no list of sensors"),
        "{}",
        agent.stderr()
    );
    sent += flood(40_000);
    agent.wait_for_output("no list of sensors", LIMIT).unwrap();
    let (totals, log) = end(agent);
    assert_none_mirrored(&totals, sent);
    let line = log.lines().find(|line| line.contains("no list of sensors"));
    assert!(line.unwrap().contains("RING_SIZE"), "{log}");
}

fn no_wait() {
    let lab = Lab::builder().build().unwrap();
    let mut agent = start_without_sensors(&lab, &[("START_WAIT", "0s")]);
    udp_datagrams(&lab.client, &lab.pod, Family::V4, &[100; 20]).unwrap();
    agent
        .wait_for_output("frames are not mirrored", LIMIT)
        .unwrap();
    let (totals, log) = end(agent);
    assert_none_mirrored(&totals, 40);
    assert!(!log.contains("no list of sensors"), "{log}");
}

fn end_of_the_wait() {
    let lab = Lab::builder().build().unwrap();
    let agent = start_without_sensors(&lab, &[("START_WAIT", "60s")]);
    udp_datagrams(&lab.client, &lab.pod, Family::V4, &[100; 20]).unwrap();
    // The limit of `end` is shorter than START_WAIT.
    let (totals, _) = end(agent);
    assert_none_mirrored(&totals, 40);
}
