//! The sensor receives the packets of the pod in the order of the wire.
//!
//! The copies are compared with a capture in the pod. Offloads are off and the underlay's MTU is large,
//! so each copy is its frame byte for byte, and whole sequences of frames can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::thread;
use std::time::Duration;

use testbed::traffic::{Family, announced_connections, udp_exchanges, udp_interleaved};
use testbed::{Decoded, Decoder, Filter, Frame, Host, Lab, Process, Sniffer};

use crate::scene::{LIMIT, PORT, Scene, VNI, podspan, sensor_of};
use crate::totals::Totals;

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "a_sensor_sees_the_order_of_the_wire",
        one_sensor_one_source_port,
    ),
    (
        "with_several_source_ports_two_hosts_keep_their_order",
        several_source_ports,
    ),
    (
        "each_of_three_sensors_sees_its_hosts_in_order",
        three_sensors,
    ),
    (
        "with_spread_flows_each_sensor_sees_its_flows_in_order",
        flows_spread,
    ),
];

const UNDERLAY: usize = 9000;
/// The client's additional addresses: the first number, and how many.
const FIRST: u8 = 100;
const MANY: u8 = 64;

/// A lab in which each copy is equal to its frame.
fn lab() -> Lab {
    let lab = Lab::builder()
        .offloads(false)
        .mtu(9000)
        .client_mtu(1500)
        .vxlan(VNI, PORT)
        .build()
        .unwrap();
    for address in addresses() {
        lab.client.eth0.add_address(address, 24).unwrap();
        lab.pod.eth0.add_route_with_mtu(address, 1500).unwrap();
    }
    lab
}

/// The client's additional addresses: for the pod, each is a separate host.
fn addresses() -> impl Iterator<Item = IpAddr> {
    (FIRST..FIRST + MANY).map(|number| Ipv4Addr::new(10, 77, 0, number).into())
}

/// Conversations between the pod and one host, and between the pod and many hosts. Each packet causes
/// the next one.
fn converse(client: &Host, pod: &Host) {
    let answers: Vec<usize> = (0..40).map(|number| 2000 + number * 150).collect();
    for family in Family::BOTH {
        for (from, to) in [(client, pod), (pod, client)] {
            let address = family.address(from);
            udp_exchanges(from, address, to, &answers).unwrap();
            announced_connections(from, address, to, 20, 3000).unwrap();
            udp_interleaved(from, &[address; 64], to, 10).unwrap();
        }
    }
    let many: Vec<IpAddr> = addresses().collect();
    udp_interleaved(client, &many, pod, 10).unwrap();
    for address in many {
        udp_exchanges(client, address, pod, &[2000, 8000]).unwrap();
        announced_connections(client, address, pod, 2, 3000).unwrap();
    }
}

/// The frames of a capture in the pod without podspan's copies.
fn without_copies(frames: Vec<Frame>) -> Vec<Vec<u8>> {
    let is_copy = |frame: &Frame| match frame.bytes.get(12..) {
        Some([0x08, 0x00, 0x45, rest @ ..]) => {
            rest.get(8) == Some(&17) && rest.get(21..23) == Some(&PORT.to_be_bytes())
        }
        _ => false,
    };
    let frames = frames.into_iter().filter(|frame| !is_copy(frame));
    frames.map(|frame| frame.bytes).collect()
}

/// The two hosts of an IPv4 packet, the smaller first.
fn hosts(frame: &[u8]) -> Option<[Ipv4Addr; 2]> {
    let (source, rest) = frame.get(26..)?.split_first_chunk::<4>()?;
    let destination = rest.first_chunk::<4>()?;
    let is_ipv4 = frame.get(12..15) == Some(&[0x08, 0x00, 0x45]);
    let mut hosts = [Ipv4Addr::from(*source), Ipv4Addr::from(*destination)];
    hosts.sort_unstable();
    is_ipv4.then_some(hosts)
}

/// Whether a packet belongs to the conversations over IPv4: these hosts exchange nothing else.
fn is_of_the_conversations(frame: &[u8], pod: Ipv4Addr) -> bool {
    let is_client = |host: &Ipv4Addr| {
        let [.., number] = host.octets();
        number == 1 || (FIRST..FIRST + MANY).contains(&number)
    };
    hosts(frame).is_some_and(|hosts| hosts.contains(&pod) && hosts.iter().any(is_client))
}

/// Asserts that two sequences are equal; the message shows the first difference.
fn assert_same_sequence(copies: &[&Vec<u8>], wire: &[&Vec<u8>], who: &str) {
    let differ = copies
        .iter()
        .zip(wire)
        .position(|(copy, frame)| copy != frame);
    if let Some(at) = differ {
        let place = |frame: &Vec<u8>| wire.iter().position(|other| *other == frame);
        panic!(
            "{who}: frame {at} of {} on the wire is frame {:?} of it in the copy",
            wire.len(),
            place(copies[at]),
        );
    }
    assert_eq!(copies.len(), wire.len(), "{who}");
}

fn decoded() -> Decoded<Vec<Frame>> {
    Decoded {
        decoder: Decoder::new(VNI, PORT, UNDERLAY),
        sink: Vec::new(),
    }
}

fn one_sensor_one_source_port() {
    let lab = lab();
    let sensor = sensor_of(&lab, Family::V4);
    let scene = Scene::start_with(lab, &[("SENSOR", &sensor)], Vec::new());
    let in_pod = Sniffer::to_memory(&scene.lab.pod.namespace, "eth0", Filter::All).unwrap();
    converse(&scene.lab.client, &scene.lab.pod);
    let (frames, capture) = in_pod.stop().unwrap();
    let (_lab, outcome) = scene.end();
    assert_eq!(capture.dropped, 0, "the capture in the pod lost nothing");
    outcome.totals.assert_lossless_but(&[]);

    let wire = without_copies(frames);
    assert!(wire.len() > 10_000, "{} frames on the wire", wire.len());
    // podspan started to capture a little earlier and ended later; all frames in between must be equal.
    let copies: Vec<&Vec<u8>> = outcome.inner.iter().map(|frame| &frame.bytes).collect();
    let begin = |copy: &[&Vec<u8>]| copy.iter().zip(&wire).all(|(copy, frame)| *copy == frame);
    let start = copies.windows(wire.len().min(100)).position(begin);
    let start = start.expect("the first hundred frames are copied in their order");
    let end = (start + wire.len()).min(copies.len());
    assert_same_sequence(&copies[start..end], &wire.iter().collect::<Vec<_>>(), "all");
}

/// The frames of the conversations over IPv4: those at each sensor, and those on the wire.
fn spread(sensors: u8, environment: &[(&str, &str)]) -> (Vec<Vec<Vec<u8>>>, Vec<Vec<u8>>) {
    let lab = lab();
    let mut hosts = vec![lab.sensor.clone()];
    hosts.extend((1..sensors).map(|number| lab.add_host(10 + number).unwrap()));
    let named: Vec<String> = hosts
        .iter()
        .map(|host| format!("{}:{PORT}", host.ipv4))
        .collect();
    // The other sensors have no vxlan device: a socket keeps their hosts from sending ICMP errors.
    let _sockets: Vec<UdpSocket> = hosts
        .iter()
        .skip(1)
        .map(|host| {
            host.namespace
                .run(|| UdpSocket::bind(("0.0.0.0", PORT)))
                .unwrap()
        })
        .collect();
    let sniffers: Vec<_> = hosts
        .iter()
        .map(|host| Sniffer::start(&host.namespace, "eth0", Filter::Incoming, decoded()).unwrap())
        .collect();
    let in_pod = Sniffer::to_memory(&lab.pod.namespace, "eth0", Filter::All).unwrap();
    let list = named.join(",");
    let all = [&[("SENSOR", list.as_str())], environment].concat();
    let mut agent = Process::spawn(podspan(&lab, &all)).unwrap();
    agent.wait_for_output("capturing (index", LIMIT).unwrap();
    converse(&lab.client, &lab.pod);
    agent.terminate().unwrap();
    assert!(agent.wait(LIMIT).unwrap().success());
    Totals::read(&agent.stderr()).assert_lossless_but(&[]);
    thread::sleep(Duration::from_millis(100));

    let pod = lab.pod.ipv4;
    let kept = |frame: &Vec<u8>| is_of_the_conversations(frame, pod);
    let arrived = sniffers.into_iter().map(|sniffer| {
        let (Decoded { sink, .. }, capture) = sniffer.stop().unwrap();
        assert_eq!(capture.dropped, 0, "the sensor's sniffer kept up");
        sink.into_iter()
            .map(|frame| frame.bytes)
            .filter(kept)
            .collect()
    });
    let arrived = arrived.collect();
    let (frames, capture) = in_pod.stop().unwrap();
    assert_eq!(capture.dropped, 0, "the capture in the pod lost nothing");
    (
        arrived,
        without_copies(frames).into_iter().filter(kept).collect(),
    )
}

/// Frames by their two hosts, in their order.
fn by_hosts(frames: &[Vec<u8>]) -> BTreeMap<[Ipv4Addr; 2], Vec<&Vec<u8>>> {
    let mut pairs: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for frame in frames {
        pairs.entry(hosts(frame).unwrap()).or_default().push(frame);
    }
    pairs
}

fn several_source_ports() {
    let (arrived, wire) = spread(1, &[("SOURCE_PORTS", "16")]);
    let (copies, wire) = (by_hosts(&arrived[0]), by_hosts(&wire));
    assert!(
        wire.len() > usize::from(MANY),
        "{} pairs of hosts",
        wire.len()
    );
    for (pair, frames) in &wire {
        assert_same_sequence(&copies[pair], frames, &format!("{pair:?}"));
    }
}

fn three_sensors() {
    let (arrived, wire) = spread(3, &[]);
    let mut seen = BTreeSet::new();
    for (number, copies) in arrived.iter().enumerate() {
        let pairs: BTreeSet<_> = by_hosts(copies).into_keys().collect();
        assert!(pairs.len() > 5, "sensor {number} has {} pairs", pairs.len());
        for pair in &pairs {
            assert!(seen.insert(*pair), "{pair:?} is at one sensor only");
        }
        // Not only the order within each pair: the order of all frames at this sensor.
        let its = |frame: &&Vec<u8>| pairs.contains(&hosts(frame).unwrap());
        let wire: Vec<_> = wire.iter().filter(its).collect();
        let copies: Vec<_> = copies.iter().collect();
        assert_same_sequence(&copies, &wire, &format!("sensor {number}"));
    }
    assert_eq!(
        seen.len(),
        by_hosts(&wire).len(),
        "every pair is at a sensor"
    );
}

fn flows_spread() {
    let (arrived, wire) = spread(3, &[("SPREAD", "flows")]);
    let total: usize = arrived.iter().map(Vec::len).sum();
    assert_eq!(total, wire.len());
    let mut left: Vec<&Vec<u8>> = wire.iter().collect();
    for (number, copies) in arrived.iter().enumerate() {
        assert!(
            copies.len() > wire.len() / 10,
            "sensor {number} gets a part"
        );
        // A sensor's frames are a subsequence of the wire.
        let mut at = 0;
        let mut rest = Vec::new();
        for frame in left {
            if copies.get(at) == Some(frame) {
                at += 1;
            } else {
                rest.push(frame);
            }
        }
        assert_eq!(
            at,
            copies.len(),
            "sensor {number}: frame {at} is not where the wire has it"
        );
        left = rest;
    }
}
