//! Tables and charts of the results. Pure.

use super::bars::Bar;
use super::limits::{PARTS, needed};
use super::plan::{
    Case, Contender, FLOWS, SIZES, SMALL, costs, scales, searches, tunnel_costs, tunnel_searches,
};
use super::results::{Cost, Found, Results, Totals};
use crate::chart::{Axis, Chart, Series};
use crate::statistics::median;
use crate::table::{Align, Table};

/// The tables, each with its title.
#[must_use]
pub fn tables(results: &Results, bars: &[Bar]) -> Vec<(&'static str, Table)> {
    let tables = vec![
        (
            "CPU time per packet, without a quota: medians; ratios to podspan plain with the same load",
            cost_table(results),
        ),
        (
            "CPU time of the whole lab per mirrored packet: what it needs more than without a mirror",
            lab_table(results),
        ),
        (
            "128 B with many flows, sensors, interfaces: ratios to the first of each",
            scale_table(results),
        ),
        (
            "Highest load without loss under the quota: medians; ratios to podspan plain",
            highest_table(results, searches(true), Contender::Plain),
        ),
        (
            "CPU time per packet with encryption, without a quota: medians; ratios with the same load",
            tunnel_table(results),
        ),
        (
            "Highest load without loss under the quota with encryption: medians; ratios to podspan GSO",
            highest_table(results, tunnel_searches(), Contender::Socket),
        ),
        (
            "Copies in a message: podspan's, and the most with trailers of so many times the bytes",
            limit_table(results),
        ),
        ("Bars", bar_table(bars)),
    ];
    let shown = tables.into_iter().filter(|(_, table)| !table.is_empty());
    shown.collect()
}

fn cost_table(results: &Results) -> Table {
    let mut table = Table::new(&[
        ("load", Align::Left),
        ("contender", Align::Left),
        ("CPU/copy", Align::Right),
        ("ratio", Align::Right),
        ("copies/message", Align::Right),
        ("wire bytes", Align::Right),
    ]);
    for (case, contenders) in costs(true) {
        for contender in contenders {
            if contender == Contender::Tc || contender == Contender::Nothing {
                continue;
            }
            let of = (case, contender);
            let Some(own) = results.cost(of, |cost| cost.own_ns) else {
                continue;
            };
            let plain = (case, Contender::Plain);
            let totals =
                |value: fn(&Cost) -> f64| results.cost(of, value).filter(|number| *number > 0.0);
            let run = totals(run_length);
            let wire = results.wire_ratio(case, contender, Contender::Plain);
            table.row([
                case.name(),
                contender.name().to_owned(),
                format!("{own:.0} ns"),
                number(results.cost_ratio(of, plain, |cost| cost.own_ns)),
                run.map_or("-".to_owned(), |run| format!("{run:.1}")),
                number(wire.filter(|wire| *wire > 0.0)),
            ]);
        }
    }
    table
}

fn lab_table(results: &Results) -> Table {
    let mut table = Table::new(&[
        ("load", Align::Left),
        ("contender", Align::Left),
        ("CPU/packet", Align::Right),
        ("ratio to tc", Align::Right),
    ]);
    let case = Case::of(SMALL);
    for contender in [Contender::Tc, Contender::Plain, Contender::Socket] {
        if let Some(cost) = results.lab_cost(case, contender) {
            table.row([
                case.name(),
                contender.name().to_owned(),
                format!("{cost:.0} ns"),
                number(results.lab_ratio(case, contender, Contender::Tc)),
            ]);
        }
    }
    table
}

fn scale_table(results: &Results) -> Table {
    let mut table = Table::new(&[
        ("case", Align::Left),
        ("plain", Align::Right),
        ("GSO", Align::Right),
        ("GSO copies/message", Align::Right),
    ]);
    for case in scales() {
        let base = base(case);
        let ratio = |contender| {
            results.cost_ratio((case, contender), (base, contender), |cost| cost.own_ns)
        };
        let run = results.cost((case, Contender::Socket), run_length);
        if ratio(Contender::Plain).is_some() {
            table.row([
                case.name(),
                number(ratio(Contender::Plain)),
                number(ratio(Contender::Socket)),
                run.map_or("-".to_owned(), |run| format!("{run:.1}")),
            ]);
        }
    }
    table
}

/// What a case of many is compared with.
fn base(case: Case) -> Case {
    let usual = Case::of(SMALL);
    match (case.flows, case.sensors, case.interfaces) {
        (super::plan::MANY, _, _) => Case {
            flows: super::plan::MANY,
            ..usual
        },
        (_, 1, 1) => Case { flows: 1, ..usual },
        _ => usual,
    }
}

fn tunnel_table(results: &Results) -> Table {
    let mut table = Table::new(&[
        ("load", Align::Left),
        ("contender", Align::Left),
        ("CPU/copy", Align::Right),
        ("to plain", Align::Right),
        ("to GSO", Align::Right),
        ("to wireguard-go", Align::Right),
        ("copies/message", Align::Right),
    ]);
    for (case, contenders) in tunnel_costs() {
        for contender in contenders {
            let of = (case, contender);
            let Some(own) = results.cost(of, |cost| cost.own_ns) else {
                continue;
            };
            let to = |other| number(results.cost_ratio(of, (case, other), |cost| cost.own_ns));
            let run = results.cost(of, run_length);
            table.row([
                case.name(),
                contender.name().to_owned(),
                format!("{own:.0} ns"),
                to(Contender::Plain),
                to(Contender::Socket),
                to(Contender::WireguardGo),
                run.map_or("-".to_owned(), |run| format!("{run:.1}")),
            ]);
        }
    }
    table
}

/// Copies in a message; zero where there are no totals.
fn run_length(cost: &Cost) -> f64 {
    cost.totals.as_ref().map_or(0.0, Totals::run_length)
}

fn highest_table(results: &Results, cases: Vec<(Case, Vec<Contender>)>, other: Contender) -> Table {
    let mut table = Table::new(&[
        ("load", Align::Left),
        ("contender", Align::Left),
        ("frames/s", Align::Right),
        ("copies/s", Align::Right),
        ("Mbit/s", Align::Right),
        ("ratio", Align::Right),
    ]);
    for (case, contenders) in cases {
        for contender in contenders {
            let of = (case, contender);
            let Some(frames) = results.highest(of, |found| found.frames_per_second) else {
                continue;
            };
            let value = |value: fn(&Found) -> f64| results.highest(of, value).unwrap_or_default();
            let more = if results.is_generators_end(case, contender) {
                ">= "
            } else {
                ""
            };
            table.row([
                case.name(),
                contender.name().to_owned(),
                format!("{more}{}", whole(frames)),
                whole(value(|found| found.copies_per_second)),
                whole(value(|found| found.bits_per_second / 1e6)),
                number(results.highest_ratio(case, contender, other)),
            ]);
        }
    }
    table
}

fn limit_table(results: &Results) -> Table {
    let parts = PARTS.map(|part| format!("{part}"));
    let mut columns = vec![("load", Align::Left), ("podspan", Align::Right)];
    columns.extend(parts.iter().map(|part| (part.as_str(), Align::Right)));
    columns.push(("needed for the bar", Align::Right));
    let mut table = Table::new(&columns);
    for limit in &results.limits {
        let mut row = vec![limit.load.name(), format!("{:.1}", limit.podspan)];
        row.extend(limit.most.iter().map(|most| format!("{most:.1}")));
        row.push(
            needed(results, limit.load).map_or("-".to_owned(), |needed| format!("{needed:.1}")),
        );
        table.row(row);
    }
    table
}

/// The bars that have a figure.
pub(crate) fn bar_table(bars: &[Bar]) -> Table {
    let mut table = Table::new(&[
        ("bar", Align::Left),
        ("limit", Align::Right),
        ("", Align::Left),
        ("figure", Align::Left),
    ]);
    for bar in bars.iter().filter(|bar| bar.figure.is_some()) {
        let met = match bar.met {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None => "not decided",
        };
        table.row([
            bar.measure.clone(),
            bar.limit.clone(),
            met.to_owned(),
            bar.text.clone(),
        ]);
    }
    table
}

pub(crate) fn number(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.2}"))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate"
)]
fn whole(value: f64) -> String {
    crate::grouped(value.round() as u64)
}

/// The charts, each with the name of its file. All axes are ratios, so that charts of two machines look
/// alike.
#[must_use]
pub fn charts(results: &Results) -> Vec<(&'static str, Chart)> {
    let charts = vec![
        ("loss", loss_chart(results)),
        ("sizes", size_chart(results)),
        ("flows", flow_chart(results)),
    ];
    let drawn = charts
        .into_iter()
        .filter(|(_, chart)| chart.series.iter().any(|series| !series.points.is_empty()));
    drawn.collect()
}

/// The load as a multiple of podspan plain's highest one without loss.
fn loss_chart(results: &Results) -> Chart {
    let mut series = Vec::new();
    for load in [SMALL, super::plan::Load::Web] {
        let case = Case::of(load);
        let unit = results.highest((case, Contender::Plain), |found| found.frames_per_second);
        for contender in [Contender::Plain, Contender::Socket] {
            let found = results
                .found
                .iter()
                .filter(|found| found.case == case && found.contender == contender);
            let points = unit.map_or(Vec::new(), |unit| loss_points(found, unit.max(1.0)));
            series.push(Series {
                name: format!("{}, {}", contender.name(), case.name()),
                points,
            });
        }
    }
    Chart {
        title: "Copies lost or late under a quota of 0.25 CPU".to_owned(),
        x: Axis::linear("offered load (highest of podspan plain without loss = 1)"),
        y: Axis::linear("part of the copies"),
        series,
    }
}

/// Medians of loads of about the same rate, in their order.
fn loss_points<'a>(found: impl Iterator<Item = &'a Found>, unit: f64) -> Vec<(f64, f64)> {
    let steps = found.flat_map(|found| &found.steps);
    let mut points: Vec<(f64, f64)> = steps
        .map(|step| (step.offered_per_second / unit, step.lost))
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let same = |a: &(f64, f64), b: &(f64, f64)| b.0 < 1.04 * a.0;
    let groups = points.chunk_by(same);
    let middle = |group: &[(f64, f64)]| {
        let x = median(group.iter().map(|point| point.0))?;
        Some((x, median(group.iter().map(|point| point.1))?))
    };
    groups.filter_map(middle).collect()
}

const SERIES: [Contender; 4] = [
    Contender::Plain,
    Contender::Bare,
    Contender::Socket,
    Contender::BareSegmented,
];

fn relative(results: &Results, case: Case, contender: Contender) -> Option<f64> {
    let unit = (Case::of(SMALL), Contender::Plain);
    results.cost_ratio((case, contender), unit, |cost| cost.own_ns)
}

fn size_chart(results: &Results) -> Chart {
    let series = SERIES.map(|contender| Series {
        name: contender.name().to_owned(),
        points: SIZES
            .iter()
            .filter_map(|&size| {
                let case = Case::of(super::plan::Load::Size(size));
                Some((size.into(), relative(results, case, contender)?))
            })
            .collect(),
    });
    Chart {
        title: "CPU time per packet by size (podspan plain with 128 bytes = 1)".to_owned(),
        x: Axis::linear("bytes of a frame"),
        y: Axis::linear("CPU time per packet"),
        series: series.into(),
    }
}

fn flow_chart(results: &Results) -> Chart {
    let base = Case::of(SMALL);
    let series = [Contender::Plain, Contender::Socket].map(|contender| Series {
        name: contender.name().to_owned(),
        points: FLOWS
            .iter()
            .filter_map(|&flows| {
                let case = Case { flows, ..base };
                Some((flows.into(), relative(results, case, contender)?))
            })
            .collect(),
    });
    Chart {
        title: "CPU time per packet by number of flows (podspan plain with 64 flows = 1)"
            .to_owned(),
        x: Axis::logarithmic("flows"),
        y: Axis::linear("CPU time per packet"),
        series: series.into(),
    }
}
