//! The order in which the datagrams of a batch are sent.
//!
//! In: a batch and its table. Out: for each [`Lane`] and source port, thus for each socket, the numbers of
//! its datagrams. With one port, the default, the datagrams to one sensor are in the batch's order, so each
//! sensor gets the order of the wire. With several ports, all traffic of two hosts has one port, so it keeps
//! its order.
//!
//! If one socket sends all datagrams of a batch, which is the usual case, the plan is the batch's order, and
//! making it takes no time per datagram. Otherwise they are sorted by socket: a counting sort, two passes, no
//! comparison. If there are several sensors that are sockets, they are first sorted by sensor in the same way,
//! so that [`runs`](crate::runs) finds neighbours. The order between sensors is nobody's: each sees only its
//! own datagrams.

use core::ops::Range;

use crate::batch::{Datagram, PortIndex};
use crate::spread::SourcePorts;
use crate::table::SensorTable;

const PORTS: usize = SourcePorts::MAX.get() as usize;

/// What receives the datagrams at a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A program that captures on an interface: it must get one datagram at a time.
    Sniffer,
    /// A UDP socket, or a vxlan device of the kernel.
    Socket,
    /// The end of an encrypted tunnel, which is a socket.
    Tunnel,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Sniffer, Self::Socket, Self::Tunnel];
}

/// Sensors that are reached by the same sockets: those of one address family and one [`Kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane(u8);

impl Lane {
    /// All lanes, each at its [index](Self::index).
    pub const ALL: [Self; 6] = [Self(0), Self(1), Self(2), Self(3), Self(4), Self(5)];

    /// The lane of sensors with IPv6 addresses or not, of a kind.
    #[must_use]
    pub const fn new(is_ipv6: bool, kind: Kind) -> Self {
        Self((kind as u8) * 2 + is_ipv6 as u8)
    }

    /// Whether they have IPv6 addresses.
    #[must_use]
    pub const fn is_ipv6(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether they are sockets; the end of a tunnel is one.
    #[must_use]
    pub const fn is_socket(self) -> bool {
        self.0 >= 2
    }

    /// Whether their datagrams are sealed.
    #[must_use]
    pub const fn is_tunnel(self) -> bool {
        self.0 >= 4
    }

    /// Its number in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

const SLOTS: usize = Lane::ALL.len() * PORTS;

/// A set of sockets: those that the datagrams of a batch need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slots(u128);

const _: () = assert!(SLOTS <= u128::BITS as usize, "a bit for each socket");

impl Slots {
    /// Adds the socket of a lane and a port.
    pub(crate) const fn add(&mut self, lane: Lane, port: PortIndex) {
        self.0 |= 1 << slot(lane, port);
    }

    /// The sockets of these datagrams.
    #[must_use]
    pub fn of(datagrams: &[Datagram]) -> Self {
        let mut slots = Self::default();
        for datagram in datagrams {
            slots.add(datagram.lane, datagram.port);
        }
        slots
    }

    /// Whether one of the sockets is of a lane with a tunnel.
    pub(crate) const fn have_tunnel(self) -> bool {
        self.0 >> slot(Lane::new(false, Kind::Tunnel), PortIndex(0)) != 0
    }

    /// From the first socket to the last; empty if there is none.
    const fn range(self) -> Range<usize> {
        match self.0 {
            0 => 0..0,
            bits => bits.trailing_zeros() as usize..(u128::BITS - bits.leading_zeros()) as usize,
        }
    }
}

/// The datagrams of one socket.
#[derive(Debug, Clone, Copy)]
pub struct Group<'p> {
    /// The socket's lane.
    pub lane: Lane,
    /// Its source port.
    pub port: PortIndex,
    /// The numbers of the datagrams, in the order in which they are sent.
    pub datagrams: &'p [u32],
}

/// The numbers of a batch's datagrams, grouped by socket. Reused without allocation.
#[derive(Debug)]
pub struct Plan {
    /// Whether one socket sends all datagrams, in the order of the batch.
    is_one_group: bool,
    /// The numbers from zero on, at least as many as there were ever datagrams of one socket.
    numbers: Vec<u32>,
    /// The order if there are several sockets.
    order: Vec<u32>,
    /// The sockets from the first to the last that is needed.
    slots: Range<usize>,
    /// For each of them, the end of its group.
    ends: [usize; SLOTS],
    // The order by sensor, which is needed only if several are sockets.
    by_sensor: Vec<u32>,
    sensor_ends: Vec<usize>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            is_one_group: false,
            numbers: Vec::new(),
            order: Vec::new(),
            slots: 0..0,
            ends: [0; SLOTS],
            by_sensor: Vec::new(),
            sensor_ends: Vec::new(),
        }
    }
}

impl Plan {
    /// Plans the datagrams of a batch that was made with this table. `slots`: their sockets.
    pub fn make(&mut self, datagrams: &[Datagram], slots: Slots, table: &SensorTable) {
        debug_assert_eq!(slots, Slots::of(datagrams), "the sockets of the batch");
        self.slots = slots.range();
        let first = self.slots.start;
        let ends = &mut self.ends[self.slots.clone()];
        let is_by_sensor = table.sockets() > 1;
        self.is_one_group = !is_by_sensor && ends.len() <= 1;
        if self.is_one_group {
            ends.fill(datagrams.len());
            let new = (0..).take(datagrams.len()).skip(self.numbers.len());
            self.numbers.extend(new);
            return;
        }
        let slot = |datagram: &Datagram| slot(datagram.lane, datagram.port) - first;
        if !is_by_sensor {
            let slots = (0..)
                .zip(datagrams)
                .map(|(number, one)| (number, slot(one)));
            counting_sort(slots, &mut self.order, ends);
            return;
        }
        // One more, for numbers that the table does not have.
        self.sensor_ends.resize(table.sensors().len() + 1, 0);
        let unknown = table.sensors().len();
        let sensors = (0..)
            .zip(datagrams)
            .map(|(number, one)| (number, usize::from(one.sensor.0).min(unknown)));
        counting_sort(sensors, &mut self.by_sensor, &mut self.sensor_ends);
        let slots = self.by_sensor.iter().map(|&number| {
            let datagram = &datagrams[number as usize];
            (number, slot(datagram))
        });
        counting_sort(slots, &mut self.order, ends);
    }

    /// Each socket with datagrams, and their numbers.
    pub fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        let order = if self.is_one_group {
            &self.numbers
        } else {
            &self.order
        };
        let ends = &self.ends[self.slots.clone()];
        let starts = core::iter::once(0).chain(ends.iter().copied());
        self.slots
            .clone()
            .zip(starts.zip(ends))
            .filter(|(_, (start, end))| start < end)
            .map(|(slot, (start, end))| Group {
                lane: Lane::ALL[slot / PORTS],
                #[expect(clippy::cast_possible_truncation, reason = "there are 16 ports")]
                port: PortIndex((slot % PORTS) as u8),
                datagrams: &order[start..*end],
            })
    }
}

/// The number of a socket.
const fn slot(lane: Lane, port: PortIndex) -> usize {
    lane.index() * PORTS + port.0 as usize % PORTS
}

/// Sorts numbers by their keys, each of which is a number in `ends`. Those with one key keep their order.
/// Sets the end of each key in the result.
fn counting_sort(
    keys: impl Iterator<Item = (u32, usize)> + Clone,
    order: &mut Vec<u32>,
    ends: &mut [usize],
) {
    ends.fill(0);
    for (_, key) in keys.clone() {
        ends[key] += 1;
    }
    // First where each key starts; each number then moves it, to the end at last.
    let mut all = 0;
    for end in &mut *ends {
        let start = all;
        all += *end;
        *end = start;
    }
    order.clear();
    order.resize(all, 0);
    for (number, key) in keys {
        order[ends[key]] = number;
        ends[key] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Sensor, SensorIndex};
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    use core::num::NonZeroU16;
    use proptest::prelude::*;
    use proptest::sample::select;
    use wire::Mtu;

    fn table(sensors: &[(bool, Kind)]) -> SensorTable {
        let sensor = |(port, &(is_ipv6, kind)): (u16, &(bool, Kind))| {
            let ip = if is_ipv6 {
                IpAddr::V6(Ipv6Addr::LOCALHOST)
            } else {
                IpAddr::V4(Ipv4Addr::LOCALHOST)
            };
            let sensor = Sensor::new(SocketAddr::new(ip, port), Mtu::ETHERNET);
            match kind {
                Kind::Sniffer => sensor,
                Kind::Socket => sensor.with_socket(true),
                Kind::Tunnel => sensor.with_tunnel(NonZeroU16::new(60).unwrap()),
            }
        };
        SensorTable::new((1..).zip(sensors).map(sensor).collect())
    }

    fn datagram((sensor, port): (u16, u8), table: &SensorTable) -> Datagram {
        let sensor = SensorIndex(sensor);
        Datagram {
            head: 0..8,
            body: 0..1,
            sensor,
            lane: table.sensor(sensor).map_or(Lane::ALL[0], Sensor::lane),
            port: PortIndex(port),
            shows_end: true,
        }
    }

    #[test]
    fn each_lane_is_at_its_index() {
        for (index, lane) in Lane::ALL.into_iter().enumerate() {
            assert_eq!(lane.index(), index);
        }
        let kinds = Kind::ALL.map(|kind| {
            let [v4, v6] = [false, true].map(|is_ipv6| Lane::new(is_ipv6, kind));
            assert!(!v4.is_ipv6() && v6.is_ipv6());
            for lane in [v4, v6] {
                assert_eq!(lane.is_socket(), kind != Kind::Sniffer);
                assert_eq!(lane.is_tunnel(), kind == Kind::Tunnel);
            }
            [v4, v6]
        });
        assert_eq!(kinds.as_flattened(), Lane::ALL);
    }

    proptest! {
        #[test]
        fn each_datagram_is_sent_once_by_its_socket_and_each_sensor_gets_its_order(
            sensors in proptest::collection::vec((any::<bool>(), select(&Kind::ALL[..])), 0..6),
            datagrams in proptest::collection::vec((0_u16..7, 0_u8..SourcePorts::MAX.get()), 0..100),
        ) {
            let table = table(&sensors);
            let datagrams: Vec<_> = datagrams.into_iter().map(|one| datagram(one, &table)).collect();
            let mut plan = Plan::default();
            plan.make(&datagrams, Slots::of(&datagrams), &table);
            let mut seen = 0;
            for group in plan.groups() {
                let mut runs = 1;
                for pair in group.datagrams.windows(2) {
                    let sensor = |number: u32| datagrams[number as usize].sensor;
                    if sensor(pair[0]) == sensor(pair[1]) {
                        prop_assert!(pair[0] < pair[1]);
                    } else {
                        runs += 1;
                    }
                }
                for number in group.datagrams {
                    let datagram = &datagrams[*number as usize];
                    prop_assert_eq!(datagram.port, group.port);
                    prop_assert_eq!(datagram.lane, group.lane);
                }
                if group.lane.is_socket() {
                    prop_assert!(runs <= sensors.len(), "a sensor's datagrams are neighbours");
                } else if table.sockets() < 2 {
                    prop_assert!(group.datagrams.is_sorted(), "the order of the wire");
                }
                seen += group.datagrams.len();
            }
            prop_assert_eq!(seen, datagrams.len());
        }
    }
}
