//! ICMP errors from a socket's error queue (ip(7), `IP_RECVERR`).
//!
//! Each entry has the ICMP type and code, the sender of the error (`SO_EE_OFFENDER`) and, as the message's
//! own address, the destination of the datagram. Its error number is not read, because it is less exact
//! than type and code. An entry of the kernel itself (`SO_EE_ORIGIN_LOCAL`) repeats the error of
//! `sendmmsg` and has no port. Reading the last entry clears the socket's pending error; reading another
//! one sets it to the next entry's. So the queue must be emptied.

use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg,
};

use crate::icmp::{IcmpError, IcmpVersion};

/// One entry of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueuedError {
    /// The ICMP error; `None` for the kernel's own entry.
    pub(crate) icmp_error: Option<IcmpError>,
    /// The destination of the datagram; the port is 0 if the kernel did not report it.
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

    /// Reads and removes the next entry, if there is one. Never waits.
    pub(crate) fn read(&mut self, socket: &impl AsFd) -> Option<QueuedError> {
        // The entry contains the start of the datagram, which is not used.
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
        let (error, offender) = answer
            .cmsgs()
            .ok()?
            .find_map(|message| extended_error(&message))
            .unzip();
        // An entry without an error is not expected; it counts as an entry, so that the next is read.
        let version = error.and_then(|error: libc::sock_extended_err| match error.ee_origin {
            libc::SO_EE_ORIGIN_ICMP => Some(IcmpVersion::V4),
            libc::SO_EE_ORIGIN_ICMP6 => Some(IcmpVersion::V6),
            _ => None,
        });
        let icmp_error = version.zip(error).map(|(version, error)| {
            destination.map_or(IcmpError::Other, |destination| {
                let kind = (error.ee_type, error.ee_code);
                IcmpError::of(version, kind, offender.flatten(), destination.ip())
            })
        });
        Some(QueuedError {
            icmp_error,
            destination,
        })
    }
}

/// The error of a control message, and the address of its sender.
fn extended_error(
    message: &ControlMessageOwned,
) -> Option<(libc::sock_extended_err, Option<IpAddr>)> {
    match message {
        ControlMessageOwned::Ipv4RecvErr(error, offender) => {
            let address = offender.map(SockaddrIn::from);
            Some((*error, address.map(|address| IpAddr::V4(address.ip()))))
        }
        ControlMessageOwned::Ipv6RecvErr(error, offender) => {
            let address = offender.map(SockaddrIn6::from);
            Some((*error, address.map(|address| IpAddr::V6(address.ip()))))
        }
        _ => None,
    }
}

fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddr::new(IpAddr::V4(v4.ip()), v4.port()));
    }
    let v6 = storage.as_sockaddr_in6()?;
    Some(SocketAddr::new(IpAddr::V6(v6.ip()), v6.port()))
}
