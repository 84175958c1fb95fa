//! The sensors' socket addresses, and their failures during a batch.
//!
//! Addresses are kept from batch to batch and made again only if the table has another sensor at that
//! number. Failures are kept for one batch: the next one tries every sensor again, so a sensor that is
//! back gets its datagrams at once.

use std::net::SocketAddr;

use mirror::plan::Lane;
use mirror::{DropReason, Sensor, SensorIndex, SensorTable};
use socket2::SockAddr;

/// If this many datagrams of a batch to a sensor fail with an error of their own, and none is sent in
/// between, the sensor's other datagrams are not tried: each try costs a system call while the ring
/// fills. A success in between resets the count, because a firewall's rule with a limit refuses only some.
const FAILURES_MAX: u8 = 2;

/// The socket addresses of a table's sensors, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Addresses(Vec<(SocketAddr, SockAddr)>);

impl Addresses {
    /// Prepares the addresses of a table's sensors.
    pub(crate) fn prepare(&mut self, table: &SensorTable) {
        let sensors = table.sensors().iter().map(Sensor::address);
        for (prepared, address) in self.0.iter_mut().zip(sensors.clone()) {
            if prepared.0 != address {
                *prepared = (address, SockAddr::from(address));
            }
        }
        let new = sensors.skip(self.0.len());
        self.0
            .extend(new.map(|address| (address, SockAddr::from(address))));
    }

    /// The sensor of a lane, if the table has only one.
    pub(crate) fn only(&self, table: &SensorTable, lane: Lane) -> Option<&(SocketAddr, SockAddr)> {
        let mut of_lane = (0..)
            .zip(table.sensors())
            .filter(|(_, sensor)| sensor.lane() == lane);
        let (number, _): (usize, _) = of_lane.next()?;
        if of_lane.next().is_some() {
            return None;
        }
        self.0.get(number)
    }

    /// The address of a sensor.
    pub(crate) fn of(&self, sensor: SensorIndex) -> Option<&SockAddr> {
        self.0.get(usize::from(sensor.0)).map(|(_, raw)| raw)
    }
}

/// The failures of a sensor during a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Destination {
    /// The longest datagram to try, in bytes from the VXLAN header on.
    longest: u32,
    /// Whether the path's MTU was read.
    pub(crate) measured: bool,
    failures: u8,
    /// Set when its datagrams are no longer tried.
    given_up: Option<DropReason>,
    /// Whether several datagrams can be sent in one message.
    pub(crate) takes_runs: bool,
}

impl Destination {
    pub(crate) const UNTRIED: Self = Self {
        longest: u32::MAX,
        measured: false,
        failures: 0,
        given_up: None,
        takes_runs: false,
    };

    /// The reason not to try a datagram of this length, if there is one.
    pub(crate) const fn refuses(self, length: u32) -> Option<DropReason> {
        match self.given_up {
            // It was to be sealed, and was not.
            _ if length == 0 => Some(DropReason::NoSession),
            Some(reason) => Some(reason),
            None if length > self.longest => Some(DropReason::PathMtu),
            None => None,
        }
    }

    /// Refuses longer datagrams from now on.
    pub(crate) fn limit(&mut self, longest: u32) {
        self.longest = self.longest.min(longest);
    }

    /// Whether a datagram has failed since the last one that was sent.
    pub(crate) const fn has_failures(self) -> bool {
        self.failures > 0
    }

    /// Records that a datagram was sent.
    pub(crate) const fn succeed(&mut self) {
        self.failures = 0;
    }

    /// Records that a datagram failed with an error of its own, except for its length.
    pub(crate) const fn fail(&mut self, reason: DropReason) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_MAX {
            self.given_up = Some(reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_path_accepts_short_datagrams() {
        let mut destination = Destination::UNTRIED;
        assert_eq!(destination.refuses(u32::MAX), None);
        destination.limit(1400);
        destination.limit(9000);
        assert_eq!(destination.refuses(1400), None);
        assert_eq!(destination.refuses(1401), Some(DropReason::PathMtu));
    }

    #[test]
    fn after_two_failures_in_a_row_a_sensor_is_not_tried_again() {
        let mut destination = Destination::UNTRIED;
        for _ in 0..3 {
            destination.fail(DropReason::Unreachable);
            assert_eq!(destination.refuses(1), None);
            assert!(destination.has_failures());
            destination.succeed();
        }
        destination.fail(DropReason::Unreachable);
        destination.fail(DropReason::Unreachable);
        assert_eq!(destination.refuses(1), Some(DropReason::Unreachable));
    }
}
