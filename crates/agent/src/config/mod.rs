//! The configuration: environment variables in, one checked [`Config`] or all errors out.
//!
//! `settings` is the contract: every variable with type, default, text and example, declared once;
//! `variable` makes all else from it. serde and envy take the variables of the table out of the
//! environment (`reading`), `values`, `names` and `sensor` parse them, `error` words what is wrong,
//! `text` shows the table to people. Variables that are not in the table are other programs' and left
//! alone.
//!
//! Invariants: no value can make this panic, bytes that are not UTF-8 among them; a variable set to
//! nothing counts as not set, apart from a required one, which is told to be empty; each wrong
//! variable is reported, not only the first.

mod bounds;
mod error;
mod names;
mod reading;
mod sensor;
mod settings;
#[cfg(test)]
mod tests;
mod text;
mod values;
mod variable;

use std::ffi::OsString;
use std::net::SocketAddr;

pub use bounds::{LEAST_MTU, RingSize, StartWait};
pub use error::{ConfigErrors, Invalid, Reason};
pub use names::{FileNames, HostName, Namespace, Namespaces, ObjectName, PodUid};
pub use sensor::{Sensor, SensorAddress};
pub use settings::{Config, TABLE};
pub use text::{help, markdown};
pub use values::{Interfaces, LogFormat, LogLevel, OnFailure, Prefer, Value};
pub use variable::{Fallback, Variable};

use reading::{Reading, Setting};
use settings::{Environment, Values};

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
        let ours = reading.take_ours(&TABLE, variables);
        let environment: Environment =
            envy::from_iter(ours).map_err(|error| ConfigErrors(vec![Invalid::from(error)]))?;
        let values = Values::read(&environment, &mut reading);
        if let (Some(sensor), Some(port)) = (&values.sensor, values.sensor_port) {
            let addresses = sensor.addresses(port);
            reading.refuse_same_endpoints(&settings::SENSOR, &sensor.show(), addresses);
        }
        let effective = std::mem::take(&mut reading.effective);
        match values.complete(effective) {
            Some(config) if reading.errors.is_empty() => Ok(config),
            _ => Err(reading.into_errors(&TABLE)),
        }
    }

    /// The addresses of `SENSOR` with their ports; none when it is a name.
    pub fn sensor_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.sensor.addresses(self.sensor_port)
    }

    /// What holds, as `NAME=value  # origin`, a line for each variable: the answer to
    /// `--check-config`. Without the comments the lines are an environment that means the same.
    #[must_use]
    pub fn effective(&self) -> String {
        self.effective.iter().map(Setting::to_string).collect()
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
        let ours = reading.take_ours(&TABLE, variables);
        let environment: Environment = envy::from_iter(ours).unwrap_or_default();
        let values = Values::read(&environment, &mut reading);
        Self {
            on_failure: values.on_failure.unwrap_or(OnFailure::Exit),
            log: values.log.unwrap_or(LogLevel::Info),
            log_format: values.log_format.unwrap_or(LogFormat::Text),
        }
    }
}
