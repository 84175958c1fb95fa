//! A view over an IPv4 header with its options (RFC 791).
//!
//! In: bytes that should start with an IPv4 header. Out: accessors that cannot fail, because the
//! version, the header's length and the number of bytes are checked when the view is made. The total
//! length is *not* checked here: it may be zero in a GSO frame, and any value in a malformed packet.

use core::net::Ipv4Addr;

use crate::checksum::{Checksum, Sum};

/// Length of a header without options.
pub const HEADER_LEN_MIN: usize = 20;
/// Offset of the total length.
pub const AT_TOTAL_LEN: usize = 2;
/// Offset of the identification.
pub const AT_ID: usize = 4;
/// Offset of the field with flags and fragment offset.
pub const AT_FRAGMENT: usize = 6;
/// Offset of the header checksum.
pub const AT_CHECKSUM: usize = 10;
/// "More fragments", in the field at [`AT_FRAGMENT`].
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// "Don't fragment".
pub const DONT_FRAGMENT: u16 = 0x4000;
/// The bits of the fragment offset, in units of eight bytes.
pub const OFFSET_MASK: u16 = 0x1fff;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_COPIED: u8 = 0x80;

/// An IPv4 header, options included.
#[derive(Debug, Clone, Copy)]
pub struct Ipv4<'a> {
    header: &'a [u8],
}

impl<'a> Ipv4<'a> {
    /// Checks version and header length; `None` if they are invalid or the header is incomplete.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let first = *bytes.first()?;
        let length = usize::from(first & 0x0f) * 4;
        if first >> 4 != 4 || length < HEADER_LEN_MIN {
            return None;
        }
        Some(Self {
            header: bytes.get(..length)?,
        })
    }

    fn u16_at(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.header[at], self.header[at + 1]])
    }

    /// The header's bytes, 20 to 60 of them.
    #[must_use]
    pub const fn header(&self) -> &'a [u8] {
        self.header
    }

    /// The packet's length, from its header.
    #[must_use]
    pub fn total_len(&self) -> u16 {
        self.u16_at(AT_TOTAL_LEN)
    }

    /// The identification, which is the same in all fragments of a packet.
    #[must_use]
    pub fn id(&self) -> u16 {
        self.u16_at(AT_ID)
    }

    /// Flags and fragment offset in one field.
    #[must_use]
    pub fn fragment_field(&self) -> u16 {
        self.u16_at(AT_FRAGMENT)
    }

    /// Whether this is a fragment; the first fragment is one too.
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        self.fragment_field() & (MORE_FRAGMENTS | OFFSET_MASK) != 0
    }

    /// The protocol of the payload.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.header[9]
    }

    /// The checksum in the header.
    #[must_use]
    pub fn checksum(&self) -> Checksum {
        Checksum::from_field(self.u16_at(AT_CHECKSUM))
    }

    /// The correct checksum of the header.
    #[must_use]
    pub fn right_checksum(&self) -> Checksum {
        Sum::of(self.header)
            .minus_u16(self.checksum().get())
            .finish()
    }

    /// The source address.
    #[must_use]
    pub fn source(&self) -> Ipv4Addr {
        let h = self.header;
        Ipv4Addr::new(h[12], h[13], h[14], h[15])
    }

    /// The destination address.
    #[must_use]
    pub fn destination(&self) -> Ipv4Addr {
        let h = self.header;
        Ipv4Addr::new(h[16], h[17], h[18], h[19])
    }
}

/// Replaces the options that belong only in the first fragment by no-ops, in place. An option belongs
/// in all fragments only if its "copied" bit is set (RFC 791). The header keeps its length, as in the
/// kernel's `ip_options_fragment`.
pub fn blank_uncopied_options(options: &mut [u8]) {
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        if kind == OPTION_END {
            return;
        }
        if kind == OPTION_NOP {
            at += 1;
            continue;
        }
        let Some(&length) = options.get(at + 1) else {
            return;
        };
        let end = at + usize::from(length);
        if length < 2 || end > options.len() {
            return;
        }
        if kind & OPTION_COPIED == 0 {
            options[at..end].fill(OPTION_NOP);
        }
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn invalid_headers_are_rejected() {
        let mut bytes = [0_u8; 60];
        for (first, length, good) in [
            (0x45, 20, true),
            (0x45, 19, false),
            (0x44, 60, false),
            (0x46, 20, false),
            (0x4f, 60, true),
            (0x65, 60, false),
        ] {
            bytes[0] = first;
            assert_eq!(
                Ipv4::parse(&bytes[..length]).is_some(),
                good,
                "{first:x} {length}"
            );
        }
        assert!(Ipv4::parse(&[]).is_none());
    }

    #[test]
    fn options_without_the_copied_bit_are_blanked() {
        // NOP, record route (7, not copied), loose source route (131, copied), end.
        let mut options = [1, 7, 3, 4, 131, 3, 4, 0];
        blank_uncopied_options(&mut options);
        assert_eq!(options, [1, 1, 1, 1, 131, 3, 4, 0]);
    }

    proptest! {
        #[test]
        fn malformed_options_never_panic(mut options in proptest::collection::vec(any::<u8>(), 0..40)) {
            blank_uncopied_options(&mut options);
        }

        #[test]
        fn etherparse_reads_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..80), first in 0x43_u8..0x50) {
            let mut bytes = bytes;
            if let Some(b) = bytes.first_mut() { *b = first; }
            // etherparse does not keep the reserved bit.
            if let Some(b) = bytes.get_mut(AT_FRAGMENT) { *b &= 0x7f; }
            let expected = etherparse::Ipv4HeaderSlice::from_slice(&bytes).ok();
            let found = Ipv4::parse(&bytes);
            prop_assert_eq!(found.is_some(), expected.is_some());
            if let (Some(found), Some(expected)) = (found, expected) {
                prop_assert_eq!(found.header(), expected.slice());
                prop_assert_eq!(found.total_len(), expected.total_len());
                prop_assert_eq!(found.id(), expected.identification());
                prop_assert_eq!(found.is_fragment(), expected.is_fragmenting_payload());
                prop_assert_eq!(found.protocol(), expected.protocol().0);
                prop_assert_eq!(found.source(), expected.source_addr());
                prop_assert_eq!(found.destination(), expected.destination_addr());
                prop_assert_eq!(found.checksum().get(), expected.header_checksum());
                prop_assert_eq!(found.right_checksum().get(), expected.to_header().calc_header_checksum());
            }
        }
    }
}
