//! The walk over random and over damaged blocks. Not under Miri: there is no unsafe code in the walk
//! for it to check, and it would take hours.

use proptest::prelude::*;

use super::tests::{block, slots, walk};
use super::*;
use crate::simulated::SimulatedFrame;

fn any_frame() -> impl Strategy<Value = SimulatedFrame> {
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    let flags = (any::<bool>(), prop::bool::weighted(0.1));
    let hardware = prop::sample::select(vec![1, 772, 0xfffe, 519]);
    let vlan = prop::option::of(any::<(u16, u16)>());
    let rest = (any::<[u8; 10]>(), 0..2000u32, any::<(u32, u32)>());
    (bytes, flags, hardware, vlan, rest).prop_map(
        |(bytes, (outgoing, void), hardware, vlan, (vnet, missing, (seconds, nanoseconds)))| {
            SimulatedFrame {
                wire_len: u32::try_from(bytes.len()).unwrap() + missing,
                bytes,
                outgoing,
                hardware,
                vlan,
                vnet,
                void,
                seconds,
                nanoseconds,
            }
        },
    )
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn all_frames_of_a_block_are_read(frames in prop::collection::vec(any_frame(), 0..12)) {
        let block = block(&frames);
        let want: Vec<_> = frames.iter().filter(|frames| !frames.void).collect();
        let got: Vec<_> = Walk::check(&block).frames().collect();
        prop_assert_eq!(got.len(), want.len());
        for (got, want) in got.into_iter().zip(want) {
            prop_assert_eq!(got.bytes, &want.bytes[..]);
            prop_assert_eq!(got.wire_len, want.wire_len);
            prop_assert_eq!(got.direction == Direction::Outgoing, want.outgoing);
            prop_assert_eq!(Some(got.link), link_of(want.hardware));
            prop_assert_eq!(got.vlan.map(|tag| (tag.tpid, tag.tci)), want.vlan);
            prop_assert_eq!(got.offload, Offload::parse(&want.vnet));
            let (seconds, nanoseconds) = (want.seconds, want.nanoseconds);
            prop_assert_eq!(got.timestamp, Timestamp { seconds, nanoseconds });
        }
    }

    #[test]
    fn no_bytes_break_the_walk(block in prop::collection::vec(any::<u8>(), 0..600)) {
        walk(&block);
    }

    #[test]
    fn no_flipped_bits_break_the_walk(
        frames in prop::collection::vec(any_frame(), 1..12),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u8), 1..20),
        end in any::<prop::sample::Index>(),
    ) {
        let mut block = block(&frames);
        // Most bytes are payload, where damage has no effect on the walk: only headers are changed.
        let mut headers: Vec<usize> = (0..DESCRIPTOR_LEN).collect();
        headers.extend(slots(&block).into_iter().flat_map(|at| at..at + HEADER_LEN));
        for (index, bit) in flips {
            let at = headers[index.index(headers.len())];
            block[at] ^= 1 << bit;
            walk(&block);
        }
        walk(&block[..end.index(block.len())]);
    }
}
