//! Starts and stops what mirrors, and reads its CPU time.
//!
//! Of podspan and of `--peer` that is the time of the process. wireguard-go in the pod counts together with podspan;
//! the sensor's end of a tunnel does not count. tc has no process: its work is done in the
//! thread that sends the load, so only the CPU time of the whole lab shows it.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::{Duration, Instant};

use testbed::{ControlGroup, Process};

use super::counter::Place;
use super::error::{Error, Result};
use super::frames::Frames;
use super::inject::inject;
use super::plan::{Case, Contender};
use super::stand::{PORT, Stand, run};
use super::tunnel::{SensorsEnd, WireguardEnds};
use crate::agent::Agent;
use crate::totals_line::TotalsLine;

const VNI: u32 = 1;
/// The longest time from the start to the first copy.
const START: Duration = Duration::from_secs(10);
const FIRST_COPY: Duration = Duration::from_millis(20);
const QUIET: Duration = Duration::from_millis(60);
/// The longest time until all copies of a start have arrived.
const QUIET_LIMIT: Duration = Duration::from_secs(2);

/// The programs.
#[derive(Debug, Clone, Copy)]
pub struct Programs<'a> {
    /// podspan.
    pub podspan: &'a Path,
    /// podspan-receive.
    pub receive: &'a Path,
    /// wireguard-go, where it is needed.
    pub wireguard: Option<&'a Path>,
    /// The command of `--peer`.
    pub peer: Option<&'a str>,
}

/// A contender that runs; it ends when this is dropped.
#[derive(Debug)]
pub struct Running<'a> {
    stand: &'a Stand,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Nothing,
    Podspan(Agent),
    Tunnel(Agent, SensorsEnd),
    Wireguard(Agent, WireguardEnds),
    Peer(Process),
    Tc,
}

impl<'a> Running<'a> {
    /// Starts `contender` for `case`, and waits until it mirrors.
    ///
    /// # Errors
    /// [`Error::Silent`] where it does not, [`Error::Program`] where tc or ip is refused.
    pub fn start(
        stand: &'a Stand,
        programs: Programs<'_>,
        (contender, case): (Contender, Case),
        group: Option<&ControlGroup>,
    ) -> Result<Self> {
        let mut running = Self {
            stand,
            form: Form::Nothing,
        };
        running.form = match contender {
            Contender::Nothing
            | Contender::Bare
            | Contender::BareSegmented
            | Contender::BarePaced => return Ok(running),
            Contender::Tc => {
                running.form = Form::Tc;
                start_tc(stand)?;
                Form::Tc
            }
            Contender::Peer => Form::Peer(start_peer(stand, programs, case, group)?),
            Contender::Plain
            | Contender::Socket
            | Contender::SocketHalfTrailers
            | Contender::SocketNoTrailers => {
                let settings = settings(stand, contender, case);
                let agent = Agent::start_in(programs.podspan, &stand.lab, &settings, group)?;
                Form::Podspan(agent)
            }
            Contender::Tunnel => {
                let end = SensorsEnd::start(stand, programs.receive)?;
                let settings = with(settings(stand, contender, case), end.settings(stand));
                let agent = Agent::start_in(programs.podspan, &stand.lab, &settings, group)?;
                Form::Tunnel(agent, end)
            }
            Contender::WireguardGo => {
                let program = programs.wireguard.unwrap_or(Path::new("wireguard-go"));
                let ends = WireguardEnds::start(stand, program, group)?;
                let settings = with(settings(stand, contender, case), ends.settings());
                let agent = Agent::start_in(programs.podspan, &stand.lab, &settings, group)?;
                Form::Wireguard(agent, ends)
            }
        };
        running.await_mirroring(contender)?;
        Ok(running)
    }

    fn await_mirroring(&mut self, contender: Contender) -> Result<()> {
        let mut frames = Frames::of_size(64, 1);
        let end = Instant::now() + START;
        let counter = self.stand.counter(Place::Receiver);
        let before = counter.arrived()?;
        loop {
            inject(self.stand.sockets(1), &mut frames, 1, 1000.0)?;
            let look = Instant::now() + FIRST_COPY;
            if counter.await_arrivals(before + 1, look)? > before {
                break;
            }
            if let Form::Podspan(agent) | Form::Tunnel(agent, _) | Form::Wireguard(agent, _) =
                &mut self.form
            {
                agent.check_running()?;
            }
            if Instant::now() >= end {
                return Err(Error::Silent {
                    contender: contender.name().to_owned(),
                    seconds: START.as_secs(),
                    text: self.printed(),
                });
            }
        }
        counter.await_quiet(QUIET, QUIET_LIMIT)?;
        Ok(())
    }

    fn printed(&self) -> String {
        match &self.form {
            Form::Podspan(agent) => format!("; it printed:\n{}", agent.log()),
            Form::Tunnel(agent, end) => {
                format!("; it printed:\n{}{}", agent.log(), end.printed())
            }
            Form::Wireguard(agent, ends) => {
                format!("; it printed:\n{}{}", agent.log(), ends.printed())
            }
            Form::Peer(process) => {
                format!("; it printed:\n{}{}", process.stdout(), process.stderr())
            }
            Form::Nothing | Form::Tc => String::new(),
        }
    }

    /// CPU time of its processes so far; zero where it has none.
    ///
    /// # Errors
    /// Where the process is gone.
    pub fn cpu(&self) -> Result<Duration> {
        Ok(match &self.form {
            Form::Podspan(agent) | Form::Tunnel(agent, _) => agent.cpu_time()?,
            Form::Wireguard(agent, ends) => agent.cpu_time()? + ends.cpu_time()?,
            Form::Peer(process) => process.cpu_time()?,
            Form::Nothing | Form::Tc => Duration::ZERO,
        })
    }

    /// Ends it, and returns podspan's totals.
    ///
    /// # Errors
    /// Where podspan ended with an error.
    pub fn stop(mut self) -> Result<Option<TotalsLine>> {
        match std::mem::replace(&mut self.form, Form::Nothing) {
            Form::Podspan(agent) | Form::Wireguard(agent, _) => Ok(Some(agent.stop()?)),
            Form::Tunnel(agent, end) => {
                let totals = agent.stop()?;
                end.stop()?;
                Ok(Some(totals))
            }
            Form::Tc => stop_tc(self.stand).map(|()| None),
            Form::Nothing | Form::Peer(_) => Ok(None),
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if matches!(self.form, Form::Tc) {
            // After another error that is reported; the lab is removed soon.
            let _ = stop_tc(self.stand);
        }
    }
}

/// Settings of which the second ones replace the first.
fn with(
    first: Vec<(&'static str, String)>,
    second: impl IntoIterator<Item = (&'static str, String)>,
) -> Vec<(&'static str, String)> {
    // Of a variable that is set twice, the last value is the process's.
    first.into_iter().chain(second).collect()
}

fn settings(stand: &Stand, contender: Contender, case: Case) -> Vec<(&'static str, String)> {
    let receiver = if contender == Contender::Plain {
        "sniffer"
    } else {
        "socket"
    };
    let trailers = match contender {
        Contender::SocketNoTrailers => "off",
        Contender::SocketHalfTrailers => "50%",
        _ => "20%",
    };
    vec![
        ("SENSOR", stand.sensor_setting(case.sensors)),
        ("INTERFACE", Stand::interface_setting(case.interfaces)),
        ("VNI", VNI.to_string()),
        ("RECEIVER", receiver.to_owned()),
        ("TRAILERS", trailers.to_owned()),
    ]
}

/// Everything that arrives on the pod's interface goes into a vxlan device too.
fn start_tc(stand: &Stand) -> Result<()> {
    let pod = &stand.lab.pod.namespace;
    let sensor = stand.lab.sensor.ipv4;
    for words in [
        &format!(
            "ip link add mirror0 type vxlan id {VNI} remote {sensor} dstport {PORT} nolearning dev eth0"
        ),
        "ip link set mirror0 up",
        "tc qdisc add dev eth0 clsact",
        "tc filter add dev eth0 ingress u32 match u32 0 0 action mirred egress mirror dev mirror0",
    ] {
        run(pod, words)?;
    }
    Ok(())
}

fn stop_tc(stand: &Stand) -> Result<()> {
    let pod = &stand.lab.pod.namespace;
    run(pod, "tc qdisc del dev eth0 clsact")?;
    run(pod, "ip link del mirror0")
}

/// The command has to be one process: its CPU time is that of this process.
fn start_peer(
    stand: &Stand,
    programs: Programs<'_>,
    case: Case,
    group: Option<&ControlGroup>,
) -> Result<Process> {
    let mut command = stand.lab.pod.namespace.command("/bin/sh");
    command
        .args(["-c", &format!("exec {}", programs.peer.unwrap_or("false"))])
        .env("SENSOR", stand.lab.sensor.ipv4.to_string())
        .env("INTERFACE", Stand::interface_setting(case.interfaces))
        .process_group(0);
    if let Some(group) = group {
        group.add(&mut command)?;
    }
    Ok(Process::spawn(command)?)
}
