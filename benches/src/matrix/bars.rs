//! The bars that the figures must reach, each with its figure. Pure.

use serde::Serialize;

use super::plan::{Case, Contender, Load, SMALL, scales, tunnel_costs};
use super::results::{Cost, Idle, Results};
use crate::statistics::median;

/// A bar.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bar {
    /// What is measured.
    pub measure: String,
    /// The limit.
    pub limit: String,
    /// The figure; `None` where it was not measured.
    pub figure: Option<f64>,
    /// The figure with its unit.
    pub text: String,
    /// Whether the limit holds.
    pub met: Option<bool>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

/// A bar with its figure.
pub(crate) fn bar(measure: &str, limit: Limit, figure: Option<f64>, unit: &str) -> Bar {
    let (sign, number, met) = match limit {
        Limit::AtLeast(number) => (">=", number, figure.map(|figure| figure >= number)),
        Limit::AtMost(number) => ("<=", number, figure.map(|figure| figure <= number)),
    };
    Bar {
        measure: measure.to_owned(),
        limit: format!("{sign} {number}{unit}"),
        figure,
        text: figure.map_or("not measured".to_owned(), |figure| {
            format!("{figure:.2}{unit}")
        }),
        met,
    }
}

/// All bars.
#[must_use]
pub fn bars(results: &Results) -> Vec<Bar> {
    use Contender::{Bare, BareSegmented, Plain, Socket, SocketHalfTrailers, Tc};
    use Limit::{AtLeast, AtMost};
    let (small, imix, web, bulk) = (
        Case::of(SMALL),
        Case::of(Load::Imix),
        Case::of(Load::Web),
        Case::of(Load::Bulk),
    );
    let own = |cost: &Cost| cost.own_ns;
    let quota = |name: &str, contender, case, least| {
        let measure = format!("{name} without loss under the quota, GSO / plain");
        let figure = results.highest_ratio(case, contender, Plain);
        let mut bar = bar(&measure, AtLeast(least), figure, "x");
        if results.is_generators_end(case, contender) {
            bar.text.push_str(" or more: the generator was at its end");
            // The true figure can be above the limit.
            bar.met = bar.met.filter(|met| *met);
        }
        bar
    };
    let against = |name: &str, contender, other, most| {
        let figure = results.cost_ratio((small, contender), (small, other), own);
        bar(name, AtMost(most), figure, "x")
    };
    let gbits = results.highest((bulk, Socket), |found| found.bits_per_second / 1e9);
    let mut bulk = bar(
        "bulk TCP without loss under the quota, GSO",
        AtLeast(1.5),
        gbits,
        " Gbit/s",
    );
    if let Some(gbits) = gbits.filter(|_| results.copy_bits_per_second > 0.0) {
        let share = gbits * 1e9 / results.copy_bits_per_second;
        bulk.text = format!("{}, {share:.3} of the speed of a copy in memory", bulk.text);
    }
    let mut bars = vec![
        quota("128 B", Socket, small, 5.0),
        quota("web mix", Socket, web, 3.5),
        quota("web mix, TRAILERS=50%,", SocketHalfTrailers, web, 3.5),
        quota("IMIX", Socket, imix, 1.8),
        bar(
            "IMIX, bytes on the wire, GSO / plain",
            AtMost(1.2),
            results.wire_ratio(imix, Socket, Plain),
            "x",
        ),
        bar(
            "128 B, CPU of the lab per mirrored packet, GSO / tc mirred + vxlan",
            AtMost(0.25),
            results.lab_ratio(small, Socket, Tc),
            "x",
        ),
        against(
            "128 B, CPU per packet, GSO / bare UDP_SEGMENT",
            Socket,
            BareSegmented,
            1.5,
        ),
        against("128 B, CPU per packet, plain / bare", Plain, Bare, 1.05),
        bulk,
    ];
    for contender in [Socket, Plain] {
        bars.extend(scale_bars(results, contender));
    }
    bars.extend(idle_bars(&results.idle));
    bars.extend(tunnel_bars(results));
    bars
}

/// The largest difference of CPU time per packet when one number is varied.
fn scale_bars(results: &Results, contender: Contender) -> [Bar; 3] {
    let usual = Case::of(SMALL);
    let worst = |name: &str, varied: fn(&Case) -> bool| {
        let cases: Vec<Case> = scales().into_iter().filter(varied).collect();
        let first = cases.first().copied().unwrap_or(usual);
        let others = cases.iter().skip(1).filter_map(|case| {
            results.cost_ratio((*case, contender), (first, contender), |cost| cost.own_ns)
        });
        let worst = others.reduce(f64::max);
        let measure = format!("{name}, CPU per packet, {}", contender.name());
        bar(&measure, Limit::AtMost(1.1), worst, "x")
    };
    [
        worst("1 to 1,000,000 flows", |case| {
            (case.sensors, case.interfaces) == (1, 1) && case.flows != super::plan::MANY
        }),
        worst("1 to 64 sensors", |case| {
            (case.flows, case.interfaces) == (super::plan::MANY, 1)
        }),
        worst("1 to 4 interfaces", |case| {
            (case.flows, case.sensors) == (Case::FLOWS, 1)
        }),
    ]
}

fn tunnel_bars(results: &Results) -> impl Iterator<Item = Bar> {
    use Contender::{Tunnel, WireguardGo};
    tunnel_costs().into_iter().map(|(case, _)| {
        let measure = format!(
            "{}, CPU per packet, tunnel / wireguard-go",
            case.load.name()
        );
        let figure = results.cost_ratio((case, Tunnel), (case, WireguardGo), |cost| cost.own_ns);
        bar(&measure, Limit::AtMost(0.5), figure, "x")
    })
}

fn idle_bars(idle: &[Idle]) -> [Bar; 3] {
    let of = |value: fn(&Idle) -> f64| median(idle.iter().map(value));
    [
        bar(
            "CPU without traffic, of a core",
            Limit::AtMost(0.05),
            of(|idle| 100.0 * idle.cpu_share),
            " %",
        ),
        bar(
            "resident memory apart from the ring",
            Limit::AtMost(8.0),
            of(|idle| to_mib(idle.resident_kib)),
            " MiB",
        ),
        bar(
            "program",
            Limit::AtMost(8.0),
            of(|idle| to_mib(idle.program_kib)),
            " MiB",
        ),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "sizes in KiB")]
fn to_mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
