//! Replacing the filter of a ring that another thread reads.
//!
//! In: a new filter, or the order to reject every frame. Out: the program on the ring's socket. The handle
//! has a duplicate of the socket's descriptor, so it needs neither the ring nor a lock.
//!
//! `SO_ATTACH_FILTER` on a live socket replaces the program in one step: each frame gets the verdict of the
//! old program or of the new one, so no frame that both accept is lost. It needs no capability. The other
//! calls of [`Ring`](crate::Ring) attach nothing, except [`Ring::stop`](crate::Ring::stop).
//!
//! Invariant: when a stopped ring's filter is replaced, the last program rejects every frame. `stop` sets the
//! flag before it attaches; the handle reads it after it attached.
//!
//! Sources: `__sk_attach_prog` and `sk_filter_charge` in `net/core/filter.c`, `run_filter` in
//! `net/packet/af_packet.c`.

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::filter::Filter;
use libc::sock_filter;

use crate::filter;
use crate::packet_socket::PacketSocket;

/// The kernel refused a program. The old one is still attached.
#[derive(Debug, thiserror::Error)]
#[error(
    "the kernel refused the filter of {instructions} instructions: {source}; it limits a filter's memory by \
     net.core.optmem_max, and the old and the new filter count together"
)]
pub struct FilterRefused {
    /// The length of the program.
    pub instructions: usize,
    /// The kernel's error.
    pub source: io::Error,
}

/// Replaces the filter of one ring. It keeps the socket open, so drop it together with the ring.
#[derive(Debug)]
pub struct FilterHandle {
    socket: PacketSocket,
    mark: NonZeroU32,
    stopped: Arc<AtomicBool>,
}

impl FilterHandle {
    /// A handle for the socket of a ring; `stopped` is set when the ring stops.
    pub(crate) fn new(
        socket: &PacketSocket,
        mark: NonZeroU32,
        stopped: &Arc<AtomicBool>,
    ) -> io::Result<Self> {
        Ok(Self {
            socket: socket.duplicate()?,
            mark,
            stopped: Arc::clone(stopped),
        })
    }

    /// Replaces the operator's filter; `None` accepts every frame. podspan's own frames stay rejected.
    ///
    /// # Errors
    /// If the kernel refuses the program.
    pub fn replace(&self, filter: Option<&Filter>) -> Result<(), FilterRefused> {
        self.attach(&filter::program_with(self.mark, filter))
    }

    /// Rejects every frame until [`Self::replace`].
    ///
    /// # Errors
    /// If the kernel refuses the program.
    pub fn reject_all(&self) -> Result<(), FilterRefused> {
        self.attach(&filter::reject_all())
    }

    fn attach(&self, program: &[sock_filter]) -> Result<(), FilterRefused> {
        let refused = |source| FilterRefused {
            instructions: program.len(),
            source,
        };
        self.socket.attach_filter(program).map_err(refused)?;
        if self.stopped.load(Ordering::SeqCst) {
            let all = self.socket.attach_filter(&filter::reject_all());
            all.map_err(refused)?;
        }
        Ok(())
    }
}
