//! The frames of a block, checked once and then read without errors.
//!
//! In: the bytes of a block that the kernel has closed. Out: its frames in the order in which they
//! were captured. A block looks like this (all integers in the byte order of this machine):
//!
//! ```text
//! 0                 48         num_pkts times
//! +-----------------+---------------------------------------------------------------+-----
//! | descriptor      | slot                                                          | slot
//! | status          | tpacket3_hdr  sockaddr_ll  (gap)  virtio_net_hdr  frame (pad) |
//! | num_pkts        | |<--------- tp_mac ---------------------------->|             |
//! | offset_to_first_|                                     |<-- 10 --->|<- tp_snaplen
//! |   pkt = 48      | |<--------------------- tp_next_offset ---------------------->|
//! +-----------------+---------------------------------------------------------------+-----
//! ```
//!
//! [`Walk::check`] follows the slots once and checks everything: every slot must lie within the block
//! and after the previous slot, with room for its headers. The first invalid slot ends the walk. The
//! frames before it can be read, and [`Walk::unreadable`] is the number of the others. After that,
//! [`Frames`] slices without new checks. No slice can fail, because the bytes do not change while
//! podspan owns the block.
//!
//! A slot without `TP_STATUS_USER` is void. The kernel has reserved it for a frame, then found that it
//! cannot describe the frame's offloads in a `virtio_net_hdr` (UFO or SCTP GSO), counted the frame as
//! dropped and left old bytes in the slot. The slot is in `num_pkts` and in the kernel's drops, so the
//! walk skips it and does not count it.
//!
//! Sources: `tpacket_rcv` and `prb_*` in `net/packet/af_packet.c`, `include/uapi/linux/if_packet.h`.

#![forbid(unsafe_code)]

use core::iter::FusedIterator;
use core::mem::offset_of;

use libc::{
    TP_STATUS_USER, TP_STATUS_VLAN_TPID_VALID, TP_STATUS_VLAN_VALID, sockaddr_ll,
    tpacket_block_desc, tpacket_hdr_v1, tpacket3_hdr,
};
use wire::offload::VIRTIO_NET_HDR_LEN;
use wire::{Direction, Frame, Link, Offload, Timestamp, VlanTag};

use crate::filter::{PACKET_OUTGOING, link_of};

/// The offset of a block's status.
pub(crate) const STATUS: usize =
    offset_of!(tpacket_block_desc, hdr) + offset_of!(tpacket_hdr_v1, block_status);
pub(crate) const NUM_PKTS: usize =
    offset_of!(tpacket_block_desc, hdr) + offset_of!(tpacket_hdr_v1, num_pkts);
pub(crate) const FIRST: usize =
    offset_of!(tpacket_block_desc, hdr) + offset_of!(tpacket_hdr_v1, offset_to_first_pkt);
/// The length of a block's descriptor.
pub const DESCRIPTOR_LEN: usize = size_of::<tpacket_block_desc>();

/// The `sockaddr_ll` follows the header. It is aligned to 16 bytes, as the header's length is.
const ADDRESS: usize = size_of::<tpacket3_hdr>();
const HARDWARE: usize = ADDRESS + offset_of!(sockaddr_ll, sll_hatype);
const KIND: usize = ADDRESS + offset_of!(sockaddr_ll, sll_pkttype);
/// The length of the fixed part of a slot.
pub(crate) const HEADER_LEN: usize = ADDRESS + size_of::<sockaddr_ll>();
/// The smallest length of a slot: that of its fixed part.
const SLOT_LEN_MIN: u32 = small(HEADER_LEN);
/// The smallest `tp_mac`: the fixed part and the `virtio_net_hdr`.
const MAC_MIN: u32 = small(HEADER_LEN + VIRTIO_NET_HDR_LEN);

/// The bytes of a block that an Ethernet frame uses, for frames of `frame_len` bytes without the checksum.
///
/// The network header is at a multiple of 16 bytes, moved on by the `virtio_net_hdr`; the next slot is at a
/// multiple of 8 bytes (`tpacket_rcv`, `prb_fill_curr_block`).
#[must_use]
pub const fn slot_len(frame_len: usize) -> usize {
    const ETHERNET: usize = 14;
    const NETWORK: usize = (HEADER_LEN + 16).next_multiple_of(libc::TPACKET_ALIGNMENT);
    (NETWORK + VIRTIO_NET_HDR_LEN - ETHERNET + frame_len).next_multiple_of(8)
}

const _: () = assert!(ADDRESS.is_multiple_of(libc::TPACKET_ALIGNMENT));
const _: () = assert!(HEADER_LEN == libc::TPACKET3_HDRLEN);

/// 802.1Q, for a tag that the kernel reports without its protocol identifier.
const TPID_8021Q: u16 = 0x8100;

/// The result of checking a block. It is valid only for the checked bytes, as long as they do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Where the first slot is.
    first: u32,
    /// Slots that can be read, including void ones.
    slots: u32,
    /// Slots with a frame in them.
    frames: u32,
    /// Slots that are in the block's count and cannot be read.
    unreadable: u32,
    /// Where the last slot that can be read ends; without one, the end of the descriptor.
    end: u32,
}

impl Layout {
    pub(crate) fn check(block: &[u8]) -> Self {
        let Some(descriptor) = block.first_chunk::<DESCRIPTOR_LEN>() else {
            return Self::NOTHING;
        };
        let claimed = u32_at(descriptor, NUM_PKTS);
        let first = u32_at(descriptor, FIRST);
        let mut layout = Self {
            first,
            unreadable: claimed,
            end: small(DESCRIPTOR_LEN),
            ..Self::NOTHING
        };
        if (first as usize) < DESCRIPTOR_LEN {
            return layout;
        }
        let mut next = Some(first);
        while layout.unreadable > 0
            && let Some(at) = next
            && let Some(slot) = Slot::checked(block, at)
        {
            layout.unreadable -= 1;
            layout.slots += 1;
            layout.frames += u32::from(!slot.is_void());
            layout.end = at.saturating_add(slot.end());
            // The last slot's offset is 0, and no slot starts within the previous one.
            next = Some(slot.next())
                .filter(|&next| next >= slot.end())
                .and_then(|next| at.checked_add(next));
        }
        layout
    }

    const NOTHING: Self = Self {
        first: 0,
        slots: 0,
        frames: 0,
        unreadable: 0,
        end: 0,
    };

    /// How many bytes of the block are used, up to the end of the last frame.
    pub(crate) const fn end(&self) -> usize {
        self.end as usize
    }

    pub(crate) const fn len(&self) -> u32 {
        self.frames
    }

    pub(crate) const fn unreadable(&self) -> u32 {
        self.unreadable
    }
}

/// A checked block: its frames lie within it.
#[derive(Debug, Clone, Copy)]
pub struct Walk<'a> {
    block: &'a [u8],
    layout: Layout,
}

impl<'a> Walk<'a> {
    /// Checks a block. Any bytes are accepted; invalid slots count as [`Walk::unreadable`].
    #[must_use]
    pub fn check(block: &'a [u8]) -> Self {
        Self::checked(block, Layout::check(block))
    }

    /// Uses the result of an earlier check of the same bytes.
    pub(crate) const fn checked(block: &'a [u8], layout: Layout) -> Self {
        Self { block, layout }
    }

    /// The frames, oldest first.
    #[must_use]
    pub const fn frames(&self) -> Frames<'a> {
        Frames {
            block: self.block,
            cursor: self.cursor(),
        }
    }

    /// The place of the first frame.
    #[must_use]
    pub const fn cursor(&self) -> Cursor {
        Cursor::new(self.layout)
    }

    /// How many slots of the block's count cannot be read because the block is damaged.
    #[must_use]
    pub const fn unreadable(&self) -> u32 {
        self.layout.unreadable
    }
}

/// A place in a block: the frames from there on. It does not borrow the block, so what lies before the next
/// frame can be changed.
#[derive(Debug, Clone)]
pub struct Cursor {
    /// Where the next slot is, if `slots` is not 0.
    at: u32,
    /// The number of remaining slots, including void ones.
    slots: u32,
    /// The number of remaining frames.
    left: u32,
}

impl Cursor {
    pub(crate) const fn new(layout: Layout) -> Self {
        Self {
            at: layout.first,
            slots: layout.slots,
            left: layout.frames,
        }
    }

    /// The next frame. `block` is the block that was checked, with no change at or after its slot.
    #[inline]
    pub fn next<'a>(&mut self, block: &'a [u8]) -> Option<Frame<'a>> {
        while self.slots > 0 {
            let at = self.at;
            let slot = Slot::unchecked(block, at)?;
            self.slots -= 1;
            self.at = at.wrapping_add(slot.next());
            if !slot.is_void() {
                self.left -= 1;
                return slot.frame(block, at);
            }
        }
        None
    }

    /// The number of remaining frames.
    #[must_use]
    pub const fn left(&self) -> u32 {
        self.left
    }
}

/// The frames of a block.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    block: &'a [u8],
    cursor: Cursor,
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        self.cursor.next(self.block)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.cursor.left as usize, Some(self.cursor.left as usize))
    }
}

impl ExactSizeIterator for Frames<'_> {}
impl FusedIterator for Frames<'_> {}

/// The fixed part of a slot.
#[derive(Clone, Copy)]
struct Slot<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Slot<'a> {
    /// The slot at `at`, without checks.
    fn unchecked(block: &'a [u8], at: u32) -> Option<Self> {
        block.get(at as usize..)?.first_chunk().map(Self)
    }

    /// The slot at `at`, if all of it lies within the block and its frame can be described.
    fn checked(block: &'a [u8], at: u32) -> Option<Self> {
        let slot = Self::unchecked(block, at)?;
        if slot.is_void() {
            return Some(slot);
        }
        let end = u64::from(at) + u64::from(slot.mac()) + u64::from(slot.captured());
        // Places in a block have 32 bits.
        let limit = u32::try_from(block.len()).unwrap_or(u32::MAX);
        let fits = slot.mac() >= MAC_MIN
            && end <= u64::from(limit)
            && slot.captured() <= slot.len()
            && slot.link().is_some();
        fits.then_some(slot)
    }

    fn frame(self, block: &'a [u8], at: u32) -> Option<Frame<'a>> {
        let start = (at + self.mac()) as usize;
        let bytes = &block[start..start + self.captured() as usize];
        let (_, offload) = block[..start].split_last_chunk::<VIRTIO_NET_HDR_LEN>()?;
        Some(Frame {
            bytes,
            at: at + self.mac(),
            // The `virtio_net_hdr`, which is read here.
            headroom: small(VIRTIO_NET_HDR_LEN),
            wire_len: self.len(),
            timestamp: self.timestamp(),
            direction: self.direction(),
            link: self.link()?,
            vlan: self.vlan(),
            offload: Offload::parse(offload),
        })
    }

    fn next(self) -> u32 {
        u32_at(self.0, offset_of!(tpacket3_hdr, tp_next_offset))
    }

    /// Where the slot ends at the earliest, counted from its start.
    fn end(self) -> u32 {
        if self.is_void() {
            SLOT_LEN_MIN
        } else {
            self.mac().saturating_add(self.captured())
        }
    }

    fn status(self) -> u32 {
        u32_at(self.0, offset_of!(tpacket3_hdr, tp_status))
    }

    fn is_void(self) -> bool {
        self.status() & TP_STATUS_USER == 0
    }

    fn mac(self) -> u32 {
        u32::from(u16_at(self.0, offset_of!(tpacket3_hdr, tp_mac)))
    }

    /// Bytes of the frame that are in the slot.
    fn captured(self) -> u32 {
        u32_at(self.0, offset_of!(tpacket3_hdr, tp_snaplen))
    }

    /// Bytes of the frame on the interface.
    fn len(self) -> u32 {
        u32_at(self.0, offset_of!(tpacket3_hdr, tp_len))
    }

    fn timestamp(self) -> Timestamp {
        Timestamp {
            seconds: u32_at(self.0, offset_of!(tpacket3_hdr, tp_sec)),
            nanoseconds: u32_at(self.0, offset_of!(tpacket3_hdr, tp_nsec)),
        }
    }

    /// The link type comes from the frame and not from the interface that the socket is bound to: a
    /// block can contain frames from before and after the socket was bound again.
    fn link(self) -> Option<Link> {
        link_of(u16_at(self.0, HARDWARE))
    }

    fn direction(self) -> Direction {
        if self.0[KIND] == PACKET_OUTGOING {
            Direction::Outgoing
        } else {
            Direction::Incoming
        }
    }

    fn vlan(self) -> Option<VlanTag> {
        const TCI: usize = offset_of!(tpacket3_hdr, hv1.tp_vlan_tci);
        const TPID: usize = offset_of!(tpacket3_hdr, hv1.tp_vlan_tpid);
        let status = self.status();
        (status & TP_STATUS_VLAN_VALID != 0).then(|| VlanTag {
            tpid: if status & TP_STATUS_VLAN_TPID_VALID == 0 {
                TPID_8021Q
            } else {
                u16_at(self.0, TPID)
            },
            // The kernel keeps the 16 bits of a tag in 32.
            tci: (u32_at(self.0, TCI) & 0xffff) as u16,
        })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "headers are less than 100 bytes long"
)]
const fn small(len: usize) -> u32 {
    len as u32
}

/// The integer at a constant offset.
const fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// As [`u32_at`].
const fn u16_at<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
#[cfg(not(miri))]
mod properties;
#[cfg(test)]
mod tests;
