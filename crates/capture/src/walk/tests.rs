use libc::{TP_STATUS_CSUMNOTREADY, TP_STATUS_VLAN_VALID as VLAN};
use wire::{ChecksumState, Gso, GsoKind, Unfinished};

use super::*;
use crate::simulated::{MAC, SimulatedFrame, fill, put};

const NEXT: usize = offset_of!(tpacket3_hdr, tp_next_offset);
const MAC_FIELD: usize = offset_of!(tpacket3_hdr, tp_mac);
const SNAPLEN: usize = offset_of!(tpacket3_hdr, tp_snaplen);
const SLOT_STATUS: usize = offset_of!(tpacket3_hdr, tp_status);

pub(super) fn block(frames: &[SimulatedFrame]) -> Vec<u8> {
    let mut block = vec![0xff; 4096];
    assert_eq!(fill(&mut block, frames), frames.len());
    block
}

/// Where the slots of a block are, for a block that is not damaged.
pub(super) fn slots(block: &[u8]) -> Vec<usize> {
    let mut slots = vec![DESCRIPTOR_LEN];
    loop {
        let at = slots[slots.len() - 1];
        let next = u32_at(block[at..].first_chunk::<HEADER_LEN>().unwrap(), NEXT);
        if next == 0 {
            return slots;
        }
        slots.push(at + next as usize);
    }
}

/// Reads all frames and returns how many there were and how many could not be read.
pub(super) fn walk(block: &[u8]) -> (usize, u32) {
    let walk = Walk::check(block);
    let frames = walk.frames();
    let promised = frames.len();
    let mut last = 0;
    let read = frames
        .inspect(|frame| {
            let at = frame.at as usize;
            assert_eq!(&block[at..at + frame.bytes.len()], frame.bytes);
            assert!(at >= last, "frames overlap");
            assert!(frame.wire_len as usize >= frame.bytes.len());
            last = at + frame.bytes.len();
        })
        .count();
    assert_eq!(read, promised);
    // The used bytes have the same frames as the whole block.
    let used = Walk::check(&block[..walk.layout.end()]);
    let places = |walk: &Walk<'_>| -> Vec<_> {
        let frames = walk.frames();
        frames.map(|frame| (frame.at, frame.bytes.len())).collect()
    };
    assert_eq!(places(&used), places(&walk));
    assert_eq!(used.unreadable(), walk.unreadable());
    (read, walk.unreadable())
}

#[test]
fn all_metadata_of_a_frame_is_read() {
    let mut vnet = [0; 10];
    vnet[0] = 1;
    vnet[1] = 1;
    vnet[4..6].copy_from_slice(&1448u16.to_ne_bytes());
    vnet[6..8].copy_from_slice(&34u16.to_ne_bytes());
    vnet[8..10].copy_from_slice(&16u16.to_ne_bytes());
    let given = SimulatedFrame {
        wire_len: 9000,
        outgoing: true,
        vlan: Some((0x88a8, 0xe064)),
        vnet,
        seconds: 1_700_000_000,
        nanoseconds: 999_999_999,
        ..SimulatedFrame::new(b"the bytes of a frame")
    };
    let block = block(&[given]);
    let frame = Walk::check(&block).frames().next().unwrap();
    assert_eq!(frame.bytes, b"the bytes of a frame");
    assert_eq!(frame.at as usize, DESCRIPTOR_LEN + MAC);
    assert_eq!(frame.wire_len, 9000);
    assert_eq!(frame.direction, Direction::Outgoing);
    assert_eq!(frame.link, Link::Ethernet);
    assert_eq!(frame.timestamp.seconds, 1_700_000_000);
    assert_eq!(frame.timestamp.nanoseconds, 999_999_999);
    let tag = VlanTag {
        tpid: 0x88a8,
        tci: 0xe064,
    };
    assert_eq!(frame.vlan, Some(tag));
    let unfinished = Unfinished {
        start: 34,
        offset: 16,
    };
    let gso = Gso {
        kind: GsoKind::TcpV4,
        size: 1448,
    };
    assert_eq!(
        frame.offload.checksum,
        ChecksumState::Unfinished(unfinished)
    );
    assert_eq!(frame.offload.gso, Some(gso));
}

#[test]
fn an_empty_block_has_no_frames() {
    assert_eq!(walk(&block(&[])), (0, 0));
}

#[test]
fn frames_of_several_devices_can_share_a_block() {
    let with = |hardware| SimulatedFrame {
        hardware,
        ..SimulatedFrame::new(b"x")
    };
    let block = block(&[with(1), with(772), with(0xfffe), with(519)]);
    let links: Vec<_> = Walk::check(&block).frames().map(|f| f.link).collect();
    let want = [Link::Ethernet, Link::Loopback, Link::Ip, Link::Ip];
    assert_eq!(links, want);
}

#[test]
fn a_tag_without_its_protocol_is_8021q() {
    let given = SimulatedFrame {
        vlan: Some((0, 5)),
        ..SimulatedFrame::new(b"x")
    };
    let mut block = block(&[given]);
    let status = TP_STATUS_USER | VLAN | TP_STATUS_CSUMNOTREADY;
    put(
        &mut block,
        DESCRIPTOR_LEN + SLOT_STATUS,
        &status.to_ne_bytes(),
    );
    let tag = Walk::check(&block).frames().next().unwrap().vlan;
    let want = VlanTag {
        tpid: 0x8100,
        tci: 5,
    };
    assert_eq!(tag, Some(want));
}

#[test]
fn a_void_slot_is_skipped() {
    let void = SimulatedFrame {
        void: true,
        ..SimulatedFrame::new(&[1; 100])
    };
    let given = [
        void.clone(),
        SimulatedFrame::new(b"a"),
        void.clone(),
        void.clone(),
        SimulatedFrame::new(b"b"),
        void,
    ];
    let block = block(&given);
    let frames: Vec<_> = Walk::check(&block).frames().map(|f| f.bytes).collect();
    assert_eq!(frames, [b"a", b"b"]);
    assert_eq!(walk(&block), (2, 0));
}

#[test]
fn a_frame_of_no_bytes_is_a_frame() {
    assert_eq!(
        walk(&block(&[
            SimulatedFrame::new(b""),
            SimulatedFrame::new(b"")
        ])),
        (2, 0)
    );
}

/// A description, where, which bytes, and how many frames can be read and how many cannot.
type Damage<'a> = (&'a str, usize, &'a [u8], (usize, u32));

#[test]
fn damage_ends_the_walk_and_is_counted() {
    let given: Vec<_> = (1..=5u8).map(|i| SimulatedFrame::new(&[i; 60])).collect();
    let whole = block(&given);
    assert_eq!(walk(&whole), (5, 0));
    let third = slots(&whole)[2];
    let damage: [Damage<'_>; 9] = [
        (
            "captured beyond the end",
            third + SNAPLEN,
            &[0xff; 4],
            (2, 3),
        ),
        (
            "frame within its headers",
            third + MAC_FIELD,
            &[77, 0],
            (2, 3),
        ),
        (
            "headers beyond the end",
            third + MAC_FIELD,
            &[0xff, 0xff],
            (2, 3),
        ),
        ("unknown type", third + HARDWARE, &[0, 0], (2, 3)),
        (
            "captured more than the frame has",
            third + SNAPLEN,
            &61u32.to_ne_bytes(),
            (2, 3),
        ),
        ("next is itself", third + NEXT, &[0; 4], (3, 2)),
        (
            "next within itself",
            third + NEXT,
            &80u32.to_ne_bytes(),
            (3, 2),
        ),
        (
            "next beyond the end",
            third + NEXT,
            &4000u32.to_ne_bytes(),
            (3, 2),
        ),
        ("next beyond everything", third + NEXT, &[0xff; 4], (3, 2)),
    ];
    for (what, at, bytes, want) in damage {
        let mut block = whole.clone();
        put(&mut block, at, bytes);
        assert_eq!(walk(&block), want, "{what}");
    }
}

#[test]
fn a_damaged_descriptor_gives_no_frames_or_only_valid_ones() {
    let whole = block(&[SimulatedFrame::new(&[1; 60]), SimulatedFrame::new(&[2; 60])]);
    for first in [0u32, 47, 4000, 4096, u32::MAX] {
        let mut block = whole.clone();
        put(&mut block, FIRST, &first.to_ne_bytes());
        assert_eq!(walk(&block), (0, 2), "first slot at {first}");
    }
    let mut block = whole;
    put(&mut block, NUM_PKTS, &u32::MAX.to_ne_bytes());
    assert_eq!(walk(&block), (2, u32::MAX - 2));
    assert_eq!(walk(&block[..DESCRIPTOR_LEN]), (0, u32::MAX));
    assert_eq!(walk(&block[..DESCRIPTOR_LEN - 1]), (0, 0));
    assert_eq!(walk(&[]), (0, 0));
}
