//! Where metrics and the state are served, and what the readiness means.
//!
//! In: the texts of `METRICS` and `READY`. Out: an address with a port that needs no capability, or none; and a word.

use std::net::{Ipv6Addr, SocketAddr};

use super::error::Reason;
use super::values::{Value, Word, is_decimal};

/// The smallest port that a process without capabilities can use (`net.ipv4.ip_unprivileged_port_start`).
const PORT_MIN: u16 = 1024;

/// The value of `METRICS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsAddress {
    /// Nowhere.
    Off,
    /// At this address.
    At(SocketAddr),
}

impl MetricsAddress {
    /// The address; none if nothing is served.
    #[must_use]
    pub const fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl Value for MetricsAddress {
    fn parse(text: &str) -> Result<Self, Reason> {
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self::Off);
        }
        let address = match text.strip_prefix(':').filter(|port| is_decimal(port)) {
            Some(port) => {
                let port = port.parse().map_err(|_| Reason::BadPort)?;
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
            }
            None => text.parse().map_err(|_| Reason::NoMetricsAddress)?,
        };
        if address.port() < PORT_MIN {
            return Err(Reason::PrivilegedPort);
        }
        Ok(Self::At(address))
    }

    fn show(&self) -> String {
        match self {
            Self::Off => "off".to_owned(),
            Self::At(address) if address.ip() == Ipv6Addr::UNSPECIFIED => {
                format!(":{}", address.port())
            }
            Self::At(address) => address.to_string(),
        }
    }
}

/// What the readiness means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// podspan is ready as soon as it serves; what is missing is in the text only.
    Lenient,
    /// It is not ready while nothing can be mirrored.
    Strict,
}

impl Word for Ready {
    const WORDS: &'static [(Self, &'static str)] =
        &[(Self::Lenient, "lenient"), (Self::Strict, "strict")];
}
