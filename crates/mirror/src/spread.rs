//! How the frames are spread over sensors and source ports.
//!
//! In: a frame and the place of its network layer. Out: two hashes: *hosts* of its two hosts selects the
//! source port, and *flow* selects the sensor.
//!
//! - [`Spread::Hosts`]: all traffic of two hosts goes to one sensor, in the order of the wire: a
//!   connection and the one that announced it, a datagram and the fragments of its answer.
//! - [`Spread::Flows`]: each conversation is assigned separately, so that the traffic of few hosts can use
//!   many sensors. A later fragment has no ports. It gets the hash of the first fragment of its packet
//!   from a table of bounded size, or the hash of its hosts if the table has no entry.
//!
//! The hosts are the addresses of an IP packet, also if the rest of it is malformed. For other frames
//! they are the Ethernet addresses. An ICMP error has the hashes of the packet that it quotes. The
//! traffic of two hosts always keeps the order of the wire: the hosts select the source port, and
//! `transmit` sends the datagrams of one port in order.

use core::net::IpAddr;

use wire::ip::{self, Network, Packet, Version};
use wire::ipv4::{Ipv4, OFFSET_MASK};
use wire::ipv6;
use wire::{Frame, Link, ethernet};

use crate::batch::PortIndex;
use crate::hash::{Endpoint, FlowHash, HostsHash, MAC_LEN, mix};
use crate::quoted::{Message, addresses, quoted};

/// Fragmented packets are remembered in this many sets, a power of two, with this many entries each. This
/// is enough for some hundred fragmented packets at a time.
const SETS: usize = 256;
const WAYS: usize = 8;

/// Which traffic goes to one sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spread {
    /// All traffic of two hosts.
    #[default]
    Hosts,
    /// Each conversation of two hosts.
    Flows,
}

/// How many source ports there are: a power of two, at most 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourcePorts(u8);

impl SourcePorts {
    /// One: a sensor gets all packets of the pod in the order of the wire.
    pub const ONE: Self = Self(1);
    /// The largest number. Each port has a socket for each address family, and each port with traffic
    /// costs a system call per batch.
    pub const MAX: Self = Self(16);

    /// This number, if it is a power of two and at most [`Self::MAX`].
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

    /// The port for the traffic of two hosts. It uses the low bits, because the high bits select the
    /// sensor.
    pub(crate) const fn port_of(self, hosts: HostsHash) -> PortIndex {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "only the low bits are used"
        )]
        PortIndex(hosts.0 as u8 & (self.0 - 1))
    }
}

/// The hashes that select where a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashes {
    /// Selects the source port.
    pub hosts: HostsHash,
    /// Selects the sensor.
    pub flow: FlowHash,
}

impl Hashes {
    const fn of_hosts(hosts: HostsHash) -> Self {
        Self {
            hosts,
            flow: hosts.as_flow(),
        }
    }
}

/// Computes the hashes of frames.
#[derive(Debug)]
pub struct Spreader {
    spread: Spread,
    fragmented: Fragmented,
}

impl Spreader {
    /// A spreader that has seen no fragments.
    #[must_use]
    pub fn new(spread: Spread) -> Self {
        Self {
            spread,
            fragmented: Fragmented::new(),
        }
    }

    /// The hashes of a frame.
    pub fn hashes(&mut self, frame: &Frame<'_>, network: &Network) -> Hashes {
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
            if let Some(quoted) = quoted(packet.protocol, icmp)
                && quoted.message == Message::Error
            {
                return self.of_packet(quoted.bytes, &quoted.packet).0;
            }
        }
        let (hashes, first) = self.of_packet(bytes, packet);
        if let Some(key) = first {
            self.fragmented.insert(key, hashes.flow);
        }
        hashes
    }

    /// The hashes of the packet at the start of `bytes`, and the key of its later fragments if it is the
    /// first fragment.
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

/// The hosts of a frame without a valid IP packet.
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

/// Source and destination port of a packet; zeros if it has none.
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

/// A number that all fragments of one packet share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key(u64);

/// Whether a packet is whole, or a first or a later fragment.
enum FragmentKind {
    Whole,
    First(Key),
    Later(Key),
}

impl FragmentKind {
    /// `ascends`: the source is the smaller address. The identifications of the two directions are
    /// independent.
    fn of(bytes: &[u8], packet: &Packet, hosts: HostsHash, ascends: bool) -> Self {
        if !packet.is_fragment {
            return Self::Whole;
        }
        let Some((id, protocol, is_first)) = fragment(bytes, packet) else {
            return Self::Whole;
        };
        let direction = u64::from(ascends) << 40;
        let key = mix(hosts.0 ^ (direction | u64::from(protocol) << 32 | u64::from(id)));
        // A key is never zero, because zero marks an empty entry.
        let key = Key(key | 1);
        if is_first {
            Self::First(key)
        } else {
            Self::Later(key)
        }
    }
}

/// A fragment's identification, the protocol where it is part of the key (RFC 791, but not RFC 8200
/// section 4.5), and whether it is the first fragment.
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

/// The flows of packets whose first fragment was read. The newest entry of a set is the first, and a new
/// entry replaces the oldest.
#[derive(Debug)]
struct Fragmented(Box<[[(Key, FlowHash); WAYS]]>);

impl Fragmented {
    fn new() -> Self {
        Self(vec![[(Key(0), FlowHash(0)); WAYS]; SETS].into_boxed_slice())
    }

    /// Uses the lower bits, except the lowest one, which is always set.
    const fn set(key: Key) -> usize {
        (key.0 >> 1) as usize & (SETS - 1)
    }

    fn insert(&mut self, key: Key, flow: FlowHash) {
        let Some(set) = self.0.get_mut(Self::set(key)) else {
            return;
        };
        let present = set.iter().position(|(found, _)| *found == key);
        set[..=present.unwrap_or(WAYS - 1)].rotate_right(1);
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
