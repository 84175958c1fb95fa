//! Bare senders: a thread in the pod that does nothing but `sendmmsg`, plainly or with `UDP_SEGMENT`.
//!
//! Comes in: the lengths of the datagrams, in their order, and how many. Goes out: the CPU time of the
//! thread and what it sent. It is the least that any sender through the socket layer needs for the same
//! datagrams: the payload is ready, and all of the time is the kernel's way to the receiver.

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

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
    send(&socket, to, &messages, 1, (count, None))
}

/// Sends datagrams of this length from the pod until there are at least `count`, as many in a message as
/// the kernel splits. With a rate it sleeps in between as podspan does: it sends at once what a block of
/// podspan's ring collects. So its caches are as cold as podspan's.
///
/// # Errors
/// [`Error::System`].
pub fn segmented(
    lab: &Lab,
    to: SocketAddr,
    length: u16,
    count: u64,
    per_second: Option<f64>,
) -> Result<Sent> {
    let socket = open(&lab.pod.namespace, (lab.pod.ipv4, 0).into())?;
    setsockopt(&socket, sockopt::UdpGsoSegment, &i32::from(length))
        .map_err(|source| failed("setting UDP_SEGMENT", source))?;
    let length = usize::from(length.max(1));
    let segments = SEGMENTS.min(MESSAGE / length);
    let payload = vec![0; segments * length];
    let in_a_burst = per_second.map_or(BURST, |rate| messages_of_a_block(rate, segments));
    let messages: Vec<[IoSlice<'_>; 1]> = vec![[IoSlice::new(&payload)]; in_a_burst];
    send(&socket, to, &messages, segments as u64, (count, per_second))
}

fn send(
    socket: &UdpSocket,
    to: SocketAddr,
    messages: &[[IoSlice<'_>; 1]],
    each: u64,
    (count, per_second): (u64, Option<f64>),
) -> Result<Sent> {
    let addresses = [Some(SockaddrStorage::from(to)); BURST];
    let mut headers = MultiHeaders::preallocate(BURST, None);
    let (start, mut sent) = (Instant::now(), 0);
    let before = cpu_time(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    for burst in messages.chunks(BURST).cycle() {
        if sent >= count {
            break;
        }
        if let Some(per_second) = per_second {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let due = Duration::from_secs_f64(sent as f64 / per_second);
            thread::sleep(due.saturating_sub(start.elapsed()));
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

/// Messages for what arrives while a block of podspan's ring is open.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "at most BURST"
)]
fn messages_of_a_block(per_second: f64, segments: usize) -> usize {
    let time = f64::from(capture::RETIRE_AFTER_MS) / 1e3;
    ((per_second * time / segments as f64) as usize).clamp(1, BURST)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_what_a_block_collects() {
        assert_eq!(messages_of_a_block(100_000.0, 64), 25);
        assert_eq!(messages_of_a_block(1.0, 64), 1);
        assert_eq!(messages_of_a_block(1e9, 64), BURST);
    }
}
