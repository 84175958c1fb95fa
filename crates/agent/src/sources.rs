//! The descriptors that wake the worker: rings, flags, changes of the network, and sessions of tunnels.
//!
//! In: descriptors. Out: a wait in epoll(7) that ends when one of them is ready, and which kind ended it
//! if the worker cannot find out otherwise.

use std::os::fd::AsFd;
use std::time::Duration;

use capture::Ring;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::flag::Flag;

/// What has ended a wait, except blocks and flags, which the worker checks anyway.
#[derive(Debug, Default)]
pub(crate) struct Woken {
    pub(crate) network_changed: bool,
    /// There is a session of a tunnel, or a keepalive.
    pub(crate) has_message: bool,
    pub(crate) interface_failed: bool,
}

/// All descriptors that can wake the worker.
#[derive(Debug)]
pub(crate) struct Sources(Epoll);

impl Sources {
    /// The data of a ring's or a flag's event.
    pub(crate) const OTHERS: u64 = 0;
    /// The data of the event for a change of the network.
    pub(crate) const CHANGES: u64 = 1;
    /// The data of the event for sessions of tunnels.
    pub(crate) const SESSIONS: u64 = 2;
    /// The most events of one wait; the next wait returns the others.
    const EVENTS: usize = 8;

    pub(crate) fn of(rings: &[Ring], stop: &Flag) -> Result<Self, Errno> {
        let sources = Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        sources.add(stop, Self::OTHERS)?;
        sources.add_all(rings)?;
        Ok(sources)
    }

    pub(crate) fn add(&self, source: impl AsFd, data: u64) -> Result<(), Errno> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, data);
        self.0.add(source, event)
    }

    pub(crate) fn add_all(&self, rings: &[Ring]) -> Result<(), Errno> {
        rings
            .iter()
            .try_for_each(|ring| self.add(ring, Self::OTHERS))
    }

    pub(crate) fn remove(&self, source: impl AsFd) -> Result<(), Errno> {
        self.0.delete(source)
    }

    pub(crate) fn remove_all(&self, rings: &[Ring]) -> Result<(), Errno> {
        rings.iter().try_for_each(|ring| self.0.delete(ring))
    }

    /// Waits until a descriptor is ready, at most for `max`.
    pub(crate) fn wait(&self, max: Duration) -> Result<Woken, Errno> {
        // Rounded up: a wait that ends too early would only start another one.
        let timeout = EpollTimeout::try_from(max + Duration::from_millis(1));
        let mut events = [EpollEvent::empty(); Self::EVENTS];
        let count = match self
            .0
            .wait(&mut events, timeout.unwrap_or(EpollTimeout::ZERO))
        {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error),
        };
        let mut woken = Woken::default();
        for event in events.iter().take(count) {
            match event.data() {
                Self::CHANGES => woken.network_changed = true,
                Self::SESSIONS => woken.has_message = true,
                _ => woken.interface_failed |= event.events().contains(EpollFlags::EPOLLERR),
            }
        }
        Ok(woken)
    }
}
