//! Results with known numbers, and what the tables, bars and charts say about them.

use std::collections::HashSet;

use super::bars::bars;
use super::plan::{
    Case, Contender, Load, SMALL, costs, scales, searches, through_tunnels, tunnel_costs,
    tunnel_searches,
};
use super::report::{charts, tables};
use super::results::{Cost, Found, Idle, Results, Step, Totals};

fn cost(round: u32, case: Case, contender: Contender, own_ns: f64, lab_ns: f64) -> Cost {
    Cost {
        round,
        case,
        contender,
        frames: 1000,
        copies: 1000,
        own_ns,
        lab_ns,
        reached_per_second: 100_000.0,
        totals: (contender == Contender::Socket || contender == Contender::Plain).then(|| Totals {
            datagrams_sent: 1000,
            messages_sent: 100,
            bytes_sent: 136_000,
            trailer_bytes: if contender == Contender::Socket {
                22_000
            } else {
                0
            },
            arrived: 1000,
            ..Totals::default()
        }),
    }
}

fn found(round: u32, case: Case, contender: Contender, frames_per_second: f64) -> Found {
    Found {
        round,
        case,
        contender,
        frames_per_second,
        copies_per_second: frames_per_second,
        bits_per_second: frames_per_second * 1024.0,
        is_generators_end: false,
        steps: vec![
            Step {
                offered_per_second: frames_per_second,
                lost: 0.0,
            },
            Step {
                offered_per_second: 1.5 * frames_per_second,
                lost: 0.2,
            },
        ],
        totals: None,
    }
}

/// Three rounds on a machine that gets slower, so that only ratios within a round stay.
fn results() -> Results {
    let small = Case::of(SMALL);
    let mut results = Results {
        copy_bits_per_second: 80e9,
        idle: vec![Idle {
            cpu_share: 0.0001,
            resident_kib: 5 << 10,
            program_kib: 9 << 10,
        }],
        ..Results::default()
    };
    for round in 1..=3 {
        let slow = f64::from(round);
        for (contender, own, lab) in [
            (Contender::Nothing, 0.0, 1000.0),
            (Contender::Tc, 0.0, 5000.0),
            (Contender::Socket, 700.0, 1800.0),
            (Contender::Plain, 4200.0, 5500.0),
            (Contender::Bare, 4000.0, 5500.0),
            (Contender::BareSegmented, 400.0, 1900.0),
        ] {
            results
                .costs
                .push(cost(round, small, contender, own * slow, lab * slow));
        }
        for (contender, own) in [
            (Contender::WireguardGo, 3000.0),
            (Contender::Tunnel, 1200.0),
            (Contender::Socket, 600.0),
        ] {
            let case = through_tunnels(SMALL);
            results
                .costs
                .push(cost(round, case, contender, own * slow, 0.0));
        }
        let through = found(round, small, Contender::Tunnel, 100_000.0 / slow);
        results.found.push(through);
        for case in [small, Case::of(Load::Web)] {
            results
                .found
                .push(found(round, case, Contender::Socket, 250_000.0 / slow));
            results
                .found
                .push(found(round, case, Contender::Plain, 50_000.0 / slow));
        }
        results.found.push(found(
            round,
            Case::of(Load::Bulk),
            Contender::Socket,
            3e6 / slow,
        ));
    }
    results
}

#[test]
fn ratios_are_those_of_a_round() {
    let results = results();
    let small = Case::of(SMALL);
    let ratio = |contender, other| {
        results.cost_ratio((small, contender), (small, other), |cost| cost.own_ns)
    };
    assert_eq!(
        ratio(Contender::Socket, Contender::BareSegmented),
        Some(1.75)
    );
    assert_eq!(ratio(Contender::Plain, Contender::Bare), Some(1.05));
    assert_eq!(ratio(Contender::Plain, Contender::Peer), None);
    let lab = results.lab_ratio(small, Contender::Socket, Contender::Tc);
    assert_eq!(lab, Some(0.2));
    let highest = results.highest_ratio(small, Contender::Socket, Contender::Plain);
    assert_eq!(highest, Some(5.0));
    let wire = results.wire_ratio(small, Contender::Socket, Contender::Plain);
    assert!((wire.unwrap() - 200.0 / 178.0).abs() < 1e-9);
}

#[test]
fn each_bar_is_met_or_not() {
    let bars = bars(&results());
    let met = |start: &str| {
        let mut bars = bars.iter();
        bars.find(|bar| bar.measure.starts_with(start)).unwrap().met
    };
    assert_eq!(met("128 B without loss"), Some(true));
    assert_eq!(met("web mix without loss"), Some(true));
    assert_eq!(met("IMIX without loss"), None);
    assert_eq!(met("128 B, CPU of the lab"), Some(true));
    assert_eq!(met("128 B, CPU per packet, GSO"), Some(false));
    assert_eq!(met("128 B, CPU per packet, plain"), Some(true));
    assert_eq!(met("bulk TCP"), Some(true));
    assert_eq!(met("1 to 64 sensors"), None);
    assert_eq!(met("1 to 4 interfaces"), None, "only one was measured");
    assert_eq!(met("CPU without traffic"), Some(true));
    assert_eq!(met("program"), Some(false));
    assert_eq!(met("128 B, CPU per packet, tunnel"), Some(true));
    assert_eq!(met("1400 B, CPU per packet, tunnel"), None);
}

#[test]
fn a_generator_at_its_end_leaves_a_bar_undecided() {
    let mut results = results();
    let is_small = |found: &&mut Found| found.case == Case::of(SMALL);
    for found in results.found.iter_mut().filter(is_small) {
        if found.contender == Contender::Socket {
            found.frames_per_second /= 2.0;
            found.is_generators_end = true;
        }
    }
    let bars = bars(&results);
    assert_eq!((bars[0].figure, bars[0].met), (Some(2.5), None));
}

#[test]
fn tables_and_charts_show_what_was_measured() {
    let results = results();
    let bars = bars(&results);
    let tables = tables(&results, &bars);
    let texts: Vec<String> = tables.iter().map(|(_, table)| table.to_string()).collect();
    let text = texts.concat();
    for part in [
        "podspan GSO",
        "8400 ns",
        "0.17",
        "1.12",
        "NOT MET",
        "125,000",
        "128 B, 20,000 frames/s",
        "2400 ns",
        "0.40x",
        "podspan GSO + wireguard-go",
        "50,000",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("sensors,"), "{text}");
    for (name, chart) in charts(&results) {
        let svg = chart.svg().unwrap();
        assert!(svg.len() < 40_000, "{name} has {} bytes", svg.len());
    }
}

#[test]
fn totals_that_differ_from_the_receiver_are_counted() {
    let mut results = results();
    assert_eq!(results.disagreements(), (9, 0));
    if let Some(totals) = results
        .costs
        .iter_mut()
        .find_map(|cost| cost.totals.as_mut())
    {
        totals.arrived -= 1;
    }
    assert_eq!(results.disagreements(), (9, 1));
}

#[test]
fn a_plan_has_each_case_once() {
    for with_peer in [false, true] {
        for cases in [costs(with_peer), searches(with_peer)] {
            let names: HashSet<String> = cases.iter().map(|(case, _)| case.name()).collect();
            assert_eq!(names.len(), cases.len());
            for (_, contenders) in cases {
                assert!(contenders.contains(&Contender::Plain));
                assert_eq!(contenders.contains(&Contender::Peer), with_peer);
            }
        }
    }
    for cases in [tunnel_costs(), tunnel_searches()] {
        let names: HashSet<String> = cases.iter().map(|(case, _)| case.name()).collect();
        assert_eq!(names.len(), cases.len());
        for (_, contenders) in cases {
            assert!(contenders.contains(&Contender::Tunnel));
            assert!(contenders.contains(&Contender::Socket));
        }
    }
    let names: HashSet<String> = scales().iter().map(Case::name).collect();
    assert_eq!(names.len(), scales().len());
    assert!(names.contains("128 B, 1,000,000 flows"));
}
