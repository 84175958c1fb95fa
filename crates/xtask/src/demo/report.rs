//! The demo's end: a table of what crossed, what arrived and what was wrong, and the verdict.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use benches::cpu_per_packet::{FRAME, Outcome};
use benches::{Align, Table, TotalsLine, grouped};

use super::Crossing;
use super::display::{coloured, percent};
use super::observed::unit;
use super::tap::Gauge;
use crate::failure::{Failure, Result};

/// All that the demo found out.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) crossing: Crossing,
    pub(super) cost: Option<Outcome>,
    pub(super) interrupted: bool,
    pub(super) pcapng: PathBuf,
}

impl Report {
    /// Prints it.
    ///
    /// # Errors
    /// The first thing that is not as it should be.
    pub(super) fn print(self) -> Result<()> {
        let crossing = &self.crossing;
        print!("\n{}", table(&crossing.crossed, &crossing.arrived));
        println!(
            "\n{} frames crossed, {} arrived: large frames arrive cut as for a wire and so that \
             they fit the path.\nBytes are payload for TCP and UDP, all that IP carries for ICMP, \
             else whole frames.",
            grouped(crossing.crossed.frames),
            grouped(crossing.arrived.frames)
        );
        if let Some(ending) = &crossing.ending {
            println!();
            for line in &ending.lines {
                println!("{line}");
            }
        }
        println!("\npodspan   {}", podspan_line(&crossing.totals));
        println!(
            "CPU       {:.1} % of a core while the traffic crossed",
            percent(crossing.cpu, crossing.elapsed)
        );
        if let Some(cost) = &self.cost {
            println!("          {}", cost_line(cost));
        }
        let path = self.pcapng.display();
        let megabytes = fs::metadata(&self.pcapng).map_or(0, |file| file.len() >> 20);
        println!("capture   {path}, {megabytes} MiB of what the sensor decoded; open it with");
        println!("            wireshark {path}");
        if self.interrupted {
            return Err(Failure::Interrupted);
        }
        let verdict = judge(self.crossing);
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

fn table(crossed: &Gauge, arrived: &Gauge) -> Table {
    let mut table = Table::new(&[
        ("protocol", Align::Left),
        ("counted in", Align::Left),
        ("crossed", Align::Right),
        ("arrived", Align::Right),
        ("bytes crossed", Align::Right),
        ("bytes arrived", Align::Right),
        ("wrong", Align::Right),
    ]);
    let both = crossed.protocols.keys().chain(arrived.protocols.keys());
    for protocol in both.collect::<BTreeSet<_>>() {
        let here = crossed.protocols.get(protocol).copied().unwrap_or_default();
        let there = arrived.protocols.get(protocol).copied().unwrap_or_default();
        table.row([
            protocol.to_string(),
            unit(*protocol).to_owned(),
            grouped(here.units),
            grouped(there.units),
            grouped(here.bytes),
            grouped(there.bytes),
            grouped(there.wrong),
        ]);
    }
    table
}

fn podspan_line(totals: &TotalsLine) -> String {
    format!(
        "saw {} frames, mirrored {}, dropped {} ({}); sent {} datagrams, dropped {} ({}); \
         its ring lost {}",
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

/// The first thing that is not as it should be.
fn judge(crossing: Crossing) -> Result<()> {
    crossing.traffic?;
    crossing.ending.map_or(Ok(()), |ending| ending.verdict)?;
    let (crossed, arrived) = (&crossing.crossed, &crossing.arrived);
    let wrong = |text: String| Err(Failure::Wrong(text));
    if arrived.frames == 0 {
        return wrong("nothing arrived at the sensor".to_owned());
    }
    if arrived.wrong() > 0 {
        return wrong(format!("{} frames arrived wrong", arrived.wrong()));
    }
    let received = &crossing.received;
    if !received.anomalies.is_empty() {
        return wrong(format!("faulty datagrams: {:?}", received.anomalies));
    }
    let sniffers = received.captures.iter().chain([&crossing.at_pod]);
    let lost: u64 = sniffers.map(|totals| totals.dropped).sum();
    if lost > 0 {
        return wrong(format!(
            "this machine is too busy for the comparison: the demo's own sniffers lost {lost} \
             frames. Try again, or with less beside it"
        ));
    }
    // Every frame that podspan dropped on purpose is in its totals, and shown above; own_error are
    // those that were never to be mirrored.
    let totals = &crossing.totals;
    let counted = totals.ring_drops + totals.frames_dropped + totals.datagrams_dropped
        - totals.frames_dropped_for("own_error");
    let same = crossing.complete
        && crossed.protocols.keys().eq(arrived.protocols.keys())
        && crossed
            .protocols
            .iter()
            .zip(&arrived.protocols)
            .all(|(here, there)| (here.1.units, here.1.bytes) == (there.1.units, there.1.bytes));
    match (same, counted) {
        (true, _) => Ok(()),
        (false, 0) => wrong("what arrived differs from what crossed".to_owned()),
        (false, counted) => wrong(format!(
            "podspan could not keep up and dropped {counted} frames, which it counted: see above"
        )),
    }
}
