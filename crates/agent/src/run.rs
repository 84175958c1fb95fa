//! From a valid configuration to the end of the process.
//!
//! [`run`] does the steps of the start in order: it opens the sockets with `CAP_NET_RAW`, drops all
//! capabilities, starts the worker, and runs the control side until a signal. The order matters. After
//! the drop no socket that needs a capability can be opened. No thread may exist before the drop, because
//! each thread has its own capabilities. So only the opening of the sockets can be tried again, see
//! [`mod@crate::idle`].

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::num::NonZeroU32;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use capture::privilege::{PrivilegeError, drop_all, raise_net_raw};
use capture::{FilterHandle, Ring};
use keys::KeyError;
use mirror::{Mirror, MirrorConfig};
use nix::errno::Errno;
use nix::sys::utsname::uname;
use thiserror::Error;
use transmit::{Prober, SocketConfig, Transmitter};
use tunnel::Inner;

use crate::control::{Control, Inputs, Known};
use crate::cpu_quota::CpuQuota;
use crate::endpoint::Endpoint;
use crate::exit::Exit;
use crate::filter_choice::FilterChoice;
use crate::flag::Flag;
use crate::idle;
use crate::interfaces::Interfaces;
use crate::log;
use crate::own_annotations::OwnAnnotationChanges;
use crate::privilege;
use crate::published::{EventSender, Published};
use crate::ring_filters::RingFilters;
use crate::ring_size;
use crate::sealing::Sessions;
use crate::sensor_lists::SensorLists;
use crate::sensors::{ListedSensor, Sensors};
use crate::status::Identity;
use crate::tunnels::Tunnels;
use crate::tunnels::keys::{KeyFiles, Sources};
use crate::worker::Worker;
use settings::{Config, OnFailure, SensorSetting, Value as _};

/// Bits that podspan's mark never has. In a pod on the host's network other programs read the mark:
/// kube-proxy (0xc000), Cilium (0x0f00), and the AWS CNI (0x80) use these bits. Calico and Cilium also
/// use bits above 16, but only together with bits that they set themselves.
const FOREIGN_BITS: u32 = 0xcf80;

/// The mark of podspan's datagrams, a new one at each start: podspan does not mirror what has its mark,
/// so no other process may know it. The mark never leaves the pod's network namespace, and reading the
/// mark of another process's socket needs `CAP_NET_ADMIN`.
fn mark() -> NonZeroU32 {
    NonZeroU32::new(random() & !FOREIGN_BITS).unwrap_or(NonZeroU32::MIN)
}

/// A random number. The seed of a new hasher is the standard library's source of random numbers.
fn random() -> u32 {
    let random = RandomState::new().build_hasher().finish();
    #[expect(clippy::cast_possible_truncation, reason = "32 random bits are enough")]
    let random = random as u32;
    random
}

/// Why mirroring could not start, or ended without a request.
#[derive(Debug, Error)]
enum RunError {
    #[error("{}", privilege::missing_net_raw_text())]
    NotPermitted,
    #[error("{}", privilege::refused_mark_text(release))]
    MarkRefused { release: String },
    #[error(transparent)]
    Ring(capture::OpenError),
    #[error(transparent)]
    Sockets(transmit::OpenError),
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    #[error(
        "the system refused an eventfd or epoll: {0}; check the limit of open files and the seccomp profile"
    )]
    System(#[from] Errno),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the control side could not start: {0}")]
    Runtime(#[source] std::io::Error),
    #[error("the worker thread could not start: {0}")]
    Spawn(#[source] std::io::Error),
    #[error("the log's thread could not start: {0}")]
    Log(#[source] std::io::Error),
    #[error("the worker ended without a request to stop; this is a defect, please report it")]
    WorkerLost,
}

impl From<capture::OpenError> for RunError {
    fn from(error: capture::OpenError) -> Self {
        match error {
            capture::OpenError::NotPermitted { .. } => Self::NotPermitted,
            other => Self::Ring(other),
        }
    }
}

impl From<transmit::OpenError> for RunError {
    fn from(error: transmit::OpenError) -> Self {
        match error {
            // The rings are already open, so the process has NET_RAW.
            transmit::OpenError::NotPermitted { .. } => Self::MarkRefused { release: release() },
            other => Self::Sockets(other),
        }
    }
}

/// The kernel's release.
fn release() -> String {
    let name = uname();
    let release = name.as_ref().map(|name| name.release().to_string_lossy());
    release
        .unwrap_or("of an unknown release".into())
        .into_owned()
}

impl RunError {
    const fn exit(&self) -> Exit {
        match self {
            Self::NotPermitted | Self::MarkRefused { .. } => Exit::NoPermission,
            Self::Key(_) => Exit::Usage,
            Self::WorkerLost => Exit::Software,
            _ => Exit::OsError,
        }
    }
}

/// Mirrors with the settings in `config` until a signal.
#[must_use]
pub fn run(config: &Config) -> ExitCode {
    let exit = match mirror_until_stopped(config) {
        Ok(()) => Exit::Success,
        Err(error) => {
            tracing::error!("{error}");
            error.exit()
        }
    };
    log::flush();
    exit.into()
}

fn mirror_until_stopped(config: &Config) -> Result<(), RunError> {
    raise_net_raw();
    let (runtime, mut signals) = idle::runtime().map_err(RunError::Runtime)?;
    let open = || Opened::open(config);
    let identity = Identity::of(config);
    let mut endpoint = Endpoint::new(config.metrics, config.ready);
    let opened = match config.on_failure {
        OnFailure::Exit => open()?,
        OnFailure::Idle => {
            let started = idle::until_started(open, &identity, &mut signals, &mut endpoint);
            match runtime.block_on(started) {
                Some(opened) => opened,
                None => return Ok(()),
            }
        }
    };
    let bounding_set = drop_all()?;
    log::start_writer().map_err(RunError::Log)?;
    tracing::debug!(?bounding_set, "sockets are open, capabilities are dropped");

    let mirror = Mirror::new(MirrorConfig {
        vni: config.vni,
        spread: config.spread,
        source_ports: config.source_ports,
        own_ports: opened.own_ports(),
        tunnel_port: opened.transmitter.tunnel_port(),
        first_identification: random(),
    });
    let Opened {
        rings,
        filter_handles,
        ring_plan,
        transmitter,
        prober,
        tunnels,
    } = opened;
    let has_ipv6 = transmitter.has_ipv6();
    let (tunnels, sessions) = tunnels.map_or((None, None), |(tunnels, sessions)| {
        (Some(tunnels), Some(sessions))
    });
    let sensors = Sensors::new(
        prober,
        config.mtu,
        config.sensor_prefer,
        listed(config),
        tunnels,
    );
    let published = Arc::new(Published::new(rings.len()));
    let (event_sender, events) = EventSender::channel();
    let (stop, first_list) = (Flag::new()?, Flag::new()?);
    let worker = Worker {
        rings,
        transmitter,
        mirror,
        sessions,
        table: Arc::clone(sensors.table()),
        published: Arc::clone(&published),
        events: event_sender,
        stop: stop.clone(),
        first_list: first_list.clone(),
        start_wait: start_wait(config),
    };
    log_start(config, &sensors);
    ring_plan.log();
    let worker = thread::Builder::new()
        .name("worker".to_owned())
        .spawn(move || worker.run())
        .map_err(RunError::Spawn)?;

    let filters = RingFilters::new(filter_handles, FilterChoice::new(config.filter.clone()));
    let interfaces = Interfaces::new(config.interface.names(), Instant::now());
    let known = Known {
        identity,
        ring_size: ring_plan.ring_bytes() as u64,
        ring_blocks: ring_plan.blocks() as u64,
        cpu_quota: CpuQuota::find(Path::new("/")),
    };
    let mut control = Control::new(sensors, filters, published, events, interfaces, known);
    let is_requested = runtime.block_on(async {
        endpoint.start();
        let inputs = Inputs {
            answers: control.answers().map_err(RunError::Runtime)?,
            lists: SensorLists::watch(config, has_ipv6),
            annotations: OwnAnnotationChanges::follow(config),
            endpoint,
        };
        Ok::<_, RunError>(control.run(inputs, &first_list, &mut signals).await)
    });
    stop.raise();
    let last = worker.join().map_err(|_| RunError::WorkerLost)??;
    let is_requested = is_requested?;
    // This makes room in the queue for the totals.
    log::flush();
    control.end(&last);
    is_requested.then_some(()).ok_or(RunError::WorkerLost)
}

/// What needs a capability to open. After a failure, the opening can be tried again.
struct Opened {
    rings: Vec<Ring>,
    filter_handles: Vec<FilterHandle>,
    ring_plan: ring_size::Plan,
    transmitter: Transmitter,
    prober: Prober,
    tunnels: Option<(Tunnels, Sessions)>,
}

impl Opened {
    fn open(config: &Config) -> Result<Self, RunError> {
        let mark = mark();
        let (rings, ring_plan) = ring_size::open(config, mark)?;
        let sockets = SocketConfig {
            yields: ring_plan.has_cpu_quota(),
            source_ports: config.source_ports,
            trailers: config.trailers,
            has_tunnel: config.has_tunnel_keys(),
            ..SocketConfig::new(mark.get())
        };
        let filter_handles = rings
            .iter()
            .map(Ring::filter_handle)
            .collect::<Result<_, _>>()?;
        let transmitter = Transmitter::open(&sockets)?;
        Ok(Self {
            rings,
            filter_handles,
            ring_plan,
            tunnels: tunnels(config, &transmitter)?,
            prober: Prober::open(&sockets)?,
            transmitter,
        })
    }

    /// The source ports of podspan's datagrams.
    fn own_ports(&self) -> Vec<u16> {
        let probes = [self.prober.source_port()];
        [self.transmitter.source_ports(), &probes].concat()
    }
}

/// Both sides of the encrypted tunnels; none without keys.
fn tunnels(
    config: &Config,
    transmitter: &Transmitter,
) -> Result<Option<(Tunnels, Sessions)>, RunError> {
    let Some(sources) = Sources::of(config) else {
        return Ok(None);
    };
    let files = KeyFiles::open(sources)?;
    // The settings have refused addresses of two families.
    let inner = Inner::new(config.wg_address.get(), config.wg_sensor_address.get());
    let inner = inner.unwrap_or(Inner::DEFAULT);
    let sockets = transmitter.tunnel_sockets().map_err(RunError::Runtime)?;
    let (to_worker, sessions) = Sessions::channel(transmitter.source_ports())?;
    Ok(Some((
        Tunnels::new(sockets, files, inner, to_worker),
        sessions,
    )))
}

/// How long frames wait for the first list of sensors, and for the first session with one that has a tunnel; zero
/// if the sensors are addresses without tunnels.
fn start_wait(config: &Config) -> Duration {
    match config.sensor {
        SensorSetting::Addresses(_) if !config.have_addresses_tunnels() => Duration::ZERO,
        _ => config.start_wait.duration(),
    }
}

/// The list of sensors, if the configuration has addresses.
fn listed(config: &Config) -> Vec<ListedSensor> {
    let has_tunnel = config.have_addresses_tunnels();
    config
        .sensor_addresses()
        .map(|address| ListedSensor::new(address, config.receiver, has_tunnel, false))
        .collect()
}

fn log_start(config: &Config, sensors: &Sensors) {
    let version = env!("CARGO_PKG_VERSION");
    let sensor = &config.sensor;
    let interface = config.interface.show();
    tracing::info!(version, %sensor, interface, vni = %config.vni, "podspan starts");
    for sensor in sensors.table().load().sensors() {
        tracing::info!(address = %sensor.address(), path_mtu = %sensor.path_mtu(), "sensor");
    }
}
