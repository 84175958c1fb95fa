//! Encrypted tunnels: podspan, `podspan-receive` beside the sensor, and all traffic between them searched for plain
//! bytes. The other end is also wireguard-go, which others wrote.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use testbed::traffic::{Family, ping};
use testbed::{Filter, Frame, Lab, LabBuilder, Process, Sniffer, WireguardEnd};
use tunnel::{PresharedKey, PrivateKey};

use crate::scene::{PORT, own_frames};
use crate::streams::Streams;
use crate::totals::Totals;
use crate::truth::{compare_streams, mixed_traffic, verify_with_etherparse, verify_with_tshark};
use crate::tunnel_ends::{
    Keys, LIMIT, TUNNEL_PORT, Wire, build, end, numbers, opened_at, sensor_at, stop, stream,
};

/// A scene that mostly waits: for the time after which sessions are made anew.
pub(crate) const LONG: &[(&str, fn())] = &[("a_rekey_under_load_loses_and_doubles_nothing", rekey)];

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "all_traffic_arrives_right_through_a_tunnel_over_ipv4",
        || {
            everything(&Lab::builder(), Family::V4, &[]);
        },
    ),
    (
        "all_traffic_arrives_right_through_a_tunnel_over_ipv6",
        || {
            let inner = [
                ("WG_ADDRESS", "fd00:9::2"),
                ("WG_SENSOR_ADDRESS", "fd00:9::1"),
            ];
            everything(&Lab::builder(), Family::V6, &inner);
        },
    ),
    (
        "all_traffic_arrives_right_through_a_tunnel_over_a_smaller_path_mtu",
        || everything(&Lab::builder().routed(1400), Family::V4, &[]),
    ),
    (
        "a_rotation_of_the_keys_under_load_loses_and_doubles_nothing",
        rotation,
    ),
    (
        "keys_that_appear_later_are_used_and_nothing_is_sent_before",
        crate::tunnel_keys::late,
    ),
    (
        "the_first_frames_wait_for_the_session_and_none_is_lost",
        start,
    ),
    (
        "without_a_session_frames_are_counted_and_nothing_is_sent",
        without_session,
    ),
    (
        "a_sensor_that_is_restarted_has_a_session_again_within_seconds_and_the_other_gets_its_flows",
        failover,
    ),
    ("wireguard_go_opens_what_podspan_seals", wireguard_go),
    (
        "a_flood_to_the_port_of_the_tunnel_loses_nothing_and_costs_little",
        crate::tunnel_flood::flood,
    ),
    (
        "a_handshake_is_done_while_forged_errors_fill_the_queue",
        crate::tunnel_flood::forged_errors,
    ),
    (
        "forged_errors_eject_a_sensor_that_answers_handshakes_once_at_most",
        crate::tunnel_flood::forged_failure,
    ),
];

/// Sends every kind of traffic and verifies the copies behind the tunnel.
fn everything(lab: &LabBuilder, underlay: Family, inner: &[(&str, &str)]) {
    let lab = lab.build().unwrap();
    if lab.router.is_some() {
        // The first datagram above the path MTU is lost; after it the kernel has the path MTU.
        let to = underlay.address(&lab.sensor);
        let _ = ping(&lab.pod.namespace, to, 1450, Duration::from_secs(1));
    }
    let keys = Keys::new();
    let in_pod = Sniffer::start(&lab.pod.namespace, "eth0", Filter::All, Streams::default());
    let in_pod = in_pod.unwrap();
    let (receive, opened) = (keys.receive(&lab.sensor), opened_at(&lab.sensor));
    let wire = Wire::at(&lab.sensor);
    let sensor = SocketAddr::new(underlay.address(&lab.sensor), TUNNEL_PORT);
    let mut agent = keys.podspan(&lab, &[sensor], inner);
    agent.wait_for_output("a sensor is up", LIMIT).unwrap();
    let connections = mixed_traffic(&lab);
    let totals = Totals::read(&end(agent));
    thread::sleep(Duration::from_millis(200));
    let (captured, capture) = in_pod.stop().unwrap();
    assert_eq!(capture.dropped, 0, "the capture in the pod lost nothing");
    let (frames, log) = (stop(opened), end(receive));

    totals.assert_lossless_but(&[]);
    assert_eq!(frames.len() as u64, totals.get("datagrams_sent"), "{log}");
    let (pod, sensor) = (underlay.address(&lab.pod), underlay.address(&lab.sensor));
    assert_eq!(own_frames(&frames, pod, sensor), 0, "no frame of podspan");
    verify_with_etherparse(&frames);
    compare_streams(&frames, &captured, &connections);
    verify_with_tshark(&frames, &captured);
    Wire::assert_sealed(wire);
    // What the tunnel takes of the path's MTU, and not a byte more: TCP fills the segments.
    let path_mtu = if lab.router.is_some() { 1400 } else { 1500 };
    let outer = if underlay == Family::V4 { 96 } else { 136 };
    let longest = frames.iter().map(|frame| frame.bytes.len()).max();
    assert_eq!(longest, Some(path_mtu - outer));
}

fn rotation() {
    const COUNT: u32 = 8000;
    let (lab, mut keys) = (Lab::builder().build().unwrap(), Keys::new());
    let (receive, opened) = (keys.receive(&lab.sensor), opened_at(&lab.sensor));
    let wire = Wire::at(&lab.sensor);
    let mut agent = keys.podspan(&lab, &[sensor_at(&lab.sensor)], &[]);
    agent.wait_for_output("a sensor is up", LIMIT).unwrap();
    thread::scope(|scope| {
        let stream = scope.spawn(|| stream(&lab, 0..COUNT, 1000));
        thread::sleep(Duration::from_secs(1));
        // The sensor has both keys first, then podspan has the new one, then the old one goes.
        let next = PresharedKey::generate();
        let (old, new) = (keys.preshared.to_base64(), next.to_base64());
        keys.write("preshared-keys", &[&old, &new]);
        thread::sleep(Duration::from_secs(2));
        keys.write("preshared-key", &[&new]);
        thread::sleep(Duration::from_secs(3));
        keys.write("preshared-keys", &[&new]);
        keys.preshared = next;
        stream.join().unwrap();
    });
    let log = end(agent);
    thread::sleep(Duration::from_millis(200));
    let frames = stop(opened);
    assert!(
        log.contains("the keys of the tunnels have changed"),
        "{log}"
    );
    let sessions = log
        .matches("a session of the tunnel is established")
        .count();
    assert!(sessions >= 2, "{log}");
    assert!(!log.contains("is down"), "{log}");
    Totals::read(&log).assert_lossless_but(&[]);
    let expected: Vec<u32> = (0..COUNT).collect();
    assert!(
        numbers(&frames) == expected,
        "lost, doubled or in another order"
    );
    let log = end(receive);
    assert!(log.contains("the pre-shared keys have changed"), "{log}");
    Wire::assert_sealed(wire);
}

/// The second session is made 100 to 120 seconds after the first one.
fn rekey() {
    const SECONDS: u32 = 130;
    const PER_SECOND: u32 = 200;
    let (lab, keys) = (Lab::builder().build().unwrap(), Keys::new());
    let (receive, opened) = (keys.receive(&lab.sensor), opened_at(&lab.sensor));
    let wire = Wire::at(&lab.sensor);
    let mut agent = keys.podspan(&lab, &[sensor_at(&lab.sensor)], &[]);
    agent.wait_for_output("a sensor is up", LIMIT).unwrap();
    let all = 0..SECONDS * PER_SECOND;
    stream(&lab, all.clone(), PER_SECOND);
    let log = end(agent);
    thread::sleep(Duration::from_millis(200));
    let frames = stop(opened);
    let sessions = log
        .matches("a session of the tunnel is established")
        .count();
    assert_eq!(sessions, 2, "{log}");
    assert!(!log.contains("is down"), "{log}");
    Totals::read(&log).assert_lossless_but(&[]);
    assert!(numbers(&frames) == all.collect::<Vec<_>>(), "{log}");
    end(receive);
    Wire::assert_sealed(wire);
}

fn start() {
    const COUNT: u32 = 1000;
    let (lab, keys) = (Lab::builder().build().unwrap(), Keys::new());
    let (opened, wire) = (opened_at(&lab.sensor), Wire::at(&lab.sensor));
    let agent = keys.podspan(&lab, &[sensor_at(&lab.sensor)], &[("START_WAIT", "30s")]);
    let receive = thread::scope(|scope| {
        let stream = scope.spawn(|| stream(&lab, 0..COUNT, 500));
        thread::sleep(Duration::from_secs(1));
        let receive = keys.receive(&lab.sensor);
        stream.join().unwrap();
        receive
    });
    let mut agent = agent;
    agent.wait_for_output("a sensor is up", LIMIT).unwrap();
    let log = end(agent);
    thread::sleep(Duration::from_millis(200));
    let frames = stop(opened);
    Totals::read(&log).assert_lossless_but(&[]);
    assert!(numbers(&frames) == (0..COUNT).collect::<Vec<_>>(), "{log}");
    end(receive);
    Wire::assert_sealed(wire);
}

fn without_session() {
    let (lab, keys) = (Lab::builder().build().unwrap(), Keys::new());
    // A sensor with another pre-shared key, which somebody has confused.
    let mut other = Keys::new();
    other.sensor = keys.sensor.clone();
    other.write("private-key", &[&keys.sensor.to_base64()]);
    let receive = other.receive(&lab.sensor);
    let wire = Wire::at(&lab.sensor);
    let wait = [("START_WAIT", "0s")];
    let mut agent = keys.podspan(&lab, &[sensor_at(&lab.sensor)], &wait);
    stream(&lab, 0..500, 1000);
    agent.wait_for_output("does not answer", LIMIT).unwrap();
    let log = end(agent);
    let totals = Totals::read(&log);
    assert_eq!(totals.get("datagrams_sent"), 0, "{log}");
    assert!(totals.frames_dropped["no_session"] >= 500, "{totals:?}");
    assert!(
        log.contains("both ends have the same pre-shared key"),
        "{log}"
    );
    let (wire, _) = wire.stop().unwrap();
    assert!(wire.plain == 0 && wire.sealed > 0, "handshakes only");
    let log = end(receive);
    assert!(log.contains("opened=0"), "{log}");
}

fn failover() {
    let (lab, keys) = (Lab::builder().build().unwrap(), Keys::new());
    let second = lab.add_host(4).unwrap();
    let hosts = [&lab.sensor, &second];
    let opened = hosts.map(opened_at);
    let wires = hosts.map(Wire::at);
    let [mut first, other] = hosts.map(|host| keys.receive(host));
    let sensors = hosts.map(sensor_at);
    // There is one pair of hosts; with flows, each stream is a new one.
    let mut agent = keys.podspan(&lab, &sensors, &[("SPREAD", "flows")]);
    for sensor in sensors {
        let line = format!("the tunnel to a sensor is up sensor={sensor}");
        agent.wait_for_output(&line, LIMIT).unwrap();
    }
    let streams = |lab: &Lab, from: u32| {
        for number in 0..40 {
            let first = from + number * 10;
            stream(lab, first..first + 10, 1000);
        }
    };
    streams(&lab, 0);
    thread::sleep(Duration::from_millis(500));
    first.signal(Signal::SIGKILL).unwrap();
    first.wait(LIMIT).unwrap();
    // Its host answers that the port is closed.
    let ejected = Instant::now();
    while !agent.stderr().contains("is closed") {
        assert!(ejected.elapsed() < LIMIT, "{}", agent.stderr());
        stream(&lab, 9_000_000..9_000_020, 1000);
    }
    streams(&lab, 1000);
    let again = keys.receive(&lab.sensor);
    let begun = Instant::now();
    let sessions = |agent: &Process| {
        let line = format!(
            "a session of the tunnel is established sensor={}",
            sensors[0]
        );
        agent.stderr().matches(&line).count()
    };
    let before = sessions(&agent);
    while sessions(&agent) == before {
        assert!(begun.elapsed() < LIMIT, "{}", agent.stderr());
        stream(&lab, 9_000_000..9_000_020, 1000);
    }
    println!(
        "a restarted sensor had a session again after {:?}",
        begun.elapsed()
    );
    let log = end(agent);
    thread::sleep(Duration::from_millis(200));
    let [at_first, at_second] = opened.map(|sniffer| numbers(&stop(sniffer)));
    let within = |numbers: &[u32], range: std::ops::Range<u32>| {
        numbers
            .iter()
            .filter(|number| range.contains(number))
            .count()
    };
    assert!(
        within(&at_first, 0..400) > 0 && within(&at_second, 0..400) > 0,
        "{log}"
    );
    let both = within(&at_first, 0..400) + within(&at_second, 0..400);
    assert_eq!(both, 400, "all before the failure: {log}");
    assert_eq!(
        within(&at_second, 1000..1400),
        400,
        "all after the ejection: {log}"
    );
    for wire in wires {
        Wire::assert_sealed(wire);
    }
    end(again);
    end(other);
}

/// wireguard-go lists podspan as a peer, with its public key and its address.
fn wireguard_go() {
    const COUNT: u32 = 500;
    let (lab, keys) = (Lab::builder().build().unwrap(), Keys::new());
    let own = PrivateKey::generate();
    keys.write("own", &[&own.to_base64()]);
    let end_of_tunnel = WireguardEnd {
        private: keys.sensor.secret().to_bytes(),
        peer: *own.public().as_bytes(),
        preshared: keys.preshared.bytes(),
        port: TUNNEL_PORT,
        endpoint: None,
        address: Ipv4Addr::new(10, 9, 0, 1).into(),
        other: Ipv4Addr::new(10, 9, 0, 2).into(),
        mtu: WireguardEnd::MTU,
    };
    let end_of_tunnel = end_of_tunnel.start(build(), &lab.sensor.namespace, None);
    let end_of_tunnel = end_of_tunnel.unwrap();
    let socket = lab
        .sensor
        .namespace
        .run(|| UdpSocket::bind(("10.9.0.1", PORT)))
        .unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let wire = Wire::at(&lab.sensor);
    let own_file = keys.path("own");
    let settings = [
        ("WG_PRIVATE_KEY_FILE", own_file.as_str()),
        ("WG_ADDRESS", "10.9.0.2"),
        ("WG_SENSOR_ADDRESS", "10.9.0.1"),
    ];
    let mut agent = keys.podspan(&lab, &[sensor_at(&lab.sensor)], &settings);
    agent.wait_for_output("a sensor is up", LIMIT).unwrap();
    let mut buffer = [0; 2048];
    let mut frames = Vec::new();
    for number in 0..COUNT {
        stream(&lab, number..number + 1, 500);
        // Other frames of the pod arrive too.
        while numbers(&frames).len() <= number as usize {
            let length = socket.recv(&mut buffer).unwrap();
            let bytes = buffer[8..length].to_vec();
            frames.push(Frame {
                bytes,
                ..Frame::default()
            });
        }
    }
    assert_eq!(numbers(&frames), (0..COUNT).collect::<Vec<_>>());
    Totals::read(&end(agent)).assert_lossless_but(&[]);
    Wire::assert_sealed(wire);
    drop(end_of_tunnel);
}
