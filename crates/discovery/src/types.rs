//! The types shared with the agent: what discovery is asked for, and the list of sensors that it publishes.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use settings::{Receiver, Tunnel};

/// Which pods are sensors, and how they are used.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The value of the label `run`. The caller has checked that it is a valid label value.
    pub name: String,
    /// The namespaces that are searched.
    pub scope: Scope,
    /// The UDP port of sensors without the annotation `podspan.dev/port`.
    pub default_port: NonZeroU16,
    /// The kind of sensors without the annotation `podspan.dev/receiver`.
    pub default_receiver: Receiver,
    /// Which of them get their copies through WireGuard.
    pub tunnel: TunnelSettings,
    /// The name of podspan's node. Without it, no sensor counts as a sensor on this node.
    pub node: Option<String>,
    /// podspan's own pod, which is never a sensor.
    pub own_pod: OwnPod,
    /// The address families that podspan can send to.
    pub families: Families,
    /// Time limits and intervals.
    pub timing: Timing,
}

/// Which sensors get their copies through WireGuard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelSettings {
    /// What holds for sensors without the annotation `podspan.dev/tunnel`.
    pub default: Tunnel,
    /// The UDP port of the tunnel to sensors without the annotation `podspan.dev/tunnel-port`.
    pub port: NonZeroU16,
    /// Whether podspan can make a tunnel: it has the sensors' public key and a pre-shared key.
    pub has_keys: bool,
}

/// The namespaces that are searched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// podspan's own: [`OwnPod::namespace`], else the namespace of the credentials.
    Own,
    /// This one.
    Namespace(String),
    /// Every namespace of the cluster.
    All,
}

/// podspan's own pod, from the downward API and from its interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnPod {
    /// `metadata.uid`.
    pub uid: Option<String>,
    /// `metadata.name`; it counts only together with the namespace.
    pub name: Option<String>,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// The addresses of its interfaces. They identify the pod without the downward API too.
    pub addresses: Vec<IpAddr>,
}

/// Which pod is podspan's own, to follow its annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPodSettings {
    /// `metadata.name`. The caller has checked that it is a valid name of a pod.
    pub name: String,
    /// `metadata.namespace`; without it, that of the credentials.
    pub namespace: Option<String>,
    /// `metadata.uid`: a pod with another one is not podspan's own.
    pub uid: Option<String>,
    /// The addresses of podspan's interfaces, if the name may be that of another pod: then the own pod has one
    /// of them.
    pub addresses: Option<Vec<IpAddr>>,
    /// Time limits and intervals; `between_lists` is not used.
    pub timing: Timing,
}

/// The address families that podspan can send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    /// There is an IPv4 socket.
    pub ipv4: bool,
    /// There is an IPv6 socket.
    pub ipv6: bool,
}

impl Families {
    /// Whether `address` is of one of them.
    #[must_use]
    pub fn contain(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => self.ipv4,
            IpAddr::V6(_) => self.ipv6,
        }
    }
}

/// Time limits and intervals. The default is for production; tests use shorter ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The minimum time between two published lists.
    pub between_lists: Duration,
    /// The time limit for the start of an answer, and for a complete list.
    pub answer_timeout: Duration,
    /// How long one watch lasts. Then the API server ends it, and the next one continues where it
    /// ended. A watch that has not ended shortly after this time hangs, so a hang is detected then.
    pub watch_duration: Duration,
}

impl Default for Timing {
    /// 50 ms, 15 s, and one minute: a frozen API server or a path that drops packets is detected
    /// within about a minute, for one small request a minute. `client-go` is as fast with HTTP/2
    /// pings, which `kube` does not send.
    fn default() -> Self {
        Self {
            between_lists: Duration::from_millis(50),
            answer_timeout: Duration::from_secs(15),
            watch_duration: Duration::from_mins(1),
        }
    }
}

/// All usable sensors, ordered by address. Each address and port appears once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SensorList {
    /// Empty: no pod with the name can be used now.
    pub sensors: Vec<FoundSensor>,
}

/// A pod to mirror to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSensor {
    /// Where the copies are sent: the port is that of the tunnel if there is one.
    pub address: SocketAddr,
    /// Whether the copies go through WireGuard, never plain; the VXLAN port inside the tunnel is the usual one.
    pub has_tunnel: bool,
    /// How it receives them.
    pub receiver: Receiver,
    /// `namespace/name` of the pod, for the log.
    pub pod: String,
    /// Whether it runs on podspan's node.
    pub on_this_node: bool,
}
