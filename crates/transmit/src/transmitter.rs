//! Sends a batch through the sockets.
//!
//! In: a batch, and the block and the table that it was made from. The batch's plan has the datagrams of
//! each socket in order. They become messages of one datagram, or of a run of them if the sensor is a socket,
//! and up to 16 messages are prepared for one `sendmmsg`. Datagrams to a sensor that refuses them are left
//! out.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use mirror::plan::{Group, Plan};
use mirror::runs::{Candidate, Run, TRAILER_MAX};
use mirror::{Batch, Datagram, DropReason, Outcome, SensorIndex, SensorTable, TrailerBound};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{SockAddr, Socket};
use wire::{BlockMemory, Mtu};

use crate::delivery::{Delivery, Entry, Kernel, SentMessages, WAIT_MAX};
use crate::destination::{Addresses, Destination};
use crate::division::Division;
use crate::error_pause::ErrorPauses;
use crate::error_queue::{ErrorQueue, QueuedError};
use crate::message::{self, Messages};
use crate::path::path_mtu;
use crate::peer::Peers;
use crate::policy::Cause;
use crate::refused_runs::RefusedRuns;
use crate::report::Report;
use crate::socket::{Family, OpenError, SocketConfig, Sockets};

/// How long to wait after an interface's queue was full, before the next try.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(1);

/// Trailers are parts of this.
static ZEROS: [u8; TRAILER_MAX as usize] = [0; TRAILER_MAX as usize];

/// Sends batches.
pub struct Transmitter {
    sockets: Sockets,
    peers: Peers,
    report: Report,
    trailers: TrailerBound,
    yields: bool,
    refused_runs: RefusedRuns,
    // Memory that is reused for each batch.
    plan: Plan,
    addresses: Addresses,
    destinations: Vec<Destination>,
    newly_refused: Vec<SocketAddr>,
    entries: Vec<Entry>,
    division: Division,
    messages: Messages,
    error_queue: ErrorQueue,
    error_pauses: ErrorPauses,
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
            trailers: config.trailers,
            yields: config.yields,
            refused_runs: RefusedRuns::default(),
            plan: Plan::default(),
            addresses: Addresses::default(),
            destinations: Vec::new(),
            newly_refused: Vec::new(),
            entries: Vec::new(),
            division: Division::default(),
            messages: Messages::new(),
            error_queue: ErrorQueue::new(),
            error_pauses: ErrorPauses::default(),
        })
    }

    /// The UDP source ports of the datagrams, the same in both address families: first those to sensors that
    /// capture, then those to sensors that are sockets.
    #[must_use]
    pub fn source_ports(&self) -> &[u16] {
        &self.sockets.ports
    }

    /// The UDP source port of the datagrams to sensors with a tunnel, if there are sockets for these.
    #[must_use]
    pub const fn tunnel_port(&self) -> Option<u16> {
        self.sockets.tunnel_port
    }

    /// Duplicates of the sockets for sensors with a tunnel, IPv4 first: for handshakes and their answers.
    ///
    /// # Errors
    /// The kernel's, if there are too many descriptors.
    pub fn tunnel_sockets(&self) -> io::Result<[Option<Socket>; 2]> {
        self.sockets.tunnels()
    }

    /// Whether there are sockets for sensors with an IPv6 address.
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        self.sockets.has(Family::V6)
    }

    /// Makes the sockets look up their routes and source addresses again when they send next. Call it when
    /// addresses or routes have changed, and from time to time.
    pub fn reconnect(&mut self) {
        self.peers.renew();
    }

    /// Tries runs again on every path that refused them. Call it when routes have changed; without a call,
    /// a path is tried again after a minute.
    pub fn retry_runs(&mut self) {
        self.refused_runs.clear();
    }

    /// Lets other threads run, if [`SocketConfig::yields`] says so. The scheduler lets a thread that runs continue for
    /// some milliseconds, also if the application wakes up.
    pub fn let_others_run(&self) {
        if self.yields {
            thread::yield_now();
        }
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
            group: &[],
            destinations: &mut self.destinations,
            outcomes: &mut [],
            report: &mut self.report,
            wait_left: Duration::ZERO,
            sent: SentMessages::default(),
            refused_runs: &mut self.newly_refused,
        };
        let (messages, error_queue) = (&mut self.messages, &mut self.error_queue);
        let mut read_errors = |socket| {
            let run = messages.run();
            delivery.read_errors(&mut Linux {
                socket,
                run,
                error_queue,
            })
        };
        for socket in self.sockets.plain() {
            read_errors(socket);
        }
        for family in Family::ALL {
            let Some(socket) = self.sockets.tunnel(family) else {
                continue;
            };
            let now = Instant::now();
            let takes_errors = self.error_pauses.takes_errors(family, socket, now);
            if takes_errors && read_errors(socket).too_many {
                self.error_pauses.begin(family, socket, now);
            }
        }
        self.report.take()
    }

    /// Sends a batch, and sets the outcome of each datagram in it. Returns in how many messages.
    ///
    /// The bodies are ranges of `block`, which gets the headers in front of frames first; the batch's sensors
    /// are numbers in `table`. A datagram whose body or sensor does not exist there is dropped as
    /// [`DropReason::SendError`].
    pub fn send(
        &mut self,
        batch: &mut Batch,
        block: &mut (impl BlockMemory + ?Sized),
        table: &SensorTable,
    ) -> SentMessages {
        batch.write_into(block);
        self.plan.make(batch.datagrams(), batch.slots(), table);
        self.addresses.prepare(table);
        self.prepare_destinations(table);
        let sent = self.send_groups(batch, block.bytes(), table);
        for sensor in self.newly_refused.drain(..) {
            self.refused_runs.add(sensor, Instant::now());
        }
        sent
    }

    fn prepare_destinations(&mut self, table: &SensorTable) {
        if !self.refused_runs.is_empty() {
            self.refused_runs.expire(Instant::now());
        }
        self.destinations.clear();
        for sensor in table.sensors() {
            let mut destination = Destination::UNTRIED;
            destination.takes_runs = self.sockets.has_runs
                && sensor.is_socket()
                && !self.refused_runs.contains(sensor.address());
            self.destinations.push(destination);
        }
    }

    fn send_groups(
        &mut self,
        batch: &mut Batch,
        block: &[u8],
        table: &SensorTable,
    ) -> SentMessages {
        let parts = batch.parts();
        let mut delivery = Delivery {
            table,
            group: &[],
            destinations: &mut self.destinations,
            outcomes: parts.outcomes,
            report: &mut self.report,
            wait_left: WAIT_MAX,
            sent: SentMessages::default(),
            refused_runs: &mut self.newly_refused,
        };
        for group in self.plan.groups() {
            delivery.group = group.datagrams;
            let Some(socket) = self.sockets.get(group.lane, group.port) else {
                drop_group(group.datagrams, parts.datagrams, &mut delivery);
                continue;
            };
            // What is sealed is in its own arena, and a datagram that was not is out of reach. The socket of
            // tunnels is not connected, because it receives from sensors that are not in the table yet.
            let (heads, block, only) = if group.lane.is_tunnel() {
                (parts.sealed, &[][..], None)
            } else {
                let only = self.addresses.only(table, group.lane);
                (parts.heads, block, only)
            };
            let source = Source {
                heads,
                datagrams: parts.datagrams,
                block,
                group,
                is_connected: self.peers.connect(socket, (group.lane, group.port), only),
                trailers: self.trailers,
                addresses: &self.addresses,
            };
            self.division.clear();
            let mut place = 0;
            while place < group.datagrams.len() {
                let mut run = self.messages.run();
                let (entries, division) = (&mut self.entries, &mut self.division);
                let next = source.fill(place, &mut run, entries, division, &mut delivery);
                let mut kernel = Linux {
                    socket,
                    run,
                    error_queue: &mut self.error_queue,
                };
                let done = delivery.deliver(&mut kernel, &self.entries);
                if self.yields {
                    thread::yield_now();
                }
                place = match self.entries.get(done) {
                    Some(entry) => {
                        self.division.clear();
                        entry.place
                    }
                    None => next,
                };
            }
        }
        delivery.sent
    }
}

/// Drops datagrams for which there is no socket: their address family is missing here.
fn drop_group(group: &[u32], datagrams: &[Datagram], delivery: &mut Delivery<'_>) {
    for number in group {
        let number = *number as usize;
        let sensor = datagrams.get(number).map(|datagram| datagram.sensor);
        let reason = match sensor.and_then(|sensor| delivery.table.sensor(sensor)) {
            Some(sensor) => {
                delivery.report.unreachable(sensor.address());
                DropReason::Unreachable
            }
            None => DropReason::SendError,
        };
        delivery.set_outcome(number, Outcome::Dropped(reason));
    }
}

/// The datagrams of one socket, from which messages are made.
struct Source<'a> {
    heads: &'a [u8],
    datagrams: &'a [Datagram],
    block: &'a [u8],
    group: Group<'a>,
    /// Whether the socket is connected, so that the messages need no address.
    is_connected: bool,
    /// How many bytes of trailers datagrams get.
    trailers: TrailerBound,
    addresses: &'a Addresses,
}

impl<'a> Source<'a> {
    /// Fills a run with messages of the group's datagrams from `place` on, as many as fit, and returns the
    /// place after the last datagram that was handled.
    fn fill(
        &self,
        mut place: usize,
        run: &mut message::Run<'a>,
        entries: &mut Vec<Entry>,
        division: &mut Division,
        delivery: &mut Delivery<'_>,
    ) -> usize {
        entries.clear();
        while let Some(number) = self.group.datagrams.get(place) {
            if run.is_full() {
                return place;
            }
            match self.add(place, *number, run, division, delivery) {
                Ok(entry) => {
                    entries.push(entry);
                    place += entry.count;
                }
                Err(reason) => {
                    delivery.set_outcome(*number as usize, Outcome::Dropped(reason));
                    place += 1;
                }
            }
        }
        place
    }

    /// Adds the message that starts with this datagram, or returns why the datagram is dropped.
    fn add(
        &self,
        place: usize,
        number: u32,
        run: &mut message::Run<'a>,
        division: &mut Division,
        delivery: &Delivery<'_>,
    ) -> Result<Entry, DropReason> {
        let (datagram, head, body) = self.parts(number).ok_or(DropReason::SendError)?;
        let destination = delivery
            .destination(datagram.sensor)
            .ok_or(DropReason::SendError)?;
        let length = datagram.length();
        if let Some(reason) = destination.refuses(length) {
            return Err(reason);
        }
        let entry = Entry {
            place,
            count: 1,
            sensor: datagram.sensor,
            length,
            trailers: 0,
        };
        if destination.takes_runs
            && let Some(found) = self.run(place, datagram.sensor, destination, division)
            && found.count > 1
        {
            let entry = Entry {
                count: found.count as usize,
                length: found.segment,
                trailers: found.trailers,
                ..entry
            };
            self.add_run(&entry, run);
            return Ok(entry);
        }
        run.add_plain(self.address(entry.sensor), head, body);
        Ok(entry)
    }

    /// The run at a place. The datagrams to a sensor are divided from its first one on. What an error leaves of
    /// them is divided again, without trailers: those already sent may have all that the bound allows.
    ///
    /// Not inlined, so that messages of one datagram cost no more than without it.
    #[inline(never)]
    fn run(
        &self,
        place: usize,
        sensor: SensorIndex,
        destination: Destination,
        division: &mut Division,
    ) -> Option<Run> {
        if let Some(run) = division.take(place)
            && destination.refuses(run.segment).is_none()
        {
            return Some(run);
        }
        let numbers = &self.group.datagrams;
        let datagram = |number: &u32| self.datagrams.get(*number as usize);
        let before = place.checked_sub(1).and_then(|before| numbers.get(before));
        let is_first = before
            .and_then(datagram)
            .is_none_or(|before| before.sensor != sensor);
        let neighbours = numbers
            .get(place..)
            .unwrap_or_default()
            .iter()
            .map_while(datagram)
            .take_while(|datagram| {
                datagram.sensor == sensor && destination.refuses(datagram.length()).is_none()
            });
        let bound = if is_first {
            self.trailers
        } else {
            TrailerBound::NONE
        };
        division.divide(place, neighbours.map(Candidate::from), bound);
        division.take(place)
    }

    /// A datagram, its head and its body.
    fn parts(&self, number: u32) -> Option<(&'a Datagram, &'a [u8], &'a [u8])> {
        let datagram = self.datagrams.get(number as usize)?;
        let range = |range: &std::ops::Range<u32>| range.start as usize..range.end as usize;
        let head = self.heads.get(range(&datagram.head))?;
        let body = self.block.get(range(&datagram.body))?;
        Some((datagram, head, body))
    }

    /// The address of a sensor, if the messages need one.
    fn address(&self, sensor: SensorIndex) -> Option<&'a SockAddr> {
        if self.is_connected {
            None
        } else {
            self.addresses.of(sensor)
        }
    }

    fn add_run(&self, entry: &Entry, run: &mut message::Run<'a>) {
        let segment = u16::try_from(entry.length).unwrap_or(u16::MAX);
        run.start(self.address(entry.sensor), segment);
        let places = entry.place..entry.place + entry.count;
        let numbers = self.group.datagrams.get(places).unwrap_or_default();
        for (index, number) in numbers.iter().enumerate() {
            let Some((datagram, head, body)) = self.parts(*number) else {
                continue;
            };
            run.add(head);
            run.add(body);
            let trailer = entry.length.saturating_sub(datagram.length()) as usize;
            if trailer > 0 && index + 1 < numbers.len() {
                run.add(ZEROS.get(..trailer).unwrap_or(&ZEROS));
            }
        }
    }
}

/// The real kernel.
struct Linux<'a> {
    socket: &'a Socket,
    run: message::Run<'a>,
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
#[path = "transmitter_tests.rs"]
mod tests;
