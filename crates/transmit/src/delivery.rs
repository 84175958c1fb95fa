//! Sends a run of datagrams to a kernel that can refuse any of them.
//!
//! In: datagrams for one socket, in order. Out: an outcome for each, changed path MTUs in the table, and
//! entries in the report. The kernel is a trait of four calls, so every error at every place is tested
//! without a real one.
//!
//! The loop ends: each round sends a datagram, drops one, or one fails again. `policy` allows eight
//! failures of one datagram, and [`WAIT_MAX`] limits the time of waiting.

use std::net::SocketAddr;
use std::time::Duration;

use mirror::{DropReason, Outcome, Sensor, SensorIndex, SensorTable};
use nix::errno::Errno;
use wire::{Mtu, vxlan};

use crate::destination::Destination;
use crate::error_queue::QueuedError;
use crate::icmp::IcmpError;
use crate::policy::Cause;
use crate::report::Report;

/// How long one call of [`Transmitter::send`](crate::Transmitter::send) waits for room, in total. In this
/// time the ring fills by half a megabyte at 1 Gbit/s.
pub const WAIT_MAX: Duration = Duration::from_millis(4);

/// poll(2) waits in whole milliseconds.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// The length of the VXLAN header, in bytes.
#[expect(clippy::cast_possible_truncation, reason = "eight")]
const VXLAN_HEADER: u32 = vxlan::HEADER_LEN as u32;

/// How many entries of an error queue are read at a time; the queue has room for fewer (`socket`).
const ENTRIES_MAX: usize = 64;

/// The system calls of the delivery for one socket and one run.
pub(crate) trait Kernel {
    /// Sends the run's datagrams from this number on; returns how many were sent, at least one.
    fn send(&mut self, first: usize) -> Result<usize, Errno>;
    /// The next entry of the error queue.
    fn next_error(&mut self) -> Option<QueuedError>;
    /// Waits for room in the socket, or, if the kernel does not report it, for a short time; not longer
    /// than `at_most`. Returns the time it took.
    fn wait(&mut self, cause: Cause, at_most: Duration) -> Duration;
    /// The MTU of the path to a sensor, if there is one.
    fn path_mtu(&mut self, sensor: SocketAddr) -> Option<Mtu>;
}

/// A datagram of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its number in the batch.
    pub(crate) number: usize,
    /// Its place in the group that the run is a part of.
    pub(crate) place: usize,
    /// Where it goes.
    pub(crate) sensor: SensorIndex,
    /// Its length in bytes, from the VXLAN header on.
    pub(crate) length: u32,
}

/// The delivery of a batch.
pub(crate) struct Delivery<'a> {
    pub(crate) table: &'a SensorTable,
    /// One for each sensor of the table.
    pub(crate) destinations: &'a mut [Destination],
    /// One for each datagram of the batch.
    pub(crate) outcomes: &'a mut [Outcome],
    pub(crate) report: &'a mut Report,
    /// How long it may still wait for room.
    pub(crate) wait_left: Duration,
}

impl Delivery<'_> {
    /// Sends a run and returns how many of its datagrams have an outcome now. If not all have one, a sensor
    /// now refuses some of the others: the caller must check them again before it sends them.
    pub(crate) fn deliver(&mut self, kernel: &mut impl Kernel, run: &[Entry]) -> usize {
        let mut first = 0;
        let mut failures = 0;
        while let Some(entry) = run.get(first) {
            let errno = match kernel.send(first) {
                Ok(sent) => {
                    let end = run.len().min(first + sent);
                    self.sent(run.get(first..end).unwrap_or_default());
                    first += sent;
                    failures = 0;
                    continue;
                }
                Err(errno) => errno,
            };
            failures += 1;
            let Some(reason) = self.failed(kernel, entry, errno, failures) else {
                continue;
            };
            self.set_outcome(entry.number, Outcome::Dropped(reason));
            first += 1;
            failures = 0;
            if self.any_is_refused(run.get(first..).unwrap_or_default()) {
                break;
            }
        }
        first.min(run.len())
    }

    /// Records that datagrams were sent. Usually this only writes an outcome for each datagram; the sensors
    /// are updated only if one has failed before.
    fn sent(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.set_outcome(entry.number, Outcome::Sent);
        }
        if !self
            .destinations
            .iter()
            .any(|destination| destination.has_failures())
        {
            return;
        }
        for entry in entries {
            if let Some(destination) = self.destinations.get_mut(usize::from(entry.sensor.0)) {
                destination.succeed();
            }
        }
    }

    /// Sets the outcome of a datagram.
    pub(crate) fn set_outcome(&mut self, number: usize, outcome: Outcome) {
        if let Some(slot) = self.outcomes.get_mut(number) {
            *slot = outcome;
        }
    }

    /// The reason not to try a datagram, if there is one.
    pub(crate) fn refuses(&self, sensor: SensorIndex, length: u32) -> Option<DropReason> {
        self.destinations
            .get(usize::from(sensor.0))
            .and_then(|destination| destination.refuses(length))
    }

    /// Whether there is a reason not to try one of these datagrams.
    fn any_is_refused(&self, entries: &[Entry]) -> bool {
        entries
            .iter()
            .any(|entry| self.refuses(entry.sensor, entry.length).is_some())
    }

    /// Handles an error of a datagram: returns why it is dropped, or `None` to try it again.
    fn failed(
        &mut self,
        kernel: &mut impl Kernel,
        entry: &Entry,
        errno: Errno,
        failures: u32,
    ) -> Option<DropReason> {
        let cause = Cause::of(errno);
        // Also before waiting: poll(2) returns at once if the error queue is not empty.
        let from_network = cause != Cause::Interrupted && self.read_errors(kernel);
        if matches!(cause, Cause::BufferFull | Cause::QueueFull) {
            return (!self.wait(kernel, cause)).then_some(DropReason::QueueFull);
        }
        if cause == Cause::TooLong {
            self.measure(kernel, entry.sensor);
            if let Some(reason) = self.refuses(entry.sensor, entry.length) {
                return Some(reason);
            }
        }
        if !cause.is_own(failures, from_network) {
            return None;
        }
        Some(self.record_failure(entry, cause, errno))
    }

    /// Records an error that is the datagram's own, and returns the reason for the drop.
    fn record_failure(&mut self, entry: &Entry, cause: Cause, errno: Errno) -> DropReason {
        let index = usize::from(entry.sensor.0);
        let reason = match cause {
            Cause::TooLong => DropReason::PathMtu,
            Cause::Unreachable => DropReason::Unreachable,
            _ => DropReason::SendError,
        };
        match (reason, self.table.sensor(entry.sensor)) {
            (DropReason::Unreachable, Some(sensor)) => self.report.unreachable(sensor.address()),
            (DropReason::SendError, _) => self.report.refused(errno),
            _ => {}
        }
        if let Some(destination) = self.destinations.get_mut(index) {
            match cause {
                // The path accepts less than its MTU, for example because it is below the smallest MTU.
                Cause::TooLong => destination.limit(entry.length.saturating_sub(1)),
                _ => destination.fail(reason),
            }
        }
        reason
    }

    /// Waits for room, if there is time left; returns whether it waited.
    fn wait(&mut self, kernel: &mut impl Kernel, cause: Cause) -> bool {
        if self.wait_left < WAIT_MIN {
            return false;
        }
        let took = kernel.wait(cause, self.wait_left);
        self.wait_left = self.wait_left.saturating_sub(took);
        true
    }

    /// Empties the error queue and handles its entries; returns whether one came from the network.
    pub(crate) fn read_errors(&mut self, kernel: &mut impl Kernel) -> bool {
        let mut from_network = false;
        for _ in 0..ENTRIES_MAX {
            let Some(error) = kernel.next_error() else {
                break;
            };
            if let Some(icmp_error) = error.icmp_error {
                from_network = true;
                self.handle_icmp_error(kernel, error.destination, icmp_error);
            }
        }
        from_network
    }

    /// Handles an ICMP error about an earlier datagram.
    fn handle_icmp_error(
        &mut self,
        kernel: &mut impl Kernel,
        destination: Option<SocketAddr>,
        icmp_error: IcmpError,
    ) {
        let Some(destination) = destination else {
            return;
        };
        // The scope is not compared: the kernel reports it only for link-local addresses.
        let matches = |sensor: &Sensor| {
            let address = sensor.address();
            (address.ip(), address.port()) == (destination.ip(), destination.port())
        };
        let mut sensors = (0_u16..).zip(self.table.sensors());
        let Some((index, sensor)) = sensors.find(|(_, sensor)| matches(sensor)) else {
            return;
        };
        match icmp_error {
            IcmpError::TooLong => self.measure(kernel, SensorIndex(index)),
            _ => self.report.icmp_error(sensor.address(), icmp_error),
        }
    }

    /// Reads the path's MTU, once for each batch and sensor. It is lowered in the table, but never raised:
    /// the control side may have set a smaller one than the path's.
    fn measure(&mut self, kernel: &mut impl Kernel, index: SensorIndex) {
        let (Some(sensor), Some(destination)) = (
            self.table.sensor(index),
            self.destinations.get_mut(usize::from(index.0)),
        ) else {
            return;
        };
        if destination.measured {
            return;
        }
        destination.measured = true;
        let Some(mtu) = kernel.path_mtu(sensor.address()) else {
            return;
        };
        let frame = vxlan::inner_frame_max(mtu, sensor.address().ip());
        destination.limit(u32::from(frame) + VXLAN_HEADER);
        if mtu < sensor.path_mtu() {
            sensor.set_path_mtu(mtu);
            self.report.path_mtu(sensor.address(), mtu);
        }
    }
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
