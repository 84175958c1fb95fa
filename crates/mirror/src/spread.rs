//! How the frames are spread over sensors and source ports.
//!
//! In: a frame and where its network layer is. Out: two hashes: that of its two hosts, from which the
//! source port follows, and that from which the sensor follows.
//!
//! - [`Spread::Hosts`]: all that two hosts exchange goes to one sensor, in the order of the wire: a
//!   connection and the one that announced it, a datagram and the fragments of its answer.
//! - [`Spread::Flows`]: each conversation by itself, so that few hosts load many sensors. A later
//!   fragment has no ports: it goes where the first fragment of its packet went, which a table of
//!   bounded size remembers, and where the table does not know it, by its hosts.
//!
//! The hosts are an IP packet's addresses, also where the rest of it is garbled; outside of IP they
//! are the Ethernet addresses. An ICMP error goes with the packet that it quotes. So the order
//! between two hosts is the wire's whatever is chosen, as the source port follows from the hosts and
//! `transmit` sends what leaves by one port in order.

use core::net::IpAddr;

use wire::ip::{self, Network, Packet, Version};
use wire::ipv4::{Ipv4, OFFSET_MASK};
use wire::ipv6;
use wire::{Frame, Link, ethernet};

use crate::batch::PortIndex;
use crate::hash::{Endpoint, FlowHash, HostsHash, MAC_LEN, mix};
use crate::quoted::{Message, addresses, quoted};

/// Packets in fragments are remembered in so many sets, a power of two, of so many each: some hundreds
/// may be under way at a time before one that is needed is forgotten.
const SETS: usize = 256;
const WAYS: usize = 8;

/// What goes to one sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spread {
    /// All that two hosts exchange.
    #[default]
    Hosts,
    /// Each conversation of two hosts.
    Flows,
}

/// How many source ports there are: a power of two, at most 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourcePorts(u8);

impl SourcePorts {
    /// One: a sensor sees all packets of the pod in the order of the wire.
    pub const ONE: Self = Self(1);
    /// The most. Each is a socket for each address family, and each that has traffic takes a system
    /// call a batch.
    pub const MAX: Self = Self(16);

    /// That many, if it is a power of two and not too many.
    #[must_use]
    pub const fn new(count: u8) -> Option<Self> {
        if count.is_power_of_two() && count <= Self::MAX.0 {
            Some(Self(count))
        } else {
            None
        }
    }

    /// How many.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The port for what two hosts exchange: by the low bits, so that it does not follow from the
    /// sensor.
    pub(crate) const fn port_of(self, hosts: HostsHash) -> PortIndex {
        #[expect(clippy::cast_possible_truncation, reason = "the rest is masked away")]
        PortIndex(hosts.0 as u8 & (self.0 - 1))
    }
}

/// What decides where a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hashes {
    /// The source port follows from it.
    pub(crate) hosts: HostsHash,
    /// The sensor follows from it.
    pub(crate) flow: FlowHash,
}

impl Hashes {
    const fn of_hosts(hosts: HostsHash) -> Self {
        Self {
            hosts,
            flow: hosts.as_flow(),
        }
    }
}

/// Spreads frames.
#[derive(Debug)]
pub(crate) struct Spreader {
    spread: Spread,
    fragmented: Fragmented,
}

impl Spreader {
    pub(crate) fn new(spread: Spread) -> Self {
        Self {
            spread,
            fragmented: Fragmented::new(),
        }
    }

    /// The hashes of a frame.
    pub(crate) fn hashes(&mut self, frame: &Frame<'_>, network: &Network) -> Hashes {
        let Network::Ip(packet) = network else {
            return Hashes::of_hosts(hosts_of_other(frame, network));
        };
        let bytes = frame
            .bytes
            .get(packet.start..packet.end)
            .unwrap_or_default();
        if matches!(packet.protocol, ip::ICMP | ip::ICMPV6) && !packet.is_fragment {
            let icmp = bytes
                .get(packet.transport - packet.start..)
                .unwrap_or_default();
            if let Some(about) = quoted(packet.protocol, icmp)
                && about.message == Message::Error
            {
                return self.of_packet(about.bytes, &about.packet).0;
            }
        }
        let (hashes, first) = self.of_packet(bytes, packet);
        if let Some(key) = first {
            self.fragmented.insert(key, hashes.flow);
        }
        hashes
    }

    /// The hashes of a packet, which `bytes` start with, and the key of its later fragments where it
    /// is the first of several.
    fn of_packet(&self, bytes: &[u8], packet: &Packet) -> (Hashes, Option<Key>) {
        let Some((source, destination)) = addresses(bytes) else {
            return (Hashes::of_hosts(HostsHash::without_addresses()), None);
        };
        let hosts = HostsHash::of_addresses(source, destination);
        if self.spread == Spread::Hosts {
            return (Hashes::of_hosts(hosts), None);
        }
        let kind = FragmentKind::of(bytes, packet, hosts, source < destination);
        if let FragmentKind::Later(key) = kind {
            let flow = self.fragmented.get(key).unwrap_or(hosts.as_flow());
            return (Hashes { hosts, flow }, None);
        }
        let (from, to) = ports(bytes, packet);
        let end = |host: IpAddr, port| Endpoint { host, port };
        let (from, to) = (end(source, from), end(destination, to));
        let flow = FlowHash::of(hosts, packet.protocol, from, to);
        let first = match kind {
            FragmentKind::First(key) => Some(key),
            _ => None,
        };
        (Hashes { hosts, flow }, first)
    }
}

/// The hosts of a frame that holds no sound IP packet.
fn hosts_of_other(frame: &Frame<'_>, network: &Network) -> HostsHash {
    if *network == Network::Malformed
        && let Some(payload) = ethernet::payload(frame)
        && let Some((source, destination)) = frame.bytes.get(payload.start..).and_then(addresses)
    {
        return HostsHash::of_addresses(source, destination);
    }
    match macs(frame) {
        Some([destination, source]) => HostsHash::of_macs(destination, source),
        None => HostsHash::without_addresses(),
    }
}

/// The two Ethernet addresses of a frame that has them.
fn macs(frame: &Frame<'_>) -> Option<[[u8; MAC_LEN]; 2]> {
    if frame.link == Link::Ip {
        return None;
    }
    let (destination, rest) = frame.bytes.split_first_chunk()?;
    Some([*destination, *rest.first_chunk()?])
}

/// Source and destination port of a packet that has them, else zeros.
fn ports(bytes: &[u8], packet: &Packet) -> (u16, u16) {
    let transport = bytes
        .get(packet.transport - packet.start..)
        .unwrap_or_default();
    match (packet.protocol, transport.first_chunk()) {
        (ip::TCP | ip::UDP | ip::SCTP | ip::DCCP | ip::UDP_LITE, Some([a, b, c, d])) => {
            (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))
        }
        _ => (0, 0),
    }
}

/// What all fragments of one packet have in common, and others have not, mixed to a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key(u64);

/// Where a packet stands among the fragments of what was sent.
enum FragmentKind {
    Whole,
    First(Key),
    Later(Key),
}

impl FragmentKind {
    /// `ascends` says whether the source is the smaller address: the two directions count their
    /// identifications each for itself.
    fn of(bytes: &[u8], packet: &Packet, hosts: HostsHash, ascends: bool) -> Self {
        if !packet.is_fragment {
            return Self::Whole;
        }
        let Some((id, protocol, is_first)) = fragment(bytes, packet) else {
            return Self::Whole;
        };
        let direction = u64::from(ascends) << 40;
        let key = mix(hosts.0 ^ (direction | u64::from(protocol) << 32 | u64::from(id)));
        // No key is zero, which stands for an empty kind.
        let key = Key(key | 1);
        if is_first {
            Self::First(key)
        } else {
            Self::Later(key)
        }
    }
}

/// A fragment's identification, the protocol where that belongs to it (RFC 791, but not RFC 8200
/// section 4.5), and whether it is the first.
fn fragment(bytes: &[u8], packet: &Packet) -> Option<(u32, u8, bool)> {
    match packet.version {
        Version::V4 => {
            let ip = Ipv4::parse(bytes)?;
            let is_first = ip.fragment_field() & OFFSET_MASK == 0;
            Some((ip.id().into(), ip.protocol(), is_first))
        }
        Version::V6(chain) => {
            let at = chain.fragment?;
            let header = bytes
                .get(at..)?
                .first_chunk::<{ ipv6::FRAGMENT_HEADER_LEN }>()?;
            let [_, _, a, b, id @ ..] = *header;
            let is_first = u16::from_be_bytes([a, b]) >> 3 == 0;
            Some((u32::from_be_bytes(id), 0, is_first))
        }
    }
}

/// The flows of packets whose first fragment was seen. In each set the newest stands first, and takes
/// the oldest one's kind.
#[derive(Debug)]
struct Fragmented(Box<[[(Key, FlowHash); WAYS]]>);

impl Fragmented {
    fn new() -> Self {
        Self(vec![[(Key(0), FlowHash(0)); WAYS]; SETS].into_boxed_slice())
    }

    /// By the lower bits, but for the lowest one, which is always set.
    const fn set(key: Key) -> usize {
        (key.0 >> 1) as usize & (SETS - 1)
    }

    fn insert(&mut self, key: Key, flow: FlowHash) {
        let Some(set) = self.0.get_mut(Self::set(key)) else {
            return;
        };
        let known = set.iter().position(|(found, _)| *found == key);
        set[..=known.unwrap_or(WAYS - 1)].rotate_right(1);
        set[0] = (key, flow);
    }

    fn get(&self, key: Key) -> Option<FlowHash> {
        let set = self.0.get(Self::set(key))?;
        let found = set.iter().find(|(found, _)| *found == key);
        found.map(|(_, flow)| *flow)
    }
}

#[cfg(test)]
#[path = "spread_tests.rs"]
mod tests;
