use core::net::Ipv6Addr;

use etherparse::{IpNumber, PacketBuilder};
use proptest::prelude::*;
use wire::ip;

use super::*;
use crate::tests::Specimen;

fn hash_of(specimen: &Specimen) -> u64 {
    let frame = specimen.frame();
    hash(&frame, &ip::locate(&frame)).0
}

fn tcp(v6: bool, from: ([u8; 16], u16), to: ([u8; 16], u16)) -> Specimen {
    let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let four = |a: [u8; 16]| [a[0], a[1], a[2], a[3]];
    let ip = if v6 {
        link.ipv6(from.0, to.0, 64)
    } else {
        link.ipv4(four(from.0), four(to.0), 64)
    };
    let mut bytes = Vec::new();
    ip.tcp(from.1, to.1, 1, 1).write(&mut bytes, &[]).unwrap();
    Specimen::new(bytes)
}

fn icmp_error(quoted: &[u8]) -> Specimen {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 9, 9, 9], [10, 0, 0, 1], 64)
        .icmpv4_raw(3, 3, [0; 4])
        .write(&mut bytes, quoted)
        .unwrap();
    Specimen::new(bytes)
}

/// The vectors of docs/wire-truth.md.
#[test]
fn the_published_vectors_are_kept() {
    let v6 = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
    let four = |n: u8| [10, 0, 0, n, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut arp = vec![0xff; 6];
    arp.extend_from_slice(&[2, 0, 0, 0, 0, 1, 0x08, 0x06]);
    let mut fragment = tcp(false, (four(1), 40_000), (four(2), 443));
    fragment.bytes[20] = 0x20;
    let cases = [
        (
            "tcp 10.0.0.1:40000 10.0.0.2:443",
            tcp(false, (four(1), 40_000), (four(2), 443)),
        ),
        (
            "tcp [fd00::1]:40000 [fd00::2]:443",
            tcp(true, (v6("fd00::1"), 40_000), (v6("fd00::2"), 443)),
        ),
        ("first fragment, tcp 10.0.0.1 10.0.0.2", fragment),
        (
            "arp ff:ff:ff:ff:ff:ff 02:00:00:00:00:01",
            Specimen::new(arp),
        ),
    ];
    let got: Vec<String> = cases
        .iter()
        .map(|(name, s)| format!("{name}: {:016x}", hash_of(s)))
        .collect();
    assert_eq!(got, PUBLISHED);
}

const PUBLISHED: [&str; 4] = [
    "tcp 10.0.0.1:40000 10.0.0.2:443: 4128dbedc5735b51",
    "tcp [fd00::1]:40000 [fd00::2]:443: 939605b4be891d38",
    "first fragment, tcp 10.0.0.1 10.0.0.2: a9661b311312a818",
    "arp ff:ff:ff:ff:ff:ff 02:00:00:00:00:01: effbaa9be2edd3dd",
];

#[test]
fn an_icmp_error_goes_with_the_flow_that_it_quotes() {
    let four = |n: u8| [10, 0, 0, n, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let flow = tcp(false, (four(1), 1000), (four(2), 80));
    let error = icmp_error(&flow.bytes[14..42]);
    assert_eq!(hash_of(&error), hash_of(&flow));
}

#[test]
fn all_fragments_of_a_packet_have_one_hash() {
    let fragment = |field: u16| {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .write(&mut bytes, IpNumber(17), &[7; 64])
            .unwrap();
        bytes[20..22].copy_from_slice(&field.to_be_bytes());
        hash_of(&Specimen::new(bytes))
    };
    assert_eq!(fragment(0x2000), fragment(0x2008));
    assert_eq!(fragment(0x2000), fragment(0x0010));
    assert_ne!(fragment(0x2000), fragment(0x4000));
}

proptest! {
    #[test]
    fn both_directions_of_a_flow_have_one_hash(v6: bool, a: ([u8; 16], u16), b: ([u8; 16], u16)) {
        prop_assert_eq!(hash_of(&tcp(v6, a, b)), hash_of(&tcp(v6, b, a)));
    }

    #[test]
    fn flows_that_differ_in_a_port_differ(v6: bool, a: ([u8; 16], u16), b: ([u8; 16], u16)) {
        let other = (a.0, a.1 ^ 1);
        prop_assert_ne!(hash_of(&tcp(v6, a, b)), hash_of(&tcp(v6, other, b)));
    }

    #[test]
    fn a_garbled_quotation_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        hash_of(&icmp_error(&bytes));
    }
}
