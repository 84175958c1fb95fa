//! That something has changed in the network namespace, from the kernel, so that nobody has to ask.
//!
//! In: rtnetlink's groups for links, addresses and routes. Out: a descriptor that wakes when one of
//! them has changed. What has changed is asked of the kernel by other means, so messages are thrown
//! away unread, and one that was lost (`ENOBUFS`) counts like one that came. It is a subscription of
//! the namespace in which it was made, and takes no capability (rtnetlink(7), netlink(7)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

/// The groups: links, addresses and routes of both families.
const GROUPS: i32 = libc::RTMGRP_LINK
    | libc::RTMGRP_IPV4_IFADDR
    | libc::RTMGRP_IPV4_ROUTE
    | libc::RTMGRP_IPV6_IFADDR
    | libc::RTMGRP_IPV6_ROUTE;

/// So many messages are thrown away at a time; the rest wakes again.
const MESSAGES_MAX: usize = 1024;

/// A subscription to changes of links, addresses and routes.
#[derive(Debug)]
pub struct NetworkChanges(OwnedFd);

impl NetworkChanges {
    /// Subscribes, in the calling thread's network namespace.
    ///
    /// # Errors
    /// What the kernel answers to `socket` and `bind`.
    pub fn subscribe() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkRoute;
        let subscription = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        bind(
            subscription.as_raw_fd(),
            &NetlinkAddr::new(0, GROUPS.cast_unsigned()),
        )?;
        Ok(Self(subscription))
    }

    /// Throws away the messages that have come, and returns whether there were any.
    #[must_use = "a change that is not followed is lost"]
    pub fn clear(&self) -> bool {
        let mut has_come = false;
        for _ in 0..MESSAGES_MAX {
            match recv(self.0.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT) {
                Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => has_come = true,
                Err(_) => break,
            }
        }
        has_come
    }
}

impl AsFd for NetworkChanges {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
