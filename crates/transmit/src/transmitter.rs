//! Sends a batch through the sockets.
//!
//! In: a batch, and the block and the table that it was made from. The batch's plan has the datagrams of
//! each socket in order. They are sent in runs of one address family, each prepared for `sendmmsg`.
//! Datagrams to a sensor that refuses them are left out of the run.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use mirror::plan::Plan;
use mirror::{Batch, DropReason, Outcome, SensorTable};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::Socket;
use wire::Mtu;

use crate::delivery::{Delivery, Entry, Kernel, WAIT_MAX};
use crate::destination::{Addresses, Destination};
use crate::error_queue::{ErrorQueue, QueuedError};
use crate::message::{Messages, Run};
use crate::path::path_mtu;
use crate::peer::Peers;
use crate::policy::Cause;
use crate::report::Report;
use crate::socket::{Family, OpenError, SocketConfig, Sockets};

/// How long to wait after an interface's queue was full, before the next try.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(1);

/// Sends batches.
pub struct Transmitter {
    sockets: Sockets,
    peers: Peers,
    report: Report,
    // Memory that is reused for each batch.
    plan: Plan,
    addresses: Addresses,
    destinations: Vec<Destination>,
    outcomes: Vec<Outcome>,
    entries: Vec<Entry>,
    messages: Messages,
    error_queue: ErrorQueue,
}

impl Transmitter {
    /// Opens a socket for each source port and each address family that the calling thread's network
    /// namespace has. Nothing needs a capability after this.
    ///
    /// # Errors
    /// [`OpenError::NotPermitted`] if the capability for the mark is missing, [`OpenError::NoPorts`] if
    /// too few ports are free, [`OpenError::Socket`] for other errors of the kernel.
    pub fn open(config: &SocketConfig) -> Result<Self, OpenError> {
        Ok(Self {
            sockets: Sockets::open(*config)?,
            peers: Peers::new(),
            report: Report::with_room(),
            plan: Plan::default(),
            addresses: Addresses::default(),
            destinations: Vec::new(),
            outcomes: Vec::new(),
            entries: Vec::new(),
            messages: Messages::new(),
            error_queue: ErrorQueue::new(),
        })
    }

    /// The UDP source ports of the datagrams, the same in both address families.
    #[must_use]
    pub fn source_ports(&self) -> &[u16] {
        &self.sockets.ports
    }

    /// Whether there are sockets for sensors with an IPv6 address.
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        self.sockets.has(Family::V6)
    }

    /// Makes the sockets look up their routes and source addresses again when they send next. Call it
    /// when addresses or routes have changed.
    pub fn reconnect(&mut self) {
        self.peers.renew();
    }

    /// The errors since the last call.
    ///
    /// Call it a few times a second while datagrams are sent, and for some seconds more: ICMP errors wait
    /// in the error queues of the sockets, and when a flow has ended, no later send would return them.
    /// Makes a system call for each socket; allocates memory only if a sensor has errors.
    pub fn report(&mut self, table: &SensorTable) -> Report {
        self.destinations.clear();
        self.destinations
            .resize(table.sensors().len(), Destination::UNTRIED);
        let mut delivery = Delivery {
            table,
            destinations: &mut self.destinations,
            outcomes: &mut [],
            report: &mut self.report,
            wait_left: Duration::ZERO,
        };
        for socket in self.sockets.all() {
            let run = self.messages.run();
            let error_queue = &mut self.error_queue;
            delivery.read_errors(&mut Linux {
                socket,
                run,
                error_queue,
            });
        }
        self.report.take()
    }

    /// Sends a batch, and sets the outcome of each datagram in it.
    ///
    /// The bodies are ranges of `block`, and the batch's sensors are numbers in `table`. A datagram whose
    /// body or sensor does not exist there is dropped as [`DropReason::SendError`].
    pub fn send(&mut self, batch: &mut Batch, block: &[u8], table: &SensorTable) {
        self.plan.make(batch);
        self.addresses.prepare(batch, table);
        self.destinations.clear();
        self.destinations
            .resize(table.sensors().len(), Destination::UNTRIED);
        self.outcomes.clear();
        self.outcomes
            .resize(batch.datagrams().len(), Outcome::Pending);
        self.send_groups(batch, block, table);
        for (number, outcome) in self.outcomes.iter().enumerate() {
            batch.set_outcome(number, *outcome);
        }
    }

    fn send_groups(&mut self, batch: &Batch, block: &[u8], table: &SensorTable) {
        let mut delivery = Delivery {
            table,
            destinations: &mut self.destinations,
            outcomes: &mut self.outcomes,
            report: &mut self.report,
            wait_left: WAIT_MAX,
        };
        for (port, group) in self.plan.groups() {
            for family in Family::ALL {
                let Some(socket) = self.sockets.get(family, port) else {
                    continue;
                };
                if !self.addresses.has(family) {
                    continue;
                }
                let only = self.addresses.only(table, family);
                let is_connected = self.peers.connect(socket, (family, port), only);
                let mut place = 0;
                while place < group.len() {
                    let mut run = self.messages.run();
                    let source = Source {
                        batch,
                        block,
                        group,
                        family,
                        is_connected,
                        addresses: &self.addresses,
                    };
                    let next = source.fill(place, &mut run, &mut self.entries, &mut delivery);
                    let mut kernel = Linux {
                        socket,
                        run,
                        error_queue: &mut self.error_queue,
                    };
                    let done = delivery.deliver(&mut kernel, &self.entries);
                    place = self.entries.get(done).map_or(next, |entry| entry.place);
                }
            }
        }
        drop_unsent(batch, &mut delivery);
    }
}

/// Drops the datagrams for which there is no socket.
fn drop_unsent(batch: &Batch, delivery: &mut Delivery<'_>) {
    for (number, datagram) in batch.datagrams().iter().enumerate() {
        if delivery.outcomes.get(number) != Some(&Outcome::Pending) {
            continue;
        }
        let reason = match delivery.table.sensor(datagram.sensor) {
            // Its address family is missing here.
            Some(sensor) => {
                delivery.report.unreachable(sensor.address());
                DropReason::Unreachable
            }
            None => DropReason::SendError,
        };
        delivery.set_outcome(number, Outcome::Dropped(reason));
    }
}

/// The datagrams of one socket, from which runs are made.
struct Source<'a> {
    batch: &'a Batch,
    block: &'a [u8],
    group: &'a [u32],
    family: Family,
    /// Whether the socket is connected, so that the datagrams need no address.
    is_connected: bool,
    addresses: &'a Addresses,
}

impl<'a> Source<'a> {
    /// Fills a run with the group's datagrams from `place` on, as many as fit, and returns the place after
    /// the last that was handled.
    fn fill(
        &self,
        place: usize,
        run: &mut Run<'a>,
        entries: &mut Vec<Entry>,
        delivery: &mut Delivery<'_>,
    ) -> usize {
        entries.clear();
        for (place, number) in self.group.iter().enumerate().skip(place) {
            if run.is_full() {
                return place;
            }
            let number = *number as usize;
            let Some(datagram) = self.batch.datagrams().get(number) else {
                continue;
            };
            let sensor = datagram.sensor;
            if delivery.table.sensor(sensor).is_none() {
                continue;
            }
            let Some(address) = self.addresses.of(sensor, self.family) else {
                continue;
            };
            let length = datagram.length();
            if let Some(reason) = delivery.refuses(sensor, length) {
                delivery.set_outcome(number, Outcome::Dropped(reason));
                continue;
            }
            let range = |range: &std::ops::Range<u32>| range.start as usize..range.end as usize;
            let head = self.batch.heads().get(range(&datagram.head));
            let body = self.block.get(range(&datagram.body));
            let (Some(head), Some(body)) = (head, body) else {
                delivery.set_outcome(number, Outcome::Dropped(DropReason::SendError));
                continue;
            };
            run.push((!self.is_connected).then_some(address), head, body);
            entries.push(Entry {
                number,
                place,
                sensor,
                length,
            });
        }
        self.group.len()
    }
}

/// The real kernel.
struct Linux<'a> {
    socket: &'a Socket,
    run: Run<'a>,
    error_queue: &'a mut ErrorQueue,
}

impl Kernel for Linux<'_> {
    fn send(&mut self, first: usize) -> Result<usize, Errno> {
        self.run.send(self.socket, first)
    }

    fn next_error(&mut self) -> Option<QueuedError> {
        self.error_queue.read(self.socket)
    }

    fn wait(&mut self, cause: Cause, at_most: Duration) -> Duration {
        let start = Instant::now();
        let mut room = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
        let (polled, at_most) = match cause {
            Cause::BufferFull => (&mut room[..], at_most),
            _ => (&mut room[..0], at_most.min(QUEUE_FULL_PAUSE)),
        };
        let timeout = u8::try_from(at_most.as_millis()).unwrap_or(u8::MAX);
        // The result is not needed: the next try shows whether there is room.
        let _ = poll(polled, PollTimeout::from(timeout));
        start.elapsed()
    }

    fn path_mtu(&mut self, sensor: SocketAddr) -> Option<Mtu> {
        path_mtu(sensor, None).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mirror::{Mirror, MirrorConfig, Sensor, SourcePorts, Spread, Totals};
    use wire::{Direction, Frame, Link, Offload, Timestamp, Vni};

    fn is_send<T: Send>(_: &T) {}

    #[test]
    fn without_ipv6_its_sensors_are_unreachable() {
        let mut transmitter = Transmitter::open(&SocketConfig::new(0)).unwrap();
        transmitter.sockets = transmitter.sockets.without_ipv6();
        is_send(&transmitter);
        assert!(!transmitter.has_ipv6());
        let address: SocketAddr = "[::1]:4789".parse().unwrap();
        let table = SensorTable::new(vec![Sensor::new(address, Mtu::ETHERNET)]);
        let bytes = [0x5a; 64];
        let frame = Frame {
            bytes: &bytes,
            at: 0,
            wire_len: 64,
            timestamp: Timestamp::default(),
            direction: Direction::Outgoing,
            link: Link::Ethernet,
            vlan: None,
            offload: Offload::default(),
        };
        let (mut batch, mut totals) = (Batch::new(), Totals::default());
        let mut mirror = Mirror::new(MirrorConfig {
            vni: Vni::default(),
            spread: Spread::Hosts,
            source_ports: SourcePorts::ONE,
            own_ports: transmitter.source_ports().to_vec(),
            first_identification: 0,
        });
        mirror.push(&frame, &table, &mut batch, &mut totals);
        transmitter.send(&mut batch, &bytes, &table);
        let outcome = &batch.datagrams()[0].outcome;
        assert_eq!(*outcome, Outcome::Dropped(DropReason::Unreachable));
        let report = transmitter.report(&table);
        assert_eq!(report.sensors[0].sensor, address);
    }
}
