//! A frame of the ring: its bytes and the kernel's metadata.
//!
//! `capture` makes frames, `mirror` converts them into datagrams. The bytes start at the link header. A
//! VLAN tag that the kernel removed is a separate field and not in the bytes.

use crate::offload::Offload;

/// One frame of a block.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// The captured bytes, from the link header on, without a tag that the kernel removed.
    pub bytes: &'a [u8],
    /// Where `bytes` starts in the bytes of its block. With it a datagram can point into the block
    /// without borrowing it.
    pub at: u32,
    /// How many bytes of the block directly before `at` hold nothing that is still needed, so that a header
    /// can be written there.
    pub headroom: u32,
    /// The frame's length in bytes on the interface; more than `bytes.len()` if it is truncated.
    pub wire_len: u32,
    /// When the kernel captured it.
    pub timestamp: Timestamp,
    /// Whether it was received or sent.
    pub direction: Direction,
    /// The kind of its link header.
    pub link: Link,
    /// The outermost VLAN tag, if the kernel removed one.
    pub vlan: Option<VlanTag>,
    /// What the kernel left to be done later.
    pub offload: Offload,
}

/// The memory of a block: the frames, and room for headers in front of them.
pub trait BlockMemory {
    /// All of it; [`Frame::at`] is an offset in it.
    fn bytes(&self) -> &[u8];

    /// Writes into a frame or its headroom; its offset in the block. At a place outside of the memory that holds
    /// frames, it changes nothing.
    fn write<const N: usize>(&mut self, at: u32, bytes: [u8; N]);
}

impl BlockMemory for [u8] {
    fn bytes(&self) -> &[u8] {
        self
    }

    #[inline]
    fn write<const N: usize>(&mut self, at: u32, bytes: [u8; N]) {
        let place = self
            .get_mut(at as usize..)
            .and_then(<[u8]>::first_chunk_mut);
        if let Some(place) = place {
            *place = bytes;
        }
    }
}

/// Time since the epoch, as the ring gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp {
    /// Whole seconds; the ring has 32 bits for them.
    pub seconds: u32,
    /// Nanoseconds of the second.
    pub nanoseconds: u32,
}

/// Whether a frame was received or sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Towards the pod.
    Incoming,
    /// From the pod.
    Outgoing,
}

/// What a frame starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// An Ethernet header.
    Ethernet,
    /// An Ethernet header whose addresses are zero: `lo`.
    Loopback,
    /// An IP header: tun and WireGuard interfaces. The copy gets an artificial Ethernet header.
    Ip,
}

/// An IEEE 802.1Q tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanTag {
    /// The tag protocol identifier: 0x8100, or 0x88a8 for a service tag.
    pub tpid: u16,
    /// Priority, drop eligibility and VLAN identifier.
    pub tci: u16,
}

impl VlanTag {
    /// The bytes of the tag on the wire, where it follows the two addresses.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 4] {
        let [a, b] = self.tpid.to_be_bytes();
        let [c, d] = self.tci.to_be_bytes();
        [a, b, c, d]
    }
}
