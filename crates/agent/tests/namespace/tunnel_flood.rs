//! Somebody on the network floods the port that podspan's sealed datagrams come from.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use testbed::traffic::RawSocket;
use testbed::{Filter, FrameRef, Host, Lab, Process, Sink, Sniffer};
use tunnel::PresharedKey;

use crate::answers::{closed, unreachable};
use crate::totals::Totals;
use crate::tunnel_ends::{
    Keys, LIMIT, TUNNEL_PORT, end, numbers, opened_at, sensor_at, stop, stream,
};

/// How many datagrams the flood has, and how many of them a second.
const FLOOD: u32 = 20_000;
const FLOOD_PER_SECOND: u32 = 4000;
/// How many ICMP errors are forged each 10 ms. The error queue has room for a few hundred, and the worker reads it four
/// times a second.
const FORGED_AT_ONCE: u32 = 200;
/// Types and lengths of WireGuard's answers.
const ANSWERS: [(u8, usize); 3] = [(2, 92), (3, 64), (4, 32)];

/// The source port of what arrives at the port of a tunnel.
#[derive(Default)]
struct SourcePort(Option<u16>);

impl Sink for SourcePort {
    fn receive(&mut self, frame: FrameRef<'_>) {
        let port = |at: usize| {
            let bytes = frame.bytes.get(at..at + 2)?;
            Some(u16::from_be_bytes(bytes.try_into().ok()?))
        };
        if port(14 + 20 + 2) == Some(TUNNEL_PORT) {
            self.0 = port(14 + 20);
        }
    }
}

/// Three of four datagrams look like answers of a sensor, and one like nothing.
fn send_garbage(from: &Host, to: SocketAddr) {
    let bind = || UdpSocket::bind((from.ipv4, TUNNEL_PORT));
    let socket = from.namespace.run(bind).unwrap();
    let start = Instant::now();
    for (number, turn) in (0..FLOOD).zip((0..4_usize).cycle()) {
        let due = Duration::from_secs(1) * number / FLOOD_PER_SECOND;
        thread::sleep(due.saturating_sub(start.elapsed()));
        let mut datagram = vec![0xa5; 40 + turn * 50];
        if let Some((kind, length)) = ANSWERS.get(turn) {
            datagram = vec![0x5a; *length];
            datagram[..4].copy_from_slice(&[*kind, 0, 0, 0]);
        }
        // The receiver may refuse it.
        let _ = socket.send_to(&datagram, to);
    }
}

/// The port that podspan's sealed datagrams come from, and podspan when its tunnels are up.
fn start(lab: &Lab, keys: &Keys, sensors: &[&Host]) -> (u16, Process) {
    let port = Sniffer::start(
        &lab.sensor.namespace,
        "eth0",
        Filter::All,
        SourcePort::default(),
    );
    let sensors: Vec<_> = sensors.iter().map(|host| sensor_at(host)).collect();
    let mut agent = keys.podspan(lab, &sensors, &[]);
    for sensor in sensors {
        let line = format!("the tunnel to a sensor is up sensor={sensor}");
        agent.wait_for_output(&line, LIMIT).unwrap();
    }
    (port.unwrap().stop().unwrap().0.0.unwrap(), agent)
}

/// The CPU time of podspan's worker and of its control side, in ticks of the kernel.
fn ticks(agent: &Process) -> (u64, u64) {
    let (mut worker, mut control) = (0, 0);
    for task in fs::read_dir(format!("/proc/{}/task", agent.id())).unwrap() {
        let task = task.unwrap();
        let stat = fs::read_to_string(task.path().join("stat")).unwrap();
        let (name, fields) = stat.rsplit_once(") ").unwrap();
        // User and system time are the fields 14 and 15; the name is the second.
        let fields = fields.split(' ').skip(14 - 3).take(2);
        let used: u64 = fields.map(|field| field.parse::<u64>().unwrap()).sum();
        if name.ends_with("(worker") {
            worker += used;
        } else if task.file_name().to_str() == Some(&agent.id().to_string()) {
            control += used;
        }
    }
    (worker, control)
}

/// The memory of podspan's own, in KiB, without the rings.
fn anonymous(agent: &Process) -> u64 {
    let text = agent.status_field("RssAnon").unwrap();
    text.trim_end_matches(" kB").parse().unwrap()
}

/// Bytes that wait in podspan's socket with this port.
fn waiting(agent: &Process, port: u16) -> u64 {
    let sockets = fs::read_to_string(format!("/proc/{}/net/udp", agent.id())).unwrap();
    let queue = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (own, queues) = (fields.next()?, fields.nth(2)?);
        if !own.ends_with(&format!(":{port:04X}")) {
            return None;
        }
        u64::from_str_radix(queues.split_once(':')?.1, 16).ok()
    };
    sockets.lines().skip(1).filter_map(queue).max().unwrap()
}

pub(crate) fn flood() {
    const COUNT: u32 = 7000;
    let (lab, keys) = (Lab::builder().build().unwrap(), Keys::new());
    let attacker = lab.add_host(4).unwrap();
    let next = PresharedKey::generate().to_base64();
    keys.write("preshared-keys", &[&keys.preshared.to_base64(), &next]);
    let (receive, opened) = (keys.receive(&lab.sensor), opened_at(&lab.sensor));
    let (port, agent) = start(&lab, &keys, &[&lab.sensor]);
    let (worker, control) = ticks(&agent);
    let memory = anonymous(&agent);
    let mut longest_queue = 0;
    let to = SocketAddr::from((lab.pod.ipv4, port));
    thread::scope(|scope| {
        let stream = scope.spawn(|| stream(&lab, 0..COUNT, 1000));
        let flood = scope.spawn(|| send_garbage(&attacker, to));
        thread::sleep(Duration::from_secs(1));
        // The handshake with the new key is done during the flood.
        keys.write("preshared-key", &[&next]);
        while !flood.is_finished() {
            longest_queue = longest_queue.max(waiting(&agent, port));
            thread::sleep(Duration::from_millis(20));
        }
        for thread in [stream, flood] {
            thread.join().unwrap();
        }
    });
    let after = ticks(&agent);
    let (worker, control) = (after.0 - worker, after.1 - control);
    let memory = anonymous(&agent).saturating_sub(memory);
    let log = end(agent);
    thread::sleep(Duration::from_millis(200));
    let frames = stop(opened);
    println!("ticks: worker {worker}, control {control}; KiB: {memory}; queue: {longest_queue}");
    Totals::read(&log).assert_lossless_but(&[]);
    assert!(
        numbers(&frames) == (0..COUNT).collect::<Vec<_>>(),
        "lost, doubled or in another order"
    );
    let sessions = log
        .matches("a session of the tunnel is established")
        .count();
    assert!(sessions >= 2, "{log}");
    assert!(!log.contains("is down"), "{log}");
    // Not even a part of the flood waits in the socket's buffer.
    assert!(longest_queue <= 16 << 10, "{longest_queue}");
    assert!(memory <= 16 << 10, "{memory} KiB");
    // The worker has sealed each frame. What the sensor did not send costs the control side nothing.
    assert!(control <= worker / 2 + 20, "{control} of {worker}");
    assert!(!log.contains("not from a sensor"), "{log}");
    // The sensor has two keys and answers each initiation twice, which is no reason for a warning.
    assert!(!log.contains("refusal=unknown_index"), "{log}");
    end(receive);
}

/// Somebody forges ICMP errors about datagrams from the port of the tunnel, more than the error queue has room for. They
/// use the memory of the receive buffer, and yet a handshake is done while they come.
pub(crate) fn forged_errors() {
    let (lab, keys) = (Lab::builder().build().unwrap(), Keys::new());
    let next = PresharedKey::generate().to_base64();
    keys.write("preshared-keys", &[&keys.preshared.to_base64(), &next]);
    let receive = keys.receive(&lab.sensor);
    let (port, agent) = start(&lab, &keys, &[&lab.sensor]);
    let forger = RawSocket::open(&lab.client.eth0).unwrap();
    let error = unreachable(&lab, port);
    let sessions = |agent: &Process| {
        let log = agent.stderr();
        log.matches("a session of the tunnel is established")
            .count()
    };
    let start = Instant::now();
    let (mut longest_queue, mut sent, mut new_key) = (0, 0, None);
    while sessions(&agent) < 2 {
        for _ in 0..FORGED_AT_ONCE {
            // Where the machine is slow, an interface may refuse one.
            let _ = forger.send(&error);
        }
        sent += FORGED_AT_ONCE;
        longest_queue = longest_queue.max(waiting(&agent, port));
        thread::sleep(Duration::from_millis(10));
        if new_key.is_none() && start.elapsed() > Duration::from_secs(1) {
            keys.write("preshared-key", &[&next]);
            new_key = Some(Instant::now());
        }
        assert!(start.elapsed() < LIMIT, "{}", agent.stderr());
    }
    let log = end(agent);
    let took = new_key.map(|at| at.elapsed());
    println!(
        "{sent} forged; bytes that waited: {longest_queue}; a session with the new key: {took:?}"
    );
    // The queue was full: what waits is at most the buffer of the socket, with the kernel's own overhead.
    assert!(longest_queue >= 128 << 10, "{longest_queue}");
    assert!(longest_queue <= 512 << 10, "{longest_queue}");
    assert!(!log.contains("is down"), "{log}");
    end(receive);
}

/// Somebody pretends for ten seconds to be a sensor's host and says that the port of the tunnel is closed.
pub(crate) fn forged_failure() {
    let (lab, keys) = (Lab::builder().build().unwrap(), Keys::new());
    let second = lab.add_host(4).unwrap();
    let ends = [&lab.sensor, &second].map(|host| keys.receive(host));
    let (port, agent) = start(&lab, &keys, &[&lab.sensor, &second]);
    let forger = RawSocket::open(&lab.client.eth0).unwrap();
    let error = closed(&lab, [port, TUNNEL_PORT]);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        forger.send(&error).unwrap();
        thread::sleep(Duration::from_millis(50));
    }
    let log = end(agent);
    assert!(log.contains("port_unreachable="), "they were read: {log}");
    // The first one may be believed, until the sensor answers the handshake that follows.
    assert!(log.matches("is closed").count() <= 1, "{log}");
    assert!(!log.contains("is down"), "{log}");
    for receive in ends {
        end(receive);
    }
}
