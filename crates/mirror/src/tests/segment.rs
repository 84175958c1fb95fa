//! Frames that represent several, and TCP frames that are too long.

use etherparse::{PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice};
use proptest::prelude::*;
use wire::checksum::{Sum, pseudo_v4, pseudo_v6};
use wire::{GsoKind, VlanTag};

use super::{TestFrame, checksums_are_right, transport_checksum};
use crate::DropReason;

const V4: ([u8; 4], [u8; 4]) = ([10, 0, 0, 1], [10, 0, 0, 2]);
const V6: ([u8; 16], [u8; 16]) = ([0xfd; 16], [0xfe; 16]);

/// A TCP frame with all flags that splitting changes, timestamps, and a correct checksum.
fn tcp(v6: bool, payload: &[u8]) -> TestFrame {
    let options = [
        TcpOptionElement::Noop,
        TcpOptionElement::Noop,
        TcpOptionElement::Timestamp(1, 2),
    ];
    let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let ip = if v6 {
        link.ipv6(V6.0, V6.1, 64)
    } else {
        link.ipv4(V4.0, V4.1, 64)
    };
    let tcp = ip
        .tcp(1, 2, u32::MAX - 700, 1000)
        .ack(77)
        .psh()
        .fin()
        .cwr()
        .ece()
        .options(&options)
        .unwrap();
    let mut bytes = Vec::new();
    tcp.write(&mut bytes, payload).unwrap();
    if !v6 {
        bytes[18..20].copy_from_slice(&0xfffe_u16.to_be_bytes());
        let right = etherparse::Ipv4HeaderSlice::from_slice(&bytes[14..])
            .unwrap()
            .to_header()
            .calc_header_checksum();
        bytes[24..26].copy_from_slice(&right.to_be_bytes());
    }
    TestFrame::new(bytes)
}

/// As the kernel captures it: with `csum_start`, and the pseudo-header's sum in the field.
fn tso(v6: bool, payload: &[u8], size: u16) -> TestFrame {
    let test_frame = tcp(v6, payload);
    let transport = if v6 { 54 } else { 34 };
    let kind = if v6 { GsoKind::TcpV6 } else { GsoKind::TcpV4 };
    let mut test_frame = test_frame.unfinished(transport, 16).gso(kind, size);
    let length = u32::try_from(test_frame.bytes.len() - transport).unwrap();
    let pseudo = if v6 {
        pseudo_v6(V6.0.into(), V6.1.into(), 6, length)
    } else {
        pseudo_v4(V4.0.into(), V4.1.into(), 6, 0).plus_u32(length)
    };
    test_frame.bytes[transport + 16..transport + 18].copy_from_slice(&pseudo.fold().to_be_bytes());
    test_frame
}

/// Checks the segments of a frame that [`tcp`] or [`tso`] made.
fn check_segments(frames: &[Vec<u8>], payload: &[u8]) -> Result<(), TestCaseError> {
    let mut joined = Vec::new();
    for (number, frame) in frames.iter().enumerate() {
        prop_assert!(checksums_are_right(frame), "segment {}", number);
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = packet.transport else {
            panic!("tcp")
        };
        let sequence = (u32::MAX - 700).wrapping_add(u32::try_from(joined.len()).unwrap());
        prop_assert_eq!(tcp.sequence_number(), sequence);
        let (first, last) = (number == 0, number + 1 == frames.len());
        prop_assert_eq!((tcp.cwr(), tcp.ece()), (first, true));
        prop_assert_eq!((tcp.psh(), tcp.fin(), tcp.ack()), (last, last, true));
        prop_assert_eq!(tcp.options().len(), 12);
        if let Some(etherparse::NetSlice::Ipv4(ip)) = packet.net {
            prop_assert_eq!(
                ip.header().identification(),
                0xfffe_u16.wrapping_add(u16::try_from(number).unwrap())
            );
        }
        joined.extend_from_slice(tcp.payload());
    }
    prop_assert_eq!(joined, payload);
    Ok(())
}

#[test]
fn segments_have_the_size_of_the_wire_where_the_tunnel_allows() {
    let payload = vec![7; 5000];
    let frames = tso(false, &payload, 1448).mirrored(9000);
    let lengths: Vec<usize> = frames.iter().map(|f| f.len() - 66).collect();
    assert_eq!(lengths, [1448, 1448, 1448, 656]);
    check_segments(&frames, &payload).unwrap();
}

#[test]
fn a_frame_of_the_wire_is_split_into_equal_parts() {
    let frames = tcp(false, &[7; 1448]).mirrored(1500);
    let lengths: Vec<usize> = frames.iter().map(|f| f.len() - 66).collect();
    assert_eq!(lengths, [724, 724]);
}

#[test]
fn a_wrong_checksum_stays_wrong_in_a_split_frame() {
    // Parts of 720 bytes, and of 723: the second one starts in the middle of a word.
    let payload: Vec<u8> = (0..1446_u32).map(|n| n.to_le_bytes()[0]).collect();
    for (v6, length) in [(false, 1440), (true, 1440), (false, 1446), (true, 1446)] {
        let mut test_frame = tcp(v6, &payload[..length]);
        let frames = test_frame.mirrored(1500);
        assert!(frames.len() == 2 && frames.iter().all(|frame| checksums_are_right(frame)));

        let at = if v6 { 54 + 16 } else { 34 + 16 };
        test_frame.bytes[at] ^= 0x12;
        let frames = test_frame.mirrored(1500);
        assert_eq!(frames.len(), 2);
        for frame in frames {
            let (found, right) = transport_checksum(&frame).unwrap();
            assert_ne!(found, right);
        }
    }
    let mut test_frame = tcp(false, &[7; 1448]);
    test_frame.bytes[24] ^= 0x12;
    for frame in test_frame.mirrored(1500) {
        assert!(!checksums_are_right(&frame));
        let (found, right) = transport_checksum(&frame).unwrap();
        assert_eq!(found, right, "only the checksum of the IP header was wrong");
    }
}

#[test]
fn a_syn_with_data_is_split_with_correct_sequence_numbers() {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(V4.0, V4.1, 64)
        .tcp(1, 2, 100, 1000)
        .syn()
        .write(&mut bytes, &[1; 1460])
        .unwrap();
    let frames = TestFrame::new(bytes).mirrored(1500);
    let numbers: Vec<(u32, bool)> = frames
        .iter()
        .map(
            |frame| match SlicedPacket::from_ethernet(frame).unwrap().transport {
                Some(TransportSlice::Tcp(tcp)) => (tcp.sequence_number(), tcp.syn()),
                _ => panic!("tcp"),
            },
        )
        .collect();
    assert_eq!(numbers, [(100, true), (831, false)]);
}

#[test]
fn big_tcp_is_split_over_ipv4_and_ipv6() {
    let payload: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    // Over IPv4 the total length is zero (`iph_set_totlen` in the kernel).
    let mut v4 = tso(false, &payload[..60_000], 1448);
    v4.bytes.extend_from_slice(&payload[60_000..]);
    v4.bytes[16..18].fill(0);
    check_segments(&v4.mirrored(1500), &payload).unwrap();

    // Over IPv6 the payload length is zero, with or without a jumbo payload option.
    let mut v6 = tso(true, &payload[..60_000], 1428);
    v6.bytes.extend_from_slice(&payload[60_000..]);
    v6.bytes[18..20].fill(0);
    check_segments(&v6.mirrored(1500), &payload).unwrap();

    let length = u32::try_from(payload.len() + 32 + 8).unwrap();
    let mut jumbo = vec![6, 0, 0xc2, 4];
    jumbo.extend_from_slice(&length.to_be_bytes());
    v6.bytes[20] = 0;
    v6.bytes.splice(54..54, jumbo);
    let v6 = v6.unfinished(62, 16);
    // The kernel's sum is only over TCP.
    let mut v6 = v6;
    let pseudo = pseudo_v6(V6.0.into(), V6.1.into(), 6, length - 8);
    v6.bytes[78..80].copy_from_slice(&pseudo.fold().to_be_bytes());
    let frames = v6.mirrored(1500);
    assert_eq!(frames[0][20], 6, "the option is removed");
    check_segments(&frames, &payload).unwrap();
}

#[test]
fn behind_a_routing_header_the_checksum_uses_the_last_destination() {
    let last = [0xab; 16];
    let mut test_frame = tso(true, &[7; 3000], 1000);
    let mut routing = vec![6, 2, 4, 1, 0, 0, 0, 0];
    routing.extend_from_slice(&last);
    test_frame.bytes[20] = 43;
    test_frame.bytes.splice(54..54, routing);
    let mut test_frame = test_frame.unfinished(78, 16);
    let length = u32::try_from(test_frame.bytes.len() - 78).unwrap();
    let pseudo = pseudo_v6(V6.0.into(), last.into(), 6, length);
    test_frame.bytes[94..96].copy_from_slice(&pseudo.fold().to_be_bytes());
    let frames = test_frame.mirrored(1500);
    assert_eq!(frames.len(), 3);
    for frame in frames {
        let segment = &frame[78..];
        let sum = pseudo_v6(
            V6.0.into(),
            last.into(),
            6,
            u32::try_from(segment.len()).unwrap(),
        );
        assert!(sum.plus(Sum::of(segment)).is_valid());
    }
}

#[test]
fn frames_with_a_contradicting_offload_are_mirrored_unchanged_or_counted() {
    for kind in [GsoKind::TcpV6, GsoKind::UdpL4, GsoKind::Other(9)] {
        let small = tcp(false, &[7; 100]).gso(kind, 50);
        assert_eq!(small.mirrored(1500), std::slice::from_ref(&small.bytes));
        assert_eq!(
            tcp(false, &[7; 2000]).gso(kind, 50).dropped(1500),
            DropReason::Malformed
        );
    }
}

#[test]
fn a_frame_with_an_offload_inside_another_tunnel_is_not_split() {
    let payload = [7; 4000];
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(V4.0, V4.1, 64)
        .udp(50_000, 4789)
        .write(&mut bytes, &payload)
        .unwrap();
    for kind in [GsoKind::UdpL4, GsoKind::TcpV4] {
        let test_frame = TestFrame::new(bytes.clone())
            .unfinished(84, 6)
            .gso(kind, 1200);
        assert_eq!(test_frame.dropped(1500), DropReason::UnknownOffload);
    }
}

/// The kernel also splits frames after an MPLS or `PPPoE` header, but does not report where.
#[test]
fn a_frame_behind_mpls_or_pppoe_is_not_split() {
    for (ethertype, header) in [
        ([0x88, 0x47], &[0, 1, 0x41, 64][..]),
        ([0x88, 0x64], &[0x11, 0, 0, 1, 0x0f, 0xa0, 0, 0x21]),
    ] {
        let mut test_frame = tso(false, &[7; 4000], 1448);
        test_frame
            .bytes
            .splice(12..14, [&ethertype, header].concat());
        for mtu in [1500, 9000] {
            assert_eq!(test_frame.dropped(mtu), DropReason::UnknownOffload);
        }
    }
}

#[test]
fn the_urgent_pointer_still_points_at_its_byte() {
    let mut test_frame = tcp(false, &[7; 1448]);
    test_frame.bytes[47] |= 0x20;
    test_frame.bytes[52..54].copy_from_slice(&1000_u16.to_be_bytes());
    let urgent = |test_frame: &TestFrame| -> Vec<(bool, u16)> {
        let frames = test_frame.mirrored(1500);
        let read = |frame: &Vec<u8>| match SlicedPacket::from_ethernet(frame).unwrap().transport {
            Some(TransportSlice::Tcp(tcp)) => (tcp.urg(), tcp.urgent_pointer()),
            _ => panic!("tcp"),
        };
        frames.iter().map(read).collect()
    };
    assert_eq!(urgent(&test_frame), [(true, 1000), (true, 276)]);
    test_frame.bytes[52..54].copy_from_slice(&10_u16.to_be_bytes());
    assert_eq!(urgent(&test_frame), [(true, 10), (false, 0)]);
}

#[test]
fn a_gso_size_of_zero_is_mirrored_unchanged_or_counted() {
    let small = tcp(false, &[7; 100]).gso(GsoKind::TcpV4, 0);
    assert_eq!(small.mirrored(1500), std::slice::from_ref(&small.bytes));
    assert_eq!(
        tcp(false, &[7; 1460]).gso(GsoKind::TcpV4, 0).dropped(1500),
        DropReason::Malformed
    );
}

#[test]
fn udp_datagrams_keep_their_bounds() {
    for v6 in [false, true] {
        let payload: Vec<u8> = (0..3000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let ip = if v6 {
            link.ipv6(V6.0, V6.1, 64)
        } else {
            link.ipv4(V4.0, V4.1, 64)
        };
        let mut bytes = Vec::new();
        ip.udp(7, 8).write(&mut bytes, &payload).unwrap();
        let transport = if v6 { 54 } else { 34 };
        let test_frame = TestFrame::new(bytes)
            .unfinished(transport, 6)
            .gso(GsoKind::UdpL4, 1200);
        let frames = test_frame.mirrored(1500);
        let mut joined = Vec::new();
        for (frame, want) in frames.iter().zip([1200, 1200, 600]) {
            assert!(checksums_are_right(frame));
            let Some(TransportSlice::Udp(udp)) =
                SlicedPacket::from_ethernet(frame).unwrap().transport
            else {
                panic!("udp")
            };
            assert_eq!(udp.payload().len(), want);
            joined.extend_from_slice(udp.payload());
        }
        assert_eq!(joined, payload);
    }
}

proptest! {
    #[test]
    fn segments_have_correct_headers_and_all_the_payload(v6: bool, tagged: bool, length in 1_usize..20_000, size in 48_u16..9000, mtu in 576_u32..9500) {
        let payload: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        let mut test_frame = tso(v6, &payload, size);
        if tagged {
            test_frame.vlan = Some(VlanTag { tpid: 0x8100, tci: 7 });
        }
        check_segments(&test_frame.mirrored(mtu), &payload)?;
    }

    #[test]
    fn a_long_segment_is_split_into_valid_ones(v6: bool, length in 1_usize..9000, mtu in 576_u32..9500) {
        let payload: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0]).collect();
        check_segments(&tcp(v6, &payload).mirrored(mtu), &payload)?;
    }
}
