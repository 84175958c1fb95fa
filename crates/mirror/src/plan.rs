//! The order in which the datagrams of a batch are sent.
//!
//! In: a batch and its table. Out: for each [`Lane`] and source port, thus for each socket, the numbers of
//! its datagrams. With one port, the default, the datagrams to one sensor are in the batch's order, so each
//! sensor gets the order of the wire. With several ports, all traffic of two hosts has one port, so it keeps
//! its order.
//!
//! The datagrams are sorted by socket: a counting sort, two passes, no comparison. If there are several
//! sensors that are sockets, they are first sorted by sensor in the same way, so that
//! [`runs`](crate::runs) finds neighbours. The order between sensors is nobody's: each sees only its own
//! datagrams.

use crate::batch::{Datagram, PortIndex};
use crate::spread::SourcePorts;
use crate::table::SensorTable;

const PORTS: usize = SourcePorts::MAX.get() as usize;

/// Sensors that are reached by the same sockets: those of one address family and one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane(u8);

impl Lane {
    /// All lanes, each at its [index](Self::index).
    pub const ALL: [Self; 4] = [Self(0), Self(1), Self(2), Self(3)];

    /// The lane of sensors with IPv6 addresses or not, that are sockets or not.
    #[must_use]
    pub const fn new(is_ipv6: bool, is_socket: bool) -> Self {
        Self((is_socket as u8) * 2 + is_ipv6 as u8)
    }

    /// Whether they have IPv6 addresses.
    #[must_use]
    pub const fn is_ipv6(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether they are sockets.
    #[must_use]
    pub const fn is_socket(self) -> bool {
        self.0 & 2 != 0
    }

    /// Its number in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        (self.0 & 3) as usize
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
    /// For each socket, the end of its group in `order`.
    ends: [usize; SLOTS],
    // The order by sensor, which is needed only if several are sockets.
    by_sensor: Vec<u32>,
    sensor_ends: Vec<usize>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            order: Vec::new(),
            ends: [0; SLOTS],
            by_sensor: Vec::new(),
            sensor_ends: Vec::new(),
        }
    }
}

impl Plan {
    /// Plans the datagrams of a batch that was made with this table.
    pub fn make(&mut self, datagrams: &[Datagram], table: &SensorTable) {
        if table.sockets() < 2 {
            let slots = (0..)
                .zip(datagrams)
                .map(|(number, one)| (number, slot(one)));
            counting_sort(slots, &mut self.order, &mut self.ends);
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
        counting_sort(slots, &mut self.order, &mut self.ends);
    }

    /// Each socket with datagrams, and their numbers.
    pub fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        let starts = core::iter::once(0).chain(self.ends);
        starts
            .zip(self.ends)
            .enumerate()
            .filter(|(_, (start, end))| start < end)
            .map(|(slot, (start, end))| Group {
                lane: Lane::ALL[slot / PORTS],
                #[expect(clippy::cast_possible_truncation, reason = "there are 16 ports")]
                port: PortIndex((slot % PORTS) as u8),
                datagrams: &self.order[start..end],
            })
    }
}

/// The number of a datagram's socket.
fn slot(datagram: &Datagram) -> usize {
    datagram.lane.index() * PORTS + usize::from(datagram.port.0) % PORTS
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
            assert_eq!(Lane::new(lane.is_ipv6(), lane.is_socket()), lane);
        }
    }

    proptest! {
        #[test]
        fn each_datagram_is_sent_once_by_its_socket_and_each_sensor_gets_its_order(
            sensors in proptest::collection::vec(any::<(bool, bool)>(), 0..6),
            datagrams in proptest::collection::vec((0_u16..7, 0_u8..SourcePorts::MAX.get()), 0..100),
        ) {
            let table = table(&sensors);
            let datagrams: Vec<_> = datagrams.into_iter().map(|one| datagram(one, &table)).collect();
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
