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
//! **Bound** ([`TrailerBound`]): the trailers of all runs are at most a fifth of the bytes that the datagrams have on
//! the wire without them, or another part that is set. A message of its own costs as much CPU time as nine copies in one, or as copying some tens of
//! kilobytes, so for the CPU time alone nearly every trailer would pay. The bound is for the network, which
//! carries the bytes. It is one for all datagrams together and not for each run, because a run of small
//! datagrams and a large one needs many trailers, and a run of large ones pays for them.
//!
//! **Search**: the runs with the least *cost*, where a message costs a *price* in bytes and a trailer costs its
//! bytes. The price is what a message may cost the network: as much as three datagrams of the mean length, and at most
//! 1,200 bytes, with the default bound, and in proportion with another. The network's bound makes it so low, not the CPU time: a higher price exceeds the bound with mixed
//! traffic. From
//! the last datagram to the first, the least cost of the rest is the least of all runs that can start here,
//! each with the rest after it (`Search::choose`). If the trailers exceed the bound, up to three divisions are
//! compared, none of which does, and the one with the fewest messages is taken:
//! - the runs with the least cost as long as the trailers so far are within the bound for the datagrams so far,
//!   and otherwise a *bounded* run (`Search::bounded_run`), which takes one datagram after the other while its own
//!   trailers are within the bound for its own bytes;
//! - if the trailers are more than one and a half times the bound, the same with the price `LOW_PRICE`;
//! - bounded runs only.
//!
//! Equal datagrams need no search: a run without trailers is taken at once if each longer one has at least as many
//! bytes of trailers as any message can cost (`full`). The search starts at the first other run, and
//! computes costs only where a run can end (`Search::chosen`).
//!
//! So there are never more messages than without trailers: the least cost has at most as many, because each
//! saved message is worth something; and bounded runs are never shorter than runs without trailers.

use crate::batch::Datagram;

mod bound;
mod open;

pub use bound::TrailerBound;
use bound::{LOW_PRICE, PRICE, PRICE_MAX};
use open::{Open, equal_max};

/// The most datagrams in a run (`UDP_MAX_SEGMENTS` of Linux 4.18 to 6.8; later it is 128).
pub const RUN_MAX: u32 = 64;

/// The most bytes of a run. An IP packet has 65,535; a device takes 65,536 with the Ethernet header
/// (`gso_max_size`), and the kernel splits what is longer in software.
const BYTES_MAX: u32 = 65_000;

/// Bytes of an outer packet on the wire before the VXLAN header: Ethernet, IPv4, UDP.
const OUTER_HEADERS: u32 = 14 + 20 + 8;

/// No trailer has more bytes: it is a part of a run.
pub const TRAILER_MAX: u32 = BYTES_MAX;

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

/// A cost that is not computed.
const UNKNOWN: u32 = u32::MAX;

/// A datagram, and what the search found out about the sequence from it on.
#[derive(Debug, Clone, Copy)]
struct Place {
    length: u32,
    /// The least cost of all from here on, or [`UNKNOWN`].
    cost: u32,
    /// Bytes of all from here on, on the wire and without trailers.
    on_wire: u32,
    /// How many equal datagrams start here, at most as many as one run can have.
    equal: u8,
    /// How many datagrams the run with this cost has.
    chosen: u8,
    shows_end: bool,
}

impl From<Candidate> for Place {
    fn from(candidate: Candidate) -> Self {
        Self {
            length: candidate.length,
            cost: UNKNOWN,
            on_wire: 0,
            equal: 1,
            chosen: 0,
            shows_end: candidate.shows_end,
        }
    }
}

/// Takes the longest run without trailers from the start, if the rules allow no longer one with fewer bytes of
/// trailers than given. Also returns the bytes of its datagrams.
///
/// If `trailers_below` is the price of a message or more, no division that starts otherwise costs less:
/// - A shorter run leaves more datagrams, and their cost never increases from one to the next.
/// - A longer run has `trailers_below` or more in the datagrams of this one. To divide it after them costs one message
///   more and not these trailers.
fn full(
    rest: &mut (impl Iterator<Item = Candidate> + Clone),
    trailers_below: u32,
) -> Option<(Run, u32)> {
    let mut after = rest.clone();
    let first = after.next()?;
    let (mut count, most) = (1, u32::from(equal_max(first.length)));
    let mut ahead = after.clone();
    while count < most && ahead.next() == Some(first) {
        after = ahead.clone();
        count += 1;
    }
    let mut run = Open::start(&first.into(), count);
    loop {
        let mut ahead = after.clone();
        let Some(next) = ahead.next().map(Place::from) else {
            break;
        };
        match run.extended(&next, 1) {
            Some(longer) => (run, after) = (longer, ahead),
            None if run.extended(&next, trailers_below).is_some() => return None,
            None => break,
        }
    }
    *rest = after;
    Some((run.into(), run.bytes))
}

/// Divides datagrams into runs; see the [module](self). Its memory is reused, and has no effect on the result.
#[derive(Debug, Default)]
pub struct Search {
    bound: TrailerBound,
    /// The runs of all datagrams; during the search, those before its start.
    runs: Vec<Run>,
    /// Bytes of their datagrams on the wire.
    full_on_wire: u64,
    /// One for each datagram after them.
    places: Vec<Place>,
    /// Places whose cost is being computed. Each waits for one that is later in the list.
    waiting: Vec<usize>,
    /// Bytes of all datagrams on the wire without trailers.
    on_wire: u64,
    /// The best division so far.
    best: Vec<Run>,
    /// One that is compared with it.
    tried: Vec<Run>,
}

impl Search {
    /// Divides the datagrams to one sensor, in the order of the wire, into runs.
    pub fn divide<C>(&mut self, candidates: C, bound: TrailerBound) -> &[Run]
    where
        C: IntoIterator<Item = Candidate, IntoIter: Clone>,
    {
        let mut rest = candidates.into_iter();
        self.runs.clear();
        self.full_on_wire = 0;
        self.bound = bound;
        while let Some((run, bytes)) = full(&mut rest, bound.price_max()) {
            self.runs.push(run);
            self.full_on_wire += u64::from(bytes + run.count * OUTER_HEADERS);
        }
        self.read(rest);
        if !self.places.is_empty() {
            self.best.clear();
            self.search();
            self.runs.append(&mut self.best);
        }
        &self.runs
    }

    /// The runs of the last division.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    fn read(&mut self, candidates: impl IntoIterator<Item = Candidate>) {
        self.places.clear();
        self.places.extend(candidates.into_iter().map(Place::from));
        let (mut on_wire, mut equal, mut most) = (0, 0, 0);
        let mut after = None;
        for place in self.places.iter_mut().rev() {
            let this = (place.length, place.shows_end);
            if after != Some(this) {
                equal = 0;
                most = equal_max(place.length);
                after = Some(this);
            }
            equal = most.min(equal + 1);
            on_wire += place.length + OUTER_HEADERS;
            (place.equal, place.on_wire) = (equal, on_wire);
        }
        self.on_wire = self.full_on_wire + u64::from(on_wire);
    }

    fn search(&mut self) {
        let trailers = self.try_price(PRICE);
        if self.bound.allows(trailers, self.on_wire) {
            return;
        }
        // Otherwise a lower price would save less than the bound allows.
        if !self.bound.allows(trailers - trailers / 3, self.on_wire) {
            self.try_price(LOW_PRICE);
        }
        self.try_bounded();
        self.keep_better();
    }

    /// Tries the runs with the least cost, with bounded runs between them if their trailers exceed the bound. Returns
    /// these trailers.
    fn try_price(&mut self, halves: u32) -> u64 {
        let price = self.price(halves);
        self.forget_costs();
        let trailers = self.try_chosen(price);
        if !self.bound.allows(trailers, self.on_wire) {
            self.try_chosen_within_bound(price);
        }
        self.keep_better();
        trailers
    }

    /// The price of a message: so many halves of the mean datagram's bytes on the wire, with the default bound.
    fn price(&self, halves: u32) -> u32 {
        let on_wire = self.places.first().map_or(0, |place| place.on_wire);
        let mean = u64::from(on_wire) / (self.places.len() as u64).max(1);
        let price = u32::try_from(u64::from(halves) * mean / 2).unwrap_or(u32::MAX);
        self.bound.price(price.min(PRICE_MAX))
    }

    /// Another price makes other costs.
    fn forget_costs(&mut self) {
        for place in &mut self.places {
            place.cost = UNKNOWN;
        }
    }

    /// The run that starts at a place with the least cost, and this cost.
    ///
    /// A cost is computed when it is needed, and the costs that it depends on before it. Of many equal datagrams most are
    /// never needed, because no run ends before them. `waiting` replaces a recursion, which could be as deep as
    /// there are datagrams.
    fn chosen(&mut self, start: usize, price: u32) -> Option<(Run, u32)> {
        let places = self.places.as_mut_slice();
        let mut needed = start;
        loop {
            // The first cost that `choose` needs is usually that after equal datagrams and a shorter one.
            while let Some(place @ Place { cost: UNKNOWN, .. }) = places.get(needed) {
                self.waiting.push(needed);
                needed += usize::from(place.equal);
                let is_shorter = |next: &Place| next.length < place.length;
                needed += usize::from(places.get(needed).is_some_and(is_shorter));
            }
            let Some(at) = self.waiting.last().copied() else {
                break;
            };
            let [place, rest @ ..] = places.get_mut(at..)? else {
                return None;
            };
            match Self::choose(place, rest, price) {
                Ok(chosen) => {
                    (place.chosen, place.cost) = chosen;
                    self.waiting.pop();
                    needed = at;
                }
                Err(count) => needed = at + count as usize,
            }
        }
        let [first, rest @ ..] = self.places.get(start..)? else {
            return None;
        };
        Some((Self::run(first, rest), first.cost))
    }

    /// The run at a place with which all from there on costs least, and this cost.
    ///
    /// **Invariant**: the cost of `rest` never increases from one datagram to the next, because a run without its
    /// first datagram is a run with fewer trailers. Two things follow:
    /// - A run takes each next datagram that needs no more trailers.
    /// - If a run reaches beyond a datagram, those before it have trailers up to the segment, and what starts
    ///   at that datagram costs what is chosen there or more. So the search ends where these trailers and that
    ///   cost are as much as the least cost found. It then has read only a few datagrams more than the run has.
    ///
    /// A cost is at most the price for each datagram: 32 bits are enough for three million of them. If the cost after
    /// some datagrams is needed and unknown, their number is the error.
    fn choose(first: &Place, rest: &[Place], price: u32) -> Result<(u8, u32), u32> {
        let mut run = Open::start(first, first.equal.into());
        let (mut chosen, mut least) = (run.count, u32::MAX);
        loop {
            let after = rest.get(run.count as usize - 1);
            let longer = after.and_then(|next| run.extended(next, u32::MAX));
            if let Some(longer) = longer
                && longer.trailers == run.trailers
            {
                run = longer;
                continue;
            }
            let rest_cost = match after {
                Some(Place { cost: UNKNOWN, .. }) => return Err(run.count),
                Some(next) => next.cost,
                None => 0,
            };
            let cost = price + run.trailers + rest_cost;
            if cost < least {
                (chosen, least) = (run.count, cost);
            }
            match longer {
                Some(longer) if longer.trailers < least - rest_cost => run = longer,
                _ => return Ok((u8::try_from(chosen).unwrap_or(u8::MAX), least)),
            }
        }
    }

    /// The run that was chosen at a place.
    fn run(first: &Place, rest: &[Place]) -> Run {
        let count = u32::from(first.chosen);
        let others = rest.iter().take(count as usize - 1);
        let (mut segment, mut before, mut last) = (first.length, 0, first.length);
        for place in others {
            before += last;
            last = place.length;
            segment = segment.max(last);
        }
        Run {
            count,
            segment,
            trailers: (count - 1) * segment - before,
        }
    }

    /// Tries the chosen runs; returns their trailers.
    fn try_chosen(&mut self, price: u32) -> u64 {
        self.tried.clear();
        let (mut start, mut trailers) = (0, 0);
        while let Some((run, _)) = self.chosen(start, price) {
            trailers += u64::from(run.trailers);
            start += run.count as usize;
            self.tried.push(run);
        }
        trailers
    }

    /// Tries the chosen runs as long as the trailers so far are within the bound for the datagrams so far, and
    /// bounded runs otherwise.
    fn try_chosen_within_bound(&mut self, price: u32) {
        self.tried.clear();
        let (mut start, mut trailers, mut on_wire) = (0, 0, self.full_on_wire);
        while let Some((chosen, _)) = self.chosen(start, price) {
            let with_it = trailers + u64::from(chosen.trailers);
            let run = if self
                .bound
                .allows(with_it, on_wire + self.on_wire_of(start, chosen))
            {
                chosen
            } else {
                self.bounded_run(start)
            };
            trailers += u64::from(run.trailers);
            on_wire += self.on_wire_of(start, run);
            start += run.count as usize;
            self.tried.push(run);
        }
    }

    /// Bytes of the datagrams of a run on the wire without trailers.
    fn on_wire_of(&self, start: usize, run: Run) -> u64 {
        let from = |place: usize| self.places.get(place).map_or(0, |place| place.on_wire);
        u64::from(from(start) - from(start + run.count as usize))
    }

    /// Tries only bounded runs.
    fn try_bounded(&mut self) {
        self.tried.clear();
        let mut start = 0;
        while start < self.places.len() {
            let run = self.bounded_run(start);
            start += run.count as usize;
            self.tried.push(run);
        }
    }

    /// The run at a place that takes one datagram after the other, as long as its trailers are within the bound
    /// for its bytes.
    fn bounded_run(&self, start: usize) -> Run {
        let Some([first, rest @ ..]) = self.places.get(start..) else {
            return Run::EMPTY;
        };
        let mut run = Open::start(first, first.equal.into());
        while let Some(next) = rest.get(run.count as usize - 1)
            && let Some(longer) = run.extended(next, u32::MAX)
            && self
                .bound
                .allows(longer.trailers.into(), longer.on_wire().into())
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
        if self.best.is_empty() || value(&self.tried) < value(&self.best) {
            core::mem::swap(&mut self.best, &mut self.tried);
        }
    }
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;
