//! Tables and charts of the results. Pure.

use super::capture::Beside;
use super::plan::{Direction, Mirror};
use super::results::{Latency, Results, Throughput};
use crate::chart::{Axis, Chart, Series};
use crate::matrix::report::{bar_table, number};
use crate::table::{Align, Table};

/// The tables, each with its title.
#[must_use]
pub fn tables(results: &Results) -> Vec<(String, Table)> {
    let half = results.half_per_second;
    let tables = vec![
        (
            "TCP throughput of the application: medians; ratios of each round".to_owned(),
            throughput_table(results),
        ),
        (
            format!("Latency of {half:.0} requests a second: medians; ratios to no mirror of each round"),
            latency_table(results),
        ),
        (
            "CPU time of the application's sending thread: medians; ratios to no mirror of each round"
                .to_owned(),
            ring_table(results),
        ),
        ("Bars".to_owned(), bar_table(&results.bars())),
    ];
    let shown = tables.into_iter().filter(|(_, table)| !table.is_empty());
    shown.collect()
}

fn throughput_table(results: &Results) -> Table {
    let mut table = Table::new(&[
        ("data", Align::Left),
        ("mirror", Align::Left),
        ("Gbit/s", Align::Right),
        ("to none", Align::Right),
        ("to tc", Align::Right),
        ("CPU client", Align::Right),
        ("CPU pod", Align::Right),
        ("CPU podspan", Align::Right),
        ("copied", Align::Right),
    ]);
    for direction in Direction::ALL {
        for mirror in Mirror::ALL {
            let of = |value: fn(&Throughput) -> f64| results.bulk(direction, mirror, value);
            let Some(rate) = of(|turn| turn.bulk.bits_per_second / 1e9) else {
                continue;
            };
            let ratio = |base| number(results.bulk_ratio(direction, mirror, base));
            table.row([
                direction.name().to_owned(),
                mirror.name().to_owned(),
                format!("{rate:.2}"),
                ratio(Mirror::Nothing),
                ratio(Mirror::Tc),
                number(of(|turn| turn.bulk.client_cpu)),
                number(of(|turn| turn.bulk.pod_cpu)),
                number(of(|turn| turn.copies.cpu)),
                number(of(Throughput::copied)),
            ]);
        }
    }
    table
}

fn latency_table(results: &Results) -> Table {
    let mut table = Table::new(&[
        ("mirror", Align::Left),
        ("p50", Align::Right),
        ("p99", Align::Right),
        ("p99.9", Align::Right),
        ("p50 ratio", Align::Right),
        ("p99 ratio", Align::Right),
        ("p99.9 ratio", Align::Right),
        ("ring drops", Align::Right),
    ]);
    for mirror in Mirror::ALL {
        let micros = |index: usize| {
            let value = move |turn: &Latency| turn.micros[index];
            let micros = results.requests(mirror, value);
            (micros, results.latency_ratio(mirror, value))
        };
        let all = [0, 1, 2].map(micros);
        if all[0].0.is_none() {
            continue;
        }
        let shown = all.map(|(micros, _)| format!("{:.0} us", micros.unwrap_or_default()));
        let ratios = all.map(|(_, ratio)| number(ratio));
        let name = [mirror.name().to_owned()];
        let drops = results.requests(mirror, |turn| to_float(turn.copies.ring_drops));
        let drops = drops.filter(|_| mirror == Mirror::Podspan);
        let drops = [drops.map_or("-".to_owned(), |drops| format!("{drops:.0}"))];
        table.row(name.into_iter().chain(shown).chain(ratios).chain(drops));
    }
    table
}

#[expect(clippy::cast_precision_loss, reason = "a number of frames")]
fn to_float(number: u64) -> f64 {
    number as f64
}

fn ring_table(results: &Results) -> Table {
    let mut table = Table::new(&[
        ("beside", Align::Left),
        ("CPU/KiB", Align::Right),
        ("ratio", Align::Right),
        ("dropped", Align::Right),
    ]);
    for beside in Beside::all() {
        let Some(nanos) = results.beside(beside, |turn| turn.nanos_per_kib) else {
            continue;
        };
        let dropped = results.beside(beside, |turn| turn.dropped);
        table.row([
            beside.name(),
            format!("{nanos:.1} ns"),
            number(results.beside_ratio(beside)),
            number(dropped),
        ]);
    }
    if let Some(ratio) = results.copy_ratio() {
        let nanos = results.copy_nanos_per_kib;
        table.row([
            "a copy in memory".to_owned(),
            format!("{nanos:.1} ns"),
            String::new(),
            String::new(),
        ]);
        table.row([
            "the copy into podspan's ring / a copy in memory".to_owned(),
            String::new(),
            format!("{ratio:.2}"),
            String::new(),
        ]);
    }
    table
}

/// The charts, each with the name of its file.
#[must_use]
pub fn charts(results: &Results) -> Vec<(&'static str, Chart)> {
    let series = Mirror::ALL.map(|mirror| Series {
        name: mirror.name().to_owned(),
        points: [(50.0, 0), (99.0, 1), (99.9, 2)]
            .into_iter()
            .filter_map(|(percent, index)| {
                let ratio = results.latency_ratio(mirror, |turn| turn.micros[index])?;
                Some((percent_place(percent), ratio))
            })
            .collect(),
    });
    let chart = Chart {
        title: "Latency of the application at half load (no mirror = 1)".to_owned(),
        x: Axis::logarithmic(
            "requests that are not slower, one of (2: p50; 100: p99; 1000: p99.9)",
        ),
        y: Axis::linear("latency"),
        series: series.into(),
    };
    let has_points = chart.series.iter().any(|one| !one.points.is_empty());
    has_points
        .then_some(("latency", chart))
        .into_iter()
        .collect()
}

/// One of so many requests is slower: the place of a percentile on an axis of decades.
fn percent_place(percent: f64) -> f64 {
    100.0 / (100.0 - percent)
}
