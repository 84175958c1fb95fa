//! What can wake the worker: rings, flags, and changes of the network.
//!
//! In: descriptors. Out: a wait in epoll(7) that ends when one of them is ready, and what ended it where
//! that does not show by itself.

use std::os::fd::AsFd;
use std::time::Duration;

use capture::Ring;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::flag::Flag;

/// What has ended a wait, but for blocks and flags.
#[derive(Debug, Default)]
pub(crate) struct Woken {
    pub(crate) network_changed: bool,
    pub(crate) interface_failed: bool,
}

/// Everything that can wake the worker.
#[derive(Debug)]
pub(crate) struct Sources(Epoll);

impl Sources {
    /// What the event of a ring or a flag carries.
    pub(crate) const OTHERS: u64 = 0;
    /// What the event of a change of the network carries.
    pub(crate) const CHANGES: u64 = 1;
    /// As many are told at a time; more rings take another turn.
    const EVENTS: usize = 8;

    pub(crate) fn of(rings: &[Ring], stop: &Flag) -> Result<Self, Errno> {
        let sources = Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        sources.add(stop, Self::OTHERS)?;
        sources.add_all(rings)?;
        Ok(sources)
    }

    pub(crate) fn add(&self, source: impl AsFd, carries: u64) -> Result<(), Errno> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, carries);
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

    /// Waits until there is something to do. A block, or a flag that was raised, shows by itself.
    pub(crate) fn wait(&self, most: Duration) -> Result<Woken, Errno> {
        // Rounded up: to wake a moment early would mean to wait again at once.
        let timeout = EpollTimeout::try_from(most + Duration::from_millis(1));
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
            if event.data() == Self::CHANGES {
                woken.network_changed = true;
            } else {
                woken.interface_failed |= event.events().contains(EpollFlags::EPOLLERR);
            }
        }
        Ok(woken)
    }
}
