//! The settings: environment variables in, one checked [`Config`] or all errors out. It compiles for every
//! platform, because the plugin of kubectl checks the same values as podspan.
//!
//! `table` is the contract: it declares every variable once, with type, default, text, example and pattern.
//! `variable` generates everything else from it. serde and envy read the table's variables from the
//! environment (`reading`); `values`, `names`, `sensor`, `receiver`, `metrics` and `tunnel` parse them, and `tunnel` checks
//! what its settings must be together; `error` has the error texts, and [`foreign`] what they quote. Variables that are not in the table belong to other programs and are
//! ignored. With the feature `inject`, `annotation` gives the table to the injection.
//!
//! Invariants: no value causes a panic, including bytes that are not UTF-8; an empty variable counts as
//! not set, except a required one, which is reported as empty; each wrong variable is reported, not only
//! the first; a secret key is shown nowhere.

#![forbid(unsafe_code)]

#[cfg(feature = "inject")]
mod annotation;
mod bounds;
mod error;
pub mod foreign;
mod metrics;
mod names;
#[cfg(feature = "inject")]
mod pattern;
mod reading;
mod receiver;
mod sensor;
mod table;
#[cfg(test)]
mod tests;
mod tunnel;
mod values;
mod variable;

use std::ffi::OsString;
use std::net::SocketAddr;

#[cfg(feature = "inject")]
pub use annotation::injection;
pub use bounds::{MIN_MTU, RingSetting, RingSize, StartWait};
pub use error::{ConfigErrors, Invalid, Reason};
pub use foreign::Foreign;
pub use metrics::{MetricsAddress, Ready};
pub use names::{FileNames, HostName, Namespace, Namespaces, ObjectName, PodUid};
pub use receiver::Receiver;
pub use sensor::{SensorAddress, SensorSetting};
#[cfg(feature = "inject")]
pub use table::SETTINGS;
pub use table::{Config, TABLE};
pub use tunnel::{Conflict, FilePath, InnerAddress, Tunnel};
pub use values::{Annotations, Interfaces, LogFormat, LogLevel, OnFailure, Prefer, Value};
pub use variable::{Fallback, Variable};

use reading::{Reading, Setting};
use table::{Environment, Values};

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
        let selected = reading.select(&TABLE, variables);
        let environment: Environment =
            envy::from_iter(selected).map_err(|error| ConfigErrors(vec![Invalid::from(error)]))?;
        let values = Values::read(&environment, &mut reading);
        let default_port = match values.tunnel {
            None | Some(Tunnel::Off) => (&table::SENSOR_PORT, values.sensor_port),
            Some(_) => (&table::TUNNEL_PORT, values.tunnel_port),
        };
        if let (Some(sensor), (variable, Some(port))) = (&values.sensor, default_port) {
            let addresses = sensor.addresses(port);
            reading.refuse_same_endpoints(&table::SENSOR, &sensor.show(), variable, addresses);
        }
        tunnel::check_together(&values, &mut reading);
        let effective = std::mem::take(&mut reading.effective);
        match values.complete(effective) {
            Some(config) if reading.errors.is_empty() => Ok(config),
            _ => Err(reading.into_errors(&TABLE)),
        }
    }

    /// The addresses of `SENSOR` with their ports; none when it is a name. The ports are those of the tunnel if
    /// there is one: [`Self::have_addresses_tunnels`].
    pub fn sensor_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let default_port = match self.tunnel {
            Tunnel::Off => self.sensor_port,
            Tunnel::Wireguard | Tunnel::Required => self.tunnel_port,
        };
        self.sensor.addresses(default_port)
    }

    /// The settings in effect, a line `NAME=value  # origin` for each variable: the output of
    /// `--check-config`. Without the comments, the lines are an environment with the same meaning, but for a
    /// secret key, which is not shown.
    #[must_use]
    pub fn effective(&self) -> String {
        self.effective.iter().map(Setting::to_string).collect()
    }
}

/// The settings that podspan needs even if others are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Basics {
    /// What a start that fails does.
    pub on_failure: OnFailure,
    /// The level of the log.
    pub log: LogLevel,
    /// The format of the log.
    pub log_format: LogFormat,
    /// Where metrics and the state are served; nowhere if it is wrong.
    pub metrics: MetricsAddress,
    /// What the readiness means.
    pub ready: Ready,
}

impl Basics {
    /// Reads this process's environment. A wrong value counts as not set, and [`Config`] reports it.
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_vars(std::env::vars_os())
    }

    /// Reads variables given as pairs of name and value.
    pub fn from_vars(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut reading = Reading::default();
        let selected = reading.select(&TABLE, variables);
        let environment: Environment = envy::from_iter(selected).unwrap_or_default();
        let values = Values::read(&environment, &mut reading);
        Self {
            on_failure: values.on_failure.unwrap_or(OnFailure::Exit),
            log: values.log.unwrap_or(LogLevel::Info),
            log_format: values.log_format.unwrap_or(LogFormat::Text),
            metrics: values.metrics.unwrap_or(MetricsAddress::Off),
            ready: values.ready.unwrap_or(Ready::Lenient),
        }
    }
}
