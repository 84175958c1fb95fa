//! Runs: several datagrams in one message, to sensors that are sockets. All kinds of traffic are verified
//! where such a sensor gets them, behind a vxlan device of the kernel. (At a UDP socket, the tests of
//! `transmit` verify them; its buffer would be too small here.)

use std::thread;
use std::time::Duration;

use testbed::traffic::{Family, TcpOutcome, ping};
use testbed::{Filter, Frame, Lab, LabBuilder, Offload, Process, Sniffer};

use crate::scene::{LIMIT, PORT, VNI, podspan, sensor_of};
use crate::streams::Streams;
use crate::totals::Totals;
use crate::truth::{compare_streams, mixed_traffic, verify_with_etherparse, verify_with_tshark};

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "runs_arrive_right_behind_the_kernels_vxlan_device_over_ipv4",
        || behind_a_device(&Lab::builder(), Family::V4, "on"),
    ),
    (
        "runs_arrive_right_behind_the_kernels_vxlan_device_over_ipv6",
        || behind_a_device(&Lab::builder(), Family::V6, "on"),
    ),
    (
        "runs_without_trailers_arrive_right_behind_the_kernels_vxlan_device",
        || behind_a_device(&Lab::builder(), Family::V4, "off"),
    ),
    ("runs_arrive_right_over_a_jumbo_underlay", || {
        behind_a_device(&Lab::builder().mtu(9000).client_mtu(1500), Family::V4, "on");
    }),
    ("runs_arrive_right_over_a_smaller_path_mtu", || {
        behind_a_device(&Lab::builder().routed(1400), Family::V4, "on");
    }),
];

/// Runs podspan while all kinds of traffic pass, and returns what the pod's interface saw.
fn mirror(lab: &Lab, underlay: Family, trailers: &str) -> (Streams, Vec<TcpOutcome>, Totals) {
    let in_pod = Sniffer::start(&lab.pod.namespace, "eth0", Filter::All, Streams::default());
    let in_pod = in_pod.unwrap();
    let sensor = sensor_of(lab, underlay);
    let environment = [
        ("SENSOR", sensor.as_str()),
        ("RECEIVER", "socket"),
        ("TRAILERS", trailers),
    ];
    let mut agent = Process::spawn(podspan(lab, &environment)).unwrap();
    agent.wait_for_output("capturing (index", LIMIT).unwrap();
    let connections = mixed_traffic(lab);
    agent.terminate().unwrap();
    let status = agent.wait(LIMIT).unwrap();
    let log = agent.stderr();
    assert!(status.success(), "{status}:\n{log}");
    assert!(!log.contains("WARN"), "{log}");
    // The last datagrams are still on their way.
    thread::sleep(Duration::from_millis(100));
    let (captured, capture) = in_pod.stop().unwrap();
    assert_eq!(capture.dropped, 0, "the capture in the pod lost nothing");
    (captured, connections, Totals::read(&log))
}

/// Every copy is right and in its place, and fewer messages than datagrams were sent.
fn verify(frames: &[Frame], captured: &Streams, connections: &[TcpOutcome], totals: &Totals) {
    let get = |name| totals.get(name);
    assert_eq!(frames.len() as u64, get("datagrams_sent"), "{totals:?}");
    verify_with_etherparse(frames);
    compare_streams(frames, captured, connections);
    verify_with_tshark(frames, captured);
    let (messages, sent) = (get("messages_sent"), get("datagrams_sent"));
    println!(
        "{sent} datagrams in {messages} messages, {} bytes in all, {} of trailers",
        get("bytes_sent"),
        get("trailer_bytes")
    );
    assert!(messages * 4 < sent, "{messages} messages of {sent}");
    // The bound of each run holds for their sum.
    assert!(
        get("trailer_bytes") * 5 <= get("bytes_sent") + 42 * sent,
        "{totals:?}"
    );
}

fn behind_a_device(lab: &LabBuilder, underlay: Family, trailers: &str) {
    let lab = lab.clone().vxlan(VNI, PORT).build().unwrap();
    if lab.router.is_some() {
        // The first datagram above the path MTU is lost; after it the kernel has the path MTU.
        let to = underlay.address(&lab.sensor);
        let _ = ping(&lab.pod.namespace, to, 1450, Duration::from_secs(1));
    }
    let (v4, v6) = lab.vxlan.clone().unwrap();
    let device = if underlay == Family::V4 { v4 } else { v6 };
    // Otherwise the kernel joins segments again before the sniffer sees them.
    device.set_offloads(&[Offload::Gro], false).unwrap();
    let behind =
        Sniffer::to_memory(&lab.sensor.namespace, device.name(), Filter::Incoming).unwrap();
    let before = device.statistics().unwrap();
    let (captured, connections, totals) = mirror(&lab, underlay, trailers);
    let after = device.statistics().unwrap();
    let (frames, capture) = behind.stop().unwrap();
    assert_eq!(capture.dropped, 0);
    totals.assert_lossless_but(&[]);
    assert_eq!(
        (after.rx_errors, after.rx_dropped),
        (before.rx_errors, before.rx_dropped)
    );
    assert_eq!(totals.get("trailer_bytes") > 0, trailers == "on");
    verify(&frames, &captured, &connections, &totals);
}
