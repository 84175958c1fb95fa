//! Which datagrams are sent in one message (UDP generic segmentation offload, GSO).
//!
//! In: the datagrams of a batch that go to one sensor, in the order of the wire. Out: how they are divided into
//! *runs*: of each, how many datagrams it has, and the length of its segments. The kernel takes a run through
//! its network stack once and splits it at the end. Most of the CPU time of a copy is this way, so a run of 64
//! small datagrams costs little more than one.
//!
//! The kernel's rules (`udp_send_skb` in `net/ipv4/udp.c`, `UDP_MAX_SEGMENTS`): all segments of a run have
//! one length, only the last may be shorter; there are at most 64, and together they fit one IP packet.
//!
//! Datagrams of other lengths end a run. To avoid this, a datagram gets a *trailer*: zeros after the inner
//! packet, which receivers ignore, because the inner IP header gives the packet's length (as the padding of
//! short Ethernet frames, IEEE 802.3 clause 3.2.8). A datagram whose frame does not show its end gets none.
//!
//! Runs consist of neighbours and nothing is sorted: a sensor must see what announces a connection before
//! the connection.
//!
//! **Bound**: the trailers of all runs are at most a fifth of the bytes that the datagrams have on the wire
//! without them. A message of its own costs as much CPU time as nine copies in one, or as copying some tens of
//! kilobytes, so for the CPU time alone nearly every trailer would pay. The bound is for the network, which
//! carries the bytes. It is one for all datagrams together and not for each run, because a run of small
//! datagrams and a large one needs many trailers, and a run of large ones pays for them.
//!
//! **Search**: the runs with the least *cost*, where a message costs a *price* in bytes and a trailer costs its
//! bytes. The price is what a message may cost the network: as much as three datagrams of the mean length. The
//! network's bound makes it so low, not the CPU time: a higher price exceeds the bound with mixed traffic. From
//! the last datagram to the first, the least cost of the rest is the least of all runs that can start here,
//! each with the rest after it (`Search::choose`). If the trailers exceed the bound, up to three divisions are
//! compared, none of which does, and the one with the fewest messages is taken:
//! - the runs with the least cost as long as the trailers so far are within the bound for the datagrams so far,
//!   and otherwise a *bounded* run (`Search::bounded_run`), which takes one datagram after the other while its own
//!   trailers are at most a fifth of its own bytes;
//! - if the trailers are more than one and a half times the bound, the same with the second of the two `PRICES`;
//! - bounded runs only.
//!
//! Full runs at the start that need no trailers are taken without a search (`full`), as those of equal
//! datagrams.
//!
//! So there are never more messages than without trailers: the least cost has at most as many, because each
//! saved message is worth something; and bounded runs are never shorter than runs without trailers.

use crate::batch::Datagram;

/// The most datagrams in a run (`UDP_MAX_SEGMENTS` of Linux 4.18 to 6.8; later it is 128).
const RUN_MAX: u32 = 64;

/// The most bytes of a run. An IP packet has 65,535; a device takes 65,536 with the Ethernet header
/// (`gso_max_size`), and the kernel splits what is longer in software.
const BYTES_MAX: u32 = 65_000;

/// Bytes of an outer packet on the wire before the VXLAN header: Ethernet, IPv4, UDP.
const OUTER_HEADERS: u32 = 14 + 20 + 8;

/// The trailers are at most this part of the bytes.
const TRAILERS_PART: u32 = 5;

/// What a message costs, in halves of the mean datagram's bytes on the wire. The second is for traffic that
/// exceeds the bound with the first.
const PRICES: [u64; 2] = [6, 3];

/// No message costs more, so that 32 bits are enough for the cost of half a million of them.
const PRICE_MAX: u64 = 8000;

/// No trailer has more bytes: a longer one would cost more than to end the run before it, and a bounded run has
/// no more.
pub const TRAILER_MAX: u32 = (BYTES_MAX + RUN_MAX * OUTER_HEADERS) / TRAILERS_PART;

/// A datagram that can become a part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its length in bytes, from the VXLAN header on.
    pub length: u32,
    /// Whether it can get a trailer.
    pub shows_end: bool,
}

impl From<&Datagram> for Candidate {
    fn from(datagram: &Datagram) -> Self {
        Self {
            length: datagram.length(),
            shows_end: datagram.shows_end,
        }
    }
}

/// Neighbours that are sent in one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// How many there are.
    pub count: u32,
    /// The length in bytes of all but the last, with trailers. The last has no trailer and is not longer.
    pub segment: u32,
    /// Bytes of the trailers.
    pub trailers: u32,
}

impl Run {
    const EMPTY: Self = Self {
        count: 0,
        segment: 0,
        trailers: 0,
    };
}

/// A datagram, and what the search found out about the sequence from it on.
#[derive(Debug, Clone, Copy)]
struct Place {
    length: u32,
    shows_end: bool,
    /// How many equal datagrams start here.
    equal: u32,
    /// The least cost of all from here on.
    cost: u32,
    /// The run that starts here.
    chosen: Run,
}

impl From<Candidate> for Place {
    fn from(candidate: Candidate) -> Self {
        Self {
            length: candidate.length,
            shows_end: candidate.shows_end,
            equal: 1,
            cost: 0,
            chosen: Run::EMPTY,
        }
    }
}

/// A run that can be extended.
#[derive(Debug, Clone, Copy)]
struct Open {
    count: u32,
    segment: u32,
    /// Bytes of its datagrams without trailers.
    bytes: u32,
    /// Bytes of the trailers.
    trailers: u32,
    /// The longest datagram that can be added: a datagram that can get no trailer and has the length of a segment
    /// allows none longer; if it is shorter, it is the last, and this is zero.
    next_max: u32,
}

impl Open {
    /// A datagram and the equal ones after it.
    fn start(first: &Place) -> Self {
        let count = equal(first, 0).max(1);
        let next_max = if first.shows_end {
            u32::MAX
        } else {
            first.length
        };
        Self {
            count,
            segment: first.length,
            bytes: count * first.length,
            trailers: 0,
            next_max,
        }
    }

    /// With the next datagram, if the rules allow it and there are fewer bytes of trailers than given. If that
    /// datagram has the length of a segment, the equal ones after it need no trailers either and come with it.
    #[inline]
    fn extended(&self, next: &Place, trailers_below: u32) -> Option<Self> {
        let segment = self.segment.max(next.length);
        let before = self.count * segment;
        let trailers = before - self.bytes;
        if trailers >= trailers_below
            || self.count >= RUN_MAX
            || before + next.length > BYTES_MAX
            || next.length > self.next_max
        {
            return None;
        }
        let is_shorter = next.length < segment;
        let more = if is_shorter {
            1
        } else {
            equal(next, self.count)
        };
        let next_max = match (next.shows_end, is_shorter) {
            (true, _) => self.next_max,
            (false, false) => segment,
            (false, true) => 0,
        };
        Some(Self {
            count: self.count + more,
            segment,
            bytes: self.bytes + more * next.length,
            trailers,
            next_max,
        })
    }

    /// Bytes of its datagrams on the wire without trailers.
    const fn on_wire(&self) -> u32 {
        self.bytes + self.count * OUTER_HEADERS
    }
}

/// How many of the equal datagrams from a place on fit into a run in which there are some of their length.
#[inline]
fn equal(first: &Place, count: u32) -> u32 {
    if first.equal == 1 {
        return 1;
    }
    let more = first.equal.min(RUN_MAX - count);
    if (count + more) * first.length > BYTES_MAX {
        (BYTES_MAX / first.length).saturating_sub(count)
    } else {
        more
    }
}

/// Takes a run without trailers from the start, if no other can be longer: it is full, or the datagrams end. Also
/// returns the bytes of its datagrams.
///
/// The search chooses the same: the rest after it costs least, because there is no longer run, and the
/// cost never increases from one datagram to the next.
fn full(rest: &mut (impl Iterator<Item = Candidate> + Clone)) -> Option<(Run, u32)> {
    let mut after = rest.clone();
    let segment = after.next()?.length;
    let (mut count, mut last) = (1, segment);
    let is_full = |count, next: u32| count == RUN_MAX || count * segment + next > BYTES_MAX;
    loop {
        let mut ahead = after.clone();
        match ahead.next() {
            Some(next) if !is_full(count, next.length) => {
                if next.length > segment || last < segment {
                    return None;
                }
                (count, last, after) = (count + 1, next.length, ahead);
            }
            _ => break,
        }
    }
    *rest = after;
    let run = Run {
        count,
        segment,
        trailers: 0,
    };
    Some((run, (count - 1) * segment + last))
}

/// Divides datagrams into runs; see the [module](self). Its memory is reused, and has no effect on the result.
#[derive(Debug, Default)]
pub struct Search {
    /// Full runs at the start, and then the others.
    full: Vec<Run>,
    /// Bytes of their datagrams on the wire.
    full_on_wire: u64,
    /// One for each datagram after them.
    places: Vec<Place>,
    /// Bytes of all datagrams on the wire without trailers.
    on_wire: u64,
    /// The best division so far.
    runs: Vec<Run>,
    /// One that is compared with it.
    tried: Vec<Run>,
}

impl Search {
    /// Divides the datagrams to one sensor, in the order of the wire, into runs.
    pub fn divide<C>(&mut self, candidates: C, trailers: bool) -> &[Run]
    where
        C: IntoIterator<Item = Candidate, IntoIter: Clone>,
    {
        let mut rest = candidates.into_iter();
        self.full.clear();
        self.full_on_wire = 0;
        while let Some((run, bytes)) = full(&mut rest) {
            self.full.push(run);
            self.full_on_wire += u64::from(bytes + run.count * OUTER_HEADERS);
        }
        self.read(rest);
        self.runs.clear();
        if trailers {
            self.search();
        } else {
            self.try_bounded(false);
            self.keep_better();
        }
        // Usually one of them is empty.
        self.full.append(&mut self.runs);
        &self.full
    }

    /// The runs of the last division.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.full
    }

    fn read(&mut self, candidates: impl IntoIterator<Item = Candidate>) {
        self.places.clear();
        self.places.extend(candidates.into_iter().map(Place::from));
        self.on_wire = self.full_on_wire;
        let mut next = (0, false, 0);
        for place in self.places.iter_mut().rev() {
            if (place.length, place.shows_end) == (next.0, next.1) {
                place.equal += next.2;
            }
            self.on_wire += u64::from(place.length + OUTER_HEADERS);
            next = (place.length, place.shows_end, place.equal);
        }
    }

    fn search(&mut self) {
        for halves in PRICES {
            self.choose_all(self.price(halves));
            let trailers = self.try_chosen();
            let is_within = is_within_bound(trailers, self.on_wire);
            if !is_within {
                self.try_chosen_within_bound();
            }
            self.keep_better();
            if is_within {
                return;
            }
            // A lower price would save less than the bound allows.
            if is_within_bound(trailers - trailers / 3, self.on_wire) {
                break;
            }
        }
        self.try_bounded(true);
        self.keep_better();
    }

    /// So many halves of the mean datagram's bytes on the wire.
    fn price(&self, halves: u64) -> u32 {
        let on_wire = |place: &Place| u64::from(place.length + OUTER_HEADERS);
        let sum: u64 = self.places.iter().map(on_wire).sum();
        let price = halves * sum / (2 * self.places.len() as u64).max(1);
        u32::try_from(price.min(PRICE_MAX)).unwrap_or(u32::MAX)
    }

    /// Chooses the run that starts at each place.
    fn choose_all(&mut self, price: u32) {
        for start in (0..self.places.len()).rev() {
            if let Some([place, rest @ ..]) = self.places.get_mut(start..) {
                (place.chosen, place.cost) = Self::choose(place, rest, price);
            }
        }
    }

    /// The run at a place with which all from there on costs least, and this cost.
    ///
    /// **Invariant**: the cost of `rest` never increases from one datagram to the next, because a run without its
    /// first datagram is a run with fewer trailers. Two things follow:
    /// - Equal datagrams that need no trailers are taken together.
    /// - If a run reaches beyond a datagram, those before it have trailers up to the segment, and what starts
    ///   at that datagram costs what is chosen there or more. So the search ends where these trailers and that
    ///   cost are as much as the least cost found. It then has read only a few datagrams more than the run has.
    ///
    /// A cost is at most the price for each datagram: 32 bits are enough for half a million of them.
    fn choose(first: &Place, rest: &[Place], price: u32) -> (Run, u32) {
        let mut run = Open::start(first);
        let mut after = rest.get(run.count as usize - 1);
        let mut least = price + after.map_or(0, |next| next.cost);
        let mut chosen = Run::from(run);
        while let Some(next) = after
            && let Some(longer) = run.extended(next, least.saturating_sub(next.cost))
        {
            run = longer;
            after = rest.get(run.count as usize - 1);
            let cost = price + run.trailers + after.map_or(0, |next| next.cost);
            if cost < least {
                (chosen, least) = (run.into(), cost);
            }
        }
        (chosen, least)
    }

    /// Tries the chosen runs; returns their trailers.
    fn try_chosen(&mut self) -> u64 {
        self.tried.clear();
        let (mut start, mut trailers) = (0, 0);
        while let Some(Place { chosen, .. }) = self.places.get(start) {
            trailers += u64::from(chosen.trailers);
            start += chosen.count as usize;
            self.tried.push(*chosen);
        }
        trailers
    }

    /// Tries the chosen runs as long as the trailers so far are within the bound for the datagrams so far, and
    /// bounded runs otherwise.
    fn try_chosen_within_bound(&mut self) {
        self.tried.clear();
        let (mut start, mut trailers, mut on_wire) = (0, 0, self.full_on_wire);
        while let Some(Place { chosen, .. }) = self.places.get(start) {
            let with_it = trailers + u64::from(chosen.trailers);
            let run = if is_within_bound(with_it, on_wire + self.on_wire_of(start, *chosen)) {
                *chosen
            } else {
                self.bounded_run(start, true)
            };
            trailers += u64::from(run.trailers);
            on_wire += self.on_wire_of(start, run);
            start += run.count as usize;
            self.tried.push(run);
        }
    }

    /// Bytes of the datagrams of a run on the wire without trailers.
    fn on_wire_of(&self, start: usize, run: Run) -> u64 {
        let places = self.places.get(start..).unwrap_or_default();
        let on_wire = |place: &Place| u64::from(place.length + OUTER_HEADERS);
        places.iter().take(run.count as usize).map(on_wire).sum()
    }

    /// Tries only bounded runs. Without trailers there are no longer ones.
    fn try_bounded(&mut self, trailers: bool) {
        self.tried.clear();
        let mut start = 0;
        while start < self.places.len() {
            let run = self.bounded_run(start, trailers);
            start += run.count as usize;
            self.tried.push(run);
        }
    }

    /// The run at a place that takes one datagram after the other, as long as its trailers are at most a fifth
    /// of its bytes.
    fn bounded_run(&self, start: usize, trailers: bool) -> Run {
        let Some([first, rest @ ..]) = self.places.get(start..) else {
            return Run::EMPTY;
        };
        let mut run = Open::start(first);
        let trailers_below = if trailers { u32::MAX } else { 1 };
        while let Some(next) = rest.get(run.count as usize - 1)
            && let Some(longer) = run.extended(next, trailers_below)
            && is_within_bound(longer.trailers.into(), longer.on_wire().into())
        {
            run = longer;
        }
        run.into()
    }

    /// Keeps what was tried if it is the first, or better than what was kept before: fewer messages, or as many
    /// with fewer trailers.
    fn keep_better(&mut self) {
        let trailers = |runs: &[Run]| runs.iter().map(|run| u64::from(run.trailers)).sum::<u64>();
        let value = |runs: &[Run]| (runs.len(), trailers(runs));
        if self.runs.is_empty() || value(&self.tried) < value(&self.runs) {
            core::mem::swap(&mut self.runs, &mut self.tried);
        }
    }
}

/// Whether trailers are at most a fifth of these bytes on the wire.
const fn is_within_bound(trailers: u64, on_wire: u64) -> bool {
    trailers * TRAILERS_PART as u64 <= on_wire
}

impl From<Open> for Run {
    #[inline]
    fn from(open: Open) -> Self {
        Self {
            count: open.count,
            segment: open.segment,
            trailers: open.trailers,
        }
    }
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;
