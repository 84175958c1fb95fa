//! `RING_SIZE=auto` with a CPU quota, and with little memory.
//!
//! The quota is a real one of a control group where the user may make one (root), else the test's own. Both
//! stop podspan for most of each 100 ms. The traffic is what the ring is made for: 1 Gbit/s for 100 ms,
//! and then a pause until podspan has sent it. The same traffic with a small ring shows that it is too much
//! for it.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use testbed::traffic::{Family, tcp_bulk, udp_datagrams};
use testbed::{ControlGroup, Lab, Process};

use crate::metrics::Samples;
use crate::scene::{LIMIT, VNI, decoded_at, podspan, sensor_of};
use crate::totals::Totals;

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "a_throttled_podspan_loses_nothing_where_a_small_ring_loses_frames",
        throttled,
    ),
    (
        "without_memory_for_the_computed_ring_it_mirrors_with_a_smaller_one",
        short_memory,
    ),
];

const QUOTA: Duration = Duration::from_millis(25);
const BURSTS: usize = 3;
const SMALL: &str = "2MiB";

/// Frames that podspan must split, so they need more of its CPU time than of their sender's.
const SEGMENT: usize = 600;
const FRAME: usize = 64 * SEGMENT;
const FRAMES_PER_SECOND: u32 = 3255;
const BURST: Duration = Duration::from_millis(100);

fn throttled() {
    let auto = bursts("auto");
    let small = bursts(SMALL);
    for (size, totals) in [("auto", &auto), (SMALL, &small)] {
        let [drops, packets] = ["ring_drops", "ring_packets"].map(|name| totals.get(name));
        println!("RING_SIZE={size}: {drops} of {packets} frames lost");
    }
    auto.assert_lossless_but(&[]);
    // On a busy machine the sender is slow, too.
    assert!(
        small.get("ring_drops") * 20 > small.get("ring_packets"),
        "{small:?}"
    );
}

/// Mirrors some bursts with a ring of this size.
fn bursts(ring_size: &str) -> Totals {
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let sensor = sensor_of(&lab, Family::V4);
    let mut command = podspan(&lab, &[("SENSOR", &sensor), ("RING_SIZE", ring_size)]);
    let group = ControlGroup::with_quota(QUOTA);
    if let Some(group) = &group {
        group.add(&mut command).unwrap();
    }
    let mut agent = Process::spawn(command).unwrap();
    agent.wait_for_output("capturing (index", LIMIT).unwrap();
    let simulated = group.is_none().then(|| agent.limit_cpu(QUOTA).unwrap());
    let receiver = lab.pod.namespace.run(|| UdpSocket::bind((lab.pod.ipv4, 0)));
    let receiver = receiver.unwrap();
    let any = (Ipv4Addr::UNSPECIFIED, 0);
    let sender = lab.client.namespace.run(|| UdpSocket::bind(any)).unwrap();
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    let segment = i32::try_from(SEGMENT).unwrap();
    setsockopt(&sender, sockopt::UdpGsoSegment, &segment).unwrap();
    for _ in 0..BURSTS {
        burst(&sender);
        wait_until_idle(&agent);
    }
    let is_auto = ring_size == "auto";
    if let Some(group) = &group {
        let periods = group.throttled().unwrap();
        println!("RING_SIZE={ring_size}: stopped by a control group in {periods} periods");
        // With a small ring it has less to do.
        assert!(periods > 0 || !is_auto, "the quota was not used up");
        let scraped = Samples::settled(&lab.pod).get("cpu_quota_throttled_periods_total");
        let later = group.throttled().unwrap();
        assert!(
            (periods..=later).contains(&scraped),
            "{periods}, {scraped}, {later}"
        );
    }
    agent.terminate().unwrap();
    assert!(agent.wait(LIMIT).unwrap().success());
    drop(simulated);
    let log = agent.stderr();
    let is_auto = ring_size == "auto";
    assert_eq!(
        log.contains("was computed (RING_SIZE=auto)"),
        is_auto,
        "{log}"
    );
    if is_auto && group.is_some() {
        assert!(log.contains("cpu_quota=\"25ms of each 100ms\""), "{log}");
    }
    Totals::read(&log)
}

fn burst(sender: &UdpSocket) {
    let start = Instant::now();
    let frame = vec![0x5a; FRAME];
    for number in 0.. {
        let due = Duration::from_secs(1) * number / FRAMES_PER_SECOND;
        if due > BURST {
            break;
        }
        thread::sleep(due.saturating_sub(start.elapsed()));
        sender.send(&frame).unwrap();
    }
}

/// Waits until podspan needs no more CPU time, for longer than a quota can stop it.
fn wait_until_idle(agent: &Process) {
    let end = Instant::now() + Duration::from_mins(1);
    let mut before = agent.cpu_time().unwrap();
    loop {
        thread::sleep(4 * BURST);
        let now = agent.cpu_time().unwrap();
        // Reading the counters takes less.
        if now.saturating_sub(before) < Duration::from_millis(2) {
            return;
        }
        assert!(Instant::now() < end, "podspan is still busy");
        before = now;
    }
}

/// The limit of the address space is such that the kernel cannot map the computed ring, nor half of it.
fn short_memory() {
    const MIB: u64 = 1 << 20;
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let sensor = sensor_of(&lab, Family::V4);
    // What podspan needs with a ring of 2 MiB.
    let mut first = Process::spawn(podspan(
        &lab,
        &[("SENSOR", &sensor), ("RING_SIZE", "2MiB"), ONE_HEAP],
    ))
    .unwrap();
    first.wait_for_output("capturing (index", LIMIT).unwrap();
    let needed = first.status_field("VmPeak").unwrap();
    let needed: u64 = needed.trim_end_matches("kB").trim().parse().unwrap();
    first.terminate().unwrap();
    assert!(first.wait(LIMIT).unwrap().success());

    let sniffer = decoded_at(&lab.sensor);
    let limit = needed + 5 * MIB / 1024;
    let mut agent = Process::spawn(limited(&lab, &sensor, limit)).unwrap();
    agent.wait_for_output("capturing (index", LIMIT).unwrap();
    udp_datagrams(&lab.client, &lab.pod, Family::V4, &[100; 100]).unwrap();
    tcp_bulk(&lab.client, &lab.pod, Family::V4, 1 << 20).unwrap();
    agent.terminate().unwrap();
    assert!(agent.wait(LIMIT).unwrap().success());
    thread::sleep(Duration::from_millis(100));
    let (decoded, _) = sniffer.stop().unwrap();
    assert!(decoded.decoder.anomalies().is_empty());
    let log = agent.stderr();
    assert!(log.contains("the kernel had no memory for rings"), "{log}");
    assert!(log.contains(" computed=24MiB size=6MiB"), "{log}");
    let totals = Totals::read(&log);
    totals.assert_lossless_but(&[]);
    assert_eq!(decoded.decoder.decoded(), totals.get("datagrams_sent"));
}

/// The C library reserves no address space for other threads' heaps.
const ONE_HEAP: (&str, &str) = ("MALLOC_ARENA_MAX", "1");

/// podspan with an address space of this many KiB.
fn limited(lab: &Lab, sensor: &str, kib: u64) -> Command {
    let podspan = podspan(lab, &[]);
    let program = podspan.get_program().to_owned();
    let mut command = lab
        .pod
        .namespace
        .command_with_capabilities("/bin/sh", &[testbed::Capability::CAP_NET_RAW]);
    command
        .args(["-c", "ulimit -v \"$1\" && exec \"$0\""])
        .arg(program)
        .arg(kib.to_string())
        .env_clear()
        .envs(
            podspan
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .envs([("SENSOR", sensor), ONE_HEAP]);
    command
}
