//! From ranges to `sendmmsg`: the only place where bytes become pointers.
//!
//! ```text
//! headers  [ name, iov ][ name, iov ] ...      the argument of `sendmmsg`
//!              |    '-----------.
//! addresses <--'                v
//! parts                     [ head, body ][ head, body ] ...
//!                               |     '--> a range of the block
//!                               '--------> a range of the batch's arena
//! ```
//! Invariant: each [`Run`] starts with empty [`Messages`] and borrows everything that its pointers point
//! to. So no pointer is used after the end of the borrow that it came from.

use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_uint, iovec, mmsghdr, msghdr};
use nix::errno::Errno;
use socket2::SockAddr;

/// How many datagrams one system call sends. More would not be measurably cheaper, and their headers (96
/// bytes each) would not fit in the first-level cache.
const RUN_MAX: usize = 256;

/// Memory for runs, which is reused.
#[derive(Default)]
pub(crate) struct Messages {
    headers: Vec<mmsghdr>,
    parts: Vec<[iovec; 2]>,
}

// SAFETY: only `Run::send` uses the pointers that make it not `Send` by itself, and it has the borrows
// that they came from; outside a run they are bytes without a meaning.
unsafe impl Send for Messages {}

/// Datagrams that one socket sends, in order.
pub(crate) struct Run<'a> {
    messages: &'a mut Messages,
    /// The addresses, the arena and the block.
    borrowed: PhantomData<&'a [u8]>,
}

impl Messages {
    /// Memory for the longest run.
    pub(crate) fn new() -> Self {
        Self {
            headers: Vec::with_capacity(RUN_MAX),
            parts: Vec::with_capacity(RUN_MAX),
        }
    }

    /// Starts a run.
    pub(crate) fn run(&mut self) -> Run<'_> {
        self.headers.clear();
        self.parts.clear();
        Run {
            messages: self,
            borrowed: PhantomData,
        }
    }
}

impl<'a> Run<'a> {
    pub(crate) const fn is_full(&self) -> bool {
        self.messages.headers.len() >= RUN_MAX
    }

    /// Adds a datagram to `to`, or to the socket's peer if that is `None`.
    pub(crate) fn push(&mut self, to: Option<&'a SockAddr>, head: &'a [u8], body: &'a [u8]) {
        self.messages.parts.push([part(head), part(body)]);
        self.messages.headers.push(mmsghdr {
            msg_hdr: header(to, if body.is_empty() { 1 } else { 2 }),
            msg_len: 0,
        });
    }

    /// Sends the datagrams from number `first` on, and returns how many the kernel accepted; at least one.
    ///
    /// # Errors
    /// The kernel's error for datagram `first`; `EINVAL` if there is no such number.
    pub(crate) fn send(&mut self, socket: &impl AsFd, first: usize) -> Result<usize, Errno> {
        let Messages { headers, parts } = &mut *self.messages;
        let base = parts.as_mut_ptr();
        for (number, header) in headers.iter_mut().enumerate().skip(first) {
            header.msg_hdr.msg_iov = base.wrapping_add(number).cast();
        }
        let rest = headers.get_mut(first..).unwrap_or_default();
        let count = c_uint::try_from(rest.len()).map_err(|_| Errno::EINVAL)?;
        if count == 0 {
            return Err(Errno::EINVAL);
        }
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: `rest` has `count` headers. Each points to an address or to none and, by its element of
        // `parts`, to a head and a body, all borrowed for 'a, which outlives this run; lengths are those of
        // the borrowed slices. `parts` has as many elements as `headers`, and neither vector is changed
        // during the call. The kernel writes only to `msg_len` of the headers.
        let sent = unsafe { libc::sendmmsg(fd, rest.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
        let sent = Errno::result(sent)?;
        match usize::try_from(sent) {
            Ok(sent @ 1..) => Ok(sent),
            // The kernel never returns this. As a success it would make the caller's loop endless.
            _ => Err(Errno::EAGAIN),
        }
    }
}

const fn part(bytes: &[u8]) -> iovec {
    iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

/// A header; `Run::send` sets the pointer to its parts.
const fn header(to: Option<&SockAddr>, parts: usize) -> msghdr {
    // SAFETY: all fields are integers and pointers, for which zero is a value.
    let mut header: msghdr = unsafe { std::mem::zeroed() };
    if let Some(to) = to {
        header.msg_name = to.as_ptr().cast_mut().cast();
        header.msg_namelen = to.len();
    }
    header.msg_iovlen = parts;
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_run_sends_from_any_of_its_datagrams_on() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = SockAddr::from(receiver.local_addr().unwrap());
        let mut messages = Messages::new();
        let mut run = messages.run();
        run.push(Some(&to), b"never", b"");
        run.push(Some(&to), b"head", b"");
        run.push(Some(&to), b"head", b" and body");
        assert_eq!(run.send(&sender, 1), Ok(2));
        assert_eq!(run.send(&sender, 3), Err(Errno::EINVAL));
        assert_eq!(run.send(&sender, 9), Err(Errno::EINVAL));
        for expected in [&b"head"[..], b"head and body"] {
            let mut bytes = [0; 32];
            let length = receiver.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], expected);
        }
    }
}
