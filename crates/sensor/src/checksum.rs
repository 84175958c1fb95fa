//! Whether the checksums inside a copy are valid, as a sensor checks them.
//!
//! In: an inner frame. Out: `false` if its IPv4 header, TCP, UDP, ICMP or ICMPv6 checksum is wrong. What
//! has no checksum is valid: another protocol, a fragment, UDP over IPv4 with a zero field. A packet with
//! IPv6 extension headers is not checked, because a routing header changes the pseudo-header.

use wire::Frame;
use wire::checksum::{Sum, pseudo_v4, pseudo_v6};
use wire::ip::{self, ICMP, ICMPV6, Network, Packet, TCP, UDP, Version};
use wire::ipv4::Ipv4;
use wire::ipv6::{self, Ipv6};

/// Where the checksum is in a UDP header.
const AT_UDP_CHECKSUM: usize = 6;

/// Whether no checksum is wrong.
pub(crate) fn is_valid(frame: &Frame<'_>) -> bool {
    match ip::locate(frame) {
        Network::Ip(packet) => check(frame.bytes, &packet).unwrap_or(true),
        _ => true,
    }
}

/// `None` where there is nothing to check.
fn check(bytes: &[u8], packet: &Packet) -> Option<bool> {
    let header = bytes.get(packet.start..packet.transport)?;
    if packet.version == Version::V4 && !Sum::of(header).is_valid() {
        return Some(false);
    }
    let has_extensions = packet.version != Version::V4 && header.len() != ipv6::HEADER_LEN;
    if packet.is_fragment || has_extensions {
        return None;
    }
    let mut transport = bytes.get(packet.transport..packet.end)?;
    if packet.protocol == UDP {
        let length = u16::from_be_bytes([*transport.get(4)?, *transport.get(5)?]);
        transport = transport.get(..length.into())?;
        if transport.get(AT_UDP_CHECKSUM..)?.starts_with(&[0, 0]) {
            return Some(packet.version == Version::V4);
        }
    }
    let sum = pseudo_header(
        bytes.get(packet.start..packet.end)?,
        packet,
        transport.len(),
    )?;
    Some(sum.plus(Sum::of(transport)).is_valid())
}

/// The sum of the pseudo-header; zero where the protocol has none.
fn pseudo_header(bytes: &[u8], packet: &Packet, length: usize) -> Option<Sum> {
    let protocol = packet.protocol;
    match (packet.version, protocol) {
        (Version::V4, ICMP) => Some(Sum::ZERO),
        (Version::V4, TCP | UDP) => {
            let ip = Ipv4::parse(bytes)?;
            let length = length.try_into().ok()?;
            Some(pseudo_v4(ip.source(), ip.destination(), protocol, length))
        }
        (Version::V6(_), TCP | UDP | ICMPV6) => {
            let ip = Ipv6::parse(bytes)?;
            let length = length.try_into().ok()?;
            Some(pseudo_v6(ip.source(), ip.destination(), protocol, length))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;
    use crate::test_frame::frame;

    fn valid(bytes: &[u8]) -> bool {
        is_valid(&frame(bytes))
    }

    fn packet(kind: u8, payload: &[u8]) -> Vec<u8> {
        let link = || PacketBuilder::ethernet2([2; 6], [4; 6]);
        let v4 = || link().ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
        let v6 = || link().ipv6([1; 16], [2; 16], 64);
        let mut frame = Vec::new();
        match kind {
            0 => v4().tcp(1, 2, 3, 4).write(&mut frame, payload),
            1 => v4().udp(1, 2).write(&mut frame, payload),
            2 => v4().icmpv4_echo_request(1, 2).write(&mut frame, payload),
            3 => v6().tcp(1, 2, 3, 4).write(&mut frame, payload),
            4 => v6().udp(1, 2).write(&mut frame, payload),
            _ => v6().icmpv6_echo_request(1, 2).write(&mut frame, payload),
        }
        .unwrap();
        frame
    }

    proptest! {
        #[test]
        fn etherparse_and_it_agree(
            kind in 0_u8..6,
            payload in proptest::collection::vec(any::<u8>(), 1..100),
            bit in 0_u8..8,
        ) {
            let mut frame = packet(kind, &payload);
            prop_assert!(valid(&frame));
            // An Ethernet trailer is no part of the packet.
            frame.push(1);
            prop_assert!(valid(&frame));
            frame.pop();
            *frame.last_mut().unwrap() ^= 1 << bit;
            prop_assert!(!valid(&frame));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = valid(&bytes);
        }

        #[test]
        fn no_damage_makes_it_panic(kind in 0_u8..6, at in 0_usize..70, value: u8, end in 0_usize..90) {
            let mut frame = packet(kind, &[5; 30]);
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
            frame.truncate(end);
            let _ = valid(&frame);
        }
    }

    #[test]
    fn a_damaged_ipv4_header_is_found() {
        let mut frame = packet(0, b"text");
        frame[22] ^= 1;
        assert!(!valid(&frame));
    }

    #[test]
    fn a_udp_checksum_of_zero_is_none_over_ipv4_only() {
        for (kind, at, expected) in [(1, 40, true), (4, 60, false)] {
            let mut frame = packet(kind, b"text");
            frame[at..at + 2].fill(0);
            assert_eq!(valid(&frame), expected, "kind {kind}");
        }
    }

    #[test]
    fn what_has_no_checksum_is_valid() {
        let mut fragment = packet(0, b"text");
        fragment[20..22].copy_from_slice(&[0x20, 0]);
        fragment[24..26].fill(0);
        let sum = Sum::of(&fragment[14..34]).finish().get();
        fragment[24..26].copy_from_slice(&sum.to_be_bytes());
        fragment.pop();
        fragment.push(0xff);
        assert!(valid(&fragment));
        assert!(valid(&[0xff; 60]));
    }
}
