//! The transmitter with sockets of loopback, and its messages with a scripted kernel.

use std::net::UdpSocket;

use mirror::{Mirror, MirrorConfig, Sensor, SensorIndex, SourcePorts, Spread, Totals};
use proptest::prelude::*;
use wire::{Direction, Frame, Link, Offload, Timestamp, Vni};

use super::*;
use crate::report::SensorReport;

fn is_send<T: Send>(_: &T) {}

/// Frames one after the other, as in a block: each has the length of its IP packet, and whether its
/// EtherType is that of IP.
fn block(frames: &[(u16, bool)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &(length, is_ip) in frames {
        let ether_type: [u8; 2] = if is_ip { [8, 0] } else { [0x88, 0xb5] };
        bytes.extend([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
        bytes.extend(ether_type);
        let [high, low] = length.to_be_bytes();
        bytes.extend([0x45, 0, high, low, 0, 0, 0x40, 0, 64, 17, 0, 0]);
        bytes.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.resize(bytes.len() + usize::from(length) - 20, 0x5a);
    }
    bytes
}

/// Adds the frames of a block to a batch, and returns their datagrams.
fn push(frames: &[(u16, bool)], block: &[u8], table: &SensorTable, batch: &mut Batch) {
    let mut mirror = Mirror::new(MirrorConfig {
        vni: Vni::default(),
        spread: Spread::Hosts,
        source_ports: SourcePorts::ONE,
        own_ports: Vec::new(),
        tunnel_port: None,
        first_identification: 0,
    });
    let mut totals = Totals::default();
    let mut at = 0;
    for &(length, _) in frames {
        let end = at + 14 + usize::from(length);
        let frame = Frame {
            bytes: &block[at..end],
            at: u32::try_from(at).unwrap(),
            headroom: 0,
            wire_len: u32::from(length) + 14,
            timestamp: Timestamp::default(),
            direction: Direction::Outgoing,
            link: Link::Ethernet,
            vlan: None,
            offload: Offload::default(),
        };
        mirror.push(&frame, table, batch, &mut totals);
        at = end;
    }
    assert_eq!(batch.datagrams().len(), frames.len());
}

#[test]
fn without_ipv6_its_sensors_are_unreachable() {
    let mut transmitter = Transmitter::open(&SocketConfig::new(0)).unwrap();
    transmitter.sockets = transmitter.sockets.without_ipv6();
    is_send(&transmitter);
    assert!(!transmitter.has_ipv6());
    let address: SocketAddr = "[::1]:4789".parse().unwrap();
    let table = SensorTable::new(vec![Sensor::new(address, Mtu::ETHERNET)]);
    let frames = [(50, true)];
    let mut block = block(&frames);
    let mut batch = Batch::new();
    push(&frames, &block, &table, &mut batch);
    transmitter.send(&mut batch, &mut block[..], &table);
    assert_eq!(
        batch.outcomes(),
        [Outcome::Dropped(DropReason::Unreachable)]
    );
    let report = transmitter.report(&table);
    assert_eq!(report.sensors[0].sensor, address);
}

/// A transmitter, and a sensor of each family that is a socket.
struct Pair {
    transmitter: Transmitter,
    sensors: [(UdpSocket, SensorTable); 2],
}

impl Pair {
    const FRAMES: [(u16, bool); 100] = [(100, true); 100];

    fn new() -> Self {
        let sensor = |address| {
            let socket = UdpSocket::bind(address).unwrap();
            let limit = Some(Duration::from_secs(5));
            socket.set_read_timeout(limit).unwrap();
            let address = socket.local_addr().unwrap();
            let sensor = Sensor::new(address, Mtu::ETHERNET).with_socket(true);
            (socket, SensorTable::new(vec![sensor]))
        };
        Self {
            transmitter: Transmitter::open(&SocketConfig::new(0)).unwrap(),
            sensors: [sensor("127.0.0.1:0"), sensor("[::1]:0")],
        }
    }

    /// Sends a hundred datagrams to the sensor of a family; returns in how many messages. Each arrives once.
    fn send(&mut self, family: Family) -> u64 {
        let (socket, table) = &self.sensors[family as usize];
        let mut block = block(&Self::FRAMES);
        let mut batch = Batch::new();
        push(&Self::FRAMES, &block, table, &mut batch);
        let sent = self.transmitter.send(&mut batch, &mut block[..], table);
        assert!(batch.outcomes().iter().all(|one| *one == Outcome::Sent));
        let mut bytes = [0; 2000];
        for _ in Self::FRAMES {
            assert_eq!(socket.recv(&mut bytes).unwrap(), 8 + 14 + 100);
        }
        socket.set_nonblocking(true).unwrap();
        assert!(
            socket.recv(&mut bytes).is_err(),
            "no datagram arrives twice"
        );
        socket.set_nonblocking(false).unwrap();
        sent.messages
    }

    /// The errors of the sensor of a family.
    fn report(&mut self, family: Family) -> Vec<SensorReport> {
        let (_, table) = &self.sensors[family as usize];
        self.transmitter.report(table).sensors
    }
}

#[test]
fn a_path_that_refuses_runs_gets_each_datagram_once_and_later_runs_again() {
    let mut pair = Pair::new();
    assert_eq!((pair.send(Family::V4), pair.send(Family::V6)), (2, 2));
    pair.transmitter.sockets.refuse_runs(Family::V4, true);
    assert_eq!(pair.send(Family::V4), 100);
    let report = pair.report(Family::V4);
    assert_eq!(report[0].runs_refused, Some(Errno::EINVAL));
    // Only this path, and it is not asked again.
    assert_eq!((pair.send(Family::V6), pair.send(Family::V4)), (2, 100));
    assert_eq!(pair.report(Family::V4), []);
    // It takes them again, but this is not tried before the time is over or the routes have changed.
    pair.transmitter.sockets.refuse_runs(Family::V4, false);
    pair.transmitter.reconnect();
    assert_eq!(pair.send(Family::V4), 100);
    pair.transmitter.retry_runs();
    assert_eq!(pair.send(Family::V4), 2);
}

#[test]
fn a_kernel_without_runs_gets_each_datagram_in_its_own_message() {
    let mut pair = Pair::new();
    pair.transmitter.sockets.has_runs = false;
    assert_eq!((pair.send(Family::V4), pair.send(Family::V6)), (100, 100));
    assert_eq!(
        (pair.report(Family::V4), pair.report(Family::V6)),
        (vec![], vec![])
    );
}

/// A kernel that gives scripted answers and records the messages that it accepts.
struct Scripted<'a> {
    answers: &'a mut dyn Iterator<Item = Result<usize, Errno>>,
    messages: &'a [Entry],
    accepted: Vec<Entry>,
}

impl Kernel for Scripted<'_> {
    fn send(&mut self, first: usize) -> Result<usize, Errno> {
        let rest = &self.messages[first..];
        let sent = match self.answers.next() {
            None => rest.len(),
            Some(answer) => answer?.clamp(1, rest.len()),
        };
        self.accepted.extend(&rest[..sent]);
        Ok(sent)
    }

    fn next_error(&mut self) -> Option<QueuedError> {
        None
    }

    fn wait(&mut self, _: Cause, _: Duration) -> Duration {
        Duration::from_millis(1)
    }

    fn path_mtu(&mut self, _: SocketAddr) -> Option<Mtu> {
        Mtu::new(1000)
    }
}

fn any_answer() -> impl Strategy<Value = Result<usize, Errno>> {
    prop_oneof![
        4 => (1_usize..4).prop_map(Ok),
        1 => Just(Err(Errno::EINVAL)),
        1 => Just(Err(Errno::EIO)),
        1 => Just(Err(Errno::EMSGSIZE)),
        1 => Just(Err(Errno::EAGAIN)),
        1 => Just(Err(Errno::EPERM)),
        1 => Just(Err(Errno::EINTR)),
    ]
}

fn any_frames() -> impl Strategy<Value = Vec<(u16, bool)>> {
    let length = prop_oneof![Just(100_u16), 90_u16..110, 20_u16..1400];
    prop::collection::vec((length, prop::bool::weighted(0.9)), 1..200)
}

proptest! {
    /// Whatever the kernel answers at whichever message, a datagram is sent once or dropped, in order, and
    /// the counters are those of the messages that the kernel accepted.
    #[test]
    fn for_any_answers_nothing_is_lost_or_doubled_and_the_counters_are_exact(
        answers in prop::collection::vec(any_answer(), 0..40),
        frames in any_frames(),
        percent in 0_u8..=100,
    ) {
        let bound = TrailerBound::new(percent).unwrap();
        let address = SocketAddr::from(([192, 0, 2, 1], 4789));
        let sensor = Sensor::new(address, Mtu::ETHERNET).with_socket(true);
        let table = SensorTable::new(vec![sensor]);
        let block = block(&frames);
        let mut batch = Batch::new();
        push(&frames, &block, &table, &mut batch);
        let mut answers = answers.into_iter();
        let (accepted, sent) = send_scripted(&mut batch, &block, &table, bound, &mut answers);

        let places = |entry: &Entry| entry.place..entry.place + entry.count;
        let places: Vec<usize> = accepted.iter().flat_map(places).collect();
        prop_assert!(places.is_sorted_by(|a, b| a < b), "in order, none twice");
        for (place, outcome) in batch.outcomes().iter().enumerate() {
            prop_assert!(*outcome != Outcome::Pending);
            prop_assert_eq!(*outcome == Outcome::Sent, places.binary_search(&place).is_ok());
        }
        prop_assert_eq!(sent.messages, accepted.len() as u64);
        let trailer_bytes: u64 = accepted.iter().map(|entry| trailer_bytes(entry, &batch)).sum();
        prop_assert_eq!(sent.trailer_bytes, trailer_bytes);
        let on_wire = |datagram: &Datagram| u64::from(datagram.length()) + 42;
        let on_wire: u64 = batch.datagrams().iter().map(on_wire).sum();
        let allowed = on_wire * u64::from(percent) / 100;
        prop_assert!(trailer_bytes <= allowed, "{trailer_bytes} of {on_wire}");
        let mut totals = Totals::default();
        batch.count_outcomes(&mut totals);
        prop_assert!(totals.check());
        prop_assert_eq!(totals.datagrams_sent, places.len() as u64);
    }
}

/// What [`Transmitter::send_groups`] does for one group, with a scripted kernel. Returns the messages that it
/// accepted.
fn send_scripted(
    batch: &mut Batch,
    block: &[u8],
    table: &SensorTable,
    trailers: TrailerBound,
    answers: &mut dyn Iterator<Item = Result<usize, Errno>>,
) -> (Vec<Entry>, SentMessages) {
    let mut plan = Plan::default();
    plan.make(batch.datagrams(), batch.slots(), table);
    let group = plan.groups().next().unwrap();
    let parts = batch.parts();
    let source = Source {
        heads: parts.heads,
        datagrams: parts.datagrams,
        block,
        group,
        is_connected: true,
        trailers,
        addresses: &Addresses::default(),
    };
    let mut destinations = [Destination::UNTRIED];
    destinations[0].takes_runs = true;
    let (mut report, mut refused_runs) = (Report::default(), Vec::new());
    let mut delivery = Delivery {
        table,
        group: group.datagrams,
        destinations: &mut destinations,
        outcomes: parts.outcomes,
        report: &mut report,
        wait_left: WAIT_MAX,
        sent: SentMessages::default(),
        refused_runs: &mut refused_runs,
    };
    let (mut messages, mut entries) = (Messages::new(), Vec::new());
    let mut division = Division::default();
    let (mut place, mut accepted) = (0, Vec::new());
    while place < group.datagrams.len() {
        let mut run = messages.run();
        let next = source.fill(place, &mut run, &mut entries, &mut division, &mut delivery);
        let mut kernel = Scripted {
            answers,
            messages: &entries,
            accepted,
        };
        let done = delivery.deliver(&mut kernel, &entries);
        accepted = kernel.accepted;
        if done < entries.len() {
            division.clear();
        }
        place = entries.get(done).map_or(next, |entry| entry.place);
    }
    (accepted, delivery.sent)
}

/// The bytes that lengthen the datagrams of a message to one length; the last is not lengthened.
fn trailer_bytes(entry: &Entry, batch: &Batch) -> u64 {
    assert_eq!(entry.sensor, SensorIndex(0));
    let datagrams = &batch.datagrams()[entry.place..entry.place + entry.count];
    let lengths: Vec<u32> = datagrams.iter().map(Datagram::length).collect();
    let longest = lengths.iter().copied().max().unwrap_or_default();
    let (_, lengthened) = lengths.split_last().unwrap();
    lengthened
        .iter()
        .map(|length| u64::from(longest - length))
        .sum()
}
