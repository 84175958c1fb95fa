//! Frames that are sent in one piece.

use etherparse::PacketBuilder;
use proptest::prelude::*;
use wire::crc32c::Crc32c;
use wire::{Link, VlanTag};

use super::{TestFrame, checksums_are_right, transport_checksum};
use crate::DropReason;

fn udp(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(1000, 2000)
        .write(&mut bytes, payload)
        .unwrap();
    bytes
}

#[test]
fn a_vlan_tag_that_the_kernel_removed_is_restored() {
    let mut test_frame = TestFrame::new(udp(b"payload"));
    test_frame.vlan = Some(VlanTag {
        tpid: 0x88a8,
        tci: 0x2064,
    });
    let mut want = test_frame.bytes.clone();
    want.splice(12..12, [0x88, 0xa8, 0x20, 0x64]);
    assert_eq!(test_frame.mirrored(1500), [want]);
}

#[test]
fn frames_of_lo_get_addresses_that_receivers_accept() {
    let mut test_frame = TestFrame::new(udp(b"payload"));
    test_frame.bytes[..12].fill(0);
    test_frame.link = Link::Loopback;
    let [frame] = &test_frame.mirrored(1500)[..] else {
        panic!("one")
    };
    assert_eq!(&frame[12..], &test_frame.bytes[12..]);
    assert_ne!(frame[..6], frame[6..12]);
    for address in [&frame[..6], &frame[6..12]] {
        assert_eq!(address[0] & 0b11, 0b10, "locally administered and unicast");
    }
}

/// A netkit device in L3 mode has the type of Ethernet, and no addresses either.
#[test]
fn addresses_of_zero_are_replaced_on_every_device() {
    let mut test_frame = TestFrame::new(udp(b"payload"));
    test_frame.bytes[..12].fill(0);
    let [frame] = &test_frame.mirrored(1500)[..] else {
        panic!("one")
    };
    assert_eq!(frame[..12], wire::ethernet::ARTIFICIAL_ADDRESSES);
    assert_eq!(&frame[12..], &test_frame.bytes[12..]);
    // Also on lo, an address that is not zero stays.
    let mut test_frame = TestFrame::new(udp(b"payload"));
    test_frame.link = Link::Loopback;
    assert_eq!(test_frame.mirrored(1500), [test_frame.bytes]);
}

#[test]
fn a_raw_ip_packet_gets_a_link_header() {
    let mut test_frame = TestFrame::new(udp(b"payload").split_off(14));
    test_frame.link = Link::Ip;
    let [frame] = &test_frame.mirrored(1500)[..] else {
        panic!("one")
    };
    assert_eq!(&frame[14..], &test_frame.bytes);
    assert!(checksums_are_right(frame));
}

#[test]
fn an_unfinished_checksum_of_a_tagged_frame_is_finished() {
    let mut test_frame = TestFrame::new(udp(b"payload")).unfinished(34, 6);
    test_frame.vlan = Some(VlanTag {
        tpid: 0x8100,
        tci: 5,
    });
    let pseudo = wire::checksum::pseudo_v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 17, 15);
    test_frame.bytes[40..42].copy_from_slice(&pseudo.fold().to_be_bytes());
    assert!(checksums_are_right(&test_frame.mirrored(1500)[0]));
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_all_ones() {
    // The payload is chosen so that the sum is 0xffff and its complement zero.
    let bytes = udp(&[0, 0]);
    let (_, right) = transport_checksum(&bytes).unwrap();
    let mut test_frame = TestFrame::new(udp(&right.to_be_bytes())).unfinished(34, 6);
    let pseudo = wire::checksum::pseudo_v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 17, 10);
    test_frame.bytes[40..42].copy_from_slice(&pseudo.fold().to_be_bytes());
    assert_eq!(test_frame.mirrored(1500)[0][40..42], [0xff, 0xff]);
}

#[test]
fn an_unfinished_sctp_checksum_is_a_crc() {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .write(&mut bytes, etherparse::IpNumber(132), &[7; 40])
        .unwrap();
    let mut test_frame = TestFrame::new(bytes).unfinished(34, 8);
    // A trailer is not part of the packet.
    test_frame.bytes.extend_from_slice(&[9; 6]);
    let mut zeroed = test_frame.bytes[34..74].to_vec();
    zeroed[8..12].fill(0);
    let want = Crc32c::default().plus(&zeroed).finish();
    let frame = &test_frame.mirrored(1500)[0];
    assert_eq!(frame[42..46], want);
    assert_eq!(frame[46..], test_frame.bytes[46..]);
}

#[test]
fn a_checksum_beyond_the_end_leaves_the_frame_unchanged() {
    for (start, offset) in [
        (60_000, 0),
        (34, 60_000),
        (48, 0),
        (0, 65_535),
        (65_535, 65_535),
        (0, 4),
    ] {
        let test_frame = TestFrame::new(udp(b"payload")).unfinished(start, offset);
        let frames = test_frame.mirrored(1500);
        if (start, offset) != (0, 4) {
            assert_eq!(frames, [test_frame.bytes], "{start} {offset}");
        }
    }
}

#[test]
fn a_truncated_frame_is_counted() {
    let test_frame = TestFrame::new(udp(b"payload"));
    let mut frame = test_frame.frame();
    frame.wire_len += 1;
    let mut totals = crate::Totals::default();
    let mut batch = crate::Batch::new();
    super::mirror().push(&frame, &super::table(1500), &mut batch, &mut totals);
    assert!(batch.is_empty() && totals.check());
    assert_eq!(totals.frames_dropped.of(DropReason::Truncated), 1);
}

#[test]
fn without_a_sensor_a_frame_is_counted() {
    let test_frame = TestFrame::new(udp(b"payload"));
    let mut totals = crate::Totals::default();
    let mut batch = crate::Batch::new();
    super::mirror().push(
        &test_frame.frame(),
        &crate::SensorTable::default(),
        &mut batch,
        &mut totals,
    );
    assert!(batch.is_empty() && totals.check());
    assert_eq!(totals.frames_dropped.of(DropReason::NoSensor), 1);
}

#[test]
fn a_frame_that_is_neither_tcp_nor_ip_and_does_not_fit_is_counted() {
    let mut bytes = vec![0x11; 1500];
    bytes[12..14].copy_from_slice(&0x8847_u16.to_be_bytes());
    assert_eq!(
        TestFrame::new(bytes.clone()).dropped(1500),
        DropReason::Oversize
    );
    assert_eq!(TestFrame::new(bytes.clone()).mirrored(1600), [bytes]);
}

#[test]
fn a_trailer_that_does_not_fit_is_removed() {
    let mut test_frame = TestFrame::new(udp(b"payload"));
    let packet = test_frame.bytes.clone();
    test_frame.bytes.resize(2000, 0);
    assert_eq!(test_frame.mirrored(1500), [packet]);
}

proptest! {
    #[test]
    fn a_frame_that_needs_no_change_is_copied_byte_for_byte(bytes in proptest::collection::vec(any::<u8>(), 0..1450)) {
        let test_frame = TestFrame::new(bytes);
        prop_assert_eq!(test_frame.mirrored(1500), [test_frame.bytes]);
    }

    #[test]
    fn the_longest_frame_that_fits_is_not_split(spare in -3_i32..3) {
        let payload = usize::try_from(1500 - 36 - 42 + spare).unwrap();
        let frames = TestFrame::new(udp(&vec![1; payload])).mirrored(1500);
        prop_assert_eq!(frames.len(), if spare <= 0 { 1 } else { 2 });
    }
}
