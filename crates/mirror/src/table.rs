//! The sensors, and which of them a flow goes to.
//!
//! In: a list of sensors from the control side. Out: the sensor of any hash, with one lookup for any
//! number of sensors. The hash selects one of [`BUCKETS`] buckets. A bucket belongs to the sensor that
//! wins it by rendezvous hashing (highest random weight, Thaler and Ravishankar 1998). So the loss of a
//! sensor moves only that sensor's buckets, and every podspan with the same sensors selects the same one.
//!
//! A table does not change after it is made, except for each sensor's path MTU: the worker lowers it when
//! the kernel reports a smaller one, and the control side updates it.

use core::net::SocketAddr;
use core::num::NonZeroU16;
use core::sync::atomic::{AtomicU16, Ordering};
use std::collections::BTreeMap;

use wire::{Mtu, vxlan};

use crate::hash::{FlowHash, mix, mix_address};
use crate::plan::{Kind, Lane};

/// The number of parts into which the flows are divided. It is large enough that the shares of 64
/// sensors differ by a few percent only. The lookup table has 32 KiB.
pub const BUCKETS: usize = 1 << BUCKET_BITS;
const BUCKET_BITS: u32 = 14;

/// The seed of sensors' weights: "sensors" in ASCII. It is the same in all versions.
const WEIGHT_SEED: u64 = 0x0073_656e_736f_7273;

/// The number of a sensor in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SensorIndex(pub u16);

/// A receiver of VXLAN datagrams.
#[derive(Debug)]
pub struct Sensor {
    address: SocketAddr,
    lane: Lane,
    /// Bytes that its tunnel adds to each datagram.
    tunnel_len: Option<NonZeroU16>,
    path_mtu: AtomicU16,
}

impl Sensor {
    /// A sensor that captures on an interface, and the MTU of the path to it.
    #[must_use]
    pub const fn new(address: SocketAddr, path_mtu: Mtu) -> Self {
        Self {
            address,
            lane: Lane::new(address.is_ipv6(), Kind::Sniffer),
            tunnel_len: None,
            path_mtu: AtomicU16::new(path_mtu.get()),
        }
    }

    /// The same sensor as a UDP socket or a vxlan device of the kernel, if `is_socket`.
    #[must_use]
    pub const fn with_socket(mut self, is_socket: bool) -> Self {
        let kind = if is_socket {
            Kind::Socket
        } else {
            Kind::Sniffer
        };
        self.lane = Lane::new(self.address.is_ipv6(), kind);
        self
    }

    /// The same sensor at the end of an encrypted tunnel, which adds this number of bytes to each datagram. The
    /// address is then the tunnel's. Its datagrams are sealed ([`Batch::seal`](crate::Batch::seal)).
    #[must_use]
    pub const fn with_tunnel(mut self, added: NonZeroU16) -> Self {
        self.lane = Lane::new(self.address.is_ipv6(), Kind::Tunnel);
        self.tunnel_len = Some(added);
        self
    }

    /// How many bytes its tunnel adds to each datagram; none without a tunnel.
    #[must_use]
    pub const fn tunnel_len(&self) -> Option<NonZeroU16> {
        self.tunnel_len
    }

    /// Whether it is a UDP socket or a vxlan device of the kernel, or the end of a tunnel. Its kernel gives it one datagram at a
    /// time, also if several were sent in one message ([`runs`](crate::runs)).
    #[must_use]
    pub const fn is_socket(&self) -> bool {
        self.lane.is_socket()
    }

    /// Which sockets it is reached by.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        self.lane
    }

    /// Its address and port.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The MTU of the path to it: the size of the largest outer packet.
    #[must_use]
    pub fn path_mtu(&self) -> Mtu {
        Mtu::saturating(u32::from(self.path_mtu.load(Ordering::Relaxed)))
    }

    /// Sets the MTU of the path.
    pub fn set_path_mtu(&self, mtu: Mtu) {
        self.path_mtu.store(mtu.get(), Ordering::Relaxed);
    }

    /// Sets the MTU of the path, unless another thread has changed it since `before` was read. Returns
    /// whether it was set.
    pub fn replace_path_mtu(&self, before: Mtu, mtu: Mtu) -> bool {
        let order = Ordering::Relaxed;
        self.path_mtu
            .compare_exchange(before.get(), mtu.get(), order, order)
            .is_ok()
    }

    /// The length of the longest inner frame that fits the path, including the link header.
    #[must_use]
    pub fn inner_frame_max(&self) -> usize {
        let plain = vxlan::inner_frame_max(self.path_mtu(), self.address.ip());
        let added = self.tunnel_len.map_or(0, NonZeroU16::get);
        usize::from(plain.saturating_sub(added))
    }

    /// A number made only from address and port. Mixed with a bucket's number, it is the weight.
    fn identity(&self) -> u64 {
        mix(mix_address(WEIGHT_SEED, self.address.ip()) ^ u64::from(self.address.port()))
    }
}

/// A sensor that can win buckets.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    sensor: SensorIndex,
    address: SocketAddr,
    identity: u64,
}

impl Candidate {
    fn of((number, sensor): (u16, &Sensor)) -> Self {
        let (sensor, address, identity) = (SensorIndex(number), sensor.address, sensor.identity());
        Self {
            sensor,
            address,
            identity,
        }
    }

    /// Its weight in the bucket of this seed, and its address.
    const fn weight_in(&self, seed: u64) -> (Winner, SocketAddr) {
        (
            Winner {
                weight: mix(self.identity ^ seed),
                sensor: self.sensor,
            },
            self.address,
        )
    }
}

/// All sensors, and the bucket each flow falls into.
#[derive(Debug, Default)]
pub struct SensorTable {
    sensors: Vec<Sensor>,
    /// How many of them are sockets.
    sockets: usize,
    /// The winner of each bucket; empty when there is no sensor.
    winners: Vec<SensorIndex>,
    /// The winner's weight in each bucket, which the next table is computed from.
    weights: Vec<u64>,
}

/// The sensor that has a bucket.
#[derive(Debug, Clone, Copy)]
struct Winner {
    weight: u64,
    sensor: SensorIndex,
}

impl SensorTable {
    /// How many sensors a table can have; the caller leaves out the rest.
    pub const SENSORS_MAX: usize = u16::MAX as usize;

    /// A table of these sensors, the first [`Self::SENSORS_MAX`] of them. Their order determines only
    /// their numbers. Of several sensors with one address, the first is used.
    #[must_use]
    pub fn new(sensors: Vec<Sensor>) -> Self {
        Self::default().followed_by(sensors)
    }

    /// The table of these sensors, computed from this one. The result is the same as that of
    /// [`Self::new`], but a new sensor costs one comparison per bucket, and for a lost sensor only its own
    /// buckets are computed again.
    #[must_use]
    pub fn followed_by(&self, mut sensors: Vec<Sensor>) -> Self {
        let mut numbers = BTreeMap::new();
        sensors.truncate(Self::SENSORS_MAX);
        sensors.retain(|sensor| numbers.insert(sensor.address, SensorIndex(0)).is_none());
        for (number, sensor) in (0..).zip(&sensors) {
            numbers.insert(sensor.address, SensorIndex(number));
        }
        let all: Vec<Candidate> = (0..).zip(&sensors).map(Candidate::of).collect();
        let new_index: Vec<Option<SensorIndex>> = self
            .sensors
            .iter()
            .map(|sensor| numbers.get(&sensor.address).copied())
            .collect();
        for sensor in &self.sensors {
            numbers.remove(&sensor.address);
        }
        let is_new = |candidate: &&Candidate| numbers.contains_key(&candidate.address);
        let new: Vec<Candidate> = all.iter().filter(is_new).copied().collect();

        let winner_of = |bucket: usize| {
            let seed = mix(bucket as u64);
            let current = self.winners.get(bucket).and_then(|before| {
                let sensor = (*new_index.get(usize::from(before.0))?)?;
                let weight = *self.weights.get(bucket)?;
                Some((
                    Winner { weight, sensor },
                    sensors[usize::from(sensor.0)].address,
                ))
            });
            let candidates = if current.is_some() { &new } else { &all };
            let candidates = candidates.iter().map(|candidate| candidate.weight_in(seed));
            current
                .into_iter()
                .chain(candidates)
                .max_by_key(|(winner, address)| {
                    // Two weights are the same once in 2^64 times; then the address decides.
                    (winner.weight, *address)
                })
        };
        let winners = (0..BUCKETS).filter_map(winner_of);
        let (winners, weights) = winners
            .map(|(winner, _)| (winner.sensor, winner.weight))
            .unzip();
        let sockets = sensors.iter().filter(|sensor| sensor.is_socket()).count();
        Self {
            sensors,
            sockets,
            winners,
            weights,
        }
    }

    /// The sensors, ordered by their numbers.
    #[must_use]
    pub fn sensors(&self) -> &[Sensor] {
        &self.sensors
    }

    /// How many of the sensors are sockets.
    pub(crate) const fn sockets(&self) -> usize {
        self.sockets
    }

    /// The sensor with a number, if the table has one.
    #[must_use]
    pub fn sensor(&self, index: SensorIndex) -> Option<&Sensor> {
        self.sensors.get(usize::from(index.0))
    }

    /// The sensor that a flow goes to, and its number; `None` if the table is empty.
    #[must_use]
    pub fn sensor_of(&self, flow: FlowHash) -> Option<(SensorIndex, &Sensor)> {
        let bucket = (flow.0 >> (u64::BITS - BUCKET_BITS)) as usize;
        let index = *self.winners.get(bucket)?;
        Some((index, self.sensor(index)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sensor(number: u8) -> Sensor {
        let address = SocketAddr::from(([10, 0, 0, number], vxlan::PORT));
        Sensor::new(address, Mtu::ETHERNET)
    }

    fn sensors(numbers: impl IntoIterator<Item = u8>) -> SensorTable {
        SensorTable::new(numbers.into_iter().map(sensor).collect())
    }

    fn winners(table: &SensorTable) -> Vec<SocketAddr> {
        table
            .winners
            .iter()
            .map(|w| table.sensor(*w).unwrap().address())
            .collect()
    }

    #[test]
    fn an_empty_table_has_no_route() {
        assert!(SensorTable::default().sensor_of(FlowHash(0)).is_none());
        assert!(sensors([]).sensor_of(FlowHash(u64::MAX)).is_none());
    }

    #[test]
    fn the_published_buckets_are_kept() {
        // docs/wire-truth.md publishes these: every version must compute the same.
        let table = sensors([1, 2, 3]);
        let first: Vec<u16> = table.winners[..16].iter().map(|w| w.0).collect();
        assert_eq!(first, PUBLISHED);
    }
    const PUBLISHED: [u16; 16] = [2, 0, 0, 1, 0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 0, 2];

    #[test]
    fn sensors_share_the_flows_evenly() {
        for (count, bound) in [(2, 1.15), (5, 1.15), (16, 1.15), (64, 1.3)] {
            let table = sensors(1..=count);
            let mut buckets = vec![0_u32; usize::from(count)];
            for winner in &table.winners {
                buckets[usize::from(winner.0)] += 1;
            }
            let mean = 16384.0 / f64::from(count);
            let most = f64::from(*buckets.iter().max().unwrap());
            assert!(most <= mean * bound, "{count} sensors: {most} of {mean}");
        }
    }

    #[test]
    fn a_narrower_path_leaves_less_room() {
        let table = sensors([1]);
        let sensor = &table.sensors()[0];
        assert_eq!(sensor.inner_frame_max(), 1500 - 36);
        sensor.set_path_mtu(Mtu::new(1400).unwrap());
        assert_eq!(sensor.inner_frame_max(), 1400 - 36);
        let address = sensor.address();
        let added = NonZeroU16::new(60).unwrap();
        let sensor = Sensor::new(address, Mtu::ETHERNET).with_tunnel(added);
        assert_eq!(sensor.inner_frame_max(), 1500 - 36 - 60);
    }

    #[test]
    fn a_change_of_one_sensor_in_64_costs_a_fraction_of_a_new_table() {
        let table = sensors(1..=64);
        // The least of several runs, to exclude other work of the machine.
        let least = |work: &dyn Fn() -> SensorTable| {
            let run = |_| {
                let start = std::time::Instant::now();
                std::hint::black_box(work());
                start.elapsed()
            };
            (0..20).map(run).min().unwrap()
        };
        let new_table = least(&|| sensors(1..=64));
        for after in [1..=63, 1..=65] {
            let change = least(&|| table.followed_by(after.clone().map(sensor).collect()));
            println!("a change of one sensor in 64 took {change:?}, a new table {new_table:?}");
            assert!(change < core::time::Duration::from_millis(1), "{change:?}");
            assert!(change * 4 < new_table, "{change:?} of {new_table:?}");
        }
    }

    proptest! {
        #[test]
        fn a_table_does_not_depend_on_what_was_before(
            before in proptest::collection::hash_set(1_u8..30, 0..12),
            after in proptest::collection::vec(1_u8..30, 0..12),
        ) {
            let followed = sensors(before).followed_by(after.iter().map(|n| sensor(*n)).collect());
            prop_assert_eq!(winners(&followed), winners(&sensors(after)));
        }

        #[test]
        fn a_lost_sensor_moves_only_its_own_buckets(count in 2_u8..20, lost in 1_u8..20) {
            let before = winners(&sensors(1..=count));
            let after = winners(&sensors((1..=count).filter(|n| *n != lost)));
            for (before, after) in before.iter().zip(&after) {
                prop_assert!(before == after || before.ip() == core::net::Ipv4Addr::new(10, 0, 0, lost));
            }
        }

        #[test]
        fn the_order_of_the_list_changes_nothing(mut numbers in proptest::collection::hash_set(1_u8..250, 1..8).prop_map(Vec::from_iter)) {
            let one = winners(&sensors(numbers.clone()));
            numbers.reverse();
            prop_assert_eq!(one, winners(&sensors(numbers)));
        }

        #[test]
        fn every_hash_has_a_sensor(hash: u64) {
            let table = sensors(1..4);
            let (index, sensor) = table.sensor_of(FlowHash(hash)).unwrap();
            prop_assert_eq!(table.sensor(index).unwrap().address(), sensor.address());
        }
    }
}
