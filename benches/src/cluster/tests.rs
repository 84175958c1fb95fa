//! From numbers of rounds to figures, tables and files, without a cluster.

use std::fs;

use super::{Case, Client, Results, Round, Sidecar, Summary, summarize, tables, write};

/// A short run on kind, as it was written.
const RECORDED: &str = include_str!("recorded.json");

fn recorded() -> Results {
    serde_json::from_str(RECORDED).unwrap()
}

fn figures(results: &Results) -> Vec<Summary> {
    summarize(results)
}

#[test]
fn the_files_of_a_run_are_written_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("a/b");
    let results = recorded();
    let (tables, files) = write(&results, &output).unwrap();
    let names: Vec<_> = files
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "cluster.json",
            "cluster-latency.svg",
            "cluster-mirrored.svg",
            "cluster-cpu.svg"
        ]
    );
    let text = fs::read_to_string(output.join("cluster.json")).unwrap();
    let again: Results = serde_json::from_str(&text).unwrap();
    assert_eq!(again, results);
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        document["summary"].as_array().unwrap().len(),
        results.cases.len()
    );
    for path in &files[1..] {
        let svg = fs::read_to_string(path).unwrap();
        assert!(
            svg.starts_with("<svg") && svg.contains("<polyline"),
            "{}",
            path.display()
        );
    }
    for title in [
        "HTTP, one connection",
        "TCP, one connection",
        "UDP datagrams",
        "The sidecar",
    ] {
        assert!(tables.contains(title), "{tables}");
    }
}

#[test]
fn ratios_are_of_pairs_and_counts_are_sums() {
    let mut results = recorded();
    results.cases.truncate(1);
    let [case] = results.cases.as_mut_slice() else {
        panic!("one case");
    };
    case.rounds = [(100.0, 110.0), (1000.0, 1100.0), (200.0, 260.0)]
        .map(|(without, with)| round(&case.rounds[0], without, with))
        .to_vec();
    let summary = &figures(&results)[0];
    let p99 = summary.p99_us.unwrap();
    assert_eq!(
        (p99.without.to_bits(), p99.with.to_bits()),
        (200_f64.to_bits(), 260_f64.to_bits())
    );
    assert!((p99.ratio.unwrap() - 1.1).abs() < 1e-9);
    assert_eq!((summary.failed_without, summary.failed_with), (0, 3));
    let usage = &summary.sidecar;
    assert_eq!((usage.frames, usage.ring_drops), (3000, 30));
    assert!((usage.mirrored.unwrap() - 0.99).abs() < 1e-9);
    assert!((usage.cpu_us_per_frame.unwrap() - 5000.0 / 990.0).abs() < 1e-9);
    let seconds = f64::from(results.plan.seconds);
    assert!((usage.cpu.unwrap() - 0.005 / seconds).abs() < 1e-9);
    assert!((usage.cpu_us_per_copy.unwrap() * 1000.0 - 5000.0).abs() < 1e-9);
    assert!((usage.throttled.unwrap() - 0.2).abs() < 1e-9);
}

#[test]
fn what_was_not_measured_is_printed_as_such() {
    let mut results = recorded();
    for round in results
        .cases
        .iter_mut()
        .flat_map(|case: &mut Case| &mut case.rounds)
    {
        round.sidecar.cpu_us = None;
        round.sidecar.throttled = None;
    }
    let text = tables(&results, &figures(&results));
    assert!(text.contains("throttled periods: not measured;"), "{text}");
    assert!(text.contains("CPU time: not measured;"), "{text}");
}

#[test]
fn a_load_that_the_cluster_does_not_carry_is_marked() {
    let mut results = recorded();
    let text = tables(&results, &figures(&results));
    assert!(!text.contains("does not carry"), "{text}");
    for round in &mut results.cases[0].rounds {
        round.without.rate /= 2.0;
    }
    let text = tables(&results, &figures(&results));
    assert!(
        text.contains("* the cluster does not carry this load"),
        "{text}"
    );
}

/// Numbers that are easy to compute with.
fn round(like: &Round, p99_without: f64, p99_with: f64) -> Round {
    let client = |p99, failed| Client {
        failed,
        p99_us: Some(p99),
        ..like.without
    };
    Round {
        without: client(p99_without, 0),
        with: client(p99_with, 1),
        sidecar: Sidecar {
            cpu_us: Some(5000.0),
            periods: Some(10),
            throttled: Some(2),
            ring_packets: 1000,
            ring_drops: 10,
            frames_mirrored: 990,
            frames_dropped: 0,
            copies_sent: 1000,
            ..like.sidecar
        },
        ..like.clone()
    }
}
