//! The order in which the datagrams of a batch are sent.
//!
//! In: a batch and its table. Out: for each [`Lane`] and source port, thus for each socket, the numbers of
//! its datagrams. With one port, the default, the datagrams to one sensor are in the batch's order, so each
//! sensor gets the order of the wire. With several ports, all traffic of two hosts has one port, so it keeps
//! its order.
//!
//! The datagrams are sorted by socket: a counting sort, two passes, no comparison. If there are several
//! sensors that are sockets, their datagrams are also sorted by sensor, so that [`runs`](crate::runs) finds
//! neighbours. The order between sensors is nobody's: each sees only its own datagrams.

use core::ops::Range;

use crate::batch::{Datagram, PortIndex};
use crate::spread::SourcePorts;
use crate::table::{Sensor, SensorTable};

const PORTS: usize = SourcePorts::MAX.get() as usize;

/// Sensors that are reached by the same sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane {
    /// Whether they have IPv6 addresses.
    pub is_ipv6: bool,
    /// Whether they are sockets.
    pub is_socket: bool,
}

impl Lane {
    /// All lanes, each at its [index](Self::index).
    pub const ALL: [Self; 4] = [
        Self::new(false, false),
        Self::new(true, false),
        Self::new(false, true),
        Self::new(true, true),
    ];

    const fn new(is_ipv6: bool, is_socket: bool) -> Self {
        Self { is_ipv6, is_socket }
    }

    /// The lane of a sensor.
    #[must_use]
    pub const fn of(sensor: &Sensor) -> Self {
        Self::new(sensor.address().is_ipv6(), sensor.is_socket())
    }

    /// Its number in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        (self.is_socket as usize) * 2 + self.is_ipv6 as usize
    }
}

const SLOTS: usize = Lane::ALL.len() * PORTS;

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
    order: Vec<u32>,
    groups: [Range<usize>; SLOTS],
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            order: Vec::new(),
            groups: [const { 0..0 }; SLOTS],
        }
    }
}

impl Plan {
    /// Plans the datagrams of a batch. Those to a sensor that the table does not have are left out.
    pub fn make(&mut self, datagrams: &[Datagram], table: &SensorTable) {
        let slot = |datagram: &Datagram| {
            let sensor = table.sensor(datagram.sensor)?;
            Some(Lane::of(sensor).index() * PORTS + usize::from(datagram.port.0) % PORTS)
        };
        let mut counts = [0_usize; SLOTS];
        for slot in datagrams.iter().filter_map(slot) {
            counts[slot] += 1;
        }
        let mut next = [0_usize; SLOTS];
        let mut start = 0;
        for ((group, next), count) in self.groups.iter_mut().zip(&mut next).zip(counts) {
            *group = start..start + count;
            *next = start;
            start += count;
        }
        self.order.clear();
        self.order.resize(start, 0);
        for (number, datagram) in (0_u32..).zip(datagrams) {
            if let Some(slot) = slot(datagram) {
                self.order[next[slot]] = number;
                next[slot] += 1;
            }
        }
        self.sort_by_sensor(datagrams, table);
    }

    fn sort_by_sensor(&mut self, datagrams: &[Datagram], table: &SensorTable) {
        let mut sockets = table.sensors().iter().filter(|sensor| sensor.is_socket());
        if sockets.nth(1).is_none() {
            return;
        }
        let sensor = |number: u32| {
            datagrams
                .get(number as usize)
                .map(|datagram| datagram.sensor)
        };
        for (slot, group) in self.groups.iter().enumerate() {
            if Lane::ALL[slot / PORTS].is_socket {
                // The number keeps the order of the wire.
                self.order[group.clone()].sort_unstable_by_key(|number| (sensor(*number), *number));
            }
        }
    }

    /// Each socket with datagrams, and their numbers.
    pub fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        self.groups
            .iter()
            .enumerate()
            .filter(|(_, range)| !range.is_empty())
            .map(|(slot, range)| Group {
                lane: Lane::ALL[slot / PORTS],
                #[expect(clippy::cast_possible_truncation, reason = "there are 16 ports")]
                port: PortIndex((slot % PORTS) as u8),
                datagrams: &self.order[range.clone()],
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SensorIndex;
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    use proptest::prelude::*;
    use wire::Mtu;

    fn table(sensors: &[(bool, bool)]) -> SensorTable {
        let sensor = |(port, &(is_ipv6, is_socket)): (u16, &(bool, bool))| {
            let ip = if is_ipv6 {
                IpAddr::V6(Ipv6Addr::LOCALHOST)
            } else {
                IpAddr::V4(Ipv4Addr::LOCALHOST)
            };
            Sensor::new(SocketAddr::new(ip, port), Mtu::ETHERNET).with_socket(is_socket)
        };
        SensorTable::new((1..).zip(sensors).map(sensor).collect())
    }

    fn datagram((sensor, port): (u16, u8)) -> Datagram {
        Datagram {
            head: 0..8,
            body: 0..1,
            sensor: SensorIndex(sensor),
            port: PortIndex(port),
            shows_end: true,
        }
    }

    #[test]
    fn each_lane_is_at_its_index() {
        for (index, lane) in Lane::ALL.into_iter().enumerate() {
            assert_eq!(lane.index(), index);
        }
    }

    proptest! {
        #[test]
        fn each_datagram_is_sent_once_by_its_socket_and_each_sensor_gets_its_order(
            sensors in proptest::collection::vec(any::<(bool, bool)>(), 0..6),
            datagrams in proptest::collection::vec((0_u16..7, 0_u8..SourcePorts::MAX.get()), 0..100),
        ) {
            let table = table(&sensors);
            let datagrams: Vec<_> = datagrams.into_iter().map(datagram).collect();
            let mut plan = Plan::default();
            plan.make(&datagrams, &table);
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
                    prop_assert_eq!(Lane::of(table.sensor(datagram.sensor).unwrap()), group.lane);
                }
                if group.lane.is_socket {
                    prop_assert!(runs <= sensors.len(), "a sensor's datagrams are neighbours");
                } else {
                    prop_assert!(group.datagrams.is_sorted());
                }
                seen += group.datagrams.len();
            }
            let known = datagrams.iter().filter(|datagram| table.sensor(datagram.sensor).is_some());
            prop_assert_eq!(seen, known.count());
        }
    }
}
