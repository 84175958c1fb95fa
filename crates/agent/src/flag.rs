//! A flag that one thread raises for another, once.
//!
//! It has an atomic for a running thread, so a check needs no system call, and an eventfd for a thread
//! that sleeps in epoll(7). The atomic is set first, so a thread that the eventfd wakes finds it set.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

/// A flag that any thread can raise, once.
#[derive(Debug, Clone)]
pub(crate) struct Flag(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    is_raised: AtomicBool,
    /// Readable since the flag was raised.
    wakes: EventFd,
}

impl Flag {
    /// A flag that is not raised.
    ///
    /// # Errors
    /// When the kernel cannot create a descriptor.
    pub(crate) fn new() -> Result<Self, Errno> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        Ok(Self(Arc::new(Shared {
            is_raised: AtomicBool::new(false),
            wakes: EventFd::from_value_and_flags(0, flags)?,
        })))
    }

    /// Raises the flag. A thread that reads it as raised also sees everything that this thread did before.
    /// Raising it again has no effect.
    pub(crate) fn raise(&self) {
        if !self.0.is_raised.swap(true, Ordering::Release) {
            // A write to an eventfd fails only if its counter overflows.
            let _ = self.0.wakes.write(1);
        }
    }

    /// Whether it was raised.
    pub(crate) fn is_raised(&self) -> bool {
        self.0.is_raised.load(Ordering::Acquire)
    }
}

impl AsFd for Flag {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.wakes.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

    use super::*;

    #[test]
    fn a_raised_flag_is_readable_and_wakes_a_waiting_thread() {
        let (flag, epoll) = (
            Flag::new().unwrap(),
            Epoll::new(EpollCreateFlags::empty()).unwrap(),
        );
        epoll
            .add(&flag, EpollEvent::new(EpollFlags::EPOLLIN, 7))
            .unwrap();
        let mut events = [EpollEvent::empty()];
        let mut ready = || epoll.wait(&mut events, EpollTimeout::ZERO).unwrap();
        assert_eq!((flag.is_raised(), ready()), (false, 0));
        let other = flag.clone();
        std::thread::spawn(move || (0..3).for_each(|_| other.raise()))
            .join()
            .unwrap();
        assert_eq!((flag.is_raised(), ready()), (true, 1));
    }
}
