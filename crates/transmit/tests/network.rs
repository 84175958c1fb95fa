//! Sending over networks with faults, each test in its own lab of network namespaces.
//!
//! `main` enters a user namespace before any thread exists, so no root is needed.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

mod common;
#[path = "network/runs.rs"]
mod runs;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use caps::{CapSet, Capability};
use common::{Block, Built, Fixture, count, dropped, table};
use libtest_mimic::{Arguments, Trial};
use mirror::{DropReason, Outcome, SensorTable, SourcePorts};
use testbed::verify::{Check, Verifier};
use testbed::{Filter, Frame, Lab, Namespace, Offload, Sniffer};
use transmit::{OpenError, Report, SocketConfig, Transmitter};
use wire::vxlan;

/// The mark of the tests' packets. Setting it needs a capability, which the tests check.
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
            "the_mtu_of_a_routed_hop_is_found",
            the_mtu_of_a_routed_hop_is_found,
        ),
        (
            "a_lowered_interface_mtu_is_found",
            a_lowered_interface_mtu_is_found,
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
            "a_batch_waits_for_a_full_socket_only_once",
            a_batch_waits_for_a_full_socket_only_once,
        ),
        (
            "an_interface_goes_down_and_comes_back",
            an_interface_goes_down,
        ),
        (
            "a_missing_capability_is_a_separate_error",
            a_missing_capability,
        ),
    ];
    let tests = [&tests[..], runs::TESTS].concat();
    let trial = |(name, test): (&str, fn())| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let trials = tests.into_iter().map(trial).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn sensor(address: impl Into<IpAddr>) -> SocketAddr {
    SocketAddr::new(address.into(), vxlan::PORT)
}

/// Sockets in the pod. Code that sends with them must run in the pod's namespace too: the path's MTU is
/// read in the namespace of the calling thread.
fn fixture(lab: &Lab) -> Fixture {
    lab.pod
        .namespace
        .run(|| Fixture::new(SocketConfig::new(MARK)))
}

fn mirror(lab: &Lab, fixture: &mut Fixture, block: &Block, table: &SensorTable) -> Vec<Built> {
    lab.pod.namespace.run(|| fixture.mirror(block, table))
}

/// Mirrors a block every 20 ms until `end` returns true for the datagrams; returns how long that took.
fn mirror_until(
    lab: &Lab,
    fixture: &mut Fixture,
    block: &Block,
    table: &SensorTable,
    mut end: impl FnMut(&mut Fixture, &[Built]) -> bool,
) -> Duration {
    let start = Instant::now();
    loop {
        let built = mirror(lab, fixture, block, table);
        if end(fixture, &built) {
            return start.elapsed();
        }
        assert!(
            start.elapsed() < Duration::from_secs(15),
            "{:?}",
            fixture.totals
        );
        sleep(Duration::from_millis(20));
    }
}

fn all_sent(_: &mut Fixture, built: &[Built]) -> bool {
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
    let mut fixture = fixture(&lab);
    let sniffer = capture(&lab.sensor.namespace, Filter::Incoming);
    let block = Block::of_udp(100, 50, 200);
    let built = mirror(
        &lab,
        &mut fixture,
        &block,
        &table(&[sensor(lab.sensor.ipv4)]),
    );
    assert_eq!(count(&built, Outcome::Sent), 100);
    let packets: Vec<_> = packets(sniffer, IPV4);
    let datagrams: Vec<_> = packets.iter().filter(|bytes| bytes[23] == 17).collect();
    assert_eq!(datagrams.len(), 100);
    let payloads: HashSet<_> = built.iter().map(|datagram| &datagram.bytes[..]).collect();
    for bytes in datagrams {
        assert_eq!(bytes[20..22], [0x40, 0], "don't fragment, and no fragment");
        let port = u16::from_be_bytes([bytes[34], bytes[35]]);
        assert!(fixture.transmitter.source_ports().contains(&port));
        assert_eq!(u16::from_be_bytes([bytes[36], bytes[37]]), vxlan::PORT);
        assert_eq!(bytes[40..42], [0, 0], "no checksum");
        assert!(payloads.contains(&bytes[42..]));
    }
}

fn outer_headers_over_ipv6() {
    // Without offloads the kernel finishes the checksum before the veth, as a network card would.
    let lab = Lab::builder().build().unwrap();
    lab.pod.eth0.set_offloads(&Offload::ALL, false).unwrap();
    let mut fixture = fixture(&lab);
    let sniffer = capture(&lab.sensor.namespace, Filter::Incoming);
    let block = Block::of_udp(100, 50, 200);
    let built = mirror(
        &lab,
        &mut fixture,
        &block,
        &table(&[sensor(lab.sensor.ipv6)]),
    );
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

/// Mirrors frames that are too long for a hop of 1,400 bytes, until its router has reported it and at most one
/// batch is lost. Returns the frames and the report.
fn mirror_until_the_hop_is_found(
    lab: &Lab,
    fixture: &mut Fixture,
    table: &SensorTable,
) -> (Block, Report) {
    // The outer packet has 1,500 bytes over IPv6, and 1,480 over IPv4.
    let block = Block::of_udp(8, 8, 1500 - 56 - 42);
    let path_mtu = || table.sensors()[0].path_mtu().get();
    mirror_until(lab, fixture, &block, table, |_, _| path_mtu() == 1400);
    let lost = fixture.totals.datagrams_dropped.of(DropReason::PathMtu);
    assert!(lost <= 8, "at most one batch is too long: {lost}");
    assert_eq!(fixture.totals.datagrams_dropped.sum(), lost);
    let report = fixture.transmitter.report(table);
    assert_eq!(report.sensors[0].path_mtu.map(wire::Mtu::get), Some(1400));
    (block, report)
}

fn the_mtu_of_a_routed_hop_is_found() {
    let lab = Lab::builder().routed(1400).build().unwrap();
    let addresses = [
        (IpAddr::from(lab.sensor.ipv4), IPV4),
        (lab.sensor.ipv6.into(), IPV6),
    ];
    for (address, ether_type) in addresses {
        let mut fixture = fixture(&lab);
        let table = table(&[sensor(address)]);
        let sniffer = capture(&lab.pod.namespace, Filter::Outgoing);
        let (block, _) = mirror_until_the_hop_is_found(&lab, &mut fixture, &table);

        // From here on, the datagrams fit the path.
        let before = fixture.totals;
        let built = mirror(&lab, &mut fixture, &block, &table);
        assert_eq!(count(&built, Outcome::Sent), built.len());
        assert!(built.len() > 8, "inner fragments");
        assert_eq!(fixture.totals.frames_mirrored, before.frames_mirrored + 8);
        assert_no_fragments(&packets(sniffer, ether_type), ether_type);
    }
}

fn a_lowered_interface_mtu_is_found() {
    let lab = Lab::builder().build().unwrap();
    let mut fixture = fixture(&lab);
    let table = table(&[sensor(lab.sensor.ipv4), sensor(lab.sensor.ipv6)]);
    let block = Block::of_udp(100, 50, 1500 - 56 - 42);
    mirror_until(&lab, &mut fixture, &block, &table, all_sent);
    lab.pod.eth0.set_mtu(1420).unwrap();
    let built = mirror(&lab, &mut fixture, &block, &table);
    assert_eq!(count(&built, dropped(DropReason::PathMtu)), 100);
    assert!(
        table
            .sensors()
            .iter()
            .all(|sensor| sensor.path_mtu().get() == 1420)
    );
    let built = mirror(&lab, &mut fixture, &block, &table);
    assert_eq!(count(&built, Outcome::Sent), built.len());
    assert!(built.len() > 100);
}

fn no_route_is_counted_and_ends() {
    let lab = Lab::builder().build().unwrap();
    let mut fixture = fixture(&lab);
    let nowhere = sensor(Ipv4Addr::new(10, 99, 0, 3));
    let table = table(&[nowhere, sensor(lab.sensor.ipv4)]);
    let block = Block::of_udp(200, 100, 100);
    let built = mirror(&lab, &mut fixture, &block, &table);
    let lost = built.iter().filter(|datagram| datagram.sensor == 0).count();
    assert!(lost > 20);
    assert_eq!(count(&built, dropped(DropReason::Unreachable)), lost);
    assert_eq!(
        count(&built, Outcome::Sent),
        built.len() - lost,
        "the other sensor gets its datagrams"
    );
    let report = fixture.transmitter.report(&table);
    let unreachable = report.sensors.iter().filter(|entry| entry.unreachable > 0);
    let unreachable: Vec<_> = unreachable
        .map(|entry| (entry.sensor, entry.unreachable))
        .collect();
    assert_eq!(unreachable, [(nowhere, 2)], "given up after two");

    let by_the_sensor = (IpAddr::from(Ipv4Addr::new(10, 99, 0, 0)), 24);
    lab.pod
        .namespace
        .add_route(by_the_sensor, lab.sensor.ipv4.into())
        .unwrap();
    let built = mirror(&lab, &mut fixture, &block, &table);
    assert_eq!(count(&built, Outcome::Sent), built.len());
}

fn a_router_without_the_sensor() {
    let lab = Lab::builder().routed(1500).build().unwrap();
    let address = IpAddr::from(lab.sensor.ipv4);
    let mut fixture = fixture(&lab);
    let table = table(&[sensor(address)]);
    let block = Block::of_udp(10, 10, 100);
    lab.sensor.eth0.remove_address(address, 24).unwrap();
    // This clears the router's neighbour entry.
    lab.sensor.port.down().unwrap();
    lab.sensor.port.up().unwrap();
    mirror_until(&lab, &mut fixture, &block, &table, |fixture, built| {
        assert!(
            all_sent(fixture, built),
            "an error from the router drops nothing"
        );
        let report = fixture.transmitter.report(&table);
        report.sensors.iter().any(|entry| entry.unreachable > 0)
    });

    lab.sensor.eth0.add_address(address, 24).unwrap();
    let receiver = lab
        .sensor
        .namespace
        .run(|| UdpSocket::bind(sensor(address)))
        .unwrap();
    receiver.set_nonblocking(true).unwrap();
    let back = mirror_until(&lab, &mut fixture, &block, &table, |fixture, built| {
        assert!(all_sent(fixture, built));
        receiver.recv(&mut [0; 2000]).is_ok()
    });
    // The router requests the neighbour's address once a second.
    assert!(back < Duration::from_secs(3), "{back:?}");
}

/// As behind a Service's address: the router translates the sensor's address, and its errors have the
/// address that the pod sent to.
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

        let mut fixture = fixture(&lab);
        let table = table(&[sensor(service)]);
        let block = Block::of_udp(10, 10, 100);
        mirror_until(&lab, &mut fixture, &block, &table, |fixture, built| {
            assert!(
                all_sent(fixture, built),
                "an error from the router drops nothing"
            );
            let report = fixture.transmitter.report(&table);
            let Some(entry) = report.sensors.first() else {
                return false;
            };
            assert_eq!(entry.refused_by_host, 0, "it is dead: {entry:?}");
            assert!(entry.unreachable > 0, "{entry:?}");
            assert_eq!(entry.unreachable_by, Some(service), "translated: {entry:?}");
            true
        });
    }
}

fn a_silent_neighbour_is_reported() {
    let lab = Lab::builder().build().unwrap();
    let mut fixture = fixture(&lab);
    let silent = sensor(Ipv4Addr::new(10, 77, 0, 99));
    let table = table(&[silent, sensor(lab.sensor.ipv4)]);
    let block = Block::of_udp(20, 20, 100);
    let took = mirror_until(&lab, &mut fixture, &block, &table, |fixture, built| {
        assert!(
            all_sent(fixture, built),
            "a neighbour without an answer drops nothing"
        );
        let report = fixture.transmitter.report(&table);
        let entries = report.sensors.iter().filter(|entry| entry.unreachable > 0);
        let dead: Vec<_> = entries.map(|entry| entry.sensor).collect();
        assert!(dead.is_empty() || dead == [silent], "{dead:?}");
        !dead.is_empty()
    });
    // Three requests, a second apart; see the crate's documentation of "sent".
    assert!(took > Duration::from_secs(1), "{took:?}");
}

fn a_batch_waits_for_a_full_socket_only_once() {
    let lab = Lab::builder().build().unwrap();
    // The smallest buffer that the kernel allows, and a neighbour that does not answer, so that all
    // datagrams stay in it.
    let config = SocketConfig {
        send_buffer: 1,
        source_ports: SourcePorts::MAX,
        ..SocketConfig::new(MARK)
    };
    let mut fixture = lab.pod.namespace.run(|| Fixture::new(config));
    let silent = table(&[sensor(Ipv4Addr::new(10, 77, 0, 99))]);
    let block = Block::of_udp(500, 50, 1000);
    let start = Instant::now();
    let built = mirror(&lab, &mut fixture, &block, &silent);
    let took = start.elapsed();
    let sent = count(&built, Outcome::Sent);
    assert!(sent >= 16, "at least one a socket: {sent}");
    assert_eq!(count(&built, dropped(DropReason::QueueFull)), 500 - sent);
    assert!(
        took < Duration::from_millis(500),
        "{took:?}, of which 4 ms are for waiting"
    );

    // When the kernel gives the neighbour up, the sockets are empty again, and a reachable sensor gets all.
    let reachable = table(&[sensor(lab.sensor.ipv4)]);
    let few = Block::of_udp(16, 16, 100);
    mirror_until(&lab, &mut fixture, &few, &reachable, all_sent);
    let received = {
        let sniffer = capture(&lab.sensor.namespace, Filter::Incoming);
        let built = mirror(
            &lab,
            &mut fixture,
            &Block::of_udp(500, 50, 1000),
            &reachable,
        );
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
    let mut fixture = fixture(&lab);
    let table = table(&[sensor(lab.sensor.ipv4)]);
    let block = Block::of_udp(100, 50, 100);
    mirror_until(&lab, &mut fixture, &block, &table, all_sent);
    lab.pod.eth0.down().unwrap();
    let built = mirror(&lab, &mut fixture, &block, &table);
    assert_eq!(count(&built, dropped(DropReason::Unreachable)), 100);
    lab.pod.eth0.up().unwrap();
    let sniffer = capture(&lab.sensor.namespace, Filter::Incoming);
    let back = mirror_until(&lab, &mut fixture, &block, &table, all_sent);
    assert!(back < Duration::from_secs(1), "{back:?}");
    // The kernel resolves the neighbour's address first.
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
    // Capabilities are those of the thread, and `run` starts a new thread.
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
