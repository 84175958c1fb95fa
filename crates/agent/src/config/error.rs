//! What can be wrong with the environment, in words for the operator.
//!
//! [`Reason`] says what is wrong with a value, [`Invalid`] adds the variable, the value, what is
//! expected and an example, and [`ConfigErrors`] lists all of them at once: whoever mends a manifest
//! shall need one round, not one for each mistake. Values are shown as [`Foreign`] texts, each within
//! its line.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use capture::InvalidInterfaceName;
use discovery::Foreign;
use mirror::SourcePorts;
use thiserror::Error;
use wire::Vni;

use super::bounds::{LEAST_MTU, RingSize, StartWait};
use super::variable::Variable;

/// What is wrong with a value. The texts continue a sentence that named the variable and its value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(
    missing_docs,
    reason = "each text says it, to operators and readers alike"
)]
pub enum Reason {
    #[error("it is empty")]
    Empty,
    #[error("it is not UTF-8 text")]
    NotUtf8,
    #[error("it is none of the known words")]
    UnknownWord,
    #[error("it is not a number")]
    NotANumber,
    #[error(
        "the letters a to f make it hexadecimal, which needs 0x in front: VNI=0x{shown}. The \
             old script read every VNI as hexadecimal; podspan does not",
        shown = Foreign(.0)
    )]
    BareHexadecimal(String),
    #[error("a VNI has 24 bits, so {max} (0x{max:x}) is the largest", max = Vni::MAX.get())]
    VniTooLarge,
    #[error("ports go from 1 to 65535")]
    BadPort,
    #[error("the number of source ports is a power of two, {} at most", SourcePorts::MAX.get())]
    BadSourcePorts,
    #[error("IPv6 needs paths of at least {LEAST_MTU} bytes, and an IP packet has at most 65535")]
    MtuOutOfBounds,
    #[error("the unit {shown:?} is not known; known are KiB, MiB and GiB, or nothing for bytes", shown = Foreign(.0))]
    UnknownUnit(String),
    #[error("it is out of bounds: the least is {min}, the largest {max}",
            min = RingSize::MIN, max = RingSize::MAX)]
    RingSizeOutOfBounds,
    #[error("it is no time: a whole number with s or ms behind it")]
    NotATime,
    #[error("it is out of bounds: the longest is {max}", max = StartWait::MAX)]
    StartWaitOutOfBounds,
    #[error("there is an entry with nothing in it between or beside the commas")]
    EmptyEntry,
    #[error("{shown} is in it twice", shown = Foreign(.0))]
    Duplicate(String),
    #[error("{shown:?} cannot name a network interface: {rule}",
            shown = Foreign(&.0.0), rule = InvalidInterfaceName::RULE)]
    BadInterface(#[from] InvalidInterfaceName),
    #[error("{shown:?} is no name that Kubernetes allows: {1}", shown = Foreign(.0))]
    BadName(String, &'static str),
    #[error("{shown:?} is not an address", shown = Foreign(.0))]
    NotAnAddress(String),
    #[error("{shown:?} is a name with a port; set the port with SENSOR_PORT", shown = Foreign(.0))]
    NameWithPort(String),
    #[error(
        "it names several sensors ({first:?} and {second:?}); one name stands for all pods that \
             have it",
        first = Foreign(.0), second = Foreign(.1)
    )]
    SeveralNames(String, String),
    #[error("it mixes names and addresses ({name:?} is a name); use the one or the other",
            name = Foreign(.0))]
    Mixture(String),
    #[error("{0} is no address of one host: it is {1}")]
    UnusableAddress(IpAddr, &'static str),
    #[error("{0} is in it twice, since SENSOR_PORT is {port}", port = .0.port())]
    SameEndpoint(SocketAddr),
    #[error("it has control characters")]
    ControlCharacters,
}

/// A variable that is missing or wrong.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Invalid {
    /// Required and not set.
    #[error("{name} is not set; expected is {expected}; for example {name}={example}",
            name = .0.name, expected = .0.expected, example = .0.example)]
    Missing(&'static Variable),
    /// Set to something that cannot be used.
    #[error("{name}={value:?}: {reason}; expected is {expected}; for example {name}={example}",
            name = variable.name, expected = variable.expected, example = variable.example,
            value = Foreign(value))]
    Wrong {
        /// Which one.
        variable: &'static Variable,
        /// Its value; bytes that are not UTF-8 replaced.
        value: String,
        /// What is wrong with it.
        reason: Reason,
    },
    /// Refused by serde before any value was looked at.
    #[error("the environment cannot be read: {error}", error = Foreign(&.0.to_string()))]
    Unreadable(#[from] envy::Error),
}

impl Invalid {
    /// The name of the variable, when it is one variable's fault.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Self::Missing(variable) | Self::Wrong { variable, .. } => Some(variable.name),
            Self::Unreadable(_) => None,
        }
    }
}

/// Everything that is wrong with the environment, in the table's order. Never empty.
#[derive(Debug, Clone, PartialEq, Error)]
pub struct ConfigErrors(pub(super) Vec<Invalid>);

impl ConfigErrors {
    /// What is wrong, one by one.
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
