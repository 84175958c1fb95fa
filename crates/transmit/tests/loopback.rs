//! Sending to loopback sockets, without any privilege.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use common::{Block, Built, Fixture, count, dropped, sockets, table};
use mirror::{DropReason, Outcome, SourcePorts, TrailerBound};
use socket2::SockRef;
use transmit::SocketConfig;

fn receiver(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    // As much as the kernel allows: the default has room for some 270 small datagrams.
    SockRef::from(&socket)
        .set_recv_buffer_size(1 << 20)
        .unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket
}

/// Receives `count` datagrams: source port and bytes.
fn receive(socket: &UdpSocket, count: usize) -> Vec<(u16, Vec<u8>)> {
    let mut bytes = vec![0; 65_536];
    let one = |_| {
        let (length, from) = socket
            .recv_from(&mut bytes)
            .expect("a datagram within five seconds");
        (from.port(), bytes[..length].to_vec())
    };
    (0..count).map(one).collect()
}

/// Asserts that exactly the built datagrams arrived, and in order for each source port.
fn assert_arrived(fixture: &Fixture, built: &[&Built], arrived: &[(u16, Vec<u8>)]) {
    let mut expected = BTreeMap::<u16, Vec<&[u8]>>::new();
    for datagram in built {
        let port = fixture.transmitter.source_ports()[datagram.port];
        expected.entry(port).or_default().push(&datagram.bytes);
    }
    let mut seen = BTreeMap::<u16, Vec<&[u8]>>::new();
    for (port, bytes) in arrived {
        seen.entry(*port).or_default().push(bytes);
    }
    assert!(expected == seen, "the datagrams of some port differ");
}

/// Sends 10,000 datagrams in batches that fit in the receiver's buffer.
fn ten_thousand(address: &str, source_ports: SourcePorts) {
    let sensor = receiver(address);
    let mut fixture = Fixture::new(SocketConfig {
        source_ports,
        ..SocketConfig::new(0)
    });
    let table = table(&[sensor.local_addr().unwrap()]);
    let block = Block::of_udp(100, 40, 64);
    for _ in 0..100 {
        let built = fixture.mirror(&block, &table);
        assert_eq!(count(&built, Outcome::Sent), 100);
        let arrived = receive(&sensor, 100);
        assert_arrived(&fixture, &built.iter().collect::<Vec<_>>(), &arrived);
    }
    assert_eq!(fixture.totals.datagrams_sent, 10_000);
    assert_eq!(fixture.totals.frames_mirrored, 10_000);
    assert!(fixture.transmitter.report(&table).is_empty());
    // 40 pairs of hosts use most of the 16 ports.
    let block = fixture.mirror(&block, &table);
    let used: BTreeSet<usize> = block.iter().map(|datagram| datagram.port).collect();
    let expected = if source_ports == SourcePorts::ONE {
        1..=1
    } else {
        9..=16
    };
    assert!(expected.contains(&used.len()), "{used:?}");
}

#[test]
fn ten_thousand_datagrams_arrive_over_ipv4_byte_for_byte_and_in_order() {
    ten_thousand("127.0.0.1:0", SourcePorts::ONE);
    ten_thousand("127.0.0.1:0", SourcePorts::MAX);
}

#[test]
fn ten_thousand_datagrams_arrive_over_ipv6_byte_for_byte_and_in_order() {
    ten_thousand("[::1]:0", SourcePorts::ONE);
    ten_thousand("[::1]:0", SourcePorts::MAX);
}

/// The datagrams of a sensor that is a socket arrive in order, each with zeros after it at most.
fn arrived_with_trailers(built: &[Built], arrived: &[(u16, Vec<u8>)]) -> u64 {
    let mut trailers = 0;
    assert_eq!(built.len(), arrived.len());
    for (datagram, (_, bytes)) in built.iter().zip(arrived) {
        let (bytes, trailer) = bytes.split_at(datagram.bytes.len());
        assert_eq!(bytes, datagram.bytes);
        assert!(trailer.iter().all(|byte| *byte == 0), "{trailer:?}");
        trailers += trailer.len() as u64;
    }
    trailers
}

/// Sends datagrams of some lengths in turn, and returns how many messages and bytes of trailers that took.
fn in_runs(address: &str, lengths: &[usize], config: SocketConfig) -> (u64, u64) {
    let sensor = receiver(address);
    let mut fixture = Fixture::new(config);
    let table = sockets(&[sensor.local_addr().unwrap()]);
    let lengths: Vec<usize> = lengths.iter().copied().cycle().take(128).collect();
    let built = fixture.mirror(&Block::of_lengths(&lengths), &table);
    assert_eq!(count(&built, Outcome::Sent), 128);
    let trailers = arrived_with_trailers(&built, &receive(&sensor, 128));
    let totals = fixture.totals;
    assert_eq!((totals.datagrams_sent, totals.frames_mirrored), (128, 128));
    assert_eq!(totals.trailer_bytes, trailers);
    assert!(fixture.transmitter.report(&table).is_empty());
    (totals.messages_sent, trailers)
}

#[test]
fn a_sensor_that_is_a_socket_gets_runs_byte_for_byte_and_in_order() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let with = SocketConfig::new(0);
        let without = SocketConfig {
            trailers: TrailerBound::NONE,
            ..with
        };
        // One length; a TSO frame's; lengths that differ little.
        assert_eq!(in_runs(address, &[86], with), (2, 0));
        let tso = [vec![1400; 10], vec![300]].concat();
        assert_eq!(in_runs(address, &tso, without).1, 0);
        let (messages, trailers) = in_runs(address, &[90, 100, 95, 101], with);
        assert!(messages <= 3 && trailers > 0, "{messages}, {trailers}");
        let (messages, trailers) = in_runs(address, &[90, 100, 95, 101], without);
        assert!(messages > 60 && trailers == 0, "{messages}, {trailers}");
    }
}

#[test]
fn sensors_of_both_kinds_in_one_table_get_their_own() {
    let sensors = [
        "127.0.0.1:0",
        "[::1]:0",
        "127.0.0.1:0",
        "[::1]:0",
        "127.0.0.1:0",
    ]
    .map(receiver);
    let mut fixture = Fixture::new(SocketConfig::new(0));
    let kinds = [false, true, true, false, true];
    let table = mirror::SensorTable::new(
        sensors
            .iter()
            .zip(kinds)
            .map(|(sensor, is_socket)| {
                mirror::Sensor::new(sensor.local_addr().unwrap(), wire::Mtu::ETHERNET)
                    .with_socket(is_socket)
            })
            .collect(),
    );
    let built = fixture.mirror(&Block::of_udp(400, 100, 64), &table);
    assert_eq!(count(&built, Outcome::Sent), 400);
    let mut messages = 0;
    for (number, (sensor, is_socket)) in sensors.iter().zip(kinds).enumerate() {
        let own = built.iter().filter(|datagram| datagram.sensor == number);
        let arrived = receive(sensor, own.clone().count());
        let ports: BTreeSet<u16> = arrived.iter().map(|(port, _)| *port).collect();
        let port = fixture.transmitter.source_ports()[usize::from(is_socket)];
        assert_eq!(ports, [port].into(), "one port for each kind");
        // Two sensors are sockets over IPv4, so theirs is not connected; one is over IPv6.
        messages += arrived.len().div_ceil(if is_socket { 64 } else { 1 });
        assert!(arrived.len() > 20, "{}", arrived.len());
        assert!(
            own.zip(&arrived)
                .all(|(built, (_, bytes))| built.bytes == *bytes)
        );
    }
    assert_eq!(fixture.totals.messages_sent, messages as u64);
}

/// The table changes between two batches, as when the annotation of a sensor's pod changes.
#[test]
fn a_sensor_that_changes_its_kind_gets_everything_once_and_in_order() {
    let sensor = receiver("127.0.0.1:0");
    let address = [sensor.local_addr().unwrap()];
    let mut fixture = Fixture::new(SocketConfig::new(0));
    let [sniffer, socket] = [0, 1].map(|kind| fixture.transmitter.source_ports()[kind]);
    for (table, port, messages) in [
        (sockets(&address), socket, 2),
        (table(&address), sniffer, 100),
        (sockets(&address), socket, 2),
        (table(&address), sniffer, 100),
    ] {
        let before = fixture.totals.messages_sent;
        let built = fixture.mirror(&Block::of_udp(100, 1, 64), &table);
        assert_eq!(fixture.totals.messages_sent - before, messages);
        let arrived = receive(&sensor, 100);
        let expected = built.into_iter().map(|datagram| (port, datagram.bytes));
        assert_eq!(arrived, expected.collect::<Vec<_>>());
    }
    assert_eq!(fixture.totals.datagrams_sent, 400);
    assert!(fixture.transmitter.report(&table(&address)).is_empty());
}

/// A frame that is not IP gets no trailer, and its neighbours get theirs.
#[test]
fn a_frame_without_a_visible_end_arrives_without_a_trailer() {
    let sensor = receiver("127.0.0.1:0");
    let mut fixture = Fixture::new(SocketConfig::new(0));
    let table = sockets(&[sensor.local_addr().unwrap()]);
    let mut block = Block::of_lengths(&[90, 100, 95, 100]);
    block.push_arp();
    block.push_udp(1, 5, 90);
    block.push_udp(1, 6, 100);
    let built = fixture.mirror(&block, &table);
    assert_eq!(count(&built, Outcome::Sent), 7);
    let arrived = receive(&sensor, 7);
    assert_eq!(arrived[4].1, built[4].bytes, "the ARP frame");
    let trailers = arrived_with_trailers(&built, &arrived);
    assert_eq!(trailers, 10 + 5 + 10);
    assert_eq!(fixture.totals.trailer_bytes, trailers);
    assert_eq!(fixture.totals.messages_sent, 2, "an ARP frame ends a run");
}

#[test]
fn sensors_of_both_families_share_the_ports() {
    let sensors = [receiver("127.0.0.1:0"), receiver("[::1]:0")];
    let mut fixture = Fixture::new(SocketConfig::new(0));
    assert!(fixture.transmitter.has_ipv6());
    let table = table(
        &sensors
            .each_ref()
            .map(|sensor| sensor.local_addr().unwrap()),
    );
    let built = fixture.mirror(&Block::of_udp(200, 100, 32), &table);
    for (number, sensor) in sensors.iter().enumerate() {
        let own: Vec<&Built> = built
            .iter()
            .filter(|datagram| datagram.sensor == number)
            .collect();
        assert!(own.len() > 20, "{} of 200", own.len());
        let arrived = receive(sensor, own.len());
        assert_arrived(&fixture, &own, &arrived);
    }
}

#[test]
fn a_group_longer_than_a_run_is_sent_completely() {
    let sensor = receiver("127.0.0.1:0");
    let mut fixture = Fixture::new(SocketConfig::new(0));
    let table = table(&[sensor.local_addr().unwrap()]);
    let built = fixture.mirror(&Block::of_udp(270, 1, 8), &table);
    assert_eq!(count(&built, Outcome::Sent), 270);
    assert_arrived(
        &fixture,
        &built.iter().collect::<Vec<_>>(),
        &receive(&sensor, 270),
    );
}

#[test]
fn a_closed_port_never_drops() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        // A sniffing sensor: reachable, and no program listens on the port.
        let closed: SocketAddr = receiver(address).local_addr().unwrap();
        let open = receiver(address);
        let mut fixture = Fixture::new(SocketConfig::new(0));
        let table = table(&[closed, open.local_addr().unwrap()]);
        // The kernel sends at most a thousand of these answers per second for the whole machine. If
        // other programs cause some too, the test only takes longer.
        let (mut batches, mut answers, end) = (0, 0, Instant::now() + Duration::from_mins(1));
        while batches < 20 || answers <= 50 {
            assert!(
                Instant::now() < end,
                "{answers} answers to {batches} batches"
            );
            let built = fixture.mirror(&Block::of_udp(100, 50, 64), &table);
            assert_eq!(count(&built, Outcome::Sent), 100);
            let own: Vec<&Built> = built
                .iter()
                .filter(|datagram| datagram.sensor == 1)
                .collect();
            assert_arrived(&fixture, &own, &receive(&open, own.len()));
            let report = fixture.transmitter.report(&table);
            assert_eq!(report.refusals, 0);
            for entry in &report.sensors {
                assert_eq!((entry.sensor, entry.unreachable), (closed, 0));
                answers += entry.port_unreachable;
            }
            batches += 1;
        }
        assert!(fixture.transmitter.report(&table).is_empty());
    }
}

#[test]
fn other_refusals_of_the_kernel_are_send_errors() {
    let mut fixture = Fixture::new(SocketConfig::new(0));
    // For port 0 the kernel returns EINVAL.
    let table = table(&[SocketAddr::from(([127, 0, 0, 1], 0))]);
    let built = fixture.mirror(&Block::of_udp(50, 10, 64), &table);
    assert_eq!(count(&built, dropped(DropReason::SendError)), 50);
    let report = fixture.transmitter.report(&table);
    assert_eq!(report.refusals, 2, "two tries a batch");
    assert_eq!(
        report.last_refusal.map(|errno| errno as i32),
        Some(libc::EINVAL)
    );
}

#[test]
fn datagrams_of_another_table_or_block_are_dropped() {
    let sensor = receiver("127.0.0.1:0");
    let address = sensor.local_addr().unwrap();
    let mut fixture = Fixture::new(SocketConfig::new(0));
    let two = table(&[SocketAddr::from(([127, 0, 0, 2], address.port())), address]);
    let one = table(&[address]);
    let mut block = Block::of_udp(100, 50, 64);

    fixture.push(&block, &two);
    fixture
        .transmitter
        .send(&mut fixture.batch, &mut block.bytes[..], &one);
    let built = common::built(&fixture.batch, &block.bytes);
    fixture.batch.count_outcomes(&mut fixture.totals);
    let beyond = built.iter().filter(|datagram| datagram.sensor == 1).count();
    assert!(beyond > 0);
    assert_eq!(count(&built, dropped(DropReason::SendError)), beyond);
    assert_eq!(count(&built, Outcome::Sent), 100 - beyond);

    fixture.push(&block, &one);
    fixture
        .transmitter
        .send(&mut fixture.batch, &mut [][..], &one);
    let built = common::built(&fixture.batch, &block.bytes);
    fixture.batch.count_outcomes(&mut fixture.totals);
    assert_eq!(
        count(&built, dropped(DropReason::SendError)),
        100,
        "no body is in the block"
    );
    assert!(fixture.totals.check());
}

#[test]
fn incoming_datagrams_are_discarded() {
    let fixture = Fixture::new(SocketConfig {
        source_ports: SourcePorts::MAX,
        ..SocketConfig::new(0)
    });
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    for port in fixture.transmitter.source_ports() {
        for _ in 0..10 {
            stranger.send_to(b"hello", ("127.0.0.1", *port)).unwrap();
        }
    }
    let queued = queued_bytes(fixture.transmitter.source_ports());
    assert_eq!(queued, [0; 32]);
}

/// The bytes in the receive queue of each port, from the kernel's list: `local_address` is column 1,
/// `tx_queue:rx_queue` column 4.
fn queued_bytes(ports: &[u16]) -> Vec<u64> {
    let sockets = std::fs::read_to_string("/proc/net/udp").unwrap();
    let rows = sockets
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows: Vec<_> = rows.collect();
    let of = |port: &u16| {
        let local = format!(":{port:04X}");
        let row = rows
            .iter()
            .find(|row| row[1].ends_with(&local))
            .expect("the port is listed");
        let (_, waiting) = row[4].split_once(':').unwrap();
        u64::from_str_radix(waiting, 16).unwrap()
    };
    ports.iter().map(of).collect()
}
