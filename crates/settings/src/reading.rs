//! Reads the variables from the environment, and collects all errors.
//!
//! In: pairs of name and value. Out: each variable's value, or an error in the list; and the settings in
//! effect with their origin. Invariants: bytes that are not UTF-8 and values of any content are errors,
//! never a panic; an empty variable counts as not set, except a required one.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;

use super::error::{ConfigErrors, Invalid, Reason};
use super::table::REFUSED;
use super::tunnel::Conflict;
use super::values::{Field, Value};
use super::variable::{Fallback, Variable};

/// One variable's value in effect, and its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    variable: &'static Variable,
    pub(super) value: String,
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
    /// From the environment; the value is a secret.
    Hidden,
    Default,
    /// Not set and without a default; the text says what happens then.
    Unset(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("env"),
            Self::Hidden => f.write_str("env; it is set, and not shown"),
            Self::Default => f.write_str("default"),
            Self::Unset(meaning) => write!(f, "default: {meaning}"),
        }
    }
}

/// The result of reading the environment so far.
#[derive(Default)]
pub(super) struct Reading {
    /// The settings in effect, in the order in which they were read.
    pub(super) effective: Vec<Setting>,
    pub(super) errors: Vec<Invalid>,
}

impl Reading {
    /// Selects the table's variables. One that is not UTF-8 becomes an error and is left out. envy's own
    /// reader cannot be used, because it calls `std::env::vars`, which panics for such a variable.
    pub(super) fn select(
        &mut self,
        table: &[&'static Variable],
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Vec<(String, String)> {
        let mut selected = Vec::new();
        for (name, value) in variables {
            let refused = REFUSED.iter().find(|(refused, _)| name == *refused);
            if let Some((name, why)) = refused.filter(|_| !value.is_empty()) {
                let value = value.to_string_lossy().into_owned();
                self.errors.push(Invalid::Refused { name, value, why });
                continue;
            }
            // Names are compared exactly, because envy treats `mtu` and `MTU` as the same name.
            let Some(variable) = table.iter().find(|variable| name == variable.name) else {
                continue;
            };
            match value.into_string() {
                Ok(value) if is_service_link(variable, &value) => {}
                Ok(value) => selected.push((variable.name.to_owned(), value)),
                Err(bytes) => {
                    self.wrong(variable, &bytes.to_string_lossy(), Reason::NotUtf8);
                }
            }
        }
        selected
    }

    /// Parses a variable or its fallback, and stores the value or the error.
    pub(super) fn value<T: Value>(
        &mut self,
        variable: &'static Variable,
        field: &Field<T>,
    ) -> Option<T> {
        if self.is_wrong(variable) {
            return None;
        }
        let set = field.text.as_deref().filter(|text| !text.is_empty());
        let (text, origin) = match (set, &variable.fallback) {
            (Some(text), _) if T::SECRET => (text, Origin::Hidden),
            (Some(text), _) => (text, Origin::Environment),
            (None, Fallback::Value(text)) => (*text, Origin::Default),
            (None, Fallback::Unset(meaning)) => {
                let (value, origin) = (String::new(), Origin::Unset(meaning));
                self.effective.push(Setting {
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
                self.effective.push(Setting {
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

    /// Reports two addresses that are the same. This check needs the default port.
    pub(super) fn refuse_same_endpoints(
        &mut self,
        variable: &'static Variable,
        value: &str,
        default_port: &'static Variable,
        mut addresses: impl Iterator<Item = SocketAddr>,
    ) {
        let mut seen = HashSet::new();
        if let Some(twice) = addresses.find(|address| !seen.insert(*address)) {
            let reason = Reason::SameEndpoint(twice, default_port.name);
            self.wrong(variable, value, reason);
        }
    }

    /// Reports a setting that contradicts another one.
    pub(super) fn conflict(
        &mut self,
        variable: &'static Variable,
        value: &str,
        conflict: Conflict,
    ) {
        self.errors.push(Invalid::Conflict {
            variable,
            value: shown(variable, value),
            conflict,
        });
    }

    /// Whether an error about this variable has been found.
    pub(super) fn is_wrong(&self, variable: &Variable) -> bool {
        let mut errors = self.errors.iter();
        errors.any(|error| error.name() == Some(variable.name))
    }

    /// The errors, sorted in the table's order.
    pub(super) fn into_errors(mut self, table: &[&Variable]) -> ConfigErrors {
        self.errors.sort_by_key(|error| {
            table
                .iter()
                .position(|variable| error.name() == Some(variable.name))
        });
        ConfigErrors(self.errors)
    }

    fn wrong(&mut self, variable: &'static Variable, value: &str, reason: Reason) {
        self.errors.push(Invalid::Wrong {
            variable,
            value: shown(variable, value),
            reason,
        });
    }
}

/// The value of a variable for an error, unless it is a secret.
fn shown(variable: &Variable, value: &str) -> Option<String> {
    (!variable.secret).then(|| value.to_owned())
}

/// Whether Kubernetes set this variable for a Service in the pod's namespace (a Docker link variable):
/// `SENSOR_PORT=tcp://10.96.7.7:4789` for a Service named `sensor`. The operator did not set it.
fn is_service_link(variable: &Variable, value: &str) -> bool {
    let schemes = ["tcp://", "udp://", "sctp://"];
    ["SENSOR_PORT", "TUNNEL_PORT"].contains(&variable.name)
        && schemes.iter().any(|scheme| value.starts_with(scheme))
}
