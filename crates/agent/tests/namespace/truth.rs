//! The copies are verified by code from outside the project, with all offloads on, over every kind of
//! underlay.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testbed::traffic::{
    Family, Iperf3, TcpOutcome, iperf3, ping, refused_connection, reset_connection, tcp_bulk,
    tcp_requests, udp_datagrams, udp_segmented,
};
use testbed::verify::{Protocol, Verifier, is_error_about};
use testbed::{
    CaptureWriter, Filter, Frame, FrameRef, Host, Lab, SegmentationLimits, Sink, Sniffer, tshark,
};

use crate::scene::{LIMIT, PORT, Scene, VNI, own_frames, sensor_of};
use crate::streams::Streams;

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "a_gigabyte_each_way_arrives_without_a_gap",
        a_gigabyte_each_way,
    ),
    ("all_traffic_arrives_right_over_ipv4", over_ipv4),
    ("all_traffic_arrives_right_over_ipv6", over_ipv6),
    (
        "all_traffic_arrives_right_over_a_jumbo_underlay",
        over_jumbo,
    ),
    (
        "a_smaller_path_mtu_is_found_by_icmp_over_ipv4",
        over_a_small_path_mtu_v4,
    ),
    (
        "a_smaller_path_mtu_is_found_by_icmp_over_ipv6",
        over_a_small_path_mtu_v6,
    ),
    (
        "the_kernels_vxlan_device_accepts_every_datagram_over_ipv4",
        kernel_device_v4,
    ),
    (
        "the_kernels_vxlan_device_accepts_every_datagram_over_ipv6",
        kernel_device_v6,
    ),
    ("big_tcp_arrives_as_segments", big_tcp),
];

const TSHARK_LIMIT: Duration = Duration::from_mins(2);
/// Payloads of one byte to many fragments.
const UDP_SIZES: [usize; 12] = [
    1, 2, 100, 1200, 1400, 1422, 1423, 1472, 1473, 3000, 5000, 8900,
];
const PING_SIZES: [usize; 5] = [64, 1400, 1472, 4000, 8000];

fn over_ipv4() {
    everything(&Lab::builder().vxlan(VNI, 4789), Family::V4);
}

fn over_ipv6() {
    everything(&Lab::builder().vxlan(VNI, 4789), Family::V6);
}

fn over_jumbo() {
    everything(&Lab::builder().mtu(9000).client_mtu(1500), Family::V4);
}

fn over_a_small_path_mtu_v4() {
    everything(&Lab::builder().routed(1400), Family::V4);
}

fn over_a_small_path_mtu_v6() {
    everything(&Lab::builder().routed(1400), Family::V6);
}

/// Sends every kind of traffic and verifies the copies.
fn everything(lab: &testbed::LabBuilder, underlay: Family) {
    let lab = lab.build().unwrap();
    if lab.router.is_some() {
        // The first datagram above the path MTU is lost; after it the kernel has the path MTU.
        let to = underlay.address(&lab.sensor);
        let _ = ping(&lab.pod.namespace, to, 1450, Duration::from_secs(1));
    }
    let in_pod = Sniffer::start(&lab.pod.namespace, "eth0", Filter::All, Streams::default());
    let in_pod = in_pod.unwrap();
    let scene = Scene::start(lab, underlay);
    let connections = mixed_traffic(&scene.lab);
    let (lab, outcome) = scene.end();
    let (captured, capture) = in_pod.stop().unwrap();
    assert_eq!(capture.dropped, 0, "the capture in the pod lost nothing");

    outcome.totals.assert_lossless_but(&[]);
    let (pod, sensor) = (underlay.address(&lab.pod), underlay.address(&lab.sensor));
    assert_eq!(
        own_frames(&outcome.inner, pod, sensor),
        0,
        "no frame of podspan"
    );
    verify_with_etherparse(&outcome.inner);
    compare_streams(&outcome.inner, &captured, &connections);
    verify_with_tshark(&outcome.inner, &captured);
}

pub(crate) fn mixed_traffic(lab: &Lab) -> Vec<TcpOutcome> {
    for namespace in [&lab.client.namespace, &lab.pod.namespace] {
        namespace.set_sysctl("ipv4/tcp_ecn", "1").unwrap();
    }
    let (client, pod) = (&lab.client, &lab.pod);
    let mut connections = Vec::new();
    for family in Family::BOTH {
        for (from, to) in [(client, pod), (pod, client)] {
            let bodies = [(10, 100), (3000, 20), (0, 70_000), (100_000, 5), (1, 1)];
            connections.push(tcp_requests(from, to, family, &bodies).unwrap());
            connections.push(tcp_bulk(from, to, family, 8 << 20).unwrap());
            udp_datagrams(from, to, family, &UDP_SIZES).unwrap();
            udp_segmented(from, to, family, 1200, 40_000).unwrap();
            reset_connection(from, to, family).unwrap();
            refused_connection(from, to, family).unwrap();
            for size in PING_SIZES {
                ping(&from.namespace, family.address(to), size, LIMIT).unwrap();
            }
        }
    }
    connections
}

pub(crate) fn verify_with_etherparse(frames: &[Frame]) {
    let mut verifier = Verifier::new();
    for frame in frames {
        verifier.verify(&frame.bytes);
    }
    assert_eq!(verifier.wrong(), 0, "{:#?}", verifier.counts());
    for protocol in [
        Protocol::Icmp,
        Protocol::Icmpv6,
        Protocol::Tcp,
        Protocol::Tcp6,
        Protocol::Udp,
        Protocol::Udp6,
        Protocol::Fragment,
    ] {
        assert!(
            verifier.counts().contains_key(&protocol),
            "{protocol:?} was seen"
        );
    }
}

/// The copies are the captured frames, byte for byte and in their order. Joined, they are the streams
/// that the applications sent.
pub(crate) fn compare_streams(frames: &[Frame], captured: &Streams, connections: &[TcpOutcome]) {
    let mut streams = Streams::default();
    for frame in frames {
        streams.add(&frame.bytes);
    }
    streams.assert_same(captured);
    streams.assert_hold(connections);
    assert!(
        streams.flags.iter().all(|count| *count > 0),
        "CWR ECE PSH FIN {:?}",
        streams.flags
    );
    assert!(streams.timestamps > 0 && streams.sack_permitted > 0);
}

pub(crate) fn verify_with_tshark(frames: &[Frame], captured: &Streams) {
    let folder = tempfile::tempdir().unwrap();
    let mut file = CaptureWriter::create(folder.path().join("inner.pcapng")).unwrap();
    // tshark reports the checksum of a truncated quotation as bad.
    let verified: Vec<&Frame> = frames
        .iter()
        .filter(|frame| !is_error_about(&frame.bytes, PORT))
        .collect();
    for frame in &verified {
        file.write(frame.as_ref()).unwrap();
    }
    let findings = tshark::examine(&file.finish().unwrap(), TSHARK_LIMIT).unwrap();
    assert_eq!(findings.frames, verified.len() as u64);
    assert_eq!(findings.wrong(), 0, "{findings:?}");
    let disorder = findings.lost_segment
        + findings.ack_lost_segment
        + findings.retransmission
        + findings.out_of_order;
    // Retransmissions of the kernel count as disorder too; they are on the wire as well.
    assert!(disorder == 0 || captured.out_of_order > 0, "{findings:?}");
}

fn kernel_device_v4() {
    kernel_device(Family::V4);
}

fn kernel_device_v6() {
    kernel_device(Family::V6);
}

/// The receiver is the kernel's vxlan device; its counters show whether it dropped anything.
fn kernel_device(underlay: Family) {
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let (v4, v6) = lab.vxlan.clone().unwrap();
    let device = if underlay == Family::V4 { v4 } else { v6 };
    let behind =
        Sniffer::to_memory(&lab.sensor.namespace, device.name(), Filter::Incoming).unwrap();
    let before = device.statistics().unwrap();
    let in_pod = Sniffer::start(&lab.pod.namespace, "eth0", Filter::All, Streams::default());
    let in_pod = in_pod.unwrap();
    let scene = Scene::start(lab, underlay);
    let connections = mixed_traffic(&scene.lab);
    let (_lab, outcome) = scene.end();
    let after = device.statistics().unwrap();
    let (frames, capture) = behind.stop().unwrap();
    let (captured, _) = in_pod.stop().unwrap();

    outcome.totals.assert_lossless_but(&[]);
    assert_eq!(capture.dropped, 0);
    assert_eq!(
        after.rx_packets - before.rx_packets,
        outcome.totals.get("datagrams_sent")
    );
    assert_eq!(
        (after.rx_errors, after.rx_dropped),
        (before.rx_errors, before.rx_dropped)
    );
    let bytes = |frames: &[Frame]| frames.iter().map(|f| f.bytes.clone()).collect::<Vec<_>>();
    assert!(
        bytes(&frames) == bytes(&outcome.inner),
        "both receivers have the same frames"
    );
    compare_streams(&frames, &captured, &connections);
}

fn big_tcp() {
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let limits = SegmentationLimits {
        ipv6: 200_000,
        ipv4: 200_000,
    };
    for host in [&lab.client, &lab.pod] {
        host.eth0.set_segmentation_limits(limits).unwrap();
        host.port.set_segmentation_limits(limits).unwrap();
    }
    let in_pod = Sniffer::start(&lab.pod.namespace, "eth0", Filter::All, Largest::default());
    let in_pod = in_pod.unwrap();
    let scene = Scene::start(lab, Family::V4);
    let mut connections = Vec::new();
    for family in Family::BOTH {
        let (client, pod): (&Host, &Host) = (&scene.lab.client, &scene.lab.pod);
        connections.push(tcp_bulk(client, pod, family, 16 << 20).unwrap());
        connections.push(tcp_bulk(pod, client, family, 16 << 20).unwrap());
    }
    let (_lab, outcome) = scene.end();
    let (largest, _) = in_pod.stop().unwrap();
    assert!(
        largest.v4 > 65_600 && largest.v6 > 65_600,
        "there were BIG TCP frames: {largest:?}"
    );
    outcome.totals.assert_lossless_but(&[]);
    let mut verifier = Verifier::new();
    let mut streams = Streams::default();
    for frame in &outcome.inner {
        verifier.verify(&frame.bytes);
        streams.add(&frame.bytes);
    }
    assert_eq!(verifier.wrong(), 0, "{:#?}", verifier.counts());
    streams.assert_hold(&connections);
}

/// The longest frames of each family.
#[derive(Debug, Default)]
struct Largest {
    v4: usize,
    v6: usize,
}

impl Sink for Largest {
    fn receive(&mut self, frame: FrameRef<'_>) {
        match frame.bytes.get(12..14) {
            Some([0x08, 0x00]) => self.v4 = self.v4.max(frame.wire_len),
            Some([0x86, 0xdd]) => self.v6 = self.v6.max(frame.wire_len),
            _ => {}
        }
    }
}

/// Verifies frames when they arrive: a gigabyte is not kept.
#[derive(Default)]
struct Online {
    verifier: Verifier,
    streams: Streams,
    progress: Progress,
}

impl Sink for Online {
    fn receive(&mut self, frame: FrameRef<'_>) {
        self.verifier.verify(frame.bytes);
        self.streams.add(frame.bytes);
        self.progress.add(frame);
    }
}

/// How many bytes of TCP payload a capture has received so far.
#[derive(Clone, Default)]
struct Progress(Arc<AtomicUsize>);

impl Progress {
    /// Adds a frame of TCP over IPv4; podspan's own datagrams do not count.
    fn add(&self, frame: FrameRef<'_>) {
        /// Ethernet, IPv4, and TCP with timestamps.
        const HEADERS: usize = 14 + 20 + 32;
        const PROTOCOL_AT: usize = 14 + 9;
        const TCP: u8 = 6;
        if frame.bytes.get(PROTOCOL_AT) == Some(&TCP) {
            let payload = frame.wire_len.saturating_sub(HEADERS);
            self.0.fetch_add(payload, Ordering::Relaxed);
        }
    }

    /// Waits until as many bytes have arrived as `wire` has, when there are no more on the wire; says whether they have.
    fn wait_for(&self, wire: &Self) -> bool {
        let end = Instant::now() + Duration::from_mins(2);
        let mut before = 0;
        while Instant::now() < end {
            let on_the_wire = wire.received();
            if on_the_wire == before && self.received() >= on_the_wire {
                return true;
            }
            before = on_the_wire;
            thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn received(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// In parts that each ring can hold: so no capture loses a frame, however slow the machine is.
///
/// A ring of 128 blocks holds them by their bytes and by their time, for the kernel closes a block
/// after 10 ms also if little is in it. iperf3's receiver may close a connection before it has read the last bytes, which
/// then never come to the wire; so the wire says what there must be, and not iperf3.
fn a_gigabyte_each_way() {
    const PART: usize = 16 << 20;
    const PARTS: usize = 64;
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let sensor = sensor_of(&lab, Family::V4);
    let environment = [("SENSOR", sensor.as_str()), ("RING_SIZE", "256MiB")];
    let (at_pod, at_sensor) = (Progress::default(), Progress::default());
    let counted = at_pod.clone();
    let in_pod = (Streams::default(), move |frame: FrameRef<'_>| {
        counted.add(frame);
    });
    let in_pod = Sniffer::start(&lab.pod.namespace, "eth0", Filter::All, in_pod).unwrap();
    let online = Online {
        progress: at_sensor.clone(),
        ..Online::default()
    };
    let scene = Scene::start_with(lab, &environment, online);
    let what = |reverse| Iperf3 {
        bytes: PART as u64,
        reverse,
        // One processor runs the application, podspan, and two captures that read each byte.
        bits_per_second: 250_000_000,
        limit: Duration::from_mins(2),
    };
    let mut has_all = true;
    for reverse in [false, true].into_iter().flat_map(|way| [way; PARTS]) {
        let ran = iperf3(&scene.lab.client, &scene.lab.pod, Family::V4, what(reverse)).unwrap();
        assert!(ran.sent >= PART as u64, "{ran:?}");
        has_all = at_sensor.wait_for(&at_pod);
        if !has_all {
            break;
        }
    }
    let (_lab, outcome) = scene.end();
    let ((captured, _), capture) = in_pod.stop().unwrap();
    assert_eq!(capture.dropped, 0, "the capture in the pod lost nothing");
    outcome.totals.assert_lossless_but(&[]);
    let received = (at_pod.received(), at_sensor.received());
    let totals = &outcome.totals;
    assert!(has_all, "{received:?} bytes in pod and sensor: {totals:?}");
    // Nearly all that iperf3 has sent has come to the wire.
    assert!(received.0 > 2 * PARTS * PART / 100 * 99, "{received:?}");
    let Online {
        verifier, streams, ..
    } = outcome.inner;
    assert_eq!(verifier.wrong(), 0, "{:#?}", verifier.counts());
    assert!(verifier.counts()[&Protocol::Tcp].bytes > 2 << 30);
    streams.assert_same(&captured);
}
