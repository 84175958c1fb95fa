//! The Internet checksum (RFC 1071).
//!
//! A [`Sum`] is a running ones' complement sum. A [`Checksum`] is the value of a header field. Sums
//! are kept in the byte order of memory, which RFC 1071 (2)(B) allows, so that bytes are added as
//! whole machine words. Each run of bytes must start at an even offset of the packet; only the last
//! run may have an odd length.

use core::net::{Ipv4Addr, Ipv6Addr};

/// A ones' complement sum that is not folded yet.
///
/// 64 bits hold the sum of 2^32 words of 32 bits, far more than any packet has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

/// The value of a checksum field: the complement of a folded sum, in host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checksum(u16);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Self = Self(0);

    /// The sum of a run of bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        // Eight lanes without a carry between them: the compiler turns this into vector adds.
        let mut lanes = [0_u64; 8];
        let (chunks, rest) = bytes.as_chunks::<32>();
        for chunk in chunks {
            let (words, _) = chunk.as_chunks::<4>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane += u64::from(u32::from_ne_bytes(*word));
            }
        }
        let mut sum: u64 = lanes.iter().sum();
        let (words, rest) = rest.as_chunks::<4>();
        for word in words {
            sum += u64::from(u32::from_ne_bytes(*word));
        }
        let mut last = [0_u8; 4];
        last[..rest.len()].copy_from_slice(rest);
        Self(sum + u64::from(u32::from_ne_bytes(last)))
    }

    /// This sum and another one's.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// This sum and a 16-bit field's value.
    #[must_use]
    pub const fn plus_u16(self, value: u16) -> Self {
        Self(self.0 + value.to_be() as u64)
    }

    /// This sum and a 32-bit field's value.
    #[must_use]
    pub const fn plus_u32(self, value: u32) -> Self {
        Self(self.0 + value.to_be() as u64)
    }

    /// This sum without a 16-bit field's value that was in it: ones' complement subtraction is the
    /// addition of the complement.
    #[must_use]
    pub const fn minus_u16(self, value: u16) -> Self {
        Self(self.0 + (!value).to_be() as u64)
    }

    /// The sum in 16 bits, host byte order. All ones and zero mean the same.
    #[must_use]
    pub const fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        #[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits above")]
        let folded = sum as u16;
        u16::from_be(folded)
    }

    /// Whether this is the sum of a packet with its pseudo-header and a correct checksum.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.fold() == 0xffff
    }

    /// The value of the checksum field; the packet must be summed with this field as zero.
    #[must_use]
    pub const fn finish(self) -> Checksum {
        Checksum(!self.fold())
    }
}

impl Checksum {
    /// A value that was read from a field.
    #[must_use]
    pub const fn from_field(value: u16) -> Self {
        Self(value)
    }

    /// The value to write to a field.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// For UDP, where zero means that there is no checksum (RFC 768).
    #[must_use]
    pub const fn or_all_ones(self) -> Self {
        if self.0 == 0 { Self(0xffff) } else { self }
    }

    /// This correct checksum with the error that `found` had, where `right` would be correct.
    ///
    /// A frame that is split gets new checksums. If its own checksum was wrong, those of the copies
    /// must be wrong too. Otherwise the sensor would accept a packet that the receiving host drops.
    #[must_use]
    pub const fn with_error_of(self, found: Self, right: Self) -> Self {
        if Sum::ZERO.plus_u16(found.0).minus_u16(right.0).is_valid() {
            return self;
        }
        Self(
            Sum::ZERO
                .plus_u16(self.0)
                .plus_u16(found.0)
                .minus_u16(right.0)
                .fold(),
        )
    }
}

/// The sum of the pseudo-header over IPv4 (RFC 9293 section 3.1, RFC 768).
#[must_use]
pub fn pseudo_v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: u16) -> Sum {
    Sum::of(&source.octets())
        .plus(Sum::of(&destination.octets()))
        .plus_u16(u16::from(protocol))
        .plus_u16(length)
}

/// The sum of the pseudo-header over IPv6 (RFC 8200 section 8.1).
#[must_use]
pub fn pseudo_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, length: u32) -> Sum {
    Sum::of(&source.octets())
        .plus(Sum::of(&destination.octets()))
        .plus_u32(length)
        .plus_u16(u16::from(protocol))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 section 4.1, word by word.
    fn word_by_word(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }

    /// The two zeros of ones' complement are one number.
    fn same(a: u16, b: u16) -> bool {
        a == b || (a == 0 && b == 0xffff) || (a == 0xffff && b == 0)
    }

    #[test]
    fn the_example_of_rfc_1071_has_its_sum() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::of(&bytes).fold(), 0xddf2);
        assert_eq!(Sum::of(&bytes).finish().get(), !0xddf2);
    }

    #[test]
    fn zero_is_sent_as_all_ones_over_udp() {
        assert_eq!(Checksum::from_field(0).or_all_ones().get(), 0xffff);
        assert_eq!(Checksum::from_field(7).or_all_ones().get(), 7);
    }

    #[test]
    fn the_largest_sum_does_not_overflow() {
        let ones = vec![0xff; 1 << 20];
        assert!(Sum::of(&ones).plus(Sum::of(&ones)).is_valid());
    }

    proptest! {
        #[test]
        fn any_bytes_have_the_sum_of_the_rfc(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(same(Sum::of(&bytes).fold(), word_by_word(&bytes)));
        }

        #[test]
        fn sums_of_parts_add_up(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..150) {
            let at = (at * 2).min(bytes.len());
            let (a, b) = bytes.split_at(at);
            prop_assert!(same(Sum::of(a).plus(Sum::of(b)).fold(), word_by_word(&bytes)));
        }

        #[test]
        fn what_was_added_can_be_subtracted(a in any::<u16>(), b in any::<u16>()) {
            let sum = Sum::ZERO.plus_u16(a).plus_u16(b).minus_u16(b);
            prop_assert!(same(sum.fold(), a));
        }

        #[test]
        fn a_checksum_error_is_kept_and_none_is_added(right in any::<u16>(), found in any::<u16>(), other in any::<u16>()) {
            let kept = Checksum(other).with_error_of(Checksum(found), Checksum(right)).get();
            prop_assert_eq!(same(kept, other), same(found, right));
        }

        #[test]
        fn etherparse_computes_the_same_tcp_checksums(payload in proptest::collection::vec(any::<u8>(), 0..200), s in any::<[u8; 16]>(), d in any::<[u8; 16]>()) {
            let tcp = etherparse::TcpHeader::new(1, 2, 3, 4);
            let mut segment = tcp.to_bytes().to_vec();
            segment.extend_from_slice(&payload);
            let length = u16::try_from(segment.len()).unwrap();

            let (s4, d4) = ([s[0], s[1], s[2], s[3]], [d[0], d[1], d[2], d[3]]);
            let checksum = pseudo_v4(s4.into(), d4.into(), 6, length).plus(Sum::of(&segment)).finish();
            prop_assert_eq!(checksum.get(), tcp.calc_checksum_ipv4_raw(s4, d4, &payload).unwrap());

            let checksum = pseudo_v6(s.into(), d.into(), 6, u32::from(length)).plus(Sum::of(&segment)).finish();
            prop_assert_eq!(checksum.get(), tcp.calc_checksum_ipv6_raw(s, d, &payload).unwrap());
        }
    }
}
