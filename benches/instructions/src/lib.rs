//! The parts of the path of a frame, one by one, on recorded frames: for counting their instructions.
//!
//! [`recording`] holds the frames, [`measures`] the parts. The program of this package runs one part, and
//! `cargo xtask bench --instructions` runs it under callgrind and compares the counts with a baseline. It is
//! a package of its own because it must depend on little: it is built for another C library than the rest.

#![forbid(unsafe_code)]

pub mod measures;
pub mod recording;
