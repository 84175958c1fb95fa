//! `cargo xtask demo`: runs podspan on one machine, without root.
//!
//! ```text
//!   client ---- bridge ---- pod ----  the frames on its eth0: a sniffer counts them ([`counters`])
//!                 |          '------  podspan, with NET_RAW as its only capability
//!                 '-------- sensor    the copies: decoded, verified, counted, written to a file
//! ```
//! The client sends a marker frame before the first packet and after the last one. Both sides count
//! between the two markers. They count what does not change when podspan splits a frame
//! ([`observed`]), so at the end the numbers must be equal. With `--kubernetes` there are two
//! sensors and an API server (`kubernetes`); during the traffic one sensor is added and one is
//! removed. The numbers of both sensors are added up ([`sensors`]).
//!
//! A child process builds podspan first: the user namespace must be entered before this process has
//! a second thread.

mod counters;
mod display;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod observed;
mod report;
mod scenario;
mod sensors;
mod traffic;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use benches::cpu_per_packet::{FAST, Outcome, Plan, measure};
use benches::{Agent, TotalsLine};
use testbed::user_namespace;
use testbed::{CaptureTotals, CaptureWriter, Decoder, Filter, Lab, Sniffer};

use crate::arguments::Arguments;
use crate::build::{PODSPAN, release_binary};
use crate::failure::{Failure, Result};
use crate::interrupt::Interrupt;
use counters::{Counts, PodCounter, SensorCounter, SharedCounts, send_marker};
use display::Display;
use report::Report;
use scenario::{Scenario, Summary};
use sensors::{Received, SensorCaptures};
use traffic::Traffic;

const VNI: u32 = 0x00d_e30;
const PORT: u16 = 4789;
const MTU: u32 = 1500;
/// How often the display is updated.
const TICK: Duration = Duration::from_millis(100);
/// When no frame has passed the pod's eth0 for this time, all sent frames have arrived there and
/// podspan has emptied its ring.
const QUIET: Duration = Duration::from_millis(400);
/// The longest wait for a marker at the sensor, and for the traffic to end.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The shortest `--kubernetes`, in seconds: one sensor must be added and one removed in this time.
const SHORTEST_KUBERNETES: u64 = 3;

/// The arguments of the command line.
#[derive(Debug)]
struct Options {
    seconds: u64,
    pcapng: PathBuf,
    ipv6_underlay: bool,
    kubernetes: bool,
}

impl Options {
    fn parse(mut arguments: Arguments) -> Result<Self> {
        let options = Self {
            seconds: arguments.option("--seconds")?.unwrap_or(10),
            pcapng: arguments
                .option("--pcapng")?
                .unwrap_or_else(|| "demo.pcapng".into()),
            ipv6_underlay: arguments.flag("--ipv6-underlay"),
            kubernetes: arguments.flag("--kubernetes"),
        };
        arguments.finish()?;
        if options.kubernetes && options.seconds < SHORTEST_KUBERNETES {
            return Err(Failure::Usage(format!(
                "--kubernetes needs --seconds {SHORTEST_KUBERNETES} or more, not {}",
                options.seconds
            )));
        }
        Ok(options)
    }
}

pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let options = Options::parse(arguments)?;
    if options.kubernetes {
        prepare_kubernetes()?;
    }
    println!("building podspan in release mode (cargo build --release --package agent)");
    let binary = release_binary(PODSPAN)?;
    user_namespace::enter()?;
    let interrupt = Interrupt::install()?;
    let traffic = run_traffic(&options, &binary, &interrupt)?;
    let cost = if interrupt.requested() {
        None
    } else {
        Some(measure_cost(&binary, &interrupt)?)
    };
    let report = Report {
        traffic,
        cost,
        interrupted: interrupt.requested(),
        pcapng: options.pcapng,
    };
    report.print()
}

/// The scenario: the plain demo, or the one with an API server.
#[cfg_attr(
    not(feature = "kubernetes"),
    expect(
        clippy::unnecessary_wraps,
        reason = "a control plane may fail to start"
    )
)]
fn scenario_of(lab: &Lab, options: &Options) -> Result<Scenario> {
    #[cfg(feature = "kubernetes")]
    if options.kubernetes {
        return kubernetes::scenario(lab, options);
    }
    Ok(Scenario::plain(lab, options))
}

/// Builds the servers while this process can still reach a network to download from.
#[cfg(feature = "kubernetes")]
fn prepare_kubernetes() -> Result<()> {
    testbed::kubernetes::Binaries::find()?;
    Ok(())
}

/// Replaces this process by an xtask that has the client; that one builds the servers. A missing Go
/// is reported before the client is built, because building it takes minutes.
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

/// The result of the traffic.
#[derive(Debug)]
struct TrafficResult {
    at_pod: Counts,
    at_sensors: Counts,
    received: Received,
    /// Of the sniffer in the pod.
    pod_capture: CaptureTotals,
    /// Both sides saw the end marker.
    complete: bool,
    /// The first error of the traffic itself.
    traffic: Result<()>,
    /// What happened to the sensors, with `--kubernetes`.
    summary: Option<Summary>,
    totals: TotalsLine,
    /// How long the traffic ran, and podspan's CPU time in this time.
    elapsed: Duration,
    cpu: Duration,
}

/// Makes the lab, runs the traffic, and removes everything again.
fn run_traffic(options: &Options, binary: &Path, interrupt: &Interrupt) -> Result<TrafficResult> {
    let lab = Lab::builder().mtu(MTU).build()?;
    let mut scenario = scenario_of(&lab, options)?;
    if interrupt.requested() {
        return Err(Failure::Interrupted);
    }
    println!("{}", scenario.introduction);
    let mut agent = Agent::start_with(binary, &lab, &scenario.settings)?;
    agent.await_mirroring(&lab)?;

    let (at_pod, at_sensors) = (SharedCounts::default(), SharedCounts::default());
    let sink = SensorCounter::new(at_sensors.clone(), CaptureWriter::create(&options.pcapng)?);
    let decoder = Decoder::new(VNI, PORT, MTU as usize);
    let captures = SensorCaptures::start(&scenario.sensors, &decoder, sink)?;
    let sink = PodCounter::new(at_pod.clone(), scenario.addresses());
    let pod_sniffer = Sniffer::start(&lab.pod.namespace, "eth0", Filter::All, sink)?;

    // Copies keep the order within their flow, but not between flows: so a marker must be the only
    // frame on its way. podspan's own requests to an API server pause too.
    await_quiet(&lab)?;
    send_marker(&lab)?;
    await_both(&at_pod, &at_sensors, Counts::begun);
    let (start, cpu_before) = (Instant::now(), agent.cpu_time()?);
    let length = Duration::from_secs(options.seconds);
    let traffic = Traffic::start(&lab);
    let mut display = Display::new(length);
    while start.elapsed() < length && !interrupt.requested() && !traffic.failed() {
        thread::sleep(TICK);
        agent.check_running()?;
        let log = agent.log();
        display.print_lines(&scenario.advance(start.elapsed(), &log)?);
        display.show(&display::Sample {
            elapsed: start.elapsed(),
            eth0: lab.pod.eth0.statistics()?,
            at_pod: at_pod.read(),
            decoded_label: scenario.decoded_label,
            at_sensors: at_sensors.read(),
            cpu: agent.cpu_time()?.saturating_sub(cpu_before),
            more: scenario.rows(&captures.arrivals(), &log),
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
    let complete = await_both(&at_pod, &at_sensors, Counts::ended);
    let totals = agent.stop()?;
    let (_, pod_capture) = pod_sniffer.stop()?;
    let received = captures.stop()?;
    Ok(TrafficResult {
        complete,
        at_pod: at_pod.read(),
        at_sensors: at_sensors.read(),
        summary: scenario.summary(&received.arrivals),
        received,
        pod_capture,
        traffic,
        totals,
        elapsed,
        cpu,
    })
}

/// Waits until no frame passes the pod's eth0, for at most [`TIMEOUT`].
fn await_quiet(lab: &Lab) -> Result<()> {
    let end = Instant::now() + TIMEOUT;
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

/// Waits until both sides have seen their marker, and returns whether they have.
fn await_both(at_pod: &SharedCounts, at_sensors: &SharedCounts, seen: fn(&Counts) -> bool) -> bool {
    let end = Instant::now() + TIMEOUT;
    loop {
        let both = seen(&at_pod.read()) && seen(&at_sensors.read());
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
        Options::parse(Arguments::new(words))
    }

    #[test]
    fn kubernetes_needs_at_least_three_seconds() {
        let given = options("--kubernetes --ipv6-underlay --seconds 3").unwrap();
        assert!(given.kubernetes && given.ipv6_underlay);
        assert_eq!(options("--seconds 1").unwrap().seconds, 1);
        let error = options("--seconds 2 --kubernetes").unwrap_err();
        assert!(error.to_string().contains("--seconds 3"), "{error}");
        assert!(options("--kubernets").is_err());
    }
}
