//! One number for a flow, the same for both of its directions.
//!
//! In: a frame and where its network layer is. Out: a [`FlowHash`], from which the sensor and the
//! outer source port follow: a sensor, and a worker of it, see a flow whole and in order.
//!
//! The hash is a contract between versions of podspan (two agents must choose the same sensor), so
//! its seed is fixed and its vectors are published in `docs/wire-truth.md`:
//!
//! - an IP packet with ports (TCP, UDP, SCTP, DCCP, UDP-Lite): the protocol and both endpoints, an
//!   endpoint being address and port, the smaller endpoint first;
//! - any other IP packet, and every fragment, the first included: the protocol and both addresses,
//!   so that all fragments of a packet stay together;
//! - an ICMP error: as the packet it quotes, so that a sensor sees it with the flow it is about;
//! - anything else: the EtherType and both MAC addresses, the smaller first.
//!
//! Mixing is the finaliser of SplitMix64 (Steele, Lea, Flood 2014). The hash need not resist an
//! adversary: who can choose flows can at most load one sensor.

use core::net::IpAddr;

use wire::ip::{self, Network, Packet, Version};
use wire::ipv4::Ipv4;
use wire::ipv6::{self, Ipv6};
use wire::{FlowHash, Frame, ethernet};

/// The seed: "podspan1" in ASCII.
const SEED: u64 = 0x706f_6473_7061_6e31;

/// The finaliser of SplitMix64: each bit of the input changes half the bits of the output.
#[must_use]
pub(crate) const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Mixes an address in. An IPv4 address counts as its IPv4-mapped IPv6 one.
#[must_use]
pub(crate) fn mix_address(hash: u64, address: IpAddr) -> u64 {
    let (high, low) = halves(address);
    mix(mix(hash ^ high) ^ low)
}

fn halves(address: IpAddr) -> (u64, u64) {
    let bits = match address {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6),
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the halves are what is wanted"
    )]
    let halves = ((bits >> 64) as u64, bits as u64);
    halves
}

/// The hash of the flow that a frame belongs to.
#[must_use]
pub fn hash(frame: &Frame<'_>, network: &Network) -> FlowHash {
    match network {
        Network::Ip(packet) => {
            let bytes = frame
                .bytes
                .get(packet.start..packet.end)
                .unwrap_or_default();
            hash_packet(bytes, packet)
        }
        Network::Garbled | Network::Other => hash_link(frame),
    }
}

/// `bytes` start with the IP header that `packet` describes.
fn hash_packet(bytes: &[u8], packet: &Packet) -> FlowHash {
    let Some((source, destination)) = addresses(bytes) else {
        return FlowHash(mix(SEED));
    };
    let transport = bytes
        .get(packet.transport - packet.start..)
        .unwrap_or_default();
    if packet.is_fragment {
        return hash_endpoints(packet.protocol, (source, 0), (destination, 0));
    }
    if matches!(packet.protocol, ip::ICMP | ip::ICMPV6)
        && let Some(quoted) = quoted(packet.protocol, transport)
    {
        return quoted;
    }
    let (from, to) = ports(packet.protocol, transport);
    hash_endpoints(packet.protocol, (source, from), (destination, to))
}

/// Source and destination of an IP packet.
pub(crate) fn addresses(bytes: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match bytes.first()? >> 4 {
        4 => Ipv4::parse(bytes).map(|ip| (ip.source().into(), ip.destination().into())),
        _ => Ipv6::parse(bytes).map(|ip| (ip.source().into(), ip.destination().into())),
    }
}

fn ports(protocol: u8, transport: &[u8]) -> (u16, u16) {
    match (protocol, transport.first_chunk()) {
        (ip::TCP | ip::UDP | ip::SCTP | ip::DCCP | ip::UDP_LITE, Some([a, b, c, d])) => {
            (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))
        }
        _ => (0, 0),
    }
}

fn hash_endpoints(protocol: u8, one: (IpAddr, u16), other: (IpAddr, u16)) -> FlowHash {
    // An IPv4 and an IPv6 address never meet in one packet, so their order among each other is moot.
    let (low, high) = if one <= other {
        (one, other)
    } else {
        (other, one)
    };
    let hash = mix(SEED ^ u64::from(protocol));
    let hash = mix_address(hash, low.0);
    let hash = mix_address(hash, high.0);
    FlowHash(mix(hash ^ (u64::from(low.1) << 16 | u64::from(high.1))))
}

/// The hash of the packet that an ICMP error quotes.
fn quoted(protocol: u8, icmp: &[u8]) -> Option<FlowHash> {
    let (quoted, packet) = quoted_packet(protocol, icmp)?;
    let transport = quoted.get(packet.transport..).unwrap_or_default();
    let (source, destination) = addresses(quoted)?;
    let (from, to) = if packet.is_fragment {
        (0, 0)
    } else {
        ports(packet.protocol, transport)
    };
    Some(hash_endpoints(
        packet.protocol,
        (source, from),
        (destination, to),
    ))
}

/// The packet that an ICMP error (RFC 792, RFC 4443) quotes, as far as it goes, and its offsets
/// counted from its own start; `None` for anything but an error.
pub(crate) fn quoted_packet(protocol: u8, icmp: &[u8]) -> Option<(&[u8], Packet)> {
    const ERROR_HEADER_LEN: usize = 8;
    let kind = *icmp.first()?;
    let is_error = match protocol {
        ip::ICMP => matches!(kind, 3 | 4 | 11 | 12),
        ip::ICMPV6 => kind < 128,
        _ => false,
    };
    if !is_error {
        return None;
    }
    let quoted = icmp.get(ERROR_HEADER_LEN..)?;
    let (version, protocol, transport, is_fragment) = if protocol == ip::ICMP {
        let ip = Ipv4::parse(quoted)?;
        (
            Version::V4,
            ip.protocol(),
            ip.header().len(),
            ip.is_fragment(),
        )
    } else {
        let chain = ipv6::chain(quoted)?;
        (
            Version::V6(chain),
            chain.protocol,
            chain.transport,
            chain.fragment.is_some(),
        )
    };
    let end = quoted.len();
    Some((
        quoted,
        Packet {
            version,
            start: 0,
            transport,
            end,
            protocol,
            is_fragment,
        },
    ))
}

fn hash_link(frame: &Frame<'_>) -> FlowHash {
    let Some(addresses) = frame.bytes.first_chunk::<{ ethernet::ADDRESSES_LEN }>() else {
        return FlowHash(mix(SEED));
    };
    let mac = |at: usize| {
        addresses[at..at + 6]
            .iter()
            .fold(0_u64, |mac, byte| mac << 8 | u64::from(*byte))
    };
    let (one, other) = (mac(0), mac(6));
    let ethertype = ethernet::payload(frame).map_or(0, |payload| payload.ethertype);
    let hash = mix(SEED ^ u64::from(ethertype));
    FlowHash(mix(mix(hash ^ one.min(other)) ^ one.max(other)))
}

#[cfg(test)]
#[path = "flow_tests.rs"]
mod tests;
