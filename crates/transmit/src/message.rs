//! From ranges to `sendmmsg`: the only place where bytes become pointers.
//!
//! ```text
//! headers  [ name, iov ][ name, iov ] ...      what the kernel takes
//!              |    '-----------.
//! addresses <--'                v
//! parts                     [ head, body ][ head, body ] ...
//!                               |     '--> a range of the block
//!                               '--------> a range of the batch's arena
//! ```
//! Invariant: whatever [`Messages`] holds is older than the [`Run`] that uses it, or was put there
//! by that run, which borrows all it points to. A new run starts empty, so no pointer is followed
//! after the borrow it came from.

use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_uint, iovec, mmsghdr, msghdr};
use nix::errno::Errno;
use socket2::SockAddr;

/// How many datagrams leave by one system call. More would spread its cost no thinner that anyone
/// could measure, and their headers (96 bytes each) would leave the first-level cache.
const RUN_MAX: usize = 256;

/// Memory for a run, used again and again.
#[derive(Default)]
pub(crate) struct Messages {
    headers: Vec<mmsghdr>,
    parts: Vec<[iovec; 2]>,
}

// SAFETY: the pointers that make it not `Send` by itself are followed only by `Run::send`, which
// holds the borrows that they came from; outside a run they are bytes without a meaning.
unsafe impl Send for Messages {}

/// Datagrams that leave by one socket, one after the other.
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

    /// Adds a datagram, to the socket's peer where it has one.
    pub(crate) fn push(&mut self, to: Option<&'a SockAddr>, head: &'a [u8], body: &'a [u8]) {
        self.messages.parts.push([part(head), part(body)]);
        self.messages.headers.push(mmsghdr {
            msg_hdr: header(to, if body.is_empty() { 1 } else { 2 }),
            msg_len: 0,
        });
    }

    /// Sends the datagrams from number `first` on, and says how many the kernel took; at least one.
    ///
    /// # Errors
    /// The kernel's, about datagram `first`; `EINVAL` when there is none of that number.
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
        // `parts`, to a head and a body, all borrowed for 'a, which outlives this run; lengths
        // are those of the borrowed slices. `parts` has as many elements as `headers`, and neither
        // vector is touched during the call. The kernel writes to `msg_len` of the headers alone.
        let sent = unsafe { libc::sendmmsg(fd, rest.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
        let sent = Errno::result(sent)?;
        match usize::try_from(sent) {
            Ok(sent @ 1..) => Ok(sent),
            // The kernel never says so; taken as progress it would end the loop's.
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

/// A header whose parts `Run::send` fills in.
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
