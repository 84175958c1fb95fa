//! Records the frames of the testbed's own traffic: a web mix, as a pod's ring has it.
//!
//! Two labs, one after the other, each with the same conversations between client and pod over IPv4 and
//! IPv6: DNS queries, and HTTP requests over kept connections. In the first one the kernel's offloads are
//! on, as on a veth: large frames to be split, and unfinished checksums. In the second one they are off, so
//! each frame is one of the wire, and full-sized frames do not fit the tunnel. The frames come from
//! podspan's own ring, so the recording has what the kernel says about each of them.

use std::num::NonZeroU32;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use capture::{BLOCK_LEN, Ring, RingConfig};
use instructions::recording::Recording;
use testbed::Lab;
use testbed::traffic::{Family, tcp_bulk, tcp_requests, udp_exchanges};
use wire::InterfaceName;
use wire::Timestamp;
use wire::offload::VIRTIO_NET_HDR_LEN;

use crate::error::{Error, Result};

/// Sizes of DNS answers, in bytes.
const ANSWERS: [usize; 6] = [60, 92, 124, 160, 300, 480];
/// Requests and responses of a connection, in bytes of their bodies: a page, scripts, images, a form.
const REQUESTS: [(usize, usize); 6] = [
    (0, 9_000),
    (0, 1_200),
    (0, 304),
    (0, 14_000),
    (1_800, 150),
    (0, 40),
];
/// Each of the other connections has one small request, as many calls of an API have.
const SHORT: [(usize, usize); 1] = [(220, 640)];
const SHORT_CONNECTIONS: usize = 4;
/// Bytes of a stream of bulk TCP.
const BULK: usize = 4 << 20;
/// The ring holds all of the traffic: it is read after it, and the kernel closes a block after some
/// milliseconds, so it holds two seconds.
const RING: RingConfig = RingConfig::new(128 * BLOCK_LEN, NonZeroU32::MIN);
/// The longest time until the ring is empty after the traffic.
const DRAIN: Duration = Duration::from_secs(10);

/// Records the web mix into a file.
///
/// # Errors
/// [`Error`]: of the lab, of the ring, or of the file.
pub fn web_mix(path: &Path) -> Result<Recording> {
    let mut recording = Recording::default();
    for offloads in [true, false] {
        let lab = Lab::builder().offloads(offloads).build()?;
        record(&lab, &mut recording, |family| {
            let from = family.address(&lab.client);
            udp_exchanges(&lab.client, from, &lab.pod, &ANSWERS)?;
            tcp_requests(&lab.client, &lab.pod, family, &REQUESTS)?;
            for _ in 0..SHORT_CONNECTIONS {
                tcp_requests(&lab.client, &lab.pod, family, &SHORT)?;
            }
            Ok(())
        })?;
    }
    recording.write(path)?;
    Ok(recording)
}

/// Records DNS: each query from a new port, and its answer.
///
/// # Errors
/// As [`web_mix`].
pub fn dns() -> Result<Recording> {
    let lab = Lab::builder().build()?;
    let mut recording = Recording::default();
    record(&lab, &mut recording, |family| {
        let from = family.address(&lab.client);
        udp_exchanges(&lab.client, from, &lab.pod, &ANSWERS.repeat(10))
    })?;
    Ok(recording)
}

/// Records many short connections: each has one small request and its response.
///
/// # Errors
/// As [`web_mix`].
pub fn short_connections() -> Result<Recording> {
    let lab = Lab::builder().build()?;
    let mut recording = Recording::default();
    record(&lab, &mut recording, |family| {
        for _ in 0..10 * SHORT_CONNECTIONS {
            tcp_requests(&lab.client, &lab.pod, family, &SHORT)?;
        }
        Ok(())
    })?;
    Ok(recording)
}

/// Records bulk TCP: one stream to the pod and the acknowledgements of it, with the kernel's offloads.
///
/// # Errors
/// As [`web_mix`].
pub fn bulk() -> Result<Recording> {
    let lab = Lab::builder().build()?;
    let mut recording = Recording::default();
    record(&lab, &mut recording, |family| {
        tcp_bulk(&lab.client, &lab.pod, family, BULK).map(drop)
    })?;
    Ok(recording)
}

/// Adds what the pod's ring has of this traffic, first over IPv4 and then over IPv6.
fn record(
    lab: &Lab,
    recording: &mut Recording,
    traffic: impl Fn(Family) -> testbed::Result<()>,
) -> Result<()> {
    let mut ring = open(lab)?;
    for family in Family::BOTH {
        traffic(family)?;
    }
    read(&mut ring, recording)
}

fn open(lab: &Lab) -> Result<Ring> {
    let interface: InterfaceName = "eth0".parse().map_err(|_| Error::NotBound)?;
    let mut ring = lab
        .pod
        .namespace
        .run(|| Ring::open(interface, &RING))
        .map_err(Error::Ring)?;
    let change = ring.refresh().map_err(failed("binding a ring"))?;
    change.map(|_| ring).ok_or(Error::NotBound)
}

/// Reads all frames that are in the ring.
fn read(ring: &mut Ring, recording: &mut Recording) -> Result<()> {
    ring.stop().map_err(failed("stopping a ring"))?;
    let start = recording.end();
    let mut first = None;
    let end = Instant::now() + DRAIN;
    while ring.waiting().map_err(failed("reading a ring"))? > 0 && Instant::now() < end {
        let Some(block) = ring.next_block() else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        for frame in block.frames() {
            // The kernel writes it directly before the frame.
            let before = block.bytes().get(..frame.at as usize);
            let header = before
                .and_then(|before| before.last_chunk::<VIRTIO_NET_HDR_LEN>())
                .ok_or(Error::IncompleteRecording)?;
            let time = since_epoch(frame.timestamp);
            let time = start + time.saturating_sub(*first.get_or_insert(time));
            recording.add(*header, frame.bytes, frame.wire_len, time, frame.direction);
        }
    }
    let waiting = ring.waiting().map_err(failed("reading a ring"))?;
    let statistics = ring.statistics().map_err(failed("reading a ring"))?;
    if waiting > 0 || statistics.drops > 0 {
        return Err(Error::IncompleteRecording);
    }
    Ok(())
}

fn since_epoch(time: Timestamp) -> Duration {
    Duration::new(u64::from(time.seconds), time.nanoseconds)
}

fn failed(doing: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Io { doing, source }
}
