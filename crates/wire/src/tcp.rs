//! A view over a TCP header with its options (RFC 9293), and the fields that are rewritten when a
//! segment is split.

use crate::checksum::Checksum;

/// Length of a header without options.
pub const HEADER_LEN_MIN: usize = 20;
/// Offset of the sequence number.
pub const AT_SEQUENCE: usize = 4;
/// Offset of the flags: CWR, ECE, URG, ACK, PSH, RST, SYN, FIN from the highest bit.
pub const AT_FLAGS: usize = 13;
/// Offset of the checksum.
pub const AT_CHECKSUM: usize = 16;
/// Offset of the urgent pointer.
pub const AT_URGENT: usize = 18;
/// Congestion window reduced: belongs on the first segment.
pub const CWR: u8 = 0x80;
/// The urgent pointer is valid.
pub const URG: u8 = 0x20;
/// Push: belongs on the last segment.
pub const PSH: u8 = 0x08;
/// Opens a connection: belongs on the first segment.
pub const SYN: u8 = 0x02;
/// Ends a connection: belongs on the last segment.
pub const FIN: u8 = 0x01;

/// A TCP header, options included.
#[derive(Debug, Clone, Copy)]
pub struct Tcp<'a> {
    header: &'a [u8],
}

impl<'a> Tcp<'a> {
    /// Checks the data offset; `None` if it is invalid or the header is incomplete.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let length = usize::from(*bytes.get(12)? >> 4) * 4;
        if length < HEADER_LEN_MIN {
            return None;
        }
        Some(Self {
            header: bytes.get(..length)?,
        })
    }

    /// The header's bytes, 20 to 60 of them.
    #[must_use]
    pub const fn header(&self) -> &'a [u8] {
        self.header
    }

    /// The sequence number of the first byte of payload.
    #[must_use]
    pub fn sequence(&self) -> u32 {
        let h = self.header;
        u32::from_be_bytes([h[4], h[5], h[6], h[7]])
    }

    /// The flags.
    #[must_use]
    pub fn flags(&self) -> u8 {
        self.header[AT_FLAGS]
    }

    /// The checksum in the header.
    #[must_use]
    pub fn checksum(&self) -> Checksum {
        Checksum::from_field(u16::from_be_bytes([self.header[16], self.header[17]]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn etherparse_reads_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let expected = etherparse::TcpHeaderSlice::from_slice(&bytes).ok();
            let found = Tcp::parse(&bytes);
            prop_assert_eq!(found.is_some(), expected.is_some());
            if let (Some(found), Some(expected)) = (found, expected) {
                prop_assert_eq!(found.header(), expected.slice());
                prop_assert_eq!(found.sequence(), expected.sequence_number());
                prop_assert_eq!(found.checksum().get(), expected.checksum());
                prop_assert_eq!(found.flags() & FIN != 0, expected.fin());
                prop_assert_eq!(found.flags() & SYN != 0, expected.syn());
                prop_assert_eq!(found.flags() & PSH != 0, expected.psh());
                prop_assert_eq!(found.flags() & CWR != 0, expected.cwr());
            }
        }
    }
}
