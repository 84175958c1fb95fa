//! The pass over a batch that seals the datagrams of sensors with a tunnel.
//!
//! In: a batch whose block is complete, and a [`Seal`]. Out: each of these datagrams as one range of a second
//! arena, in place of its head and body:
//!
//! ```text
//! sealed [ header | ciphertext of 0 | tag ][ header | ciphertext of 1 | tag ] ...
//!          ^ head of 0, which has no body    ^ head of 1
//! ```
//! A batch without such sensors costs one branch.
//!
//! Invariants: after the pass, no datagram of a [lane with a tunnel](crate::plan::Lane::is_tunnel) is a range
//! of [`Batch::heads`] or of the block. Those that could not be sealed have no bytes and are dropped as
//! [`DropReason::NoSession`]. Datagrams to one sensor are sealed in their order, so the counters of its session
//! rise in the order in which they are sent. All of them have one source port, because a session's answers come
//! to the port that the session's datagrams come from.
//!
//! The arena keeps its length from batch to batch, so its bytes are not cleared again.

use wire::BlockMemory;

use super::{Batch, Datagram, Outcome, PortIndex};
use crate::plan::Slots;
use crate::table::{SensorIndex, SensorTable};
use crate::totals::DropReason;

/// How many bytes of the arena stay allocated from batch to batch.
const SEALED_KEPT: usize = 1 << 20;

/// Encrypts datagrams for sensors.
pub trait Seal {
    /// Seals a datagram for a sensor, which consists of `head` and `body`, into `out`. `out` is as long as the
    /// datagram and [what the tunnel adds](crate::Sensor::with_tunnel). `port`: the source port that the
    /// datagram would have without a tunnel.
    ///
    /// Returns whether all of `out` was written. If not, there is no session with the sensor.
    fn seal(
        &mut self,
        sensor: SensorIndex,
        port: PortIndex,
        head: &[u8],
        body: &[u8],
        out: &mut [u8],
    ) -> bool;
}

impl Batch {
    /// Seals the datagrams of the table's sensors with a tunnel. Headers and checksums are written into the
    /// block first, because they are sealed too.
    pub fn seal(
        &mut self,
        block: &mut (impl BlockMemory + ?Sized),
        table: &SensorTable,
        seal: &mut impl Seal,
    ) {
        if !self.slots.have_tunnel() {
            return;
        }
        self.write_into(block);
        self.add_outcomes();
        let lengths = self.datagrams.iter();
        let needed = lengths.filter_map(|datagram| sealed_length(datagram, table));
        let needed = needed.sum();
        if self.sealed.len() < needed {
            self.sealed.resize(needed, 0);
        }
        let mut rest = self.sealed.as_mut_slice();
        let mut start = 0;
        for (datagram, outcome) in self.datagrams.iter_mut().zip(&mut self.outcomes) {
            if !datagram.lane.is_tunnel() {
                continue;
            }
            let length = sealed_length(datagram, table).unwrap_or(0);
            let bytes = parts(datagram, &self.heads, block.bytes());
            let out = rest.get_mut(..length).filter(|out| !out.is_empty());
            let is_sealed = bytes.zip(out).is_some_and(|((head, body), out)| {
                seal.seal(datagram.sensor, datagram.port, head, body, out)
            });
            let length = if is_sealed {
                length
            } else {
                *outcome = Outcome::Dropped(DropReason::NoSession);
                0
            };
            rest = &mut rest[length..];
            #[expect(
                clippy::cast_possible_truncation,
                reason = "as in `FrameDatagrams::push`"
            )]
            let end = start + length as u32;
            datagram.head = start..end;
            datagram.body = 0..0;
            datagram.port = PortIndex(0);
            // Its length says nothing about the packet in it.
            datagram.shows_end = false;
            start = end;
        }
        self.slots = Slots::of(&self.datagrams);
    }

    /// Gives back the memory of an unusually large batch.
    pub(super) fn shrink_sealed(&mut self) {
        if self.sealed.len() > SEALED_KEPT {
            self.sealed.truncate(SEALED_KEPT);
            self.sealed.shrink_to(SEALED_KEPT);
        }
    }
}

/// The length of a datagram after it is sealed; none if its sensor has no tunnel.
fn sealed_length(datagram: &Datagram, table: &SensorTable) -> Option<usize> {
    let added = table.sensor(datagram.sensor)?.tunnel_len()?;
    Some(datagram.length() as usize + usize::from(added.get()))
}

/// A datagram's head and body.
fn parts<'b>(
    datagram: &Datagram,
    heads: &'b [u8],
    block: &'b [u8],
) -> Option<(&'b [u8], &'b [u8])> {
    let range = |range: &core::ops::Range<u32>| range.start as usize..range.end as usize;
    Some((
        heads.get(range(&datagram.head))?,
        block.get(range(&datagram.body))?,
    ))
}

#[cfg(test)]
#[path = "seal_tests.rs"]
mod tests;
