//! Verifies inner frames with etherparse, which shares no code with the project.
//!
//! Every checksum is computed over the bytes of the frame: a segment is right when the one's
//! complement sum of pseudo header, header and payload is all ones (RFC 1071). Lengths are right
//! when etherparse's strict slicing accepts the frame. A single fragment has no complete checksum, so
//! fragments are joined first, and the joined packet is verified with the last fragment.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use etherparse::checksum::Sum16BitWords;
use etherparse::defrag::IpDefragPool;
use etherparse::{IpNumber, LaxSlicedPacket, NetSlice, SlicedPacket, TransportSlice, ip_number};

use crate::frame::{FrameRef, Sink};

/// What a frame carries, as the demo's table lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// ARP.
    Arp,
    /// ICMP over IPv4.
    Icmp,
    /// ICMPv6, neighbour discovery included.
    Icmpv6,
    /// TCP over IPv4.
    Tcp,
    /// TCP over IPv6.
    Tcp6,
    /// UDP over IPv4.
    Udp,
    /// UDP over IPv6.
    Udp6,
    /// A fragment of any IP packet.
    Fragment,
    /// Anything with a VLAN tag.
    Vlan,
    /// Anything else.
    Other,
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Arp => "arp",
            Self::Icmp => "icmp",
            Self::Icmpv6 => "icmpv6",
            Self::Tcp => "tcp",
            Self::Tcp6 => "tcp6",
            Self::Udp => "udp",
            Self::Udp6 => "udp6",
            Self::Fragment => "fragment",
            Self::Vlan => "vlan",
            Self::Other => "other",
        })
    }
}

/// Whether a frame is an ICMP error that quotes a UDP datagram to `port`. Such an error can be about
/// podspan's own datagrams and not the application's; podspan mirrors some of these. A quotation is
/// truncated, so the checksums in it cannot be verified.
#[must_use]
pub fn is_error_about(frame: &[u8], port: u16) -> bool {
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else {
        return false;
    };
    let quotation = match &packet.transport {
        Some(TransportSlice::Icmpv4(icmp)) if matches!(icmp.type_u8(), 3 | 5 | 11 | 12) => {
            icmp.payload()
        }
        Some(TransportSlice::Icmpv6(icmp)) if icmp.type_u8() < 128 => icmp.payload(),
        _ => return false,
    };
    let Ok(quoted) = LaxSlicedPacket::from_ip(quotation) else {
        return false;
    };
    matches!(quoted.transport, Some(TransportSlice::Udp(udp)) if udp.destination_port() == port)
}

/// The outcome of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Check {
    /// Nothing can be checked: no such header, a fragment, or a UDP checksum of zero over IPv4.
    #[default]
    Absent,
    /// It is right.
    Right,
    /// It is wrong.
    Wrong,
}

impl From<bool> for Check {
    fn from(right: bool) -> Self {
        if right { Self::Right } else { Self::Wrong }
    }
}

/// The result for one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// What it carries.
    pub protocol: Protocol,
    /// All lengths agree with each other and with the frame's.
    pub length: Check,
    /// The IPv4 header's checksum.
    pub ip_checksum: Check,
    /// The checksum of TCP, UDP, ICMP or ICMPv6; that of the joined packet where this frame is
    /// the fragment that completes one.
    pub transport_checksum: Check,
}

impl Verdict {
    /// Nothing is wrong with the frame.
    #[must_use]
    pub fn is_right(&self) -> bool {
        ![self.length, self.ip_checksum, self.transport_checksum].contains(&Check::Wrong)
    }
}

/// Counts of one protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameCounts {
    /// Frames.
    pub frames: u64,
    /// Bytes of these frames.
    pub bytes: u64,
    /// Frames with contradicting lengths.
    pub wrong_length: u64,
    /// Frames with a wrong IPv4 header checksum.
    pub wrong_ip_checksum: u64,
    /// Frames with a wrong TCP, UDP or ICMP checksum.
    pub wrong_transport_checksum: u64,
    /// Packets joined from fragments whose checksum was verified.
    pub joined: u64,
}

/// Verifies one frame after the other; keeps fragments and counts by protocol.
#[derive(Debug, Clone)]
pub struct Verifier {
    fragments: IpDefragPool,
    counts: BTreeMap<Protocol, FrameCounts>,
}

impl Default for Verifier {
    fn default() -> Self {
        Self {
            fragments: IpDefragPool::new(),
            counts: BTreeMap::new(),
        }
    }
}

impl Verifier {
    /// A verifier that has seen no frame.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Verifies a frame, from its Ethernet header on, and counts it.
    pub fn verify(&mut self, frame: &[u8]) -> Verdict {
        let verdict = match SlicedPacket::from_ethernet(frame) {
            Ok(packet) => self.verify_packet(&packet),
            Err(_) => Verdict {
                protocol: Protocol::Other,
                length: Check::Wrong,
                ip_checksum: Check::Absent,
                transport_checksum: Check::Absent,
            },
        };
        let counts = self.counts.entry(verdict.protocol).or_default();
        let wrong = |check| u64::from(check == Check::Wrong);
        let joined =
            verdict.protocol == Protocol::Fragment && verdict.transport_checksum != Check::Absent;
        counts.frames += 1;
        counts.bytes += frame.len() as u64;
        counts.wrong_length += wrong(verdict.length);
        counts.wrong_ip_checksum += wrong(verdict.ip_checksum);
        counts.wrong_transport_checksum += wrong(verdict.transport_checksum);
        counts.joined += u64::from(joined);
        verdict
    }

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<Protocol, FrameCounts> {
        &self.counts
    }

    /// How many frames had anything wrong with them, over all protocols.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        let wrong = |counts: &FrameCounts| {
            counts.wrong_length + counts.wrong_ip_checksum + counts.wrong_transport_checksum
        };
        self.counts.values().map(wrong).sum()
    }

    fn verify_packet(&mut self, packet: &SlicedPacket<'_>) -> Verdict {
        let mut verdict = Verdict {
            protocol: Protocol::Other,
            length: Check::Right,
            ip_checksum: Check::Absent,
            transport_checksum: Check::Absent,
        };
        if let Some(net) = &packet.net {
            self.verify_net(packet, net, &mut verdict);
        }
        if !packet.vlan_ids().is_empty() {
            verdict.protocol = Protocol::Vlan;
        }
        verdict
    }

    fn verify_net(&mut self, packet: &SlicedPacket<'_>, net: &NetSlice<'_>, verdict: &mut Verdict) {
        let (source, destination, payload, fragment): (IpAddr, IpAddr, _, _) = match net {
            NetSlice::Arp(_) => {
                verdict.protocol = Protocol::Arp;
                return;
            }
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                verdict.ip_checksum = all_ones(&Sum16BitWords::new().add_slice(header.slice()));
                let addresses = (header.source_addr(), header.destination_addr());
                (
                    addresses.0.into(),
                    addresses.1.into(),
                    ip.payload(),
                    ip.is_payload_fragmented(),
                )
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                let addresses = (header.source_addr(), header.destination_addr());
                (
                    addresses.0.into(),
                    addresses.1.into(),
                    ip.payload(),
                    ip.is_payload_fragmented(),
                )
            }
        };
        if !fragment {
            verdict.protocol = protocol(payload.ip_number, source);
            verdict.transport_checksum =
                transport(payload.ip_number, source, destination, payload.payload);
            return;
        }
        verdict.protocol = Protocol::Fragment;
        match self.fragments.process_sliced_packet(packet, (), ()) {
            Ok(None) => {}
            Ok(Some(whole)) => {
                verdict.transport_checksum =
                    transport(whole.ip_number, source, destination, &whole.payload);
                self.fragments.return_buf(whole);
            }
            Err(_) => verdict.length = Check::Wrong,
        }
    }
}

impl Sink for Verifier {
    fn receive(&mut self, frame: FrameRef<'_>) {
        self.verify(frame.bytes);
    }
}

fn protocol(number: IpNumber, source: IpAddr) -> Protocol {
    match (number, source) {
        (ip_number::ICMP, IpAddr::V4(_)) => Protocol::Icmp,
        (ip_number::IPV6_ICMP, IpAddr::V6(_)) => Protocol::Icmpv6,
        (ip_number::TCP, IpAddr::V4(_)) => Protocol::Tcp,
        (ip_number::TCP, IpAddr::V6(_)) => Protocol::Tcp6,
        (ip_number::UDP, IpAddr::V4(_)) => Protocol::Udp,
        (ip_number::UDP, IpAddr::V6(_)) => Protocol::Udp6,
        _ => Protocol::Other,
    }
}

fn transport(number: IpNumber, source: IpAddr, destination: IpAddr, segment: &[u8]) -> Check {
    let over_ipv4 = source.is_ipv4();
    match number {
        ip_number::ICMP if over_ipv4 => all_ones(&Sum16BitWords::new().add_slice(segment)),
        ip_number::UDP if over_ipv4 && segment.get(6..8) == Some(&[0, 0]) => Check::Absent,
        ip_number::UDP if segment.get(6..8) == Some(&[0, 0]) => Check::Wrong,
        ip_number::TCP | ip_number::UDP => with_pseudo_header(number, source, destination, segment),
        ip_number::IPV6_ICMP if !over_ipv4 => {
            with_pseudo_header(number, source, destination, segment)
        }
        _ => Check::Absent,
    }
}

fn with_pseudo_header(
    number: IpNumber,
    source: IpAddr,
    destination: IpAddr,
    segment: &[u8],
) -> Check {
    let sum = [source, destination]
        .into_iter()
        .fold(Sum16BitWords::new(), |sum, address| match address {
            IpAddr::V4(address) => sum.add_slice(&address.octets()),
            IpAddr::V6(address) => sum.add_slice(&address.octets()),
        });
    let length = u32::try_from(segment.len()).unwrap_or(u32::MAX);
    let sum = sum
        .add_slice(&length.to_be_bytes())
        .add_2bytes([0, number.0])
        .add_slice(segment);
    all_ones(&sum)
}

/// Whether the UDP segment's checksum is right; zero is not.
pub(crate) fn udp_checksum_is_right(source: IpAddr, destination: IpAddr, segment: &[u8]) -> bool {
    with_pseudo_header(ip_number::UDP, source, destination, segment) == Check::Right
}

fn all_ones(sum: &Sum16BitWords) -> Check {
    Check::from(sum.ones_complement() == 0)
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    fn frame() -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv6([1; 16], [2; 16], 64)
            .tcp(1, 2, 3, 4)
            .ack(5);
        let mut frame = Vec::new();
        builder.write(&mut frame, b"some bytes").unwrap();
        frame
    }

    #[test]
    fn a_right_frame_is_right_and_a_flipped_bit_is_found() {
        let mut verifier = Verifier::new();
        let verdict = verifier.verify(&frame());
        assert_eq!(
            (verdict.protocol, verdict.is_right()),
            (Protocol::Tcp6, true)
        );
        let mut damaged = frame();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(verifier.verify(&damaged).transport_checksum, Check::Wrong);
        assert_eq!(verifier.wrong(), 1);
    }

    #[test]
    fn a_length_beyond_the_frame_is_found() {
        let mut truncated = frame();
        truncated.truncate(60);
        assert_eq!(Verifier::new().verify(&truncated).length, Check::Wrong);
    }

    #[test]
    fn an_error_about_a_datagram_is_recognized_by_its_quotation() {
        let mut quoted = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(50_000, 4789)
            .write(&mut quoted, &[7; 600])
            .unwrap();
        quoted.truncate(400);
        let mut error = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 2], [10, 0, 0, 1], 64)
            .icmpv4_raw(3, 3, [0; 4])
            .write(&mut error, &quoted)
            .unwrap();
        assert!(is_error_about(&error, 4789));
        assert!(!is_error_about(&error, 4790));
        assert!(!is_error_about(&frame(), 4789));
    }

    #[test]
    fn fragments_are_verified_when_joined() {
        let udp = |last: u8| {
            let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
                .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
                .udp(1, 2);
            let mut whole = Vec::new();
            builder.write(&mut whole, &[7; 32]).unwrap();
            *whole.last_mut().unwrap() ^= last;
            whole
        };
        for (damage, check) in [(0, Check::Right), (1, Check::Wrong)] {
            let whole = udp(damage);
            let mut verifier = Verifier::new();
            let mut verdicts = Vec::new();
            for (range, offset) in [(34..50, 0x2000_u16), (50..74, 2)] {
                let mut fragment = whole[..34].to_vec();
                fragment.extend(&whole[range.clone()]);
                let length = u16::try_from(20 + range.len()).unwrap();
                fragment[16..18].copy_from_slice(&length.to_be_bytes());
                fragment[20..22].copy_from_slice(&offset.to_be_bytes());
                fragment[24..26].fill(0);
                let sum = Sum16BitWords::new().add_slice(&fragment[14..34]);
                fragment[24..26].copy_from_slice(&sum.ones_complement().to_ne_bytes());
                verdicts.push(verifier.verify(&fragment));
            }
            assert_eq!(verdicts[0].transport_checksum, Check::Absent);
            assert_eq!(verdicts[1].transport_checksum, check);
            assert!(
                verdicts
                    .iter()
                    .all(|verdict| verdict.ip_checksum == Check::Right)
            );
            assert_eq!(verifier.counts()[&Protocol::Fragment].joined, 1);
        }
    }
}
