//! Frames of pcap and pcapng files, as far as `podspan filter -r` needs them.
//!
//! In: the bytes of a file. Out: its frames with their link type, one after another. Invariants: no
//! content of a file causes a panic, and a record is read only if it is at most [`MAX_RECORD`] long. A
//! library would add more code to the agent than these two formats need. Sources: pcap-savefile(5),
//! draft-ietf-opsawg-pcapng.

use std::io::{self, Read};

use filter::Link;
use thiserror::Error;

/// The longest record that is read, in bytes.
const MAX_RECORD: u32 = 16 << 20;

/// Why a file cannot be read.
#[derive(Debug, Error)]
pub enum FileError {
    #[error("it is not a pcap or pcapng file")]
    NotACapture,
    #[error("it has a damaged record")]
    Damaged,
    #[error("its link type {0} is not supported: use a capture of one interface, not of \"any\"")]
    LinkType(u32),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileFrame<'a> {
    pub(crate) link: Link,
    pub(crate) bytes: &'a [u8],
    /// The frame's length on the wire.
    pub(crate) length: u32,
}

/// The frames of a file.
pub(crate) struct Frames<R> {
    file: R,
    is_big_endian: bool,
    /// `None` for pcapng, where the interfaces have link types.
    link: Option<Link>,
    interfaces: Vec<u32>,
    record: Vec<u8>,
}

impl<R: Read> Frames<R> {
    /// Reads the header of a file.
    pub(crate) fn new(mut file: R) -> Result<Self, FileError> {
        let mut magic = [0; 4];
        file.read_exact(&mut magic)
            .map_err(|_| FileError::NotACapture)?;
        let mut frames = Self {
            file,
            is_big_endian: false,
            link: None,
            interfaces: Vec::new(),
            record: Vec::new(),
        };
        match u32::from_le_bytes(magic) {
            0xa1b2_c3d4 | 0xa1b2_3c4d => {}
            0xd4c3_b2a1 | 0x4d3c_b2a1 => frames.is_big_endian = true,
            SECTION => {
                frames.section()?;
                return Ok(frames);
            }
            _ => return Err(FileError::NotACapture),
        }
        frames.read(20)?;
        let link_type = frames.number(16)? & 0x0fff_ffff;
        frames.link = Some(link(link_type)?);
        Ok(frames)
    }

    /// The next frame.
    pub(crate) fn next_frame(&mut self) -> Result<Option<FileFrame<'_>>, FileError> {
        let (link, start, captured, length) = match self.link {
            Some(link) => {
                if !self.read_or_end(16)? {
                    return Ok(None);
                }
                let (captured, length) = (self.number(8)?, self.number(12)?);
                self.read(captured)?;
                (link, 0, captured, length)
            }
            None => match self.packet_block()? {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        let captured = usize::try_from(captured).map_err(|_| FileError::Damaged)?;
        let bytes = self
            .record
            .get(start..)
            .and_then(|rest| rest.get(..captured));
        let bytes = bytes.ok_or(FileError::Damaged)?;
        Ok(Some(FileFrame {
            link,
            bytes,
            length,
        }))
    }

    /// Reads blocks up to the next one with a packet: its link type, where the packet starts in the
    /// record, its captured length and its length.
    fn packet_block(&mut self) -> Result<Option<(Link, usize, u32, u32)>, FileError> {
        while self.read_or_end(4)? {
            let kind = self.number(0)?;
            if kind == SECTION {
                self.section()?;
                continue;
            }
            self.read(4)?;
            let length = self.number(0)?;
            // The kind, the length, and the length again.
            self.read(length.checked_sub(8).ok_or(FileError::Damaged)?)?;
            match kind {
                INTERFACE => {
                    let link_type = self.number(0)?;
                    let link_type = if self.is_big_endian {
                        link_type >> 16
                    } else {
                        link_type & 0xffff
                    };
                    self.interfaces.push(link_type);
                }
                ENHANCED_PACKET => {
                    let link = self.interface(self.number(0)?)?;
                    return Ok(Some((link, 20, self.number(12)?, self.number(16)?)));
                }
                SIMPLE_PACKET => {
                    let (link, length) = (self.interface(0)?, self.number(0)?);
                    // The record has the length at its start and at its end.
                    let room = self.record.len().saturating_sub(8);
                    let captured = length.min(u32::try_from(room).unwrap_or(u32::MAX));
                    return Ok(Some((link, 4, captured, length)));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Reads the rest of a section's header, which says how numbers are written.
    fn section(&mut self) -> Result<(), FileError> {
        self.read(8)?;
        let (length, magic) = self.record.split_at_checked(4).ok_or(FileError::Damaged)?;
        let length: [u8; 4] = length.try_into().map_err(|_| FileError::Damaged)?;
        self.is_big_endian = match magic {
            [0x4d, 0x3c, 0x2b, 0x1a] => false,
            [0x1a, 0x2b, 0x3c, 0x4d] => true,
            _ => return Err(FileError::Damaged),
        };
        let length = self.as_number(length);
        self.interfaces.clear();
        self.read(length.checked_sub(12).ok_or(FileError::Damaged)?)
    }

    fn interface(&self, number: u32) -> Result<Link, FileError> {
        let at = usize::try_from(number).map_err(|_| FileError::Damaged)?;
        link(*self.interfaces.get(at).ok_or(FileError::Damaged)?)
    }

    /// The number at a place of the record.
    fn number(&self, at: usize) -> Result<u32, FileError> {
        let bytes = self.record.get(at..).and_then(<[u8]>::first_chunk);
        bytes
            .map(|bytes| self.as_number(*bytes))
            .ok_or(FileError::Damaged)
    }

    const fn as_number(&self, bytes: [u8; 4]) -> u32 {
        if self.is_big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    }

    /// Reads this many bytes as the record.
    fn read(&mut self, length: u32) -> Result<(), FileError> {
        if self.read_or_end(length)? || length == 0 {
            return Ok(());
        }
        Err(FileError::Damaged)
    }

    /// The same; false at the end of the file.
    fn read_or_end(&mut self, length: u32) -> Result<bool, FileError> {
        if length > MAX_RECORD {
            return Err(FileError::Damaged);
        }
        self.record.clear();
        let mut part = (&mut self.file).take(u64::from(length));
        let read = part.read_to_end(&mut self.record)?;
        match u32::try_from(read) {
            Ok(0) => Ok(false),
            Ok(read) if read == length => Ok(true),
            _ => Err(FileError::Damaged),
        }
    }
}

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// What frames of a link type (`LINKTYPE_*`) begin with.
const fn link(link_type: u32) -> Result<Link, FileError> {
    match link_type {
        1 => Ok(Link::Ethernet),
        // Raw IP, in the numbers of different systems.
        12 | 14 | 101 | 228 | 229 => Ok(Link::Ip),
        other => Err(FileError::LinkType(other)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(file: &[u8]) -> Result<Vec<(Link, Vec<u8>, u32)>, FileError> {
        let mut reader = Frames::new(file)?;
        let mut frames = Vec::new();
        while let Some(frame) = reader.next_frame()? {
            frames.push((frame.link, frame.bytes.to_vec(), frame.length));
        }
        Ok(frames)
    }

    fn pcap(link_type: u32, is_big_endian: bool) -> Vec<u8> {
        let number = |number: u32| {
            if is_big_endian {
                number.to_be_bytes()
            } else {
                number.to_le_bytes()
            }
        };
        let header = [0xa1b2_c3d4, 0x0002_0004, 0, 0, 65535, link_type];
        let record = [7, 8, 3, 60];
        let numbers = header.into_iter().chain(record).flat_map(number);
        numbers.chain([1, 2, 3]).collect()
    }

    #[test]
    fn pcap_files_of_both_byte_orders_are_read() {
        for is_big_endian in [false, true] {
            let expected = |link| vec![(link, vec![1, 2, 3], 60)];
            assert_eq!(
                frames(&pcap(1, is_big_endian)).unwrap(),
                expected(Link::Ethernet)
            );
            assert_eq!(
                frames(&pcap(101, is_big_endian)).unwrap(),
                expected(Link::Ip)
            );
            let any = frames(&pcap(113, is_big_endian));
            assert!(matches!(any, Err(FileError::LinkType(113))));
        }
    }

    /// A block of a pcapng file: its kind, its length, its content, and its length again.
    fn block(kind: u32, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(12 + content.len()).unwrap().to_le_bytes();
        [&kind.to_le_bytes()[..], &length, content, &length].concat()
    }

    #[test]
    fn pcapng_files_have_a_link_type_for_each_interface() {
        let numbers = |numbers: &[u32]| -> Vec<u8> {
            numbers
                .iter()
                .flat_map(|number| number.to_le_bytes())
                .collect()
        };
        let section = block(SECTION, &numbers(&[0x1a2b_3c4d, 1, u32::MAX, u32::MAX]));
        let packet = |interface| {
            let header = numbers(&[interface, 0, 0, 3, 60]);
            block(ENHANCED_PACKET, &[&header[..], &[1, 2, 3, 0]].concat())
        };
        let file = [
            section,
            block(INTERFACE, &numbers(&[1, 0])),
            block(INTERFACE, &numbers(&[101, 0])),
            block(5, &[0; 8]),
            packet(1),
            packet(0),
            block(SIMPLE_PACKET, &[&numbers(&[2])[..], &[8, 9, 0, 0]].concat()),
        ];
        let expected = [
            (Link::Ip, vec![1, 2, 3], 60),
            (Link::Ethernet, vec![1, 2, 3], 60),
            (Link::Ethernet, vec![8, 9], 2),
        ];
        assert_eq!(frames(&file.concat()).unwrap(), expected);
        assert!(matches!(
            frames(&[&file[0][..], &packet(0)].concat()),
            Err(FileError::Damaged)
        ));
    }

    #[test]
    fn a_file_that_ends_early_or_is_another_is_an_error() {
        let file = pcap(1, false);
        assert!(matches!(
            frames(&file[..file.len() - 1]),
            Err(FileError::Damaged)
        ));
        assert!(matches!(frames(b"#!/bin/sh"), Err(FileError::NotACapture)));
        assert!(matches!(frames(b""), Err(FileError::NotACapture)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_frames_or_an_error(
            start in 0..4_usize,
            rest in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let magic = [0xa1b2_c3d4_u32, 0xd4c3_b2a1, SECTION, 0][start].to_le_bytes();
            let _ = frames(&[&magic[..], &rest].concat());
        }
    }
}
