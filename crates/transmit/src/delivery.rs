//! Sends messages to a kernel that can refuse any of them.
//!
//! In: messages for one socket, in order, each of one datagram or of a run of them ([`mirror::runs`]). Out:
//! an outcome for each datagram, changed path MTUs in the table, and entries in the report. The kernel is a
//! trait of four calls, so every error at every place is tested without a real one.
//!
//! The kernel can refuse a message only because it is a run: with `EINVAL`, or with `EIO` where nothing on
//! the path can split it (`udp_send_skb` in `net/ipv4/udp.c`). It also refuses a run if the path became
//! narrower than its segments, with `EINVAL` before Linux 6.14 and `EMSGSIZE` since. Then nothing of it was
//! sent: its datagrams and all others to this sensor in this batch are sent one by one. If the path is wide
//! enough, the sensor gets no runs for some time ([`RefusedRuns`](crate::refused_runs::RefusedRuns)).
//!
//! The loop ends: each round sends a message, drops one, splits one, or one fails again. `policy` allows
//! eight failures of one message, and [`WAIT_MAX`] limits the time of waiting.

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

/// How many entries of an error queue are read at a time; the queue has room for fewer (`socket`), but that of a tunnel's
/// socket for more.
const ENTRIES_MAX: usize = 64;

/// What an error queue had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ReadErrors {
    /// Whether an entry came from the network.
    pub(crate) from_network: bool,
    /// Whether there were at least [`ENTRIES_MAX`] entries: others may wait.
    pub(crate) too_many: bool,
}

/// The system calls of the delivery for one socket and its messages.
pub(crate) trait Kernel {
    /// Sends the messages from this number on; returns how many were sent, at least one.
    fn send(&mut self, first: usize) -> Result<usize, Errno>;
    /// The next entry of the error queue.
    fn next_error(&mut self) -> Option<QueuedError>;
    /// Waits for room in the socket, or, if the kernel does not report it, for a short time; not longer
    /// than `at_most`. Returns the time it took.
    fn wait(&mut self, cause: Cause, at_most: Duration) -> Duration;
    /// The MTU of the path to a sensor, if there is one.
    fn path_mtu(&mut self, sensor: SocketAddr) -> Option<Mtu>;
}

/// A message: neighbours of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The place of its first datagram in the group.
    pub(crate) place: usize,
    /// How many datagrams it has.
    pub(crate) count: usize,
    /// Where it goes.
    pub(crate) sensor: SensorIndex,
    /// The length of its longest datagram in bytes, from the VXLAN header on.
    pub(crate) length: u32,
    /// Bytes of its trailers.
    pub(crate) trailers: u32,
}

/// What was sent, in addition to the datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SentMessages {
    /// How many messages.
    pub messages: u64,
    /// Bytes of the trailers in them.
    pub trailer_bytes: u64,
}

/// The delivery of a batch.
pub(crate) struct Delivery<'a> {
    pub(crate) table: &'a SensorTable,
    /// The numbers of the datagrams of the socket.
    pub(crate) group: &'a [u32],
    /// One for each sensor of the table.
    pub(crate) destinations: &'a mut [Destination],
    /// One for each datagram of the batch.
    pub(crate) outcomes: &'a mut [Outcome],
    pub(crate) report: &'a mut Report,
    /// How long it may still wait for room.
    pub(crate) wait_left: Duration,
    /// The messages sent so far.
    pub(crate) sent: SentMessages,
    /// The sensors whose path refused a run.
    pub(crate) refused_runs: &'a mut Vec<SocketAddr>,
}

impl Delivery<'_> {
    /// Sends messages and returns for how many of them all datagrams have an outcome now. If not for all, a
    /// sensor now refuses some of the others, or takes no runs: the caller must make them again.
    pub(crate) fn deliver(&mut self, kernel: &mut impl Kernel, messages: &[Entry]) -> usize {
        let mut first = 0;
        let mut failures = 0;
        while let Some(entry) = messages.get(first) {
            let errno = match kernel.send(first) {
                Ok(sent) => {
                    let end = messages.len().min(first + sent);
                    self.record_sent(messages.get(first..end).unwrap_or_default());
                    first += sent;
                    failures = 0;
                    continue;
                }
                Err(errno) => errno,
            };
            if entry.count > 1 && self.splits(kernel, entry, errno) {
                break;
            }
            failures += 1;
            let Some(reason) = self.failed(kernel, entry, errno, failures) else {
                continue;
            };
            self.set_outcomes(entry, Outcome::Dropped(reason));
            first += 1;
            failures = 0;
            if self.any_is_refused(messages.get(first..).unwrap_or_default()) {
                break;
            }
        }
        first.min(messages.len())
    }

    /// Whether the datagrams of a refused run are sent again one by one.
    fn splits(&mut self, kernel: &mut impl Kernel, entry: &Entry, errno: Errno) -> bool {
        if !matches!(errno, Errno::EINVAL | Errno::EIO | Errno::EMSGSIZE) {
            return false;
        }
        let from_network = self.read_errors(kernel).from_network;
        self.measure(kernel, entry.sensor);
        let is_too_long = self.refuses(entry.sensor, entry.length).is_some();
        if let Some(destination) = self.destinations.get_mut(usize::from(entry.sensor.0)) {
            destination.takes_runs = false;
        }
        // Of the three, only EMSGSIZE can be an ICMP error about an earlier datagram.
        let is_earlier = errno == Errno::EMSGSIZE && from_network;
        if let Some(sensor) = self.table.sensor(entry.sensor)
            && !is_too_long
            && !is_earlier
        {
            self.report.runs_refused(sensor.address(), errno);
            self.refused_runs.push(sensor.address());
        }
        true
    }

    /// Records that messages were sent. Usually this only writes an outcome for each datagram; the sensors
    /// are updated only if one has failed before.
    fn record_sent(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.set_outcomes(entry, Outcome::Sent);
            self.sent.trailer_bytes += u64::from(entry.trailers);
        }
        self.sent.messages += entries.len() as u64;
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

    /// Sets the outcome of a message's datagrams.
    fn set_outcomes(&mut self, entry: &Entry, outcome: Outcome) {
        let group = self.group.get(entry.place..entry.place + entry.count);
        for number in group.unwrap_or_default() {
            self.set_outcome(*number as usize, outcome);
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
        self.destination(sensor)?.refuses(length)
    }

    /// What is known about a sensor in this batch; `None` if the table does not have it.
    pub(crate) fn destination(&self, sensor: SensorIndex) -> Option<Destination> {
        self.destinations.get(usize::from(sensor.0)).copied()
    }

    /// Whether there is a reason not to try one of these messages.
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
        let from_network = cause != Cause::Interrupted && self.read_errors(kernel).from_network;
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

    /// Empties the error queue and handles its entries.
    pub(crate) fn read_errors(&mut self, kernel: &mut impl Kernel) -> ReadErrors {
        let mut read = ReadErrors::default();
        for _ in 0..ENTRIES_MAX {
            let Some(error) = kernel.next_error() else {
                return read;
            };
            if let Some(icmp_error) = error.icmp_error {
                read.from_network = true;
                self.handle_icmp_error(kernel, error.destination, icmp_error);
            }
        }
        read.too_many = true;
        read
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
