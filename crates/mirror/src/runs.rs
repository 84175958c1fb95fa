//! Which datagrams are sent in one message (UDP generic segmentation offload, GSO).
//!
//! In: the datagrams that go to one sensor, in the order of the wire. Out: how many of the first ones are one
//! *run*, and the length of its segments. The kernel takes a run through its network stack once and splits it
//! at the end. Most of the CPU time of a copy is this way, so a run of 64 small datagrams costs little more
//! than one.
//!
//! The kernel's rules (`udp_send_skb` in `net/ipv4/udp.c`, `UDP_MAX_SEGMENTS`): all segments of a run have
//! one length, only the last may be shorter; there are at most 64, and together they fit one IP packet.
//!
//! Datagrams of other lengths end a run. To avoid this, a datagram gets a *trailer*: zeros after the inner
//! packet, which receivers ignore, because the inner IP header gives the packet's length (as the padding of
//! short Ethernet frames, IEEE 802.3 clause 3.2.8). A datagram whose frame does not show its end gets none.
//! **Bound**: the trailers of a run are at most a fifth of the bytes that its datagrams have on the wire
//! without them. A message of its own costs as much CPU time as copying some tens of kilobytes, so more
//! trailers would still save CPU time; the bound is for the network, which carries the bytes.
//!
//! Runs consist of neighbours and nothing is sorted: a sensor must see what announces a connection before
//! the connection.

use crate::batch::Datagram;

/// The most datagrams in a run (`UDP_MAX_SEGMENTS` of Linux 4.18 to 6.8; later it is 128).
const RUN_MAX: u32 = 64;

/// The most bytes of a run. An IP packet has 65,535; a device takes 65,536 with the Ethernet header
/// (`gso_max_size`), and the kernel splits what is longer in software.
const BYTES_MAX: u32 = 65_000;

/// Bytes of an outer packet on the wire before the VXLAN header: Ethernet, IPv4, UDP.
const OUTER_HEADERS: u32 = 14 + 20 + 8;

/// The trailers of a run are at most this part of its bytes.
const TRAILERS_PART: u32 = 5;

/// No trailer has more bytes.
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

/// The first datagrams of a sequence, which are sent in one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// How many there are.
    pub count: usize,
    /// The length in bytes of all but the last, with trailers. The last has no trailer and is not longer.
    pub segment: u32,
    /// Bytes of the trailers.
    pub trailers: u32,
}

/// A run that is being extended.
struct Open {
    count: u32,
    segment: u32,
    /// Bytes of its datagrams without trailers.
    bytes: u32,
    /// Bytes of the trailers.
    trailers: u32,
    /// The length of those that can get no trailer.
    fixed: Option<u32>,
    /// Its last datagram is shorter and can get no trailer.
    is_closed: bool,
}

impl Open {
    fn start(first: Candidate) -> Self {
        Self {
            count: 1,
            segment: first.length,
            bytes: first.length,
            trailers: 0,
            fixed: (!first.shows_end).then_some(first.length),
            is_closed: false,
        }
    }

    /// Adds a datagram if the rules and the bound allow it.
    fn add(&mut self, next: Candidate, trailers: bool) -> bool {
        let segment = self.segment.max(next.length);
        let before = self.count * segment;
        let padding = before - self.bytes;
        let bytes = self.bytes + next.length;
        let on_wire = bytes + (self.count + 1) * OUTER_HEADERS;
        let is_allowed = !self.is_closed
            && self.count < RUN_MAX
            && before + next.length <= BYTES_MAX
            && self.fixed.is_none_or(|length| length == segment)
            && (padding == 0 || trailers && padding * TRAILERS_PART <= on_wire);
        if is_allowed {
            self.is_closed = !next.shows_end && next.length < segment;
            if !next.shows_end && next.length == segment {
                self.fixed = Some(segment);
            }
            self.count += 1;
            self.segment = segment;
            self.bytes = bytes;
            self.trailers = padding;
        }
        is_allowed
    }
}

/// Finds the run at the start of a sequence; `None` if the sequence is empty.
///
/// It is greedy: it takes one datagram after the other while the rules and the bound allow it. Reads at most
/// one datagram more than the run has.
pub fn first(candidates: impl IntoIterator<Item = Candidate>, trailers: bool) -> Option<Run> {
    let mut candidates = candidates.into_iter();
    let mut run = Open::start(candidates.next()?);
    for next in candidates {
        if !run.add(next, trailers) {
            break;
        }
    }
    Some(Run {
        count: run.count as usize,
        segment: run.segment,
        trailers: run.trailers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(length: u32) -> Candidate {
        Candidate {
            length,
            shows_end: true,
        }
    }

    fn other(length: u32) -> Candidate {
        Candidate {
            length,
            shows_end: false,
        }
    }

    fn found(candidates: &[Candidate], trailers: bool) -> (usize, u32) {
        let run = first(candidates.iter().copied(), trailers).unwrap();
        (run.count, run.segment)
    }

    /// Each row: the datagrams, then the count and segment of the run without and with trailers.
    #[test]
    fn the_table_of_cases() {
        type Row = (&'static str, Vec<Candidate>, (usize, u32), (usize, u32));
        let rows: Vec<Row> = vec![
            ("one", vec![ip(100)], (1, 100), (1, 100)),
            ("equal", vec![ip(100); 5], (5, 100), (5, 100)),
            ("64 at most", vec![ip(100); 99], (64, 100), (64, 100)),
            (
                "65,000 bytes at most",
                vec![ip(1458); 99],
                (44, 1458),
                (44, 1458),
            ),
            (
                "a TSO frame: the last is shorter",
                vec![ip(1458), ip(1458), ip(300)],
                (3, 1458),
                (3, 1458),
            ),
            (
                "after a shorter one nothing fits without a trailer",
                vec![ip(1000), ip(990), ip(1000)],
                (2, 1000),
                (3, 1000),
            ),
            (
                "a longer one makes the shorter ones before it longer",
                vec![ip(1000), ip(1000), ip(1020)],
                (2, 1000),
                (3, 1020),
            ),
            (
                "more than a fifth of trailers is too much",
                vec![ip(1458), ip(110), ip(1458)],
                (2, 1458),
                (2, 1458),
            ),
            (
                "a small one before a large one is sent separately",
                vec![ip(110), ip(1458), ip(1458)],
                (1, 110),
                (1, 110),
            ),
            (
                "a frame without a visible end gets no trailer",
                vec![other(1000), ip(1020), ip(1020)],
                (1, 1000),
                (1, 1000),
            ),
            (
                "it can be the last one",
                vec![ip(1020), other(1000), ip(1020)],
                (2, 1020),
                (2, 1020),
            ),
            (
                "it fits where the length is its own",
                vec![ip(1000), other(1020), ip(1010), ip(1020)],
                (1, 1000),
                (4, 1020),
            ),
            (
                "and then nothing longer fits",
                vec![other(1000), other(1000), ip(990), ip(1001)],
                (3, 1000),
                (3, 1000),
            ),
            ("two of them", vec![other(60), other(60)], (2, 60), (2, 60)),
        ];
        for (what, candidates, without, with) in rows {
            assert_eq!(found(&candidates, false), without, "{what}, no trailers");
            assert_eq!(found(&candidates, true), with, "{what}, with trailers");
        }
        assert_eq!(first([], true), None);
    }

    /// Whether the first `count` datagrams can be a run: the rules, written down without the search.
    fn is_run(candidates: &[Candidate], trailers: bool) -> bool {
        let (last, others) = candidates.split_last().unwrap();
        let segment = candidates.iter().map(|one| one.length).max().unwrap();
        let padding: u32 = others.iter().map(|one| segment - one.length).sum();
        let on_wire: u32 = candidates.iter().map(|one| one.length + 42).sum();
        let fits = |one: &Candidate| one.length == segment || trailers && one.shows_end;
        candidates.len() <= 64
            && others.iter().map(|_| segment).sum::<u32>() + last.length <= 65_000
            && others.iter().all(fits)
            && (padding == 0 || padding * 5 <= on_wire)
    }

    fn any_candidate() -> impl Strategy<Value = Candidate> {
        let length = prop_oneof![
            Just(74_u32),
            Just(1458),
            68_u32..1459,
            90_u32..130,
            8000_u32..9000
        ];
        (length, prop::bool::weighted(0.8))
            .prop_map(|(length, shows_end)| Candidate { length, shows_end })
    }

    proptest! {
        #[test]
        fn a_run_obeys_the_rules_and_one_more_would_not(
            candidates in prop::collection::vec(any_candidate(), 1..100),
            trailers: bool,
        ) {
            let run = first(candidates.iter().copied(), trailers).unwrap();
            for count in 1..=run.count {
                prop_assert!(is_run(&candidates[..count], trailers));
            }
            let longest = candidates[..run.count].iter().map(|one| one.length).max();
            prop_assert_eq!(Some(run.segment), longest);
            let others = &candidates[..run.count - 1];
            let padding: u32 = others.iter().map(|one| run.segment - one.length).sum();
            prop_assert_eq!(run.trailers, padding);
            if run.count < candidates.len() {
                prop_assert!(!is_run(&candidates[..=run.count], trailers));
            }
        }
    }
}
