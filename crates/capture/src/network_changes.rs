//! Notifications by the kernel that something has changed in the network namespace.
//!
//! In: rtnetlink's groups for links, addresses and routes. Out: a descriptor that is readable when one
//! of them has changed. The caller then reads the new state by other means, so messages are discarded
//! unread, and a lost message (`ENOBUFS`) counts as a received one. The subscription is for the
//! namespace in which it is made, and needs no capability (rtnetlink(7), netlink(7)).

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

/// How many messages one call discards; the descriptor stays readable for the rest.
const MESSAGES_MAX: usize = 1024;

/// A subscription to changes of links, addresses and routes.
#[derive(Debug)]
pub struct NetworkChanges(OwnedFd);

impl NetworkChanges {
    /// Subscribes, in the calling thread's network namespace.
    ///
    /// # Errors
    /// The kernel's error for `socket` or `bind`.
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

    /// Discards the received messages, and returns whether there were any.
    #[must_use = "a change that is not handled is lost"]
    pub fn clear(&self) -> bool {
        let mut has_changed = false;
        for _ in 0..MESSAGES_MAX {
            match recv(self.0.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT) {
                Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => has_changed = true,
                Err(_) => break,
            }
        }
        has_changed
    }
}

impl AsFd for NetworkChanges {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
