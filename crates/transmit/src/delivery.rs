//! A run of datagrams and a kernel that may refuse any of them.
//!
//! In: datagrams to one socket, in order. Out: an outcome for each, the sensors' newly learned
//! path MTUs in the table, and news in the report. The kernel stands behind a trait of four calls,
//! so that every error at every place is tested without one.
//!
//! The loop ends: each round sends a datagram, drops one, or fails one again, and for one datagram
//! `policy` allows eight failures, and waiting is bounded by what is left of [`WAIT_MAX`].

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

/// How long one call of [`Transmitter::send`](crate::Transmitter::send) waits for room, in all. The
/// ring fills meanwhile, by half a megabyte at 1 Gbit/s.
pub const WAIT_MAX: Duration = Duration::from_millis(4);

/// The kernel is asked to wait in whole milliseconds.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// The length of the VXLAN header, in bytes.
#[expect(clippy::cast_possible_truncation, reason = "eight")]
const VXLAN_HEADER: u32 = vxlan::HEADER_LEN as u32;

/// How many entries of an error queue are read at a time; it holds fewer (`socket`).
const ENTRIES_MAX: usize = 64;

/// What the delivery asks of the kernel about one socket and one run.
pub(crate) trait Kernel {
    /// Sends the run's datagrams from this number on; how many were taken, at least one.
    fn send(&mut self, first: usize) -> Result<usize, Errno>;
    /// The next entry of the error queue.
    fn next_error(&mut self) -> Option<QueuedError>;
    /// Waits for room in the socket, or, where the kernel would not say, for a moment; at most
    /// this long. Returns how long it took.
    fn wait(&mut self, cause: Cause, at_most: Duration) -> Duration;
    /// The MTU of the path to a sensor, if there is one.
    fn path_mtu(&mut self, sensor: SocketAddr) -> Option<Mtu>;
}

/// A datagram of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its number in the batch.
    pub(crate) number: usize,
    /// Its place in the group that the run was taken from.
    pub(crate) place: usize,
    /// Where it goes.
    pub(crate) sensor: SensorIndex,
    /// Bytes from the VXLAN header on.
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
    /// How long it may still wait.
    pub(crate) wait_left: Duration,
}

impl Delivery<'_> {
    /// Delivers a run and returns how many of its datagrams have an outcome now. When that is not
    /// all, more is known of a sensor: the others are to be looked at again before they are tried.
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

    /// Notes that datagrams were sent. The sensors are looked up only where one has failed before:
    /// usually this writes an outcome for each datagram, and no more.
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

    /// Notes what became of a datagram.
    pub(crate) fn set_outcome(&mut self, number: usize, outcome: Outcome) {
        if let Some(slot) = self.outcomes.get_mut(number) {
            *slot = outcome;
        }
    }

    /// Why a datagram is not worth a try.
    pub(crate) fn refuses(&self, sensor: SensorIndex, length: u32) -> Option<DropReason> {
        self.destinations
            .get(usize::from(sensor.0))
            .and_then(|destination| destination.refuses(length))
    }

    /// Whether one of these datagrams is known to fail.
    fn any_is_refused(&self, entries: &[Entry]) -> bool {
        entries
            .iter()
            .any(|entry| self.refuses(entry.sensor, entry.length).is_some())
    }

    /// Deals with an error at a datagram: why it is dropped, or `None` when it is to be tried
    /// again.
    fn failed(
        &mut self,
        kernel: &mut impl Kernel,
        entry: &Entry,
        errno: Errno,
        failures: u32,
    ) -> Option<DropReason> {
        let cause = Cause::of(errno);
        // Also before waiting: a socket with something in its error queue never waits.
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

    /// Notes an error that is a datagram's own, and names the reason for its drop.
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
                // The path takes less than its MTU says: below the least MTU, for one.
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

    /// Empties the error queue and learns from it; whether the network had put something there.
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

    /// Learns from an answer of the network about an earlier datagram.
    fn handle_icmp_error(
        &mut self,
        kernel: &mut impl Kernel,
        destination: Option<SocketAddr>,
        icmp_error: IcmpError,
    ) {
        let Some(destination) = destination else {
            return;
        };
        // Not by scope: the kernel gives that only for link-local addresses.
        let meant = |sensor: &Sensor| {
            let address = sensor.address();
            (address.ip(), address.port()) == (destination.ip(), destination.port())
        };
        let mut sensors = (0_u16..).zip(self.table.sensors());
        let Some((index, sensor)) = sensors.find(|(_, sensor)| meant(sensor)) else {
            return;
        };
        match icmp_error {
            IcmpError::TooLong => self.measure(kernel, SensorIndex(index)),
            _ => self.report.icmp_error(sensor.address(), icmp_error),
        }
    }

    /// Asks for the path's MTU, once a batch and sensor. It is lowered in the table, never raised:
    /// the control side may have had a reason for less than the path takes.
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
