//! The link header of the copy.
//!
//! The kernel removes the outermost VLAN tag from a frame. Frames of `lo`, and of a netkit device in L3
//! mode, have addresses of zero, which receivers drop. A raw IP interface has no link header. A
//! [`Prefix`] replaces the frame's first bytes to make it a frame of the wire again. Usually it is empty
//! and replaces nothing.

use wire::{Frame, Link, ethernet};

use crate::batch::FrameDatagrams;

const LEN_MAX: usize = ethernet::HEADER_LEN + ethernet::TAG_LEN;

/// Bytes in place of the first `replaced` bytes of a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prefix {
    bytes: [u8; LEN_MAX],
    len: usize,
    replaced: usize,
}

impl Prefix {
    const NONE: Self = Self {
        bytes: [0; LEN_MAX],
        len: 0,
        replaced: 0,
    };

    /// The prefix that a frame needs.
    pub(crate) fn of(frame: &Frame<'_>) -> Self {
        if frame.link == Link::Ip {
            return Self::before_ip(frame);
        }
        let Some(addresses) = frame.bytes.first_chunk() else {
            return Self::NONE;
        };
        match (frame.vlan, ethernet::usable_addresses(addresses)) {
            (None, None) => Self::NONE,
            (None, Some(usable)) => Self::replacing(&usable),
            (Some(tag), usable) => {
                Self::replacing(usable.as_ref().unwrap_or(addresses)).then(&tag.to_bytes())
            }
        }
    }

    fn replacing(addresses: &[u8; ethernet::ADDRESSES_LEN]) -> Self {
        Self {
            replaced: ethernet::ADDRESSES_LEN,
            ..Self::NONE
        }
        .then(addresses)
    }

    fn before_ip(frame: &Frame<'_>) -> Self {
        // A raw IP interface has only IP packets. One without a valid version counts as IPv4.
        let ethertype = match frame.bytes.first().map(|first| first >> 4) {
            Some(6) => ethernet::TYPE_IPV6,
            _ => ethernet::TYPE_IPV4,
        };
        Self::NONE
            .then(&ethernet::ARTIFICIAL_ADDRESSES)
            .then(&ethertype.to_be_bytes())
    }

    fn then(mut self, more: &[u8]) -> Self {
        let end = self.len + more.len();
        self.bytes[self.len..end].copy_from_slice(more);
        self.len = end;
        self
    }

    /// The length of the copy of a frame's first `length` bytes.
    pub(crate) const fn grown(&self, length: usize) -> usize {
        length - self.replaced + self.len
    }

    /// Whether the frame stays as it is.
    pub(crate) const fn is_empty(&self) -> bool {
        self.replaced == 0 && self.len == 0
    }

    /// How many bytes of the frame this replaces.
    pub(crate) const fn replaced(&self) -> usize {
        self.replaced
    }

    /// Writes the prefix to a head, and the frame's bytes up to `end`, which must be at least
    /// [`Self::replaced`].
    pub(crate) fn write(&self, frame: &Frame<'_>, end: usize, out: &mut FrameDatagrams<'_>) {
        out.write(&self.bytes[..self.len]);
        out.write(&frame.bytes[self.replaced..end]);
    }
}
