//! ICMP and ICMPv6 echo, over the kernel's ping sockets.
//!
//! A ping socket (`SOCK_DGRAM` with an ICMP protocol) needs no capability: the kernel writes the
//! identifier and the checksum, and gives the socket only its own answers. Only the groups
//! in `net.ipv4.ping_group_range` may open one; a [`Namespace`] sets it for its root.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::{failed, fill};
use crate::error::{Error, Result};
use crate::namespace::Namespace;

const HEADER: usize = 8;

/// Sends an echo request with `size` bytes of payload to `to` and waits at most `limit` for the
/// answer, which must carry the same bytes. Returns the round-trip time.
///
/// A payload above the MTU is sent in fragments.
///
/// # Errors
/// [`Error::Timeout`] without an answer, [`Error::Damaged`] where it carries other bytes,
/// [`Error::System`] where the address cannot be reached.
pub fn ping(namespace: &Namespace, to: IpAddr, size: usize, limit: Duration) -> Result<Duration> {
    let doing = format!("pinging {to} with {size} bytes");
    namespace.run(|| {
        let (domain, protocol, request_type) = match to {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128),
        };
        let mut socket =
            Socket::new(domain, Type::DGRAM, Some(protocol)).map_err(failed(&doing))?;
        socket
            .set_read_timeout(Some(limit))
            .map_err(failed(&doing))?;
        socket
            .connect(&std::net::SocketAddr::from((to, 0)).into())
            .map_err(failed(&doing))?;
        let mut request = vec![0; HEADER + size];
        let (header, payload) = request.split_at_mut(HEADER);
        header.copy_from_slice(&[request_type, 0, 0, 0, 0, 0, 0, 1]);
        fill(payload, 0);
        let start = Instant::now();
        socket.write_all(&request).map_err(failed(&doing))?;
        let mut answer = vec![0; HEADER + size + 1];
        let length = socket
            .read(&mut answer)
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => Error::Timeout {
                    waiting_for: format!("an answer to {doing}"),
                    limit,
                },
                _ => failed(&doing)(error),
            })?;
        let round_trip = start.elapsed();
        let same = answer.get(HEADER..length) == request.get(HEADER..);
        if same {
            Ok(round_trip)
        } else {
            Err(Error::Damaged {
                what: format!("{doing}: other bytes came back"),
            })
        }
    })
}

/// Pings `to` with small requests until one is answered, for at most `limit`.
///
/// The first requests are lost on a link that has just come up, or on a path whose MTU the kernel has
/// not received yet.
///
/// # Errors
/// [`Error::Timeout`] where none is answered.
pub fn await_ping(namespace: &Namespace, to: IpAddr, limit: Duration) -> Result<()> {
    let end = Instant::now() + limit;
    while ping(namespace, to, 56, Duration::from_millis(200)).is_err() {
        if Instant::now() >= end {
            let waiting_for = format!("an answer from {to} to any ping");
            return Err(Error::Timeout { waiting_for, limit });
        }
    }
    Ok(())
}
