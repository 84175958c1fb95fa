//! What a capture costs the application that sends: CPU time of its thread with several kinds of rings.
//!
//! The kernel copies each frame into the ring in the context of the thread that sends it. A thread in the pod, pinned
//! to a processor, sends UDP in writes of 60 KiB (`UDP_SEGMENT`), which are frames as large as those of bulk TCP, to
//! a socket of the client that nobody reads. So nothing of the receiver comes back to the sender, whose CPU time, user
//! and system, has the copy and the way of the frames to the client. With TCP it depends more on how many bytes
//! the receiver acknowledges at once than on the ring. The ring's reader runs on the client's
//! processor and returns each block at once, so nothing is dropped but where the case says so.

use std::net::UdpSocket;
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use capture::{BLOCK_LEN, Ring, RingConfig, RingStatistics};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use nix::time::ClockId;
use serde::Serialize;
use socket2::{SockFilter, SockRef};
use testbed::Lab;
use wire::InterfaceName;

use super::plan::Mirror;
use super::stand::{CLIENT, POD, Stand, pin};
use crate::agent::cpu_time;
use crate::error::Error as BenchError;
use crate::matrix::{Error, Result};

/// Bytes that a turn sends.
const BYTES: usize = 1 << 30;
/// Of a write, which the kernel takes through its network as one frame, as one of TCP.
const WRITE: usize = 44 * 1400;
const SEGMENT: i32 = 1400;
/// podspan's ring with `RING_SIZE=auto`.
const RING: usize = 24;
const WAIT_MS: u8 = 20;
const SNAP: u32 = 128;

/// What captures or mirrors beside the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Beside {
    /// A mirror of the throughput part.
    Mirror(Mirror),
    /// A ring.
    Ring(Kind),
}

/// A kind of ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Kind {
    /// Its size in KiB.
    pub kib: usize,
    /// The length of a block in KiB.
    pub block_kib: usize,
    /// How many bytes of a frame are copied at most; 0 rejects all frames.
    pub snap: u32,
    /// Whether its blocks are read.
    pub is_read: bool,
    /// How many rings share the frames (`PACKET_FANOUT_CPU`).
    pub rings: usize,
}

impl Kind {
    /// podspan's, with a reader that is always in time.
    pub const USUAL: Self = Self {
        kib: RING << 10,
        block_kib: BLOCK_LEN >> 10,
        snap: u32::MAX,
        is_read: true,
        rings: 1,
    };
    /// One that is full at once, and then drops all.
    pub const FULL: Self = Self {
        kib: 2 << 10,
        is_read: false,
        ..Self::USUAL
    };
}

impl Beside {
    /// All cases; the first is what the others are compared with.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let usual = Kind::USUAL;
        let size = |mib: usize, block_kib| Kind {
            kib: mib << 10,
            block_kib,
            ..usual
        };
        let kinds = [
            Kind { snap: 0, ..usual },
            Kind::FULL,
            usual,
            size(RING, 256),
            size(RING, 4 << 10),
            size(4, 1 << 10),
            size(4, 256),
            size(128, 1 << 10),
            Kind {
                snap: SNAP,
                ..usual
            },
            Kind { rings: 2, ..usual },
        ];
        let mirrors = Mirror::ALL.map(Self::Mirror);
        mirrors.into_iter().chain(kinds.map(Self::Ring)).collect()
    }

    /// The name in tables.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Mirror(mirror) => mirror.name().to_owned(),
            Self::Ring(Kind { snap: 0, .. }) => "tap that rejects all".to_owned(),
            Self::Ring(kind) => {
                let mib = kind.kib >> 10;
                let more = match kind {
                    Kind { is_read: false, .. } => ", full: all dropped".to_owned(),
                    Kind { rings: 2.., .. } => format!(", {} with fanout", kind.rings),
                    Kind { snap: u32::MAX, .. } => String::new(),
                    Kind { snap, .. } => format!(", snap {snap} bytes"),
                };
                format!("ring {mib} MiB, blocks {} KiB{more}", kind.block_kib)
            }
        }
    }
}

/// One turn.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sent {
    /// The round.
    pub round: u32,
    /// Beside what.
    pub beside: Beside,
    /// CPU time of the sending thread for each KiB, in nanoseconds.
    pub nanos_per_kib: f64,
    /// The part of the frames that was dropped, of podspan or a ring.
    pub dropped: f64,
}

/// One turn of sending.
///
/// # Errors
/// Of the lab, a ring or podspan.
pub fn turn(stand: &Stand, podspan: &Path, round: u32, beside: Beside) -> Result<Sent> {
    let (nanos_per_kib, frames, drops) = match beside {
        Beside::Mirror(mirror) => {
            let running = stand.start(podspan, mirror)?;
            let nanos = send(&stand.lab)?;
            let copies = running.stop()?;
            (nanos, copies.frames, copies.ring_drops)
        }
        Beside::Ring(kind) => {
            let (nanos, statistics) = beside_rings(&stand.lab, kind)?;
            (nanos, statistics.packets, statistics.drops)
        }
    };
    Ok(Sent {
        round,
        beside,
        nanos_per_kib,
        dropped: to_float(drops) / to_float(frames.max(1)),
    })
}

fn beside_rings(lab: &Lab, kind: Kind) -> Result<(f64, RingStatistics)> {
    let rings: Result<Vec<Ring>> = (0..kind.rings).map(|_| open(lab, kind)).collect();
    let mut rings = rings?;
    if kind.rings > 1 {
        for ring in &rings {
            testbed::join_fanout(ring.as_fd())?;
        }
    }
    let over = AtomicBool::new(!kind.is_read);
    let nanos = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            pin(CLIENT)?;
            read(&mut rings, &over)
        });
        let nanos = send(lab);
        over.store(true, Ordering::Relaxed);
        reader.join().map_err(|_| BenchError::LoadFailed)??;
        nanos
    })?;
    let mut all = RingStatistics::default();
    for ring in &mut rings {
        let one = ring
            .statistics()
            .map_err(failed("reading a ring's counters"))?;
        all.packets += one.packets;
        all.drops += one.drops;
    }
    Ok((nanos, all))
}

fn open(lab: &Lab, kind: Kind) -> Result<Ring> {
    let interface: InterfaceName = "eth0".parse().map_err(|_| BenchError::NotBound)?;
    let config = RingConfig {
        block_len: kind.block_kib << 10,
        ..RingConfig::new(kind.kib << 10, NonZeroU32::MIN)
    };
    let open = || Ring::open(interface, &config);
    let mut ring = lab.pod.namespace.run(open).map_err(BenchError::Ring)?;
    ring.refresh().map_err(failed("binding a ring"))?;
    if kind.snap != u32::MAX {
        // `ret #snap` of classic BPF.
        let snap = SockFilter::new(0x06, 0, 0, kind.snap);
        let attached = SockRef::from(&ring).attach_filter(&[snap]);
        attached.map_err(failed("attaching a filter"))?;
    }
    Ok(ring)
}

/// Returns all blocks to the kernel until the load is over.
fn read(rings: &mut [Ring], over: &AtomicBool) -> Result<()> {
    while !over.load(Ordering::Relaxed) {
        let mut wanted: Vec<_> = rings
            .iter()
            .map(|ring| PollFd::new(ring.as_fd(), PollFlags::POLLIN))
            .collect();
        poll(&mut wanted, PollTimeout::from(WAIT_MS)).map_err(|source| BenchError::System {
            doing: "waiting for a ring",
            source,
        })?;
        for ring in &mut *rings {
            while ring.next_block().is_some() {}
        }
    }
    Ok(())
}

/// Sends from the pod to the client, and returns the CPU time of the sending thread for each KiB.
fn send(lab: &Lab) -> Result<f64> {
    let bind = |host: &testbed::Host| host.namespace.run(|| UdpSocket::bind((host.ipv4, 0)));
    let open = || {
        // Nobody reads from it: when its buffer is full, the kernel drops what arrives.
        let (from, to) = (bind(&lab.pod)?, bind(&lab.client)?);
        from.connect(to.local_addr()?)?;
        setsockopt(&from, sockopt::UdpGsoSegment, &SEGMENT)?;
        Ok((from, to))
    };
    let (from, _unread) = open().map_err(failed(SENDING))?;
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            pin(POD)?;
            let before = cpu_time(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
            let buffer = vec![0x5a; WRITE];
            for _ in 0..BYTES / WRITE {
                from.send(&buffer).map_err(failed(SENDING))?;
            }
            let used = cpu_time(ClockId::CLOCK_THREAD_CPUTIME_ID)?.saturating_sub(before);
            Ok(per_kib(used))
        });
        sender.join().map_err(|_| BenchError::LoadFailed)?
    })
}

const SENDING: &str = "sending bulk data";

fn per_kib(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9 / to_float((BYTES >> 10) as u64)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn to_float(number: u64) -> f64 {
    number as f64
}

fn failed(doing: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| BenchError::Io { doing, source }.into()
}
