use core::net::Ipv6Addr;

use etherparse::{IpNumber, PacketBuilder};
use proptest::prelude::*;
use wire::ip;

use super::*;
use crate::tests::TestFrame;

const A: [u8; 16] = [10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const B: [u8; 16] = [10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

fn hashes_by(spreader: &mut Spreader, test_frame: &TestFrame) -> Hashes {
    let frame = test_frame.frame();
    spreader.hashes(&frame, &ip::locate(&frame))
}

/// The hashes of a new spreader.
fn hashes(spread: Spread, test_frame: &TestFrame) -> Hashes {
    hashes_by(&mut Spreader::new(spread), test_frame)
}

fn ip(
    v6: bool,
    from: [u8; 16],
    to: [u8; 16],
) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let four = |a: [u8; 16]| [a[0], a[1], a[2], a[3]];
    if v6 {
        link.ipv6(from, to, 64)
    } else {
        link.ipv4(four(from), four(to), 64)
    }
}

fn tcp(v6: bool, from: ([u8; 16], u16), to: ([u8; 16], u16)) -> TestFrame {
    let mut bytes = Vec::new();
    ip(v6, from.0, to.0)
        .tcp(from.1, to.1, 1, 1)
        .write(&mut bytes, &[])
        .unwrap();
    TestFrame::new(bytes)
}

/// A part of a UDP packet from A to B: `offset` in units of eight bytes.
fn fragment(v6: bool, id: u16, offset: u16, more: bool) -> TestFrame {
    let mut data = vec![7; 64];
    data[..4].copy_from_slice(&[0x12, 0x34, 0, 53]);
    let mut bytes = Vec::new();
    if v6 {
        let field = (offset << 3 | u16::from(more)).to_be_bytes();
        let mut header = vec![17, 0, field[0], field[1], 0, 0];
        header.extend_from_slice(&id.to_be_bytes());
        data.splice(..0, header);
        ip(true, A, B)
            .write(&mut bytes, IpNumber(44), &data)
            .unwrap();
    } else {
        ip(false, A, B)
            .write(&mut bytes, IpNumber(17), &data)
            .unwrap();
        bytes[18..20].copy_from_slice(&id.to_be_bytes());
        let field = offset | if more { 0x2000 } else { 0 };
        bytes[20..22].copy_from_slice(&field.to_be_bytes());
    }
    TestFrame::new(bytes)
}

fn icmp_error(quoted: &[u8]) -> TestFrame {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 9, 9, 9], [10, 0, 0, 1], 64)
        .icmpv4_raw(3, 3, [0; 4])
        .write(&mut bytes, quoted)
        .unwrap();
    TestFrame::new(bytes)
}

#[test]
fn an_icmp_error_has_the_hashes_of_the_packet_that_it_quotes() {
    let flow = tcp(false, (A, 1000), (B, 80));
    let error = icmp_error(&flow.bytes[14..42]);
    for spread in [Spread::Hosts, Spread::Flows] {
        assert_eq!(hashes(spread, &error), hashes(spread, &flow));
    }
}

#[test]
fn an_icmp_error_about_a_later_fragment_has_the_hash_of_its_flow() {
    let mut spreader = Spreader::new(Spread::Flows);
    let first = hashes_by(&mut spreader, &fragment(false, 7, 0, true));
    let error = icmp_error(&fragment(false, 7, 9, false).bytes[14..42]);
    assert_eq!(hashes_by(&mut spreader, &error), first);
}

#[test]
fn by_flows_later_fragments_follow_their_first_one() {
    for v6 in [false, true] {
        let mut spreader = Spreader::new(Spread::Flows);
        let hosts = hashes(Spread::Hosts, &fragment(v6, 7, 0, true)).hosts;
        let first = hashes_by(&mut spreader, &fragment(v6, 7, 0, true));
        assert_ne!(first.flow, hosts.as_flow());
        for (offset, more) in [(9, true), (18, false)] {
            assert_eq!(
                hashes_by(&mut spreader, &fragment(v6, 7, offset, more)),
                first
            );
        }
        // Fragments of another packet, whose first fragment was not read, have the hash of their hosts.
        let other = hashes_by(&mut spreader, &fragment(v6, 8, 9, true));
        assert_eq!(other, Hashes::of_hosts(hosts));
    }
}

#[test]
fn the_table_of_fragments_is_bounded_and_a_new_packet_replaces_an_old_one() {
    let mut spreader = Spreader::new(Spread::Flows);
    let room = spreader.fragmented.0.len();
    for id in 0..u16::MAX {
        let first = hashes_by(&mut spreader, &fragment(false, id, 0, true));
        assert_eq!(
            hashes_by(&mut spreader, &fragment(false, id, 9, false)),
            first
        );
    }
    assert_eq!(spreader.fragmented.0.len(), room);
}

#[test]
fn hundreds_of_fragmented_packets_are_remembered() {
    let mut spreader = Spreader::new(Spread::Flows);
    let (ids, parts) = (0..256, 1..6);
    let mut first = Vec::new();
    for id in ids.clone() {
        first.push(hashes_by(&mut spreader, &fragment(false, id, 0, true)));
    }
    for part in parts {
        for (id, first) in ids.clone().zip(&first) {
            let later = hashes_by(&mut spreader, &fragment(false, id, part * 9, true));
            assert_eq!(later, *first, "packet {id}, part {part}");
        }
    }
}

#[test]
fn a_malformed_packet_has_the_hash_of_its_addresses() {
    for v6 in [false, true] {
        let mut malformed = tcp(v6, (A, 1000), (B, 80));
        let valid = hashes(Spread::Hosts, &malformed);
        // A header length, or a payload length, beyond the end of the frame.
        malformed.bytes[if v6 { 18 } else { 14 }] = 0x4f;
        assert_eq!(ip::locate(&malformed.frame()), Network::Malformed);
        for spread in [Spread::Hosts, Spread::Flows] {
            assert_eq!(hashes(spread, &malformed), valid);
        }
    }
    let mut short = tcp(false, (A, 1000), (B, 80));
    short.bytes.truncate(30);
    let macs = HostsHash::of_macs([4; 6], [2; 6]);
    assert_eq!(
        hashes(Spread::Hosts, &short).hosts,
        macs,
        "else by the Ethernet addresses"
    );
}

#[test]
fn frames_other_than_ip_have_the_hash_of_their_ethernet_addresses() {
    let other = |ethertype: [u8; 2]| {
        let bytes = [&[2; 6][..], &[4; 6], &ethertype, &[0; 40]].concat();
        hashes(Spread::Flows, &TestFrame::new(bytes))
    };
    assert_eq!(other([0x08, 0x06]), other([0x88, 0x47]));
    assert_eq!(
        other([0x08, 0x06]).hosts,
        HostsHash::of_macs([4; 6], [2; 6])
    );
}

#[test]
fn source_ports_are_a_power_of_two() {
    let valid: Vec<u8> = (0..=u8::MAX)
        .filter_map(SourcePorts::new)
        .map(SourcePorts::get)
        .collect();
    assert_eq!(valid, [1, 2, 4, 8, 16]);
}

proptest! {
    #[test]
    fn both_directions_of_a_flow_have_one_hash(v6: bool, a: ([u8; 16], u16), b: ([u8; 16], u16)) {
        for spread in [Spread::Hosts, Spread::Flows] {
            prop_assert_eq!(hashes(spread, &tcp(v6, a, b)), hashes(spread, &tcp(v6, b, a)));
        }
    }

    #[test]
    fn flows_that_differ_in_a_port_differ_and_have_the_same_hosts(v6: bool, a: ([u8; 16], u16), b: ([u8; 16], u16)) {
        let (one, other) = (tcp(v6, a, b), tcp(v6, (a.0, a.1 ^ 1), b));
        prop_assert_eq!(hashes(Spread::Hosts, &one), hashes(Spread::Hosts, &other));
        let (one, other) = (hashes(Spread::Flows, &one), hashes(Spread::Flows, &other));
        prop_assert_ne!(one.flow, other.flow);
        prop_assert_eq!(one.hosts, other.hosts);
    }

    #[test]
    fn other_hosts_have_another_hash(a: [u8; 16], b: [u8; 16], bit in 0_usize..128) {
        let mut other = a;
        other[bit / 8] ^= 1 << (bit % 8);
        let hosts = |a: [u8; 16]| HostsHash::of_addresses(Ipv6Addr::from(a).into(), Ipv6Addr::from(b).into());
        prop_assert_ne!(hosts(a), hosts(other));
    }

    #[test]
    fn a_malformed_quotation_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        hashes(Spread::Flows, &icmp_error(&bytes));
    }
}
