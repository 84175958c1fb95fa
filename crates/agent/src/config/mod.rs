//! The configuration: environment variables in, one checked [`Config`] or all errors out.
//!
//! [`table`] is the contract: every variable with type, default, text and example. serde and envy
//! take the variables of the table out of the environment, `values`, `names` and `sensor` parse
//! them, `error` words what is wrong, `text` shows the table to people.
//! Variables that are not in the table are other programs' and left alone.
//!
//! Invariants: no value can make this panic, bytes that are not UTF-8 among them; a variable set to
//! nothing counts as not set, apart from a required one, which is told to be empty; each wrong
//! variable is reported, not only the first.

mod error;
mod names;
mod sensor;
pub mod table;
#[cfg(test)]
mod tests;
mod text;
mod values;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;

use mirror::{SourcePorts, Spread};
use serde::Deserialize;
use wire::{Mtu, Vni};

pub use error::{ConfigErrors, Invalid, Reason};
pub use names::{FileNames, HostName, Namespace, Namespaces, ObjectName, PodUid};
pub use sensor::{Sensor, SensorAddress};
pub use text::{help, markdown};
pub use values::{
    Interfaces, LEAST_MTU, LogFormat, LogLevel, OnFailure, Prefer, Receiver, RingSize, StartWait,
    Value,
};

use table::{Fallback, Variable};
use values::Field;

/// The settings, valid each for itself and together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the copies go.
    pub sensor: Sensor,
    /// What is captured.
    pub interfaces: Interfaces,
    /// The network identifier in the VXLAN header.
    pub vni: Vni,
    /// Where a sensor's name is looked up; none: in our own namespace.
    pub sensor_namespace: Option<Namespaces>,
    /// The destination port where nothing else names one.
    pub sensor_port: NonZeroU16,
    /// Which of the sensors found by name are used.
    pub sensor_prefer: Prefer,
    /// How sensors that declare nothing take the copies in.
    pub receiver: Receiver,
    /// What goes to one sensor.
    pub spread: Spread,
    /// How many source ports the copies leave by.
    pub source_ports: SourcePorts,
    /// The node that we run on.
    pub node_name: Option<ObjectName>,
    /// Our pod.
    pub pod_name: Option<ObjectName>,
    /// Our namespace.
    pub pod_namespace: Option<Namespace>,
    /// Our pod's unique identifier.
    pub pod_uid: Option<PodUid>,
    /// Where the API server is, as the kubelet says it to pods.
    pub kubernetes_host: Option<HostName>,
    /// Its port.
    pub kubernetes_port: Option<NonZeroU16>,
    /// Kubeconfig files, which count before the kubelet's word.
    pub kubeconfig: Option<FileNames>,
    /// Upper bound for the outer packet; none: what the routes say.
    pub mtu: Option<Mtu>,
    /// Memory of each interface's ring.
    pub ring_size: RingSize,
    /// How long frames wait for the first view of the sensors.
    pub start_wait: StartWait,
    /// What a start that fails does.
    pub on_failure: OnFailure,
    /// Which lines are logged.
    pub log: LogLevel,
    /// How they are written.
    pub log_format: LogFormat,
    settings: Vec<Setting>,
}

/// What serde reads: the table's variables by their names in small letters, as envy has them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Environment {
    sensor: Field<Sensor>,
    interface: Field<Interfaces>,
    vni: Field<Vni>,
    sensor_namespace: Field<Namespaces>,
    sensor_port: Field<NonZeroU16>,
    sensor_prefer: Field<Prefer>,
    receiver: Field<Receiver>,
    spread: Field<Spread>,
    source_ports: Field<SourcePorts>,
    node_name: Field<ObjectName>,
    pod_name: Field<ObjectName>,
    pod_namespace: Field<Namespace>,
    pod_uid: Field<PodUid>,
    kubernetes_service_host: Field<HostName>,
    kubernetes_service_port: Field<NonZeroU16>,
    kubeconfig: Field<FileNames>,
    mtu: Field<Mtu>,
    ring_size: Field<RingSize>,
    start_wait: Field<StartWait>,
    on_failure: Field<OnFailure>,
    log: Field<LogLevel>,
    log_format: Field<LogFormat>,
}

impl Config {
    /// Reads this process's environment.
    ///
    /// # Errors
    /// All variables that are missing or wrong.
    pub fn from_env() -> Result<Self, ConfigErrors> {
        Self::from_vars(std::env::vars_os())
    }

    /// Reads variables given as pairs of name and value.
    ///
    /// # Errors
    /// All variables that are missing or wrong.
    pub fn from_vars(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigErrors> {
        let mut reading = Reading::default();
        let ours = reading.take_ours(variables);
        let environment: Environment =
            envy::from_iter(ours).map_err(|error| ConfigErrors(vec![Invalid::from(error)]))?;
        match Self::read(&environment, &mut reading) {
            Some(config) if reading.errors.is_empty() => Ok(config),
            _ => Err(reading.into_errors()),
        }
    }

    /// None when a variable that has no fallback, or a wrong one, left its error in `reading`.
    fn read(environment: &Environment, reading: &mut Reading) -> Option<Self> {
        // All are read before the first `?`, so that all errors are found.
        let sensor = reading.value(&table::SENSOR, &environment.sensor);
        let interfaces = reading.value(&table::INTERFACE, &environment.interface);
        let vni = reading.value(&table::VNI, &environment.vni);
        let sensor_namespace =
            reading.value(&table::SENSOR_NAMESPACE, &environment.sensor_namespace);
        let sensor_port = reading.value(&table::SENSOR_PORT, &environment.sensor_port);
        let sensor_prefer = reading.value(&table::SENSOR_PREFER, &environment.sensor_prefer);
        let receiver = reading.value(&table::RECEIVER, &environment.receiver);
        let spread = reading.value(&table::SPREAD, &environment.spread);
        let source_ports = reading.value(&table::SOURCE_PORTS, &environment.source_ports);
        let node_name = reading.value(&table::NODE_NAME, &environment.node_name);
        let pod_name = reading.value(&table::POD_NAME, &environment.pod_name);
        let pod_namespace = reading.value(&table::POD_NAMESPACE, &environment.pod_namespace);
        let pod_uid = reading.value(&table::POD_UID, &environment.pod_uid);
        let kubernetes_host = reading.value(
            &table::KUBERNETES_SERVICE_HOST,
            &environment.kubernetes_service_host,
        );
        let kubernetes_port = reading.value(
            &table::KUBERNETES_SERVICE_PORT,
            &environment.kubernetes_service_port,
        );
        let kubeconfig = reading.value(&table::KUBECONFIG, &environment.kubeconfig);
        let mtu = reading.value(&table::MTU, &environment.mtu);
        let ring_size = reading.value(&table::RING_SIZE, &environment.ring_size);
        let start_wait = reading.value(&table::START_WAIT, &environment.start_wait);
        let on_failure = reading.value(&table::ON_FAILURE, &environment.on_failure);
        let log = reading.value(&table::LOG, &environment.log);
        let log_format = reading.value(&table::LOG_FORMAT, &environment.log_format);
        reading.judge_together(sensor.as_ref(), sensor_port);

        Some(Self {
            sensor: sensor?,
            interfaces: interfaces?,
            vni: vni?,
            sensor_namespace,
            sensor_port: sensor_port?,
            sensor_prefer: sensor_prefer?,
            receiver: receiver?,
            spread: spread?,
            source_ports: source_ports?,
            node_name,
            pod_name,
            pod_namespace,
            pod_uid,
            kubernetes_host,
            kubernetes_port,
            kubeconfig,
            mtu,
            ring_size: ring_size?,
            start_wait: start_wait?,
            on_failure: on_failure?,
            log: log?,
            log_format: log_format?,
            settings: std::mem::take(&mut reading.settings),
        })
    }

    /// The addresses of `SENSOR` with their ports; none when it is a name.
    pub fn sensor_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.sensor.addresses(self.sensor_port)
    }

    /// What holds, as `NAME=value  # origin`, a line for each variable: the answer to
    /// `--check-config`. Without the comments the lines are an environment that means the same.
    #[must_use]
    pub fn effective(&self) -> String {
        self.settings.iter().map(Setting::to_string).collect()
    }
}

/// What podspan needs to know although other settings may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Basics {
    /// What a start that fails does.
    pub on_failure: OnFailure,
    /// Which lines are logged.
    pub log: LogLevel,
    /// How they are written.
    pub log_format: LogFormat,
}

impl Basics {
    /// Reads this process's environment. What is wrong there counts as not set, and [`Config`] reports
    /// it.
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_vars(std::env::vars_os())
    }

    /// Reads variables given as pairs of name and value.
    pub fn from_vars(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut reading = Reading::default();
        let ours = reading.take_ours(variables);
        let environment: Environment = envy::from_iter(ours).unwrap_or_default();
        let on_failure = reading.value(&table::ON_FAILURE, &environment.on_failure);
        let log = reading.value(&table::LOG, &environment.log);
        let log_format = reading.value(&table::LOG_FORMAT, &environment.log_format);
        Self {
            on_failure: on_failure.unwrap_or(OnFailure::Exit),
            log: log.unwrap_or(LogLevel::Info),
            log_format: log_format.unwrap_or(LogFormat::Text),
        }
    }
}

/// One variable's effective value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    variable: &'static Variable,
    value: String,
    origin: Origin,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}={}  # {}",
            self.variable.name, self.value, self.origin
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Environment,
    Default,
    /// Not set and without a default; the words say what then happens.
    Unset(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("env"),
            Self::Default => f.write_str("default"),
            Self::Unset(meaning) => write!(f, "default: {meaning}"),
        }
    }
}

/// What a reading of the environment has found so far.
#[derive(Default)]
struct Reading {
    settings: Vec<Setting>,
    errors: Vec<Invalid>,
}

impl Reading {
    /// Picks the table's variables. One that is not UTF-8 is noted as wrong and left out, which is
    /// why `std::env::vars`, envy's own way, cannot be used: it panics at such a one.
    fn take_ours(
        &mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Vec<(String, String)> {
        let mut ours = Vec::new();
        for (name, value) in variables {
            // Names are compared exactly, since to envy `mtu` and `MTU` would be the same twice.
            let Some(variable) = table::TABLE.into_iter().find(|known| name == known.name) else {
                continue;
            };
            match value.into_string() {
                Ok(value) if is_service_link(variable, &value) => {}
                Ok(value) => ours.push((variable.name.to_owned(), value)),
                Err(bytes) => {
                    self.wrong(variable, &bytes.to_string_lossy(), Reason::NotUtf8);
                }
            }
        }
        ours
    }

    /// Parses a variable or its fallback, and keeps what came of it.
    fn value<T: Value>(&mut self, variable: &'static Variable, field: &Field<T>) -> Option<T> {
        if self
            .errors
            .iter()
            .any(|error| error.name() == Some(variable.name))
        {
            return None;
        }
        let set = field.text.as_deref().filter(|text| !text.is_empty());
        let (text, origin) = match (set, &variable.fallback) {
            (Some(text), _) => (text, Origin::Environment),
            (None, Fallback::Value(text)) => (*text, Origin::Default),
            (None, Fallback::Unset(meaning)) => {
                let (value, origin) = (String::new(), Origin::Unset(meaning));
                self.settings.push(Setting {
                    variable,
                    value,
                    origin,
                });
                return None;
            }
            (None, Fallback::Required) if field.text.is_some() => {
                self.wrong(variable, "", Reason::Empty);
                return None;
            }
            (None, Fallback::Required) => {
                self.errors.push(Invalid::Missing(variable));
                return None;
            }
        };
        match T::parse(text) {
            Ok(value) => {
                self.settings.push(Setting {
                    variable,
                    value: value.show(),
                    origin,
                });
                Some(value)
            }
            Err(reason) => {
                self.wrong(variable, text, reason);
                None
            }
        }
    }

    /// Judges what only shows when several variables are seen together.
    fn judge_together(&mut self, sensor: Option<&Sensor>, port: Option<NonZeroU16>) {
        let (Some(sensor), Some(port)) = (sensor, port) else {
            return;
        };
        let mut seen = HashSet::new();
        if let Some(twice) = sensor
            .addresses(port)
            .find(|address| !seen.insert(*address))
        {
            self.wrong(&table::SENSOR, &sensor.show(), Reason::SameEndpoint(twice));
        }
    }

    /// The errors in the table's order, whatever order they were found in.
    fn into_errors(mut self) -> ConfigErrors {
        self.errors.sort_by_key(|error| {
            table::TABLE
                .iter()
                .position(|variable| error.name() == Some(variable.name))
        });
        ConfigErrors(self.errors)
    }

    fn wrong(&mut self, variable: &'static Variable, value: &str, reason: Reason) {
        self.errors.push(Invalid::Wrong {
            variable,
            value: value.to_owned(),
            reason,
        });
    }
}

/// Whether Kubernetes set this for a Service of the pod's namespace, as Docker once did for links:
/// `SENSOR_PORT=tcp://10.96.7.7:4789` where a Service is named `sensor`. Nobody asked for it.
fn is_service_link(variable: &Variable, value: &str) -> bool {
    let schemes = ["tcp://", "udp://", "sctp://"];
    variable == &table::SENSOR_PORT && schemes.iter().any(|scheme| value.starts_with(scheme))
}
