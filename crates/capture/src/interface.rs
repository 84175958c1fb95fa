//! The interface that is captured, by name, and what becomes of it.
//!
//! A packet socket is bound to a *device* (its index), while an operator means a *name*. `Watch`
//! compares two observations of both, and reports each change once:
//!
//! | seen | it means | capturing goes on |
//! |-|-|-|
//! | no device of the name, none bound | missing | when the name is there |
//! | the name belongs to another device | deleted and made again, or replaced | with the new device |
//! | our device has another name, and ours is free | renamed | with the same device |
//! | our device is down | down | by itself when it is up |
//!
//! The kernel forgets a device that is deleted or moved to another network namespace, so an index
//! that is used again is never taken for the old device.

use core::fmt;
use core::num::NonZeroU32;
use core::str::FromStr;

use wire::Link;

use crate::filter::link_of;
use crate::packet_socket::{Bound, DeviceName};

/// The name of a network interface: 1 to 15 bytes, without `/`, `:`, blanks and what cannot be seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceName(String);

/// A text that cannot be an interface's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("INTERFACE names {0:?}: an interface's name has {rule}, for example eth0", rule = Self::RULE)]
pub struct InvalidInterfaceName(pub String);

impl InvalidInterfaceName {
    /// What a name has and has not, as a part of a sentence.
    pub const RULE: &'static str =
        "1 to 15 bytes without space, slash, colon or what cannot be seen";
}

impl FromStr for InterfaceName {
    type Err = InvalidInterfaceName;

    fn from_str(name: &str) -> Result<Self, InvalidInterfaceName> {
        // As `dev_valid_name` in net/core/dev.c, and what the log can show: it has the name in most
        // of its lines. A quote or a backslash can be seen, though Rust escapes it.
        let can_be_seen = |c: char| c.escape_debug().len() == 1 || matches!(c, '\'' | '"' | '\\');
        let valid = (1..libc::IFNAMSIZ).contains(&name.len())
            && !matches!(name, "." | "..")
            && !name.contains(|c: char| matches!(c, '/' | ':') || c.is_whitespace())
            && name.chars().all(can_be_seen);
        if valid {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidInterfaceName(name.to_owned()))
        }
    }
}

impl InterfaceName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn to_device_name(&self) -> DeviceName {
        let mut name = [0; libc::IFNAMSIZ];
        for (to, from) in name.iter_mut().zip(self.0.bytes()) {
            *to = from;
        }
        name
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What has become of an interface since the last observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// There is no such interface. It may come later.
    Missing,
    /// The interface is there and its frames come in, as soon as it is up.
    Bound {
        /// The kernel's number of the device.
        index: u32,
        /// What its frames start with.
        link: Link,
        /// Whether it is up.
        up: bool,
    },
    /// Another device has the name: it was deleted and made again, or a device was renamed to it.
    /// That one's frames come in now.
    Replaced {
        /// The kernel's number of the new device.
        index: u32,
        /// What its frames start with.
        link: Link,
        /// Whether it is up.
        up: bool,
    },
    /// The interface is there, but its frames have a form that is not mirrored; none comes in.
    Unsupported {
        /// Its type, `ARPHRD_*` of `include/uapi/linux/if_arp.h`.
        hardware: u16,
    },
    /// The device has another name now; its frames go on to come in.
    Renamed {
        /// The new name.
        to: String,
    },
    /// The device was taken down. It delivers again, by itself, when it is up.
    Down,
    /// The device was brought up.
    Up,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = |link: &Link| match link {
            Link::Ethernet => "Ethernet",
            Link::Loopback => "loopback",
            Link::Ip => "IP",
        };
        let state = |up: bool| if up { "up" } else { "down" };
        match self {
            Self::Missing => f.write_str("no such interface; waiting for it"),
            Self::Bound { index, link, up } => {
                write!(
                    f,
                    "capturing (index {index}, {}, {})",
                    kind(link),
                    state(*up)
                )
            }
            Self::Replaced { index, link, up } => write!(
                f,
                "another device has the name; capturing that (index {index}, {}, {})",
                kind(link),
                state(*up)
            ),
            Self::Unsupported { hardware } => write!(
                f,
                "interfaces of type {hardware}{} are not mirrored: name an Ethernet, loopback, tun \
                 or WireGuard interface in INTERFACE",
                name_of_type(*hardware)
            ),
            Self::Renamed { to } => write!(f, "renamed to {to}; still capturing it"),
            Self::Down => f.write_str("down; capturing goes on when it is up"),
            Self::Up => f.write_str("up; capturing"),
        }
    }
}

/// The name of a hardware type that an operator may meet.
const fn name_of_type(hardware: u16) -> &'static str {
    match hardware {
        libc::ARPHRD_INFINIBAND => " (InfiniBand)",
        libc::ARPHRD_CAN => " (CAN)",
        libc::ARPHRD_PPP => " (PPP)",
        libc::ARPHRD_TUNNEL => " (IPIP)",
        libc::ARPHRD_TUNNEL6 => " (IPv6 tunnel)",
        libc::ARPHRD_SIT => " (SIT)",
        libc::ARPHRD_IPGRE => " (GRE)",
        _ => "",
    }
}

/// What an interface is found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Observation {
    /// There is no device of the name, and none is bound.
    Missing,
    /// A device is bound.
    Device(Device),
}

/// A device that is bound, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) index: NonZeroU32,
    pub(crate) hardware: u16,
    pub(crate) up: bool,
    /// Its name, where that is no longer the one that was asked for.
    pub(crate) renamed: Option<String>,
}

impl Device {
    pub(crate) fn new(bound: Bound, up: bool, renamed: Option<DeviceName>) -> Self {
        Self {
            index: bound.index,
            hardware: bound.hardware,
            up,
            renamed: renamed.map(|name| {
                let name = name.split(|&byte| byte == 0).next().unwrap_or(&name);
                String::from_utf8_lossy(name).into_owned()
            }),
        }
    }
}

/// What has been reported of an interface.
#[derive(Debug)]
pub(crate) struct Watch {
    name: InterfaceName,
    /// Nothing before the first observation.
    reported: Option<Observation>,
}

impl Watch {
    pub(crate) const fn new(name: InterfaceName) -> Self {
        Self {
            name,
            reported: None,
        }
    }

    pub(crate) const fn name(&self) -> &InterfaceName {
        &self.name
    }

    /// Takes an observation and returns what is to be reported. `rebound` says that the socket was bound
    /// anew to what was found `now`. One change is reported at a time: a device that is new to us is not
    /// also up or down, and one that was renamed and taken down is reported as down by the next call.
    pub(crate) fn update(&mut self, now: Observation, rebound: bool) -> Option<Change> {
        let change = match (self.reported.take(), &now) {
            (Some(Observation::Missing), Observation::Missing) => None,
            (_, Observation::Missing) => Some(Change::Missing),
            (Some(Observation::Device(old)), Observation::Device(new)) => {
                if rebound || old.hardware != new.hardware {
                    Some(appeared(new, true))
                } else if old.renamed != new.renamed {
                    let to = new.renamed.as_deref().unwrap_or(self.name.as_str());
                    let change = Change::Renamed { to: to.to_owned() };
                    self.reported = Some(Observation::Device(Device {
                        up: old.up,
                        ..new.clone()
                    }));
                    return Some(change);
                } else {
                    match (old.up, new.up) {
                        (true, false) => Some(Change::Down),
                        (false, true) => Some(Change::Up),
                        _ => None,
                    }
                }
            }
            (_, Observation::Device(new)) => Some(appeared(new, false)),
        };
        self.reported = Some(now);
        change
    }
}

/// The change when `device` is bound, in the place of another one or not.
fn appeared(device: &Device, replaces: bool) -> Change {
    let (index, up) = (device.index.get(), device.up);
    match link_of(device.hardware) {
        None => Change::Unsupported {
            hardware: device.hardware,
        },
        Some(link) if replaces => Change::Replaced { index, link, up },
        Some(link) => Change::Bound { index, link, up },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> Watch {
        Watch::new("eth0".parse().unwrap())
    }

    fn device(index: u32) -> Device {
        Device {
            index: NonZeroU32::new(index).unwrap(),
            hardware: 1,
            up: true,
            renamed: None,
        }
    }

    fn down(device: Device) -> Device {
        Device {
            up: false,
            ..device
        }
    }

    fn renamed(mut device: Device) -> Device {
        device.renamed = Some("old0".to_owned());
        device
    }

    fn bound(index: u32) -> Change {
        Change::Bound {
            index,
            link: Link::Ethernet,
            up: true,
        }
    }

    fn replaced(index: u32) -> Change {
        Change::Replaced {
            index,
            link: Link::Ethernet,
            up: true,
        }
    }

    #[test]
    fn names_are_those_that_the_kernel_takes() {
        for good in ["lo", "eth0", "a", "abcdefghijklmno", "eth0.100", "wg-ü"] {
            assert_eq!(good.parse::<InterfaceName>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "a\tb",
            "a\x0bb",
            "a:1",
            "a\0",
            "abcdefghijklmnop",
            "eth\u{202e}0",
            "a\u{1b}b",
        ] {
            let error = bad.parse::<InterfaceName>().unwrap_err().to_string();
            let start = format!("INTERFACE names {bad:?}");
            assert!(error.starts_with(&start), "{error}");
        }
    }

    #[test]
    fn an_absent_interface_is_reported_once() {
        let mut watch = watch();
        assert_eq!(
            watch.update(Observation::Missing, false),
            Some(Change::Missing)
        );
        assert_eq!(watch.update(Observation::Missing, false), None);
        assert_eq!(
            watch.update(Observation::Device(device(7)), true),
            Some(bound(7))
        );
        assert_eq!(watch.update(Observation::Device(device(7)), false), None);
        assert_eq!(
            watch.update(Observation::Missing, false),
            Some(Change::Missing)
        );
        assert_eq!(watch.update(Observation::Missing, false), None);
    }

    #[test]
    fn a_device_is_bound_then_replaced_even_by_one_of_the_same_index() {
        let mut watch = watch();
        assert_eq!(
            watch.update(Observation::Device(device(7)), true),
            Some(bound(7))
        );
        assert_eq!(
            watch.update(Observation::Device(device(8)), true),
            Some(replaced(8))
        );
        assert_eq!(
            watch.update(Observation::Device(device(8)), true),
            Some(replaced(8))
        );
    }

    #[test]
    fn a_type_that_is_not_mirrored_is_named() {
        let mut watch = watch();
        let tunnel = Device {
            hardware: 778,
            ..device(8)
        };
        let change = watch.update(Observation::Device(tunnel), true).unwrap();
        assert_eq!(change, Change::Unsupported { hardware: 778 });
        assert!(change.to_string().contains("type 778 (GRE)"));
        // A tun device can change its type while it stays the same device.
        assert_eq!(
            watch.update(Observation::Device(device(8)), false),
            Some(replaced(8))
        );
    }

    #[test]
    fn down_and_up_are_reported_once_each() {
        let mut watch = watch();
        let mut update = |device| watch.update(Observation::Device(device), false);
        assert_eq!(update(device(2)), Some(bound(2)));
        assert_eq!(update(down(device(2))), Some(Change::Down));
        assert_eq!(update(down(device(2))), None);
        assert_eq!(update(device(2)), Some(Change::Up));
        assert_eq!(update(device(2)), None);
    }

    #[test]
    fn of_two_changes_the_second_comes_with_the_next_call() {
        let mut watch = watch();
        let mut update = |device| watch.update(Observation::Device(device), false);
        let to = |to: &str| Some(Change::Renamed { to: to.to_owned() });
        assert_eq!(update(device(2)), Some(bound(2)));
        assert_eq!(update(down(renamed(device(2)))), to("old0"));
        assert_eq!(update(down(renamed(device(2)))), Some(Change::Down));
        assert_eq!(update(down(renamed(device(2)))), None);
        assert_eq!(update(down(device(2))), to("eth0"));
        assert_eq!(update(down(device(2))), None);
    }
}
