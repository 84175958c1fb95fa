//! Frames of an interface, from a ring that the kernel fills.
//!
//! In: the name of an interface. Out: [`Block`]s of [`wire::Frame`]s, in the memory that the kernel
//! wrote. In the order in which a frame passes them:
//!
//! - [`filter`]: which frames the kernel writes into the ring, as a cBPF program;
//!   [`filter_handle`]: replacing it while another thread reads the ring;
//! - [`ring`]: a packet socket with its ring, opened once with `CAP_NET_RAW` and bound again, without
//!   any capability, when the interface is back; [`interface`]: the changes of the interface;
//! - [`network_changes`]: when to check the interface for changes;
//! - [`privilege`]: raising that capability before, and dropping all privileges after;
//! - [`block`](mod@block): how a block passes from the kernel to podspan and back;
//! - [`walk`]: the frames of a block, checked once.
//!
//! Unsafe code is only in `packet_socket` (system calls), `map` (the mapping) and `block` (the
//! hand-over of memory). All code that reads frames is safe.

#![deny(unsafe_code)]

pub mod block;
pub mod filter;
pub mod filter_handle;
pub mod interface;
mod map;
pub mod network_changes;
mod packet_socket;
pub mod privilege;
pub mod ring;
pub mod walk;

#[cfg(test)]
mod simulated;

pub use block::Block;
pub use filter_handle::{FilterHandle, FilterRefused};
pub use interface::InterfaceChange;
pub use network_changes::NetworkChanges;
pub use ring::{
    BLOCK_LEN, BLOCK_LEN_MIN, OpenError, RETIRE_AFTER_MS, Ring, RingConfig, RingStatistics,
};
pub use walk::{Cursor, DESCRIPTOR_LEN, Frames, Walk, slot_len};
