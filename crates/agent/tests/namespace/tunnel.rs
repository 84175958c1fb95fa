//! Encrypted tunnels: podspan, `podspan-receive` beside the sensor, and all traffic between them searched for plain
//! bytes. The other end is also wireguard-go, which others wrote.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use testbed::traffic::{Family, ping};
use testbed::{
    Decoded, Decoder, Filter, Frame, FrameRef, Host, Lab, LabBuilder, Process, Sink, Sniffer,
    WireguardEnd, build_wireguard,
};
use tunnel::{PresharedKey, PrivateKey};

use crate::scene::{PORT, VNI, own_frames, podspan};
use crate::streams::Streams;
use crate::totals::Totals;
use crate::truth::{compare_streams, mixed_traffic, verify_with_etherparse, verify_with_tshark};

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

/// Longer than anything here takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// The usual port of WireGuard.
pub(crate) const TUNNEL_PORT: u16 = 51_820;
/// In the payload of each datagram of a [`stream`], and nowhere else.
pub(crate) const PATTERN: &[u8; 32] = b"plain bytes that nobody may read";
/// A process with this variable is `podspan-receive`.
const RUN_AS: &str = "PODSPAN_TEST_RUNS_AS_RECEIVE";

/// Runs `podspan-receive` if the environment asks for it.
pub(crate) fn run_as_receive() -> Option<ExitCode> {
    std::env::var_os(RUN_AS)?;
    let (program, read) = (&receive::PROGRAM, receive::Config::read);
    Some(program::main(program, read, |config| receive::run(&config)))
}

/// Builds wireguard-go, if it is not there.
pub(crate) fn build() -> PathBuf {
    build_wireguard().unwrap_or_else(|error| panic!("{error}"))
}

/// Keys in files, as two Secrets have them.
pub(crate) struct Keys {
    folder: TempDir,
    sensor: PrivateKey,
    pub(crate) preshared: PresharedKey,
}

impl Keys {
    pub(crate) fn new() -> Self {
        let keys = Self {
            folder: tempfile::tempdir().unwrap(),
            sensor: PrivateKey::generate(),
            preshared: PresharedKey::generate(),
        };
        keys.write("private-key", &[&keys.sensor.to_base64()]);
        keys.write("sensor-key", &[&keys.sensor.public().to_string()]);
        for file in ["preshared-keys", "preshared-key"] {
            keys.write(file, &[&keys.preshared.to_base64()]);
        }
        keys
    }

    pub(crate) fn path(&self, file: &str) -> String {
        self.folder.path().join(file).display().to_string()
    }

    /// In one step, as the kubelet does it.
    pub(crate) fn write(&self, file: &str, lines: &[&str]) {
        let next = self.folder.path().join("next");
        fs::write(&next, lines.join("\n")).unwrap();
        fs::rename(next, self.path(file)).unwrap();
    }

    /// `podspan-receive` on a sensor's host; its sensor captures on `lo`.
    pub(crate) fn receive(&self, host: &Host) -> Process {
        let program = std::env::current_exe().unwrap();
        let mut command = host.namespace.command_with_capabilities(program, &[]);
        command
            .env_clear()
            .env(RUN_AS, "1")
            .env("LISTEN", format!("[::]:{TUNNEL_PORT}"))
            .env("FORWARD", format!("127.0.0.1:{PORT}"))
            .env("PRIVATE_KEY_FILE", self.path("private-key"))
            .env("PRESHARED_KEYS_FILE", self.path("preshared-keys"));
        let mut process = Process::spawn(command).unwrap();
        process.wait_for_output("receives", LIMIT).unwrap();
        process
    }

    /// podspan with tunnels to these addresses.
    pub(crate) fn podspan(
        &self,
        lab: &Lab,
        sensors: &[SocketAddr],
        more: &[(&str, &str)],
    ) -> Process {
        let sensors: Vec<_> = sensors.iter().map(ToString::to_string).collect();
        let mut command = podspan(lab, &[("SENSOR", &sensors.join(","))]);
        command
            .env("TUNNEL", "wireguard")
            .env("WG_SENSOR_KEY_FILE", self.path("sensor-key"))
            .env("WG_PRESHARED_KEY_FILE", self.path("preshared-key"))
            .envs(more.iter().copied());
        let mut agent = Process::spawn(command).unwrap();
        agent.wait_for_output("capturing (index", LIMIT).unwrap();
        agent
    }
}

/// What `podspan-receive` forwards on a host.
pub(crate) fn opened_at(host: &Host) -> Sniffer<Decoded<Vec<Frame>>> {
    let sink = Decoded {
        decoder: Decoder::new(VNI, PORT, 65_536),
        sink: Vec::new(),
    };
    Sniffer::start(&host.namespace, "lo", Filter::Incoming, sink).unwrap()
}

/// The frames that were opened.
pub(crate) fn stop(sniffer: Sniffer<Decoded<Vec<Frame>>>) -> Vec<Frame> {
    let (Decoded { decoder, sink }, capture) = sniffer.stop().unwrap();
    assert_eq!(capture.dropped, 0, "the sniffer kept up");
    assert!(decoder.anomalies().is_empty(), "{:?}", decoder.anomalies());
    sink
}

/// Ends a program and returns its log.
pub(crate) fn end(mut process: Process) -> String {
    process.terminate().unwrap();
    let status = process.wait(LIMIT).unwrap();
    let log = process.stderr();
    assert!(status.success(), "{status}:\n{log}");
    log
}

/// Everything on the wire at a sensor's host.
#[derive(Default)]
pub(crate) struct Wire {
    pub(crate) frames: u64,
    /// Frames of a tunnel.
    pub(crate) sealed: u64,
    /// Frames with a plain VXLAN header or the pattern.
    pub(crate) plain: u64,
}

impl Wire {
    pub(crate) fn at(host: &Host) -> Sniffer<Self> {
        Sniffer::start(&host.namespace, "eth0", Filter::All, Self::default()).unwrap()
    }

    /// Asserts that something was sealed and nothing was plain.
    pub(crate) fn assert_sealed(sniffer: Sniffer<Self>) {
        let (wire, capture) = sniffer.stop().unwrap();
        assert_eq!(capture.dropped, 0);
        assert_eq!(wire.plain, 0, "of {} frames", wire.frames);
        assert!(wire.sealed > 0);
    }
}

impl Sink for Wire {
    fn receive(&mut self, frame: FrameRef<'_>) {
        let [_, v0, v1, v2] = VNI.to_be_bytes();
        let vxlan = [8, 0, 0, 0, v0, v1, v2, 0];
        let has = |part: &[u8]| frame.bytes.windows(part.len()).any(|bytes| bytes == part);
        let port = TUNNEL_PORT.to_be_bytes();
        let of_tunnel = |at: usize| frame.bytes.get(at..at + 2) == Some(&port[..]);
        self.frames += 1;
        self.plain += u64::from(has(&vxlan) || has(PATTERN));
        // The destination port after an IPv4 or an IPv6 header.
        self.sealed += u64::from(of_tunnel(14 + 20 + 2) || of_tunnel(14 + 40 + 2));
    }
}

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

/// Sends numbered datagrams with the pattern from the client to the pod, at a constant rate.
pub(crate) fn stream(lab: &Lab, numbers: std::ops::Range<u32>, per_second: u32) {
    let to = SocketAddr::from((lab.pod.ipv4, 7777));
    // So that the pod sends no ICMP errors.
    let _receiver = lab.pod.namespace.run(|| UdpSocket::bind(to)).unwrap();
    let socket = lab
        .client
        .namespace
        .run(|| UdpSocket::bind((lab.client.ipv4, 0)))
        .unwrap();
    let (start, first) = (Instant::now(), numbers.start);
    for number in numbers {
        let due = Duration::from_secs(1) * (number - first) / per_second;
        thread::sleep(due.saturating_sub(start.elapsed()));
        let payload = [&number.to_be_bytes(), &PATTERN[..]].concat();
        socket.send_to(&payload, to).unwrap();
    }
}

/// The numbers of the stream in frames, in their order.
pub(crate) fn numbers(frames: &[Frame]) -> Vec<u32> {
    let number = |frame: &Frame| {
        let payload = frame.bytes.get(14 + 20 + 8..)?;
        let (number, rest) = payload.split_first_chunk::<4>()?;
        rest.starts_with(PATTERN)
            .then(|| u32::from_be_bytes(*number))
    };
    frames.iter().filter_map(number).collect()
}

pub(crate) fn sensor_at(host: &Host) -> SocketAddr {
    SocketAddr::from((host.ipv4, TUNNEL_PORT))
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
