//! Results with known numbers, and what the tables, bars and charts say about them.

use std::collections::HashSet;

use super::bulk::Bulk;
use super::capture::{Beside, Kind, Sent};
use super::plan::{Direction, Mirror};
use super::report::{charts, tables};
use super::results::{Copies, Latency, Results, Throughput, percentiles};

/// Three rounds on a machine that gets slower, so that only ratios within a round stay.
fn results() -> Results {
    let mut results = Results {
        copy_nanos_per_kib: 50.0,
        half_per_second: 20_000.0,
        ..Results::default()
    };
    for round in 1..=3 {
        let slow = f64::from(round);
        for (mirror, rate, p99, bytes) in [
            (Mirror::Nothing, 10e9, 100.0, 0),
            (Mirror::Tc, 8e9, 150.0, 1_000_000_000),
            (Mirror::Podspan, 9e9, 120.0, 250_000_000),
            (Mirror::Rejecting, 9.9e9, 101.0, 0),
        ] {
            for direction in Direction::ALL {
                results.throughput.push(Throughput {
                    round,
                    direction,
                    mirror,
                    bulk: Bulk {
                        bits_per_second: rate / slow,
                        bytes: 1e9,
                        client_cpu: 0.5,
                        pod_cpu: 0.25,
                        retransmits: 0,
                    },
                    copies: Copies {
                        bytes,
                        ..Copies::default()
                    },
                    others: 0.01,
                });
            }
            results.latency.push(Latency {
                round,
                mirror,
                micros: [50.0, p99, 500.0].map(|micros| micros * slow),
                missing: 0,
                copies: Copies::default(),
                others: 0.02,
            });
        }
        let full = Kind {
            kib: 2 << 10,
            is_read: false,
            ..Kind::USUAL
        };
        for (beside, nanos) in [
            (Beside::Mirror(Mirror::Nothing), 100.0),
            (Beside::Ring(full), 110.0),
            (Beside::Ring(Kind::USUAL), 210.0),
        ] {
            results.sent.push(Sent {
                round,
                beside,
                nanos_per_kib: nanos * slow,
                dropped: 0.0,
            });
        }
    }
    results
}

#[test]
fn each_bar_is_met_or_not() {
    let bars = results().bars();
    let met: Vec<_> = bars.iter().map(|bar| bar.met).collect();
    let expected = [true, true, false, true, true, true, true];
    assert_eq!(met, expected.map(Some));
    assert_eq!((bars[0].figure, bars[2].figure), (Some(1.125), Some(1.2)));
    let bars = Results::default().bars();
    assert!(
        bars.iter()
            .all(|bar| bar.met.is_none() && bar.figure.is_none())
    );
}

#[test]
fn the_copy_into_the_ring_is_what_a_full_ring_does_not_cost() {
    // Medians: of the second round.
    assert_eq!(results().copy_ratio(), Some(4.0));
    assert_eq!(Results::default().copy_ratio(), None);
}

#[test]
fn tables_and_charts_show_what_was_measured() {
    let results = results();
    let tables = tables(&results);
    let texts = tables
        .iter()
        .flat_map(|(title, table)| [title.clone(), table.to_string()]);
    let text: String = texts.collect();
    for part in [
        "1.12",
        "0.25",
        "20000 requests",
        "240 us",
        "1.20",
        "2.10",
        "NOT MET",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let svg = charts(&results)[0].1.svg().unwrap();
    assert!(svg.contains("tc mirred"), "{svg}");
    assert!(charts(&Results::default()).is_empty());
}

#[test]
fn percentiles_are_values() {
    let values: Vec<f64> = (1..=2000).rev().map(f64::from).collect();
    assert_eq!(percentiles(&values), Some([1000.0, 1980.0, 1998.0]));
    assert_eq!(percentiles(&[7.0]), Some([7.0; 3]));
    assert_eq!(percentiles(&[]), None);
}

#[test]
fn each_case_beside_has_its_name() {
    let all = Beside::all();
    let names: HashSet<String> = all.iter().map(|beside| beside.name()).collect();
    assert_eq!(names.len(), all.len());
    assert_eq!(all[0], Beside::Mirror(Mirror::Nothing));
    assert!(all.contains(&Beside::Ring(Kind::USUAL)));
    assert_eq!(Kind::USUAL.block_kib << 10, ::capture::BLOCK_LEN);
}
