//! podspan with a tenth of a processor and more small datagrams than it can send: how soon it handles a
//! SIGTERM or a new interface, and that no ring waits for another's backlog.
//!
//! The kernel closes a block after 16 ms, full or not. So the flood consists of frames that podspan
//! must split (UDP GSO): each costs podspan more than its sender, on any machine. The times are the
//! best of a few tries: the tests bound podspan, not the machine.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use testbed::traffic::{Family, RawSocket};
use testbed::{Decoded, Decoder, Filter, FrameRef, Lab, Link, Process, Signal, Sniffer};

use crate::lifecycle::{NET1, add_net1};
use crate::scene::{LIMIT, PORT, VNI, podspan, sensor_of};
use crate::totals::Totals;

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "under_a_quota_and_a_flood_it_ends_within_three_seconds",
        ends,
    ),
    (
        "under_a_quota_and_a_flood_an_interface_made_again_is_bound_within_a_second",
        bound_again,
    ),
    ("rings_take_turns_block_by_block", turns),
];

/// 0.1 CPU.
const QUOTA: Duration = Duration::from_millis(10);
/// How often a time is measured until it is short enough.
const TRIES: usize = 3;
/// `EtherType` for experiments (IEEE Std 802): nobody answers.
const EXPERIMENT: [u8; 2] = [0x88, 0xb5];

/// A frame of `length` bytes from one end of a link to the other.
fn frame(to: &Link, from: &Link, length: usize) -> Vec<u8> {
    let mac = |link: &Link| link.mac().unwrap();
    let mut frame = [&mac(to)[..], &mac(from), &EXPERIMENT].concat();
    frame.resize(length, 0x5a);
    frame
}

/// Small datagrams to an address of the pod, several in each frame, until it is stopped.
struct Flood {
    over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    // Nobody reads it. While it is open, the host sends no ICMP errors.
    _receiver: UdpSocket,
}

impl Flood {
    const SEGMENT: usize = 18;
    const SEGMENTS: usize = 8;

    fn start(lab: &Lab, to: IpAddr) -> Self {
        let receiver = lab.pod.namespace.run(|| UdpSocket::bind((to, 0))).unwrap();
        let any = (Ipv4Addr::UNSPECIFIED, 0);
        let sender = lab.client.namespace.run(|| UdpSocket::bind(any)).unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        let segment = i32::try_from(Self::SEGMENT).unwrap();
        setsockopt(&sender, sockopt::UdpGsoSegment, &segment).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let thread = thread::spawn(move || {
            // The link may be deleted before the flood ends.
            while !ended.load(Ordering::Relaxed)
                && sender.send(&[0x5a; Self::SEGMENT * Self::SEGMENTS]).is_ok()
            {}
        });
        Self {
            over,
            thread,
            _receiver: receiver,
        }
    }

    fn stop(self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

fn ends() {
    let mut times = Vec::new();
    for _ in 0..TRIES {
        let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
        let sensor = sensor_of(&lab, Family::V4);
        let mut agent = Process::spawn(podspan(&lab, &[("SENSOR", &sensor)])).unwrap();
        agent.wait_for_output("capturing (index", LIMIT).unwrap();
        let flood = Flood::start(&lab, lab.pod.ipv4.into());
        let quota = agent.limit_cpu(QUOTA).unwrap();
        // Until the ring is full.
        thread::sleep(Duration::from_secs(3));
        let begun = Instant::now();
        agent.terminate().unwrap();
        let status = agent.wait(Duration::from_mins(1)).unwrap();
        times.push(begun.elapsed());
        drop(quota);
        flood.stop();
        let log = agent.stderr();
        assert!(status.success(), "{status}:\n{log}");
        let totals = Totals::read(&log);
        // At the end there were more frames than podspan could send.
        let left = totals.frames_dropped.get("not_drained");
        assert!(left > Some(&0), "{totals:?}");
        if times.last() < Some(&Duration::from_secs(3)) {
            break;
        }
    }
    println!("from SIGTERM to the end at 0.1 CPU: {times:?}");
    assert!(times.last() < Some(&Duration::from_secs(3)), "{times:?}");
}

fn bound_again() {
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let sensor = sensor_of(&lab, Family::V4);
    add_net1(&lab);
    let environment = [("SENSOR", sensor.as_str()), ("INTERFACE", "net1")];
    let mut agent = Process::spawn(podspan(&lab, &environment)).unwrap();
    agent.wait_for_output("capturing (index", LIMIT).unwrap();
    let quota = agent.limit_cpu(QUOTA).unwrap();
    let mut times = Vec::new();
    for _ in 0..TRIES {
        let flood = Flood::start(&lab, NET1.parse().unwrap());
        thread::sleep(Duration::from_secs(3));
        let before = agent.stderr().matches("capturing").count();
        lab.pod.namespace.link("net1").unwrap().delete().unwrap();
        flood.stop();
        add_net1(&lab);
        let begun = Instant::now();
        while agent.stderr().matches("capturing").count() == before {
            assert!(
                begun.elapsed() < Duration::from_mins(1),
                "{}",
                agent.stderr()
            );
            thread::sleep(Duration::from_millis(5));
        }
        times.push(begun.elapsed());
        if times.last() < Some(&Duration::from_secs(1)) {
            break;
        }
    }
    println!("from a new interface until it is bound at 0.1 CPU: {times:?}");
    agent.terminate().unwrap();
    assert!(agent.wait(Duration::from_mins(1)).unwrap().success());
    drop(quota);
    let totals = Totals::read(&agent.stderr());
    // There were more frames than podspan could send.
    assert!(totals.get("ring_drops") > 0, "{totals:?}");
    assert!(times.last() < Some(&Duration::from_secs(1)), "{times:?}");
}

/// Frames in the second ring do not wait until the first ring is empty.
fn turns() {
    const BIG: usize = 1400;
    const SMALL: usize = 100;
    const BACKLOG: usize = 12_000;
    let lab = Lab::builder().vxlan(VNI, 4789).build().unwrap();
    let sensor = sensor_of(&lab, Family::V4);
    let (near, far) = add_net1(&lab);
    let environment = [("SENSOR", sensor.as_str()), ("INTERFACE", "eth0,net1")];
    let mut agent = Process::spawn(podspan(&lab, &environment)).unwrap();
    agent.wait_for_output("interface=net1", LIMIT).unwrap();
    let (sender, lengths) = channel();
    let tap = Decoded {
        decoder: Decoder::new(VNI, PORT, 1500),
        // When the receiver is gone, the test has ended.
        sink: move |frame: FrameRef<'_>| sender.send(frame.bytes.len()).unwrap_or_default(),
    };
    let tap = Sniffer::start(&lab.sensor.namespace, "eth0", Filter::Incoming, tap).unwrap();

    agent.signal(Signal::SIGSTOP).unwrap();
    let big = frame(&lab.pod.eth0, &lab.client.eth0, BIG);
    let socket = RawSocket::open(&lab.client.eth0).unwrap();
    for _ in 0..BACKLOG {
        socket.send(&big).unwrap();
    }
    let small = frame(&near, &far, SMALL);
    RawSocket::open(&far).unwrap().send(&small).unwrap();
    // In this time the kernel closes the block with the small frame.
    thread::sleep(Duration::from_millis(100));
    agent.signal(Signal::SIGCONT).unwrap();
    let mut before = 0;
    loop {
        match lengths.recv_timeout(LIMIT).unwrap() {
            SMALL => break,
            length => before += usize::from(length == BIG),
        }
    }
    println!("{before} of {BACKLOG} frames of the first ring arrived before that of the second");
    // A block of 1 MiB holds some 700 of them. On a busy machine the block with the small frame is closed late.
    assert!(before < BACKLOG / 3, "{before}");
    agent.terminate().unwrap();
    assert!(agent.wait(LIMIT).unwrap().success());
    tap.stop().unwrap();
    Totals::read(&agent.stderr()).assert_lossless_but(&[]);
}
