//! Names of Kubernetes objects, with a simple check: an error in a name is reported at the start, and not
//! later as an error of the API server.
//!
//! Sources: RFC 1123 labels and subdomains, and label values, as in "Object Names and IDs" and
//! "Labels and Selectors" of the Kubernetes documentation.

use std::fmt;
use std::net::IpAddr;

use super::error::Reason;
use super::values::Value;

/// The name of a node or pod: an RFC 1123 subdomain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName(String);

/// The name of a namespace: an RFC 1123 label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace(String);

/// The UID of a pod: usually a UUID; the kubelet chooses another form for static pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodUid(String);

/// An IP address, or the name of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(String);

/// One or more files, as in `KUBECONFIG`. They may not exist yet: each attempt to read them checks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileNames(String);

/// The namespaces in which podspan searches for the sensors' pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespaces {
    /// Every namespace of the cluster.
    All,
    /// This one.
    One(Namespace),
}

macro_rules! is_text {
    ($($name:ident),*) => { $(
        impl $name {
            /// The name in Kubernetes.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )* };
}
is_text!(ObjectName, Namespace, PodUid, HostName, FileNames);

impl Value for ObjectName {
    fn parse(text: &str) -> Result<Self, Reason> {
        let inner = |byte: u8| is_lower(byte) || matches!(byte, b'-' | b'.');
        if is_name(text, 253, is_lower, inner) {
            return Ok(Self(text.to_owned()));
        }
        Err(Reason::BadName(
            text.to_owned(),
            "lower-case letters, digits, - and ., at most 253, with a letter or digit at both ends",
        ))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

impl Value for Namespace {
    fn parse(text: &str) -> Result<Self, Reason> {
        if is_name(text, 63, is_lower, |byte| is_lower(byte) || byte == b'-') {
            return Ok(Self(text.to_owned()));
        }
        Err(Reason::BadName(
            text.to_owned(),
            "lower-case letters, digits and -, at most 63, with a letter or digit at both ends",
        ))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

impl Value for Namespaces {
    fn parse(text: &str) -> Result<Self, Reason> {
        match text {
            "*" => Ok(Self::All),
            text => Namespace::parse(text).map(Self::One),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::All => "*".to_owned(),
            Self::One(namespace) => namespace.show(),
        }
    }
}

impl Value for PodUid {
    fn parse(text: &str) -> Result<Self, Reason> {
        let inner = |byte: u8| byte.is_ascii_graphic();
        if is_name(text, 128, inner, inner) {
            return Ok(Self(text.to_owned()));
        }
        Err(Reason::BadName(
            text.to_owned(),
            "at most 128 printable characters without space",
        ))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

impl Value for HostName {
    fn parse(text: &str) -> Result<Self, Reason> {
        let end = |byte: u8| byte.is_ascii_alphanumeric();
        let inner = |byte: u8| end(byte) || matches!(byte, b'-' | b'.');
        if text.parse::<IpAddr>().is_ok() || is_name(text, 253, end, inner) {
            return Ok(Self(text.to_owned()));
        }
        Err(Reason::BadName(
            text.to_owned(),
            "an IP address without a port, or letters, digits, - and .",
        ))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

impl Value for FileNames {
    fn parse(text: &str) -> Result<Self, Reason> {
        if text.contains(char::is_control) {
            return Err(Reason::ControlCharacters);
        }
        Ok(Self(text.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// Whether `text` can be the value of a label, and so a sensor's name.
pub(super) fn is_label_value(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    is_name(text, 63, |byte| byte.is_ascii_alphanumeric(), inner)
}

fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Whether `text` has 1 to `max` bytes, all of them `inner`, the first and the last `end`.
fn is_name(text: &str, max: usize, end: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= max
        && bytes.iter().copied().all(inner)
        && bytes.first().copied().is_some_and(&end)
        && bytes.last().copied().is_some_and(&end)
}
