//! Bare senders: a thread in the pod that does nothing but `sendmmsg`, plainly or with `UDP_SEGMENT`.
//!
//! Comes in: the lengths of the datagrams, in their order, and how many. Goes out: the CPU time of the
//! thread and what it sent. It is the least that any sender through the socket layer needs for the same
//! datagrams: the payload is ready, and all of the time is the kernel's way to the receiver.

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg, setsockopt, sockopt};
use nix::time::ClockId;
use testbed::{Lab, Namespace};

use crate::agent::cpu_time;
use crate::error::{Error, Result};

/// Messages that are passed to the kernel at once.
const BURST: usize = 64;
/// Datagrams of a message with `UDP_SEGMENT` at most (`UDP_MAX_SEGMENTS` of older kernels), and its bytes.
const SEGMENTS: usize = 64;
const MESSAGE: usize = 65_507;

/// What a bare sender used and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// CPU time of its thread, user and system together.
    pub cpu: Duration,
    /// Datagrams.
    pub datagrams: u64,
}

/// Sends datagrams of these lengths from the pod, again and again in this order, until there are at
/// least `count`, each in a message of its own.
///
/// # Errors
/// [`Error::System`].
pub fn plain(lab: &Lab, to: SocketAddr, lengths: &[usize], count: u64) -> Result<Sent> {
    let socket = open(&lab.pod.namespace, (lab.pod.ipv4, 0).into())?;
    let longest = lengths.iter().copied().max().unwrap_or_default();
    let payload = vec![0; longest];
    let cycle = lengths.iter().cycle();
    let messages: Vec<[IoSlice<'_>; 1]> = cycle
        .take(lengths.len().next_multiple_of(BURST))
        .map(|length| [IoSlice::new(payload.get(..*length).unwrap_or_default())])
        .collect();
    send(&socket, to, &messages, 1, count)
}

/// Sends datagrams of this length from the pod until there are at least `count`, as many in a message as
/// the kernel splits.
///
/// # Errors
/// [`Error::System`].
pub fn segmented(lab: &Lab, to: SocketAddr, length: u16, count: u64) -> Result<Sent> {
    let socket = open(&lab.pod.namespace, (lab.pod.ipv4, 0).into())?;
    setsockopt(&socket, sockopt::UdpGsoSegment, &i32::from(length))
        .map_err(|source| failed("setting UDP_SEGMENT", source))?;
    let length = usize::from(length.max(1));
    let segments = SEGMENTS.min(MESSAGE / length);
    let payload = vec![0; segments * length];
    let messages: Vec<[IoSlice<'_>; 1]> = vec![[IoSlice::new(&payload)]; BURST];
    send(&socket, to, &messages, segments as u64, count)
}

fn send(
    socket: &UdpSocket,
    to: SocketAddr,
    messages: &[[IoSlice<'_>; 1]],
    each: u64,
    count: u64,
) -> Result<Sent> {
    let addresses = [Some(SockaddrStorage::from(to)); BURST];
    let mut headers = MultiHeaders::preallocate(BURST, None);
    let mut sent = 0;
    let before = cpu_time(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    for burst in messages.chunks(BURST).cycle() {
        if sent >= count {
            break;
        }
        let result = sendmmsg(
            socket.as_raw_fd(),
            &mut headers,
            burst,
            addresses,
            [],
            MsgFlags::empty(),
        );
        let result = result.map_err(|source| failed("sending a burst", source))?;
        sent += result.count() as u64 * each;
    }
    let cpu = cpu_time(ClockId::CLOCK_THREAD_CPUTIME_ID)?.saturating_sub(before);
    Ok(Sent {
        cpu,
        datagrams: sent,
    })
}

/// A UDP socket in a namespace.
pub(crate) fn open(namespace: &Namespace, address: SocketAddr) -> Result<UdpSocket> {
    let open = namespace.run(|| UdpSocket::bind(address));
    open.map_err(|error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
        failed("opening a UDP socket in the lab", errno)
    })
}

fn failed(doing: &'static str, source: Errno) -> Error {
    Error::System { doing, source }
}
