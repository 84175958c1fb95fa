//! The sockets, opened once and before the capabilities are dropped.
//!
//! In: the mark and the number of source ports. Out: for each [`Lane`] that the network namespace has an
//! address family for, a socket for each source port. The port numbers are the same in both families, and
//! others for each [`Kind`] of sensors. Sensors with a tunnel have one port, and no sockets if there are no such
//! sensors.
//!
//! To a sensor that captures, the UDP checksum is zero: it may get a datagram of its own node with an
//! unfinished one. To a sensor that is a socket it is not: the kernel refuses to send several datagrams in
//! one message without checksums (`udp_send_skb` in `net/ipv4/udp.c`).
//!
//! The sockets send to every sensor and are never read: a filter, attached before the port is bound, drops
//! what they receive, so it uses no memory. The error queue is not filtered. Those of tunnels are the exception:
//! a session's handshake must come from the port that its datagrams come from, so the control side sends it on a
//! duplicate of the descriptor ([`Sockets::tunnels`]) and reads the answers there. The control side replaces their
//! filter by one that passes the answers of sensors ([`crate::receive_answers`]). A small buffer bounds what waits.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use libc::c_int;
use mirror::plan::{Kind, Lane};
use mirror::{PortIndex, SourcePorts, TrailerBound};
use nix::errno::Errno;
use socket2::{Domain, SockFilter, Socket, Type};
use wire::vxlan::FIRST_SOURCE_PORT;

use crate::option::SocketOption;

/// The first port that is tried: above the range that Linux assigns to applications
/// (`net.ipv4.ip_local_port_range` is 32768 to 60999), so that podspan uses no port of that range.
const FIRST_TRIED: u16 = 61_000;

/// The receive buffer of a socket in bytes. Only its error queue uses it, for about two dozen entries.
const RECEIVE_BUFFER: usize = 16 << 10;

/// That of a tunnel's socket: room for about a hundred answers.
const TUNNEL_RECEIVE_BUFFER: usize = 128 << 10;

/// A UDP checksum of zero, which a tunnel over IPv4 may have (RFC 7348 section 5). IPv6 ignores it.
const NO_CHECKSUM: SocketOption = SocketOption(libc::SOL_SOCKET, libc::SO_NO_CHECK);

/// The length of the segments of a message; 0 is none.
const SEGMENT: SocketOption = SocketOption(libc::SOL_UDP, libc::UDP_SEGMENT);

/// The same over IPv6, where it is otherwise not allowed (RFC 6935).
const NO_CHECKSUM_IPV6: SocketOption = SocketOption(libc::SOL_UDP, libc::UDP_NO_CHECK6_TX);

/// `BPF_RET | BPF_K` with 0: drop every packet.
pub const DROP_EVERYTHING: [SockFilter; 1] = [SockFilter::new(0x06, 0, 0, 0)];

/// The settings of the sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketConfig {
    /// `SO_MARK` of every outer packet; the ring's filter rejects packets with it. Setting it needs a
    /// capability. 0 is the default of every socket and needs none.
    pub mark: u32,
    /// The send buffer of each socket in bytes, including the kernel's overhead; the kernel limits it to
    /// `net.core.wmem_max`, doubled.
    pub send_buffer: u32,
    /// How many source ports the datagrams are sent from, for each kind of sensors but those with a tunnel, which
    /// have one.
    pub source_ports: SourcePorts,
    /// Whether there are sockets for sensors with a tunnel.
    pub has_tunnel: bool,
    /// How many bytes of trailers datagrams get, so that more of them are sent in one message
    /// ([`mirror::runs`]).
    pub trailers: TrailerBound,
    /// Whether the sending thread lets other threads run after each system call. Only for a process that is alone in
    /// its control group: `sched_yield(2)` gives up the thread's turn within the group, so beside busy threads of the
    /// same group it would hardly run.
    pub yields: bool,
}

impl SocketConfig {
    /// The settings with this mark, one source port, and send buffers as large as the kernel allows.
    #[must_use]
    pub const fn new(mark: u32) -> Self {
        // Above any wmem_max in use, and far below where the kernel's doubling would overflow.
        Self {
            mark,
            send_buffer: 64 << 20,
            source_ports: SourcePorts::ONE,
            has_tunnel: false,
            trailers: TrailerBound::DEFAULT,
            yields: false,
        }
    }
}

/// Why the sockets could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The capability for `SO_MARK` is missing.
    #[error(
        "marking the UDP sockets (SO_MARK {mark:#x}) is not permitted: give the container the \
         capability NET_RAW (before Linux 5.17 this needs NET_ADMIN), as \
         `securityContext: {{capabilities: {{add: [\"NET_RAW\"]}}}}`"
    )]
    NotPermitted {
        /// The mark that was to be set.
        mark: u32,
    },
    /// Too few ports are free.
    #[error(
        "only {found} of {wanted} UDP source ports from {FIRST_SOURCE_PORT} to 65535 are free in \
         this network namespace: close the sockets that use them (`ss -uan` lists these)"
    )]
    NoPorts {
        /// How many were found.
        found: usize,
        /// How many are needed.
        wanted: u8,
    },
    /// The kernel refused a socket or an option of one.
    #[error("opening a UDP socket over {family}: {step}: {source}")]
    Socket {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The step that failed.
        step: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(crate) const fn of(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => Self::V4,
            SocketAddr::V6(_) => Self::V6,
        }
    }

    /// The lane of its sensors of one kind.
    const fn lane(self, kind: Kind) -> Lane {
        Lane::new(matches!(self, Self::V6), kind)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    const fn domain(self) -> Domain {
        match self {
            Self::V4 => Domain::IPV4,
            Self::V6 => Domain::IPV6,
        }
    }

    /// Makes the kernel queue ICMP errors.
    pub(crate) const fn queue_errors(self) -> SocketOption {
        match self {
            Self::V4 => SocketOption(libc::IPPROTO_IP, libc::IP_RECVERR),
            Self::V6 => SocketOption(libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
        }
    }

    fn wildcard(self, port: u16) -> SocketAddr {
        match self {
            Self::V4 => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            Self::V6 => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        }
    }

    /// The options that are not common to both.
    const fn options(self) -> &'static [(SocketOption, c_int)] {
        use SocketOption as Name;
        match self {
            Self::V4 => &[
                // Don't fragment, and refuse datagrams that are too long for the path.
                (
                    Name(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
                    libc::IP_PMTUDISC_DO,
                ),
            ],
            Self::V6 => &[
                // So that the same port can be bound in both families.
                (Name(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY), 1),
                (
                    Name(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
                    libc::IPV6_PMTUDISC_DO,
                ),
                // Without it the kernel would fragment here (`__ip6_append_data`).
                (Name(libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG), 1),
            ],
        }
    }
}

/// All sockets.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// The ports for sensors that capture, then those for sensors that are sockets.
    pub(crate) ports: Vec<u16>,
    /// The port for sensors with a tunnel.
    pub(crate) tunnel_port: Option<u16>,
    /// For each lane a socket for each port; none if the namespace does not have the address family.
    lanes: [Vec<Socket>; Lane::ALL.len()],
    /// Whether the kernel can split a message into datagrams (Linux 4.18).
    pub(crate) has_runs: bool,
}

/// The result of binding a socket.
enum Bound {
    Yes(Socket),
    PortTaken,
    /// The namespace has no such addresses.
    NoFamily,
}

impl Sockets {
    pub(crate) fn open(config: SocketConfig) -> Result<Self, OpenError> {
        let mut all = Self {
            ports: Vec::new(),
            tunnel_port: None,
            lanes: Default::default(),
            has_runs: true,
        };
        for kind in [Kind::Sniffer, Kind::Socket] {
            let ports = all.open_ports(config, kind, config.source_ports)?;
            all.ports.extend(ports);
        }
        if config.has_tunnel {
            let ports = all.open_ports(config, Kind::Tunnel, SourcePorts::ONE)?;
            all.tunnel_port = ports.first().copied();
        }
        let has_runs = all.all().all(|socket| SEGMENT.set(socket, 0).is_ok());
        all.has_runs = has_runs;
        Ok(all)
    }

    /// Opens the sockets for one kind of sensors, and returns their ports.
    fn open_ports(
        &mut self,
        config: SocketConfig,
        kind: Kind,
        wanted: SourcePorts,
    ) -> Result<Vec<u16>, OpenError> {
        let wanted = wanted.get();
        let mut ports = Vec::new();
        for port in ports_to_try() {
            let Some(sockets) = bound_in_all_families(port, kind, config)? else {
                continue;
            };
            if sockets.iter().all(Option::is_none) {
                break;
            }
            for (family, socket) in Family::ALL.into_iter().zip(sockets) {
                let lane = family.lane(kind);
                if let Some(socket) = &socket
                    && kind == Kind::Sniffer
                    && family == Family::V4
                {
                    NO_CHECKSUM
                        .set(socket, 1)
                        .map_err(failed(family, "SO_NO_CHECK"))?;
                }
                self.lanes[lane.index()].extend(socket);
            }
            ports.push(port);
            if ports.len() == usize::from(wanted) {
                return Ok(ports);
            }
        }
        let found = ports.len();
        Err(OpenError::NoPorts { found, wanted })
    }

    pub(crate) fn get(&self, lane: Lane, port: PortIndex) -> Option<&Socket> {
        self.lanes[lane.index()].get(usize::from(port.0))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Socket> {
        self.lanes.iter().flatten()
    }

    /// The socket for sensors with a tunnel.
    pub(crate) fn tunnel(&self, family: Family) -> Option<&Socket> {
        self.get(family.lane(Kind::Tunnel), PortIndex(0))
    }

    /// The sockets for sensors without a tunnel.
    pub(crate) fn plain(&self) -> impl Iterator<Item = &Socket> {
        let lanes = Lane::ALL.into_iter().filter(|lane| !lane.is_tunnel());
        lanes.flat_map(|lane| &self.lanes[lane.index()])
    }

    /// Duplicates of the descriptors for sensors with a tunnel, IPv4 first.
    pub(crate) fn tunnels(&self) -> io::Result<[Option<Socket>; Family::ALL.len()]> {
        let duplicate = |family| self.tunnel(family).map(Socket::try_clone).transpose();
        Ok([duplicate(Family::V4)?, duplicate(Family::V6)?])
    }

    /// The sockets of a namespace without IPv6.
    #[cfg(test)]
    pub(crate) fn without_ipv6(mut self) -> Self {
        for lane in Lane::ALL.into_iter().filter(|lane| lane.is_ipv6()) {
            self.lanes[lane.index()].clear();
        }
        self
    }

    /// Makes the kernel refuse runs over one family with `EINVAL`, or accept them again: it splits a message
    /// only with a checksum.
    #[cfg(test)]
    pub(crate) fn refuse_runs(&self, family: Family, refuse: bool) {
        let lane = family.lane(Kind::Socket);
        for socket in &self.lanes[lane.index()] {
            NO_CHECKSUM.set(socket, refuse.into()).unwrap();
        }
    }

    pub(crate) fn has(&self, family: Family) -> bool {
        self.get(family.lane(Kind::Sniffer), PortIndex(0)).is_some()
    }
}

/// Makes a socket send UDP checksums of zero, for a sensor that captures on the loopback interface: it would see
/// unfinished ones.
///
/// # Errors
/// The kernel's.
pub fn without_checksums(socket: &Socket, is_ipv6: bool) -> io::Result<()> {
    let option = if is_ipv6 {
        NO_CHECKSUM_IPV6
    } else {
        NO_CHECKSUM
    };
    option.set(socket, 1)
}

/// A socket of each family for probes, on a separate port.
#[derive(Debug)]
pub(crate) struct ProbeSockets {
    pub(crate) port: u16,
    sockets: [Option<Socket>; Family::ALL.len()],
}

impl ProbeSockets {
    pub(crate) fn open(config: SocketConfig) -> Result<Self, OpenError> {
        for port in ports_to_try() {
            if let Some(sockets) = bound_in_all_families(port, Kind::Sniffer, config)? {
                return Ok(Self { port, sockets });
            }
        }
        let (found, wanted) = (0, 1);
        Err(OpenError::NoPorts { found, wanted })
    }

    pub(crate) fn get(&self, family: Family) -> Option<&Socket> {
        self.sockets[family as usize].as_ref()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Socket> {
        self.sockets.iter().flatten()
    }
}

/// The source ports in the order in which they are tried.
fn ports_to_try() -> impl Iterator<Item = u16> {
    (FIRST_TRIED..=u16::MAX).chain(FIRST_SOURCE_PORT..FIRST_TRIED)
}

/// A socket of each family that the namespace has, bound to the same port; `None` if one of them cannot get it.
fn bound_in_all_families(
    port: u16,
    kind: Kind,
    config: SocketConfig,
) -> Result<Option<[Option<Socket>; Family::ALL.len()]>, OpenError> {
    let mut sockets = [None, None];
    for (slot, family) in sockets.iter_mut().zip(Family::ALL) {
        match bound(family, port, kind, config)? {
            Bound::Yes(socket) => *slot = Some(socket),
            Bound::PortTaken => return Ok(None),
            Bound::NoFamily => {}
        }
    }
    Ok(Some(sockets))
}

/// A socket of a family with all options, bound to a port on all addresses.
fn bound(family: Family, port: u16, kind: Kind, config: SocketConfig) -> Result<Bound, OpenError> {
    let failed = |step| failed(family, step);
    let socket = match Socket::new(family.domain(), Type::DGRAM, None) {
        Ok(socket) => socket,
        Err(error) if is(&error, Errno::EAFNOSUPPORT) => return Ok(Bound::NoFamily),
        Err(error) => return Err(failed("socket")(error)),
    };
    mark(&socket, config.mark).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => OpenError::NotPermitted { mark: config.mark },
        _ => failed("SO_MARK")(error),
    })?;
    socket.set_nonblocking(true).map_err(failed("O_NONBLOCK"))?;
    for (option, value) in family.options() {
        option
            .set(&socket, *value)
            .map_err(failed("setting an option"))?;
    }
    family
        .queue_errors()
        .set(&socket, 1)
        .map_err(failed("IP_RECVERR"))?;
    socket
        .set_send_buffer_size(config.send_buffer as usize)
        .map_err(failed("SO_SNDBUF"))?;
    socket
        .attach_filter(&DROP_EVERYTHING)
        .map_err(failed("SO_ATTACH_FILTER"))?;
    let receive_buffer = if kind == Kind::Tunnel {
        TUNNEL_RECEIVE_BUFFER
    } else {
        RECEIVE_BUFFER
    };
    socket
        .set_recv_buffer_size(receive_buffer)
        .map_err(failed("SO_RCVBUF"))?;
    match socket.bind(&family.wildcard(port).into()) {
        Ok(()) => Ok(Bound::Yes(socket)),
        Err(error) if is(&error, Errno::EADDRINUSE) => Ok(Bound::PortTaken),
        Err(error) if is(&error, Errno::EADDRNOTAVAIL) => Ok(Bound::NoFamily),
        Err(error) => Err(failed("bind")(error)),
    }
}

/// The error of a step.
const fn failed(family: Family, step: &'static str) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Socket {
        family: family.name(),
        step,
        source,
    }
}

fn mark(socket: &Socket, mark: u32) -> io::Result<()> {
    if mark == 0 {
        return Ok(());
    }
    socket.set_mark(mark)
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
