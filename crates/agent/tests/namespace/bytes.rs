//! Frames that need no change arrive byte for byte.

use std::collections::BTreeMap;
use std::fmt::Display;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use testbed::traffic::{
    Family, RawSocket, ping, refused_connection, reset_connection, samples, tcp_requests,
    udp_datagrams,
};
use testbed::{Filter, Frame, Lab, Sniffer, Tcpdump};

use crate::scene::{LIMIT, Scene, VNI};
use crate::streams::Streams;

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("unusual_frames_arrive_byte_for_byte", unusual_frames),
    (
        "without_offloads_the_copy_is_what_tcpdump_saw",
        tcpdump_agrees,
    ),
    ("lo_is_seen_once_and_its_frames_have_addresses", loopback),
];

fn unusual_frames() {
    let lab = Lab::builder().mtu(9000).vxlan(VNI, 4789).build().unwrap();
    let (client, pod) = (lab.client.clone(), lab.pod.clone());
    let scene = Scene::start(lab, Family::V4);
    let mut sent = Vec::new();
    for (from, to) in [(&client, &pod), (&pod, &client)] {
        let socket = RawSocket::open(&from.eth0).unwrap();
        for (name, frame) in samples(from.mac, to.mac) {
            socket.send(&frame).unwrap();
            sent.push((name, frame));
        }
    }
    let (_lab, outcome) = scene.end();
    outcome.totals.assert_lossless_but(&[]);
    for (name, frame) in &sent {
        let copies = outcome
            .inner
            .iter()
            .filter(|copy| copy.bytes == *frame)
            .count();
        assert_eq!(copies, 1, "{name}");
    }
    let kinds: Vec<&str> = sent.iter().map(|(name, _)| *name).collect();
    for kind in [
        "vlan",
        "qinq",
        "llc",
        "mpls",
        "pppoe",
        "gre",
        "sctp",
        "foreign vxlan",
    ] {
        assert!(kinds.contains(&kind), "{kind} is among {kinds:?}");
    }
}

/// On the other end of the pod's veth, tcpdump captures the frames of the wire. With offloads off, the
/// copies of each flow are these frames, in the same order.
fn tcpdump_agrees() {
    let lab = Lab::builder()
        .offloads(false)
        .mtu(9000)
        .client_mtu(1500)
        .vxlan(VNI, 4789)
        .build()
        .unwrap();
    let (client, pod) = (lab.client.clone(), lab.pod.clone());
    let scene = Scene::start(lab, Family::V4);
    let in_pod = Sniffer::start(&pod.namespace, "eth0", Filter::All, Streams::default()).unwrap();
    let wire = Tcpdump::start(&scene.lab.node, pod.port.name(), "not udp port 4789").unwrap();
    for family in Family::BOTH {
        for (from, to) in [(&client, &pod), (&pod, &client)] {
            tcp_requests(from, to, family, &[(10, 100), (200_000, 70_000)]).unwrap();
            udp_datagrams(from, to, family, &[1, 100, 1472, 1473, 8900]).unwrap();
            reset_connection(from, to, family).unwrap();
            refused_connection(from, to, family).unwrap();
            ping(&from.namespace, family.address(to), 4000, LIMIT).unwrap();
        }
    }
    let wire = wire.stop().unwrap();
    let (_lab, outcome) = scene.end();
    outcome.totals.assert_lossless_but(&[]);
    let (captured, _) = in_pod.stop().unwrap();
    let mut streams = Streams::default();
    for frame in &outcome.inner {
        streams.add(&frame.bytes);
    }
    streams.assert_same(&captured);
    let (wire, mut copies) = (by_flow(&wire), by_flow(&outcome.inner));
    assert!(wire.len() > 20, "{} flows", wire.len());
    for (flow, frames) in &wire {
        let mut copies = copies
            .remove(flow)
            .unwrap_or_else(|| panic!("{flow} is copied"));
        if flow.contains("ports") {
            assert_eq!(frames, &copies, "{flow}");
            continue;
        }
        // Of these the copies have more, from before tcpdump started and after it ended.
        for frame in frames {
            let at = copies.iter().position(|copy| copy == frame);
            copies.remove(at.unwrap_or_else(|| panic!("{flow} is copied each time")));
        }
    }
}

/// The frames of each direction of each flow, sorted. The two ends of a veth can have different orders
/// of frames that two processors send, so the order is compared with a capture in the pod.
fn by_flow(frames: &[Frame]) -> BTreeMap<String, Vec<&[u8]>> {
    let mut flows: BTreeMap<String, Vec<&[u8]>> = BTreeMap::new();
    for frame in frames {
        let packet = SlicedPacket::from_ethernet(&frame.bytes).unwrap();
        let addresses = match &packet.net {
            Some(NetSlice::Ipv4(ip)) => flow_of(
                ip.payload().ip_number.0,
                ip.header().source_addr(),
                ip.header().destination_addr(),
            ),
            Some(NetSlice::Ipv6(ip)) => flow_of(
                ip.payload().ip_number.0,
                ip.header().source_addr(),
                ip.header().destination_addr(),
            ),
            _ => format!("{:x?}", &frame.bytes[..14]),
        };
        let flow = match &packet.transport {
            Some(TransportSlice::Tcp(tcp)) => {
                format!(
                    "{addresses} tcp ports {} {}",
                    tcp.source_port(),
                    tcp.destination_port()
                )
            }
            Some(TransportSlice::Udp(udp)) => {
                format!(
                    "{addresses} udp ports {} {}",
                    udp.source_port(),
                    udp.destination_port()
                )
            }
            Some(_) => format!("{addresses} icmp"),
            None => format!("{addresses} fragments and others"),
        };
        flows.entry(flow).or_default().push(&frame.bytes);
    }
    for frames in flows.values_mut() {
        frames.sort_unstable();
    }
    flows
}

fn flow_of(protocol: u8, source: impl Display, destination: impl Display) -> String {
    format!("{source} {destination} protocol {protocol}")
}

fn loopback() {
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let in_pod = Sniffer::to_memory(&lab.pod.namespace, "lo", Filter::Incoming).unwrap();
    let sensor = crate::scene::sensor_of(&lab, Family::V4);
    let environment = [("SENSOR", sensor.as_str()), ("INTERFACE", "lo")];
    let scene = Scene::start_with(lab, &environment, Vec::new());
    let to = "127.0.0.1".parse().unwrap();
    for size in [64, 1000, 8000] {
        ping(&scene.lab.pod.namespace, to, size, LIMIT).unwrap();
    }
    let (_lab, outcome) = scene.end();
    let (captured, _) = in_pod.stop().unwrap();
    outcome.totals.assert_lossless_but(&[]);
    assert_eq!(
        outcome.totals.get("frames_seen"),
        captured.len() as u64,
        "each once"
    );
    for frame in &outcome.inner {
        let addresses = &frame.bytes[..12];
        assert!(
            addresses[6..] != [0; 6] && addresses[..6] != addresses[6..],
            "{addresses:x?}"
        );
    }
}
