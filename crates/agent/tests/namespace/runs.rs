//! Runs: several datagrams in one message, to sensors that are sockets. All kinds of traffic are verified
//! where such a sensor gets them, behind a vxlan device of the kernel. At a UDP socket, whose buffer is too
//! small for that, it is a little traffic.

use std::iter;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use testbed::traffic::{Family, TcpOutcome, UdpStream, ping, tcp_requests, udp_stream};
use testbed::verify::Verifier;
use testbed::{Filter, Frame, Lab, LabBuilder, Link, Offload, Process, Sniffer, Statistics};

use crate::scene::{LIMIT, PORT, VNI, podspan, sensor_of};
use crate::streams::Streams;
use crate::totals::Totals;
use crate::truth::{compare_streams, mixed_traffic, verify_with_etherparse, verify_with_tshark};

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "runs_arrive_right_behind_the_kernels_vxlan_device_over_ipv4",
        || behind_a_device(&Lab::builder(), Family::V4, "20%"),
    ),
    (
        "runs_arrive_right_behind_the_kernels_vxlan_device_over_ipv6",
        || behind_a_device(&Lab::builder(), Family::V6, "20%"),
    ),
    (
        "runs_without_trailers_arrive_right_behind_the_kernels_vxlan_device",
        || behind_a_device(&Lab::builder(), Family::V4, "off"),
    ),
    ("runs_arrive_right_over_a_jumbo_underlay", || {
        behind_a_device(
            &Lab::builder().mtu(9000).client_mtu(1500),
            Family::V4,
            "100%",
        );
    }),
    ("runs_arrive_right_over_a_smaller_path_mtu", || {
        behind_a_device(&Lab::builder().routed(1400), Family::V4, "20%");
    }),
    (
        "a_path_that_becomes_narrower_than_runs_loses_only_what_is_too_long",
        narrower,
    ),
    ("runs_arrive_right_at_a_udp_socket_over_ipv4", || {
        at_a_socket(Family::V4);
    }),
    ("runs_arrive_right_at_a_udp_socket_over_ipv6", || {
        at_a_socket(Family::V6);
    }),
];

/// Runs podspan with a sensor that is a socket while `traffic` passes. Returns what the pod's interface saw,
/// what `traffic` returned, and the totals.
fn mirror<T>(
    lab: &Lab,
    underlay: Family,
    trailers: &str,
    traffic: impl FnOnce() -> T,
) -> (Streams, T, Totals) {
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
    let result = traffic();
    agent.terminate().unwrap();
    let status = agent.wait(LIMIT).unwrap();
    let log = agent.stderr();
    assert!(status.success(), "{status}:\n{log}");
    assert!(!log.contains("refuses several copies"), "{log}");
    // The last datagrams are still on their way.
    thread::sleep(Duration::from_millis(100));
    let (captured, capture) = in_pod.stop().unwrap();
    assert_eq!(capture.dropped, 0, "the capture in the pod lost nothing");
    (captured, result, Totals::read(&log))
}

/// Every copy is right and in its place, and fewer messages than datagrams were sent.
fn verify(frames: &[Frame], captured: &Streams, connections: &[TcpOutcome], totals: &Totals) {
    let get = |name| totals.get(name);
    assert_all_arrived(frames, totals);
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

/// All datagrams and bytes that were sent have arrived, and no others.
fn assert_all_arrived(frames: &[Frame], totals: &Totals) {
    let get = |name| totals.get(name);
    let bytes: usize = frames.iter().map(|frame| VXLAN + frame.bytes.len()).sum();
    assert_eq!(frames.len() as u64, get("datagrams_sent"), "{totals:?}");
    assert_eq!(
        bytes as u64,
        get("bytes_sent") + get("trailer_bytes"),
        "{totals:?}"
    );
}

/// The length of the VXLAN header.
const VXLAN: usize = 8;

fn behind_a_device(lab: &LabBuilder, underlay: Family, trailers: &str) {
    let lab = lab.clone().vxlan(VNI, PORT).build().unwrap();
    if lab.router.is_some() {
        // The first datagram above the path MTU is lost; after it the kernel has the path MTU.
        let to = underlay.address(&lab.sensor);
        let _ = ping(&lab.pod.namespace, to, 1450, Duration::from_secs(1));
    }
    let behind = Behind::start(&lab, underlay);
    let (captured, connections, totals) = mirror(&lab, underlay, trailers, || mixed_traffic(&lab));
    let frames = behind.stop();
    totals.assert_lossless_but(&[]);
    assert_eq!(totals.get("trailer_bytes") > 0, trailers != "off");
    verify(&frames, &captured, &connections, &totals);
}

/// A capture behind the sensor's vxlan device, which must refuse nothing.
struct Behind {
    device: Link,
    before: Statistics,
    sniffer: Sniffer<Vec<Frame>>,
}

impl Behind {
    fn start(lab: &Lab, underlay: Family) -> Self {
        let (v4, v6) = lab.vxlan.clone().unwrap();
        let device = if underlay == Family::V4 { v4 } else { v6 };
        // Otherwise the kernel joins segments again before the sniffer sees them.
        device.set_offloads(&[Offload::Gro], false).unwrap();
        let sniffer = Sniffer::to_memory(&lab.sensor.namespace, device.name(), Filter::Incoming);
        Self {
            before: device.statistics().unwrap(),
            sniffer: sniffer.unwrap(),
            device,
        }
    }

    fn stop(self) -> Vec<Frame> {
        let after = self.device.statistics().unwrap();
        let (frames, capture) = self.sniffer.stop().unwrap();
        assert_eq!(capture.dropped, 0);
        assert_eq!(
            (after.rx_errors, after.rx_dropped),
            (self.before.rx_errors, self.before.rx_dropped)
        );
        frames
    }
}

/// The route to the sensor becomes narrower than the segments of the runs.
fn narrower() {
    const NARROW: u32 = 1000;
    let lab = Lab::builder().vxlan(VNI, PORT).build().unwrap();
    let behind = Behind::start(&lab, Family::V4);
    let stream = UdpStream {
        size: 1400,
        count: 3000,
        per_second: 2000,
    };
    let (_, (), totals) = mirror(&lab, Family::V4, "20%", || {
        thread::scope(|scope| {
            let stream = scope.spawn(|| udp_stream(&lab.client, &lab.pod, Family::V4, stream));
            thread::sleep(Duration::from_millis(700));
            let to = lab.sensor.ipv4.into();
            lab.pod.eth0.add_route_with_mtu(to, NARROW).unwrap();
            stream.join().unwrap().unwrap();
        });
    });
    let frames = behind.stop();
    // podspan measures the path with the first refusal, so at most one batch is lost.
    totals.assert_lossless_but(&["path_mtu"]);
    let lost = totals.frames_dropped.get("path_mtu").copied().unwrap_or(0);
    assert!(lost < 1024, "{totals:?}");
    assert_all_arrived(&frames, &totals);
    let mut verifier = Verifier::new();
    for frame in &frames {
        verifier.verify(&frame.bytes);
    }
    assert_eq!(verifier.wrong(), 0, "{:#?}", verifier.counts());
    let longest = |frames: &[Frame]| frames.iter().map(|frame| frame.bytes.len()).max();
    assert_eq!(longest(&frames), Some(14 + 20 + 8 + 1400));
    let end = longest(&frames[frames.len() - 100..]).unwrap();
    assert!(
        end <= NARROW as usize - 36,
        "{end} with 36 bytes of outer headers"
    );
    let (messages, sent) = (totals.get("messages_sent"), totals.get("datagrams_sent"));
    println!("{sent} datagrams in {messages} messages, {lost} frames lost");
    // At the narrower path, each frame becomes two fragments of different lengths: a run of two.
    assert!(messages * 4 < sent * 3, "{totals:?}");
}

/// The socket has room for all copies, so nothing depends on when it is read.
fn at_a_socket(underlay: Family) {
    let lab = Lab::builder().build().unwrap();
    let address = SocketAddr::new(underlay.address(&lab.sensor), PORT);
    let socket = lab
        .sensor
        .namespace
        .run(|| UdpSocket::bind(address))
        .unwrap();
    socket.set_nonblocking(true).unwrap();
    let stream = UdpStream {
        size: 90,
        count: 64,
        per_second: 20_000,
    };
    let (captured, connection, totals) = mirror(&lab, underlay, "20%", || {
        udp_stream(&lab.client, &lab.pod, Family::V6, stream).unwrap();
        let bodies = [(10, 100), (3000, 20)];
        tcp_requests(&lab.client, &lab.pod, Family::V4, &bodies).unwrap()
    });
    totals.assert_lossless_but(&[]);
    let mut bytes = [0; 2000];
    let datagram = || {
        socket
            .recv(&mut bytes)
            .ok()
            .map(|length| bytes[..length].to_vec())
    };
    let frames: Vec<Frame> = iter::from_fn(datagram).map(|bytes| inner(&bytes)).collect();
    assert_all_arrived(&frames, &totals);
    let (mut streams, mut verifier) = (Streams::default(), Verifier::new());
    for frame in &frames {
        streams.add(&frame.bytes);
        verifier.verify(&frame.bytes);
    }
    assert_eq!(verifier.wrong(), 0, "{:#?}", verifier.counts());
    streams.assert_same(&captured);
    streams.assert_hold(&[connection]);
    let (messages, sent) = (totals.get("messages_sent"), totals.get("datagrams_sent"));
    println!("{sent} datagrams in {messages} messages");
    assert!(messages * 2 < sent, "{totals:?}");
}

/// The frame in a datagram.
fn inner(datagram: &[u8]) -> Frame {
    let (header, frame) = datagram.split_at(VXLAN);
    assert_eq!(header[..4], [8, 0, 0, 0]);
    assert_eq!(header[4..], (VNI << 8).to_be_bytes());
    Frame {
        bytes: frame.to_vec(),
        ..Frame::default()
    }
}
