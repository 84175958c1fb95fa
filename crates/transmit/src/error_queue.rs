//! What the network answered, from a socket's error queue (ip(7), `IP_RECVERR`).
//!
//! Each entry is the error number that the answer stands for and, as the sender's address, where
//! the datagram in question went. An entry of the kernel itself (`SO_EE_ORIGIN_LOCAL`) repeats what
//! `sendmmsg` returned and has no port. Taking the last entry clears the socket's pending error;
//! taking any other sets it to the next entry's, so the queue is to be emptied.

use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};

/// One entry of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueuedError {
    /// What it stands for.
    pub(crate) errno: Errno,
    /// Whether an ICMP message brought it.
    pub(crate) from_network: bool,
    /// Where the datagram went; the port is 0 where the kernel did not say.
    pub(crate) destination: Option<SocketAddr>,
}

/// Reads error queues, with memory that is reused.
#[derive(Debug)]
pub(crate) struct ErrorQueue {
    control: Vec<u8>,
}

impl ErrorQueue {
    pub(crate) fn new() -> Self {
        // An IPv6 entry is the longest: the error, and the address that it came from.
        let control = cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
        Self { control }
    }

    /// Takes the next entry, if there is one. Never waits.
    pub(crate) fn take(&mut self, socket: &impl AsFd) -> Option<QueuedError> {
        // The start of the datagram in question comes along and is of no use.
        let mut quoted = [0; 8];
        let mut parts = [IoSliceMut::new(&mut quoted)];
        let answer = recvmsg::<SockaddrStorage>(
            socket.as_fd().as_raw_fd(),
            &mut parts,
            Some(&mut self.control),
            MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT,
        )
        .ok()?;
        let destination = answer.address.as_ref().and_then(socket_address);
        let error = answer.cmsgs().ok()?.find_map(|message| match message {
            ControlMessageOwned::Ipv4RecvErr(error, _)
            | ControlMessageOwned::Ipv6RecvErr(error, _) => Some(error),
            _ => None,
        });
        // An entry without the error would be no entry; it counts as one, for the next to be read.
        let (errno, origin) = error.map_or((0, 0), |error| (error.ee_errno, error.ee_origin));
        Some(QueuedError {
            errno: Errno::from_raw(errno.cast_signed()),
            from_network: matches!(origin, libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6),
            destination,
        })
    }
}

fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddr::new(IpAddr::V4(v4.ip()), v4.port()));
    }
    let v6 = storage.as_sockaddr_in6()?;
    Some(SocketAddr::new(IpAddr::V6(v6.ip()), v6.port()))
}
