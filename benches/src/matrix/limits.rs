//! How many copies of a load fit in a message at most, and how many a bar needs. Pure.
//!
//! Only neighbours can be in one run, all but the last have one length, and trailers make them so. podspan
//! divides the datagrams of each batch; its bound for trailers is for all of them together. How few runs any choice
//! can make with the same rules and a given bound follows from the least *cost* of all choices: where a message
//! costs a price in bytes and a trailer costs its bytes, `messages * price + trailers` is never less. So with
//! trailers within the bound there are at least `(least cost - bound) / price` messages, at any price, and the greatest
//! of these numbers over many prices is used. No cleverer search can need fewer messages.
//!
//! **Needed**: a copy costs `m / length of the run + d`. Two loads that were measured give the cost of a message `m` and
//! of a copy in it `d`; so the length of runs follows at which the ratio to podspan plain reaches its bar.

use instructions::measures::candidates;
use mirror::TrailerBound;
use mirror::runs::{Candidate, Search};
use serde::Serialize;

use super::loads::Loads;
use super::plan::{Case, Contender, Load, SMALL};
use super::results::{Cost, Results, Totals};

/// Trailers as a part of all bytes on the wire; podspan's bound is a fifth.
pub const PARTS: [f64; 5] = [0.0, 0.2, 0.5, 1.0, 2.0];
/// Outer headers of a copy.
const OUTER: u32 = 42;
const RUN_MAX: u32 = 64;
const BYTES_MAX: u32 = 65_000;
/// Runs do not end with a cycle.
const CYCLES: usize = 3;
/// Datagrams in a batch.
const BATCH: usize = 512;
/// Prices of a message in bytes: from 32 to 64 KiB.
const PRICES: core::ops::RangeInclusive<u32> = 10..=32;
/// Loads and their bars.
const BARS: [(Load, f64); 3] = [
    (Load::Web, 3.5),
    (Load::WebWithoutOffloads, 3.5),
    (Load::Imix, 1.8),
];

/// How long runs of a load are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Limit {
    /// The load.
    pub load: Load,
    /// Copies in a message of podspan.
    pub podspan: f64,
    /// The most with trailers of each of [`PARTS`].
    pub most: [f64; 5],
}

/// The limits of the loads whose frames have several lengths.
#[must_use]
pub fn limits(loads: &Loads) -> Vec<Limit> {
    let mixed = [
        Load::Imix,
        Load::Web,
        Load::WebWithoutOffloads,
        Load::Dns,
        Load::Short,
        Load::Bulk,
    ];
    let limits = mixed.map(|load| {
        let frames = loads.frames(Case::of(load));
        let copies = candidates(frames.frames()).repeat(CYCLES);
        Limit {
            load,
            podspan: podspan(&copies),
            most: PARTS.map(|part| most(&copies, part)),
        }
    });
    limits.into()
}

fn podspan(copies: &[Candidate]) -> f64 {
    let mut search = Search::default();
    let mut messages = |batch: &[Candidate]| {
        search
            .divide(batch.iter().copied(), TrailerBound::DEFAULT)
            .len()
    };
    let messages: usize = copies.chunks(BATCH).map(&mut messages).sum();
    ratio(copies.len(), to_float(messages))
}

/// The most copies in a message, with trailers of at most this part of the bytes on the wire.
fn most(copies: &[Candidate], part: f64) -> f64 {
    let on_wire: f64 = copies
        .iter()
        .map(|copy| f64::from(copy.length + OUTER))
        .sum();
    let fewest = PRICES.map(|half_octaves| {
        let price = 2_f64.powf(f64::from(half_octaves) / 2.0);
        (least_cost(copies, price) - part * on_wire) / price
    });
    let least = to_float(copies.len()) / f64::from(RUN_MAX);
    ratio(copies.len(), fewest.fold(least, f64::max))
}

/// The least cost of all choices: first that up to each copy.
fn least_cost(copies: &[Candidate], price: f64) -> f64 {
    let mut costs = vec![f64::INFINITY; copies.len() + 1];
    costs[0] = 0.0;
    for start in 0..copies.len() {
        let run = copies.get(start..).unwrap_or_default();
        let (mut longest, mut fixed, mut bytes) = (0, None, 0);
        for (count, copy) in (1..=RUN_MAX).zip(run) {
            // All but the last get a trailer up to the longest.
            let (before, padded) = (bytes, (count - 1) * copy.length.max(longest));
            longest = longest.max(copy.length);
            bytes += copy.length;
            if padded + copy.length > BYTES_MAX || fixed.is_some_and(|fixed| fixed != longest) {
                break;
            }
            let cost = costs[start] + price + f64::from(padded - before);
            let end = start + count as usize;
            costs[end] = costs[end].min(cost);
            if !copy.shows_end {
                if copy.length < longest {
                    break;
                }
                fixed = Some(longest);
            }
        }
    }
    costs[copies.len()]
}

/// Copies in a message at which podspan GSO reaches the bar of a load.
#[must_use]
pub fn needed(results: &Results, load: Load) -> Option<f64> {
    let (_, bar) = BARS.into_iter().find(|(of, _)| *of == load)?;
    let of =
        |load, contender, value: fn(&Cost) -> f64| results.cost((Case::of(load), contender), value);
    let own = |cost: &Cost| cost.own_ns;
    let run = |cost: &Cost| cost.totals.as_ref().map_or(0.0, Totals::run_length);
    let long = (
        of(SMALL, Contender::Socket, own)?,
        of(SMALL, Contender::Socket, run)?,
    );
    let short = (
        of(load, Contender::Socket, own)?,
        of(load, Contender::Socket, run)?,
    );
    let message = (short.0 - long.0) / (1.0 / short.1 - 1.0 / long.1);
    let copy = long.0 - message / long.1;
    let target = of(load, Contender::Plain, own)? / bar;
    (target > copy).then(|| message / (target - copy))
}

fn ratio(copies: usize, messages: f64) -> f64 {
    to_float(copies) / messages.max(1.0)
}

#[expect(clippy::cast_precision_loss, reason = "numbers of datagrams")]
const fn to_float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copies(lengths: &[u32]) -> Vec<Candidate> {
        let copy = |length: &u32| Candidate {
            length: *length,
            shows_end: true,
        };
        lengths.iter().map(copy).collect()
    }

    fn same(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn equal_copies_make_full_runs() {
        let copies = copies(&[136; 640]);
        assert!(same(podspan(&copies), 64.0) && same(most(&copies, 0.0), 64.0));
    }

    #[test]
    fn a_wide_bound_makes_runs_longer() {
        let copies = copies(&[74, 1472, 1472, 74, 1472, 1472, 1472, 74]);
        // 74 | 1472 1472 74 | 1472 1472 1472 74
        assert!(same(podspan(&copies), 8.0 / 3.0));
        assert!((2.6..2.7).contains(&most(&copies, 0.0)), "nearly");
        assert!(same(most(&copies, 1.0), 8.0));
    }

    #[test]
    fn no_run_is_longer_than_the_longest_possible() {
        let lengths: Vec<u32> = super::super::frames::imix()
            .iter()
            .filter_map(|length| u32::try_from(length + 8).ok())
            .collect();
        let copies = copies(&lengths);
        assert!(podspan(&copies) <= most(&copies, 0.2));
        assert!(most(&copies, 0.2) <= most(&copies, 2.0));
    }

    #[test]
    fn a_copy_that_does_not_show_its_end_gets_no_trailer() {
        let mut copies = copies(&[100, 100, 120]);
        copies[0].shows_end = false;
        assert!((1.5..1.6).contains(&most(&copies, 2.0)), "nearly");
    }
}
