//! What a frame adds to the counts, so that they can be compared with those of the copies.
//!
//! On the pod's eth0 a TCP frame can hold 64 KB, which a wire never carries. podspan splits it as
//! the kernel does, or into smaller segments where the path to the sensor needs them. It splits other
//! packets into IP fragments. So the numbers of frames differ between both sides. What the
//! frames carry must be equal:
//!
//! | protocol | unit | bytes |
//! |-|-|-|
//! | TCP | connections (SYN without ACK) | payload |
//! | UDP | datagrams (not fragmented, or the first fragment) | payload |
//! | ICMP | messages (the same) | all after the IP header |
//! | everything else | frames | whole frames |
//!
//! Invariant: splitting a frame changes none of them; a lost or doubled piece does.

use etherparse::{Ipv6ExtensionSlice, NetSlice, SlicedPacket, TcpSlice, ip_number};
use testbed::verify::Protocol;

const UDP_HEADER: usize = 8;

/// What one frame adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Observed {
    /// The protocol that it is listed under; for a fragment, that of the whole packet.
    pub(super) protocol: Protocol,
    /// Units that begin with it.
    pub(super) units: u64,
    /// Bytes that it carries.
    pub(super) bytes: u64,
}

/// The name of a protocol's units.
pub(super) fn unit(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp | Protocol::Tcp6 => "connections",
        Protocol::Udp | Protocol::Udp6 => "datagrams",
        Protocol::Icmp | Protocol::Icmpv6 => "messages",
        _ => "frames",
    }
}

/// Reads a frame, from its Ethernet header on.
pub(super) fn observe(frame: &[u8]) -> Observed {
    let whole = |protocol| Observed {
        protocol,
        units: 1,
        bytes: frame.len() as u64,
    };
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else {
        return whole(Protocol::Other);
    };
    if !packet.vlan_ids().is_empty() {
        return whole(Protocol::Vlan);
    }
    match &packet.net {
        None => whole(Protocol::Other),
        Some(NetSlice::Arp(_)) => whole(Protocol::Arp),
        Some(net) => inside_ip(net).unwrap_or_else(|| whole(Protocol::Other)),
    }
}

/// `None` for anything but TCP, UDP and ICMP.
fn inside_ip(net: &NetSlice<'_>) -> Option<Observed> {
    let (over_ipv4, payload, first) = match net {
        NetSlice::Arp(_) => return None,
        NetSlice::Ipv4(ip) => {
            let first = ip.header().fragments_offset().value() == 0;
            (true, ip.payload(), first)
        }
        NetSlice::Ipv6(ip) => {
            let later = |extension| match extension {
                Ipv6ExtensionSlice::Fragment(header) => header.fragment_offset().value() != 0,
                _ => false,
            };
            (
                false,
                ip.payload(),
                !ip.extensions().clone().into_iter().any(later),
            )
        }
    };
    let length = payload.payload.len();
    let (protocol, units, bytes) = match (payload.ip_number, over_ipv4) {
        (ip_number::TCP, _) => {
            let tcp = TcpSlice::from_slice(payload.payload).ok()?;
            let protocol = if over_ipv4 {
                Protocol::Tcp
            } else {
                Protocol::Tcp6
            };
            (protocol, tcp.syn() && !tcp.ack(), tcp.payload().len())
        }
        (ip_number::UDP, _) => {
            let protocol = if over_ipv4 {
                Protocol::Udp
            } else {
                Protocol::Udp6
            };
            let header = if first { UDP_HEADER } else { 0 };
            (protocol, first, length.saturating_sub(header))
        }
        (ip_number::ICMP, true) => (Protocol::Icmp, first, length),
        (ip_number::IPV6_ICMP, false) => (Protocol::Icmpv6, first, length),
        _ => return None,
    };
    Some(Observed {
        protocol,
        units: u64::from(units),
        bytes: bytes as u64,
    })
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    fn seen(frame: &[u8]) -> (Protocol, u64, u64) {
        let seen = observe(frame);
        (seen.protocol, seen.units, seen.bytes)
    }

    #[test]
    fn a_connection_counts_at_its_first_segment() {
        let segment = |syn: bool, ack: bool, payload: &[u8]| {
            let mut builder = PacketBuilder::ethernet2([2; 6], [4; 6])
                .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
                .tcp(1, 2, 3, 1000);
            if syn {
                builder = builder.syn();
            }
            if ack {
                builder = builder.ack(1);
            }
            let mut frame = Vec::new();
            builder.write(&mut frame, payload).unwrap();
            frame
        };
        assert_eq!(seen(&segment(true, false, b"")), (Protocol::Tcp, 1, 0));
        assert_eq!(seen(&segment(true, true, b"")), (Protocol::Tcp, 0, 0));
        assert_eq!(seen(&segment(false, true, b"four")), (Protocol::Tcp, 0, 4));
    }

    #[test]
    fn fragments_add_up_to_their_datagram() {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(1, 2);
        let mut whole = Vec::new();
        builder.write(&mut whole, &[7; 32]).unwrap();
        assert_eq!(seen(&whole), (Protocol::Udp, 1, 32));
        let fragment = |range: std::ops::Range<usize>, offset: u16| {
            let mut fragment = whole[..34].to_vec();
            fragment.extend(&whole[range.clone()]);
            let length = u16::try_from(20 + range.len()).unwrap();
            fragment[16..18].copy_from_slice(&length.to_be_bytes());
            fragment[20..22].copy_from_slice(&offset.to_be_bytes());
            fragment
        };
        assert_eq!(seen(&fragment(34..50, 0x2000)), (Protocol::Udp, 1, 8));
        assert_eq!(seen(&fragment(50..74, 2)), (Protocol::Udp, 0, 24));
    }

    #[test]
    fn ipv6_fragments_too() {
        let fragment = |offset: u16, payload: usize| {
            let mut frame = [[4; 6], [2; 6]].concat();
            frame.extend([
                0x86,
                0xdd,
                0x60,
                0,
                0,
                0,
                0,
                u8::try_from(8 + payload).unwrap(),
                44,
                64,
            ]);
            frame.extend([0xfd; 32]);
            frame.extend([17, 0]);
            frame.extend((offset << 3 | 1).to_be_bytes());
            frame.extend([0, 0, 0, 9]);
            frame.resize(frame.len() + payload, 0);
            frame
        };
        assert_eq!(seen(&fragment(0, 16)), (Protocol::Udp6, 1, 8));
        assert_eq!(seen(&fragment(2, 24)), (Protocol::Udp6, 0, 24));
    }

    #[test]
    fn the_rest_counts_in_frames() {
        let mut tagged = vec![2; 12];
        tagged.extend([0x81, 0, 0, 5, 0x88, 0xb5]);
        tagged.resize(60, 0);
        assert_eq!(seen(&tagged), (Protocol::Vlan, 1, 60));
        let mut unknown = vec![2; 12];
        unknown.extend([0x88, 0xb5]);
        unknown.resize(60, 0);
        assert_eq!(seen(&unknown), (Protocol::Other, 1, 60));
        assert_eq!(seen(&[0; 5]), (Protocol::Other, 1, 5));
    }
}
