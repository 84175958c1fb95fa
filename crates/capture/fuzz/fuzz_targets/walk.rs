//! The walk over damaged blocks. Any bytes can be a block.
//!
//! Run with `cargo +nightly fuzz run walk` in `crates/capture`. For every block: each frame lies
//! within the block, at its offset, after the previous frame, and their number is the announced one.

#![no_main]

use capture::walk::Walk;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|block: &[u8]| {
    let frames = Walk::check(block).frames();
    let announced = frames.len();
    let (mut count, mut end) = (0, 0);
    for frame in frames {
        let at = frame.at as usize;
        assert_eq!(&block[at..at + frame.bytes.len()], frame.bytes);
        assert!(at >= end && frame.wire_len as usize >= frame.bytes.len());
        end = at + frame.bytes.len();
        count += 1;
    }
    assert_eq!(count, announced);
});
