//! Where the copies go: one name, or addresses.
//!
//! In: the text of `SENSOR`. Out: a label's value, or a list of addresses of hosts. `10.0.0.300` is a valid
//! label value but was meant as an address, so a text that looks like an address is always parsed as one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;

use super::error::Reason;
use super::names::is_label_value;
use super::values::{Value, entries, is_decimal};

/// The value of `SENSOR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SensorSetting {
    /// The value of the label `run` of the sensors' pods.
    Name(String),
    /// At least one address, none twice.
    Addresses(Vec<SensorAddress>),
}

/// The address of one sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SensorAddress {
    ip: IpAddr,
    port: Option<NonZeroU16>,
}

impl SensorSetting {
    /// The addresses, with `default_port` where the value has no port; none for a name.
    pub fn addresses(&self, default_port: NonZeroU16) -> impl Iterator<Item = SocketAddr> {
        let addresses = match self {
            Self::Name(_) => &[],
            Self::Addresses(addresses) => addresses.as_slice(),
        };
        addresses.iter().map(move |address| {
            SocketAddr::new(address.ip, address.port.unwrap_or(default_port).get())
        })
    }
}

impl Value for SensorSetting {
    fn parse(text: &str) -> Result<Self, Reason> {
        let mut names = Vec::new();
        let mut addresses = Vec::new();
        for entry in entries(text) {
            let entry = entry?;
            if !is_written_like_an_address(entry) {
                names.push(name(entry)?);
                continue;
            }
            let address = SensorAddress::parse(entry)?;
            if addresses.contains(&address) {
                return Err(Reason::Duplicate(address.to_string()));
            }
            addresses.push(address);
        }
        match (names.as_slice(), addresses.is_empty()) {
            ([], _) => Ok(Self::Addresses(addresses)),
            ([name], true) => Ok(Self::Name((*name).to_owned())),
            ([first, second, ..], true) => Err(Reason::SeveralNames(
                (*first).to_owned(),
                (*second).to_owned(),
            )),
            ([name, ..], false) => Err(Reason::Mixture((*name).to_owned())),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for SensorSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Addresses(addresses) => {
                for (index, address) in addresses.iter().enumerate() {
                    if index > 0 {
                        f.write_str(",")?;
                    }
                    address.fmt(f)?;
                }
                Ok(())
            }
        }
    }
}

impl SensorAddress {
    fn parse(text: &str) -> Result<Self, Reason> {
        let not_an_address = || Reason::NotAnAddress(text.to_owned());
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self {
                ip: usable(ip)?,
                port: None,
            });
        }
        if let Some(ip) = bracketed(text) {
            return Ok(Self {
                ip: usable(IpAddr::V6(ip))?,
                port: None,
            });
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(not_an_address)?;
        let ip = match (host.parse::<Ipv4Addr>(), bracketed(host)) {
            (Ok(ip), _) => IpAddr::V4(ip),
            (_, Some(ip)) => IpAddr::V6(ip),
            _ if is_name(host) && is_decimal(port) => {
                return Err(Reason::NameWithPort(text.to_owned()));
            }
            _ => return Err(not_an_address()),
        };
        let port = if is_decimal(port) {
            port.parse().ok()
        } else {
            None
        };
        Ok(Self {
            ip: usable(ip)?,
            port: Some(port.ok_or(Reason::BadPort)?),
        })
    }
}

impl fmt::Display for SensorAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => self.ip.fmt(f),
            Some(port) => SocketAddr::new(self.ip, port.get()).fmt(f),
        }
    }
}

fn name(text: &str) -> Result<&str, Reason> {
    if is_label_value(text) {
        return Ok(text);
    }
    Err(Reason::BadName(
        text.to_owned(),
        "letters, digits, -, _ and ., at most 63, with a letter or digit at both ends",
    ))
}

fn is_name(text: &str) -> bool {
    is_label_value(text) && !is_written_like_an_address(text)
}

/// Whether a text is written like an address: with `:`, `[`, `]` or `/`, or as digits with dots.
fn is_written_like_an_address(text: &str) -> bool {
    let dotted = text.contains('.') && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    dotted || text.contains([':', '[', ']', '/'])
}

fn bracketed(text: &str) -> Option<Ipv6Addr> {
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// Returns an address that a host can have and that a route can lead to. An IPv4-mapped IPv6 address
/// becomes its IPv4 address.
fn usable(ip: IpAddr) -> Result<IpAddr, Reason> {
    let ip = ip.to_canonical();
    let flaw = match ip {
        _ if ip.is_unspecified() => "the unspecified address",
        _ if ip.is_multicast() => "a multicast address",
        IpAddr::V4(Ipv4Addr::BROADCAST) => "the broadcast address",
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            "a link-local address, which needs an interface to be reachable"
        }
        _ => return Ok(ip),
    };
    Err(Reason::UnusableAddress(ip, flaw))
}
