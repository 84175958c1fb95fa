//! Frames of an interface, out of a ring that the kernel fills.
//!
//! In: the name of an interface. Out: [`Block`]s of [`wire::Frame`]s, in place in the memory that
//! the kernel wrote. In the order of a frame's way:
//!
//! - [`filter`]: what the kernel lets into the ring, as a cBPF program;
//! - [`ring`]: a packet socket with its ring, opened once with `CAP_NET_RAW` and bound again, without
//!   any capability, whenever the interface comes back; [`interface`]: what becomes of the interface;
//! - [`network_changes`]: when to see what has become of the interface;
//! - [`block`](mod@block): how a block passes from the kernel to us and back;
//! - [`walk`]: the frames of a block, checked once.
//!
//! Unsafe code stands in `packet_socket` (system calls), `map` (the mapping) and `block` (the
//! hand-over of memory). Everything that looks at bytes is safe.

#![deny(unsafe_code)]

pub mod block;
pub mod filter;
pub mod interface;
mod map;
pub mod network_changes;
mod packet_socket;
pub mod ring;
pub mod walk;

#[cfg(test)]
mod simulated;

pub use block::Block;
pub use interface::{Change, InterfaceName, InvalidInterfaceName};
pub use network_changes::NetworkChanges;
pub use ring::{BLOCK_LEN, OpenError, Ring, RingConfig, RingStatistics};
pub use walk::{Frames, Walk};
