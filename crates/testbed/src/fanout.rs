//! Several packet sockets that share the frames of an interface by processor (`PACKET_FANOUT_CPU`).
//!
//! In: bound packet sockets. The kernel gives each frame to one of the group, by the processor on which it
//! handles the frame. Source: `fanout_add` in `net/packet/af_packet.c`.

use std::os::fd::BorrowedFd;

use crate::error::{Error, Result};
use crate::ring::set_option;

/// The group's number, which is of the network namespace.
const GROUP: u16 = 1;

/// Adds a packet socket that is bound to the group of its network namespace.
///
/// # Errors
/// [`Error::System`]: it is not bound, or the others of the group are bound to another device.
pub fn join_fanout(socket: BorrowedFd<'_>) -> Result<()> {
    let option: u32 = libc::PACKET_FANOUT_CPU << 16 | u32::from(GROUP);
    set_option(socket, libc::PACKET_FANOUT, &option)
        .map_err(|source| Error::system("joining a fanout group", source))
}
