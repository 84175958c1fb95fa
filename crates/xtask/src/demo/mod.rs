//! `cargo xtask demo`: podspan at work, on one machine, without root.
//!
//! ```text
//!   client ---- bridge ---- pod ----  what crosses its eth0: counted by a sniffer ([`tap`])
//!                 |          '------  podspan, with NET_RAW as its only capability
//!                 '-------- sensor    what arrives: decoded, judged, counted, written to a file
//! ```
//! Both sides count from one marker frame to the next, which the client sends before the first
//! and after the last packet. What they count is the same whether a frame was cut or not
//! ([`observed`]), so at the end the numbers must be equal.
//!
//! podspan is built first, by a child: the user namespace must be entered before this process has
//! a second thread.

mod display;
mod observed;
mod report;
mod tap;
mod traffic;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use benches::cpu_per_packet::{FAST, Outcome, Plan, measure};
use benches::{Agent, TotalsLine};
use testbed::user_namespace;
use testbed::{Anomaly, CaptureTotals, CaptureWriter, Decoded, Decoder, Filter, Lab, Sniffer};

use crate::arguments::Arguments;
use crate::build::release_binary;
use crate::failure::Result;
use crate::interrupt::Interrupt;
use display::Display;
use report::Report;
use tap::{Arrived, Crossed, Gauge, Shared, send_marker};
use traffic::Traffic;

const VNI: u32 = 0x00d_e30;
const PORT: u16 = 4789;
const MTU: u32 = 1500;
/// How often the display is looked at.
const TICK: Duration = Duration::from_millis(100);
/// In this time what was sent has crossed, and podspan has emptied its ring.
const QUIET: Duration = Duration::from_millis(400);
/// How long a marker may take to the sensor.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the command line says.
#[derive(Debug)]
struct Options {
    seconds: u64,
    pcapng: PathBuf,
    ipv6_underlay: bool,
}

pub(crate) fn run(mut arguments: Arguments) -> Result<()> {
    let options = Options {
        seconds: arguments.option("--seconds")?.unwrap_or(10),
        pcapng: arguments
            .option("--pcapng")?
            .unwrap_or_else(|| "demo.pcapng".into()),
        ipv6_underlay: arguments.flag("--ipv6-underlay"),
    };
    arguments.finish()?;
    println!("building podspan in release mode (cargo build --release --package agent)");
    let binary = release_binary()?;
    user_namespace::enter()?;
    let interrupt = Interrupt::listen()?;
    let crossing = cross(&options, &binary, &interrupt)?;
    let cost = if interrupt.requested() {
        None
    } else {
        Some(measure_cost(&binary, &interrupt)?)
    };
    let report = Report {
        crossing,
        cost,
        interrupted: interrupt.requested(),
        pcapng: options.pcapng,
    };
    report.print()
}

/// What came of the traffic.
#[derive(Debug)]
struct Crossing {
    crossed: Gauge,
    arrived: Gauge,
    /// Faults of the outer datagrams.
    anomalies: Vec<(Anomaly, u64)>,
    /// Of the two sniffers, the pod's first.
    sniffers: [CaptureTotals; 2],
    /// The end marker was seen on both sides.
    complete: bool,
    /// The first thing that went wrong with the traffic itself.
    traffic: Result<()>,
    totals: TotalsLine,
    /// How long traffic crossed, and podspan's CPU time meanwhile.
    elapsed: Duration,
    cpu: Duration,
}

/// Makes the lab, lets traffic cross, and takes all down again.
fn cross(options: &Options, binary: &std::path::Path, interrupt: &Interrupt) -> Result<Crossing> {
    let lab = Lab::builder().mtu(MTU).build()?;
    let sensor: IpAddr = if options.ipv6_underlay {
        lab.sensor.ipv6.into()
    } else {
        lab.sensor.ipv4.into()
    };
    let sensor = SocketAddr::from((sensor, PORT));
    println!(
        "client {}, pod {}, sensor {}: each in its own network namespace, on one bridge\n\
         podspan runs in the pod with SENSOR={sensor}",
        lab.client.ipv4, lab.pod.ipv4, lab.sensor.ipv4
    );
    let mut agent = Agent::start(binary, &lab, sensor, VNI)?;
    agent.await_mirroring(&lab, PORT, VNI)?;

    let (crossed, arrived) = (Shared::default(), Shared::default());
    let sink = Decoded {
        decoder: Decoder::new(VNI, PORT, MTU as usize),
        sink: Arrived::new(arrived.clone(), CaptureWriter::create(&options.pcapng)?),
    };
    let at_sensor = Sniffer::start(&lab.sensor.namespace, "eth0", Filter::Incoming, sink)?;
    let sink = Crossed::new(crossed.clone(), sensor);
    let at_pod = Sniffer::start(&lab.pod.namespace, "eth0", Filter::All, sink)?;

    send_marker(&lab)?;
    // Copies keep the order of their flow, not that of flows among each other: nothing else may be
    // under way with a marker.
    await_both(&crossed, &arrived, Gauge::begun);
    let (start, cpu_before) = (Instant::now(), agent.cpu_time()?);
    let length = Duration::from_secs(options.seconds);
    let traffic = Traffic::start(&lab);
    let mut display = Display::new(length);
    while start.elapsed() < length && !interrupt.requested() && !traffic.failed() {
        thread::sleep(TICK);
        agent.check_running()?;
        display.show(&display::Sample {
            elapsed: start.elapsed(),
            eth0: lab.pod.eth0.statistics()?,
            crossed: crossed.read(),
            arrived: arrived.read(),
            cpu: agent.cpu_time()?.saturating_sub(cpu_before),
        });
    }
    display.finish();
    let outcome = traffic.stop();
    thread::sleep(QUIET);
    let (elapsed, cpu) = (
        start.elapsed(),
        agent.cpu_time()?.saturating_sub(cpu_before),
    );
    send_marker(&lab)?;
    let complete = await_both(&crossed, &arrived, Gauge::ended);
    let totals = agent.stop()?;
    let (_, pod_totals) = at_pod.stop()?;
    let (sink, sensor_totals) = at_sensor.stop()?;
    let anomalies = sink.decoder.anomalies().iter();
    let anomalies = anomalies
        .map(|(anomaly, count)| (*anomaly, *count))
        .collect();
    sink.sink.finish()?;
    Ok(Crossing {
        complete,
        crossed: crossed.read(),
        arrived: arrived.read(),
        anomalies,
        sniffers: [pod_totals, sensor_totals],
        traffic: outcome,
        totals,
        elapsed,
        cpu,
    })
}

/// Waits until both gauges have seen their marker, and says whether they have.
fn await_both(crossed: &Shared, arrived: &Shared, seen: fn(&Gauge) -> bool) -> bool {
    let end = Instant::now() + PATIENCE;
    loop {
        let both = seen(&crossed.read()) && seen(&arrived.read());
        if both || Instant::now() >= end {
            return both;
        }
        thread::sleep(TICK);
    }
}

fn measure_cost(binary: &std::path::Path, interrupt: &Interrupt) -> Result<Outcome> {
    println!("\nmeasuring CPU per packet, podspan and a bare sendmmsg in turns");
    let plan = Plan {
        rounds: 3,
        packets: 100_000,
        per_second: FAST,
    };
    Ok(measure(binary, plan, |_| !interrupt.requested())?)
}
