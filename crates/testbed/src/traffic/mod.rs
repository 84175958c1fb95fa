//! Traffic, bounded in time and count.
//!
//! Each function runs to its end in the calling thread (and in threads that it joins), with sockets in
//! the hosts' namespaces. It returns what arrived, or the first error. No socket waits longer than
//! [`TIMEOUT`].

mod dialogue;
mod iperf3;
mod ping;
mod raw;
mod senders;
mod tcp;
mod udp;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

pub use dialogue::{announced_connections, udp_exchanges, udp_interleaved};
pub use iperf3::{Iperf3, Iperf3Outcome, iperf3};
pub use ping::{await_ping, ping};
pub use raw::{RawSocket, samples};
pub use senders::{Path, Sender, SocketKind};
pub use tcp::{TcpOutcome, refused_connection, reset_connection, tcp_bulk, tcp_requests};
pub use udp::{UdpOutcome, UdpStream, udp_datagrams, udp_segmented, udp_stream};

use crate::error::{Error, Result};
use crate::host::Host;

/// The longest time for one read, write or connect.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, for tests that run with each.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The host's address of this family.
    #[must_use]
    pub fn address(self, host: &Host) -> IpAddr {
        match self {
            Self::V4 => host.ipv4.into(),
            Self::V6 => host.ipv6.into(),
        }
    }

    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }

    fn any(self) -> SocketAddr {
        match self {
            Self::V4 => (Ipv4Addr::UNSPECIFIED, 0).into(),
            Self::V6 => (Ipv6Addr::UNSPECIFIED, 0).into(),
        }
    }
}

/// Adds the action to the error of a socket.
fn failed(doing: &str) -> impl Fn(io::Error) -> Error + '_ {
    move |source| Error::system(doing, source)
}

/// A running FNV-1a hash of a byte stream: it shows whether two streams differ by a lost, doubled or
/// moved part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamHash(u64);

impl Default for StreamHash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl StreamHash {
    /// Adds the stream's next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// Fills `bytes` with the bytes at `position` of an endless stream. The stream has no short period, so
/// a lost, doubled or moved byte is found.
fn fill(bytes: &mut [u8], position: u64) {
    for (at, byte) in (position..).zip(bytes.iter_mut()) {
        let mixed = at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        *byte = mixed.to_be_bytes()[1] ^ at.to_be_bytes()[7];
    }
}

/// Whether `bytes` are those at `position` of the endless stream.
fn is_filled(bytes: &[u8], position: u64) -> bool {
    let mut expected = vec![0; bytes.len()];
    fill(&mut expected, position);
    expected == bytes
}

/// Joins a server's thread; a panic in it is passed on.
fn join<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .unwrap_or_else(|payload| std::panic::resume_unwind(payload))
}
