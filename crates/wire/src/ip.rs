//! Where the network and the transport header of a frame are.
//!
//! In: a frame. Out: [`Network`]: a valid IP packet with its offsets, or why there is none.
//! Invariant of a [`Packet`]: `start < transport <= end <= bytes.len()`, and the header between
//! `start` and `transport` was checked. The packet's end comes from its own length field, so an
//! Ethernet trailer does not count as payload. Only a GSO frame, whose length field may be zero (BIG
//! TCP), ends with the frame.

use crate::ethernet::{self, TYPE_IPV4, TYPE_IPV6};
use crate::frame::Frame;
use crate::ipv4::Ipv4;
use crate::ipv6::{self, Chain, Ipv6};

/// ICMP over IPv4.
pub const ICMP: u8 = 1;
/// IPv4 in IP.
pub const IP_IN_IP: u8 = 4;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// IPv6 in IP.
pub const IPV6_IN_IP: u8 = 41;
/// GRE.
pub const GRE: u8 = 47;
/// DCCP, with ports where TCP has them.
pub const DCCP: u8 = 33;
/// ICMP over IPv6.
pub const ICMPV6: u8 = 58;
/// SCTP, with ports where TCP has them.
pub const SCTP: u8 = 132;
/// UDP-Lite, with ports where UDP has them.
pub const UDP_LITE: u8 = 136;

/// What follows the link header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// A valid IP packet.
    Ip(Packet),
    /// A frame with the EtherType of IP whose packet is invalid: a wrong version, a header or a length
    /// beyond the end of the frame, or too many extension headers.
    Malformed,
    /// Anything else.
    Other,
}

/// The offsets of an IP packet in [`Frame::bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// The version, with the fields that only this version has.
    pub version: Version,
    /// Where its header starts.
    pub start: usize,
    /// Where its transport header, or a fragment's data, starts.
    pub transport: usize,
    /// The offset after its last byte.
    pub end: usize,
    /// The protocol at `transport`.
    pub protocol: u8,
    /// Whether it is a fragment; the first fragment is one too.
    pub is_fragment: bool,
}

/// The version of an IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6 and its extension headers; their offsets count from the IPv6 header.
    V6(Chain),
}

/// Finds the network layer of a frame.
#[must_use]
pub fn locate(frame: &Frame<'_>) -> Network {
    let Some(payload) = ethernet::payload(frame) else {
        return Network::Other;
    };
    let bytes = frame.bytes.get(payload.start..).unwrap_or_default();
    let gso = frame.offload.gso.is_some();
    let packet = match payload.ethertype {
        TYPE_IPV4 => locate_v4(bytes, payload.start, gso),
        TYPE_IPV6 => locate_v6(bytes, payload.start, gso),
        _ => return Network::Other,
    };
    packet.map_or(Network::Malformed, Network::Ip)
}

fn locate_v4(bytes: &[u8], start: usize, gso: bool) -> Option<Packet> {
    let ip = Ipv4::parse(bytes)?;
    let header_len = ip.header().len();
    let length = if gso {
        bytes.len()
    } else {
        usize::from(ip.total_len())
    };
    if length < header_len || length > bytes.len() {
        return None;
    }
    Some(Packet {
        version: Version::V4,
        start,
        transport: start + header_len,
        end: start + length,
        protocol: ip.protocol(),
        is_fragment: ip.is_fragment(),
    })
}

fn locate_v6(bytes: &[u8], start: usize, gso: bool) -> Option<Packet> {
    let ip = Ipv6::parse(bytes)?;
    let by_header = ipv6::HEADER_LEN + usize::from(ip.payload_len());
    let length = if gso { bytes.len() } else { by_header };
    let chain = ipv6::chain(bytes.get(..length)?)?;
    Some(Packet {
        version: Version::V6(chain),
        start,
        transport: start + chain.transport,
        end: start + length,
        protocol: chain.protocol,
        is_fragment: chain.fragment.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Direction, Link, Timestamp};
    use crate::offload::{Gso, GsoKind, Offload};
    use proptest::prelude::*;

    fn frame(bytes: &[u8], gso: bool) -> Frame<'_> {
        let gso = gso.then_some(Gso {
            kind: GsoKind::TcpV4,
            size: 1000,
        });
        Frame {
            bytes,
            at: 0,
            headroom: 0,
            wire_len: u32::try_from(bytes.len()).unwrap(),
            timestamp: Timestamp::default(),
            direction: Direction::Incoming,
            link: Link::Ethernet,
            vlan: None,
            offload: Offload {
                gso,
                ..Offload::default()
            },
        }
    }

    fn udp_v4(payload: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        etherparse::PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(1, 2)
            .write(&mut bytes, &vec![7; payload])
            .unwrap();
        bytes
    }

    #[test]
    fn a_trailer_does_not_belong_to_the_packet() {
        let mut bytes = udp_v4(10);
        let end = bytes.len();
        bytes.extend_from_slice(&[0; 8]);
        let Network::Ip(packet) = locate(&frame(&bytes, false)) else {
            panic!("valid")
        };
        assert_eq!((packet.start, packet.transport, packet.end), (14, 34, end));
        let Network::Ip(packet) = locate(&frame(&bytes, true)) else {
            panic!("valid")
        };
        assert_eq!(packet.end, bytes.len());
    }

    #[test]
    fn lengths_beyond_the_frame_are_malformed() {
        let bytes = udp_v4(10);
        assert_eq!(
            locate(&frame(&bytes[..bytes.len() - 1], false)),
            Network::Malformed
        );
        let mut short = bytes.clone();
        short[16..18].copy_from_slice(&19_u16.to_be_bytes());
        assert_eq!(locate(&frame(&short, false)), Network::Malformed);
        assert_eq!(locate(&frame(&bytes[..13], false)), Network::Other);
    }

    proptest! {
        #[test]
        fn offsets_are_ordered_for_any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 14..200), v6: bool, gso: bool) {
            let (ethertype, version) = if v6 { (TYPE_IPV6, 0x60) } else { (TYPE_IPV4, 0x45) };
            bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
            if let Some(first) = bytes.get_mut(14) { *first = version; }
            if let Network::Ip(p) = locate(&frame(&bytes, gso)) {
                prop_assert!(p.start < p.transport && p.transport <= p.end && p.end <= bytes.len());
            }
        }
    }
}
