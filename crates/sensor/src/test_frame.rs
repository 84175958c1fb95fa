//! A received frame without metadata, for the tests.

use wire::{Direction, Frame, Link, Offload, Timestamp};

pub(crate) fn frame(bytes: &[u8]) -> Frame<'_> {
    Frame {
        bytes,
        at: 0,
        headroom: 0,
        wire_len: u32::try_from(bytes.len()).unwrap(),
        timestamp: Timestamp::default(),
        direction: Direction::Incoming,
        link: Link::Ethernet,
        vlan: None,
        offload: Offload::default(),
    }
}
