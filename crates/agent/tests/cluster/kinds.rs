//! A sensor that is a socket and one that captures, in one table; and a sensor that changes its kind.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use libtest_mimic::Failed;
use nix::sys::socket::{setsockopt, sockopt::RcvBuf};
use testbed::kubernetes::{Error, Pods};
use testbed::{Frame, Host};

use crate::fixture::{Cluster, PORT, sensor};
use crate::stream::{Copied, Stream, Tap, copied, missing};
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[(
    "a_sensor_that_changes_its_kind_loses_nothing_beside_one_that_captures",
    changes,
)];

const ANNOTATION: &str = "podspan.dev/receiver";
/// How often the sensor's kind changes, and how long it stays.
const CHANGES: usize = 6;
const STAYS: Duration = Duration::from_millis(300);

/// The annotation of a sensor changes under traffic between socket and sniffer, and the other sensor stays a
/// sniffer.
fn changes(cluster: &mut Cluster) -> Outcome {
    cluster.add_namespace("kinds")?;
    let first = sensor("a", &cluster.lab.sensor).annotation(ANNOTATION, "socket");
    cluster.add_sensor("kinds", &first)?;
    cluster.add_sensor("kinds", &sensor("b", &cluster.second))?;
    let socket = Receiver::start(&cluster.lab.sensor)?;
    // It reports a datagram that is not split, or has a checksum.
    let tap = Tap::start(&cluster.second)?;
    let agent = cluster.podspan("kinds", &[])?;
    agent.until_in_use(&[&cluster.lab.sensor, &cluster.second]);
    let stream = Stream::start(&cluster.lab, 64, 1000)?;
    let toggle = async |pods: &Pods| {
        for kind in ["sniffer", "socket"].into_iter().cycle().take(CHANGES) {
            tokio::time::sleep(STAYS).await;
            pods.set_annotation("a", ANNOTATION, Some(kind)).await?;
        }
        tokio::time::sleep(STAYS).await;
        Ok::<_, Error>(())
    };
    cluster.administer("kinds", toggle)?;
    let sent = stream.stop();
    let (totals, _) = agent.end()?;
    totals.assert_lossless_but(&["no_sensor"]);
    let datagrams = socket.stop();
    let (b, at_b) = tap.stop()?;
    assert_eq!(datagrams.len() as u64 + at_b, totals.get("datagrams_sent"));

    // Each kind has its own source port.
    let mut by_port = BTreeMap::<u16, Vec<Copied>>::new();
    for (port, datagram) in &datagrams {
        let copies = by_port.entry(*port).or_default();
        copies.extend(without_trailer(datagram));
    }
    let [one, other] = &by_port.values().collect::<Vec<_>>()[..] else {
        panic!("two ports: {:?}", by_port.keys());
    };
    for copies in [one, other] {
        assert!(copies.len() > 100, "{}", copies.len());
        assert!(
            copies.is_sorted_by(|a, b| a.number < b.number),
            "the order of the wire"
        );
    }
    let missing = missing(sent, one.iter().chain(*other).chain(&b));
    assert!(missing.is_empty(), "{missing:?} of {sent}");
    let [messages, all] = ["messages_sent", "datagrams_sent"].map(|name| totals.get(name));
    println!("{all} datagrams in {messages} messages, {at_b} to the sensor that captures");
    assert!(at_b + 100 < messages && messages + 100 < all, "some runs");
    Ok(())
}

/// The numbered datagram in a copy, which can have bytes after the inner packet.
fn without_trailer(datagram: &[u8]) -> Option<Copied> {
    let frame = datagram.get(8..)?;
    let length = u16::from_be_bytes(*frame.get(16..)?.first_chunk()?);
    let (packet, trailer) = frame.split_at_checked(14 + usize::from(length))?;
    let bytes = packet.to_vec();
    let copy = copied(
        Frame {
            bytes,
            ..Frame::default()
        }
        .as_ref(),
    )?;
    assert!(trailer.iter().all(|byte| *byte == 0));
    Some(copy)
}

type Datagrams = Vec<(u16, Vec<u8>)>;

/// A program on a sensor's host that reads the copies from a socket.
struct Receiver {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Datagrams>,
}

impl Receiver {
    fn start(host: &Host) -> Result<Self, Failed> {
        let socket = host.namespace.run(|| UdpSocket::bind((host.ipv4, PORT)))?;
        // As much as the kernel allows, so that a busy machine can read late.
        setsockopt(&socket, RcvBuf, &(1 << 20))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (mut bytes, mut datagrams) = ([0; 2000], Vec::new());
            loop {
                match socket.recv_from(&mut bytes) {
                    Ok((length, from)) => datagrams.push((from.port(), bytes[..length].to_vec())),
                    Err(_) if stopping.load(Ordering::Relaxed) => return datagrams,
                    Err(_) => {}
                }
            }
        });
        Ok(Self { stop, thread })
    }

    /// Stops it after what has arrived; returns the source port and the bytes of each datagram.
    fn stop(self) -> Datagrams {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
