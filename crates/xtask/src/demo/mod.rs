//! `cargo xtask demo`: podspan at work, on one machine, without root.
//!
//! ```text
//!   client ---- bridge ---- pod ----  what crosses its eth0: counted by a sniffer ([`tap`])
//!                 |          '------  podspan, with NET_RAW as its only capability
//!                 '-------- sensor    what arrives: decoded, judged, counted, written to a file
//! ```
//! Both sides count from one marker frame to the next, which the client sends before the first
//! and after the last packet. What they count is the same whether a frame was cut or not
//! ([`observed`]), so at the end the numbers must be equal. With `--kubernetes` there are two
//! sensors, of which one comes and one goes meanwhile, and an API server (`kubernetes`); what
//! arrives at the sensors counts together ([`sensors`]).
//!
//! podspan is built first, by a child: the user namespace must be entered before this process has
//! a second thread.

mod display;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod observed;
mod report;
mod sensors;
mod stage;
mod tap;
mod traffic;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use benches::cpu_per_packet::{FAST, Outcome, Plan, measure};
use benches::{Agent, TotalsLine};
use testbed::user_namespace;
use testbed::{CaptureTotals, CaptureWriter, Decoder, Filter, Lab, Sniffer};

use crate::arguments::Arguments;
use crate::build::release_binary;
use crate::failure::{Failure, Result};
use crate::interrupt::Interrupt;
use display::Display;
use report::Report;
use sensors::{AtSensors, Received};
use stage::{Ending, Stage};
use tap::{Arrived, Crossed, Gauge, Shared, send_marker};
use traffic::Traffic;

const VNI: u32 = 0x00d_e30;
const PORT: u16 = 4789;
const MTU: u32 = 1500;
/// How often the display is looked at.
const TICK: Duration = Duration::from_millis(100);
/// When nothing has passed the pod's eth0 for so long, what was sent has crossed, and podspan has
/// emptied its ring.
const QUIET: Duration = Duration::from_millis(400);
/// How long a marker may take to the sensor, and silence to come.
const PATIENCE: Duration = Duration::from_secs(3);
/// With less than this, in seconds, the sensors of `--kubernetes` cannot come and go.
const SHORTEST_STORY: u64 = 3;

/// What the command line says.
#[derive(Debug)]
struct Options {
    seconds: u64,
    pcapng: PathBuf,
    ipv6_underlay: bool,
    kubernetes: bool,
}

impl Options {
    fn take(mut arguments: Arguments) -> Result<Self> {
        let options = Self {
            seconds: arguments.option("--seconds")?.unwrap_or(10),
            pcapng: arguments
                .option("--pcapng")?
                .unwrap_or_else(|| "demo.pcapng".into()),
            ipv6_underlay: arguments.flag("--ipv6-underlay"),
            kubernetes: arguments.flag("--kubernetes"),
        };
        arguments.finish()?;
        if options.kubernetes && options.seconds < SHORTEST_STORY {
            return Err(Failure::Usage(format!(
                "--kubernetes needs --seconds {SHORTEST_STORY} or more, not {}",
                options.seconds
            )));
        }
        Ok(options)
    }
}

pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let options = Options::take(arguments)?;
    if options.kubernetes {
        prepare_kubernetes()?;
    }
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

/// Makes sure of all that must be built while there is still a network to download from.
/// What is shown: the plain demo, or the one beside an API server.
#[cfg_attr(
    not(feature = "kubernetes"),
    expect(
        clippy::unnecessary_wraps,
        reason = "a control plane may fail to start"
    )
)]
fn stage_of(lab: &Lab, options: &Options) -> Result<Stage> {
    #[cfg(feature = "kubernetes")]
    if options.kubernetes {
        return kubernetes::stage(lab, options);
    }
    Ok(Stage::plain(lab, options))
}

#[cfg(feature = "kubernetes")]
fn prepare_kubernetes() -> Result<()> {
    testbed::kubernetes::Binaries::find()?;
    Ok(())
}

/// Goes on as an xtask that has the client, which looks for the servers. That Go is missing should
/// be said before the client is built and not after.
#[cfg(not(feature = "kubernetes"))]
fn prepare_kubernetes() -> Result<()> {
    let mut go = std::process::Command::new("go");
    go.arg("version");
    if std::env::var_os("KUBEBUILDER_ASSETS").is_none() && !crate::cargo::succeeds(go) {
        return Err(Failure::Wrong(
            "etcd and kube-apiserver are needed, and there is no Go to build them: install Go \
             1.26 or newer, or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and \
             kubectl"
                .to_owned(),
        ));
    }
    println!("building the demo with a client of the API server (the first time takes minutes)");
    Err(crate::cargo::run_again_with("kubernetes"))
}

/// What came of the traffic.
#[derive(Debug)]
struct Crossing {
    crossed: Gauge,
    arrived: Gauge,
    received: Received,
    /// Of the sniffer in the pod.
    at_pod: CaptureTotals,
    /// The end marker was seen on both sides.
    complete: bool,
    /// The first thing that went wrong with the traffic itself.
    traffic: Result<()>,
    /// What became of the sensors, where anything was to happen to them.
    ending: Option<Ending>,
    totals: TotalsLine,
    /// How long traffic crossed, and podspan's CPU time meanwhile.
    elapsed: Duration,
    cpu: Duration,
}

/// Makes the lab, lets traffic cross, and takes all down again.
fn cross(options: &Options, binary: &Path, interrupt: &Interrupt) -> Result<Crossing> {
    let lab = Lab::builder().mtu(MTU).build()?;
    let mut stage = stage_of(&lab, options)?;
    if interrupt.requested() {
        return Err(Failure::Interrupted);
    }
    println!("{}", stage.introduction);
    let mut agent = Agent::start_with(binary, &lab, &stage.settings)?;
    agent.await_mirroring(&lab, PORT, VNI)?;

    let (crossed, arrived) = (Shared::default(), Shared::default());
    let sink = Arrived::new(arrived.clone(), CaptureWriter::create(&options.pcapng)?);
    let decoder = Decoder::new(VNI, PORT, MTU as usize);
    let at_sensors = AtSensors::start(&stage.sensors, &decoder, sink)?;
    let sink = Crossed::new(crossed.clone(), stage.addresses());
    let at_pod = Sniffer::start(&lab.pod.namespace, "eth0", Filter::All, sink)?;

    // Copies keep the order of their flow, not that of flows among each other: nothing else may be
    // under way with a marker. podspan's own talk with an API server pauses as well.
    await_quiet(&lab)?;
    send_marker(&lab)?;
    await_both(&crossed, &arrived, Gauge::begun);
    let (start, cpu_before) = (Instant::now(), agent.cpu_time()?);
    let length = Duration::from_secs(options.seconds);
    let traffic = Traffic::start(&lab);
    let mut display = Display::new(length);
    while start.elapsed() < length && !interrupt.requested() && !traffic.failed() {
        thread::sleep(TICK);
        agent.check_running()?;
        let log = agent.log();
        display.say(&stage.advance(start.elapsed(), &log)?);
        display.show(&display::Sample {
            elapsed: start.elapsed(),
            eth0: lab.pod.eth0.statistics()?,
            crossed: crossed.read(),
            decoded: stage.decoded,
            arrived: arrived.read(),
            cpu: agent.cpu_time()?.saturating_sub(cpu_before),
            more: stage.rows(&at_sensors.tallies(), &log),
        });
    }
    display.finish();
    let traffic = traffic.stop();
    await_quiet(&lab)?;
    let (elapsed, cpu) = (
        start.elapsed(),
        agent.cpu_time()?.saturating_sub(cpu_before),
    );
    send_marker(&lab)?;
    let complete = await_both(&crossed, &arrived, Gauge::ended);
    let totals = agent.stop()?;
    let (_, at_pod) = at_pod.stop()?;
    let received = at_sensors.stop()?;
    Ok(Crossing {
        complete,
        crossed: crossed.read(),
        arrived: arrived.read(),
        ending: stage.ending(&received.tallies),
        received,
        at_pod,
        traffic,
        totals,
        elapsed,
        cpu,
    })
}

/// Waits until nothing passes the pod's eth0, or for as long as patience lasts.
fn await_quiet(lab: &Lab) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    let mut last = (lab.pod.eth0.statistics()?, Instant::now());
    while last.1.elapsed() < QUIET && Instant::now() < end {
        thread::sleep(TICK / 2);
        let now = lab.pod.eth0.statistics()?;
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
    Ok(())
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

fn measure_cost(binary: &Path, interrupt: &Interrupt) -> Result<Outcome> {
    println!("\nmeasuring CPU per packet, podspan and a bare sendmmsg in turns");
    let plan = Plan {
        rounds: 3,
        packets: 100_000,
        per_second: FAST,
    };
    Ok(measure(binary, plan, |_| !interrupt.requested())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Options> {
        let words = line.split_whitespace().map(str::to_owned);
        Options::take(Arguments::new(words))
    }

    #[test]
    fn sensors_come_and_go_only_where_there_is_time() {
        let given = options("--kubernetes --ipv6-underlay --seconds 3").unwrap();
        assert!(given.kubernetes && given.ipv6_underlay);
        assert_eq!(options("--seconds 1").unwrap().seconds, 1);
        let error = options("--seconds 2 --kubernetes").unwrap_err();
        assert!(error.to_string().contains("--seconds 3"), "{error}");
        assert!(options("--kubernets").is_err());
    }
}
