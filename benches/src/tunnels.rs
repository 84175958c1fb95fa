//! What an encrypted tunnel costs podspan: the same frames to podspan without a tunnel, with one, and without one but
//! through wireguard-go, in turns.
//!
//! Goes in: frames of two sizes at a constant rate, in the lab of the matrix, whose receiver counts each datagram.
//! Comes out: CPU time for each frame of what runs in the pod, which is podspan, or podspan and wireguard-go; and the
//! highest rate without loss under a CPU quota. Behind the tunnel, `podspan-receive` or another wireguard-go gives the
//! datagrams to the receiver; their CPU time does not count, and they have no quota.
//!
//! podspan mirrors what passes `eth0`, so what wireguard-go sends there is left out by `FILTER`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testbed::{ControlGroup, Namespace, Process, build_wireguard, start_wireguard};
use tunnel::{PresharedKey, PrivateKey};

use crate::agent::Agent;
use crate::matrix::frames::Frames;
use crate::matrix::inject::inject;
use crate::matrix::search::Search;
use crate::matrix::stand::{PORT, Stand, run};
use crate::matrix::{Error, Result};
use crate::statistics::{median, median_ratio};
use crate::table::{Align, Table, grouped};

/// Bytes of the mirrored frames.
const FRAMES: [usize; 2] = [128, 1400];
const FLOWS: u32 = 64;
/// Frames a second where CPU time is measured: wireguard-go loses none.
const RATE: f64 = 20_000.0;
const TIME: Duration = Duration::from_secs(1);
/// CPU time in each 100 ms: 0.25 CPU.
const QUOTA: Duration = Duration::from_millis(25);
/// What the search of the highest rate covers, and where it starts.
const RATES: (f64, f64, f64) = (5_000.0, 60_000.0, 400_000.0);
/// Copies that arrive later than this after the last frame count as lost.
const LATE: Duration = Duration::from_millis(100);
const START: Duration = Duration::from_secs(20);
const QUIET: Duration = Duration::from_millis(200);
const QUIET_LIMIT: Duration = Duration::from_secs(5);
const TUNNEL_PORT: u16 = 51_820;
/// The device of wireguard-go, whose packets fit the path with the 60 bytes that it adds.
const DEVICE: &str = "wg0";
const DEVICE_MTU: u32 = 1440;
/// The addresses in the tunnel of wireguard-go.
const NEAR: &str = "10.9.0.2";
const FAR: &str = "10.9.0.1";

/// What runs in the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contender {
    Plain,
    Socket,
    Tunnel,
    WireguardGo,
}

impl Contender {
    const ALL: [Self; 4] = [Self::Plain, Self::Socket, Self::Tunnel, Self::WireguardGo];

    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "podspan, RECEIVER=sniffer",
            Self::Socket => "podspan, RECEIVER=socket",
            Self::Tunnel => "podspan, TUNNEL=wireguard",
            Self::WireguardGo => "podspan, RECEIVER=socket, and wireguard-go",
        }
    }
}

/// The programs and keys.
#[derive(Debug)]
pub struct Programs<'a> {
    /// podspan.
    pub podspan: &'a Path,
    /// podspan-receive.
    pub receive: &'a Path,
    /// wireguard-go.
    pub wireguard: PathBuf,
}

impl<'a> Programs<'a> {
    /// Builds wireguard-go, if it is not there. Before a namespace without a network is entered.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn new(podspan: &'a Path, receive: &'a Path) -> crate::Result<Self> {
        let wireguard = build_wireguard();
        Ok(Self {
            podspan,
            receive,
            wireguard: wireguard.map_err(|error| crate::Error::Tunnel(error.to_string()))?,
        })
    }
}

/// What runs; it ends when this is dropped.
struct Running {
    agent: Agent,
    /// wireguard-go in the pod.
    near: Option<Process>,
    /// The other end of a tunnel.
    _far: Option<Process>,
    _keys: tempfile::TempDir,
}

impl Running {
    fn start(
        stand: &Stand,
        programs: &Programs<'_>,
        contender: Contender,
        group: Option<&ControlGroup>,
    ) -> Result<Self> {
        let folder = tempfile::tempdir().map_err(failed("making a temporary folder"))?;
        let mut settings = vec![("VNI", "1".to_owned())];
        let (mut near, mut far) = (None, None);
        match contender {
            Contender::Plain => settings.push(("SENSOR", stand.sensor_setting(1))),
            Contender::Socket => settings.extend(socket(stand.sensor_setting(1))),
            Contender::Tunnel => {
                far = Some(receive(stand, programs.receive, folder.path())?);
                let sensor = format!("{}:{TUNNEL_PORT}", stand.lab.sensor.ipv4);
                settings.extend([("SENSOR", sensor), ("TUNNEL", "wireguard".to_owned())]);
                for (setting, file) in [
                    ("WG_SENSOR_KEY_FILE", "sensor-key"),
                    ("WG_PRESHARED_KEY_FILE", "preshared-key"),
                ] {
                    let path = folder.path().join(file);
                    settings.push((setting, path.display().to_string()));
                }
            }
            Contender::WireguardGo => {
                let [pod, sensor] = [PrivateKey::generate(), PrivateKey::generate()];
                let lab = &stand.lab;
                let program = &programs.wireguard;
                let listens = format!("listen_port={TUNNEL_PORT}\n");
                let endpoint = format!("endpoint={}:{TUNNEL_PORT}\n", lab.sensor.ipv4);
                let ends = [
                    (&lab.sensor.namespace, FAR, (&sensor, &pod), NEAR, listens),
                    (&lab.pod.namespace, NEAR, (&pod, &sensor), FAR, endpoint),
                ];
                let [other, own] = ends.map(|(namespace, address, keys, peer, more)| {
                    wireguard(program, namespace, address, keys, (peer, &more))
                });
                (far, near) = (Some(other?), Some(own?));
                settings.extend(socket(format!("{FAR}:{PORT}")));
                let filter = format!("not udp port {TUNNEL_PORT}");
                settings.push(("FILTER", filter));
            }
        }
        let agent = Agent::start_in(programs.podspan, &stand.lab, &settings, group)?;
        let mut running = Self {
            agent,
            near,
            _far: far,
            _keys: folder,
        };
        running.await_copies(stand, contender)?;
        Ok(running)
    }

    fn await_copies(&mut self, stand: &Stand, contender: Contender) -> Result<()> {
        let mut frames = Frames::of_size(FRAMES[0], 1);
        let (end, before) = (Instant::now() + START, stand.arrived()?);
        loop {
            inject(stand.sockets(1), &mut frames, 1, 1000.0)?;
            let look = Instant::now() + Duration::from_millis(20);
            if stand.await_arrivals(before + 1, look)? > before {
                break;
            }
            self.agent.check_running()?;
            if Instant::now() >= end {
                return Err(Error::Silent {
                    contender: contender.name().to_owned(),
                    seconds: START.as_secs(),
                    text: format!("; it printed:\n{}", self.agent.log()),
                });
            }
        }
        stand.await_quiet(QUIET, QUIET_LIMIT)?;
        Ok(())
    }

    fn cpu(&self) -> Result<Duration> {
        let near = self.near.as_ref().map(Process::cpu_time).transpose()?;
        Ok(self.agent.cpu_time()? + near.unwrap_or_default())
    }
}

fn failed(doing: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| crate::Error::Io { doing, source }.into()
}

fn socket(sensor: String) -> [(&'static str, String); 2] {
    [("SENSOR", sensor), ("RECEIVER", "socket".to_owned())]
}

/// podspan-receive on the sensor's host, with new keys in a folder.
fn receive(stand: &Stand, program: &Path, folder: &Path) -> Result<Process> {
    let (sensor, preshared) = (PrivateKey::generate(), PresharedKey::generate());
    for (file, text) in [
        ("private-key", sensor.to_base64().as_str()),
        ("sensor-key", &sensor.public().to_string()),
        ("preshared-key", &preshared.to_base64()),
    ] {
        fs::write(folder.join(file), text).map_err(failed("writing a key"))?;
    }
    let mut command = stand.lab.sensor.namespace.command(program);
    command
        .env("LISTEN", format!("0.0.0.0:{TUNNEL_PORT}"))
        .env("FORWARD", format!("127.0.0.1:{PORT}"))
        .env("RECEIVER", "socket")
        .env("METRICS", "off")
        .env("PRIVATE_KEY_FILE", folder.join("private-key"))
        .env("PRESHARED_KEYS_FILE", folder.join("preshared-key"));
    let mut process = Process::spawn(command)?;
    process.wait_for_output("receives", START)?;
    Ok(process)
}

/// One end by wireguard-go, with its address in the tunnel, and the address of the other one.
fn wireguard(
    program: &Path,
    namespace: &Namespace,
    address: &str,
    (own, other): (&PrivateKey, &PrivateKey),
    (peer, more): (&str, &str),
) -> Result<Process> {
    let is_listening = more.starts_with("listen");
    let (interface, of_peer) = if is_listening { (more, "") } else { ("", more) };
    let configuration = format!(
        "private_key={}\n{interface}public_key={}\n{of_peer}allowed_ip={peer}/32\n",
        crate::opening::hex(own.secret().as_bytes()),
        crate::opening::hex(other.public().as_bytes()),
    );
    let process = start_wireguard(program.to_owned(), namespace, DEVICE, &configuration)?;
    run(
        namespace,
        &format!("ip address add {address}/24 dev {DEVICE}"),
    )?;
    run(
        namespace,
        &format!("ip link set {DEVICE} mtu {DEVICE_MTU} up"),
    )?;
    Ok(process)
}

/// Nanoseconds of CPU time for each frame of a size, and how many copies were missing.
fn cost(
    stand: &Stand,
    programs: &Programs<'_>,
    contender: Contender,
    size: usize,
) -> Result<(f64, u64)> {
    let running = Running::start(stand, programs, contender, None)?;
    let mut frames = Frames::of_size(size, FLOWS);
    let count = whole(&frames, RATE * TIME.as_secs_f64());
    let (before, cpu) = (stand.arrived()?, running.cpu()?);
    inject(stand.sockets(1), &mut frames, count, RATE)?;
    stand.await_quiet(QUIET, QUIET_LIMIT)?;
    let cpu = running.cpu()?.saturating_sub(cpu);
    let arrived = stand.arrived()? - before;
    Ok((
        cpu.as_secs_f64() * 1e9 / to_float(count),
        count.saturating_sub(arrived),
    ))
}

/// The highest rate without loss under the quota, and whether it is the highest that is tried.
fn highest(
    stand: &Stand,
    programs: &Programs<'_>,
    contender: Contender,
    size: usize,
) -> Result<(f64, bool)> {
    let group = ControlGroup::with_quota(QUOTA).ok_or(Error::NoQuota)?;
    let _running = Running::start(stand, programs, contender, Some(&group))?;
    let mut frames = Frames::of_size(size, FLOWS);
    let (lowest, start, most) = RATES;
    let mut search = Search::new(start, lowest, most);
    while let Some(rate) = search.next() {
        let count = whole(&frames, rate * TIME.as_secs_f64());
        let before = stand.await_quiet(QUIET, QUIET_LIMIT)?;
        inject(stand.sockets(1), &mut frames, count, rate)?;
        let arrived = stand.await_arrivals(before + count, Instant::now() + LATE)?;
        search.report(arrived - before >= count);
    }
    Ok((search.result().unwrap_or_default(), search.is_at_end()))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of frames"
)]
fn whole(frames: &Frames, count: f64) -> u64 {
    (count as u64).next_multiple_of((frames.len() as u64).max(1))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
const fn to_float(number: u64) -> f64 {
    number as f64
}

/// CPU time for each frame.
///
/// # Errors
/// When something cannot be started, or mirrors nothing.
pub fn costs(programs: &Programs<'_>, rounds: usize) -> Result<Table> {
    let stand = Stand::new()?;
    let mut table = Table::new(&[
        ("frame", Align::Right),
        ("", Align::Left),
        ("ns/frame", Align::Right),
        ("/ socket", Align::Right),
        ("/ wireguard-go", Align::Right),
        ("missing", Align::Right),
    ]);
    for size in FRAMES {
        let mut all: Vec<Vec<(f64, u64)>> = Vec::new();
        for round in 1..=rounds {
            eprintln!("{size} bytes, round {round} of {rounds}");
            let turn = |contender| cost(&stand, programs, contender, size);
            all.push(
                Contender::ALL
                    .map(turn)
                    .into_iter()
                    .collect::<Result<_>>()?,
            );
        }
        for (at, contender) in Contender::ALL.into_iter().enumerate() {
            let of = |round: &Vec<(f64, u64)>, at: usize| round.get(at).map(|turn| turn.0);
            let to = |other: usize| {
                let pairs = all
                    .iter()
                    .filter_map(|round| Some((of(round, at)?, of(round, other)?)));
                median_ratio(pairs).unwrap_or(f64::NAN)
            };
            let missing: u64 = all.iter().filter_map(|round| Some(round.get(at)?.1)).sum();
            let cost = median(all.iter().filter_map(|round| of(round, at)));
            table.row([
                grouped(size as u64),
                contender.name().to_owned(),
                format!("{:.0}", cost.unwrap_or(f64::NAN)),
                format!("{:.2}", to(1)),
                format!("{:.2}", to(3)),
                grouped(missing),
            ]);
        }
    }
    Ok(table)
}

/// The highest rates without loss under the quota.
///
/// # Errors
/// As [`costs`], and [`Error::NoQuota`].
pub fn rates(programs: &Programs<'_>, rounds: usize) -> Result<Table> {
    let stand = Stand::new()?;
    let mut table = Table::new(&[
        ("frame", Align::Right),
        ("", Align::Left),
        ("frames/s", Align::Right),
        ("/ socket", Align::Right),
    ]);
    for size in FRAMES {
        let contenders = [Contender::Socket, Contender::Tunnel];
        let mut all: Vec<Vec<(f64, bool)>> = Vec::new();
        for round in 1..=rounds {
            eprintln!("{size} bytes under the quota, round {round} of {rounds}");
            let turn = |contender| highest(&stand, programs, contender, size);
            all.push(contenders.map(turn).into_iter().collect::<Result<_>>()?);
        }
        for (at, contender) in contenders.into_iter().enumerate() {
            let pairs = all
                .iter()
                .filter_map(|round| Some((round.get(at)?.0, round.first()?.0)));
            let of = all.iter().filter_map(|round| round.get(at));
            let more = if of.clone().any(|(_, is_end)| *is_end) {
                ">= "
            } else {
                ""
            };
            let rate = median(of.map(|(rate, _)| *rate));
            table.row([
                grouped(size as u64),
                contender.name().to_owned(),
                format!("{more}{:.0}", rate.unwrap_or(f64::NAN)),
                format!("{:.2}", median_ratio(pairs).unwrap_or(f64::NAN)),
            ]);
        }
    }
    Ok(table)
}
