//! SCTP's checksum: CRC32c (RFC 9260 appendix A, Castagnoli's polynomial, reflected).
//!
//! Eight bytes in each step with eight tables ("slicing-by-8"), computed at compile time. SCTP is rare
//! in pods, and its checksum is nearly always complete already. So tables are fast enough, and no
//! processor instruction and no `unsafe` is needed.

const POLYNOMIAL: u32 = 0x82f6_3b78;

static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0_u32; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (POLYNOMIAL * (crc & 1));
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let previous = tables[table - 1][byte];
            tables[table][byte] = (previous >> 8) ^ tables[0][(previous & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// A running CRC32c.
#[derive(Debug, Clone, Copy)]
pub struct Crc32c(u32);

impl Default for Crc32c {
    fn default() -> Self {
        Self(!0)
    }
}

impl Crc32c {
    /// This CRC with more bytes.
    #[must_use]
    pub fn plus(self, bytes: &[u8]) -> Self {
        let at = |table: usize, byte: u8| TABLES[table][usize::from(byte)];
        let (chunks, rest) = bytes.as_chunks::<8>();
        let crc = chunks.iter().fold(self.0, |crc, chunk| {
            let crc = crc.to_le_bytes();
            at(7, chunk[0] ^ crc[0])
                ^ at(6, chunk[1] ^ crc[1])
                ^ at(5, chunk[2] ^ crc[2])
                ^ at(4, chunk[3] ^ crc[3])
                ^ at(3, chunk[4])
                ^ at(2, chunk[5])
                ^ at(1, chunk[6])
                ^ at(0, chunk[7])
        });
        Self(rest.iter().fold(crc, |crc, byte| {
            (crc >> 8) ^ at(0, crc.to_le_bytes()[0] ^ byte)
        }))
    }

    /// The four bytes of SCTP's checksum field, in the order of the wire.
    #[must_use]
    pub const fn finish(self) -> [u8; 4] {
        (!self.0).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn crc(bytes: &[u8]) -> u32 {
        u32::from_le_bytes(Crc32c::default().plus(bytes).finish())
    }

    #[test]
    fn the_vectors_of_rfc_3720_b_4_match() {
        assert_eq!(crc(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc(&[0xff; 32]), 0x62a8_ab43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc(&ascending), 0x46dd_794e);
        assert_eq!(crc(b"123456789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn parts_and_whole_have_the_same_crc(bytes in proptest::collection::vec(any::<u8>(), 0..100), at in 0_usize..100) {
            let (a, b) = bytes.split_at(at.min(bytes.len()));
            prop_assert_eq!(Crc32c::default().plus(a).plus(b).finish(), Crc32c::default().plus(&bytes).finish());
        }
    }
}
