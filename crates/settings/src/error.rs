//! The errors of the settings, as texts for the operator.
//!
//! [`Reason`] is what is wrong with a value. [`Invalid`] adds the variable, the value, what is expected and
//! an example. [`ConfigErrors`] has all errors, so that an operator can correct them in one step. Values
//! are shown as [`Foreign`] texts, each within its line.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::foreign::Foreign;
use mirror::SourcePorts;
use thiserror::Error;
use wire::InvalidInterfaceName;
use wire::Vni;

use super::bounds::{MIN_MTU, RingSize, StartWait};
use super::tunnel::Conflict;
use super::variable::Variable;

/// What is wrong with a value. The texts continue a sentence that begins with the variable and its value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts describe the variants")]
pub enum Reason {
    #[error("it is empty")]
    Empty,
    #[error("it is not UTF-8 text")]
    NotUtf8,
    #[error("it is not one of the allowed words")]
    UnknownWord,
    #[error("it is not a number")]
    NotANumber,
    #[error(
        "a hexadecimal number needs the prefix 0x: VNI=0x{shown}. The old script read every VNI as \
         hexadecimal; podspan does not",
        shown = Foreign(.0)
    )]
    BareHexadecimal(String),
    #[error("a VNI has 24 bits; the largest is {max} (0x{max:x})", max = Vni::MAX.get())]
    VniTooLarge,
    #[error("a port is a number from 1 to 65535")]
    BadPort,
    #[error("it is neither off, nor :port, nor an address with a port")]
    NoMetricsAddress,
    #[error(
        "a port below 1024 needs a capability, and podspan drops all; use a port from 1024 to 65535"
    )]
    PrivilegedPort,
    #[error("the number of source ports must be a power of two, at most {}", SourcePorts::MAX.get())]
    BadSourcePorts,
    #[error("it is not a percentage: a whole number followed by %")]
    NotAPercentage,
    #[error("it is out of bounds: the smallest is 1%, the largest 100%; off is none")]
    PercentageOutOfBounds,
    #[error("it is out of bounds: the smallest is {MIN_MTU}, the largest 65535")]
    MtuOutOfBounds,
    #[error("the unit {shown:?} is unknown; use KiB, MiB or GiB, or no unit for bytes", shown = Foreign(.0))]
    UnknownUnit(String),
    #[error("it is out of bounds: the smallest is {min}, the largest {max}",
            min = RingSize::MIN, max = RingSize::MAX)]
    RingSizeOutOfBounds,
    #[error("it is not a duration: a whole number followed by s or ms")]
    NotATime,
    #[error("it is out of bounds: the longest is {max}", max = StartWait::MAX)]
    StartWaitOutOfBounds,
    #[error("it has an empty entry: two commas in a row, or a comma at an end")]
    EmptyEntry,
    #[error("{shown} is in the list twice", shown = Foreign(.0))]
    Duplicate(String),
    #[error("{shown:?} is not a valid name of a network interface: {rule}",
            shown = Foreign(&.0.0), rule = InvalidInterfaceName::RULE)]
    BadInterface(#[from] InvalidInterfaceName),
    #[error("{shown:?} is not a valid Kubernetes name: {1}", shown = Foreign(.0))]
    BadName(String, &'static str),
    #[error("{shown:?} is not an address", shown = Foreign(.0))]
    NotAnAddress(String),
    #[error("{shown:?} is a name with a port; set the port with SENSOR_PORT", shown = Foreign(.0))]
    NameWithPort(String),
    #[error(
        "it has several names ({first:?} and {second:?}); use one name, which selects all pods with \
         this label",
        first = Foreign(.0), second = Foreign(.1)
    )]
    SeveralNames(String, String),
    #[error("it mixes names and addresses ({name:?} is a name); use one name, or addresses only",
            name = Foreign(.0))]
    Mixture(String),
    #[error("{0} is not the address of a host: it is {1}")]
    UnusableAddress(IpAddr, &'static str),
    #[error("{0} is in the list twice, because {1} is {port}", port = .0.port())]
    SameEndpoint(SocketAddr, &'static str),
    #[error("{} (expected there: {})", .0.place_and_problem(), .0.expected())]
    BadFilter(Box<filter::Error>),
    #[error("it is neither api nor off nor an absolute path")]
    NoSourceOfAnnotations,
    #[error("it contains control characters")]
    ControlCharacters,
    #[error("it is not an absolute path: it does not begin with /")]
    NotAnAbsolutePath,
    #[error("it has {0} characters and not 44")]
    KeyLength(usize),
    #[error("it is not base64 of 32 bytes")]
    KeyEncoding,
    #[error("it is a key of zeros, which means none")]
    KeyOfZeros,
}

/// A variable that is missing or wrong.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Invalid {
    /// Required and not set.
    #[error("{name} is not set; expected: {expected}; for example {name}={example}",
            name = .0.name, expected = .0.expected, example = .0.example)]
    Missing(&'static Variable),
    /// Set to an invalid value.
    #[error("{set}: {reason}; expected: {expected}; for example {name}={example}",
            name = variable.name, expected = variable.expected, example = variable.example,
            set = Set(variable, value.as_deref()))]
    Wrong {
        /// The variable.
        variable: &'static Variable,
        /// Its value, with bytes that are not UTF-8 replaced; none of a secret variable.
        value: Option<String>,
        /// What is wrong with it.
        reason: Reason,
    },
    /// Set to a valid value that contradicts another setting.
    #[error("{set}: {conflict}", set = Set(variable, value.as_deref()))]
    Conflict {
        /// The variable.
        variable: &'static Variable,
        /// Its value; none of a secret variable.
        value: Option<String>,
        /// What it contradicts.
        conflict: Conflict,
    },
    /// Set, but podspan does without it.
    #[error("{name}={value:?}: {why}: see FILTER, for example FILTER={example:?}",
            value = Foreign(value), example = super::table::FILTER.example)]
    Refused {
        /// The variable's name.
        name: &'static str,
        /// Its value.
        value: String,
        /// Why podspan does without it.
        why: &'static str,
    },
    /// Rejected by serde before any value was parsed.
    #[error("the environment cannot be read: {error}", error = Foreign(&.0.to_string()))]
    Unreadable(#[from] envy::Error),
}

impl Invalid {
    /// The name of the variable, if the error is about one variable.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Self::Missing(variable)
            | Self::Wrong { variable, .. }
            | Self::Conflict { variable, .. } => Some(variable.name),
            Self::Refused { name, .. } => Some(name),
            Self::Unreadable(_) => None,
        }
    }
}

/// A variable and its value, if that may be shown.
struct Set<'a>(&'static Variable, Option<&'a str>);

impl fmt::Display for Set<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)?;
        match self.1 {
            Some(value) => write!(f, "={:?}", Foreign(value)),
            None => Ok(()),
        }
    }
}

/// All errors in the environment, in the table's order. Never empty.
#[derive(Debug, Clone, PartialEq, Error)]
pub struct ConfigErrors(pub(super) Vec<Invalid>);

impl ConfigErrors {
    /// The errors, one by one.
    #[must_use]
    pub fn all(&self) -> &[Invalid] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "the configuration is wrong:")?,
            count => write!(f, "the configuration is wrong in {count} places:")?,
        }
        for invalid in &self.0 {
            write!(f, "\n  {invalid}")?;
        }
        write!(f, "\npodspan --help describes every setting")
    }
}
