//! A pcap file of frames, as tcpdump and Wireshark read it.
//!
//! In: frames and their times. Out: the classic format with nanoseconds, link type Ethernet: a header of
//! 24 bytes, then 16 bytes before each frame (`pcap-savefile(5)`). A VLAN tag that the kernel took out of
//! the frame is put back. A frame is written up to [`SNAPLEN`] bytes, which is the most that libpcap
//! reads. The format is written here because the library that the tests read it with cannot flush, and a
//! reader at the other end of a pipe waits for whole frames.

use std::io::{self, Write};

use wire::ethernet::ADDRESSES_LEN;
use wire::{Frame, Timestamp};

/// `MAXIMUM_SNAPLEN` of libpcap.
const SNAPLEN: u32 = 262_144;

/// Writes frames.
pub(crate) struct Writer<W: Write> {
    to: W,
}

impl<W: Write> Writer<W> {
    /// Writes the header of the file.
    pub(crate) fn new(mut to: W) -> io::Result<Self> {
        // Magic number of nanoseconds, version 2.4, time zone, accuracy, length, LINKTYPE_ETHERNET.
        for word in [0xa1b2_3c4d, 2 | 4 << 16, 0, 0, SNAPLEN, 1_u32] {
            to.write_all(&word.to_le_bytes())?;
        }
        Ok(Self { to })
    }

    /// Writes an inner frame.
    pub(crate) fn write(&mut self, time: Timestamp, frame: &[u8]) -> io::Result<()> {
        self.write_parts(time, [frame, &[], &[]])
    }

    /// Writes a frame of the ring.
    pub(crate) fn write_frame(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        match frame.vlan.zip(frame.bytes.split_at_checked(ADDRESSES_LEN)) {
            Some((tag, (addresses, rest))) => {
                self.write_parts(frame.timestamp, [addresses, &tag.to_bytes(), rest])
            }
            None => self.write(frame.timestamp, frame.bytes),
        }
    }

    fn write_parts(&mut self, time: Timestamp, parts: [&[u8]; 3]) -> io::Result<()> {
        let length = parts.map(<[u8]>::len).iter().sum::<usize>();
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let mut left = length.min(SNAPLEN);
        for word in [time.seconds, time.nanoseconds, left, length] {
            self.to.write_all(&word.to_le_bytes())?;
        }
        for part in parts {
            let part = part.get(..left as usize).unwrap_or(part);
            self.to.write_all(part)?;
            left = left.saturating_sub(u32::try_from(part.len()).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    /// Writes what is in a buffer.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use pcap_file::pcap::PcapReader;
    use proptest::prelude::*;
    use wire::{Direction, Link, Offload, VlanTag};

    use super::*;

    fn read(file: &[u8]) -> Vec<(u128, u32, Vec<u8>)> {
        let mut reader = PcapReader::new(file).unwrap();
        assert_eq!(reader.header().datalink, pcap_file::DataLink::ETHERNET);
        let mut packets = Vec::new();
        while let Some(packet) = reader.next_raw_packet() {
            let packet = packet.unwrap();
            let time = u128::from(packet.ts_sec) * 1_000_000_000 + u128::from(packet.ts_frac);
            packets.push((time, packet.orig_len, packet.data.into_owned()));
        }
        packets
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..5),
            tci: Option<u16>,
        ) {
            let timestamp = Timestamp { seconds: 3, nanoseconds: 999_999_999 };
            let mut writer = Writer::new(Vec::new()).unwrap();
            let mut expected = Vec::new();
            for bytes in &frames {
                let vlan = tci.map(|tci| VlanTag { tpid: 0x8100, tci });
                let frame = Frame {
                    bytes,
                    at: 0,
                    headroom: 0,
                    wire_len: u32::try_from(bytes.len()).unwrap(),
                    timestamp,
                    direction: Direction::Incoming,
                    link: Link::Ethernet,
                    vlan,
                    offload: Offload::default(),
                };
                writer.write_frame(&frame).unwrap();
                let mut bytes = bytes.clone();
                if let Some(tag) = vlan && bytes.len() >= ADDRESSES_LEN {
                    bytes.splice(12..12, tag.to_bytes());
                }
                expected.push((3_999_999_999, u32::try_from(bytes.len()).unwrap(), bytes));
            }
            writer.flush().unwrap();
            prop_assert_eq!(read(&writer.to), expected);
        }
    }

    #[test]
    fn a_frame_beyond_what_libpcap_reads_is_shortened() {
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer
            .write(Timestamp::default(), &vec![1; 300_000])
            .unwrap();
        assert_eq!(read(&writer.to), [(0, 300_000, vec![1; 262_144])]);
    }
}
