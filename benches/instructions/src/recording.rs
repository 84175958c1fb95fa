//! Recorded frames in a file: the bytes that the ring had, and what the kernel said about them.
//!
//! The file is pcapng, so that other programs can read it. Each packet is the `virtio_net_hdr` of a packet
//! socket, as a little-endian machine writes it, and the frame. Its link type is `USER0`: Wireshark shows
//! the frames if the preferences of `DLT_USER` give it a header of 10 bytes and the payload protocol
//! `eth_withoutfcs`. The flags of a packet say whether it was received or sent. Times count from the first
//! frame.
//!
//! Invariant: what is read is what was written, and frames lie one after the other in one block, as in the
//! ring.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{Block, PcapNgReader, PcapNgWriter};
use pcap_file::{DataLink, PcapError};
use wire::offload::VIRTIO_NET_HDR_LEN;
use wire::{Direction, Frame, Link, Offload, Timestamp};

/// `epb_flags`: the direction of a packet.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;
const DIRECTION: u32 = 3;

/// Why a file of frames could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file itself.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// Its content.
    #[error("{}: {source}; `cargo xtask bench --record-frames` writes it again", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: PcapError,
    },
}

/// Frames of one interface, in the order of the wire.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recording {
    /// For each frame its header and its bytes, one after the other.
    block: Vec<u8>,
    frames: Vec<Recorded>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Recorded {
    bytes: Range<usize>,
    wire_len: u32,
    time: Duration,
    direction: Direction,
    offload: Offload,
}

impl Recording {
    /// Adds a frame: its header, its bytes, and their length on the interface. `time` counts from the first
    /// frame.
    pub fn add(
        &mut self,
        header: [u8; VIRTIO_NET_HDR_LEN],
        bytes: &[u8],
        wire_len: u32,
        time: Duration,
        direction: Direction,
    ) {
        self.block.extend_from_slice(&header);
        let start = self.block.len();
        self.block.extend_from_slice(bytes);
        self.frames.push(Recorded {
            bytes: start..self.block.len(),
            wire_len,
            time,
            direction,
            offload: Offload::parse(&header),
        });
    }

    /// The time of the last frame.
    #[must_use]
    pub fn end(&self) -> Duration {
        self.frames.last().map_or(Duration::ZERO, |last| last.time)
    }

    /// How many frames there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is no frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The memory that the frames are in, as a block of the ring.
    #[must_use]
    pub fn block(&self) -> &[u8] {
        &self.block
    }

    /// The frames, as the ring gives them.
    pub fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        self.frames.iter().map(|frame| Frame {
            bytes: &self.block[frame.bytes.clone()],
            // Recordings are small: below 4 GiB.
            at: u32::try_from(frame.bytes.start).unwrap_or(u32::MAX),
            headroom: u32::try_from(VIRTIO_NET_HDR_LEN).unwrap_or(0),
            wire_len: frame.wire_len,
            timestamp: Timestamp {
                seconds: u32::try_from(frame.time.as_secs()).unwrap_or(u32::MAX),
                nanoseconds: frame.time.subsec_nanos(),
            },
            direction: frame.direction,
            link: Link::Ethernet,
            vlan: None,
            offload: frame.offload,
        })
    }

    /// Each frame with its header before it, as a packet socket with `PACKET_VNET_HDR` sends it.
    pub fn with_headers(&self) -> impl Iterator<Item = &[u8]> {
        self.frames
            .iter()
            .map(|frame| &self.block[frame.bytes.start - VIRTIO_NET_HDR_LEN..frame.bytes.end])
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Error`] where the file is missing or not of this form.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| Error::File {
            path: path.to_owned(),
            source,
        })?;
        read(BufReader::new(file)).map_err(|source| Error::Content {
            path: path.to_owned(),
            source,
        })
    }

    /// Writes a file.
    ///
    /// # Errors
    /// [`Error`] where the system refuses.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let file = File::create(path).map_err(|source| Error::File {
            path: path.to_owned(),
            source,
        })?;
        self.write_to(BufWriter::new(file))
            .map_err(|source| Error::Content {
                path: path.to_owned(),
                source,
            })
    }

    fn write_to(&self, file: impl Write) -> Result<(), PcapError> {
        let mut writer = PcapNgWriter::new(file)?;
        writer.write_pcapng_block(InterfaceDescriptionBlock {
            linktype: DataLink::USER0,
            snaplen: 0,
            // The library writes nanoseconds.
            options: vec![InterfaceDescriptionOption::IfTsResol(9)],
        })?;
        for frame in &self.frames {
            let packet = frame.bytes.start - VIRTIO_NET_HDR_LEN..frame.bytes.end;
            let added = u32::try_from(VIRTIO_NET_HDR_LEN).unwrap_or_default();
            writer.write_pcapng_block(EnhancedPacketBlock {
                interface_id: 0,
                timestamp: frame.time,
                original_len: frame.wire_len.saturating_add(added),
                data: Cow::Borrowed(&self.block[packet]),
                options: vec![EnhancedPacketOption::Flags(match frame.direction {
                    Direction::Incoming => INBOUND,
                    Direction::Outgoing => OUTBOUND,
                })],
            })?;
        }
        writer.into_inner().flush().map_err(PcapError::IoError)
    }
}

fn read(file: impl io::Read) -> Result<Recording, PcapError> {
    let mut reader = PcapNgReader::new(file)?;
    let mut recording = Recording::default();
    while let Some(block) = reader.next_block() {
        let Block::EnhancedPacket(packet) = block? else {
            continue;
        };
        let (header, bytes) = packet
            .data
            .split_first_chunk()
            .ok_or(PcapError::InvalidField("a packet without its header"))?;
        let flags = packet.options.iter().find_map(|option| match option {
            EnhancedPacketOption::Flags(flags) => Some(*flags & DIRECTION),
            _ => None,
        });
        let direction = match flags {
            Some(INBOUND) => Direction::Incoming,
            Some(OUTBOUND) => Direction::Outgoing,
            _ => return Err(PcapError::InvalidField("a packet without a direction")),
        };
        let added = u32::try_from(VIRTIO_NET_HDR_LEN).unwrap_or_default();
        let wire_len = packet.original_len.saturating_sub(added);
        recording.add(*header, bytes, wire_len, packet.timestamp, direction);
    }
    Ok(recording)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{ChecksumState, Gso, GsoKind, Unfinished};

    #[test]
    fn what_is_written_is_read() {
        let mut recording = Recording::default();
        let tso = [1, 1, 66, 0, 0xa8, 5, 34, 0, 16, 0];
        recording.add(
            tso,
            &[1, 2, 3],
            3,
            Duration::from_nanos(7),
            Direction::Outgoing,
        );
        recording.add(
            [0; 10],
            &[4; 60],
            61,
            Duration::new(1, 2),
            Direction::Incoming,
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frames.pcapng");
        recording.write(&path).unwrap();
        let read = Recording::read(&path).unwrap();
        assert_eq!(read, recording);

        let frames: Vec<_> = read.frames().collect();
        assert_eq!(frames[0].bytes, [1, 2, 3]);
        assert_eq!(
            frames[0].offload,
            Offload {
                checksum: ChecksumState::Unfinished(Unfinished {
                    start: 34,
                    offset: 16
                }),
                gso: Some(Gso {
                    kind: GsoKind::TcpV4,
                    size: 1448
                }),
            }
        );
        assert_eq!((frames[1].at, frames[1].wire_len), (23, 61));
        let sent: Vec<_> = read.with_headers().collect();
        assert_eq!(
            (sent[0], sent[1].len()),
            (&[&tso[..], &[1, 2, 3]].concat()[..], 70)
        );
        assert_eq!(
            (frames[1].timestamp.seconds, frames[1].timestamp.nanoseconds),
            (1, 2)
        );
    }

    #[test]
    fn another_file_is_refused_with_the_command_that_writes_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frames.pcapng");
        let error = Recording::read(&path).unwrap_err().to_string();
        assert!(error.contains("frames.pcapng: No such file"), "{error}");
        std::fs::write(&path, [0; 100]).unwrap();
        let error = Recording::read(&path).unwrap_err().to_string();
        assert!(error.contains("--record-frames"), "{error}");
    }
}
