//! Sending over networks that misbehave, each test in a lab of network namespaces of its own.
//!
//! `main` enters a user namespace before any thread exists, so no root is needed.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests say so by panicking"
)]

mod common;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use caps::{CapSet, Capability};
use common::{Bench, Block, Built, count, dropped, table};
use libtest_mimic::{Arguments, Trial};
use mirror::{DropReason, Outcome, SensorTable, SourcePorts};
use testbed::verify::{Check, Verifier};
use testbed::{Filter, Frame, Lab, Namespace, Offload, Sniffer};
use transmit::{OpenError, SocketConfig, Transmitter};
use wire::vxlan;

/// The mark of the tests' packets; its only use here is that setting it takes a capability.
const MARK: u32 = 0x706f_6473;

fn main() -> ExitCode {
    if let Err(error) = testbed::user_namespace::enter() {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    let tests: [(&str, fn()); 11] = [
        ("outer_headers_over_ipv4", outer_headers_over_ipv4),
        ("outer_headers_over_ipv6", outer_headers_over_ipv6),
        (
            "a_routed_hop_of_mtu_1400_is_learned",
            a_routed_hop_is_learned,
        ),
        (
            "a_lowered_interface_mtu_is_learned",
            a_lowered_interface_mtu_is_learned,
        ),
        ("no_route_is_counted_and_ends", no_route_is_counted_and_ends),
        (
            "a_router_without_the_sensor_is_reported",
            a_router_without_the_sensor,
        ),
        (
            "a_dead_sensor_behind_a_translated_address_is_unreachable",
            a_dead_sensor_behind_a_translated_address,
        ),
        (
            "a_silent_neighbour_is_reported",
            a_silent_neighbour_is_reported,
        ),
        (
            "a_full_socket_is_waited_for_once",
            a_full_socket_is_waited_for_once,
        ),
        (
            "an_interface_goes_down_and_comes_back",
            an_interface_goes_down,
        ),
        ("a_missing_capability_is_told_apart", a_missing_capability),
    ];
    let trials = tests.map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}

fn sensor(address: impl Into<IpAddr>) -> SocketAddr {
    SocketAddr::new(address.into(), vxlan::PORT)
}

/// Sockets of the pod. What sends by them must run in the pod's namespace, too: the path's MTU is
/// asked of the calling thread's.
fn bench(lab: &Lab) -> Bench {
    lab.pod
        .namespace
        .run(|| Bench::new(SocketConfig::new(MARK)))
}

fn mirror(lab: &Lab, bench: &mut Bench, block: &Block, table: &SensorTable) -> Vec<Built> {
    lab.pod.namespace.run(|| bench.mirror(block, table))
}

/// Mirrors a block every 20 ms until `end` says so of what became of it; how long that took.
fn mirror_until(
    lab: &Lab,
    bench: &mut Bench,
    block: &Block,
    table: &SensorTable,
    mut end: impl FnMut(&mut Bench, &[Built]) -> bool,
) -> Duration {
    let start = Instant::now();
    loop {
        let built = mirror(lab, bench, block, table);
        if end(bench, &built) {
            return start.elapsed();
        }
        assert!(
            start.elapsed() < Duration::from_secs(15),
            "{:?}",
            bench.totals
        );
        sleep(Duration::from_millis(20));
    }
}

fn all_sent(_: &mut Bench, built: &[Built]) -> bool {
    count(built, Outcome::Sent) == built.len()
}

fn capture(namespace: &Namespace, filter: Filter) -> Sniffer<Vec<Frame>> {
    Sniffer::to_memory(namespace, "eth0", filter).expect("a capture")
}

/// The frames of a capture that are IP packets of a family.
fn packets(sniffer: Sniffer<Vec<Frame>>, ether_type: [u8; 2]) -> Vec<Vec<u8>> {
    let (frames, totals) = sniffer.stop().expect("the capture ends");
    assert_eq!(totals.dropped, 0);
    let frames = frames.into_iter().map(|frame| frame.bytes);
    frames.filter(|bytes| bytes[12..14] == ether_type).collect()
}

const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];

fn outer_headers_over_ipv4() {
    let lab = Lab::builder().build().unwrap();
    let mut bench = bench(&lab);
    let sniffer = capture(&lab.sensor.namespace, Filter::Incoming);
    let block = Block::of_udp(100, 50, 200);
    let built = mirror(&lab, &mut bench, &block, &table(&[sensor(lab.sensor.ipv4)]));
    assert_eq!(count(&built, Outcome::Sent), 100);
    let packets: Vec<_> = packets(sniffer, IPV4);
    let datagrams: Vec<_> = packets.iter().filter(|bytes| bytes[23] == 17).collect();
    assert_eq!(datagrams.len(), 100);
    let payloads: HashSet<_> = built.iter().map(|datagram| &datagram.bytes[..]).collect();
    for bytes in datagrams {
        assert_eq!(bytes[20..22], [0x40, 0], "don't fragment, and no fragment");
        let port = u16::from_be_bytes([bytes[34], bytes[35]]);
        assert!(bench.transmitter.source_ports().contains(&port));
        assert_eq!(u16::from_be_bytes([bytes[36], bytes[37]]), vxlan::PORT);
        assert_eq!(bytes[40..42], [0, 0], "no checksum");
        assert!(payloads.contains(&bytes[42..]));
    }
}

fn outer_headers_over_ipv6() {
    // Without offloads the kernel finishes the checksum before the veth, as a network card would.
    let lab = Lab::builder().build().unwrap();
    lab.pod.eth0.set_offloads(&Offload::ALL, false).unwrap();
    let mut bench = bench(&lab);
    let sniffer = capture(&lab.sensor.namespace, Filter::Incoming);
    let block = Block::of_udp(100, 50, 200);
    let built = mirror(&lab, &mut bench, &block, &table(&[sensor(lab.sensor.ipv6)]));
    assert_eq!(count(&built, Outcome::Sent), 100);
    let packets: Vec<_> = packets(sniffer, IPV6);
    let datagrams: Vec<_> = packets.iter().filter(|bytes| bytes[20] == 17).collect();
    assert_eq!(datagrams.len(), 100, "none behind a fragment header");
    let mut verifier = Verifier::new();
    for bytes in datagrams {
        assert_ne!(bytes[60..62], [0, 0], "a checksum");
        let verdict = verifier.verify(bytes);
        assert!(
            verdict.is_right() && verdict.transport_checksum == Check::Right,
            "{verdict:?}"
        );
    }
}

/// Asserts that no outer fragment is among a capture's packets, and that it has some.
fn assert_no_fragments(packets: &[Vec<u8>], ether_type: [u8; 2]) {
    assert!(!packets.is_empty());
    let fragment = |bytes: &&Vec<u8>| match ether_type {
        IPV4 => u16::from_be_bytes([bytes[20], bytes[21]]) & 0x3fff != 0,
        _ => bytes[20] == 44,
    };
    assert_eq!(packets.iter().filter(fragment).count(), 0);
}

fn a_routed_hop_is_learned() {
    let lab = Lab::builder().routed(1400).build().unwrap();
    let addresses = [
        (IpAddr::from(lab.sensor.ipv4), IPV4),
        (lab.sensor.ipv6.into(), IPV6),
    ];
    for (address, ether_type) in addresses {
        let mut bench = bench(&lab);
        let table = table(&[sensor(address)]);
        let sniffer = capture(&lab.pod.namespace, Filter::Outgoing);
        // An inner frame that fills 1,500 bytes of IPv4 or IPv6, or of the latter all but.
        let block = Block::of_udp(8, 8, 1500 - 56 - 42);
        let path_mtu = || table.sensors()[0].path_mtu().get();
        mirror_until(&lab, &mut bench, &block, &table, |_, _| path_mtu() == 1400);
        let lost = bench.totals.datagrams_dropped.of(DropReason::PathMtu);
        assert!(lost <= 8, "at most one batch is too long: {lost}");
        assert_eq!(bench.totals.datagrams_dropped.sum(), lost);
        let report = bench.transmitter.report(&table);
        assert_eq!(report.sensors[0].path_mtu.map(wire::Mtu::get), Some(1400));

        // From here on everything is cut to what the path takes.
        let before = bench.totals;
        let built = mirror(&lab, &mut bench, &block, &table);
        assert_eq!(count(&built, Outcome::Sent), built.len());
        assert!(built.len() > 8, "inner fragments");
        assert_eq!(bench.totals.frames_mirrored, before.frames_mirrored + 8);
        assert_no_fragments(&packets(sniffer, ether_type), ether_type);
    }
}

fn a_lowered_interface_mtu_is_learned() {
    let lab = Lab::builder().build().unwrap();
    let mut bench = bench(&lab);
    let table = table(&[sensor(lab.sensor.ipv4), sensor(lab.sensor.ipv6)]);
    let block = Block::of_udp(100, 50, 1500 - 56 - 42);
    mirror_until(&lab, &mut bench, &block, &table, all_sent);
    lab.pod.eth0.set_mtu(1420).unwrap();
    let built = mirror(&lab, &mut bench, &block, &table);
    assert_eq!(count(&built, dropped(DropReason::PathMtu)), 100);
    assert!(
        table
            .sensors()
            .iter()
            .all(|sensor| sensor.path_mtu().get() == 1420)
    );
    let built = mirror(&lab, &mut bench, &block, &table);
    assert_eq!(count(&built, Outcome::Sent), built.len());
    assert!(built.len() > 100);
}

fn no_route_is_counted_and_ends() {
    let lab = Lab::builder().build().unwrap();
    let mut bench = bench(&lab);
    let nowhere = sensor(Ipv4Addr::new(10, 99, 0, 3));
    let table = table(&[nowhere, sensor(lab.sensor.ipv4)]);
    let block = Block::of_udp(200, 100, 100);
    let built = mirror(&lab, &mut bench, &block, &table);
    let lost = built.iter().filter(|datagram| datagram.sensor == 0).count();
    assert!(lost > 20);
    assert_eq!(count(&built, dropped(DropReason::Unreachable)), lost);
    assert_eq!(
        count(&built, Outcome::Sent),
        built.len() - lost,
        "the other takes its own"
    );
    let report = bench.transmitter.report(&table);
    let unreachable = report.sensors.iter().filter(|news| news.unreachable > 0);
    let unreachable: Vec<_> = unreachable
        .map(|news| (news.sensor, news.unreachable))
        .collect();
    assert_eq!(unreachable, [(nowhere, 2)], "given up after two");

    let by_the_sensor = (IpAddr::from(Ipv4Addr::new(10, 99, 0, 0)), 24);
    lab.pod
        .namespace
        .add_route(by_the_sensor, lab.sensor.ipv4.into())
        .unwrap();
    let built = mirror(&lab, &mut bench, &block, &table);
    assert_eq!(count(&built, Outcome::Sent), built.len());
}

fn a_router_without_the_sensor() {
    let lab = Lab::builder().routed(1500).build().unwrap();
    let address = IpAddr::from(lab.sensor.ipv4);
    let mut bench = bench(&lab);
    let table = table(&[sensor(address)]);
    let block = Block::of_udp(10, 10, 100);
    lab.sensor.eth0.remove_address(address, 24).unwrap();
    // The router forgets its neighbour.
    lab.sensor.port.down().unwrap();
    lab.sensor.port.up().unwrap();
    mirror_until(&lab, &mut bench, &block, &table, |bench, built| {
        assert!(all_sent(bench, built), "what the router says drops nothing");
        let report = bench.transmitter.report(&table);
        report.sensors.iter().any(|news| news.unreachable > 0)
    });

    lab.sensor.eth0.add_address(address, 24).unwrap();
    let receiver = lab
        .sensor
        .namespace
        .run(|| UdpSocket::bind(sensor(address)))
        .unwrap();
    receiver.set_nonblocking(true).unwrap();
    let back = mirror_until(&lab, &mut bench, &block, &table, |bench, built| {
        assert!(all_sent(bench, built));
        receiver.recv(&mut [0; 2000]).is_ok()
    });
    // The router asks for the neighbour once a second.
    assert!(back < Duration::from_secs(3), "{back:?}");
}

/// As behind a Service's address: the router translates what goes to the sensor, and gives what it
/// says of the sensor the address that the pod sent to.
fn a_dead_sensor_behind_a_translated_address() {
    let lab = Lab::builder().routed(1500).build().unwrap();
    let router = lab.router.as_ref().unwrap();
    for (family, service, nobody) in [
        (
            "ip",
            IpAddr::from(Ipv4Addr::new(10, 96, 0, 10)),
            IpAddr::from(Ipv4Addr::new(10, 78, 0, 99)),
        ),
        (
            "ip6",
            Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, 0x10).into(),
            Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 0x99).into(),
        ),
    ] {
        let rules = format!(
            "add table {family} t; \
             add chain {family} t c {{ type nat hook prerouting priority -100; }}; \
             add rule {family} t c {family} daddr {service} dnat to {nobody}"
        );
        let output = router.command("nft").arg(rules).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "nft: {text}");

        let mut bench = bench(&lab);
        let table = table(&[sensor(service)]);
        let block = Block::of_udp(10, 10, 100);
        mirror_until(&lab, &mut bench, &block, &table, |bench, built| {
            assert!(all_sent(bench, built), "what the router says drops nothing");
            let report = bench.transmitter.report(&table);
            let Some(news) = report.sensors.first() else {
                return false;
            };
            assert_eq!(news.refused_by_host, 0, "it is dead: {news:?}");
            assert!(news.unreachable > 0, "{news:?}");
            assert_eq!(news.unreachable_by, Some(service), "translated: {news:?}");
            true
        });
    }
}

fn a_silent_neighbour_is_reported() {
    let lab = Lab::builder().build().unwrap();
    let mut bench = bench(&lab);
    let silent = sensor(Ipv4Addr::new(10, 77, 0, 99));
    let table = table(&[silent, sensor(lab.sensor.ipv4)]);
    let block = Block::of_udp(20, 20, 100);
    let took = mirror_until(&lab, &mut bench, &block, &table, |bench, built| {
        assert!(
            all_sent(bench, built),
            "a neighbour's silence drops nothing"
        );
        let report = bench.transmitter.report(&table);
        let news = report.sensors.iter().filter(|news| news.unreachable > 0);
        let dead: Vec<_> = news.map(|news| news.sensor).collect();
        assert!(dead.is_empty() || dead == [silent], "{dead:?}");
        !dead.is_empty()
    });
    // Three requests, a second apart; see the crate's documentation of "sent".
    assert!(took > Duration::from_secs(1), "{took:?}");
}

fn a_full_socket_is_waited_for_once() {
    let lab = Lab::builder().build().unwrap();
    // The least buffer that the kernel gives, and a neighbour for whom everything waits in it.
    let config = SocketConfig {
        send_buffer: 1,
        source_ports: SourcePorts::MAX,
        ..SocketConfig::new(MARK)
    };
    let mut bench = lab.pod.namespace.run(|| Bench::new(config));
    let silent = table(&[sensor(Ipv4Addr::new(10, 77, 0, 99))]);
    let block = Block::of_udp(500, 50, 1000);
    let start = Instant::now();
    let built = mirror(&lab, &mut bench, &block, &silent);
    let took = start.elapsed();
    let sent = count(&built, Outcome::Sent);
    assert!(sent >= 16, "at least one a socket: {sent}");
    assert_eq!(count(&built, dropped(DropReason::QueueFull)), 500 - sent);
    assert!(
        took < Duration::from_millis(500),
        "{took:?}, of which 4 ms are for waiting"
    );

    // When the neighbour is given up, the sockets are empty again, and a living sensor gets all.
    let living = table(&[sensor(lab.sensor.ipv4)]);
    let few = Block::of_udp(16, 16, 100);
    mirror_until(&lab, &mut bench, &few, &living, all_sent);
    let received = {
        let sniffer = capture(&lab.sensor.namespace, Filter::Incoming);
        let built = mirror(&lab, &mut bench, &Block::of_udp(500, 50, 1000), &living);
        assert_eq!(count(&built, Outcome::Sent), 500);
        packets(sniffer, IPV4)
            .iter()
            .filter(|bytes| bytes[23] == 17)
            .count()
    };
    assert_eq!(received, 500);
}

fn an_interface_goes_down() {
    let lab = Lab::builder().build().unwrap();
    let mut bench = bench(&lab);
    let table = table(&[sensor(lab.sensor.ipv4)]);
    let block = Block::of_udp(100, 50, 100);
    mirror_until(&lab, &mut bench, &block, &table, all_sent);
    lab.pod.eth0.down().unwrap();
    let built = mirror(&lab, &mut bench, &block, &table);
    assert_eq!(count(&built, dropped(DropReason::Unreachable)), 100);
    lab.pod.eth0.up().unwrap();
    let sniffer = capture(&lab.sensor.namespace, Filter::Incoming);
    let back = mirror_until(&lab, &mut bench, &block, &table, all_sent);
    assert!(back < Duration::from_secs(1), "{back:?}");
    // The neighbour is asked for first.
    sleep(Duration::from_millis(500));
    let arrived = packets(sniffer, IPV4)
        .iter()
        .filter(|bytes| bytes[23] == 17)
        .count();
    assert_eq!(arrived, 100);
}

fn a_missing_capability() {
    let namespace = Namespace::new().unwrap();
    let open = || Transmitter::open(&SocketConfig::new(MARK)).err();
    // Capabilities belong to the thread, and the thread to `run`.
    let refused = namespace.run(|| {
        caps::clear(None, CapSet::Effective).unwrap();
        open()
    });
    assert!(
        matches!(refused, Some(OpenError::NotPermitted { mark: MARK })),
        "{refused:?}"
    );
    let with_net_raw = namespace.run(|| {
        caps::set(None, CapSet::Effective, &[Capability::CAP_NET_RAW].into()).unwrap();
        open()
    });
    assert!(with_net_raw.is_none(), "{with_net_raw:?}");
}
