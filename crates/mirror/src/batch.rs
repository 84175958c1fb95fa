//! A batch: the datagrams to send, as ranges.
//!
//! Each datagram has a *head*, bytes that are written here (VXLAN header, rewritten inner headers), and a
//! *body*, a range of the block that contains the frame. There is no lifetime and no pointer: a batch
//! can be printed, compared, and tested without a socket. It is reused without allocation.
//!
//! ```text
//! heads  [ VXLAN | Ether | IP | TCP ][ VXLAN | Ether | IP | TCP ] ...   one arena
//!              ^ head of 0                  ^ head of 1
//! block  ... [ Ether | IP | TCP | body of 0 | body of 1 ] ... [ VXLAN | body of 2 goes on ] ...
//! ```
//! A frame that is sent whole has no head: its VXLAN header is written into the block, in front of the frame,
//! and its checksum into the frame. So the kernel has one range to copy, and the frame's headers are not
//! copied here. The batch keeps these changes until [`Batch::write_into`] makes them, because frames are read
//! while the block is borrowed.
//!
//! Invariants: ranges lie within the arena and the block; datagrams are in the order of the wire; those
//! of one frame are neighbours and go to one sensor from one port. Datagrams for sensors with a tunnel are sealed
//! by a pass of its own ([`Batch::seal`]). `transmit` sets the outcome of each
//! datagram, and [`Batch::count_outcomes`] counts them.

mod seal;

use core::ops::Range;

use wire::{BlockMemory, Frame, vxlan};

use crate::plan::{Lane, Slots};
use crate::runs::RUN_MAX;
use crate::table::{SensorIndex, SensorTable};
use crate::totals::{DropReason, Totals};

pub use seal::Seal;

/// A batch with this many datagrams is sent before the next frame is added. Their iovecs and message
/// headers (128 bytes each) fit in the caches, and the cost of a system call is shared by enough
/// datagrams.
const FULL: usize = 512;

/// No batch has more, so that its heads stay in the processor's caches.
const FULL_MAX: usize = 4096;

/// The length of a VXLAN header.
#[expect(clippy::cast_possible_truncation, reason = "eight")]
const HEADER_LEN: u32 = vxlan::HEADER_LEN as u32;

/// How many bytes of memory stay allocated for heads, and for datagrams, from batch to batch.
const HEADS_KEPT: usize = 1 << 20;

/// Which of the UDP sockets sends a datagram: a number below that of the
/// [source ports](crate::SourcePorts).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortIndex(pub u8);

/// Where the datagrams of a frame go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    /// The sensor.
    pub(crate) sensor: SensorIndex,
    /// The kind of its socket.
    pub(crate) lane: Lane,
    /// The source port.
    pub(crate) port: PortIndex,
}

/// One datagram to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Its first bytes, a range of [`Batch::heads`], or if it is sealed all its bytes, a range of
    /// [`Parts::sealed`]; empty if the body has them.
    pub head: Range<u32>,
    /// Its remaining bytes, a range of the block; may be empty.
    pub body: Range<u32>,
    /// The sensor it goes to.
    pub sensor: SensorIndex,
    /// The kind of socket that sends it.
    pub lane: Lane,
    /// Which of these sockets it is.
    pub port: PortIndex,
    /// Whether the IP header of its frame gives the packet's length. Then bytes after the packet are an
    /// Ethernet trailer, which receivers ignore.
    pub shows_end: bool,
}

impl Datagram {
    /// Its length in bytes, from the VXLAN header on, or if it is sealed from the tunnel's header on.
    #[must_use]
    pub const fn length(&self) -> u32 {
        (self.head.end - self.head.start) + (self.body.end - self.body.start)
    }
}

/// Whether a datagram was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was not tried yet.
    Pending,
    /// The kernel accepted it.
    Sent,
    /// It was not sent, for this reason.
    Dropped(DropReason),
}

/// Datagrams of the frames of one block.
#[derive(Debug, Default)]
pub struct Batch {
    heads: Vec<u8>,
    datagrams: Vec<Datagram>,
    /// One for each datagram.
    outcomes: Vec<Outcome>,
    /// For each frame, the end of its datagrams.
    frames: Vec<u32>,
    /// The VXLAN header of all datagrams.
    vxlan: [u8; vxlan::HEADER_LEN],
    /// Where it is to be written in the block.
    headers: Vec<u32>,
    /// Checksums to be written into the block, and where.
    checksums: Vec<(u32, [u8; 2])>,
    /// The sockets that send the datagrams.
    slots: Slots,
    /// The arena of sealed datagrams; it keeps its length.
    sealed: Vec<u8>,
}

/// The parts of a batch that `transmit` needs.
#[derive(Debug)]
pub struct Parts<'b> {
    /// The arena: heads are ranges of it.
    pub heads: &'b [u8],
    /// The second arena: what was sealed is a range of it.
    pub sealed: &'b [u8],
    /// The datagrams, in the order of their frames.
    pub datagrams: &'b [Datagram],
    /// One for each datagram, to be set.
    pub outcomes: &'b mut [Outcome],
}

/// The datagrams of one frame while they are being made. See [`Batch::frame`].
#[derive(Debug)]
pub(crate) struct FrameDatagrams<'b> {
    batch: &'b mut Batch,
    route: Route,
    /// Where the frame starts in the block.
    at: u32,
    has_headroom: bool,
    shows_end: bool,
    first: usize,
    first_header: usize,
    first_checksum: usize,
    head_start: usize,
}

/// How many datagrams a batch has before it is sent, with so many sensors that are sockets: a full
/// [run](crate::runs) for each of them.
fn full(sockets: usize) -> usize {
    sockets
        .saturating_mul(RUN_MAX as usize)
        .clamp(FULL, FULL_MAX)
}

impl Batch {
    /// An empty batch with room for the datagrams of a usual block.
    #[must_use]
    pub fn new() -> Self {
        Self {
            heads: Vec::with_capacity(FULL * 128),
            datagrams: Vec::with_capacity(FULL * 2),
            outcomes: Vec::with_capacity(FULL * 2),
            frames: Vec::with_capacity(FULL * 2),
            vxlan: [0; vxlan::HEADER_LEN],
            headers: Vec::with_capacity(FULL * 2),
            checksums: Vec::with_capacity(FULL * 2),
            slots: Slots::default(),
            sealed: Vec::new(),
        }
    }

    /// Whether it must be sent before another frame is added.
    #[must_use]
    pub fn is_full(&self, table: &SensorTable) -> bool {
        self.datagrams.len() >= full(table.sockets())
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// The arena: heads are ranges of it.
    #[must_use]
    pub fn heads(&self) -> &[u8] {
        &self.heads
    }

    /// The datagrams, in the order of their frames.
    #[must_use]
    pub fn datagrams(&self) -> &[Datagram] {
        &self.datagrams
    }

    /// The sockets that send the datagrams.
    #[must_use]
    pub const fn slots(&self) -> Slots {
        self.slots
    }

    /// The outcomes of the datagrams, in the same order; none before [`Self::parts`].
    #[must_use]
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// What is needed to send the datagrams and to set their outcomes.
    pub fn parts(&mut self) -> Parts<'_> {
        self.add_outcomes();
        Parts {
            heads: &self.heads,
            sealed: &self.sealed,
            datagrams: &self.datagrams,
            outcomes: &mut self.outcomes,
        }
    }

    /// Writes headers and checksums into the block of the frames. Before it, the bodies of datagrams without a
    /// head are not complete.
    pub fn write_into(&mut self, block: &mut (impl BlockMemory + ?Sized)) {
        for at in self.headers.drain(..) {
            block.write(at, self.vxlan);
        }
        for (at, checksum) in self.checksums.drain(..) {
            block.write(at, checksum);
        }
    }

    /// Adds the outcomes of new datagrams.
    fn add_outcomes(&mut self) {
        self.outcomes.resize(self.datagrams.len(), Outcome::Pending);
    }

    /// Starts the datagrams of a frame. `shows_end`: see [`Datagram`].
    pub(crate) fn frame(
        &mut self,
        vxlan: [u8; vxlan::HEADER_LEN],
        route: Route,
        frame: &Frame<'_>,
        shows_end: bool,
    ) -> FrameDatagrams<'_> {
        let first = self.datagrams.len();
        let (first_header, first_checksum) = (self.headers.len(), self.checksums.len());
        let head_start = self.heads.len();
        self.vxlan = vxlan;
        FrameDatagrams {
            batch: self,
            route,
            at: frame.at,
            has_headroom: frame.headroom >= HEADER_LEN,
            shows_end,
            first,
            first_header,
            first_checksum,
            head_start,
        }
    }

    /// Counts the outcomes of all frames and datagrams, and empties the batch.
    ///
    /// A datagram that is still pending counts as [`DropReason::SendError`], so that the equations of
    /// [`Totals`] are always true.
    pub fn count_outcomes(&mut self, totals: &mut Totals) {
        self.add_outcomes();
        // The usual case, for which nothing is done per frame. Without an early end the compiler compares
        // many outcomes at once.
        let is_sent = |all, outcome: &Outcome| all & matches!(outcome, Outcome::Sent);
        if self.outcomes.iter().fold(true, is_sent) {
            let (frames, datagrams) = (self.frames.len() as u64, self.datagrams.len() as u64);
            totals.frames_seen += frames;
            totals.frames_mirrored += frames;
            totals.datagrams_built += datagrams;
            totals.datagrams_sent += datagrams;
            let bytes = self.datagrams.iter().map(Datagram::length);
            totals.bytes_sent += bytes.map(u64::from).sum::<u64>();
        } else {
            self.count_each(totals);
        }
        self.clear();
    }

    /// Counts frame by frame.
    fn count_each(&self, totals: &mut Totals) {
        let mut first = 0;
        for &end in &self.frames {
            let end = end as usize;
            let mut dropped = None;
            for (datagram, outcome) in self.datagrams[first..end]
                .iter()
                .zip(&self.outcomes[first..end])
            {
                totals.datagrams_built += 1;
                let reason = match *outcome {
                    Outcome::Sent => {
                        totals.datagrams_sent += 1;
                        totals.bytes_sent += u64::from(datagram.length());
                        continue;
                    }
                    Outcome::Dropped(reason) => reason,
                    Outcome::Pending => DropReason::SendError,
                };
                totals.datagrams_dropped.count(reason);
                dropped = dropped.or(Some(reason));
            }
            totals.frames_seen += 1;
            match dropped {
                None => totals.frames_mirrored += 1,
                Some(reason) => totals.frames_dropped.count(reason),
            }
            first = end;
        }
    }

    /// Removes everything.
    fn clear(&mut self) {
        self.heads.clear();
        self.datagrams.clear();
        self.outcomes.clear();
        self.frames.clear();
        self.headers.clear();
        self.checksums.clear();
        self.slots = Slots::default();
        // One unusual frame may have needed much memory, which the next frames do not need.
        self.heads.shrink_to(HEADS_KEPT);
        self.datagrams.shrink_to(HEADS_KEPT / size_of::<Datagram>());
        self.outcomes.shrink_to(HEADS_KEPT / size_of::<Datagram>());
        self.headers.shrink_to(HEADS_KEPT / size_of::<Datagram>());
        self.checksums.shrink_to(HEADS_KEPT / size_of::<Datagram>());
        self.shrink_sealed();
    }
}

impl FrameDatagrams<'_> {
    /// Starts a datagram's head with the VXLAN header.
    pub(crate) fn start(&mut self) {
        self.head_start = self.batch.heads.len();
        self.batch.heads.extend_from_slice(&self.batch.vxlan);
    }

    /// Whether [`Self::in_place`] is possible: there is room for a VXLAN header in front of the frame.
    pub(crate) const fn has_headroom(&self) -> bool {
        self.has_headroom
    }

    /// Adds the one datagram of a frame that is sent as it is, or of its first `length` bytes, with a checksum
    /// to be written at an offset in the frame.
    pub(crate) fn in_place(&mut self, length: usize, checksum: Option<(usize, [u8; 2])>) {
        let start = self.at - HEADER_LEN;
        self.batch.headers.push(start);
        #[expect(clippy::cast_possible_truncation, reason = "as in `end`")]
        if let Some((at, checksum)) = checksum {
            let at = self.at + at as u32;
            self.batch.checksums.push((at, checksum));
        }
        self.head_start = self.batch.heads.len();
        self.push(start, length);
    }

    /// Adds bytes to the head and returns where they start, for [`Self::patch`].
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        let at = self.batch.heads.len();
        self.batch.heads.extend_from_slice(bytes);
        at
    }

    /// The bytes of the arena from `at` on, to be changed in place.
    pub(crate) fn patch(&mut self, at: usize) -> &mut [u8] {
        &mut self.batch.heads[at..]
    }

    /// Ends a datagram; its body is a range of the frame's bytes.
    pub(crate) fn end(&mut self, body: Range<usize>) {
        #[expect(clippy::cast_possible_truncation, reason = "as in `push`")]
        let start = self.at + body.start as u32;
        self.push(start, body.end);
    }

    /// Adds a datagram; its body goes from a place in the block to an offset in the frame.
    fn push(&mut self, start: u32, end: usize) {
        // The arena and the block stay below 4 GiB: a batch holds some thousand heads of at most a
        // few hundred bytes beyond the frame that made it full, and a block is 1 MiB.
        #[expect(clippy::cast_possible_truncation, reason = "see above")]
        let datagram = Datagram {
            head: self.head_start as u32..self.batch.heads.len() as u32,
            body: start..self.at + end as u32,
            sensor: self.route.sensor,
            lane: self.route.lane,
            port: self.route.port,
            shows_end: self.shows_end,
        };
        self.batch.datagrams.push(datagram);
    }

    /// Ends the frame: its datagrams stay in the batch.
    pub(crate) fn commit(self) {
        #[expect(clippy::cast_possible_truncation, reason = "as in `end`")]
        let end = self.batch.datagrams.len() as u32;
        self.batch.frames.push(end);
        self.batch.slots.add(self.route.lane, self.route.port);
    }

    /// Removes everything that was made for this frame, and ends it.
    pub(crate) fn abandon(mut self) {
        self.restart();
    }

    /// The frame's IP header does not give the packet's length.
    pub(crate) const fn hides_end(&mut self) {
        self.shows_end = false;
    }

    /// Removes everything that was made for this frame, so that it can be converted in another way.
    pub(crate) fn restart(&mut self) {
        let start = match self.batch.datagrams.get(self.first) {
            Some(datagram) => datagram.head.start as usize,
            None => self.head_start,
        };
        self.batch.heads.truncate(start);
        self.batch.datagrams.truncate(self.first);
        self.batch.headers.truncate(self.first_header);
        self.batch.checksums.truncate(self.first_checksum);
        self.head_start = start;
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
