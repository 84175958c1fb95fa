//! Capture files in pcapng, with times in nanoseconds.
//!
//! The writer is a [`Sink`], so a sniffer can write the file while it captures. It writes one section
//! with one Ethernet interface whose `if_tsresol` is 9: the library always writes nanoseconds, so the
//! option must be 9.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{Block, PcapNgReader, PcapNgWriter};

use crate::error::{Error, Result};
use crate::frame::{Direction, Frame, FrameRef, Sink};

/// First bytes of a pcapng file: the type of its section header.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// Writes frames into a pcapng file.
pub struct CaptureWriter {
    path: PathBuf,
    writer: PcapNgWriter<BufWriter<File>>,
    /// The first failure. A sink cannot return it, so [`CaptureWriter::finish`] does.
    failed: Option<Error>,
}

impl CaptureWriter {
    /// Creates the file and writes its headers.
    ///
    /// # Errors
    /// [`Error::CaptureFile`] with the file's name.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let failed = |reason: &dyn ToString| bad(&path, reason);
        let file = File::create(&path).map_err(|error| failed(&error))?;
        let mut writer = PcapNgWriter::new(BufWriter::with_capacity(1 << 20, file))
            .map_err(|error| failed(&error))?;
        let interface = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: 0,
            options: vec![InterfaceDescriptionOption::IfTsResol(9)],
        };
        writer
            .write_pcapng_block(interface)
            .map_err(|error| failed(&error))?;
        Ok(Self {
            path,
            writer,
            failed: None,
        })
    }

    /// Writes one frame.
    ///
    /// # Errors
    /// [`Error::CaptureFile`], for example on a full disk.
    pub fn write(&mut self, frame: FrameRef<'_>) -> Result<()> {
        let block = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: frame.time,
            original_len: u32::try_from(frame.wire_len).unwrap_or(u32::MAX),
            data: Cow::Borrowed(frame.bytes),
            options: Vec::new(),
        };
        let written = self.writer.write_pcapng_block(block);
        written.map(drop).map_err(|error| bad(&self.path, &error))
    }

    /// Completes the file and returns its path.
    ///
    /// # Errors
    /// [`Error::CaptureFile`]: the first error of any write.
    pub fn finish(mut self) -> Result<PathBuf> {
        self.writer
            .get_mut()
            .flush()
            .map_err(|error| bad(&self.path, &error))?;
        self.failed.map_or(Ok(self.path), Err)
    }
}

impl Sink for CaptureWriter {
    fn receive(&mut self, frame: FrameRef<'_>) {
        if self.failed.is_none() {
            self.failed = self.write(frame).err();
        }
    }
}

/// Reads all frames of a pcapng or pcap file. It has no directions: all are [`Direction::Host`].
///
/// # Errors
/// [`Error::CaptureFile`] where the file is missing or damaged. An incomplete last packet, as a
/// killed writer leaves it, ends the reading without an error.
pub fn read_capture(path: &Path) -> Result<Vec<Frame>> {
    let failed = |reason: &dyn ToString| bad(path, reason);
    let mut file = BufReader::new(File::open(path).map_err(|error| failed(&error))?);
    let mut magic = [0; 4];
    file.read_exact(&mut magic)
        .map_err(|error| failed(&error))?;
    file.rewind().map_err(|error| failed(&error))?;
    let read = if magic == PCAPNG {
        read_pcapng(file)
    } else {
        read_pcap(file)
    };
    read.map_err(|error| failed(&error))
}

fn read_pcapng(file: BufReader<File>) -> Result<Vec<Frame>, pcap_file::PcapError> {
    let mut reader = PcapNgReader::new(file)?;
    let mut frames = Vec::new();
    while let Some(block) = reader.next_block() {
        match block {
            Ok(Block::EnhancedPacket(packet)) => frames.push(frame(packet.timestamp, &packet.data)),
            Ok(_) => {}
            Err(pcap_file::PcapError::IncompleteBuffer) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(frames)
}

fn read_pcap(file: BufReader<File>) -> Result<Vec<Frame>, pcap_file::PcapError> {
    let mut reader = PcapReader::new(file)?;
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        match packet {
            Ok(packet) => frames.push(frame(packet.timestamp, &packet.data)),
            Err(pcap_file::PcapError::IncompleteBuffer) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(frames)
}

fn frame(time: std::time::Duration, bytes: &[u8]) -> Frame {
    Frame {
        time,
        direction: Direction::Host,
        checksum_complete: true,
        bytes: bytes.to_vec(),
    }
}

fn bad(path: &Path, reason: &dyn ToString) -> Error {
    Error::CaptureFile {
        path: path.display().to_string(),
        reason: reason.to_string(),
    }
}
