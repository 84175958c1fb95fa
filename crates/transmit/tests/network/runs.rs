//! Runs over devices that split them in software, and over paths that become narrower than their segments.

use std::net::{IpAddr, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

use mirror::{DropReason, Outcome};
use socket2::SockRef;
use testbed::verify::{Check, Verifier};
use testbed::{Filter, Lab, Offload};

use crate::common::{Block, count, dropped, sockets};
use crate::{
    IPV4, IPV6, all_sent, assert_no_fragments, capture, fixture, mirror, mirror_until,
    mirror_until_the_hop_is_found, packets, sensor,
};

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "outer_headers_of_runs_over_a_device_without_offloads",
        outer_headers,
    ),
    (
        "runs_over_a_hop_that_is_narrower_lose_one_batch",
        narrower_hop,
    ),
    (
        "runs_over_a_route_that_becomes_narrower_lose_only_what_is_too_long",
        narrower_route,
    ),
];

/// The kernel splits the runs in software, or refuses them (before Linux 6.11): both arrive the same.
fn outer_headers() {
    let lab = Lab::builder().build().unwrap();
    lab.pod.eth0.set_offloads(&Offload::ALL, false).unwrap();
    for (address, ether_type) in [
        (IpAddr::from(lab.sensor.ipv4), IPV4),
        (lab.sensor.ipv6.into(), IPV6),
    ] {
        let mut fixture = fixture(&lab);
        let sniffer = capture(&lab.sensor.namespace, Filter::Incoming);
        let (block, table) = (Block::of_udp(100, 50, 200), sockets(&[sensor(address)]));
        let built = mirror(&lab, &mut fixture, &block, &table);
        assert_eq!(count(&built, Outcome::Sent), 100);
        let packets = packets(sniffer, ether_type);
        assert_no_fragments(&packets, ether_type);
        let (protocol, udp) = if ether_type == IPV4 {
            (23, 34)
        } else {
            (20, 54)
        };
        let datagrams: Vec<_> = packets
            .iter()
            .filter(|bytes| bytes[protocol] == 17)
            .collect();
        assert_eq!(datagrams.len(), built.len());
        let mut verifier = Verifier::new();
        for (bytes, built) in datagrams.into_iter().zip(&built) {
            assert!(
                ether_type == IPV6 || bytes[20] & 0x40 != 0,
                "don't fragment"
            );
            let port = u16::from_be_bytes([bytes[udp], bytes[udp + 1]]);
            assert_eq!(port, fixture.transmitter.source_ports()[1]);
            assert_ne!(bytes[udp + 6..udp + 8], [0, 0], "a checksum");
            let verdict = verifier.verify(bytes);
            assert!(
                verdict.is_right() && verdict.transport_checksum == Check::Right,
                "{verdict:?}"
            );
            assert_eq!(bytes[udp + 8..], built.bytes, "in the order of the wire");
        }
    }
}

/// The router reports its MTU by ICMP while runs are sent. Over a wider path, they continue at once.
fn narrower_hop() {
    let lab = Lab::builder().routed(1400).build().unwrap();
    for address in [IpAddr::from(lab.sensor.ipv4), lab.sensor.ipv6.into()] {
        let mut fixture = fixture(&lab);
        let table = sockets(&[sensor(address)]);
        let receiver = receiver(&lab, address);
        let (block, report) = mirror_until_the_hop_is_found(&lab, &mut fixture, &table);
        assert_eq!(report.sensors[0].runs_refused, None, "{report:?}");
        drain(&receiver);

        let before = fixture.totals;
        let built = mirror(&lab, &mut fixture, &block, &table);
        assert_eq!(count(&built, Outcome::Sent), built.len());
        let messages = fixture.totals.messages_sent - before.messages_sent;
        assert!(messages * 2 <= built.len() as u64, "{messages}: runs again");
        sleep(Duration::from_millis(200));
        assert_eq!(drain(&receiver), built.len());
    }
}

/// The kernel refuses the run that is too long for its new route, at once.
fn narrower_route() {
    let lab = Lab::builder().build().unwrap();
    for address in [IpAddr::from(lab.sensor.ipv4), lab.sensor.ipv6.into()] {
        let mut fixture = fixture(&lab);
        let table = sockets(&[sensor(address)]);
        let receiver = receiver(&lab, address);
        // Runs of short datagrams, and one of long ones in between.
        let lengths = [vec![100; 80], vec![1500 - 56 - 42; 20], vec![100; 80]].concat();
        let block = Block::of_lengths(&lengths);
        mirror_until(&lab, &mut fixture, &block, &table, all_sent);
        sleep(Duration::from_millis(200));
        drain(&receiver);

        lab.pod.eth0.add_route_with_mtu(address, 1420).unwrap();
        let built = mirror(&lab, &mut fixture, &block, &table);
        assert_eq!(count(&built, dropped(DropReason::PathMtu)), 20);
        assert_eq!(count(&built, Outcome::Sent), 160);
        let report = fixture.transmitter.report(&table);
        assert_eq!(report.sensors[0].path_mtu.map(wire::Mtu::get), Some(1420));
        assert_eq!(report.sensors[0].runs_refused, None, "{report:?}");
        sleep(Duration::from_millis(200));
        assert_eq!(drain(&receiver), 160, "none is lost or doubled");

        let before = fixture.totals;
        let built = mirror(&lab, &mut fixture, &block, &table);
        assert_eq!(count(&built, Outcome::Sent), built.len());
        assert!(built.len() > 180, "inner fragments");
        let messages = fixture.totals.messages_sent - before.messages_sent;
        assert!(messages * 4 <= built.len() as u64, "{messages}: runs again");
        sleep(Duration::from_millis(200));
        assert_eq!(drain(&receiver), built.len());
    }
}

/// A sensor's socket, with room for all datagrams of a block.
fn receiver(lab: &Lab, address: IpAddr) -> UdpSocket {
    let socket = lab
        .sensor
        .namespace
        .run(|| UdpSocket::bind(sensor(address)));
    let socket = socket.unwrap();
    SockRef::from(&socket)
        .set_recv_buffer_size(1 << 20)
        .unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Receives what waits, and returns how many datagrams it was.
fn drain(receiver: &UdpSocket) -> usize {
    let mut bytes = [0; 2000];
    std::iter::from_fn(|| receiver.recv(&mut bytes).ok()).count()
}
