//! Patterns of values, for who cannot call the parsers: an admission policy.
//!
//! In: the parts of a pattern. Out: an RE2 expression from `^` to `$`, as a literal. Each matches whatever the
//! parser of its type accepts, and as few other texts as is reasonable: RE2 has no lookahead, and a repetition
//! has at most 1000 rounds.

/// An expression with space around it, which podspan ignores ([`str::trim`]).
macro_rules! whole {
    ($($part:expr),+) => {
        concat!("^", crate::pattern::space!(), "(?:", $($part),+, ")", crate::pattern::space!(), "$")
    };
}
pub(crate) use whole;

/// Entries separated by commas, with space around each.
macro_rules! list {
    ($($entry:expr),+) => {
        concat!(
            "(?:", $($entry),+, ")(?:", crate::pattern::space!(), ",", crate::pattern::space!(),
            "(?:", $($entry),+, "))*"
        )
    };
}
pub(crate) use list;

/// The characters of `char::is_whitespace`.
macro_rules! space {
    () => {
        r"[\t-\r\x{85}\pZ]*"
    };
}
pub(crate) use space;

/// A number from 1 to 65535.
macro_rules! port {
    () => {
        concat!(
            "0*(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}",
            "|655[0-2][0-9]|6553[0-5])"
        )
    };
}
pub(crate) use port;

/// A number from 1024 to 65535.
macro_rules! free_port {
    () => {
        concat!(
            "0*(?:102[4-9]|10[3-9][0-9]|1[1-9][0-9]{2}|[2-9][0-9]{3}|[1-5][0-9]{4}|6[0-4][0-9]{3}",
            "|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
        )
    };
}
pub(crate) use free_port;

/// A key of WireGuard: 32 bytes in base64.
macro_rules! key {
    () => {
        "[0-9A-Za-z+/]{42}[048AEIMQUYcgkosw]="
    };
}
pub(crate) use key;

/// The absolute path of a file.
macro_rules! file {
    () => {
        r"/[^\x00-\x1f\x7f-\x9f]*"
    };
}
pub(crate) use file;

/// The name of a namespace.
macro_rules! label {
    () => {
        "[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
    };
}
pub(crate) use label;

/// The name of a node or pod.
macro_rules! subdomain {
    () => {
        "[a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?"
    };
}
pub(crate) use subdomain;

/// An IPv4 address.
macro_rules! ipv4 {
    () => {
        concat!(
            "(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])[.]){3}",
            "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
        )
    };
}
pub(crate) use ipv4;

/// An IPv6 address, not exactly: its characters, with a colon near the start.
macro_rules! ipv6 {
    () => {
        "[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,40}"
    };
}
pub(crate) use ipv6;

/// A value of the label `run` that is not written like an address: with a letter or another sign between the
/// digits and dots.
macro_rules! sensor_name {
    () => {
        concat!(
            "[0-9]{1,63}",
            "|(?:[A-Za-z]|[0-9][0-9.]{0,61}[A-Za-z])(?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?",
            "|[0-9][0-9.]{0,60}[-_][-A-Za-z0-9_.]{0,60}[A-Za-z0-9]"
        )
    };
}
pub(crate) use sensor_name;

/// An address with or without a port.
macro_rules! sensor_address {
    () => {
        concat!(
            "(?:",
            crate::pattern::ipv4!(),
            ")(?::",
            crate::pattern::port!(),
            ")?",
            "|",
            crate::pattern::ipv6!(),
            r"|\[",
            crate::pattern::ipv6!(),
            r"\](?::",
            crate::pattern::port!(),
            ")?"
        )
    };
}
pub(crate) use sensor_address;
