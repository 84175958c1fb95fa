//! Several packet sockets that share the frames of an interface by processor (`PACKET_FANOUT_CPU`).
//!
//! In: bound packet sockets. The kernel gives each frame to one of the group, by the processor on which it
//! handles the frame. Source: `fanout_add` in `net/packet/af_packet.c`.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use crate::error::{Error, Result};

/// The group's number, which is of the network namespace.
const GROUP: u16 = 1;

/// Adds a packet socket that is bound to the group of its network namespace.
///
/// # Errors
/// [`Error::System`]: it is not bound, or the others of the group are bound to another device.
pub fn join_fanout(socket: BorrowedFd<'_>) -> Result<()> {
    let option: u32 = libc::PACKET_FANOUT_CPU << 16 | u32::from(GROUP);
    // SAFETY: the kernel reads four bytes from a number that lives during the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_FANOUT,
            (&raw const option).cast(),
            4,
        )
    };
    Errno::result(result).map_err(|errno| Error::system("joining a fanout group", errno))?;
    Ok(())
}
