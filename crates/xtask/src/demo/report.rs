//! The demo's end: a table of the frames on the pod's eth0 (*crossed*), those at the sensors
//! (*arrived*) and those that are wrong, and the verdict.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use benches::cpu_per_packet::{FRAME, Outcome};
use benches::{Align, Table, TotalsLine, grouped};

use super::TrafficResult;
use super::counters::Counts;
use super::display::{coloured, percent};
use super::observed::unit;
use crate::failure::{Failure, Result};

/// All results of the demo.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) traffic: TrafficResult,
    pub(super) cost: Option<Outcome>,
    pub(super) interrupted: bool,
    pub(super) pcapng: PathBuf,
}

impl Report {
    /// Prints it.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(super) fn print(self) -> Result<()> {
        let traffic = &self.traffic;
        print!("\n{}", table(&traffic.at_pod, &traffic.at_sensors));
        println!(
            "\n{} frames crossed the pod's eth0, {} arrived at the sensors: podspan splits large \
             frames\nso that they fit the path. Bytes are the payload for TCP and UDP, all after the \
             IP header for ICMP, else\nwhole frames.",
            grouped(traffic.at_pod.frames),
            grouped(traffic.at_sensors.frames)
        );
        if let Some(summary) = &traffic.summary {
            println!();
            for line in &summary.lines {
                println!("{line}");
            }
        }
        println!("\npodspan   {}", podspan_line(&traffic.totals));
        println!(
            "CPU       {:.1} % of a core during the traffic",
            percent(traffic.cpu, traffic.elapsed)
        );
        if let Some(cost) = &self.cost {
            println!("          {}", cost_line(cost));
        }
        let path = self.pcapng.display();
        let megabytes = fs::metadata(&self.pcapng).map_or(0, |file| file.len() >> 20);
        println!("capture   {path}, {megabytes} MiB of decoded frames; open it with");
        println!("            wireshark {path}");
        if self.interrupted {
            return Err(Failure::Interrupted);
        }
        let verdict = verdict(self.traffic);
        if verdict.is_ok() {
            let (on, off) = if coloured() {
                ("\x1b[32m", "\x1b[0m")
            } else {
                ("", "")
            };
            println!("\n{on}Nothing was wrong.{off}");
        }
        verdict
    }
}

fn table(at_pod: &Counts, at_sensors: &Counts) -> Table {
    let mut table = Table::new(&[
        ("protocol", Align::Left),
        ("counted in", Align::Left),
        ("crossed", Align::Right),
        ("arrived", Align::Right),
        ("bytes crossed", Align::Right),
        ("bytes arrived", Align::Right),
        ("wrong", Align::Right),
    ]);
    let both = at_pod.protocols.keys().chain(at_sensors.protocols.keys());
    for protocol in both.collect::<BTreeSet<_>>() {
        let sent = at_pod.protocols.get(protocol).copied().unwrap_or_default();
        let received = at_sensors
            .protocols
            .get(protocol)
            .copied()
            .unwrap_or_default();
        table.row([
            protocol.to_string(),
            unit(*protocol).to_owned(),
            grouped(sent.units),
            grouped(received.units),
            grouped(sent.bytes),
            grouped(received.bytes),
            grouped(received.wrong),
        ]);
    }
    table
}

fn podspan_line(totals: &TotalsLine) -> String {
    format!(
        "read {} frames, mirrored {}, dropped {} ({}); sent {} datagrams, dropped {} ({}); \
         its ring dropped {}",
        grouped(totals.frames_seen),
        grouped(totals.frames_mirrored),
        grouped(totals.frames_dropped),
        totals.frames_dropped_by,
        grouped(totals.datagrams_sent),
        grouped(totals.datagrams_dropped),
        totals.datagrams_dropped_by,
        grouped(totals.ring_drops)
    )
}

fn cost_line(cost: &Outcome) -> String {
    let median = cost.median();
    format!(
        "{:.2} us for a packet of {FRAME} bytes; a bare sendmmsg over the same route {:.2} us: \
         {:.2} times",
        median.podspan.as_secs_f64() * 1e6,
        median.bare.as_secs_f64() * 1e6,
        cost.ratio()
    )
}

/// The first thing that is wrong.
fn verdict(result: TrafficResult) -> Result<()> {
    result.traffic?;
    result.summary.map_or(Ok(()), |summary| summary.verdict)?;
    let (at_pod, at_sensors) = (&result.at_pod, &result.at_sensors);
    let wrong = |text: String| Err(Failure::Wrong(text));
    if at_sensors.frames == 0 {
        return wrong("nothing arrived at the sensor".to_owned());
    }
    if at_sensors.wrong() > 0 {
        return wrong(format!(
            "{} of the frames at the sensor have a wrong checksum or length",
            at_sensors.wrong()
        ));
    }
    let received = &result.received;
    if !received.anomalies.is_empty() {
        return wrong(format!("faulty datagrams: {:?}", received.anomalies));
    }
    let sniffers = received.captures.iter().chain([&result.pod_capture]);
    let lost: u64 = sniffers.map(|totals| totals.dropped).sum();
    if lost > 0 {
        return wrong(format!(
            "this machine is too busy for the comparison: the demo's own sniffers lost {lost} \
             frames. Try again when less runs on it"
        ));
    }
    // podspan counts every frame that it drops in its totals, which are printed above. Frames with
    // the reason own_error are not mirrored on purpose.
    let totals = &result.totals;
    let counted = totals.ring_drops + totals.frames_dropped + totals.datagrams_dropped
        - totals.frames_dropped_for("own_error");
    let same =
        result.complete
            && at_pod.protocols.keys().eq(at_sensors.protocols.keys())
            && at_pod.protocols.iter().zip(&at_sensors.protocols).all(
                |((_, sent), (_, received))| {
                    (sent.units, sent.bytes) == (received.units, received.bytes)
                },
            );
    match (same, counted) {
        (true, _) => Ok(()),
        (false, 0) => wrong("the frames that arrived differ from those that crossed".to_owned()),
        (false, counted) => wrong(format!(
            "podspan was too slow and dropped {counted} frames: the line `podspan` above has the reasons"
        )),
    }
}
