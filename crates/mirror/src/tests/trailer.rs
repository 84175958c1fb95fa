//! Which datagrams can get a trailer, and the run of a TSO frame.

use core::net::SocketAddr;

use etherparse::PacketBuilder;
use wire::{GsoKind, Mtu, VlanTag, vxlan};

use super::TestFrame;
use crate::plan::{Kind, Lane};
use crate::runs::{Candidate, Run, Search, TrailerBound};
use crate::{Batch, Datagram, Sensor, SensorTable, Totals};

/// The datagrams of a frame, to a sensor that is a socket.
fn datagrams(test_frame: &TestFrame) -> Vec<Datagram> {
    let address = SocketAddr::from((super::SENSOR, vxlan::PORT));
    let sensor = Sensor::new(address, Mtu::ETHERNET).with_socket(true);
    let table = SensorTable::new(vec![sensor]);
    let (mut batch, mut totals) = (Batch::new(), Totals::default());
    super::mirror().push(&test_frame.frame(), &table, &mut batch, &mut totals);
    let datagrams = batch.datagrams().to_vec();
    assert!(!datagrams.is_empty(), "{totals:?}");
    assert!(
        datagrams
            .iter()
            .all(|one| one.lane == Lane::new(false, Kind::Socket))
    );
    datagrams
}

/// A frame of UDP, or of TCP that the kernel left to be split into segments of 1,000 bytes.
fn frame(is_ipv6: bool, is_tcp: bool, payload: usize) -> TestFrame {
    let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let ip = if is_ipv6 {
        link.ipv6([0xfd; 16], [0xfe; 16], 64)
    } else {
        link.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
    };
    let (mut bytes, payload) = (Vec::new(), vec![7; payload]);
    if !is_tcp {
        ip.udp(1000, 2000).write(&mut bytes, &payload).unwrap();
        return TestFrame::new(bytes);
    }
    let tcp = ip.tcp(1000, 2000, 1, 1000);
    tcp.write(&mut bytes, &payload).unwrap();
    let (start, kind) = if is_ipv6 {
        (54, GsoKind::TcpV6)
    } else {
        (34, GsoKind::TcpV4)
    };
    TestFrame::new(bytes).unfinished(start, 16).gso(kind, 1000)
}

fn udp(is_ipv6: bool) -> TestFrame {
    frame(is_ipv6, false, 50)
}

/// A frame with some of its bytes replaced.
fn with(mut test_frame: TestFrame, at: usize, bytes: &[u8]) -> TestFrame {
    test_frame.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    test_frame
}

#[test]
fn only_a_frame_whose_ip_length_shows_its_end_can_get_a_trailer() {
    let mut tagged = udp(false);
    tagged.vlan = Some(VlanTag {
        tpid: 0x8100,
        tci: 7,
    });
    let mut padded = udp(true);
    padded.bytes.extend([0; 9]);
    let rows = [
        ("UDP over IPv4", udp(false), true),
        ("UDP over IPv6", udp(true), true),
        ("with a VLAN tag", tagged, true),
        ("with a trailer already", padded, true),
        ("segments of a TSO frame", frame(false, true, 2500), true),
        ("segments over IPv6", frame(true, true, 2500), true),
        ("inner fragments", frame(false, false, 2500), true),
        ("ARP", with(udp(false), 12, &[8, 6]), false),
        (
            "LLC, a length as the type",
            with(udp(false), 12, &[0, 64]),
            false,
        ),
        ("MPLS", with(udp(false), 12, &[0x88, 0x47]), false),
        ("a wrong version", with(udp(false), 14, &[0x55]), false),
        (
            "an IPv4 length beyond the frame",
            with(udp(false), 16, &[0, 90]),
            false,
        ),
        (
            "an IPv4 length of zero",
            with(udp(false), 16, &[0, 0]),
            false,
        ),
        (
            "an IPv6 length beyond the frame",
            with(udp(true), 18, &[0, 90]),
            false,
        ),
        // Some receivers read it as "up to the end of the frame" (RFC 2675).
        (
            "an IPv6 length of zero",
            with(udp(true), 18, &[0, 0]),
            false,
        ),
        // Sent whole although it should be split.
        (
            "an impossible offload",
            udp(false).gso(GsoKind::TcpV4, 1000),
            false,
        ),
    ];
    for (what, test_frame, can) in rows {
        for datagram in datagrams(&test_frame) {
            assert_eq!(datagram.shows_end, can, "{what}");
        }
    }
}

#[test]
fn a_tso_frame_is_one_run_without_trailers() {
    for is_ipv6 in [false, true] {
        for (payload, count) in [(40_000, 40), (40_300, 41)] {
            let datagrams = datagrams(&frame(is_ipv6, true, payload));
            let mut search = Search::default();
            let runs = search.divide(datagrams.iter().map(Candidate::from), TrailerBound::DEFAULT);
            let (segment, trailers) = (datagrams[0].length(), 0);
            let expected = Run {
                count,
                segment,
                trailers,
            };
            assert_eq!(datagrams.len(), count as usize);
            assert_eq!(runs, [expected]);
        }
    }
}
