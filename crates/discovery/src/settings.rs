//! What is asked for and what is answered: the words shared with the agent.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

/// Which pods are wanted, and how they are to be used.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The value of the label `run`. It must be a valid label value; the caller has checked that.
    pub name: String,
    /// The namespaces in which it is looked up.
    pub scope: Scope,
    /// The UDP port of sensors without the annotation `podspan.dev/port`.
    pub default_port: NonZeroU16,
    /// What sensors without the annotation `podspan.dev/receiver` are.
    pub default_receiver: Receiver,
    /// Our node's name; without it no sensor is known to run on it.
    pub node: Option<String>,
    /// Our own pod, which is never a sensor.
    pub me: Identity,
    /// The address families in which we can send.
    pub families: Families,
    /// How long is waited for what.
    pub pace: Pace,
}

/// The namespaces in which a name is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Ours: [`Identity::namespace`], else that of the credentials.
    Own,
    /// This one.
    Namespace(String),
    /// Every namespace of the cluster.
    All,
}

/// How a sensor takes the copies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Receiver {
    /// By capturing on an interface: each copy must be a datagram of its own.
    Sniffer,
    /// By a UDP socket or a kernel vxlan device: the kernel splits what was sent as one.
    Socket,
}

impl Receiver {
    /// The word of the annotation and of `RECEIVER`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sniffer => "sniffer",
            Self::Socket => "socket",
        }
    }

    /// Reads [`Self::word`], whatever its case.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        [Self::Sniffer, Self::Socket]
            .into_iter()
            .find(|receiver| word.eq_ignore_ascii_case(receiver.word()))
    }
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What is known of our own pod, from the downward API and from its interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `metadata.uid`.
    pub uid: Option<String>,
    /// `metadata.name`; it counts only together with the namespace.
    pub name: Option<String>,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// The addresses of our own interfaces: they tell it too where the downward API does not.
    pub addresses: Vec<IpAddr>,
}

/// The address families in which we can send.
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
    pub fn reach(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => self.ipv4,
            IpAddr::V6(_) => self.ipv6,
        }
    }
}

/// How long is waited for what. The default is for production; tests hurry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The least time between two views.
    pub views: Duration,
    /// For the beginning of an answer, and for a complete list.
    pub answer: Duration,
    /// How long one watch lasts. The API server ends it then, and the next goes on where it ended.
    /// One that has not ended a little later hangs: so this is also how soon that is noticed.
    pub watch: Duration,
}

impl Default for Pace {
    /// 50 ms, 15 s, and one minute: a frozen API server or a path that swallows packets is noticed
    /// within about that minute, for one small request a minute. `client-go` is as quick by HTTP/2
    /// pings, which `kube` does not send.
    fn default() -> Self {
        Self {
            views: Duration::from_millis(50),
            answer: Duration::from_secs(15),
            watch: Duration::from_mins(1),
        }
    }
}

/// The usable sensors: all of them, ordered by address, each address with its port once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// None: no pod with the name can be used now.
    pub sensors: Vec<FoundSensor>,
}

/// A pod to mirror to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSensor {
    /// Where the copies go.
    pub address: SocketAddr,
    /// How it takes them in.
    pub receiver: Receiver,
    /// `namespace/name` of the pod, for the log.
    pub pod: String,
    /// Whether it runs on our node.
    pub on_this_node: bool,
}
