//! The hand-over of blocks on simulated memory. Miri runs these: an access that overlaps the other
//! side's, or a read that an ordering does not cover, is an error there.

use std::thread;

use libc::{TP_STATUS_BLK_TMO, TP_STATUS_LOSING};

use super::*;
use crate::simulated::{self, SimulatedFrame};

fn numbered(number: u32) -> SimulatedFrame {
    SimulatedFrame::new(&number.to_ne_bytes())
}

fn number(frame: &wire::Frame<'_>) -> u32 {
    u32::from_ne_bytes(frame.bytes.try_into().unwrap())
}

#[test]
fn there_is_no_block_before_the_kernel_has_closed_one() {
    let (memory, mut kernel) = simulated::ring(2, 512);
    let mut blocks = Blocks::new(memory);
    assert!(blocks.next().is_none());
    kernel.deliver(&[numbered(7)], TP_STATUS_BLK_TMO).unwrap();
    let block = blocks.next().unwrap();
    assert_eq!((block.len(), block.unreadable()), (1, 0));
    assert!(!block.is_empty());
    assert_eq!(block.frames().map(|f| number(&f)).collect::<Vec<_>>(), [7]);
}

#[test]
fn a_frame_has_its_offset_in_the_block() {
    let (memory, mut kernel) = simulated::ring(1, 512);
    let mut blocks = Blocks::new(memory);
    kernel.deliver(&[numbered(1), numbered(2)], 0).unwrap();
    let block = blocks.next().unwrap();
    for frame in block.frames() {
        let at = frame.at as usize;
        assert_eq!(&block.bytes()[at..at + frame.bytes.len()], frame.bytes);
    }
}

#[test]
fn the_headroom_of_a_frame_and_its_bytes_can_be_changed_before_the_next_frame_is_read() {
    let (memory, mut kernel) = simulated::ring(1, 512);
    let mut blocks = Blocks::new(memory);
    let numbers = [1, 2, 3];
    for _ in 0..2 {
        kernel.deliver(&numbers.map(numbered), 0).unwrap();
        let mut block = blocks.next().unwrap();
        let mut cursor = block.cursor();
        assert_eq!(cursor.left(), 3);
        let mut seen = Vec::new();
        while let Some(frame) = cursor.next(block.bytes()) {
            seen.push(number(&frame));
            let (at, headroom) = (frame.at as usize, frame.headroom as usize);
            assert_eq!(headroom, 10);
            let end = at + frame.bytes.len();
            for at in at - headroom..end {
                block.write(u32::try_from(at).unwrap(), [0xff]);
            }
            assert!(
                block.bytes()[at - headroom..end]
                    .iter()
                    .all(|byte| *byte == 0xff)
            );
        }
        assert_eq!((seen.as_slice(), cursor.left()), (&numbers[..], 0));
    }
}

#[test]
fn the_descriptor_of_a_block_cannot_be_changed() {
    let (memory, mut kernel) = simulated::ring(1, 512);
    let mut blocks = Blocks::new(memory);
    kernel.deliver(&[numbered(1)], 0).unwrap();
    let mut block = blocks.next().unwrap();
    let before = block.bytes().to_vec();
    for at in 0..u32::try_from(DESCRIPTOR_LEN).unwrap() {
        block.write(at, [0xff; 8]);
    }
    for at in [511, 512, u32::MAX] {
        block.write(at, [0xff; 8]);
    }
    assert_eq!(block.bytes(), before);
}

#[test]
fn the_ring_is_half_full_when_half_of_its_blocks_are_closed() {
    for (count, half) in [(1, 1), (2, 1), (3, 1), (4, 2), (7, 3)] {
        let (memory, mut kernel) = simulated::ring(count, 512);
        let mut blocks = Blocks::new(memory);
        // Two rounds, so that each block is the first one once.
        for round in 0..2 * count {
            for closed in 0..half {
                assert!(
                    !blocks.is_half_full(),
                    "{closed} of {count} in round {round}"
                );
                kernel.deliver(&[numbered(1)], 0).unwrap();
            }
            assert!(blocks.is_half_full(), "{half} of {count} in round {round}");
            while blocks.next().is_some() {}
        }
    }
}

#[test]
fn closed_blocks_are_counted_wherever_the_next_one_is() {
    for count in [1, 2, 3, 7, 8] {
        for first in 0..count {
            let (memory, mut kernel) = simulated::ring(count, 512);
            let mut blocks = Blocks::new(memory);
            for _ in 0..first {
                kernel.deliver(&[numbered(1)], 0).unwrap();
                assert!(blocks.next().is_some());
            }
            for closed in 0..=count {
                assert_eq!(blocks.closed(), closed, "of {count}, from {first} on");
                kernel.deliver(&[numbered(1)], 0);
            }
        }
    }
}

#[test]
fn the_used_bytes_contain_all_frames_and_little_else() {
    let (memory, mut kernel) = simulated::ring(1, 4096);
    let mut blocks = Blocks::new(memory);
    kernel.deliver(&[numbered(1), numbered(2)], 0).unwrap();
    let block = blocks.next().unwrap();
    let copy = block.used().to_vec();
    assert!(copy.len() < 512, "{}", copy.len());
    drop(block);
    let walk = Walk::check(&copy);
    assert_eq!(
        walk.frames().map(|f| number(&f)).collect::<Vec<_>>(),
        [1, 2]
    );
    for frame in walk.frames() {
        let at = frame.at as usize;
        assert_eq!(&copy[at..at + frame.bytes.len()], frame.bytes);
    }
}

#[test]
fn a_block_returns_to_the_kernel_when_it_is_dropped_and_not_before() {
    let (memory, mut kernel) = simulated::ring(1, 512);
    let mut blocks = Blocks::new(memory);
    kernel.deliver(&[numbered(1)], TP_STATUS_LOSING).unwrap();
    let block = blocks.next().unwrap();
    assert_eq!(kernel.deliver(&[numbered(2)], 0), None);
    drop(block);
    assert!(blocks.next().is_none());
    assert_eq!(kernel.deliver(&[numbered(3)], 0), Some(1));
    assert_eq!(number(&blocks.next().unwrap().frames().next().unwrap()), 3);
}

#[test]
fn a_leaked_block_never_returns_to_the_kernel() {
    let (memory, mut kernel) = simulated::ring(2, 512);
    let mut blocks = Blocks::new(memory);
    kernel.deliver(&[numbered(1)], 0).unwrap();
    core::mem::forget(blocks.next());
    kernel.deliver(&[numbered(2)], 0).unwrap();
    assert_eq!(number(&blocks.next().unwrap().frames().next().unwrap()), 2);
    assert_eq!(kernel.deliver(&[numbered(3)], 0), None);
}

/// A thread in the role of the kernel drops frames for which there is no room, as the kernel does.
#[test]
fn the_reader_gets_every_delivered_frame_once_and_in_order() {
    const ROUNDS: u32 = if cfg!(miri) { 40 } else { 4000 };
    const A_BLOCK: u32 = 3;
    let (memory, mut kernel) = simulated::ring(3, 512);
    let kernel = thread::spawn(move || {
        let mut delivered = Vec::new();
        for round in 0..ROUNDS {
            let numbers = round * A_BLOCK..(round + 1) * A_BLOCK;
            let frames: Vec<_> = numbers.clone().map(numbered).collect();
            match kernel.deliver(&frames, 0) {
                Some(count) => delivered.extend(numbers.take(count)),
                None => thread::yield_now(),
            }
        }
        delivered
    });
    let mut blocks = Blocks::new(memory);
    let mut seen = Vec::new();
    let delivered = loop {
        let over = kernel.is_finished();
        while let Some(block) = blocks.next() {
            seen.extend(block.frames().map(|frame| number(&frame)));
        }
        if over {
            break kernel.join().unwrap();
        }
        thread::yield_now();
    };
    assert_eq!(seen, delivered);
    assert!(
        seen.len() >= 3 * A_BLOCK as usize,
        "too few frames were read"
    );
}
