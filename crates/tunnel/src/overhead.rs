//! What the tunnel takes of a path's MTU.
//!
//! ```text
//! outer IP 20|40, UDP 8, WireGuard header 16, [ inner IP 20|40, UDP 8, VXLAN 8, frame ], tag 16
//!                                              sealed
//! ```
//! The numbers are exact, because nothing is padded. The paper (section 5.4.6) pads a packet to a multiple
//! of 16 bytes, which hides its length a little, and no receiver asks for it: boringtun sends without, and
//! Linux (`prepare_skb_header`, `wg_packet_consume_data_done`) and wireguard-go take any length and let the
//! IP header say where the packet ends.

use core::net::IpAddr;
use core::num::NonZeroU16;

use wire::{Mtu, vxlan};

use crate::protocol::{TAG_LEN, TRANSPORT_HEADER_LEN};

/// The version of the IP header inside the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4: 20 bytes.
    V4,
    /// IPv6: 40 bytes.
    V6,
}

impl Family {
    /// The version of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Bytes of an IP header without options.
    #[must_use]
    pub const fn header_len(self) -> u16 {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }
}

/// Bytes of a UDP header (RFC 768).
pub(crate) const UDP_LEN: u16 = 8;

/// Bytes of the inner IP and UDP header: what is sealed before the VXLAN header.
#[must_use]
pub const fn inner_header_len(inner: Family) -> u16 {
    inner.header_len() + UDP_LEN
}

/// Bytes of a UDP payload on the wire that carries a VXLAN datagram of `length` bytes (VXLAN header and
/// frame).
#[must_use]
pub const fn sealed_len(length: usize, inner: Family) -> usize {
    TRANSPORT_HEADER_LEN + inner_header_len(inner) as usize + length + TAG_LEN
}

/// Bytes that sealing adds to each VXLAN datagram.
#[must_use]
pub const fn added(inner: Family) -> NonZeroU16 {
    #[expect(clippy::cast_possible_truncation, reason = "at most 32 + 48 bytes")]
    let added = sealed_len(0, inner) as u16;
    match NonZeroU16::new(added) {
        Some(added) => added,
        // Never: there are headers.
        None => NonZeroU16::MIN,
    }
}

/// Bytes of the outer packet, from its IP header on, that are not the inner frame.
#[must_use]
pub const fn overhead(sensor: IpAddr, inner: Family) -> u16 {
    vxlan::overhead(sensor) + added(inner).get()
}

/// The longest inner frame, link header included, that fits the outer packet.
///
/// [`Mtu::MIN`] exceeds every overhead, so the result is never zero.
#[must_use]
pub const fn inner_frame_max(mtu: Mtu, sensor: IpAddr, inner: Family) -> u16 {
    mtu.get() - overhead(sensor, inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    #[test]
    fn ipv4_in_ipv4_takes_96_bytes_and_each_ipv6_header_20_more() {
        assert_eq!(overhead(V4, Family::V4), 96);
        assert_eq!(overhead(V4, Family::V6), 116);
        assert_eq!(overhead(V6, Family::V4), 116);
        assert_eq!(overhead(V6, Family::V6), 136);
        assert_eq!(inner_frame_max(Mtu::ETHERNET, V4, Family::V4), 1404);
        assert!(inner_frame_max(Mtu::MIN, V6, Family::V6) > 400);
    }
}
