//! The captured interface, by name, and its changes.
//!
//! A packet socket is bound to a *device* (its index), but an operator configures a *name*.
//! `ChangeDetector` compares two observations of both, and reports each change once:
//!
//! | observation | meaning | capturing continues |
//! |-|-|-|
//! | no device has the name, none is bound | missing | when a device has the name |
//! | another device has the name | deleted and created again, or replaced | with the new device |
//! | the bound device has another name, and no device has the configured one | renamed | with the same device |
//! | the bound device is down | down | by itself when it is up |
//!
//! The kernel unbinds the socket from a device that is deleted or moved to another network namespace.
//! So a new device with the same index is never mistaken for the old one.

use core::fmt;
use core::num::NonZeroU32;

use wire::{InterfaceName, Link};

use crate::filter::link_of;
use crate::packet_socket::{Bound, DeviceName};

/// The name as the kernel's structs have it.
pub(crate) fn device_name(interface: &InterfaceName) -> DeviceName {
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(interface.as_str().bytes()) {
        *to = from;
    }
    name
}

/// A change of an interface since the last observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterfaceChange {
    /// There is no such interface. It may be created later.
    Missing,
    /// The interface exists, and its frames are captured when it is up.
    Bound {
        /// The kernel's number of the device.
        index: u32,
        /// The link header of its frames.
        link: Link,
        /// Whether it is up.
        up: bool,
    },
    /// Another device has the name: the interface was deleted and created again, or a device was
    /// renamed to it. The frames of the new device are captured now.
    Replaced {
        /// The kernel's number of the new device.
        index: u32,
        /// The link header of its frames.
        link: Link,
        /// Whether it is up.
        up: bool,
    },
    /// The interface exists, but frames of its type are not mirrored and not captured.
    Unsupported {
        /// Its type, `ARPHRD_*` of `include/uapi/linux/if_arp.h`.
        hardware: u16,
    },
    /// The device has another name now; its frames are still captured.
    Renamed {
        /// The new name.
        to: String,
    },
    /// The device is down. Its frames are captured again, without a call, when it is up.
    Down,
    /// The device is up again.
    Up,
}

impl fmt::Display for InterfaceChange {
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
                "another device has the name; capturing the new device (index {index}, {}, {})",
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
            Self::Down => f.write_str("down; capturing continues when it is up"),
            Self::Up => f.write_str("up; capturing"),
        }
    }
}

/// The name of a hardware type, if it is a usual one.
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

/// The state of an interface at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Observation {
    /// No device has the name, and none is bound.
    Missing,
    /// A device is bound.
    Device(Device),
}

/// The state of a bound device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) index: NonZeroU32,
    pub(crate) hardware: u16,
    pub(crate) up: bool,
    /// Its name, if that is no longer the configured one.
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

/// Finds the changes of an interface to report.
#[derive(Debug)]
pub(crate) struct ChangeDetector {
    name: InterfaceName,
    /// Nothing before the first observation.
    reported: Option<Observation>,
}

impl ChangeDetector {
    pub(crate) const fn new(name: InterfaceName) -> Self {
        Self {
            name,
            reported: None,
        }
    }

    pub(crate) const fn name(&self) -> &InterfaceName {
        &self.name
    }

    /// Compares an observation with the last one and returns the change to report. `rebound`: the socket
    /// was bound again to the device in `now`. Each call reports one change: for a new device, up or down
    /// is not a separate change; a device that is renamed and down is reported as down by the next call.
    pub(crate) fn update(&mut self, now: Observation, rebound: bool) -> Option<InterfaceChange> {
        let change = match (self.reported.take(), &now) {
            (Some(Observation::Missing), Observation::Missing) => None,
            (_, Observation::Missing) => Some(InterfaceChange::Missing),
            (Some(Observation::Device(old)), Observation::Device(new)) => {
                if rebound || old.hardware != new.hardware {
                    Some(bound_change(new, true))
                } else if old.renamed != new.renamed {
                    let to = new.renamed.as_deref().unwrap_or(self.name.as_str());
                    let change = InterfaceChange::Renamed { to: to.to_owned() };
                    self.reported = Some(Observation::Device(Device {
                        up: old.up,
                        ..new.clone()
                    }));
                    return Some(change);
                } else {
                    match (old.up, new.up) {
                        (true, false) => Some(InterfaceChange::Down),
                        (false, true) => Some(InterfaceChange::Up),
                        _ => None,
                    }
                }
            }
            (_, Observation::Device(new)) => Some(bound_change(new, false)),
        };
        self.reported = Some(now);
        change
    }
}

/// The change when `device` is bound; `replaces`: in place of another device.
fn bound_change(device: &Device, replaces: bool) -> InterfaceChange {
    let (index, up) = (device.index.get(), device.up);
    match link_of(device.hardware) {
        None => InterfaceChange::Unsupported {
            hardware: device.hardware,
        },
        Some(link) if replaces => InterfaceChange::Replaced { index, link, up },
        Some(link) => InterfaceChange::Bound { index, link, up },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> ChangeDetector {
        ChangeDetector::new("eth0".parse().unwrap())
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

    fn bound(index: u32) -> InterfaceChange {
        InterfaceChange::Bound {
            index,
            link: Link::Ethernet,
            up: true,
        }
    }

    fn replaced(index: u32) -> InterfaceChange {
        InterfaceChange::Replaced {
            index,
            link: Link::Ethernet,
            up: true,
        }
    }

    #[test]
    fn a_missing_interface_is_reported_once() {
        let mut watch = watch();
        assert_eq!(
            watch.update(Observation::Missing, false),
            Some(InterfaceChange::Missing)
        );
        assert_eq!(watch.update(Observation::Missing, false), None);
        assert_eq!(
            watch.update(Observation::Device(device(7)), true),
            Some(bound(7))
        );
        assert_eq!(watch.update(Observation::Device(device(7)), false), None);
        assert_eq!(
            watch.update(Observation::Missing, false),
            Some(InterfaceChange::Missing)
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
        assert_eq!(change, InterfaceChange::Unsupported { hardware: 778 });
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
        assert_eq!(update(down(device(2))), Some(InterfaceChange::Down));
        assert_eq!(update(down(device(2))), None);
        assert_eq!(update(device(2)), Some(InterfaceChange::Up));
        assert_eq!(update(device(2)), None);
    }

    #[test]
    fn of_two_changes_the_next_call_reports_the_second() {
        let mut watch = watch();
        let mut update = |device| watch.update(Observation::Device(device), false);
        let to = |to: &str| Some(InterfaceChange::Renamed { to: to.to_owned() });
        assert_eq!(update(device(2)), Some(bound(2)));
        assert_eq!(update(down(renamed(device(2)))), to("old0"));
        assert_eq!(
            update(down(renamed(device(2)))),
            Some(InterfaceChange::Down)
        );
        assert_eq!(update(down(renamed(device(2)))), None);
        assert_eq!(update(down(device(2))), to("eth0"));
        assert_eq!(update(down(device(2))), None);
    }
}
