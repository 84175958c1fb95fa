//! The types of the settings: text in, a value within its bounds or a [`Reason`] out.
//!
//! Invariant, checked by property tests: parsing never panics, and the output of [`Value::show`] parses
//! to the same value. Sources: RFC 7348 (VNI), RFC 8200 (smallest MTU), Linux `dev_valid_name()` in
//! `net/core/dev.c` (interfaces), RFC 1123 as Kubernetes applies it (names).

use std::marker::PhantomData;
use std::num::NonZeroU16;

use crate::receiver::Receiver;
use crate::tunnel::Tunnel;
use filter::Filter;
use mirror::{SourcePorts, Spread, TrailerBound};
use serde::{Deserialize, Deserializer};
use wire::InterfaceName;
use wire::{Mtu, Vni};

use super::bounds::{MIN_MTU, RingSetting, RingSize, StartWait};
use super::error::Reason;

/// A type that a setting can have.
pub trait Value: Sized {
    /// Whether nothing may show a value: it is a key that others must not know.
    const SECRET: bool = false;

    /// Parses a value; `text` is not empty and has no space around it.
    ///
    /// # Errors
    /// The reason why `text` is not a value of this type.
    fn parse(text: &str) -> Result<Self, Reason>;

    /// Prints a value in a form that [`Value::parse`] accepts; of a secret one, nothing.
    fn show(&self) -> String;
}

/// A variable as serde reads it: a text and its type. It is parsed later, together with the others.
#[derive(Debug)]
pub(super) struct Field<T> {
    /// The text, without space around it. `None` if the variable is not set.
    pub(super) text: Option<String>,
    of: PhantomData<T>,
}

impl<T> Default for Field<T> {
    fn default() -> Self {
        Self {
            text: None,
            of: PhantomData,
        }
    }
}

impl<'de, T> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Self {
            text: Some(text.trim().to_owned()),
            of: PhantomData,
        })
    }
}

impl Value for Vni {
    fn parse(text: &str) -> Result<Self, Reason> {
        let hexadecimal = |digits: &str| {
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(digits) if hexadecimal(digits) => (digits, 16),
            None if is_decimal(text) => (text, 10),
            None if hexadecimal(text) => (text, 16),
            _ => return Err(Reason::NotANumber),
        };
        // The text has only digits, so it fails only if the number is too large.
        let vni = u32::from_str_radix(digits, radix).ok().and_then(Self::new);
        let vni = vni.ok_or(Reason::VniTooLarge)?;
        if radix == 16 && digits.len() == text.len() {
            return Err(Reason::BareHexadecimal(text.to_owned()));
        }
        Ok(vni)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for Mtu {
    fn parse(text: &str) -> Result<Self, Reason> {
        if !is_decimal(text) {
            return Err(Reason::NotANumber);
        }
        text.parse()
            .ok()
            .filter(|bytes| *bytes >= u32::from(MIN_MTU))
            .and_then(Self::new)
            .ok_or(Reason::MtuOutOfBounds)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A UDP port.
impl Value for NonZeroU16 {
    fn parse(text: &str) -> Result<Self, Reason> {
        if !is_decimal(text) {
            return Err(Reason::NotANumber);
        }
        text.parse().map_err(|_| Reason::BadPort)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for SourcePorts {
    fn parse(text: &str) -> Result<Self, Reason> {
        if !is_decimal(text) {
            return Err(Reason::NotANumber);
        }
        let count = text.parse().ok();
        count.and_then(Self::new).ok_or(Reason::BadSourcePorts)
    }

    fn show(&self) -> String {
        self.get().to_string()
    }
}

impl Value for RingSize {
    fn parse(text: &str) -> Result<Self, Reason> {
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        if digits.is_empty() {
            return Err(Reason::NotANumber);
        }
        let bytes_per_unit: u64 = match unit {
            "" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(Reason::UnknownUnit(unit.to_owned())),
        };
        let bytes = digits
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(bytes_per_unit));
        match bytes {
            Some(bytes) if (Self::MIN.bytes()..=Self::MAX.bytes()).contains(&bytes) => {
                let mib = u16::try_from(bytes.div_ceil(1 << 20));
                mib.map(|mib| Self { mib })
                    .map_err(|_| Reason::RingSizeOutOfBounds)
            }
            _ => Err(Reason::RingSizeOutOfBounds),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for RingSetting {
    fn parse(text: &str) -> Result<Self, Reason> {
        if text.eq_ignore_ascii_case("auto") {
            return Ok(Self::Auto);
        }
        RingSize::parse(text).map(Self::Fixed)
    }

    fn show(&self) -> String {
        match self {
            Self::Auto => "auto".to_owned(),
            Self::Fixed(size) => size.show(),
        }
    }
}

impl Value for StartWait {
    fn parse(text: &str) -> Result<Self, Reason> {
        let (digits, ms_per_unit) = match text.strip_suffix("ms") {
            Some(digits) => (digits, 1),
            None => (text.strip_suffix('s').ok_or(Reason::NotATime)?, 1000),
        };
        if !is_decimal(digits) {
            return Err(Reason::NotATime);
        }
        let ms = digits
            .parse::<u16>()
            .ok()
            .and_then(|number| number.checked_mul(ms_per_unit));
        ms.map(|ms| Self { ms })
            .filter(|wait| *wait <= Self::MAX)
            .ok_or(Reason::StartWaitOutOfBounds)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// The interfaces to mirror: at least one, none twice, each a valid name for the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interfaces(Vec<InterfaceName>);

impl Interfaces {
    /// Their names, in the operator's order.
    #[must_use]
    pub fn names(&self) -> impl ExactSizeIterator<Item = &InterfaceName> {
        self.0.iter()
    }
}

impl Value for Interfaces {
    fn parse(text: &str) -> Result<Self, Reason> {
        let mut names: Vec<InterfaceName> = Vec::new();
        for entry in entries(text) {
            let name: InterfaceName = entry?.parse()?;
            if names.contains(&name) {
                return Err(Reason::Duplicate(name.to_string()));
            }
            names.push(name);
        }
        Ok(Self(names))
    }

    fn show(&self) -> String {
        let names: Vec<&str> = self.names().map(InterfaceName::as_str).collect();
        names.join(",")
    }
}

/// Where the annotations of podspan's own pod are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Annotations {
    /// At the API server.
    Api,
    /// Nowhere.
    Off,
    /// In a file, which may not exist yet; the path is absolute.
    File(String),
}

impl Value for Annotations {
    fn parse(text: &str) -> Result<Self, Reason> {
        match text {
            _ if text.contains(char::is_control) => Err(Reason::ControlCharacters),
            _ if text.starts_with('/') => Ok(Self::File(text.to_owned())),
            _ if text.eq_ignore_ascii_case("api") => Ok(Self::Api),
            _ if text.eq_ignore_ascii_case("off") => Ok(Self::Off),
            _ => Err(Reason::NoSourceOfAnnotations),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Api => "api".to_owned(),
            Self::Off => "off".to_owned(),
            Self::File(path) => path.clone(),
        }
    }
}

impl Value for Filter {
    fn parse(text: &str) -> Result<Self, Reason> {
        Self::new(text).map_err(|error| Reason::BadFilter(Box::new(error)))
    }

    fn show(&self) -> String {
        self.text().to_owned()
    }
}

/// A type with a few values, each a word.
pub(super) trait Word: Copy + PartialEq + 'static {
    /// All values and their words.
    const WORDS: &'static [(Self, &'static str)];
}

impl<T: Word> Value for T {
    fn parse(text: &str) -> Result<Self, Reason> {
        let found = T::WORDS
            .iter()
            .find(|(_, word)| word.eq_ignore_ascii_case(text));
        found.map(|(value, _)| *value).ok_or(Reason::UnknownWord)
    }

    fn show(&self) -> String {
        let found = T::WORDS.iter().find(|(value, _)| value == self);
        found.map_or_else(String::new, |(_, word)| (*word).to_owned())
    }
}

/// Which of the sensors found by name are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefer {
    /// Those on this node, if there are any.
    Node,
    /// All of them.
    Any,
}

impl Word for Prefer {
    const WORDS: &'static [(Self, &'static str)] = &[(Self::Node, "node"), (Self::Any, "any")];
}

impl Word for Receiver {
    const WORDS: &'static [(Self, &'static str)] =
        &[(Self::Sniffer, "sniffer"), (Self::Socket, "socket")];
}

impl Word for Tunnel {
    const WORDS: &'static [(Self, &'static str)] = &[
        (Self::Off, Self::Off.word()),
        (Self::Wireguard, Self::Wireguard.word()),
        (Self::Required, Self::Required.word()),
    ];
}

impl Word for Spread {
    const WORDS: &'static [(Self, &'static str)] =
        &[(Self::Hosts, "hosts"), (Self::Flows, "flows")];
}

impl Value for TrailerBound {
    fn parse(text: &str) -> Result<Self, Reason> {
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self::NONE);
        }
        let percent = text.strip_suffix('%').filter(|digits| is_decimal(digits));
        let bound = percent.ok_or(Reason::NotAPercentage)?.parse().ok();
        bound
            .and_then(Self::new)
            .filter(|bound| *bound != Self::NONE)
            .ok_or(Reason::PercentageOutOfBounds)
    }

    fn show(&self) -> String {
        match *self {
            Self::NONE => "off".to_owned(),
            bound => format!("{}%", bound.percent()),
        }
    }
}

/// What a start that fails does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The process ends.
    Exit,
    /// It stays alive, mirrors nothing, and tries again.
    Idle,
}

impl Word for OnFailure {
    const WORDS: &'static [(Self, &'static str)] = &[(Self::Exit, "exit"), (Self::Idle, "idle")];
}

/// The least important level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// A failure that ends podspan or the mirroring.
    Error,
    /// A problem that the operator should check.
    Warn,
    /// Start, changes, and totals.
    Info,
    /// The details of a change.
    Debug,
    /// Everything.
    Trace,
}

impl Word for LogLevel {
    const WORDS: &'static [(Self, &'static str)] = &[
        (Self::Error, "error"),
        (Self::Warn, "warn"),
        (Self::Info, "info"),
        (Self::Debug, "debug"),
        (Self::Trace, "trace"),
    ];
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Word for LogFormat {
    const WORDS: &'static [(Self, &'static str)] = &[(Self::Text, "text"), (Self::Json, "json")];
}

/// The entries of a list separated by commas, space around them removed.
pub(super) fn entries(text: &str) -> impl Iterator<Item = Result<&str, Reason>> {
    text.split(',').map(str::trim).map(|entry| match entry {
        "" => Err(Reason::EmptyEntry),
        entry => Ok(entry),
    })
}

/// Whether `text` has only digits: `u32::from_str` would also accept a sign.
pub(super) fn is_decimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
