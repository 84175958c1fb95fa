//! Which pods are sensors, as a pure function.
//!
//! In: all pods with the name. Out: a [`SensorList`], and a [`Remark`] for each pod that is not used,
//! or not used as its annotation requires.
//!
//! A pod is used if it is not podspan's own pod, is not being deleted, is in the phase Running and
//! Ready, has an address that podspan can send to, valid ports, and a valid annotation about the tunnel.
//! podspan uses the first address, in the cluster's order, whose family it can send to.
//!
//! | `podspan.dev/tunnel` | `TUNNEL=off` | `TUNNEL=wireguard` | `TUNNEL=required` |
//! |-|-|-|-|
//! | `wireguard` | tunnel | tunnel | tunnel |
//! | missing | plain | tunnel | not used |
//! | `off` | plain | plain | not used |
//! | another value | not used | not used | not used |
//!
//! Where this says tunnel and podspan has no keys, the pod is not used. So a pod that declares the tunnel never gets
//! a plain copy, even if it shares address and port with another one.
//!
//! Invariant: the list does not depend on the order of the events, so two podspans with the same pods
//! have the same list. The list has for each sensor whether it runs on podspan's node. The agent
//! selects the preferred ones, because it has their health.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use crate::pod::{Annotation, Declared, PORT, Pod, PodName, RECEIVER, TUNNEL, TUNNEL_PORT};
use crate::types::{Families, FoundSensor, OwnPod, SensorList, Settings, TunnelSettings};
use settings::{Foreign, Receiver, Tunnel};

/// The result for all pods.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) list: SensorList,
    /// For pods that are not used, or not used as their annotation requires.
    pub(crate) remarks: BTreeMap<PodName, Remark>,
}

/// Why a pod with the sensor's name is not used, or not used as its annotation requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Remark {
    OwnPod,
    Terminating,
    NotRunning(String),
    NotReady,
    NoAddress,
    /// No address is of a family that podspan can send to.
    OtherFamily(IpAddr),
    /// No other machine can have this address: loopback, multicast and similar.
    InvalidAddress(IpAddr),
    BadPort(String),
    /// Another pod has the same address and port.
    SameAddress(SocketAddr),
    /// It is used, as a sniffer.
    BadReceiver(String),
    BadTunnel(String),
    BadTunnelPort(String),
    /// It is behind a tunnel, and podspan has no keys.
    NoKeys,
    /// podspan sends through tunnels only, and the pod does not declare one.
    NoTunnel,
}

impl Remark {
    /// Whether an operator must act. The other reasons usually end without an action.
    pub(crate) fn needs_action(&self) -> bool {
        !matches!(
            self,
            Self::Terminating | Self::NotRunning(_) | Self::NotReady | Self::NoAddress
        )
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnPod => f.write_str(
                "not used: podspan itself runs in it, and never mirrors to its own pod; set the \
                 sensor's label run only on sensors",
            ),
            Self::Terminating => f.write_str("not used: it is being deleted"),
            Self::NotRunning(phase) => {
                let phase = Foreign(phase);
                write!(f, "not used: its phase is {phase}, not Running")
            }
            Self::NotReady => f.write_str(
                "not used: it is not Ready; if this lasts, check its readiness probe with kubectl \
                 describe pod",
            ),
            Self::NoAddress => f.write_str("not used: it has no IP address yet"),
            Self::OtherFamily(address) => write!(
                f,
                "not used: podspan cannot send to its address {address}, because podspan's pod has \
                 no address of that family; give both pods the same IP family"
            ),
            Self::InvalidAddress(address) => {
                write!(
                    f,
                    "not used: its address {address} cannot belong to another machine; check the \
                     pod's network"
                )
            }
            Self::BadPort(text) => write!(
                f,
                "not used: its annotation {PORT} is {:?}; it must be a UDP port from 1 to \
                 65535, such as \"4789\"",
                Foreign(text)
            ),
            Self::SameAddress(address) => write!(
                f,
                "not used: another pod has the same address and port {address}; with hostNetwork, \
                 give each pod its own port with the annotation {PORT}"
            ),
            Self::BadReceiver(text) => write!(
                f,
                "used as a sniffer: its annotation {RECEIVER} is {:?}; it must be sniffer or \
                 socket",
                Foreign(text)
            ),
            Self::BadTunnel(text) => write!(
                f,
                "not used: its annotation {TUNNEL} is {:?}; on a sensor's pod it must be wireguard or off",
                Foreign(text)
            ),
            Self::BadTunnelPort(text) => write!(
                f,
                "not used: its annotation {TUNNEL_PORT} is {:?}; it must be a UDP port from 1 to 65535, such as \
                 \"51820\"",
                Foreign(text)
            ),
            Self::NoKeys => write!(
                f,
                "not used: its annotation {TUNNEL} is wireguard, and podspan has no keys for a tunnel; set \
                 WG_SENSOR_KEY_FILE and WG_PRESHARED_KEY_FILE, or podspan.dev/tunnel-secret if podspan is injected"
            ),
            Self::NoTunnel => write!(
                f,
                "not used: TUNNEL is required, and the pod does not declare a tunnel; run podspan-receive in it, \
                 and give it the annotation {TUNNEL}: wireguard"
            ),
        }
    }
}

/// Selects the sensors among `pods`, which are ordered by name.
pub(crate) fn select<'p>(
    pods: impl IntoIterator<Item = &'p Pod>,
    settings: &Settings,
) -> Selection {
    let mut sensors: BTreeMap<SocketAddr, (&PodName, FoundSensor)> = BTreeMap::new();
    let mut remarks = BTreeMap::new();
    for pod in pods {
        let sensor = match check(pod, settings) {
            Ok(sensor) => sensor,
            Err(remark) => {
                remarks.insert(pod.name.clone(), remark);
                continue;
            }
        };
        if let Annotation::Invalid(text) = &pod.receiver {
            remarks.insert(pod.name.clone(), Remark::BadReceiver(text.clone()));
        }
        match sensors.entry(sensor.address) {
            Entry::Vacant(entry) => {
                entry.insert((&pod.name, sensor));
            }
            Entry::Occupied(mut entry) => {
                let (name, used) = entry.get_mut();
                let not_used = merge((name, used), (&pod.name, sensor));
                remarks.insert(not_used.clone(), Remark::SameAddress(used.address));
            }
        }
    }
    let sensors = sensors.into_values().map(|(_, sensor)| sensor).collect();
    let list = SensorList { sensors };
    Selection { list, remarks }
}

/// Makes one sensor of two with the same address and port, and returns the name of the other one. Either of the
/// pods may get the datagrams, so it is what is right for both: a tunnel, if one of them declares it.
fn merge<'p>(
    (name, used): (&mut &'p PodName, &mut FoundSensor),
    (other_name, mut other): (&'p PodName, FoundSensor),
) -> &'p PodName {
    let mut not_used = other_name;
    if !used.has_tunnel && other.has_tunnel {
        std::mem::swap(used, &mut other);
        std::mem::swap(name, &mut not_used);
    }
    used.receiver = used.receiver.min(other.receiver);
    used.on_this_node |= other.on_this_node;
    not_used
}

/// The sensor that a pod is, or why it is not used.
fn check(pod: &Pod, settings: &Settings) -> Result<FoundSensor, Remark> {
    if is_own_pod(pod, &settings.own_pod)
        || pod
            .addresses
            .iter()
            .any(|address| settings.own_pod.addresses.contains(address))
    {
        return Err(Remark::OwnPod);
    }
    if pod.terminating {
        return Err(Remark::Terminating);
    }
    match &pod.phase {
        Some(phase) if phase != "Running" => return Err(Remark::NotRunning(phase.clone())),
        _ => {}
    }
    if !pod.ready {
        return Err(Remark::NotReady);
    }
    let address = address(&pod.addresses, settings.families)?;
    let port = match &pod.port {
        Annotation::Missing => settings.default_port,
        Annotation::Valid(port) => *port,
        Annotation::Invalid(text) => return Err(Remark::BadPort(text.clone())),
    };
    let receiver = match pod.receiver {
        Annotation::Missing => settings.default_receiver,
        Annotation::Valid(receiver) => receiver,
        // Right for every receiver, but not the cheapest.
        Annotation::Invalid(_) => Receiver::Sniffer,
    };
    let tunnel_port = tunnel_port(pod, settings.tunnel)?;
    Ok(FoundSensor {
        address: SocketAddr::new(address, tunnel_port.unwrap_or(port).get()),
        has_tunnel: tunnel_port.is_some(),
        receiver,
        pod: pod.name.to_string(),
        on_this_node: settings.node.is_some() && pod.node == settings.node,
    })
}

/// The UDP port of the tunnel to a pod; `None` if its copies are plain.
fn tunnel_port(pod: &Pod, settings: TunnelSettings) -> Result<Option<NonZeroU16>, Remark> {
    let port = match &pod.tunnel_port {
        Annotation::Missing => settings.port,
        Annotation::Valid(port) => *port,
        Annotation::Invalid(text) => return Err(Remark::BadTunnelPort(text.clone())),
    };
    let declared = match &pod.tunnel {
        Annotation::Missing => None,
        Annotation::Valid(declared) => Some(*declared),
        Annotation::Invalid(text) => return Err(Remark::BadTunnel(text.clone())),
    };
    match (declared, settings.default) {
        (Some(Declared::Tunnel), _) | (None, Tunnel::Wireguard) if settings.has_keys => {
            Ok(Some(port))
        }
        (Some(Declared::Tunnel), _) | (None, Tunnel::Wireguard) => Err(Remark::NoKeys),
        (Some(Declared::Plain) | None, Tunnel::Required) => Err(Remark::NoTunnel),
        (Some(Declared::Plain), Tunnel::Off | Tunnel::Wireguard) | (None, Tunnel::Off) => Ok(None),
    }
}

fn is_own_pod(pod: &Pod, own: &OwnPod) -> bool {
    let same = |own: &Option<String>, other: &str| own.as_deref() == Some(other);
    let PodName { namespace, name } = &pod.name;
    same(&own.uid, &pod.uid) || (same(&own.namespace, namespace) && same(&own.name, name))
}

fn address(addresses: &[IpAddr], families: Families) -> Result<IpAddr, Remark> {
    let first = *addresses.first().ok_or(Remark::NoAddress)?;
    let mut valid = addresses.iter().copied().filter(is_valid).peekable();
    if valid.peek().is_none() {
        return Err(Remark::InvalidAddress(first));
    }
    let usable = valid.find(|address| families.contain(*address));
    usable.ok_or(Remark::OtherFamily(first))
}

/// Whether another machine can have this address. With loopback, podspan would mirror its own copies.
fn is_valid(address: &IpAddr) -> bool {
    let invalid = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    !invalid
        && match address {
            IpAddr::V4(address) => !address.is_broadcast() && !address.is_link_local(),
            // Link-local addresses need an interface, and mapped ones are not IPv6.
            IpAddr::V6(address) => {
                !address.is_unicast_link_local() && address.to_ipv4_mapped().is_none()
            }
        }
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
