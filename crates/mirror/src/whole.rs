//! A frame that is sent in one piece: unchanged, but with its checksum finished.
//!
//! In: a frame that fits the tunnel. Out: one datagram, which is usually the frame in its place in the block.
//! Most frames of a veth do not have their checksum
//! yet (`CHECKSUM_PARTIAL`): the field contains the pseudo-header's sum. The checksum is computed over
//! all bytes from `csum_start` on, including that field (`skb_checksum_help` in `net/core/dev.c`).
//! Offsets outside the frame are ignored.

use wire::checksum::Sum;
use wire::crc32c::Crc32c;
use wire::ip::{self, Network};
use wire::{ChecksumState, Frame};

use crate::Inner;
use crate::batch::FrameDatagrams;

/// The offset of the checksum of UDP and UDP-Lite.
const UDP_CHECKSUM_OFFSET: usize = 6;
/// The offset of SCTP's checksum.
const SCTP_CHECKSUM_OFFSET: usize = 8;

/// A finished checksum and its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finished {
    /// The offset of the field in the frame.
    pub(crate) at: usize,
    bytes: [u8; 4],
    len: usize,
}

impl Finished {
    /// The bytes of the checksum: two, or SCTP's four.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The bytes, unless they are SCTP's four.
    pub(crate) const fn two_bytes(&self) -> Option<[u8; 2]> {
        let [a, b, ..] = self.bytes;
        if self.len == 2 { Some([a, b]) } else { None }
    }

    /// The offset after the field.
    pub(crate) const fn end(&self) -> usize {
        self.at + self.len
    }
}

/// Adds the one datagram of a frame, or of its first `length` bytes.
pub(crate) fn whole(
    inner: &Inner<'_>,
    network: &Network,
    length: usize,
    out: &mut FrameDatagrams<'_>,
) {
    let Inner { frame, prefix, .. } = inner;
    // A field within the link header is invalid, and the prefix may have replaced it.
    let is_valid = |field: &Finished| field.at >= prefix.replaced() && field.end() <= length;
    let finished = finish(frame, network).filter(is_valid);
    if out.has_headroom() && prefix.is_empty() {
        let checksum = finished.as_ref().map(|field| (field.at, field.two_bytes()));
        match checksum {
            None => return out.in_place(length, None),
            Some((at, Some(bytes))) => return out.in_place(length, Some((at, bytes))),
            Some((_, None)) => {}
        }
    }
    out.start();
    if let Some(finished) = finished {
        prefix.write(frame, finished.at, out);
        out.write(finished.bytes());
        out.end(finished.end()..length);
    } else {
        prefix.write(frame, prefix.replaced(), out);
        out.end(prefix.replaced()..length);
    }
}

/// Finishes a checksum; `None` if it needs no change or the offsets are outside the frame.
pub(crate) fn finish(frame: &Frame<'_>, network: &Network) -> Option<Finished> {
    let ChecksumState::Unfinished(unfinished) = frame.offload.checksum else {
        return None;
    };
    let (start, offset) = (
        usize::from(unfinished.start),
        usize::from(unfinished.offset),
    );
    if let Network::Ip(packet) = network
        && packet.protocol == ip::SCTP
        && packet.transport == start
        && offset == SCTP_CHECKSUM_OFFSET
    {
        return sctp(frame.bytes.get(..packet.end)?, start);
    }
    let summed = frame.bytes.get(start..)?;
    if offset + 2 > summed.len() {
        return None;
    }
    let checksum = Sum::of(summed).finish();
    let checksum = if offset == UDP_CHECKSUM_OFFSET {
        checksum.or_all_ones()
    } else {
        checksum
    };
    let [a, b] = checksum.get().to_be_bytes();
    Some(Finished {
        at: start + offset,
        bytes: [a, b, 0, 0],
        len: 2,
    })
}

/// SCTP's checksum is computed over the packet with the field as zero (RFC 9260 appendix A).
fn sctp(bytes: &[u8], start: usize) -> Option<Finished> {
    let at = start + SCTP_CHECKSUM_OFFSET;
    let rest = bytes.get(at + 4..)?;
    let crc = Crc32c::default()
        .plus(&bytes[start..at])
        .plus(&[0; 4])
        .plus(rest);
    Some(Finished {
        at,
        bytes: crc.finish(),
        len: 4,
    })
}
