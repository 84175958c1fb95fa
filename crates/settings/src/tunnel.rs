//! The encrypted tunnel: which sensors get their copies through it, its keys, files and addresses, and what
//! these settings must be together.
//!
//! In: texts, and then all values of one environment. Out: the types of these settings, and a [`Conflict`] for
//! each pair that contradicts itself. The crate `keys` reads keys; it has no cryptography of the protocol in it, because
//! whoever injects podspan needs the table of settings too.
//!
//! Invariant: nothing here prints a pre-shared key: not `Debug`, not an error and not `--check-config`
//! ([`Value::SECRET`]). It is overwritten when it is dropped.
//!
//! Source: RFC 6890 (addresses).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use keys::{Defect, InvalidKey, PresharedKey, PublicKey};
use thiserror::Error;

use super::error::Reason;
use super::reading::Reading;
use super::table::{self, Config, Values};
use super::values::Value;
use super::variable::Variable;

/// Which sensors get their copies through the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tunnel {
    /// Those that declare it.
    Off,
    /// Those that declare nothing, too, and addresses.
    Wireguard,
    /// Addresses, and the pods that declare it. Other pods are not used.
    Required,
}

impl Tunnel {
    /// The word of `TUNNEL` and of the annotation `podspan.dev/tunnel`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Wireguard => "wireguard",
            Self::Required => "required",
        }
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Value for PublicKey {
    fn parse(text: &str) -> Result<Self, Reason> {
        key(text)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for PresharedKey {
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, Reason> {
        key(text)
    }

    /// Nothing: the empty text means that the variable is not set.
    fn show(&self) -> String {
        String::new()
    }
}

/// Reads a key. An error does not contain it.
fn key<T: FromStr<Err = InvalidKey>>(text: &str) -> Result<T, Reason> {
    text.parse()
        .map_err(|invalid: InvalidKey| match invalid.defect {
            Defect::Empty | Defect::Length(_) => Reason::KeyLength(text.chars().count()),
            Defect::Encoding => Reason::KeyEncoding,
            Defect::Zero => Reason::KeyOfZeros,
        })
}

/// The absolute path of a file. It is read later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePath(String);

impl FilePath {
    /// The path, which begins with a slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for FilePath {
    fn parse(text: &str) -> Result<Self, Reason> {
        match text {
            _ if text.contains(char::is_control) => Err(Reason::ControlCharacters),
            _ if text.starts_with('/') => Ok(Self(text.to_owned())),
            _ => Err(Reason::NotAnAbsolutePath),
        }
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// An IP address inside the tunnel. A link-local one is usual: the tunnel is one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InnerAddress(IpAddr);

impl InnerAddress {
    /// The address.
    #[must_use]
    pub const fn get(self) -> IpAddr {
        self.0
    }
}

impl Value for InnerAddress {
    fn parse(text: &str) -> Result<Self, Reason> {
        let ip: IpAddr = text
            .parse()
            .map_err(|_| Reason::NotAnAddress(text.to_owned()))?;
        let ip = ip.to_canonical();
        let flaw = match ip {
            _ if ip.is_unspecified() => "the unspecified address",
            _ if ip.is_multicast() => "a multicast address",
            _ if ip.is_loopback() => "a loopback address, which no kernel takes from a tunnel",
            IpAddr::V4(Ipv4Addr::BROADCAST) => "the broadcast address",
            _ => return Ok(Self(ip)),
        };
        Err(Reason::UnusableAddress(ip, flaw))
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

/// Settings that contradict each other. The texts continue a sentence that begins with one of them and its
/// value, except for a secret one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts describe the variants")]
pub enum Conflict {
    #[error("{0} is set too; unset one of both")]
    BothSet(&'static str),
    #[error("podspan has no public key of the sensors; set {file} to a file with it, for example {file}={example}, \
             or set {key}", file = .file.name, example = .file.example, key = .key.name)]
    NoSensorKey {
        key: &'static Variable,
        file: &'static Variable,
    },
    #[error("podspan has no pre-shared key; set {file} to a file with it, for example {file}={example}, or set {key}",
            file = .file.name, example = .file.example, key = .key.name)]
    NoPresharedKey {
        key: &'static Variable,
        file: &'static Variable,
    },
    #[error("WG_ADDRESS is {address}, and one is IPv4 and the other IPv6; set both to addresses of one family",
            address = .0.get())]
    TwoFamilies(InnerAddress),
    #[error("WG_ADDRESS is the same address; each end of the tunnel needs its own")]
    SameInnerAddress,
}

/// Reports what contradicts itself. A setting that is wrong counts as set.
pub(super) fn check_together(values: &Values, reading: &mut Reading) {
    let sensor_key = is_one_of(
        reading,
        (&table::WG_SENSOR_KEY, values.wg_sensor_key.is_some()),
        (
            &table::WG_SENSOR_KEY_FILE,
            values.wg_sensor_key_file.as_ref(),
        ),
    );
    let preshared_key = is_one_of(
        reading,
        (&table::WG_PRESHARED_KEY, values.wg_preshared_key.is_some()),
        (
            &table::WG_PRESHARED_KEY_FILE,
            values.wg_preshared_key_file.as_ref(),
        ),
    );
    if let Some(tunnel) = values.tunnel.filter(|tunnel| *tunnel != Tunnel::Off) {
        if !sensor_key {
            let (key, file) = (&table::WG_SENSOR_KEY, &table::WG_SENSOR_KEY_FILE);
            let conflict = Conflict::NoSensorKey { key, file };
            reading.conflict(&table::TUNNEL, tunnel.word(), conflict);
        }
        if !preshared_key {
            let (key, file) = (&table::WG_PRESHARED_KEY, &table::WG_PRESHARED_KEY_FILE);
            let conflict = Conflict::NoPresharedKey { key, file };
            reading.conflict(&table::TUNNEL, tunnel.word(), conflict);
        }
    }
    if let (Some(own), Some(sensor)) = (values.wg_address, values.wg_sensor_address) {
        let is_one_family = own.get().is_ipv4() == sensor.get().is_ipv4();
        let conflict = if own == sensor {
            Some(Conflict::SameInnerAddress)
        } else {
            (!is_one_family).then_some(Conflict::TwoFamilies(own))
        };
        if let Some(conflict) = conflict {
            reading.conflict(&table::WG_SENSOR_ADDRESS, &sensor.show(), conflict);
        }
    }
}

/// Whether a key is set, as text or as a file; both are reported.
fn is_one_of(
    reading: &mut Reading,
    (key, key_is_set): (&'static Variable, bool),
    (file, path): (&'static Variable, Option<&FilePath>),
) -> bool {
    if let (true, Some(path)) = (key_is_set, path) {
        reading.conflict(file, &path.show(), Conflict::BothSet(key.name));
    }
    key_is_set || path.is_some() || reading.is_wrong(key) || reading.is_wrong(file)
}

impl Config {
    /// Whether podspan has what it needs to make a tunnel: the sensors' public key and a pre-shared key, or files
    /// with them.
    #[must_use]
    pub const fn has_tunnel_keys(&self) -> bool {
        (self.wg_sensor_key.is_some() || self.wg_sensor_key_file.is_some())
            && (self.wg_preshared_key.is_some() || self.wg_preshared_key_file.is_some())
    }

    /// Whether the addresses in `SENSOR` are ends of tunnels.
    #[must_use]
    pub fn have_addresses_tunnels(&self) -> bool {
        self.tunnel != Tunnel::Off
    }
}
