//! The eight bytes between the outer UDP header and the inner frame (RFC 7348 section 5).
//!
//! ```text
//!  0                   1                   2                   3
//! |0 0 0 0 1 0 0 0|            reserved, zero                     |
//! |                VXLAN Network Identifier       | reserved, zero|
//! ```
//! The reserved bits are always zero: the kernel, Suricata and Arkime drop a frame otherwise.

use core::net::IpAddr;

use crate::units::{Mtu, Vni};

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 8;
/// The port that IANA assigned.
pub const PORT: u16 = 4789;
/// The first of the dynamic ports (RFC 6335), from which source ports are chosen (RFC 7348 section
/// 4.1).
pub const FIRST_SOURCE_PORT: u16 = 49_152;

/// The header for a network identifier.
#[must_use]
pub const fn header(vni: Vni) -> [u8; HEADER_LEN] {
    let [_, a, b, c] = vni.get().to_be_bytes();
    [0x08, 0, 0, 0, a, b, c, 0]
}

/// Bytes of outer IP, UDP and VXLAN header before the inner frame, for a sensor's address.
#[must_use]
pub const fn overhead(sensor: IpAddr) -> u16 {
    match sensor {
        IpAddr::V4(_) => 20 + 8 + 8,
        IpAddr::V6(_) => 40 + 8 + 8,
    }
}

/// The longest inner frame, link header included, that fits the outer packet.
///
/// [`Mtu::MIN`] exceeds every overhead, so the result is never zero.
#[must_use]
pub const fn inner_frame_max(mtu: Mtu, sensor: IpAddr) -> u16 {
    mtu.get() - overhead(sensor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn the_header_has_its_flag_its_vni_and_nothing_else() {
        assert_eq!(header(Vni::default()), [8, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(header(Vni::MAX), [8, 0, 0, 0, 0xff, 0xff, 0xff, 0]);
        assert_eq!(
            Vni::new(0x0001_0203).map(header),
            Some([8, 0, 0, 0, 1, 2, 3, 0])
        );
    }

    #[test]
    fn the_tunnel_uses_50_bytes_over_ipv4_and_70_over_ipv6() {
        let ethernet = 14;
        let v4 = inner_frame_max(Mtu::ETHERNET, IpAddr::V4(Ipv4Addr::LOCALHOST));
        let v6 = inner_frame_max(Mtu::ETHERNET, IpAddr::V6(Ipv6Addr::LOCALHOST));
        assert_eq!(1500 - (v4 - ethernet), 50);
        assert_eq!(1500 - (v6 - ethernet), 70);
    }
}
