//! A view over a TCP header with its options (RFC 9293), and the fields that cutting rewrites.

use crate::checksum::Checksum;

/// Length of a header without options.
pub const HEADER_LEN_MIN: usize = 20;
/// Where the sequence number stands.
pub const AT_SEQUENCE: usize = 4;
/// Where the flags stand: CWR, ECE, URG, ACK, PSH, RST, SYN, FIN from the highest bit.
pub const AT_FLAGS: usize = 13;
/// Where the checksum stands.
pub const AT_CHECKSUM: usize = 16;
/// Where the urgent pointer stands.
pub const AT_URGENT: usize = 18;
/// Congestion window reduced: belongs on the first segment.
pub const CWR: u8 = 0x80;
/// The urgent pointer counts.
pub const URG: u8 = 0x20;
/// Push: belongs on the last.
pub const PSH: u8 = 0x08;
/// Opens a connection.
pub const SYN: u8 = 0x02;
/// Ends one: belongs on the last.
pub const FIN: u8 = 0x01;

/// A TCP header, options included.
#[derive(Debug, Clone, Copy)]
pub struct Tcp<'a> {
    header: &'a [u8],
}

impl<'a> Tcp<'a> {
    /// Checks the data offset; `None` when it is absurd or the bytes end before.
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

    /// The checksum as it stands there.
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
            let theirs = etherparse::TcpHeaderSlice::from_slice(&bytes).ok();
            let ours = Tcp::parse(&bytes);
            prop_assert_eq!(ours.is_some(), theirs.is_some());
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                prop_assert_eq!(ours.header(), theirs.slice());
                prop_assert_eq!(ours.sequence(), theirs.sequence_number());
                prop_assert_eq!(ours.checksum().get(), theirs.checksum());
                prop_assert_eq!(ours.flags() & FIN != 0, theirs.fin());
                prop_assert_eq!(ours.flags() & SYN != 0, theirs.syn());
                prop_assert_eq!(ours.flags() & PSH != 0, theirs.psh());
                prop_assert_eq!(ours.flags() & CWR != 0, theirs.cwr());
            }
        }
    }
}
