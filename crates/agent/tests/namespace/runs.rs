//! Runs: several datagrams in one message, to sensors that are sockets. All kinds of traffic are judged where
//! such a sensor gets them: behind a vxlan device of the kernel, and at a UDP socket.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use testbed::traffic::{Family, TcpOutcome};
use testbed::{Direction, Filter, Frame, Lab, LabBuilder, Process, Sniffer};

use crate::scene::{LIMIT, PORT, VNI, podspan, sensor_of};
use crate::streams::Streams;
use crate::totals::Totals;
use crate::truth::{compare_streams, mixed_traffic, verify_with_etherparse, verify_with_tshark};

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "runs_arrive_right_behind_the_kernels_vxlan_device_over_ipv4",
        || behind_a_device(Family::V4, "on"),
    ),
    (
        "runs_arrive_right_behind_the_kernels_vxlan_device_over_ipv6",
        || behind_a_device(Family::V6, "on"),
    ),
    (
        "runs_without_trailers_arrive_right_behind_the_kernels_vxlan_device",
        || behind_a_device(Family::V4, "off"),
    ),
    ("runs_arrive_right_at_a_udp_socket_over_ipv4", || {
        at_a_socket(&Lab::builder(), Family::V4);
    }),
    ("runs_arrive_right_at_a_udp_socket_over_ipv6", || {
        at_a_socket(&Lab::builder(), Family::V6);
    }),
    ("runs_arrive_right_over_a_jumbo_underlay", || {
        at_a_socket(&Lab::builder().mtu(9000).client_mtu(1500), Family::V4);
    }),
    ("runs_arrive_right_over_a_smaller_path_mtu", || {
        at_a_socket(&Lab::builder().routed(1400), Family::V4);
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

fn behind_a_device(underlay: Family, trailers: &str) {
    let lab = Lab::builder().vxlan(VNI, PORT).build().unwrap();
    let (v4, v6) = lab.vxlan.clone().unwrap();
    let device = if underlay == Family::V4 { v4 } else { v6 };
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
    let trailer_bytes = totals.get("trailer_bytes");
    assert_eq!(trailer_bytes > 0, trailers == "on");
    verify(&frames, &captured, &connections, &totals);
}

fn at_a_socket(lab: &LabBuilder, underlay: Family) {
    let lab = lab.build().unwrap();
    let receiver = Receiver::start(&lab, underlay);
    let (captured, connections, totals) = mirror(&lab, underlay, "on");
    let frames = receiver.stop();
    let path_mtu = if lab.router.is_some() {
        &["path_mtu"][..]
    } else {
        &[]
    };
    totals.assert_lossless_but(path_mtu);
    if path_mtu.is_empty() || totals.get("datagrams_dropped") == 0 {
        verify(&frames, &captured, &connections, &totals);
    } else {
        // The first datagrams above the path MTU are lost, until the router has reported it.
        verify_with_etherparse(&frames);
    }
}

/// A UDP socket that takes the VXLAN header off, as Zeek's packet source does.
struct Receiver {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Frame>>,
}

impl Receiver {
    fn start(lab: &Lab, underlay: Family) -> Self {
        let address = SocketAddr::new(underlay.address(&lab.sensor), PORT);
        let socket = lab
            .sensor
            .namespace
            .run(|| UdpSocket::bind(address))
            .unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (mut frames, mut bytes) = (Vec::new(), vec![0; 65_536]);
            loop {
                match socket.recv(&mut bytes) {
                    Ok(length) => frames.push(inner(&bytes[..length])),
                    Err(_) if stopping.load(Ordering::Relaxed) => return frames,
                    Err(_) => {}
                }
            }
        });
        Self { stop, thread }
    }

    fn stop(self) -> Vec<Frame> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn inner(datagram: &[u8]) -> Frame {
    let header = [&[8, 0, 0, 0][..], &VNI.to_be_bytes()[1..], &[0]].concat();
    assert_eq!(datagram[..8], header, "the VXLAN header");
    Frame {
        bytes: datagram[8..].to_vec(),
        direction: Direction::Host,
        checksum_complete: true,
        ..Frame::default()
    }
}
