//! Tests of the search for runs. The oracles follow the rules of the kernel and do not use the search.

use super::*;
use proptest::prelude::*;

const NONE: TrailerBound = TrailerBound::NONE;
const FIFTH: TrailerBound = TrailerBound::DEFAULT;

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

fn divided(candidates: &[Candidate], bound: TrailerBound) -> Vec<Run> {
    let mut search = Search::default();
    search.divide(candidates.iter().copied(), bound).to_owned()
}

/// The count and the segment of each run.
fn found(candidates: &[Candidate], bound: TrailerBound) -> Vec<(usize, u32)> {
    let runs = divided(candidates, bound);
    runs.iter()
        .map(|run| (run.count as usize, run.segment))
        .collect()
}

/// The count and the segment of each run.
type Runs = &'static [(usize, u32)];
type Row = (&'static str, Vec<Candidate>, Runs, Runs);

/// Each row: the datagrams, then the count and the segment of each run without and with trailers.
#[test]
fn the_table_of_cases() {
    let rows: [Row; 19] = [
        ("none", vec![], &[], &[]),
        ("one", vec![ip(100)], &[(1, 100)], &[(1, 100)]),
        ("equal", vec![ip(100); 5], &[(5, 100)], &[(5, 100)]),
        (
            "64 at most",
            vec![ip(100); 99],
            &[(64, 100), (35, 100)],
            &[(64, 100), (35, 100)],
        ),
        (
            "65,000 bytes at most",
            vec![ip(1458); 60],
            &[(44, 1458), (16, 1458)],
            &[(44, 1458), (16, 1458)],
        ),
        (
            "a TSO frame: the last is shorter",
            vec![ip(1458), ip(1458), ip(300)],
            &[(3, 1458)],
            &[(3, 1458)],
        ),
        (
            "after a shorter one nothing fits without a trailer",
            vec![ip(1000), ip(990), ip(1000)],
            &[(2, 1000), (1, 1000)],
            &[(3, 1000)],
        ),
        (
            "a longer one makes the shorter ones before it longer",
            vec![ip(1000), ip(1000), ip(1020)],
            &[(2, 1000), (1, 1020)],
            &[(3, 1020)],
        ),
        (
            "a fifth of all bytes at most",
            vec![ip(1458), ip(110), ip(1458)],
            &[(2, 1458), (1, 1458)],
            &[(2, 1458), (1, 1458)],
        ),
        (
            "other runs pay for the trailers of one",
            [vec![ip(600), ip(110)], vec![ip(600); 4]].concat(),
            &[(2, 600), (4, 600)],
            &[(6, 600)],
        ),
        (
            "a trailer that costs more than a message",
            [vec![ip(110), ip(1458)], vec![ip(110); 20]].concat(),
            &[(1, 110), (2, 1458), (19, 110)],
            &[(1, 110), (2, 1458), (19, 110)],
        ),
        (
            "a trailer that costs less",
            [vec![ip(600)], vec![ip(1458); 9]].concat(),
            &[(1, 600), (9, 1458)],
            &[(10, 1458)],
        ),
        (
            "where the end costs least",
            vec![ip(1000), ip(100), ip(110), ip(110), ip(110)],
            &[(2, 1000), (3, 110)],
            &[(2, 1000), (3, 110)],
        ),
        (
            "a run ends early for a cheaper one",
            vec![ip(900), ip(100), ip(100), ip(101), ip(102)],
            &[(2, 900), (1, 100), (1, 101), (1, 102)],
            &[(2, 900), (3, 102)],
        ),
        (
            "a frame without a visible end gets no trailer",
            vec![other(1000), ip(1020), ip(1020)],
            &[(1, 1000), (2, 1020)],
            &[(1, 1000), (2, 1020)],
        ),
        (
            "it can be the last one",
            vec![ip(1020), other(1000), ip(1020)],
            &[(2, 1020), (1, 1020)],
            &[(2, 1020), (1, 1020)],
        ),
        (
            "it fits where the length is its own",
            vec![ip(1000), other(1020), ip(1010), ip(1020)],
            &[(1, 1000), (2, 1020), (1, 1020)],
            &[(4, 1020)],
        ),
        (
            "and then nothing longer fits",
            vec![other(1000), other(1000), ip(990), ip(1001)],
            &[(3, 1000), (1, 1001)],
            &[(3, 1000), (1, 1001)],
        ),
        ("two", vec![other(60); 2], &[(2, 60)], &[(2, 60)]),
    ];
    for (what, candidates, without, with) in rows {
        assert_eq!(found(&candidates, NONE), without, "{what}, no trailers");
        assert_eq!(found(&candidates, FIFTH), with, "{what}, with trailers");
    }
}

#[test]
fn more_trailers_than_the_bound_allows_are_not_used() {
    // A large one after every two small ones: the price alone would join them.
    let candidates: Vec<Candidate> = [ip(590), ip(74), ip(74)].repeat(60);
    let mut search = Search::default();
    search.read(candidates.iter().copied());
    search.forget_costs();
    let unbounded = search.try_chosen(search.price(PRICE));
    assert!(!FIFTH.allows(unbounded, search.on_wire));
    let unlimited = search.tried.len();
    let runs = divided(&candidates, FIFTH);
    check(&candidates, &runs, FIFTH).unwrap();
    assert!(unlimited < runs.len() && runs.len() < fewest_without_trailers(&candidates));
    let trailers: u32 = runs.iter().map(|run| run.trailers).sum();
    assert!(trailers * 6 > on_wire(&candidates), "{trailers}");
}

#[test]
fn large_datagrams_pay_for_the_trailers_of_small_ones() {
    // A run of 400 and 1458 would exceed the bound by itself; all together do not.
    let candidates = [vec![ip(1458); 40], [ip(400), ip(1458)].repeat(8)].concat();
    let runs = divided(&candidates, FIFTH);
    check(&candidates, &runs, FIFTH).unwrap();
    assert!(runs.len() <= 3, "{runs:?}");
    assert!(fewest_without_trailers(&candidates) >= 9);
}

fn on_wire(candidates: &[Candidate]) -> u32 {
    candidates.iter().map(|one| one.length + 42).sum()
}

/// The bytes of the trailers if these datagrams are one run; `None` if the kernel's rules do not allow it, or a
/// datagram would get a trailer that must not.
fn trailers_of(candidates: &[Candidate], trailers: bool) -> Option<u32> {
    let (last, others) = candidates.split_last()?;
    let segment = candidates.iter().map(|one| one.length).max()?;
    let padding: u32 = others.iter().map(|one| segment - one.length).sum();
    let fits = |one: &Candidate| one.length == segment || trailers && one.shows_end;
    let bytes: u32 = others.iter().map(|_| segment).sum();
    let is_run = candidates.len() <= 64 && bytes + last.length <= 65_000 && others.iter().all(fits);
    is_run.then_some(padding)
}

/// The fewest runs without trailers: the longest possible, one after the other.
fn fewest_without_trailers(candidates: &[Candidate]) -> usize {
    let (mut rest, mut runs) = (candidates, 0);
    while !rest.is_empty() {
        let fits = |count: &usize| trailers_of(&rest[..*count], false).is_some();
        let count = (1..=rest.len()).take_while(fits).last().unwrap_or(1);
        rest = &rest[count..];
        runs += 1;
    }
    runs
}

/// Whether runs are a division of the datagrams that keeps all rules.
fn check(candidates: &[Candidate], runs: &[Run], bound: TrailerBound) -> Result<(), TestCaseError> {
    let mut rest = candidates;
    for run in runs {
        prop_assert!(run.count > 0 && run.count as usize <= rest.len());
        let (these, after) = rest.split_at(run.count as usize);
        prop_assert_eq!(trailers_of(these, bound != NONE), Some(run.trailers));
        let longest = these.iter().map(|one| one.length).max();
        prop_assert_eq!(Some(run.segment), longest);
        for one in these.iter().take(run.count as usize - 1) {
            prop_assert!(run.segment - one.length <= TRAILER_MAX);
        }
        rest = after;
    }
    prop_assert!(rest.is_empty(), "every datagram once");
    let padding: u32 = runs.iter().map(|run| run.trailers).sum();
    let allowed = on_wire(candidates) * u32::from(bound.percent()) / 100;
    prop_assert!(padding <= allowed, "{} of {}", padding, allowed);
    prop_assert!(runs.len() <= fewest_without_trailers(candidates));
    Ok(())
}

/// The least cost of all divisions, by trying each.
fn least_cost(candidates: &[Candidate], price: u32) -> u32 {
    (1..=candidates.len())
        .filter_map(|count| {
            let (first, rest) = candidates.split_at(count);
            Some(price + trailers_of(first, true)? + least_cost(rest, price))
        })
        .min()
        .unwrap_or(0)
}

/// The same for long sequences: the least cost up to each datagram, from the first on.
fn least_cost_of_many(candidates: &[Candidate], price: u32) -> u32 {
    let mut costs = vec![0];
    for end in 1..=candidates.len() {
        let cost = |start: usize| {
            let trailers = trailers_of(&candidates[start..end], true)?;
            Some(costs[start] + price + trailers)
        };
        let least = (end.saturating_sub(64)..end).filter_map(cost).min();
        costs.push(least.unwrap());
    }
    costs[candidates.len()]
}

/// The cost that the search found, and that of the runs that it chose.
fn chosen_cost(candidates: &[Candidate], price: u32) -> (u32, u32) {
    let mut search = Search::default();
    search.read(candidates.iter().copied());
    search.forget_costs();
    search.try_chosen(price);
    let cost = search.tried.iter().map(|run| price + run.trailers).sum();
    (search.chosen(0, price).map_or(0, |(_, cost)| cost), cost)
}

fn any_candidate() -> impl Strategy<Value = Candidate> {
    let length = prop_oneof![
        Just(74_u32),
        Just(598),
        Just(1458),
        68_u32..1459,
        90_u32..130,
        8000_u32..9000,
        20_000_u32..33_000,
    ];
    (length, prop::bool::weighted(0.8))
        .prop_map(|(length, shows_end)| Candidate { length, shows_end })
}

/// Single datagrams, and many equal ones.
fn any_sequence() -> impl Strategy<Value = Vec<Candidate>> {
    let count = prop_oneof![4 => Just(1_usize), 1 => 1_usize..100];
    let equal = (any_candidate(), count).prop_map(|(one, count)| vec![one; count]);
    prop::collection::vec(equal, 0..60).prop_map(|sequence| sequence.concat())
}

proptest! {
    #[test]
    fn runs_obey_the_rules_and_trailers_their_bound(
        candidates in any_sequence(), percent in 0_u8..=100,
    ) {
        let bound = TrailerBound::new(percent).unwrap();
        check(&candidates, &divided(&candidates, bound), bound)?;
    }

    /// The runs that are taken without a search are those that it finds.
    #[test]
    fn full_runs_at_the_start_cost_no_more_than_a_search(
        first in any_candidate(), count in 1_usize..200, then in any_sequence(), price in 1_u32..4000,
    ) {
        let candidates = [vec![first; count], then].concat();
        let mut rest = candidates.iter().copied();
        let mut cost = 0;
        while let Some((run, bytes)) = full(&mut rest, price) {
            let these = &candidates[candidates.len() - rest.len() - run.count as usize..];
            let lengths = these.iter().take(run.count as usize).map(|one| one.length);
            prop_assert_eq!(bytes, lengths.sum::<u32>());
            cost += price;
        }
        let rest: Vec<Candidate> = rest.collect();
        let least = least_cost_of_many(&candidates, price);
        prop_assert_eq!(cost + least_cost_of_many(&rest, price), least);
    }

    /// Small and large ones in any number: none of them may exceed the bound.
    #[test]
    fn no_order_of_small_and_large_exceeds_the_bound(
        lengths in prop::collection::vec(prop_oneof![3 => Just(74_u32), 2 => Just(598), 1 => Just(1472)], 1..300),
    ) {
        let candidates: Vec<Candidate> = lengths.into_iter().map(ip).collect();
        check(&candidates, &divided(&candidates, FIFTH), FIFTH)?;
    }

    #[test]
    fn no_other_division_of_a_few_costs_less(
        candidates in prop::collection::vec(any_candidate(), 1..=10),
        price in 1_u32..4000,
    ) {
        let least = least_cost(&candidates, price);
        prop_assert_eq!(chosen_cost(&candidates, price), (least, least));
    }

    #[test]
    fn no_other_division_of_many_costs_less(candidates in any_sequence(), price in 1_u32..4000) {
        let least = least_cost_of_many(&candidates, price);
        prop_assert_eq!(chosen_cost(&candidates, price), (least, least));
    }

    #[test]
    fn what_was_divided_before_has_no_effect(
        before in any_sequence(), candidates in any_sequence(), percent in 0_u8..=100,
    ) {
        let mut search = Search::default();
        let bound = TrailerBound::new(percent).unwrap();
        search.divide(before.iter().copied(), FIFTH);
        let again = search.divide(candidates.iter().copied(), bound);
        prop_assert_eq!(again, divided(&candidates, bound));
    }
}
