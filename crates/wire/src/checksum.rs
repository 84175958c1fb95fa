//! The Internet checksum (RFC 1071).
//!
//! A [`Sum`] is a running ones' complement sum. A [`Checksum`] is the value of a header field. Sums
//! are kept in the byte order of memory, which RFC 1071 (2)(B) allows, so that bytes are added as
//! whole machine words. Each run of bytes must start at an even offset of the packet, or its sum be moved
//! by [`Sum::one_byte_later`]; only the last run may have an odd length.

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
        let (steps, rest) = bytes.as_chunks();
        sum_of_steps(steps).plus(sum_of_rest(rest))
    }

    /// This sum and another one's.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The sum of the same bytes one byte later in a packet, where each byte has the other half of its
    /// word: RFC 1071 (2)(B).
    #[must_use]
    pub const fn one_byte_later(self) -> Self {
        Self(self.fold().swap_bytes().to_be() as u64)
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
        // At most four times 0xffff, then at most 0xffff + 3, then 16 bits. No loop: how often it would
        // turn depends on the data, and a wrong guess of the processor costs more than these steps.
        let sum = self.0;
        let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32 & 0xffff) + (sum >> 48);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
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

/// Bytes that one turn of the loop adds, after the compiler has made vectors of it.
const STEP: usize = 32;

/// The sum of whole steps.
///
/// Words of 64 bits are added without their carries, and so are their upper halves. That is enough: the
/// sum of the words is the sum of the lower halves plus 2^32 times the sum of the upper halves, modulo
/// 2^64, and both sums of halves are below 2^64. For each 16 bytes this takes three vector instructions
/// on x86-64 and two on aarch64, for any processor of these. The loop has no second one inside it and a
/// number of turns that is a multiple of two vectors, because the compiler makes the best code of
/// that; `cargo xtask bench --instructions` fails if it makes other code.
fn sum_of_steps(steps: &[[u8; STEP]]) -> Sum {
    let (words, _) = steps.as_flattened().as_chunks();
    let (mut whole, mut upper) = (0_u64, 0_u64);
    for word in words {
        let word = u64::from_ne_bytes(*word);
        whole = whole.wrapping_add(word);
        upper += word >> 32;
    }
    let lower = whole.wrapping_sub(upper << 32);
    Sum(lower + upper)
}

/// The sum of less than a step: at most one run of each power of two, without a loop.
fn sum_of_rest(mut rest: &[u8]) -> Sum {
    let mut sum = 0;
    if let Some((run, after)) = rest.split_first_chunk::<16>() {
        sum += sum_of_words(run);
        rest = after;
    }
    if let Some((run, after)) = rest.split_first_chunk::<8>() {
        sum += sum_of_words(run);
        rest = after;
    }
    if let Some((run, after)) = rest.split_first_chunk::<4>() {
        sum += u64::from(u32::from_ne_bytes(*run));
        rest = after;
    }
    if let Some((run, after)) = rest.split_first_chunk::<2>() {
        sum += u64::from(u16::from_ne_bytes(*run));
        rest = after;
    }
    if let Some(last) = rest.first() {
        sum += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    Sum(sum)
}

/// The sum of the halves of a few words.
fn sum_of_words<const BYTES: usize>(bytes: &[u8; BYTES]) -> u64 {
    let (words, _) = bytes.as_chunks();
    let words = words.iter().map(|word| u64::from_ne_bytes(*word));
    words.map(|word| (word >> 32) + (word & 0xffff_ffff)).sum()
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

    /// Whether both mean the same number: all ones and zero do.
    #[must_use]
    pub const fn is_same_as(self, other: Self) -> bool {
        Sum::ZERO.plus_u16(self.0).minus_u16(other.0).is_valid()
    }

    /// This correct checksum with the error that `found` had, where `right` would be correct.
    ///
    /// A frame that is split gets new checksums. If its own checksum was wrong, those of the copies
    /// must be wrong too. Otherwise the sensor would accept a packet that the receiving host drops.
    #[must_use]
    pub const fn with_error_of(self, found: Self, right: Self) -> Self {
        if found.is_same_as(right) {
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

    /// The step of the loop and each run of the rest, at each place of a vector and of a cache line.
    #[test]
    fn every_short_length_at_every_alignment_has_the_sum_of_the_rfc() {
        let mut random = 1_u32;
        let noise: Vec<u8> = (0..4 * 70)
            .map(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                random.to_be_bytes()[0]
            })
            .collect();
        for content in [vec![0; 4 * 70], vec![0xff; 4 * 70], noise] {
            for at in 0..=70 {
                for length in 0..=70 {
                    let bytes = &content[at..at + length];
                    // Also which of the two zeros it is: only the sum of zeros is zero.
                    assert_eq!(
                        Sum::of(bytes).fold(),
                        word_by_word(bytes),
                        "{length} bytes at {at}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_carry_of_a_long_run_is_counted() {
        // A frame of BIG TCP, and far more: the lower halves alone need more than 32 bits.
        for length in [524_280, (1 << 24) + 63] {
            for (first, content) in [(0xff, 0xff), (1, 0xff), (0, 0x80)] {
                let mut bytes = vec![content; length];
                bytes[0] = first;
                assert_eq!(Sum::of(&bytes).fold(), word_by_word(&bytes));
            }
        }
    }

    #[test]
    fn every_sum_is_folded_as_by_a_loop() {
        let ends = [0, 1, 2, 0xfffe, 0xffff];
        for (a, b) in ends.iter().flat_map(|a| ends.map(|b| (*a, b))) {
            for (c, d) in ends.iter().flat_map(|c| ends.map(|d| (*c, d))) {
                let sum: u64 = a << 48 | b << 32 | c << 16 | d;
                let mut folded = sum;
                while folded > 0xffff {
                    folded = (folded & 0xffff) + (folded >> 16);
                }
                assert_eq!(u64::from(u16::to_be(Sum(sum).fold())), folded, "{sum:#x}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_the_sum_of_the_rfc(bytes in proptest::collection::vec(any::<u8>(), 0..3000), at in 0_usize..64) {
            let bytes = bytes.get(at..).unwrap_or_default();
            prop_assert_eq!(Sum::of(bytes).fold(), word_by_word(bytes));
        }

        #[test]
        fn sums_of_parts_add_up(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..150) {
            let at = (at * 2).min(bytes.len());
            let (a, b) = bytes.split_at(at);
            prop_assert!(same(Sum::of(a).plus(Sum::of(b)).fold(), word_by_word(&bytes)));
        }

        #[test]
        fn a_part_at_an_odd_offset_is_added_one_byte_later(bytes in proptest::collection::vec(any::<u8>(), 1..300), at in 0_usize..150) {
            let at = (at * 2 + 1).min(bytes.len());
            let (a, b) = bytes.split_at(at);
            let b = if at % 2 == 1 { Sum::of(b).one_byte_later() } else { Sum::of(b) };
            prop_assert!(same(Sum::of(a).plus(b).fold(), word_by_word(&bytes)));
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
