//! Socket options of one integer that neither `socket2` nor `nix` has.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_int, socklen_t};
use nix::errno::Errno;

/// The size of an option's value.
#[expect(clippy::cast_possible_truncation, reason = "four bytes")]
const SIZE: socklen_t = size_of::<c_int>() as socklen_t;

/// An option: its protocol level and its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SocketOption(pub(crate) c_int, pub(crate) c_int);

impl SocketOption {
    pub(crate) fn set(self, socket: &impl AsFd, value: c_int) -> io::Result<()> {
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: the kernel reads SIZE bytes from the pointer, the size of `value`, and the descriptor is
        // open as long as it is borrowed.
        let answer =
            unsafe { libc::setsockopt(fd, self.0, self.1, (&raw const value).cast(), SIZE) };
        Errno::result(answer)?;
        Ok(())
    }

    pub(crate) fn get(self, socket: &impl AsFd) -> io::Result<c_int> {
        let fd = socket.as_fd().as_raw_fd();
        let (mut value, mut size) = (0, SIZE);
        // SAFETY: the kernel writes at most `size` bytes to the first pointer, the size of `value`, and
        // their number to the second.
        let answer =
            unsafe { libc::getsockopt(fd, self.0, self.1, (&raw mut value).cast(), &raw mut size) };
        Errno::result(answer)?;
        Ok(value)
    }
}
