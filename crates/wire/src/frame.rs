//! A frame as it came from the ring: its bytes, and all that the kernel says about them.
//!
//! `capture` makes frames, `mirror` decides what becomes of each. The bytes start at the link
//! header; a VLAN tag that the kernel took out stands beside them, not in them.

use crate::offload::Offload;

/// One frame of a block.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// What was captured, from the link header on, without a tag that the kernel took out.
    pub bytes: &'a [u8],
    /// Where `bytes` starts in the bytes of its block. With it a datagram can point into the block
    /// without borrowing it.
    pub at: u32,
    /// The frame's length in bytes on the interface; more than `bytes.len()` when cut off.
    pub wire_len: u32,
    /// When the kernel saw it.
    pub timestamp: Timestamp,
    /// Which way it went.
    pub direction: Direction,
    /// What its first bytes are.
    pub link: Link,
    /// The outermost VLAN tag, if the kernel took one out.
    pub vlan: Option<VlanTag>,
    /// What the kernel left undone.
    pub offload: Offload,
}

/// Time since the epoch, as the ring gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp {
    /// Whole seconds; the ring has 32 bits for them.
    pub seconds: u32,
    /// And nanoseconds.
    pub nanoseconds: u32,
}

/// Which way a frame crossed the interface.
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
    /// An IP header: tun and WireGuard interfaces. The copy gets a made-up Ethernet header.
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
    /// The tag as it stands on the wire, behind the two addresses.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 4] {
        let [a, b] = self.tpid.to_be_bytes();
        let [c, d] = self.tci.to_be_bytes();
        [a, b, c, d]
    }
}
