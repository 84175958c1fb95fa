//! What is on the wire: views over headers, checksums, and a frame with its offload metadata.
//!
//! A view checks the lengths once, when it is made; after that its accessors cannot fail. Nothing
//! here makes decisions, allocates memory, or does I/O. In the order of a frame's bytes:
//!
//! - [`frame`]: a captured frame, [`offload`]: what the kernel left to be done later;
//! - [`ethernet`]: link header and tags; [`ip`], [`ipv4`], [`ipv6`]: the network header with its
//!   options and extension headers; [`tcp`]: the TCP header, whose fields are rewritten;
//! - [`checksum`] and [`crc32c`]: sums as types;
//! - [`vxlan`]: the header of the tunnel; [`units`]: numbers with bounds; `interface`: names.

#![forbid(unsafe_code)]

pub mod checksum;
pub mod crc32c;
pub mod ethernet;
pub mod frame;
mod interface;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod offload;
pub mod tcp;
pub mod units;
pub mod vxlan;

pub use frame::{Direction, Frame, Link, Timestamp, VlanTag};
pub use interface::{InterfaceName, InvalidInterfaceName};
pub use offload::{ChecksumState, Gso, GsoKind, Offload, Unfinished};
pub use units::{Mtu, Vni};
