//! The worker's side of a session: VXLAN datagrams in, WireGuard datagrams out.
//!
//! A [`Sealer`] is one session with one sensor. [`Initiator`](crate::Initiator) makes it on the control side
//! and gives it to the worker by value; the worker uses the newest one it was given. Nothing is shared, so
//! there is no lock. boringtun's `encapsulate` with a session copies the packet, seals it in place and adds to
//! counters: no system call and no allocation (`sealing_and_opening_allocate_nothing`), and it never starts a
//! handshake.
//!
//! A session ends after [`REJECT_AFTER`](crate::protocol::REJECT_AFTER) or
//! [`REKEY_AFTER_MESSAGES`]. The control side makes the next one long before. A `Sealer` refuses at its end
//! by itself too: [`Sealer::begin`] compares the time of the batch, and [`Sealing::seal`] counts.
//!
//! ```text
//! head + body ──> Scratch: [ IP | UDP | head | body ] ──boringtun──> out: [ 4 | index | counter | sealed | tag ]
//! ```
//! A packet is copied twice: into the scratch memory, because boringtun takes one slice, and by boringtun. The
//! first copy and the headers cost 3 to 7 % of sealing (`cargo xtask bench --seal`). boringtun seals by `ring`:
//! on Zen 3 0.19 bytes a cycle with packets of 128 bytes and 0.53 with 1,424. aws-lc-rs takes 1.01 to 1.08 times as
//! long, `chacha20poly1305` 3.5 to 9 times. Equal lengths in give equal lengths out, so datagrams that are a run (UDP GSO)
//! before sealing are one after it.
//!
//! A receiver sends nothing but keepalives: transport datagrams without a packet, every 10 s while data
//! arrives, to the port that the data came from. The worker passes what it receives there to
//! [`Sealer::hear`], which authenticates it; [`Counts`] is what it publishes for the control side.

use std::time::Instant;

use boringtun::noise::{Tunn, TunnResult};

use crate::inner::{Headers, Inner};
use crate::overhead::{Family, sealed_len};
use crate::protocol::{KEEPALIVE_LEN, Kind, REKEY_AFTER_MESSAGES};
use crate::refusal::Refusal;

/// What a [`Sealer`] has done, for [`Initiator::observe`](crate::Initiator::observe).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Datagrams sealed.
    pub sealed: u64,
    /// Keepalives heard, all of them authentic.
    pub heard: u64,
}

/// Memory in which packets are put together: one for a worker, for all of its sensors.
#[derive(Debug)]
pub struct Scratch(Box<[u8]>);

impl Scratch {
    /// 64 KiB, of which only the length of the longest packet is touched.
    #[must_use]
    pub fn new() -> Self {
        Self(vec![0; usize::from(u16::MAX) + usize::from(Family::V6.header_len())].into())
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// The session is over: its time or its count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session is over")]
pub struct Ended;

/// Why a datagram was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsealed {
    /// The session is over.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// The datagram is longer than an IP packet can be.
    #[error("{0} bytes do not fit an IP packet")]
    TooLong(usize),
    /// The room for the sealed datagram is too small.
    #[error("the sealed datagram has {needed} bytes, and there is room for {room}")]
    NoRoom {
        /// The bytes of the sealed datagram.
        needed: usize,
        /// The bytes of the room.
        room: usize,
    },
}

/// One established session with one sensor, for the worker.
pub struct Sealer {
    /// It has a session from the start, and no other.
    tunn: Box<Tunn>,
    inner: Inner,
    headers: Headers,
    ends: Instant,
    /// How many more datagrams may be sealed.
    left: u64,
    counts: Counts,
}

impl core::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sealer")
            .field("inner", &self.inner)
            .field("ends", &self.ends)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Sealer {
    /// `tunn` has established its session, and the session is refused by the receiver from `ends` on.
    pub(crate) fn new(tunn: Box<Tunn>, inner: Inner, ends: Instant) -> Self {
        Self {
            tunn,
            headers: Headers::new(&inner),
            inner,
            ends,
            left: REKEY_AFTER_MESSAGES,
            counts: Counts {
                sealed: 0,
                heard: 0,
            },
        }
    }

    /// When the session ends.
    #[must_use]
    pub const fn ends(&self) -> Instant {
        self.ends
    }

    /// What it has done.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Bytes of the sealed datagram for a VXLAN datagram of `length` bytes.
    #[must_use]
    pub const fn sealed_len(&self, length: usize) -> usize {
        sealed_len(length, self.inner.family())
    }

    /// Starts a batch; `now` may be as old as the batch.
    ///
    /// # Errors
    /// [`Ended`] if the session is too old.
    pub fn begin<'s>(
        &'s mut self,
        now: Instant,
        scratch: &'s mut Scratch,
    ) -> Result<Sealing<'s>, Ended> {
        if now >= self.ends {
            return Err(Ended);
        }
        Ok(Sealing {
            sealer: self,
            scratch: &mut scratch.0,
        })
    }

    /// Takes a datagram that arrived on the worker's socket, and counts it if it is the receiver's keepalive.
    ///
    /// # Errors
    /// A [`Refusal`] for anything else.
    pub fn hear(&mut self, datagram: &[u8]) -> Result<(), Refusal> {
        match Kind::of(datagram) {
            Some(Kind::Transport) if datagram.len() == KEEPALIVE_LEN => {}
            Some(_) => return Err(Refusal::UnexpectedType),
            None => return Err(Refusal::UnknownType),
        }
        let mut nothing = [0; KEEPALIVE_LEN];
        match self.tunn.decapsulate(None, datagram, &mut nothing) {
            TunnResult::Done => {
                self.counts.heard += 1;
                Ok(())
            }
            TunnResult::Err(error) => Err(Refusal::of(&error)),
            _ => Err(Refusal::UnexpectedType),
        }
    }

    /// Puts a packet together.
    fn packet<'s>(
        &self,
        scratch: &'s mut [u8],
        source_port: u16,
        head: &[u8],
        body: &[u8],
    ) -> Option<&'s [u8]> {
        if head.len() + body.len() > self.inner.payload_max() {
            return None;
        }
        let start = self.inner.header_len();
        let middle = start + head.len();
        let end = middle + body.len();
        let packet = scratch.get_mut(..end)?;
        packet.get_mut(start..middle)?.copy_from_slice(head);
        packet.get_mut(middle..)?.copy_from_slice(body);
        self.headers.write(packet, source_port)?;
        Some(packet)
    }

    #[cfg(test)]
    pub(crate) const fn set_left(&mut self, left: u64) {
        self.left = left;
    }
}

/// A session while the datagrams of a batch are sealed.
#[derive(Debug)]
pub struct Sealing<'s> {
    sealer: &'s mut Sealer,
    scratch: &'s mut [u8],
}

impl Sealing<'_> {
    /// Seals one VXLAN datagram, which consists of `head` and `body`, into the first bytes of `out`, and
    /// returns how many these are: [`Sealer::sealed_len`] of its length.
    ///
    /// # Errors
    /// [`Unsealed`]; then nothing counts as sealed.
    pub fn seal(
        &mut self,
        source_port: u16,
        head: &[u8],
        body: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Unsealed> {
        let Self { sealer, scratch } = self;
        let length = head.len() + body.len();
        let needed = sealer.sealed_len(length);
        // boringtun panics if there is no room.
        if out.len() < needed {
            let room = out.len();
            return Err(Unsealed::NoRoom { needed, room });
        }
        if sealer.left == 0 {
            return Err(Ended.into());
        }
        let packet = sealer.packet(scratch, source_port, head, body);
        let packet = packet.ok_or(Unsealed::TooLong(length))?;
        match sealer.tunn.encapsulate(packet, out) {
            TunnResult::WriteToNetwork(sealed) => {
                sealer.left -= 1;
                sealer.counts.sealed += 1;
                Ok(sealed.len())
            }
            // Only without a session, and a `Sealer` has one.
            _ => Err(Ended.into()),
        }
    }
}
