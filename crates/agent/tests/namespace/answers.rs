//! Answers of the network about sensors: from firewalls, from routers, and forged ICMP.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use testbed::traffic::{Family, RawSocket, UdpStream, udp_stream};
use testbed::{Decoded, Frame, Host, Lab, Namespace, Process, Sniffer};

use crate::scene::{LIMIT, PORT, VNI, decoded_at, podspan, sensor_of};
use crate::totals::Totals;

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "a_host_that_prohibits_probes_is_alive_and_returns",
        prohibited_probe,
    ),
    (
        "a_prohibition_by_a_sniffers_host_moves_no_flow",
        one_sniffer,
    ),
    (
        "two_sniffers_behind_firewalls_keep_their_flows",
        two_sniffers,
    ),
    (
        "a_socket_behind_a_firewall_is_retried_with_backoff",
        prohibited_socket,
    ),
    (
        "a_router_that_prohibits_is_named_and_the_flows_move_to_the_other_sensor",
        prohibiting_router,
    ),
    (
        "a_sensor_that_its_router_cannot_reach_is_ejected_and_returns",
        gone_behind_a_router,
    ),
    (
        "a_silent_ipv6_neighbour_is_ejected_and_returns",
        silent_ipv6_neighbour,
    ),
    ("a_forged_unreachable_moves_no_flow", forged),
];

/// The port of the probes.
const DISCARD: u16 = 9;
/// The texts in each log line about an ejection and about a return.
const EJECTED: &str = " its flows address=";
const RETURNED: &str = "a sensor is healthy again; it gets its flows back";

/// Adds a firewall rule that rejects datagrams to a port as administratively prohibited.
fn prohibit(namespace: &Namespace, hook: &str, port: u16) {
    let rules = format!(
        "add table inet t; \
         add chain inet t c {{ type filter hook {hook} priority 0; }}; \
         add rule inet t c udp dport {port} reject with icmpx type admin-prohibited"
    );
    let output = namespace.command("nft").arg(rules).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "nft: {text}");
}

/// Sends flows of twenty datagrams, one after the other, for some time.
fn flows_for(lab: &Lab, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        flow(lab);
    }
}

fn flow(lab: &Lab) {
    let stream = UdpStream {
        size: 64,
        count: 20,
        per_second: 400,
    };
    udp_stream(&lab.client, &lab.pod, Family::V4, stream).unwrap();
}

/// Sends flows until the log has a text.
fn flows_until(lab: &Lab, agent: &Process, text: &str) {
    let end = Instant::now() + LIMIT * 2;
    while !agent.stderr().contains(text) {
        assert!(Instant::now() < end, "no {text:?} in\n{}", agent.stderr());
        flow(lab);
    }
}

fn start(lab: &Lab, sensors: &str, receiver: &str) -> Process {
    // There is only one pair of hosts: its flows must reach all sensors.
    let environment = [
        ("SENSOR", sensors),
        ("RECEIVER", receiver),
        ("SPREAD", "flows"),
    ];
    let mut agent = Process::spawn(podspan(lab, &environment)).unwrap();
    agent.wait_for_output("capturing (index", LIMIT).unwrap();
    agent
}

/// Stops podspan and returns its log.
fn end(mut agent: Process) -> String {
    agent.terminate().unwrap();
    assert!(agent.wait(LIMIT).unwrap().success());
    let log = agent.stderr();
    Totals::read(&log);
    log
}

/// How many ejections and returns a log has.
fn changes(log: &str) -> (usize, usize) {
    let count = |text| log.matches(text).count();
    (count(EJECTED), count(RETURNED))
}

fn tap(host: &Host) -> Sniffer<Decoded<Vec<Frame>>> {
    // Earlier frames are still on their way through the ring.
    thread::sleep(Duration::from_millis(100));
    decoded_at(host)
}

fn copies(tap: Sniffer<Decoded<Vec<Frame>>>) -> usize {
    thread::sleep(Duration::from_millis(100));
    let (Decoded { sink, .. }, _) = tap.stop().unwrap();
    let is_copy = |frame: &&Frame| frame.bytes.len() == 64 + 42;
    sink.iter().filter(is_copy).count()
}

/// A sensor's host comes up, and its firewall prohibits the probes, but not the copies.
fn prohibited_probe() {
    let lab = Lab::builder().build().unwrap();
    let second = lab.add_host(4).unwrap();
    let missing: Ipv4Addr = [10, 77, 0, 99].into();
    let both = format!("{},{missing}:{PORT}", sensor_of(&lab, Family::V4));
    let agent = start(&lab, &both, "sniffer");
    flows_until(&lab, &agent, EJECTED);
    prohibit(&second.namespace, "input", DISCARD);
    second.eth0.add_address(missing.into(), 24).unwrap();
    flows_until(&lab, &agent, RETURNED);
    flows_for(&lab, Duration::from_secs(2));
    let log = end(agent);
    assert_eq!(changes(&log), (1, 1), "{log}");
}

/// Two sniffing sensors. The first `rejecting` hosts reject copies, and both sensors still get them.
fn sniffers(family: Family, rejecting: usize) {
    let lab = Lab::builder().build().unwrap();
    let second = lab.add_host(4).unwrap();
    let hosts = [&second, &lab.sensor];
    let addresses = hosts.map(|host| SocketAddr::new(family.address(host), PORT));
    let both = addresses.map(|address| address.to_string()).join(",");
    for host in &hosts[..rejecting] {
        prohibit(&host.namespace, "input", PORT);
    }
    let agent = start(&lab, &both, "sniffer");
    flows_for(&lab, Duration::from_secs(4));
    let taps = hosts.map(tap);
    for _ in 0..32 {
        flow(&lab);
    }
    let [first, other] = taps.map(copies);
    let log = end(agent);
    assert!(!log.contains("flows"), "{log}");
    assert!(first > 0 && other > 0, "{first} and {other}: {log}");
    assert_eq!(first + other, 32 * 20, "{log}");
    for (address, is_rejecting) in addresses.iter().zip([true, rejecting > 1]) {
        let said = format!(
            "the sniffer still gets them address={address} by={}",
            address.ip()
        );
        let times = log.matches(&said).count();
        assert_eq!(times, usize::from(is_rejecting), "once a minute: {log}");
    }
}

fn one_sniffer() {
    for family in [Family::V4, Family::V6] {
        sniffers(family, 1);
    }
}

fn two_sniffers() {
    for family in [Family::V4, Family::V6] {
        sniffers(family, 2);
    }
}

/// The host answers the probes, and its firewall rejects the copies.
fn prohibited_socket() {
    let lab = Lab::builder().vxlan(VNI, PORT).build().unwrap();
    let second = lab.add_host(4).unwrap();
    prohibit(&second.namespace, "input", PORT);
    let both = format!("{},{}:{PORT}", sensor_of(&lab, Family::V4), second.ipv4);
    let agent = start(&lab, &both, "socket");
    flows_until(&lab, &agent, EJECTED);
    let ejected = Instant::now();
    flows_until(&lab, &agent, RETURNED);
    let time = ejected.elapsed();
    assert!(time >= Duration::from_secs(2), "4 s, not {time:?}");
    let end_of_waiting = Instant::now() + LIMIT;
    while changes(&agent.stderr()).0 < 2 {
        assert!(Instant::now() < end_of_waiting, "{}", agent.stderr());
        flow(&lab);
    }
    // The second ejection lasts 8 s.
    flows_for(&lab, Duration::from_secs(3));
    let log = end(agent);
    assert_eq!(changes(&log), (2, 1), "{log}");
    let said = "a firewall rejects the copies to a sensor; the other sensor gets its flows";
    assert!(
        log.contains(&format!("{said} address=10.77.0.4:4789")),
        "{log}"
    );
    let said = "the socket does not get them address=10.77.0.4:4789 by=10.77.0.4";
    assert_eq!(log.matches(said).count(), 1, "once a minute: {log}");
}

/// Copies that the router rejects reach no sensor.
fn prohibiting_router() {
    for family in [Family::V4, Family::V6] {
        let lab = Lab::builder().routed(1500).build().unwrap();
        let second = lab.add_host(4).unwrap();
        let router = lab.router.clone().unwrap();
        prohibit(&router, "forward", PORT);
        let far = sensor_of(&lab, family);
        let both = format!("{far},{}:{PORT}", second.ipv4);
        let agent = start(&lab, &both, "sniffer");
        flows_until(&lab, &agent, EJECTED);
        let tap = tap(&second);
        for _ in 0..16 {
            flow(&lab);
        }
        assert_eq!(copies(tap), 16 * 20, "{}", agent.stderr());
        let log = end(agent);
        let said = "a firewall rejects the copies to a sensor; the other sensor gets its flows";
        assert!(log.contains(&format!("{said} address={far}")), "{log}");
        let by = match family {
            Family::V4 => "10.77.0.254",
            Family::V6 => "fd77::fe",
        };
        let said =
            format!("a firewall on the path to a sensor rejects the copies address={far} by={by}");
        assert_eq!(log.matches(&said).count(), 1, "once a minute: {log}");
    }
}

/// The router reports it. Such a report can be forged, so a probe must fail before the ejection.
fn gone_behind_a_router() {
    let lab = Lab::builder().routed(1500).build().unwrap();
    let second = lab.add_host(4).unwrap();
    let far = lab.sensor.ipv4.into();
    let both = format!("{},{}:{PORT}", sensor_of(&lab, Family::V4), second.ipv4);
    lab.sensor.eth0.remove_address(far, 24).unwrap();
    // This clears the router's neighbour entry.
    lab.sensor.port.down().unwrap();
    lab.sensor.port.up().unwrap();
    out_and_in_again(&lab, &both, || {
        lab.sensor.eth0.add_address(far, 24).unwrap();
        let default = (Ipv4Addr::UNSPECIFIED.into(), 0);
        let router = Ipv4Addr::new(10, 78, 0, 254);
        lab.sensor
            .namespace
            .add_route(default, router.into())
            .unwrap();
    });
}

/// podspan's own kernel reports it, in a way that can be forged over IPv6.
fn silent_ipv6_neighbour() {
    let lab = Lab::builder().build().unwrap();
    let second = lab.add_host(4).unwrap();
    let missing = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x99);
    let both = format!("{},[{missing}]:{PORT}", sensor_of(&lab, Family::V6));
    out_and_in_again(&lab, &both, || {
        second.eth0.add_address(missing.into(), 64).unwrap();
    });
}

/// One of two sensors is unreachable at first, and reachable later.
fn out_and_in_again(lab: &Lab, sensors: &str, repair: impl FnOnce()) {
    let agent = start(lab, sensors, "sniffer");
    flows_until(lab, &agent, EJECTED);
    repair();
    flows_until(lab, &agent, RETURNED);
    flows_for(lab, Duration::from_secs(2));
    let log = end(agent);
    assert!(log.contains("a sensor is unhealthy"), "{log}");
    let said = "a sensor is unreachable; the other sensor gets its flows";
    assert!(log.contains(said), "{log}");
    assert!(log.contains("why=\"its host answers\""), "{log}");
    assert_eq!(changes(&log), (1, 1), "{log}");
}

/// A neighbour sends forged reports of a router that the sensor is unreachable.
fn forged() {
    let lab = Lab::builder().build().unwrap();
    let second = lab.add_host(4).unwrap();
    let both = format!("{},{}:{PORT}", sensor_of(&lab, Family::V4), second.ipv4);
    let agent = start(&lab, &both, "sniffer");
    let forger = RawSocket::open(&lab.client.eth0).unwrap();
    let end_of_forging = Instant::now() + Duration::from_secs(8);
    while Instant::now() < end_of_forging {
        for port in 61_000..61_016 {
            forger.send(&unreachable(&lab, port)).unwrap();
        }
        flow(&lab);
    }
    let log = end(agent);
    assert!(
        log.contains("a sensor is unhealthy"),
        "the report was read: {log}"
    );
    assert!(!log.contains("flows"), "{log}");
}

/// "Host unreachable" about a datagram from a port of the pod to the sensor.
pub(crate) fn unreachable(lab: &Lab, port: u16) -> Vec<u8> {
    let router = Ipv4Addr::new(10, 77, 0, 254);
    error(lab, router, 1, [port, PORT])
}

/// "Port unreachable" in the name of the sensor, about a datagram from one port to the other.
pub(crate) fn closed(lab: &Lab, ports: [u16; 2]) -> Vec<u8> {
    error(lab, lab.sensor.ipv4, 3, ports)
}

fn error(lab: &Lab, from: Ipv4Addr, code: u8, [port, to]: [u16; 2]) -> Vec<u8> {
    let mut udp = [port.to_be_bytes(), to.to_be_bytes(), [0, 8], [0, 0]].concat();
    let quoted = ipv4(17, lab.pod.ipv4, lab.sensor.ipv4, &mut udp);
    let mut icmp = [&[3, code, 0, 0, 0, 0, 0, 0], &quoted[..]].concat();
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum);
    let packet = ipv4(1, from, lab.pod.ipv4, &mut icmp);
    [&lab.pod.mac[..], &lab.client.mac, &[8, 0], &packet].concat()
}

fn ipv4(protocol: u8, from: Ipv4Addr, to: Ipv4Addr, payload: &mut Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut header = [
        &[0x45, 0],
        &length[..],
        &[0, 0, 0x40, 0, 64, protocol, 0, 0],
    ]
    .concat();
    header.extend(from.octets());
    header.extend(to.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    header.append(payload);
    header
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}
