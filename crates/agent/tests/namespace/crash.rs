//! podspan is killed under traffic, again and again: the application's traffic continues, the next podspan
//! mirrors it, and nothing of the killed one stays.
//!
//! The application exchanges numbered datagrams, so each copy can be counted, and requests over TCP, whose
//! bytes both ends hash. Frames that pass while no podspan runs are not mirrored, and nobody counts them.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testbed::traffic::{Family, tcp_requests, udp_datagrams};
use testbed::{
    Decoded, Decoder, Filter, Frame, FrameRef, Lab, Namespace, Process, Signal, Sink, Sniffer,
};

use crate::scene::{LIMIT, PORT, VNI, decoded_at, own_frames, podspan, sensor_of};
use crate::totals::Totals;

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "killed_fifty_times_under_traffic_it_disturbs_nothing_and_leaves_nothing",
        killed_fifty_times,
    ),
    (
        "copies_of_a_killed_podspan_that_wait_are_not_mirrored_again",
        waiting_copies,
    ),
];

const KILLS: u32 = 50;
/// A datagram of the application: its number, and padding.
const SIZE: usize = 64;
/// The headers of Ethernet, IPv4 and UDP.
const HEADERS: usize = 42;
/// The tables of the kernel that list the sockets of a network namespace.
const TABLES: [&str; 6] = ["packet", "udp", "udp6", "raw", "raw6", "netlink"];

/// What the application and the sensor have seen so far.
#[derive(Debug, Default)]
struct Progress {
    over: AtomicBool,
    /// The number of the last exchange that is complete.
    exchanged: AtomicU64,
    /// The largest number in a copy.
    copied: AtomicU64,
}

/// Ends the application's traffic, also where an assertion fails: the scope waits for its threads.
struct End<'a>(&'a Progress);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// Counts the copies of each datagram, and podspan's own datagrams among the copies.
struct Copies {
    progress: Arc<Progress>,
    pod: IpAddr,
    sensor: IpAddr,
    /// By the frame: the query and the answer of an exchange differ in their addresses.
    of_each: BTreeMap<Vec<u8>, u32>,
    own: usize,
}

impl Sink for Copies {
    fn receive(&mut self, frame: FrameRef<'_>) {
        let copy: Frame = frame.to_frame();
        if copy.bytes.len() == HEADERS + SIZE
            && let Some(number) = copy
                .bytes
                .get(HEADERS..)
                .and_then(|body| body.first_chunk())
        {
            let number = u64::from_be_bytes(*number);
            self.progress.copied.fetch_max(number, Ordering::Relaxed);
            *self.of_each.entry(copy.bytes).or_default() += 1;
        } else {
            self.own += own_frames(&[copy], self.pod, self.sensor);
        }
    }
}

/// Exchanges numbered datagrams with the pod, about one in a millisecond, until it is over. A datagram that
/// does not arrive ends the test.
fn exchange(lab: &Lab, progress: &Progress) {
    let socket = |namespace: &Namespace, address: IpAddr| {
        let socket = namespace.run(|| UdpSocket::bind((address, 0))).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket
    };
    let near = socket(&lab.client.namespace, lab.client.ipv4.into());
    let far = socket(&lab.pod.namespace, lab.pod.ipv4.into());
    near.connect(far.local_addr().unwrap()).unwrap();
    far.connect(near.local_addr().unwrap()).unwrap();
    let mut number = 0_u64;
    while !progress.over.load(Ordering::Relaxed) {
        number += 1;
        let mut datagram = [0x5a; SIZE];
        datagram[..8].copy_from_slice(&number.to_be_bytes());
        for (from, to) in [(&near, &far), (&far, &near)] {
            let mut received = [0; SIZE];
            from.send(&datagram).unwrap();
            let length = to.recv(&mut received);
            assert_eq!(length.ok(), Some(SIZE), "datagram {number} is lost");
            assert_eq!(received, datagram, "datagram {number} is another one");
        }
        progress.exchanged.store(number, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(1));
    }
}

/// The number of sockets in a network namespace, by table.
fn sockets(namespace: &Namespace) -> Vec<(&'static str, usize)> {
    let lines = |table| {
        let path = format!("/proc/thread-self/net/{table}");
        let text = namespace.run(|| fs::read_to_string(path)).unwrap();
        (table, text.lines().count())
    };
    TABLES.into_iter().map(lines).collect()
}

/// Waits for a copy of a datagram that is sent from now on.
fn next_copy(progress: &Progress, agent: &Process) {
    let sent = progress.exchanged.load(Ordering::Relaxed) + 1;
    let begin = Instant::now();
    while progress.copied.load(Ordering::Relaxed) <= sent {
        assert!(begin.elapsed() < LIMIT, "no copy:\n{}", agent.stderr());
        thread::sleep(Duration::from_millis(1));
    }
}

/// Starts podspan and kills it, each time at another point of its work. Returns the times from the start to
/// the first copy.
fn kill_and_start(lab: &Lab, progress: &Progress, environment: &[(&str, &str)]) -> Vec<Duration> {
    let mut times = Vec::new();
    for round in 0..KILLS {
        let begin = Instant::now();
        let mut agent = Process::spawn(podspan(lab, environment)).unwrap();
        next_copy(progress, &agent);
        times.push(begin.elapsed());
        thread::sleep(Duration::from_micros(u64::from(round) * 700));
        agent.signal(Signal::SIGKILL).unwrap();
        let status = agent.wait(LIMIT).unwrap();
        assert!(!status.success(), "{status}: it was not killed");
    }
    times.sort_unstable();
    times
}

fn killed_fifty_times() {
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let sensor = sensor_of(&lab, Family::V4);
    let environment = [("SENSOR", sensor.as_str())];
    let progress = Arc::new(Progress::default());
    let sink = Decoded {
        decoder: Decoder::new(VNI, PORT, 1500),
        sink: Copies {
            progress: Arc::clone(&progress),
            pod: lab.pod.ipv4.into(),
            sensor: lab.sensor.ipv4.into(),
            of_each: BTreeMap::new(),
            own: 0,
        },
    };
    let sniffer = Sniffer::start(&lab.sensor.namespace, "eth0", Filter::Incoming, sink).unwrap();
    let before = sockets(&lab.pod.namespace);
    let (mut bytes, mut times, mut totals) = (0, Vec::new(), None);
    thread::scope(|scope| {
        let end = End(&progress);
        let exchanges = scope.spawn(|| exchange(&lab, &progress));
        let requests = scope.spawn(|| {
            let mut bytes = 0;
            while !progress.over.load(Ordering::Relaxed) {
                let bodies = [(20_000, 200_000); 20];
                let stream = tcp_requests(&lab.client, &lab.pod, Family::V4, &bodies).unwrap();
                bytes += stream.upstream + stream.downstream;
            }
            bytes
        });
        times = kill_and_start(&lab, &progress, &environment);
        let mut agent = Process::spawn(podspan(&lab, &environment)).unwrap();
        next_copy(&progress, &agent);
        agent.terminate().unwrap();
        assert!(agent.wait(LIMIT).unwrap().success());
        totals = Some(Totals::read(&agent.stderr()));
        drop(end);
        exchanges.join().unwrap();
        bytes = requests.join().unwrap();
    });
    assert_eq!(sockets(&lab.pod.namespace), before, "sockets in the pod");
    thread::sleep(Duration::from_millis(100));
    let (Decoded { decoder, sink }, capture) = sniffer.stop().unwrap();
    assert_eq!(capture.dropped, 0, "the sensor's sniffer kept up");
    assert!(decoder.anomalies().is_empty(), "{:?}", decoder.anomalies());
    assert!(totals.unwrap().get("frames_mirrored") > 0);
    let twice = sink.of_each.values().filter(|copies| **copies > 1).count();
    let exchanged = progress.exchanged.load(Ordering::Relaxed);
    println!(
        "{KILLS} kills: {exchanged} exchanges and {bytes} bytes of TCP without a loss; {} of {} datagrams \
         mirrored; from start to first copy {:?}, at most {:?}",
        sink.of_each.len(),
        2 * exchanged,
        times[times.len() / 2],
        times[times.len() - 1],
    );
    assert_eq!((twice, sink.own), (0, 0), "datagrams twice, own datagrams");
}

/// The sensor's host does not answer yet, so the copies of the first podspan wait in the kernel, which gives
/// up after three seconds. podspan is killed, and the next one sees them leave. Returns whether it has
/// seen them.
fn copies_wait_for_the_next_podspan() -> bool {
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let missing: IpAddr = "10.77.0.99".parse().unwrap();
    let sensor = format!("{missing}:{PORT}");
    let environment = [("SENSOR", sensor.as_str())];
    let sniffer = decoded_at(&lab.sensor);
    let mut first = Process::spawn(podspan(&lab, &environment)).unwrap();
    first.wait_for_output("capturing (index", LIMIT).unwrap();
    udp_datagrams(&lab.client, &lab.pod, Family::V4, &[SIZE; 20]).unwrap();
    thread::sleep(Duration::from_millis(100));
    first.signal(Signal::SIGKILL).unwrap();
    first.wait(LIMIT).unwrap();
    let mut second = Process::spawn(podspan(&lab, &environment)).unwrap();
    second.wait_for_output("capturing (index", LIMIT).unwrap();
    lab.sensor.eth0.add_address(missing, 24).unwrap();
    // The kernel asks for the address once a second.
    thread::sleep(Duration::from_secs(2));
    second.terminate().unwrap();
    assert!(second.wait(LIMIT).unwrap().success());
    let totals = Totals::read(&second.stderr());
    let (Decoded { sink, .. }, _) = sniffer.stop().unwrap();
    assert_eq!(own_frames(&sink, lab.pod.ipv4.into(), missing), 0);
    let mut lengths = sink.iter().map(|frame| frame.bytes.len());
    let arrived = lengths.any(|length| length == HEADERS + SIZE);
    arrived && totals.frames_dropped.contains_key("own_error")
}

fn waiting_copies() {
    // On a slow machine the second podspan can start too late for them.
    let arrived = (0..5).any(|_| copies_wait_for_the_next_podspan());
    assert!(arrived, "no copy waited for the next podspan");
}
