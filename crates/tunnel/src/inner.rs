//! The IP packet inside the tunnel: an IP and a UDP header around a VXLAN datagram.
//!
//! Written by podspan, read by `podspan-receive`:
//!
//! ```text
//! IPv4 20 | IPv6 40   UDP 8                        VXLAN 8   frame
//! source, destination source port, 4789, checksum
//! ```
//! The source port is the one that the datagram would have outside without a tunnel, so its entropy is there
//! for a stock receiver. Over IPv4 the UDP checksum is zero, as in VXLAN without a tunnel. Over IPv6 it is
//! valid, because Linux's vxlan device drops a zero one unless it was made with `udp6zerocsumrx`; it costs
//! one read of the datagram.
//!
//! When it is read, the AEAD has authenticated every byte. So checksums and addresses are not checked, and
//! lengths are: who has the keys can still be wrong. Bytes after the packet are padding (the paper, section
//! 5.4.6), and ignored.
//!
//! Source: RFC 791, RFC 8200, RFC 768, RFC 7348 section 5.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::Range;

use wire::checksum::{Sum, pseudo_v6};
use wire::vxlan;

use crate::overhead::{Family, UDP_LEN, inner_header_len};
use crate::refusal::Refusal;

/// The protocol number of UDP.
const UDP: u8 = 17;
/// Not fragmented and not to be: the packet leaves the tunnel where it ends.
const DONT_FRAGMENT: u16 = 0x4000;
/// More fragments, or an offset.
const IS_FRAGMENT: u16 = 0x3fff;
/// The IPv6 extension header of fragments.
const FRAGMENT_HEADER: u8 = 44;
const HOPS: u8 = 64;

/// The addresses of the packets inside a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inner {
    /// IPv4.
    V4 {
        /// podspan's address.
        source: Ipv4Addr,
        /// The sensor's address.
        destination: Ipv4Addr,
    },
    /// IPv6.
    V6 {
        /// podspan's address.
        source: Ipv6Addr,
        /// The sensor's address.
        destination: Ipv6Addr,
    },
}

impl Inner {
    /// For `podspan-receive`, which ignores them: addresses that mean something on one link only (RFC 3927),
    /// and the link is the tunnel. IPv4, because it has the smaller header.
    pub const DEFAULT: Self = Self::V4 {
        source: Ipv4Addr::new(169, 254, 47, 1),
        destination: Ipv4Addr::new(169, 254, 47, 2),
    };

    /// Of two addresses; none if one is IPv4 and the other IPv6.
    #[must_use]
    pub const fn new(source: IpAddr, destination: IpAddr) -> Option<Self> {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Some(Self::V4 {
                source,
                destination,
            }),
            (IpAddr::V6(source), IpAddr::V6(destination)) => Some(Self::V6 {
                source,
                destination,
            }),
            _ => None,
        }
    }

    /// The version of its IP header.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self {
            Self::V4 { .. } => Family::V4,
            Self::V6 { .. } => Family::V6,
        }
    }

    /// Bytes of its headers.
    pub(crate) const fn header_len(&self) -> usize {
        inner_header_len(self.family()) as usize
    }

    /// The longest VXLAN datagram that the length fields allow.
    pub(crate) const fn payload_max(&self) -> usize {
        let ip = match self {
            // The length of IPv4 has its header in it.
            Self::V4 { .. } => Family::V4.header_len(),
            Self::V6 { .. } => 0,
        };
        (u16::MAX - ip - UDP_LEN) as usize
    }
}

/// The headers of all packets of a tunnel, but for what differs: length, source port and checksum.
#[derive(Debug, Clone)]
pub(crate) enum Headers {
    V4 {
        header: [u8; 28],
        /// The sum of the IP header without its length.
        sum: Sum,
    },
    V6 {
        header: [u8; 48],
        /// The sum of the UDP pseudo-header without the length.
        sum: Sum,
    },
}

impl Headers {
    pub(crate) fn new(inner: &Inner) -> Self {
        let [d0, d1] = vxlan::PORT.to_be_bytes();
        match inner {
            Inner::V4 {
                source,
                destination,
            } => {
                let mut header = [0; 28];
                let [f0, f1] = DONT_FRAGMENT.to_be_bytes();
                header[..12].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, f0, f1, HOPS, UDP, 0, 0]);
                header[12..16].copy_from_slice(&source.octets());
                header[16..20].copy_from_slice(&destination.octets());
                header[22..24].copy_from_slice(&[d0, d1]);
                let sum = Sum::of(&header[..20]);
                Self::V4 { header, sum }
            }
            Inner::V6 {
                source,
                destination,
            } => {
                let mut header = [0; 48];
                header[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, UDP, HOPS]);
                header[8..24].copy_from_slice(&source.octets());
                header[24..40].copy_from_slice(&destination.octets());
                header[42..44].copy_from_slice(&[d0, d1]);
                let sum = pseudo_v6(*source, *destination, UDP, 0);
                Self::V6 { header, sum }
            }
        }
    }

    /// Writes the headers into the first bytes of `packet`, whose other bytes are the VXLAN datagram. Returns
    /// none, and may have written, if the packet is shorter than its headers or longer than its length
    /// fields can say.
    pub(crate) fn write(&self, packet: &mut [u8], source_port: u16) -> Option<()> {
        let port = source_port.to_be_bytes();
        match self {
            Self::V4 { header, sum } => {
                let length = u16::try_from(packet.len()).ok()?;
                let udp_len = length.checked_sub(Family::V4.header_len())?;
                let to = packet.first_chunk_mut()?;
                *to = *header;
                to[2..4].copy_from_slice(&length.to_be_bytes());
                let checksum = sum.plus_u16(length).finish();
                to[10..12].copy_from_slice(&checksum.get().to_be_bytes());
                to[20..22].copy_from_slice(&port);
                to[24..26].copy_from_slice(&udp_len.to_be_bytes());
            }
            Self::V6 { header, sum } => {
                let udp_len = packet.len().checked_sub(Family::V6.header_len().into())?;
                let udp_len = u16::try_from(udp_len).ok()?;
                let to = packet.first_chunk_mut()?;
                *to = *header;
                to[4..6].copy_from_slice(&udp_len.to_be_bytes());
                to[40..42].copy_from_slice(&port);
                to[44..46].copy_from_slice(&udp_len.to_be_bytes());
                let datagram = packet.get_mut(40..)?;
                // The same in 16 and in 32 bits.
                let sum = sum.plus_u16(udp_len).plus(Sum::of(datagram));
                let checksum = sum.finish().or_all_ones().get().to_be_bytes();
                datagram.get_mut(6..8)?.copy_from_slice(&checksum);
            }
        }
        Some(())
    }
}

/// Where the VXLAN datagram is in a packet from the tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located {
    /// Its bytes, from the VXLAN header on: at least that header.
    pub(crate) payload: Range<usize>,
    /// The source port of its inner UDP header.
    pub(crate) source_port: u16,
}

/// Finds the VXLAN datagram in a packet from the tunnel.
pub(crate) fn locate(packet: &[u8]) -> Result<Located, Refusal> {
    let udp = match packet.first().ok_or(Refusal::TooShort)? >> 4 {
        4 => udp_in_v4(packet)?,
        6 => udp_in_v6(packet)?,
        _ => return Err(Refusal::NotIp),
    };
    let bytes = packet.get(udp.clone()).ok_or(Refusal::LengthMismatch)?;
    let (header, payload) = bytes.split_first_chunk::<8>().ok_or(Refusal::TooShort)?;
    let [s0, s1, d0, d1, l0, l1, ..] = *header;
    if u16::from_be_bytes([d0, d1]) != vxlan::PORT {
        return Err(Refusal::WrongPort);
    }
    if usize::from(u16::from_be_bytes([l0, l1])) != bytes.len() {
        return Err(Refusal::LengthMismatch);
    }
    if payload.len() < vxlan::HEADER_LEN {
        return Err(Refusal::TooShort);
    }
    Ok(Located {
        payload: udp.start + header.len()..udp.end,
        source_port: u16::from_be_bytes([s0, s1]),
    })
}

/// Where the UDP datagram is in an IPv4 packet; its end may be behind that of the packet.
fn udp_in_v4(packet: &[u8]) -> Result<Range<usize>, Refusal> {
    let header = packet.first_chunk::<20>().ok_or(Refusal::TooShort)?;
    let [first, _, l0, l1, _, _, f0, f1, _, protocol, ..] = *header;
    let start = usize::from(first & 0xf) * 4;
    let end = usize::from(u16::from_be_bytes([l0, l1]));
    if start < header.len() || end < start || end > packet.len() {
        return Err(Refusal::LengthMismatch);
    }
    if u16::from_be_bytes([f0, f1]) & IS_FRAGMENT != 0 {
        return Err(Refusal::Fragment);
    }
    if protocol != UDP {
        return Err(Refusal::NotUdp);
    }
    Ok(start..end)
}

/// Where the UDP datagram is in an IPv6 packet. podspan writes no extension headers, and none is accepted.
fn udp_in_v6(packet: &[u8]) -> Result<Range<usize>, Refusal> {
    let header = packet.first_chunk::<40>().ok_or(Refusal::TooShort)?;
    let [_, _, _, _, l0, l1, next, ..] = *header;
    let end = header.len() + usize::from(u16::from_be_bytes([l0, l1]));
    if end > packet.len() {
        return Err(Refusal::LengthMismatch);
    }
    match next {
        UDP => Ok(header.len()..end),
        FRAGMENT_HEADER => Err(Refusal::Fragment),
        _ => Err(Refusal::NotUdp),
    }
}

#[cfg(test)]
#[path = "inner_tests.rs"]
mod tests;
