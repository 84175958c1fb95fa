//! Which pods are sensors: a pure function from all pods with the name to a [`View`] and to what
//! there is to say about the others.
//!
//! A pod is used when it is not ours, not being deleted, in the phase Running, Ready, and has an
//! address that we can send to and a port that we understand. Of several addresses the first in the
//! cluster's own order whose family we reach is taken. The view does not depend on the order in
//! which events came, so that two podspans with the same pods agree. It says of each sensor whether
//! it runs on our node; which of them are preferred is decided where it is known which of them
//! answer.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::foreign::Foreign;
use crate::pod::{Declared, PORT, Pod, PodName, RECEIVER};
use crate::settings::{Families, FoundSensor, Identity, Receiver, Settings, View};

/// What becomes of the pods.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) view: View,
    /// For pods that match and are not used, or not as they say.
    pub(crate) remarks: BTreeMap<PodName, Remark>,
}

/// What there is to say about a pod that carries the sensor's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Remark {
    OwnPod,
    Terminating,
    NotRunning(String),
    NotReady,
    NoAddress,
    /// No address is of a family that we can send in.
    OtherFamily(IpAddr),
    /// It can only be wrong: loopback, multicast and the like.
    AbsurdAddress(IpAddr),
    BadPort(String),
    /// Another pod has the same address and port.
    SameAddress(SocketAddr),
    /// It is used, as a sniffer.
    BadReceiver(String),
}

impl Remark {
    /// Whether somebody must do something; the others pass by themselves.
    pub(crate) fn needs_attention(&self) -> bool {
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
                "not used: it is the pod that podspan itself runs in, which never mirrors to \
                 itself; give the sensor's label run to the sensors only",
            ),
            Self::Terminating => f.write_str("not used: it is being deleted"),
            Self::NotRunning(phase) => {
                let phase = Foreign(phase);
                write!(f, "not used: its phase is {phase}, not Running")
            }
            Self::NotReady => f.write_str(
                "not used: it is not Ready; if this lasts, see its readiness probe with kubectl \
                 describe pod",
            ),
            Self::NoAddress => f.write_str("not used: it has no IP address yet"),
            Self::OtherFamily(address) => write!(
                f,
                "not used: podspan's pod cannot send to its address {address}, as it has no \
                 address of that family; give both the same IP family"
            ),
            Self::AbsurdAddress(address) => {
                write!(f, "not used: {address} is no address of another machine")
            }
            Self::BadPort(text) => write!(
                f,
                "not used: its annotation {PORT} is {:?}; it must be a UDP port from 1 to \
                 65535, such as \"4789\"",
                Foreign(text)
            ),
            Self::SameAddress(address) => write!(
                f,
                "not used: another pod has the same address and port {address}; on a host's \
                 network give each its own port by the annotation {PORT}"
            ),
            Self::BadReceiver(text) => write!(
                f,
                "used as a sniffer: its annotation {RECEIVER} is {:?}; it must be sniffer or \
                 socket",
                Foreign(text)
            ),
        }
    }
}

/// Chooses the sensors among `pods`, which come ordered by name.
pub(crate) fn select<'p>(
    pods: impl IntoIterator<Item = &'p Pod>,
    settings: &Settings,
) -> Selection {
    let mut sensors: BTreeMap<SocketAddr, FoundSensor> = BTreeMap::new();
    let mut remarks = BTreeMap::new();
    for pod in pods {
        let sensor = match judge(pod, settings) {
            Ok(sensor) => sensor,
            Err(remark) => {
                remarks.insert(pod.name.clone(), remark);
                continue;
            }
        };
        if let Declared::Nonsense(text) = &pod.receiver {
            remarks.insert(pod.name.clone(), Remark::BadReceiver(text.clone()));
        }
        match sensors.entry(sensor.address) {
            Entry::Vacant(entry) => {
                entry.insert(sensor);
            }
            Entry::Occupied(mut entry) => {
                remarks.insert(pod.name.clone(), Remark::SameAddress(sensor.address));
                let first = entry.get_mut();
                // Which of them gets the datagrams is not known, so what is right for both.
                first.receiver = first.receiver.min(sensor.receiver);
                first.on_this_node |= sensor.on_this_node;
            }
        }
    }
    let sensors = sensors.into_values().collect();
    let view = View { sensors };
    Selection { view, remarks }
}

fn judge(pod: &Pod, settings: &Settings) -> Result<FoundSensor, Remark> {
    if is_me(pod, &settings.me)
        || pod
            .addresses
            .iter()
            .any(|address| settings.me.addresses.contains(address))
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
        Declared::Nothing => settings.default_port,
        Declared::Value(port) => *port,
        Declared::Nonsense(text) => return Err(Remark::BadPort(text.clone())),
    };
    let receiver = match pod.receiver {
        Declared::Nothing => settings.default_receiver,
        Declared::Value(receiver) => receiver,
        // What is right for every receiver, only not the cheapest.
        Declared::Nonsense(_) => Receiver::Sniffer,
    };
    Ok(FoundSensor {
        address: SocketAddr::new(address, port.get()),
        receiver,
        pod: pod.name.to_string(),
        on_this_node: settings.node.is_some() && pod.node == settings.node,
    })
}

fn is_me(pod: &Pod, me: &Identity) -> bool {
    let same = |mine: &Option<String>, its: &str| mine.as_deref() == Some(its);
    let PodName { namespace, name } = &pod.name;
    same(&me.uid, &pod.uid) || (same(&me.namespace, namespace) && same(&me.name, name))
}

fn address(addresses: &[IpAddr], families: Families) -> Result<IpAddr, Remark> {
    let first = *addresses.first().ok_or(Remark::NoAddress)?;
    let mut sane = addresses.iter().copied().filter(is_of_a_machine).peekable();
    if sane.peek().is_none() {
        return Err(Remark::AbsurdAddress(first));
    }
    let reached = sane.find(|address| families.reach(*address));
    reached.ok_or(Remark::OtherFamily(first))
}

/// Whether it can be the address of another machine. Loopback is none: the copies would come back.
fn is_of_a_machine(address: &IpAddr) -> bool {
    let absurd = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    !absurd
        && match address {
            IpAddr::V4(address) => !address.is_broadcast() && !address.is_link_local(),
            // Link-local addresses say nothing without an interface, mapped ones are not IPv6.
            IpAddr::V6(address) => {
                !address.is_unicast_link_local() && address.to_ipv4_mapped().is_none()
            }
        }
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
