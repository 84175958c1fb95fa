//! Invalid frames: they must not cause a panic, and must be counted.

use proptest::prelude::*;
use wire::{ChecksumState, Direction, Gso, GsoKind, Link, Offload, Unfinished, VlanTag};

use super::TestFrame;
use crate::{DropReason, MirrorConfig, SourcePorts, Spread};

fn any_offload() -> impl Strategy<Value = Offload> {
    let checksum = prop_oneof![
        Just(ChecksumState::AsOnWire),
        Just(ChecksumState::Verified),
        (0_u16..120, 0_u16..120)
            .prop_map(|(start, offset)| ChecksumState::Unfinished(Unfinished { start, offset })),
        any::<(u16, u16)>()
            .prop_map(|(start, offset)| ChecksumState::Unfinished(Unfinished { start, offset })),
    ];
    let kind = prop_oneof![
        Just(GsoKind::TcpV4),
        Just(GsoKind::TcpV6),
        Just(GsoKind::UdpL4),
        any::<u8>().prop_map(GsoKind::Other),
    ];
    let gso = proptest::option::of((kind, prop_oneof![0_u16..3, any::<u16>()]))
        .prop_map(|gso| gso.map(|(kind, size)| Gso { kind, size }));
    (checksum, gso).prop_map(|(checksum, gso)| Offload { checksum, gso })
}

/// Bytes that pass the first checks for IP.
fn nearly_ip() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![0x45_u8, 0x46, 0x4f, 0x44, 0x60, 0x65, 0x00]);
    let protocol = prop::sample::select(vec![0_u8, 1, 6, 17, 43, 44, 51, 58, 60, 132]);
    let rest = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..120),
        proptest::collection::vec(any::<u8>(), 1400..4000),
        proptest::collection::vec(0_u8..3, 1400..4000),
    ];
    (first, protocol, rest, any::<bool>()).prop_map(|(first, protocol, rest, right_length)| {
        let v6 = first >> 4 == 6;
        let mut bytes = vec![2; 12];
        bytes.extend_from_slice(if v6 { &[0x86, 0xdd] } else { &[0x08, 0x00] });
        bytes.push(first);
        bytes.extend(rest);
        let length = u16::try_from(bytes.len() - 14).unwrap();
        let (at, value, protocol_at) = if v6 {
            (18, length.saturating_sub(40), 20)
        } else {
            (16, length, 23)
        };
        if right_length && bytes.len() > at + 2 {
            bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
        }
        if let Some(byte) = bytes.get_mut(protocol_at) {
            *byte = protocol;
        }
        bytes
    })
}

#[test]
fn a_malformed_packet_is_mirrored_unchanged_or_counted() {
    for length in [100, 2000] {
        let mut bytes = vec![2; length];
        bytes[12..15].copy_from_slice(&[0x08, 0x00, 0x43]);
        let test_frame = TestFrame::new(bytes);
        if length < 1400 {
            assert_eq!(
                test_frame.mirrored(1500),
                std::slice::from_ref(&test_frame.bytes)
            );
        } else {
            assert_eq!(test_frame.dropped(1500), DropReason::Malformed);
        }
    }
}

#[test]
fn a_frame_of_too_many_segments_is_malformed() {
    let mut bytes = vec![2; 54 + 16_000];
    bytes[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0]);
    bytes[20..22].fill(0);
    bytes[23] = 6;
    bytes[46] = 0x50;
    let test_frame = TestFrame::new(bytes).gso(GsoKind::TcpV4, 1);
    assert_eq!(test_frame.mirrored(1500).len(), 16_000);
    let mut longer = test_frame;
    longer.bytes.resize(54 + 500_000, 0);
    assert_eq!(longer.dropped(1500), DropReason::Malformed);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_frame_causes_a_panic_and_every_frame_is_counted(
        bytes in prop_oneof![nearly_ip(), proptest::collection::vec(any::<u8>(), 0..2000)],
        offload in any_offload(),
        link in prop::sample::select(vec![Link::Ethernet, Link::Loopback, Link::Ip]),
        tagged: bool,
        incoming: bool,
        flows: bool,
        mtu in prop_oneof![Just(576_u32), 1280_u32..1600, Just(9000), Just(65_535)],
    ) {
        let vlan = tagged.then_some(VlanTag { tpid: 0x8100, tci: 1 });
        // `mirror_with` asserts the equations of the counts, and that each datagram fits.
        let direction = if incoming { Direction::Incoming } else { Direction::Outgoing };
        let spread = if flows { Spread::Flows } else { Spread::Hosts };
        let config = MirrorConfig { spread, source_ports: SourcePorts::MAX, ..super::config() };
        let test_frame = TestFrame { link, vlan, offload, direction, ..TestFrame::new(bytes) };
        let (frames, totals) = test_frame.mirror_with(&config, mtu);
        prop_assert_eq!(frames.is_empty(), totals.frames_mirrored == 0);
    }
}
