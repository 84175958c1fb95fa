//! ICMP messages about podspan's datagrams, and the datagrams of an earlier podspan.

use etherparse::{IpNumber, PacketBuilder};
use wire::{Direction, Timestamp};

use super::{TUNNEL_PORT, TestFrame, mirror, table};
use crate::own::{EARLIER_SECONDS, PER_SECOND};
use crate::{Batch, DropReason, Totals};

const POD: [u8; 4] = [10, 0, 0, 1];
const OWN_PORT: u16 = 49_152;
const OWN_VNI: u8 = 0xff;

/// A datagram from the pod to the sensor, quoted by an ICMP message.
fn quotation(source_port: u16, vni: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(POD, super::SENSOR, 64)
        .udp(source_port, 4789)
        .write(&mut bytes, &[8, 0, 0, 0, 0xff, 0xff, vni, 0, 1, 2])
        .unwrap();
    bytes
}

/// An ICMP message of this type and code to the pod.
fn message(kind: u8, code: u8, quotation: &[u8]) -> TestFrame {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(super::SENSOR, POD, 64)
        .icmpv4_raw(kind, code, [0; 4])
        .write(&mut bytes, quotation)
        .unwrap();
    TestFrame {
        direction: Direction::Incoming,
        ..TestFrame::new(bytes)
    }
}

/// How many of `count` copies of a frame, a microsecond apart, are mirrored.
fn mirrored_of(test_frame: &TestFrame, count: u32, table: &crate::SensorTable) -> u64 {
    let mut mirror = mirror();
    let (mut batch, mut totals) = (Batch::new(), Totals::default());
    for number in 0..count {
        let mut frame = test_frame.frame();
        frame.timestamp = Timestamp {
            seconds: 1_700_000_000,
            nanoseconds: number * 1000,
        };
        mirror.push(&frame, table, &mut batch, &mut totals);
    }
    let mirrored = batch.datagrams().len() as u64;
    let rejected = totals.frames_dropped.of(DropReason::OwnError);
    assert_eq!(mirrored + rejected, u64::from(count), "{totals:?}");
    mirrored
}

/// Asserts that of many such frames only the allowed number is mirrored.
fn assert_quotes_own_datagram(test_frame: &TestFrame, table: &crate::SensorTable) {
    assert_eq!(mirrored_of(test_frame, 1000, table), u64::from(PER_SECOND));
}

#[test]
fn an_icmp_error_about_podspans_datagram_is_not_mirrored_and_others_are() {
    let table = table(1500);
    let own = message(3, 3, &quotation(OWN_PORT, OWN_VNI));
    assert_quotes_own_datagram(&own, &table);
    let mut shorter = own.clone();
    shorter.bytes.truncate(14 + 20 + 8 + 20 + 8);
    shorter.bytes[16..18].copy_from_slice(&56_u16.to_be_bytes());
    // Old routers quote only this much.
    assert_quotes_own_datagram(&shorter, &table);
    // About a sensor that is not in the table.
    let mut elsewhere = own.clone();
    elsewhere.bytes[14 + 20 + 8 + 16] = 9;
    assert_quotes_own_datagram(&elsewhere, &table);
    // Another port; another tunnel; an outgoing message; a datagram of another host.
    let mut outgoing = own.clone();
    outgoing.direction = Direction::Outgoing;
    let mut forged = own.clone();
    forged.bytes[14 + 20 + 8 + 12] = 9;
    for other in [
        message(3, 3, &quotation(OWN_PORT - 1, OWN_VNI)),
        message(3, 3, &quotation(OWN_PORT, OWN_VNI - 1)),
        outgoing,
        forged,
    ] {
        assert_eq!(mirrored_of(&other, 1000, &table), 1000);
    }
}

#[test]
fn a_redirect_of_podspans_datagrams_is_not_mirrored_and_others_are() {
    let ipv4 = table(1500);
    assert_quotes_own_datagram(&message(5, 1, &quotation(OWN_PORT, OWN_VNI)), &ipv4);
    let other = message(5, 1, &quotation(OWN_PORT - 1, OWN_VNI));
    assert_eq!(mirrored_of(&other, 1000, &ipv4), 1000);

    let (pod, sensor) = ([0xfd; 16], [0xfe; 16]);
    let address = core::net::SocketAddr::from((sensor, 4789));
    let ipv6 = crate::SensorTable::new(vec![crate::Sensor::new(address, wire::Mtu::ETHERNET)]);
    let redirect = |port: u16, before: &[u8]| {
        let mut quoted = Vec::new();
        PacketBuilder::ipv6(pod, sensor, 64)
            .udp(port, 4789)
            .write(&mut quoted, &[8, 0, 0, 0, 0xff, 0xff, OWN_VNI, 0])
            .unwrap();
        // Type 137, then target and destination, and the options (RFC 4861 section 4.5).
        let mut icmp = vec![137, 0, 0, 0, 0, 0, 0, 0];
        icmp.extend_from_slice(&[&[0xfc; 16][..], &sensor, before].concat());
        let units = u8::try_from((quoted.len() + 8).div_ceil(8)).unwrap();
        icmp.extend_from_slice(&[4, units, 0, 0, 0, 0, 0, 0]);
        icmp.extend_from_slice(&quoted);
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv6([0xfc; 16], pod, 255)
            .write(&mut bytes, IpNumber(58), &icmp)
            .unwrap();
        TestFrame {
            direction: Direction::Incoming,
            ..TestFrame::new(bytes)
        }
    };
    // The option with the target's Ethernet address may come before the quotation.
    for before in [&[][..], &[2, 1, 2, 0, 0, 0, 0, 9]] {
        assert_quotes_own_datagram(&redirect(OWN_PORT, before), &ipv6);
        assert_eq!(
            mirrored_of(&redirect(OWN_PORT - 1, before), 1000, &ipv6),
            1000
        );
    }
    // An option of length zero ends the search.
    let endless = redirect(OWN_PORT, &[2, 0, 2, 0, 0, 0, 0, 9]);
    assert_eq!(mirrored_of(&endless, 1000, &ipv6), 1000);
}

#[test]
fn a_datagram_of_an_earlier_podspan_is_not_mirrored_at_the_start() {
    let datagram = |port: u16, vni: u8, direction: Direction| {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(POD, super::SENSOR, 64)
            .udp(port, 4789)
            .write(&mut bytes, &[8, 0, 0, 0, 0xff, 0xff, vni, 0, 1, 2])
            .unwrap();
        TestFrame {
            direction,
            ..TestFrame::new(bytes)
        }
    };
    let table = table(1500);
    let own = datagram(OWN_PORT, OWN_VNI, Direction::Outgoing);
    assert_eq!(mirrored_of(&own, 100, &table), 0);
    for other in [
        datagram(OWN_PORT - 1, OWN_VNI, Direction::Outgoing),
        datagram(OWN_PORT, OWN_VNI - 1, Direction::Outgoing),
        datagram(OWN_PORT, OWN_VNI, Direction::Incoming),
    ] {
        assert_eq!(mirrored_of(&other, 100, &table), 100);
    }

    // Later such a datagram is another's, which this pod forwards.
    let mut mirror = mirror();
    let (mut batch, mut totals) = (Batch::new(), Totals::default());
    for seconds in [0, EARLIER_SECONDS - 1, EARLIER_SECONDS] {
        let mut frame = own.frame();
        frame.timestamp = Timestamp {
            seconds: 1_700_000_000 + seconds,
            nanoseconds: 0,
        };
        mirror.push(&frame, &table, &mut batch, &mut totals);
    }
    assert_eq!(batch.datagrams().len(), 1);
}

/// A UDP datagram as a WireGuard message of a type: four bytes, and zeros up to the length.
fn wireguard(from: ([u8; 4], u16), to: ([u8; 4], u16), kind: [u8; 4], length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let payload = [&kind[..], &vec![0; length - 4]].concat();
    PacketBuilder::ipv4(from.0, to.0, 64)
        .udp(from.1, to.1)
        .write(&mut bytes, &payload)
        .unwrap();
    bytes
}

fn ethernet(packet: &[u8], direction: Direction) -> TestFrame {
    let header = [&[2; 6][..], &[4; 6], &[8, 0]].concat();
    TestFrame {
        direction,
        ..TestFrame::new([&header, packet].concat())
    }
}

#[test]
fn an_icmp_error_about_a_sealed_datagram_is_not_mirrored_and_others_are() {
    let table = table(1500);
    let sealed = |port, kind| wireguard((POD, port), (super::SENSOR, 51_820), kind, 200);
    for kind in 1..=4 {
        let own = message(3, 3, &sealed(TUNNEL_PORT, [kind, 0, 0, 0]));
        assert_quotes_own_datagram(&own, &table);
    }
    let short = &sealed(TUNNEL_PORT, [4, 0, 0, 0])[..28];
    assert_quotes_own_datagram(&message(3, 3, short), &table);
    for (port, kind) in [
        (TUNNEL_PORT - 1, [4, 0, 0, 0]),
        (TUNNEL_PORT, [5, 0, 0, 0]),
        (TUNNEL_PORT, [4, 0, 1, 0]),
        (OWN_PORT, [4, 0, 0, 0]),
    ] {
        let other = message(3, 3, &sealed(port, kind));
        assert_eq!(mirrored_of(&other, 1000, &table), 1000, "{port} {kind:?}");
    }
}

#[test]
fn an_answer_to_the_tunnels_port_is_not_mirrored_and_others_are() {
    let table = table(1500);
    let (sensor, pod) = ((super::SENSOR, 51_820), (POD, TUNNEL_PORT));
    for (kind, length) in [(2, 92), (3, 64), (4, 32)] {
        let answer = wireguard(sensor, pod, [kind, 0, 0, 0], length);
        let incoming = ethernet(&answer, Direction::Incoming);
        assert_eq!(mirrored_of(&incoming, 100, &table), 0);
        let longer = wireguard(sensor, pod, [kind, 0, 0, 0], length + 1);
        let elsewhere = wireguard(sensor, (POD, TUNNEL_PORT + 1), [kind, 0, 0, 0], length);
        let reserved = wireguard(sensor, pod, [kind, 1, 0, 0], length);
        for other in [&longer, &elsewhere, &reserved] {
            let other = ethernet(other, Direction::Incoming);
            assert_eq!(mirrored_of(&other, 100, &table), 100);
        }
        let outgoing = ethernet(&answer, Direction::Outgoing);
        assert_eq!(mirrored_of(&outgoing, 100, &table), 100);
    }
}

#[test]
fn a_sealed_datagram_of_an_earlier_podspan_is_not_mirrored_at_the_start() {
    let table = table(1500);
    let sealed = |port, kind| {
        let datagram = wireguard((POD, port), (super::SENSOR, 51_820), [kind, 0, 0, 0], 200);
        ethernet(&datagram, Direction::Outgoing)
    };
    for kind in [1, 4] {
        assert_eq!(mirrored_of(&sealed(TUNNEL_PORT, kind), 100, &table), 0);
        assert_eq!(
            mirrored_of(&sealed(TUNNEL_PORT - 1, kind), 100, &table),
            100
        );
    }
    assert_eq!(mirrored_of(&sealed(TUNNEL_PORT, 9), 100, &table), 100);
}
