//! The figures as tables for the terminal, and as charts.

use super::results::{Offered, Results};
use super::summary::{Compared, Summary, Usage};
use crate::chart::{Axis, Chart, Series};
use crate::table::{Align, Table, grouped};

const NOT_MEASURED: &str = "not measured";

/// All tables, with what is to be known to read them.
#[must_use]
pub fn tables(results: &Results, summaries: &[Summary]) -> String {
    let environment = &results.environment;
    let mut text: String = format!(
        "{} rounds of {} s; the sidecar has {} CPU and {} of memory; application on {} ({}, kernel {}), load \
         on {}\n",
        results.plan.rounds,
        results.plan.seconds,
        environment.cpu_limit,
        environment.memory_limit,
        environment.application.name,
        environment.application.architecture,
        environment.application.kernel,
        environment.client.name,
    );
    let scenes: [(&str, Table); 4] = [
        ("HTTP, one connection for each request", http(summaries)),
        ("TCP, one connection", bulk(summaries)),
        ("UDP datagrams", packets(summaries)),
        ("The sidecar", sidecar(summaries)),
    ];
    for (title, table) in scenes {
        if !table.is_empty() {
            text.extend(["\n", title, "\n", &table.to_string()]);
        }
    }
    if summaries.iter().any(|summary| !summary.carried) {
        text.push_str("\n* the cluster does not carry this load without the sidecar either\n");
    }
    let measured = |figure: fn(&Usage) -> bool| summaries.iter().any(|one| figure(&one.sidecar));
    if !measured(|usage| usage.throttled.is_some()) {
        text.push_str(
            "\nthrottled periods: not measured; they can be read on the nodes only, and a kubeconfig gives no \
             access to them\n",
        );
    }
    if !measured(|usage| usage.cpu.is_some()) {
        text.push_str("\nCPU time: not measured; the nodes' kernel has no schedstat\n");
    }
    text
}

const COMPARED: [(&str, Align); 3] = [
    ("without", Align::Right),
    ("with", Align::Right),
    ("ratio", Align::Right),
];

fn table(first: &[(&str, Align)], more: &[(&str, Align)]) -> Table {
    Table::new(&[first, more].concat())
}

fn http(summaries: &[Summary]) -> Table {
    let first = [("requests/s", Align::Right), ("p50:", Align::Left)];
    let p99 = [("p99:", Align::Left)];
    let failed = [
        ("failed:", Align::Left),
        ("without", Align::Right),
        ("with", Align::Right),
        ("of", Align::Right),
    ];
    let mut table = table(&first, &[&COMPARED[..], &p99, &COMPARED, &failed].concat());
    for one in summaries {
        if let Offered::Http { per_second } = one.offered {
            let mut row = vec![offered(u64::from(per_second), one.carried), String::new()];
            row.extend(compared(one.p50_us.as_ref(), milliseconds));
            row.push(String::new());
            row.extend(compared(one.p99_us.as_ref(), milliseconds));
            row.extend([
                String::new(),
                grouped(one.failed_without),
                grouped(one.failed_with),
                grouped(one.sent_with),
            ]);
            table.row(row);
        }
    }
    table
}

fn bulk(summaries: &[Summary]) -> Table {
    let first = [("offered", Align::Right), ("received:", Align::Left)];
    let again = [
        ("segments sent again:", Align::Left),
        ("without", Align::Right),
        ("with", Align::Right),
    ];
    let mut table = table(&first, &[&COMPARED[..], &again].concat());
    for one in summaries {
        if let Offered::Bulk { bits_per_second } = one.offered {
            let mark = if one.carried { "" } else { "*" };
            let mut row = vec![
                format!("{} Mbit/s{mark}", bits_per_second / 1_000_000),
                String::new(),
            ];
            row.extend(compared(Some(&one.rate), |rate| {
                format!("{:.1} Mbit/s", rate / 1e6)
            }));
            row.extend([
                String::new(),
                grouped(one.failed_without),
                grouped(one.failed_with),
            ]);
            table.row(row);
        }
    }
    table
}

fn packets(summaries: &[Summary]) -> Table {
    let first = [
        ("packets/s", Align::Right),
        ("bytes", Align::Right),
        ("received/s:", Align::Left),
    ];
    let more = [
        ("mirrored", Align::Right),
        ("copies at the sensor", Align::Right),
    ];
    let mut table = table(&first, &[&COMPARED[..], &more].concat());
    for one in summaries {
        if let Offered::Packets { per_second, bytes } = one.offered {
            let mut row = vec![
                offered(u64::from(per_second), one.carried),
                bytes.to_string(),
                String::new(),
            ];
            row.extend(compared(Some(&one.rate), |rate| format!("{rate:.0}")));
            row.extend([
                optional(one.sidecar.mirrored, percent),
                delivered(&one.sidecar),
            ]);
            table.row(row);
        }
    }
    table
}

fn sidecar(summaries: &[Summary]) -> Table {
    let columns = [
        "frames",
        "mirrored",
        "ring drops",
        "copies sent",
        "at the sensor",
        "wrong",
        "CPU/frame",
        "CPU/copy",
        "CPU",
        "throttled",
        "memory",
    ];
    let columns: Vec<_> = columns.iter().map(|name| (*name, Align::Right)).collect();
    let mut table = table(&[("load", Align::Left)], &columns);
    for one in summaries {
        let usage = &one.sidecar;
        table.row([
            name(&one.offered),
            grouped(usage.frames),
            optional(usage.mirrored, percent),
            grouped(usage.ring_drops),
            grouped(usage.copies_sent),
            grouped(usage.copies_received),
            grouped(usage.copies_wrong),
            optional(usage.cpu_us_per_frame, |time| format!("{time:.2} us")),
            optional(usage.cpu_us_per_copy, |time| format!("{time:.2} us")),
            optional(usage.cpu, |share| format!("{:.1} %", share * 100.0)),
            optional(usage.throttled, percent),
            usage
                .resident_bytes
                .map_or(NOT_MEASURED.to_owned(), |bytes| {
                    format!("{} MiB", bytes >> 20)
                }),
        ]);
    }
    table
}

fn offered(rate: u64, carried: bool) -> String {
    format!("{}{}", grouped(rate), if carried { "" } else { "*" })
}

/// A load in one word for each table and file.
pub(super) fn name(offered: &Offered) -> String {
    match *offered {
        Offered::Http { per_second } => format!("HTTP {}/s", grouped(u64::from(per_second))),
        Offered::Bulk { bits_per_second } => format!("TCP {} Mbit/s", bits_per_second / 1_000_000),
        Offered::Packets { per_second, .. } => format!("UDP {}/s", grouped(u64::from(per_second))),
    }
}

fn compared(figure: Option<&Compared>, show: impl Fn(f64) -> String) -> [String; 3] {
    let Some(figure) = figure else {
        return [
            NOT_MEASURED.to_owned(),
            NOT_MEASURED.to_owned(),
            String::new(),
        ];
    };
    let ratio = optional(figure.ratio, |ratio| format!("{ratio:.2}"));
    [show(figure.without), show(figure.with), ratio]
}

fn optional(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or(NOT_MEASURED.to_owned(), show)
}

fn milliseconds(microseconds: f64) -> String {
    format!("{:.2} ms", microseconds / 1000.0)
}

/// Rounded down: what is not all is not shown as 100 %.
fn percent(share: f64) -> String {
    format!("{:.2} %", (share * 10_000.0).floor() / 100.0)
}

fn delivered(usage: &Usage) -> String {
    format!(
        "{} of {}",
        grouped(usage.copies_received),
        grouped(usage.copies_sent)
    )
}

/// The charts with their names in files; one that would show no point is left out.
#[must_use]
pub fn charts(summaries: &[Summary]) -> Vec<(&'static str, Chart)> {
    let latency = Chart {
        title: "HTTP latency with and without podspan".to_owned(),
        x: Axis::logarithmic("requests per second"),
        y: Axis::logarithmic("latency in ms"),
        series: latency_series(summaries),
    };
    let mirrored = Chart {
        title: "Small UDP packets mirrored without loss".to_owned(),
        x: Axis::logarithmic("packets per second"),
        y: Axis::linear("share"),
        series: vec![packet_series("mirrored", summaries, |one| {
            one.sidecar.mirrored
        })],
    };
    let cpu = Chart {
        title: "CPU time of podspan for each frame of small UDP packets".to_owned(),
        x: Axis::logarithmic("packets per second"),
        y: Axis::linear("microseconds"),
        series: vec![packet_series("CPU time", summaries, |one| {
            one.sidecar.cpu_us_per_frame
        })],
    };
    [("latency", latency), ("mirrored", mirrored), ("cpu", cpu)]
        .into_iter()
        .filter(|(_, chart)| chart.series.iter().any(|one| !one.points.is_empty()))
        .collect()
}

fn latency_series(summaries: &[Summary]) -> Vec<Series> {
    let line = |name: &str, figure: &dyn Fn(&Summary) -> Option<f64>| Series {
        name: name.to_owned(),
        points: summaries
            .iter()
            .filter_map(|one| Some((one.offered.rate(), figure(one)? / 1000.0)))
            .collect(),
    };
    vec![
        line("p50 without", &|one| Some(one.p50_us?.without)),
        line("p50 with", &|one| Some(one.p50_us?.with)),
        line("p99 without", &|one| Some(one.p99_us?.without)),
        line("p99 with", &|one| Some(one.p99_us?.with)),
    ]
}

fn packet_series(name: &str, summaries: &[Summary], figure: fn(&Summary) -> Option<f64>) -> Series {
    let packets = summaries
        .iter()
        .filter(|one| matches!(one.offered, Offered::Packets { .. }));
    Series {
        name: name.to_owned(),
        points: packets
            .filter_map(|one| Some((one.offered.rate(), figure(one)?)))
            .collect(),
    }
}
