//! podspan and `podspan-sensor`, the receiver of the examples, in both of its forms. What the receiver
//! writes is compared with what the testbed's own decoder takes out of the same datagrams.
//!
//! This program is also the receiver: with [`PROGRAM`] as its first argument it runs it, so that no other
//! crate's binary has to be built first.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use etherparse::{Icmpv6Header, Icmpv6Type, Ipv6Header, PacketBuilder, icmpv6};
use nix::sys::socket::{setsockopt, sockopt};
use tempfile::TempDir;
use testbed::traffic::Family;
use testbed::{Capability, Filter, Frame, Host, Lab, Process, Sniffer, Vxlan, read_capture};

use crate::scene::{LIMIT, PORT, Scene, VNI};
use crate::truth::mixed_traffic;

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("podspan_sensor_captures_on_eth0", sniffing),
    ("podspan_sensor_captures_on_its_vxlan_device", on_a_device),
    (
        "the_device_of_podspan_sensor_is_checked_when_it_exists",
        device_exists,
    ),
    (
        "the_device_of_podspan_sensor_merges_no_segments",
        segments_stay_segments,
    ),
    (
        "nothing_in_a_copy_reaches_the_ip_stack_of_the_sensors_pod",
        isolated,
    ),
    (
        "podspan_sensor_deletes_the_device_that_it_holds",
        held_device,
    ),
    (
        "podspan_sensor_names_the_missing_capability",
        missing_capability,
    ),
];

/// The argument that makes this program the receiver.
const PROGRAM: &str = "podspan-sensor";

/// Runs the receiver if the arguments ask for it.
pub(crate) fn run_as_receiver() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == PROGRAM).then(|| sensor::main(arguments))
}

/// The receiver on a host, with these capabilities only.
fn receiver(host: &Host, capabilities: &[Capability], arguments: &str) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut command = host
        .namespace
        .command_with_capabilities(program, capabilities);
    command.arg(PROGRAM).args(arguments.split_whitespace());
    command
}

/// Makes the device, and returns what the program printed.
fn device(host: &Host, arguments: &str) -> (Option<i32>, String) {
    let arguments = format!("device {arguments}");
    let command = receiver(host, &[Capability::CAP_NET_ADMIN], &arguments);
    let mut process = Process::spawn(command).unwrap();
    let status = process.wait(LIMIT).unwrap();
    (status.code(), process.stderr())
}

/// A running `capture` that writes a file.
struct Receiving {
    process: Process,
    folder: TempDir,
}

impl Receiving {
    fn start(host: &Host, interface: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = Self::file(&folder);
        let arguments = format!("capture --interface {interface} --write {}", file.display());
        let command = receiver(host, &[Capability::CAP_NET_RAW], &arguments);
        let mut process = Process::spawn(command).unwrap();
        process.wait_for_output("capturing (index", LIMIT).unwrap();
        Self { process, folder }
    }

    fn file(folder: &TempDir) -> PathBuf {
        folder.path().join("frames.pcap")
    }

    /// The frames that it wrote, and its last line.
    fn end(mut self) -> (Vec<Frame>, String) {
        self.process.terminate().unwrap();
        let status = self.process.wait(LIMIT).unwrap();
        let lines = self.process.stdout();
        assert!(status.success(), "{status}: {}", self.process.stderr());
        let total = lines.lines().last().unwrap().to_owned();
        assert!(total.starts_with("total "), "{lines}");
        (read_capture(&Self::file(&self.folder)).unwrap(), total)
    }
}

fn sniffing() {
    for underlay in Family::BOTH {
        let lab = Lab::builder().build().unwrap();
        let receiving = Receiving::start(&lab.sensor, "eth0");
        let scene = Scene::start(lab, underlay);
        mixed_traffic(&scene.lab);
        let (lab, outcome) = scene.end();
        let (frames, total) = receiving.end();
        assert_same(&frames, &outcome.inner);
        let sender = underlay.address(&lab.pod);
        let count = frames.len();
        let ends = format!("vnis={VNI}:{count} senders={sender}:{count} bad_checksums=0 lost=0");
        assert!(total.ends_with(&ends), "{total}");
    }
}

fn on_a_device() {
    let mut lab = Lab::builder().build().unwrap();
    assert_eq!(device(&lab.sensor, "").0, Some(0));
    for underlay in Family::BOTH {
        let receiving = Receiving::start(&lab.sensor, "vxlan0");
        let scene = Scene::start(lab, underlay);
        mixed_traffic(&scene.lab);
        let outcome;
        (lab, outcome) = scene.end();
        let (frames, total) = receiving.end();
        assert_same(&frames, &outcome.inner);
        let count = format!("total frames={} ", frames.len());
        assert!(total.starts_with(&count), "{total}");
        assert!(total.ends_with(" bad_checksums=0 lost=0"), "{total}");
    }
}

fn assert_same(written: &[Frame], decoded: &[Frame]) {
    let bytes = |frames: &[Frame]| frames.iter().map(|f| f.bytes.clone()).collect::<Vec<_>>();
    assert!(written.len() > 1000, "{}", written.len());
    assert!(
        bytes(written) == bytes(decoded),
        "{} frames were written, {} decoded",
        written.len(),
        decoded.len()
    );
}

fn device_exists() {
    let lab = Lab::builder().build().unwrap();
    let host = &lab.sensor;
    for _ in 0..2 {
        let (code, printed) = device(host, "");
        assert_eq!(code, Some(0), "{printed}");
        assert!(printed.contains("vxlan0 is up and receives all VNIs"));
    }
    for (arguments, text) in [
        ("--port 4790", "it has port 4789, not 4790"),
        ("--vni 5", "it receives all VNIs, not VNI 5"),
        ("--name eth0", "it is no vxlan device"),
        ("--name vxlan1", "UDP port 4789 is in use"),
    ] {
        let (code, printed) = device(host, arguments);
        assert_eq!(code, Some(71), "{printed}");
        assert!(printed.contains(text), "{printed}");
    }
    // Devices with a VNI share a port, each over its family.
    for arguments in [
        "--name a --port 4790 --vni 5",
        "--name b --port 4790 --vni 6",
        "--name c --port 4790 --vni 5 --ipv6",
    ] {
        for _ in 0..2 {
            let (code, printed) = device(host, arguments);
            assert_eq!(code, Some(0), "{printed}");
        }
    }
}

/// The inner frames of one TCP stream, in datagrams that the kernel sends as one (UDP GSO).
fn segments_stay_segments() {
    const SEGMENTS: u32 = 50;
    const SENT: u32 = 20;
    let lab = Lab::builder().build().unwrap();
    assert_eq!(device(&lab.sensor, "").0, Some(0));
    let receiving = Receiving::start(&lab.sensor, "vxlan0");
    let socket = lab.pod.namespace.run(|| UdpSocket::bind("0.0.0.0:0"));
    let socket = socket.unwrap();
    let datagram = |number: u32| {
        let mut bytes = wire::vxlan::header(wire::Vni::new(5).unwrap()).to_vec();
        PacketBuilder::ethernet2([2, 0, 0, 0, 9, 1], [2, 0, 0, 0, 9, 2])
            .ipv4([10, 9, 0, 1], [10, 9, 0, 2], 64)
            .tcp(80, 4000, 1000 * number, 500)
            .ack(1)
            .write(&mut bytes, &[0x78; 1000])
            .unwrap();
        bytes
    };
    let size = i32::try_from(datagram(0).len()).unwrap();
    setsockopt(&socket, sockopt::UdpGsoSegment, &size).unwrap();
    for run in 0..SENT {
        let first = run * SEGMENTS;
        let datagrams: Vec<_> = (first..first + SEGMENTS).map(datagram).collect();
        let sent = socket.send_to(&datagrams.concat(), (lab.sensor.ipv4, PORT));
        sent.unwrap();
    }
    thread::sleep(Duration::from_millis(200));
    let (frames, total) = receiving.end();
    let lengths = frames.iter().filter(|frame| frame.bytes.len() == 1054);
    assert_eq!(lengths.count(), (SENT * SEGMENTS) as usize, "{total}");
    assert!(total.ends_with(" bad_checksums=0 lost=0"), "{total}");
}

/// A router advertisement that would make the sender the default router.
fn router_advertisement() -> Vec<u8> {
    let (source, group) = (
        [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xde, 0xad],
        [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    );
    let header = icmpv6::RouterAdvertisementHeader {
        cur_hop_limit: 64,
        managed_address_config: false,
        other_config: false,
        router_lifetime: 1800,
    };
    // Reachable and retransmission time, both not stated.
    let payload = [0; 8];
    let kind = Icmpv6Type::RouterAdvertisement(header);
    let icmp = Icmpv6Header::with_checksum(kind, source, group, &payload).unwrap();
    let ip = Ipv6Header {
        payload_length: 16,
        next_header: etherparse::IpNumber::IPV6_ICMP,
        hop_limit: 255,
        source,
        destination: group,
        ..Ipv6Header::default()
    };
    let mut frame = vec![0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 6, 6, 0x86, 0xdd];
    frame.extend(ip.to_bytes());
    frame.extend(icmp.to_bytes());
    frame.extend(payload);
    frame
}

/// A frame to everybody with a packet to the host's own address.
fn broadcast_to(host: &Host) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 6, 6], [0xff; 6])
        .ipv4([10, 9, 9, 9], host.ipv4.octets(), 64)
        .udp(9, 7777)
        .write(&mut frame, b"from a copy")
        .unwrap();
    frame
}

/// Whether a frame in a datagram gives the host a default route, and another one reaches its socket.
fn reaches_the_stack(lab: &Lab, device: &str) -> (bool, bool) {
    let host = &lab.sensor;
    let seen = Sniffer::to_memory(&host.namespace, device, Filter::Incoming).unwrap();
    let listening = host
        .namespace
        .run(|| UdpSocket::bind("0.0.0.0:7777"))
        .unwrap();
    listening
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let socket = lab.pod.namespace.run(|| UdpSocket::bind("0.0.0.0:0"));
    let socket = socket.unwrap();
    for frame in [router_advertisement(), broadcast_to(host)] {
        let header = wire::vxlan::header(wire::Vni::new(VNI).unwrap());
        let datagram = [header.as_slice(), &frame].concat();
        socket.send_to(&datagram, (host.ipv4, PORT)).unwrap();
    }
    let has_received = listening.recv(&mut [0; 99]).is_ok();
    let routes = || std::fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap();
    let routes = host.namespace.run(routes);
    let has_route = routes
        .lines()
        .any(|route| route.starts_with(&"0".repeat(32)) && route.trim_end().ends_with(device));
    let (frames, _) = seen.stop().unwrap();
    assert!(frames.len() >= 2, "packet sockets see both: {frames:?}");
    (has_route, has_received)
}

fn isolated() {
    let lab = Lab::builder().build().unwrap();
    assert_eq!(device(&lab.sensor, "").0, Some(0));
    assert_eq!(reaches_the_stack(&lab, "vxlan0"), (false, false));

    // What a device without isolation does: the check above can fail.
    let lab = Lab::builder().build().unwrap();
    let plain = Vxlan {
        vni: VNI,
        port: PORT,
        local: lab.sensor.ipv4.into(),
    };
    lab.sensor.namespace.add_vxlan("vxlan0", plain).unwrap();
    assert_eq!(reaches_the_stack(&lab, "vxlan0"), (true, true));
}

fn held_device() {
    let lab = Lab::builder().build().unwrap();
    let arguments = "device --name podspan0 --port 4790 --hold";
    let command = receiver(&lab.sensor, &[Capability::CAP_NET_ADMIN], arguments);
    // `capture` may come first.
    let capture = "capture --interface podspan0";
    let capture = receiver(&lab.sensor, &[Capability::CAP_NET_RAW], capture);
    let mut capture = Process::spawn(capture).unwrap();
    capture.wait_for_output("no such interface", LIMIT).unwrap();
    let mut held = Process::spawn(command).unwrap();
    held.wait_for_output("is up", LIMIT).unwrap();
    capture
        .wait_for_output("reading frames of a vxlan device", LIMIT)
        .unwrap();
    held.terminate().unwrap();
    let status = held.wait(LIMIT).unwrap();
    assert!(status.success(), "{}", held.stderr());
    assert!(lab.sensor.namespace.link("podspan0").is_err());
    // Nothing is left that another start would meet.
    assert_eq!(device(&lab.sensor, "--name podspan0").0, Some(0));
}

fn missing_capability() {
    let lab = Lab::builder().build().unwrap();
    for (arguments, capability) in [("device", "NET_ADMIN"), ("capture", "NET_RAW")] {
        let command = receiver(&lab.sensor, &[], arguments);
        let mut process = Process::spawn(command).unwrap();
        let status = process.wait(LIMIT).unwrap();
        assert_eq!(status.code(), Some(77), "{}", process.stderr());
        assert!(
            process.stderr().contains(capability),
            "{}",
            process.stderr()
        );
    }
}
