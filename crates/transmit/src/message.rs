//! From ranges to `sendmmsg`: the only place where bytes become pointers.
//!
//! ```text
//! headers  [ name, iov, control ][ name, iov, control ] ...      the argument of `sendmmsg`
//!              |    |      '------> controls  [ length of a segment ]... only of messages that have one
//! addresses <--'    '----------.
//!                              v
//! parts                      [ head, body ][ body, trailer, head, body, body ] ...
//!                                |     '--> a range of the block
//!                                '--------> a range of the batch's arena; not if it is empty
//! ```
//! A message has one datagram, or several with the length of a segment (`UDP_SEGMENT`, udp(7)).
//!
//! Invariant: each [`Run`] starts with empty [`Messages`] and borrows everything that its pointers point
//! to. So no pointer is used after the end of the borrow that it came from.

use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_uint, cmsghdr, iovec, mmsghdr, msghdr};
use mirror::runs::RUN_MAX;
use nix::errno::Errno;
use socket2::SockAddr;

/// How many messages one system call sends. Each takes some microseconds, and a thread of the application that
/// becomes ready on the same processor may have to wait for the call's end. More messages would not be measurably
/// cheaper.
const MESSAGES_MAX: usize = 16;

/// How many parts one system call sends, in addition to those of its last message.
const PARTS_MAX: usize = 128;

/// How many parts a message has at most: each datagram of a run has a head, a body and a trailer.
const MESSAGE_PARTS_MAX: usize = 3 * RUN_MAX as usize;

/// Memory for runs, which is reused.
#[derive(Default)]
pub struct Messages {
    headers: Vec<mmsghdr>,
    /// For each header, the number of its first part.
    first_parts: Vec<usize>,
    parts: Vec<iovec>,
    /// Those of the headers that have one, in order.
    controls: Vec<Control>,
    /// Whether the headers point to their parts and control messages.
    is_linked: bool,
}

/// The control message with the length of a segment, as `CMSG_SPACE(2)` bytes.
#[repr(C)]
struct Control {
    header: cmsghdr,
    segment: u16,
}

// SAFETY: only `Run::send` uses the pointers that make it not `Send` by itself, and it has the borrows
// that they came from; outside a run they are bytes without a meaning.
unsafe impl Send for Messages {}

/// Messages that one socket sends, in order.
pub struct Run<'a> {
    messages: &'a mut Messages,
    /// The addresses, the arena and the block.
    borrowed: PhantomData<&'a [u8]>,
}

impl Messages {
    /// Memory for the longest run.
    #[must_use]
    pub fn new() -> Self {
        Self {
            headers: Vec::with_capacity(MESSAGES_MAX),
            first_parts: Vec::with_capacity(MESSAGES_MAX),
            parts: Vec::with_capacity(PARTS_MAX + MESSAGE_PARTS_MAX),
            controls: Vec::with_capacity(MESSAGES_MAX),
            is_linked: false,
        }
    }

    /// Sets the pointers of the headers, once for all calls of `Run::send`: a vector moves only when
    /// something is added.
    fn link(&mut self) {
        if self.is_linked {
            return;
        }
        self.is_linked = true;
        let base = self.parts.as_mut_ptr();
        for (header, first) in self.headers.iter_mut().zip(&self.first_parts) {
            header.msg_hdr.msg_iov = base.wrapping_add(*first);
        }
        if self.controls.is_empty() {
            return;
        }
        let headers = self.headers.iter_mut().map(|header| &mut header.msg_hdr);
        let segmented = headers.filter(|header| header.msg_controllen > 0);
        for (header, control) in segmented.zip(&mut self.controls) {
            header.msg_control = (&raw mut *control).cast();
        }
    }

    /// Starts a run.
    pub fn run(&mut self) -> Run<'_> {
        self.headers.clear();
        self.first_parts.clear();
        self.parts.clear();
        self.controls.clear();
        self.is_linked = false;
        Run {
            messages: self,
            borrowed: PhantomData,
        }
    }
}

impl<'a> Run<'a> {
    /// Whether it should be sent before another message is added.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.messages.headers.len() >= MESSAGES_MAX || self.messages.parts.len() >= PARTS_MAX
    }

    /// Adds a message of one datagram to `to`, or to the socket's peer if that is `None`. The kernel copies a
    /// datagram in one part faster than in two.
    pub fn add_plain(&mut self, to: Option<&'a SockAddr>, head: &'a [u8], body: &'a [u8]) {
        let messages = &mut *self.messages;
        messages.is_linked = false;
        messages.first_parts.push(messages.parts.len());
        let mut header = header(to);
        if !head.is_empty() {
            header.msg_iovlen = 1;
            messages.parts.push(part(head));
        }
        // The kernel accepts a part without bytes.
        header.msg_iovlen += 1;
        messages.parts.push(part(body));
        messages.headers.push(mmsghdr {
            msg_hdr: header,
            msg_len: 0,
        });
    }

    /// Starts a message to `to`, or to the socket's peer if that is `None`. The kernel splits it into
    /// datagrams of the length `segment`; the last may be shorter.
    pub fn start(&mut self, to: Option<&'a SockAddr>, segment: u16) {
        let messages = &mut *self.messages;
        messages.is_linked = false;
        messages.first_parts.push(messages.parts.len());
        messages.controls.push(control(segment));
        let mut header = header(to);
        header.msg_controllen = CONTROL_SPACE;
        messages.headers.push(mmsghdr {
            msg_hdr: header,
            msg_len: 0,
        });
    }

    /// Adds bytes to the message that was started last.
    pub fn add(&mut self, bytes: &'a [u8]) {
        if let Some(header) = self.messages.headers.last_mut()
            && !bytes.is_empty()
        {
            self.messages.is_linked = false;
            header.msg_hdr.msg_iovlen += 1;
            self.messages.parts.push(part(bytes));
        }
    }

    /// Sends the messages from number `first` on, and returns how many the kernel accepted; at least one.
    ///
    /// # Errors
    /// The kernel's error for message `first`; `EINVAL` if there is no such number.
    pub fn send(&mut self, socket: &impl AsFd, first: usize) -> Result<usize, Errno> {
        self.messages.link();
        let headers = &mut self.messages.headers;
        let rest = headers.get_mut(first..).unwrap_or_default();
        let count = c_uint::try_from(rest.len()).map_err(|_| Errno::EINVAL)?;
        if count == 0 {
            return Err(Errno::EINVAL);
        }
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: `rest` has `count` headers. Each points to an address or to none, to its parts, which
        // `add_plain`, `start` and `add` counted from `first_parts` on, and to its control message or to none: `link` set
        // these pointers, and nothing was added since. The parts point to bytes that are borrowed for 'a,
        // which outlives this run; lengths are those of the borrowed slices. None of the vectors is changed
        // during the call. The kernel writes only to `msg_len` of the headers.
        let sent = unsafe { libc::sendmmsg(fd, rest.as_mut_ptr(), count, DONT_WAIT) };
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

/// A header without parts; [`Messages::link`] sets the pointers to them and to the control message.
const fn header(to: Option<&SockAddr>) -> msghdr {
    // SAFETY: all fields are integers and pointers, for which zero is a value.
    let mut header: msghdr = unsafe { std::mem::zeroed() };
    if let Some(to) = to {
        header.msg_name = to.as_ptr().cast_mut().cast();
        header.msg_namelen = to.len();
    }
    header
}

/// The length of a control message without and with padding, in the type that libc has for it.
const CONTROL_LEN: ControlLen = (size_of::<cmsghdr>() + size_of::<u16>()) as ControlLen;
const CONTROL_SPACE: ControlLen = size_of::<Control>() as ControlLen;

#[cfg(target_env = "musl")]
type ControlLen = libc::socklen_t;
#[cfg(not(target_env = "musl"))]
type ControlLen = usize;

/// The flags of a call, in the type that libc has for them.
#[cfg(target_env = "musl")]
const DONT_WAIT: libc::c_uint = libc::MSG_DONTWAIT.cast_unsigned();
#[cfg(not(target_env = "musl"))]
const DONT_WAIT: libc::c_int = libc::MSG_DONTWAIT;

const fn control(segment: u16) -> Control {
    // SAFETY: all fields are integers, for which zero is a value.
    let mut control: Control = unsafe { std::mem::zeroed() };
    control.header.cmsg_len = CONTROL_LEN;
    control.header.cmsg_level = libc::SOL_UDP;
    control.header.cmsg_type = libc::UDP_SEGMENT;
    control.segment = segment;
    control
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
        for (head, body) in [
            ("never", ""),
            ("head", ""),
            ("head", " and body"),
            ("", "body"),
        ] {
            run.add_plain(Some(&to), head.as_bytes(), body.as_bytes());
        }
        assert_eq!(run.send(&sender, 1), Ok(3));
        assert_eq!(run.send(&sender, 9), Err(Errno::EINVAL));
        assert_eq!(received(&receiver), "head");
        assert_eq!(received(&receiver), "head and body");
        assert_eq!(received(&receiver), "body");
    }

    fn received(receiver: &UdpSocket) -> String {
        let mut bytes = [0; 32];
        let length = receiver.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn the_kernel_splits_a_message_into_segments() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = SockAddr::from(receiver.local_addr().unwrap());
        let mut messages = Messages::new();
        let mut run = messages.run();
        run.add_plain(Some(&to), b"alone", b"");
        run.start(Some(&to), 6);
        for part in [&b"one"[..], b"...", b"two", b"", b"...", b"last"] {
            run.add(part);
        }
        run.add_plain(Some(&to), b"alone", b" too");
        assert_eq!(run.send(&sender, 0), Ok(3));
        for expected in ["alone", "one...", "two...", "last", "alone too"] {
            assert_eq!(received(&receiver), expected);
        }
    }

    #[test]
    fn the_control_message_has_the_size_that_the_kernel_expects() {
        // SAFETY: it only computes.
        let length = unsafe { libc::CMSG_LEN(2) };
        // SAFETY: it only computes.
        let space = unsafe { libc::CMSG_SPACE(2) };
        assert_eq!(CONTROL_LEN, length as ControlLen);
        assert_eq!(CONTROL_SPACE, space as ControlLen);
    }
}
