//! Packets that become inner fragments, reassembled by etherparse.

use etherparse::defrag::IpDefragPool;
use etherparse::{IpNumber, NetSlice, PacketBuilder, SlicedPacket};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use wire::GsoKind;

use super::{TestFrame, checksums_are_right};
use crate::DropReason;

/// The transport packet, reassembled from its fragments.
fn reassembled(frames: &[Vec<u8>]) -> Option<(IpNumber, Vec<u8>)> {
    let mut pool = IpDefragPool::<(), ()>::new();
    let mut whole = None;
    for frame in frames {
        assert!(checksums_are_right(frame));
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        if let Some(done) = pool.process_sliced_packet(&packet, (), ()).unwrap() {
            whole = Some((done.ip_number, done.payload));
        }
    }
    whole
}

fn packet(v6: bool, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let mut bytes = Vec::new();
    if v6 {
        link.ipv6([0xfd; 16], [0xfe; 16], 64)
            .write(&mut bytes, IpNumber(protocol), payload)
            .unwrap();
    } else {
        link.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .write(&mut bytes, IpNumber(protocol), payload)
            .unwrap();
    }
    bytes
}

fn ipv4_headers(frames: &[Vec<u8>]) -> Vec<etherparse::Ipv4Header> {
    frames
        .iter()
        .map(
            |frame| match SlicedPacket::from_ethernet(frame).unwrap().net {
                Some(NetSlice::Ipv4(ip)) => ip.header().to_header(),
                _ => panic!("ipv4"),
            },
        )
        .collect()
}

fn fix_header_checksum(bytes: &mut [u8]) {
    let header = etherparse::Ipv4HeaderSlice::from_slice(&bytes[14..])
        .unwrap()
        .to_header();
    bytes[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
}

#[test]
fn two_packets_with_dont_fragment_get_different_identifications() {
    let test_frame = TestFrame::new(packet(false, 47, &[7; 1480]));
    let mut mirror = super::mirror();
    let (mut batch, mut totals) = (crate::Batch::new(), crate::Totals::default());
    let table = super::table(1500);
    for _ in 0..2 {
        mirror.push(&test_frame.frame(), &table, &mut batch, &mut totals);
    }
    let mut block = vec![0; super::AT as usize];
    block.extend_from_slice(&test_frame.bytes);
    let frames = super::inner_frames(&mut batch, &test_frame.bytes, 1500);
    let headers = ipv4_headers(&frames);
    assert_eq!(headers.len(), 4);
    assert!(headers.iter().all(|h| !h.dont_fragment));
    assert_eq!(headers[0].identification, headers[1].identification);
    assert_ne!(headers[1].identification, headers[2].identification);
}

/// A packet that was whole on the wire gets an identification from podspan, with "don't fragment" and
/// without. Otherwise one without could have the identification that podspan gave to another.
#[test]
fn a_packet_that_was_whole_gets_an_identification_and_a_fragment_keeps_its_own() {
    for (field, expected) in [(0x4000_u16, 1), (0, 1), (0x2000, 0x1234), (0x0009, 0x1234)] {
        let mut bytes = packet(false, 17, &[7; 1480]);
        bytes[18..20].copy_from_slice(&[0x12, 0x34]);
        bytes[20..22].copy_from_slice(&field.to_be_bytes());
        fix_header_checksum(&mut bytes);
        let headers = ipv4_headers(&TestFrame::new(bytes).mirrored(1500));
        assert_eq!(headers.len(), 2);
        let kept = headers.iter().all(|h| h.identification == expected);
        assert!(kept, "{field:#x}: {headers:?}");
    }
}

#[test]
fn a_fragment_is_split_into_fragments_of_the_same_packet() {
    let whole: Vec<u8> = (0..4440_u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut frames = Vec::new();
    for (number, part) in whole.chunks(1480).enumerate() {
        let mut bytes = packet(false, 17, part);
        let more = if number < 2 { 0x2000 } else { 0 };
        let field = u16::try_from(number * 1480 / 8).unwrap() | more;
        bytes[18..20].copy_from_slice(&[9, 9]);
        bytes[20..22].copy_from_slice(&field.to_be_bytes());
        fix_header_checksum(&mut bytes);
        frames.extend(TestFrame::new(bytes).mirrored(1400));
    }
    assert_eq!(frames.len(), 6);
    assert_eq!(reassembled(&frames), Some((IpNumber(17), whole)));
}

#[test]
fn an_ipv6_fragment_is_split_into_fragments_of_the_same_packet() {
    let whole: Vec<u8> = (0..2880_u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut frames = Vec::new();
    for (number, part) in whole.chunks(1440).enumerate() {
        let field = u16::try_from(number * 1440).unwrap() | u16::from(number == 0);
        let mut payload = vec![17, 0];
        payload.extend_from_slice(&field.to_be_bytes());
        payload.extend_from_slice(&[1, 2, 3, 4]);
        payload.extend_from_slice(part);
        frames.extend(TestFrame::new(packet(true, 44, &payload)).mirrored(1400));
    }
    assert_eq!(frames.len(), 4);
    assert!(frames.iter().all(|f| f[58..62] == [1, 2, 3, 4]));
    assert_eq!(reassembled(&frames), Some((IpNumber(17), whole)));
}

#[test]
fn headers_before_a_fragment_header_stay_before_it() {
    // Destination options before the Fragment header, as in an evasion.
    let mut payload = vec![44, 0, 1, 4, 0, 0, 0, 0];
    payload.extend_from_slice(&[17, 0xab, 0, 0b101, 1, 2, 3, 4]);
    payload.extend_from_slice(&[7; 1440]);
    let frames = TestFrame::new(packet(true, 60, &payload)).mirrored(1500);
    assert_eq!(frames.len(), 2);
    for frame in &frames {
        assert_eq!((frame[20], &frame[54..62]), (60, &payload[..8]));
        assert_eq!(
            (&frame[62..64], frame[65] & 0b111),
            (&[17, 0xab][..], 0b101)
        );
    }
}

#[test]
fn a_packet_with_an_authentication_header_is_not_split_as_tcp() {
    let mut payload = vec![6, 4, 0, 0];
    payload.resize(24, 9);
    payload.extend_from_slice(&[0; 12]);
    payload.push(0x50);
    payload.resize(1500, 7);
    let frames = TestFrame::new(packet(true, 51, &payload)).mirrored(1500);
    assert_eq!(frames.len(), 2);
    let mut joined = Vec::new();
    for frame in &frames {
        assert_eq!((frame[20], frame[54]), (44, 51));
        joined.extend_from_slice(&frame[62..]);
    }
    assert_eq!(joined, payload);
}

/// Three datagrams from one frame, each of which fits.
fn frames_of_whole_datagrams() -> Vec<Vec<u8>> {
    let mut bytes = packet(
        false,
        17,
        &[&[0, 7, 0, 8, 0, 0, 0, 0][..], &[7; 3000]].concat(),
    );
    bytes[18..22].copy_from_slice(&[0x03, 0xe8, 0, 0]);
    TestFrame::new(bytes)
        .gso(GsoKind::UdpL4, 1000)
        .mirrored(1500)
}

#[test]
fn datagrams_of_one_frame_do_not_share_an_identification() {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(7, 8)
        .write(&mut bytes, &[7; 1472 * 3])
        .unwrap();
    bytes[18..22].copy_from_slice(&[0x03, 0xe8, 0, 0]);
    let frames = TestFrame::new(bytes)
        .gso(GsoKind::UdpL4, 1472)
        .mirrored(1500);
    let ids: Vec<u16> = ipv4_headers(&frames)
        .iter()
        .map(|h| h.identification)
        .collect();
    assert_eq!(ids, [1, 1, 2, 2, 3, 3]);
    let whole = frames_of_whole_datagrams();
    let ids: Vec<u16> = ipv4_headers(&whole)
        .iter()
        .map(|h| h.identification)
        .collect();
    assert_eq!(
        ids,
        [1000, 1001, 1002],
        "whole datagrams have the sender's, increasing as the kernel does it"
    );
}

#[test]
fn an_offset_beyond_what_fits_the_field_is_malformed() {
    let mut bytes = packet(false, 17, &[7; 1480]);
    bytes[20..22].copy_from_slice(&0x1fff_u16.to_be_bytes());
    assert_eq!(TestFrame::new(bytes).dropped(1500), DropReason::Malformed);
}

#[test]
fn options_without_the_copied_bit_are_blanked_in_later_fragments() {
    let mut bytes = packet(false, 17, &[7; 1470]);
    bytes[14] = 0x47;
    bytes.splice(34..34, [7, 7, 4, 0, 0, 0, 0, 0]);
    let total = u16::try_from(bytes.len() - 14).unwrap();
    bytes[16..18].copy_from_slice(&total.to_be_bytes());
    fix_header_checksum(&mut bytes);
    let frames = TestFrame::new(bytes).mirrored(1500);
    assert_eq!(frames[0][34..42], [7, 7, 4, 0, 0, 0, 0, 0]);
    assert_eq!(frames[1][34..42], [1, 1, 1, 1, 1, 1, 1, 0]);
    assert!(reassembled(&frames).is_some());
}

#[test]
fn a_datagram_of_a_uso_frame_that_is_too_long_becomes_fragments() {
    for v6 in [false, true] {
        let payload: Vec<u8> = (0..5000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let mut bytes = Vec::new();
        if v6 {
            link.ipv6([0xfd; 16], [0xfe; 16], 64)
        } else {
            link.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        }
        .udp(7, 8)
        .write(&mut bytes, &payload)
        .unwrap();
        let test_frame = TestFrame::new(bytes).gso(GsoKind::UdpL4, 2000);
        let frames = test_frame.mirrored(1500);
        let mut pool = IpDefragPool::<(), ()>::new();
        let mut datagrams = Vec::new();
        for frame in &frames {
            let packet = SlicedPacket::from_ethernet(frame).unwrap();
            if let Some(done) = pool.process_sliced_packet(&packet, (), ()).unwrap() {
                datagrams.push(done.payload);
            } else if let Some(etherparse::TransportSlice::Udp(udp)) = packet.transport {
                assert!(checksums_are_right(frame));
                datagrams.push(udp.slice().to_vec());
            }
        }
        let joined: Vec<u8> = datagrams.iter().flat_map(|d| d[8..].to_vec()).collect();
        assert_eq!(joined, payload);
        assert_eq!(
            datagrams.iter().map(Vec::len).collect::<Vec<_>>(),
            [2008, 2008, 1008]
        );
    }
}

/// A frame that must be split into fragments.
#[derive(Debug, Clone, Copy)]
struct LongPacket {
    v6: bool,
    /// How many UDP datagrams are in it, each of which is too long; 0 is a packet without offload.
    datagrams: usize,
    /// Over IPv4, the identification that it has, with or without "don't fragment".
    id: u16,
    dont_fragment: bool,
}

fn any_long_packet() -> impl Strategy<Value = LongPacket> {
    // Senders count too, and may use any number.
    let all = (any::<bool>(), 0_usize..5, 0_u16..50, any::<bool>());
    all.prop_map(|(v6, datagrams, id, dont_fragment)| LongPacket {
        v6,
        datagrams,
        id,
        dont_fragment,
    })
}

fn test_frame_of(long: LongPacket) -> TestFrame {
    let mut udp = vec![0, 7, 0, 8, 0, 0, 0, 0];
    udp.resize(8 + 1472 * long.datagrams.max(1), 7);
    let mut bytes = packet(long.v6, 17, &udp);
    if !long.v6 {
        bytes[18..20].copy_from_slice(&long.id.to_be_bytes());
        bytes[20] = if long.dont_fragment { 0x40 } else { 0 };
    }
    let test_frame = TestFrame::new(bytes);
    if long.datagrams == 0 {
        test_frame
    } else {
        test_frame.gso(GsoKind::UdpL4, 1472)
    }
}

/// The version of each first fragment, and its identification.
fn identifications(frames: &[Vec<u8>]) -> Vec<(bool, u32)> {
    let first = |frame: &Vec<u8>| match SlicedPacket::from_ethernet(frame).unwrap().net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let is_first = header.fragments_offset().value() == 0;
            is_first.then(|| (false, header.identification().into()))
        }
        Some(NetSlice::Ipv6(_)) => {
            let [_, _, a, b, id @ ..] = *frame[54..].first_chunk::<8>().unwrap();
            let is_first = u16::from_be_bytes([a, b]) >> 3 == 0;
            is_first.then(|| (true, u32::from_be_bytes(id)))
        }
        _ => panic!("IP"),
    };
    frames.iter().filter_map(first).collect()
}

#[test]
fn no_identification_is_repeated_within_65536_packets() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut mirror = super::mirror();
    let table = super::table(1500);
    let mut seen = std::collections::HashSet::new();
    let mut packets = 0;
    while packets < 65_536 - 4 {
        let long = any_long_packet().new_tree(&mut runner).unwrap().current();
        let test_frame = test_frame_of(long);
        let (mut batch, mut totals) = (crate::Batch::new(), crate::Totals::default());
        mirror.push(&test_frame.frame(), &table, &mut batch, &mut totals);
        for identification in
            identifications(&super::inner_frames(&mut batch, &test_frame.bytes, 1500))
        {
            packets += 1;
            assert!(
                seen.insert(identification),
                "{long:?}: {identification:?} again"
            );
        }
    }
}

proptest! {
    #[test]
    fn reassembled_fragments_are_the_packet(v6: bool, length in 1_usize..9000, mtu in 576_u32..9500) {
        let payload: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        // A protocol without ports, so that only the fragments are checked.
        let test_frame = TestFrame::new(packet(v6, 47, &payload));
        let frames = test_frame.mirrored(mtu);
        if frames.len() == 1 {
            prop_assert_eq!(&frames[0], &test_frame.bytes);
        } else {
            prop_assert_eq!(reassembled(&frames), Some((IpNumber(47), payload)));
        }
    }

    #[test]
    fn an_unfinished_checksum_is_finished_before_the_packet_is_fragmented(v6: bool, length in 1500_usize..9000) {
        let payload: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0]).collect();
        let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let mut bytes = Vec::new();
        if v6 { link.ipv6([0xfd; 16], [0xfe; 16], 64) } else { link.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64) }
            .udp(7, 8)
            .write(&mut bytes, &payload)
            .unwrap();
        let transport = if v6 { 54 } else { 34 };
        let right = bytes[transport..].to_vec();
        let udp_len = u16::try_from(right.len()).unwrap();
        let pseudo = if v6 {
            wire::checksum::pseudo_v6([0xfd; 16].into(), [0xfe; 16].into(), 17, u32::from(udp_len))
        } else {
            wire::checksum::pseudo_v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 17, udp_len)
        };
        bytes[transport + 6..transport + 8].copy_from_slice(&pseudo.fold().to_be_bytes());
        let frames = TestFrame::new(bytes).unfinished(transport, 6).mirrored(1500);
        prop_assert_eq!(reassembled(&frames), Some((IpNumber(17), right)));
    }
}
