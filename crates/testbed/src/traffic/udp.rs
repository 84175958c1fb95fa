//! UDP: datagrams of given sizes, each answered with the same bytes, or a paced stream of one.
//!
//! Each payload starts with the datagram's number (if it has four bytes), and its other bytes depend
//! on the number. So a swapped, joined or truncated datagram is found.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use super::{Family, TIMEOUT, failed, fill, is_filled, join};
use crate::error::{Error, Result};
use crate::host::Host;

/// A stream has ended when its receiver gets no datagram for this time.
const SILENCE: Duration = Duration::from_millis(300);
/// The largest UDP payload.
const LARGEST: usize = 65_507;

/// What was sent and received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpOutcome {
    /// The client's end.
    pub client: SocketAddr,
    /// The server's end.
    pub server: SocketAddr,
    /// Datagrams sent by the client.
    pub sent: u64,
    /// Datagrams that arrived complete: at the client as echo, or at the server of a stream.
    pub received: u64,
}

/// A stream of datagrams of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpStream {
    /// Payload of each, in bytes.
    pub size: usize,
    /// How many.
    pub count: u32,
    /// How many a second; `u32::MAX` is as fast as possible.
    pub per_second: u32,
}

/// Sends a datagram of each of `sizes` (payload in bytes) and waits for its echo. Sizes above the
/// MTU are sent in fragments.
///
/// # Errors
/// [`Error::Damaged`] where an echo differs, [`Error::System`] where it does not arrive.
pub fn udp_datagrams(
    client: &Host,
    server: &Host,
    family: Family,
    sizes: &[usize],
) -> Result<UdpOutcome> {
    let (near, far) = sockets(client, server, family)?;
    let mut outcome = outcome(&near, &far)?;
    thread::scope(|scope| {
        let echo = scope.spawn(|| {
            let mut bytes = vec![0; LARGEST];
            for _ in sizes {
                let (length, from) = far
                    .recv_from(&mut bytes)
                    .map_err(failed("receiving a datagram"))?;
                let received = bytes.get(..length).unwrap_or_default();
                far.send_to(received, from)
                    .map_err(failed("answering a datagram"))?;
            }
            Ok(())
        });
        let mut answer = vec![0; LARGEST];
        for (number, size) in sizes.iter().enumerate() {
            let payload = payload(number as u64, *size);
            let doing = format!("sending a datagram of {size} bytes and awaiting its echo");
            near.send(&payload).map_err(failed(&doing))?;
            outcome.sent += 1;
            let length = near.recv(&mut answer).map_err(failed(&doing))?;
            if answer.get(..length) != Some(&payload) {
                return Err(Error::Damaged {
                    what: format!("the echo of {size} bytes differs"),
                });
            }
            outcome.received += 1;
        }
        join(echo)
    })?;
    Ok(outcome)
}

/// Sends a stream without answers. Loss is no error: the outcome counts the complete datagrams.
///
/// # Errors
/// [`Error::Damaged`] where a datagram did not arrive as it was sent, [`Error::System`] where the
/// kernel does not accept one.
pub fn udp_stream(
    client: &Host,
    server: &Host,
    family: Family,
    stream: UdpStream,
) -> Result<UdpOutcome> {
    let (near, far) = sockets(client, server, family)?;
    let mut outcome = outcome(&near, &far)?;
    let first_wait = TIMEOUT;
    thread::scope(|scope| {
        let receiver = scope.spawn(|| receive_stream(&far, stream, first_wait));
        let start = Instant::now();
        for number in 0..stream.count {
            if stream.per_second != u32::MAX {
                let due = Duration::from_secs(1) * number / stream.per_second.max(1);
                thread::sleep(due.saturating_sub(start.elapsed()));
            }
            near.send(&payload(number.into(), stream.size))
                .map_err(failed("sending a datagram"))?;
            outcome.sent += 1;
        }
        outcome.received = join(receiver)?;
        Ok(outcome)
    })
}

/// Sends one buffer of `bytes` bytes that the kernel splits into datagrams of `size` bytes each
/// (`UDP_SEGMENT`, the last one can be shorter), as QUIC does. Within one kernel it is one frame.
///
/// # Errors
/// [`Error::Damaged`] where a datagram did not arrive as it was sent, [`Error::System`] where the
/// kernel refuses.
pub fn udp_segmented(
    client: &Host,
    server: &Host,
    family: Family,
    size: u16,
    bytes: usize,
) -> Result<UdpOutcome> {
    let (near, far) = sockets(client, server, family)?;
    let mut outcome = outcome(&near, &far)?;
    setsockopt(&near, sockopt::UdpGsoSegment, &i32::from(size))
        .map_err(|errno| failed("setting UDP_SEGMENT")(errno.into()))?;
    let sent = payload(0, bytes);
    near.send(&sent)
        .map_err(failed("sending a buffer in segments"))?;
    let mut received = vec![0; LARGEST];
    for segment in sent.chunks(usize::from(size)) {
        outcome.sent += 1;
        let length = far
            .recv(&mut received)
            .map_err(failed("receiving a segment"))?;
        if received.get(..length) != Some(segment) {
            return Err(Error::Damaged {
                what: format!("a segment of {length} bytes"),
            });
        }
        outcome.received += 1;
    }
    Ok(outcome)
}

fn receive_stream(socket: &UdpSocket, stream: UdpStream, first_wait: Duration) -> Result<u64> {
    let mut bytes = vec![0; LARGEST];
    let mut received = 0;
    socket
        .set_read_timeout(Some(first_wait))
        .map_err(failed("setting a timeout"))?;
    while received < u64::from(stream.count) {
        let length = match socket.recv(&mut bytes) {
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(failed("receiving a datagram")(error)),
        };
        let got = bytes.get(..length).unwrap_or_default();
        if length != stream.size || !is_whole(got) {
            return Err(Error::Damaged {
                what: format!("a datagram of {length} bytes"),
            });
        }
        received += 1;
        socket
            .set_read_timeout(Some(SILENCE))
            .map_err(failed("setting a timeout"))?;
    }
    Ok(received)
}

/// The payload of datagram `number`.
fn payload(number: u64, size: usize) -> Vec<u8> {
    let mut payload = vec![0; size];
    fill(&mut payload, number);
    if let Some(head) = payload.first_chunk_mut::<4>() {
        let [.., a, b, c, d] = number.to_be_bytes();
        *head = [a, b, c, d];
    }
    payload
}

/// Whether a payload belongs to the number in it.
fn is_whole(payload: &[u8]) -> bool {
    payload
        .split_first_chunk::<4>()
        .is_none_or(|(number, rest)| is_filled(rest, u64::from(u32::from_be_bytes(*number)) + 4))
}

fn sockets(client: &Host, server: &Host, family: Family) -> Result<(UdpSocket, UdpSocket)> {
    let open = |host: &Host, address| {
        let socket = host.namespace.run(|| UdpSocket::bind(address));
        let socket = socket.map_err(failed("opening a UDP socket"))?;
        socket
            .set_read_timeout(Some(TIMEOUT))
            .map_err(failed("setting a timeout"))?;
        Ok(socket)
    };
    let far = open(server, (family.address(server), 0).into())?;
    let near = open(client, family.any())?;
    let to = far.local_addr().map_err(failed("opening a UDP socket"))?;
    near.connect(to)
        .map_err(failed("connecting a UDP socket"))?;
    Ok((near, far))
}

fn outcome(near: &UdpSocket, far: &UdpSocket) -> Result<UdpOutcome> {
    let address = |socket: &UdpSocket| socket.local_addr().map_err(failed("opening a UDP socket"));
    Ok(UdpOutcome {
        client: address(near)?,
        server: address(far)?,
        sent: 0,
        received: 0,
    })
}
