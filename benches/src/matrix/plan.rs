//! What is measured: contenders, loads, and which of them meet.

use serde::{Serialize, Serializer};

/// A program or a setting that mirrors, or a bound for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Contender {
    /// Nothing mirrors: what the load itself costs.
    Nothing,
    /// podspan, to a sensor that captures.
    Plain,
    /// podspan, to a sensor that is a socket (UDP GSO).
    Socket,
    /// The same with `TRAILERS=off`.
    SocketNoTrailers,
    /// The same with `TRAILERS=50%`.
    SocketHalfTrailers,
    /// A bare `sendmmsg` of the same datagrams beside the load.
    Bare,
    /// The same with `UDP_SEGMENT`.
    BareSegmented,
    /// The same, as fast as the load is and in bursts as podspan's.
    BarePaced,
    /// tc mirred into a vxlan device.
    Tc,
    /// The command of `--peer`.
    Peer,
    /// podspan through its own tunnel, with `podspan-receive` at the other end.
    Tunnel,
    /// podspan, to a socket that is reached through wireguard-go.
    WireguardGo,
}

impl Contender {
    /// The name in tables and files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "no mirror",
            Self::Plain => "podspan plain",
            Self::Socket => "podspan GSO",
            Self::SocketNoTrailers => "podspan GSO, TRAILERS=off",
            Self::SocketHalfTrailers => "podspan GSO, TRAILERS=50%",
            Self::Bare => "bare sendmmsg",
            Self::BareSegmented => "bare sendmmsg, UDP_SEGMENT",
            Self::BarePaced => "bare UDP_SEGMENT in bursts",
            Self::Tc => "tc mirred + vxlan",
            Self::Peer => "peer",
            Self::Tunnel => "podspan tunnel",
            Self::WireguardGo => "podspan GSO + wireguard-go",
        }
    }
}

impl Serialize for Load {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

impl Serialize for Contender {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What is sent to the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Load {
    /// UDP frames of this length in bytes, without the frame check sequence.
    Size(u16),
    /// The simple IMIX in random order.
    Imix,
    /// The recorded web mix with the kernel's offloads, as a pod on a veth has it.
    Web,
    /// The same without offloads: each frame is one of the wire, and full-sized ones do not fit the tunnel.
    WebWithoutOffloads,
    /// Recorded DNS.
    Dns,
    /// Recorded short connections.
    Short,
    /// Recorded bulk TCP with its acknowledgements.
    Bulk,
}

impl Load {
    /// The name in tables and files.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Size(bytes) => format!("{bytes} B"),
            Self::Imix => "IMIX".to_owned(),
            Self::Web => "web mix".to_owned(),
            Self::WebWithoutOffloads => "web mix, no offloads".to_owned(),
            Self::Dns => "DNS".to_owned(),
            Self::Short => "short connections".to_owned(),
            Self::Bulk => "bulk TCP".to_owned(),
        }
    }
}

/// A load, where it comes from and where its copies go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Case {
    /// The frames.
    pub load: Load,
    /// Flows of frames that are not recorded.
    pub flows: u32,
    /// Sensors.
    pub sensors: u8,
    /// Interfaces of the pod.
    pub interfaces: u8,
    /// Frames a second where CPU time is measured, if they are not too many bits.
    pub per_second: u32,
}

impl Case {
    /// Flows where their number is not varied.
    pub const FLOWS: u32 = 64;
    /// Frames a second where their number is not varied.
    pub const PER_SECOND: u32 = 100_000;

    /// One sensor and one interface.
    #[must_use]
    pub const fn of(load: Load) -> Self {
        Self {
            load,
            flows: Self::FLOWS,
            sensors: 1,
            interfaces: 1,
            per_second: Self::PER_SECOND,
        }
    }

    /// The name in tables and files: what differs from [`Case::of`].
    #[must_use]
    pub fn name(&self) -> String {
        let mut name = self.load.name();
        let mut add = |number: u64, usual: u64, one: &str, many: &str| {
            if number != usual {
                let unit = if number == 1 { one } else { many };
                name = format!("{name}, {} {unit}", crate::grouped(number));
            }
        };
        add(self.flows.into(), Self::FLOWS.into(), "flow", "flows");
        add(self.sensors.into(), 1, "sensor", "sensors");
        add(self.interfaces.into(), 1, "interface", "interfaces");
        add(
            self.per_second.into(),
            Self::PER_SECOND.into(),
            "frame/s",
            "frames/s",
        );
        name
    }
}

impl Serialize for Case {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

/// The bar's size.
pub const SMALL: Load = Load::Size(128);
/// Sizes of frames.
pub const SIZES: [u16; 4] = [64, 128, 512, 1400];
/// Sizes of frames through tunnels: the smaller one is the bar's, and the larger one nearly fills a tunnel.
pub const TUNNEL_SIZES: [u16; 2] = [128, 1400];
/// Frames a second where the CPU time of tunnels is measured: the far end decrypts on the same machine, and
/// must keep up.
pub const TUNNEL_PER_SECOND: u32 = 20_000;
/// Numbers of flows.
pub const FLOWS: [u32; 4] = [1, 64, 10_000, 1_000_000];
/// Numbers of sensors.
pub const SENSORS: [u8; 3] = [1, 8, 64];
/// Numbers of interfaces.
pub const INTERFACES: [u8; 3] = [1, 2, 4];
/// Flows where the number of sensors is varied: enough for all of them.
pub const MANY: u32 = 10_000;

/// Which parts run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// CPU time per packet without a quota.
    Cost,
    /// Flows, sensors and interfaces.
    Scale,
    /// The highest load without loss under the quota.
    Quota,
    /// CPU time and memory without traffic.
    Idle,
    /// What encryption costs.
    Tunnel,
}

impl Part {
    /// All, in the order in which a round runs them.
    pub const ALL: [Self; 5] = [
        Self::Cost,
        Self::Scale,
        Self::Quota,
        Self::Idle,
        Self::Tunnel,
    ];

    /// The word on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Cost => "cost",
            Self::Scale => "scale",
            Self::Quota => "quota",
            Self::Idle => "idle",
            Self::Tunnel => "tunnel",
        }
    }
}

/// The cases whose CPU time is measured, and who meets in each, in the order of a round.
#[must_use]
pub fn costs(with_peer: bool) -> Vec<(Case, Vec<Contender>)> {
    use Contender::{
        Bare, BarePaced, BareSegmented, Nothing, Peer, Plain, Socket, SocketHalfTrailers,
        SocketNoTrailers, Tc,
    };
    let mut cases = Vec::new();
    for size in SIZES {
        let load = Load::Size(size);
        let all = if load == SMALL {
            vec![Nothing, Tc, BareSegmented, Socket, BarePaced, Bare, Plain]
        } else {
            vec![BareSegmented, Socket, Bare, Plain]
        };
        cases.push((Case::of(load), all));
    }
    cases.push((
        Case::of(Load::Imix),
        vec![Socket, SocketNoTrailers, Bare, Plain],
    ));
    for load in [Load::Web, Load::WebWithoutOffloads] {
        let all = vec![Socket, SocketHalfTrailers, SocketNoTrailers, Plain];
        cases.push((Case::of(load), all));
    }
    for load in [Load::Dns, Load::Short, Load::Bulk] {
        cases.push((Case::of(load), vec![Socket, Plain]));
    }
    if with_peer {
        for (_, contenders) in &mut cases {
            contenders.push(Peer);
        }
    }
    cases
}

/// The cases of many flows, sensors and interfaces.
#[must_use]
pub fn scales() -> Vec<Case> {
    let base = Case::of(SMALL);
    let flows = FLOWS.iter().map(|&flows| Case { flows, ..base });
    let sensors = SENSORS.iter().map(|&sensors| Case {
        sensors,
        flows: MANY,
        ..base
    });
    let interfaces = INTERFACES
        .iter()
        .map(|&interfaces| Case { interfaces, ..base });
    let mut cases: Vec<Case> = flows.chain(sensors).chain(interfaces).collect();
    cases.sort_unstable();
    cases.dedup();
    cases
}

/// The loads whose highest rate without loss is searched, and who meets in each.
#[must_use]
pub fn searches(with_peer: bool) -> Vec<(Case, Vec<Contender>)> {
    use Contender::{Peer, Plain, Socket, SocketHalfTrailers, SocketNoTrailers};
    let mut cases = vec![
        (Case::of(SMALL), vec![Socket, Plain]),
        (Case::of(Load::Imix), vec![Socket, SocketNoTrailers, Plain]),
        (
            Case::of(Load::Web),
            vec![Socket, SocketHalfTrailers, SocketNoTrailers, Plain],
        ),
        (
            Case::of(Load::WebWithoutOffloads),
            vec![Socket, SocketHalfTrailers, Plain],
        ),
        (Case::of(Load::Bulk), vec![Socket, Plain]),
        (Case::of(Load::Dns), vec![Socket, Plain]),
        (Case::of(Load::Short), vec![Socket, Plain]),
    ];
    if with_peer {
        for (_, contenders) in &mut cases {
            contenders.push(Peer);
        }
    }
    cases
}

/// The case in which the CPU time of tunnels is measured with a load.
#[must_use]
pub const fn through_tunnels(load: Load) -> Case {
    Case {
        per_second: TUNNEL_PER_SECOND,
        ..Case::of(load)
    }
}

/// The cases in which the CPU time of tunnels is measured, and who meets in each.
#[must_use]
pub fn tunnel_costs() -> Vec<(Case, Vec<Contender>)> {
    use Contender::{Plain, Socket, Tunnel, WireguardGo};
    let cases = TUNNEL_SIZES.iter().map(|&size| {
        let case = through_tunnels(Load::Size(size));
        (case, vec![WireguardGo, Tunnel, Socket, Plain])
    });
    cases.collect()
}

/// The loads whose highest rate without loss is searched with a tunnel, and who meets in each.
#[must_use]
pub fn tunnel_searches() -> Vec<(Case, Vec<Contender>)> {
    let cases = TUNNEL_SIZES.iter().map(|&size| {
        let case = Case::of(Load::Size(size));
        (case, vec![Contender::Tunnel, Contender::Socket])
    });
    cases.collect()
}
