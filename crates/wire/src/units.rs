//! Numbers with a type and bounds.
//!
//! In: an integer from the environment, an annotation or the kernel. Out: a number within its bounds.
//! Sources: RFC 7348 section 5 (VNI), `net/ipv4/route.c` (smallest MTU).

use core::fmt;

/// A VXLAN Network Identifier: 24 bits (RFC 7348 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Vni(u32);

impl Vni {
    /// The largest VNI, 2^24 - 1.
    pub const MAX: Self = Self(0x00ff_ffff);

    /// Accepts a number that fits in 24 bits.
    #[must_use]
    pub const fn new(vni: u32) -> Option<Self> {
        if vni <= Self::MAX.0 {
            Some(Self(vni))
        } else {
            None
        }
    }

    /// The number itself, below 2^24.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The size in bytes of the largest IP packet that a link or path accepts, including its IP header.
///
/// Here it is always the MTU for the *outer* packet. [`crate::vxlan::overhead`] is the part of it that
/// the inner frame cannot use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mtu(u16);

impl Mtu {
    /// The smallest MTU: Linux accepts no smaller one for a path (`net.ipv4.route.min_pmtu`).
    pub const MIN: Self = Self(552);
    /// The largest MTU: the length field of an IP packet has 16 bits.
    pub const MAX: Self = Self(u16::MAX);
    /// The MTU of Ethernet.
    pub const ETHERNET: Self = Self(1500);

    /// Accepts a number of bytes from [`Mtu::MIN`] to [`Mtu::MAX`].
    #[must_use]
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes >= Self::MIN.0 as u32 && bytes <= Self::MAX.0 as u32 {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "compared with u16::MAX above"
            )]
            let bytes = bytes as u16;
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// Accepts any number and limits it to the bounds: loopback's 65,536 becomes 65,535.
    #[must_use]
    pub const fn saturating(bytes: u32) -> Self {
        match Self::new(bytes) {
            Some(mtu) => mtu,
            None if bytes < Self::MIN.0 as u32 => Self::MIN,
            None => Self::MAX,
        }
    }

    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vni_has_24_bits() {
        assert_eq!(Vni::new(0).map(Vni::get), Some(0));
        assert_eq!(Vni::new(0x00ff_ffff), Some(Vni::MAX));
        assert_eq!(Vni::new(0x0100_0000), None);
    }

    #[test]
    fn an_mtu_is_rejected_or_limited_to_its_bounds() {
        assert_eq!(Mtu::new(551), None);
        assert_eq!(Mtu::new(552), Some(Mtu::MIN));
        assert_eq!(Mtu::new(65_535), Some(Mtu::MAX));
        assert_eq!(Mtu::new(65_536), None);
        assert_eq!(Mtu::saturating(65_536), Mtu::MAX);
        assert_eq!(Mtu::saturating(0), Mtu::MIN);
        assert_eq!(Mtu::saturating(1500), Mtu::ETHERNET);
    }
}
