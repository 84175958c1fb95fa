//! How long a frame waits in a ring, and how often a reader wakes up for it, for several lengths of blocks
//! and times after which the kernel closes them.
//!
//! A reader sleeps in poll(2) until a block is closed, and compares the time of each frame with the time
//! when it gets the block, as podspan's worker does before it sends anything. So the rest of the way of a
//! copy is not in these figures, and the CPU time is only that of waking up and reading. Three loads
//! reach the pod, each with every kind of ring in turn, several rounds:
//! - **light**: small datagrams at random times, 200 a second on average: the timer closes every block;
//! - **small**: 20,000 small datagrams a second;
//! - **bulk**: 1 Gbit/s in frames of nearly 64 KiB, as TSO and UDP GSO make them: blocks become full.
//!
//! Without traffic, a reader must not wake up at all: that is measured too. The table has medians over
//! the rounds, and ratios to the first kind of ring in the list, which is podspan's.

use std::net::UdpSocket;
use std::num::NonZeroU32;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use capture::{BLOCK_LEN, RETIRE_AFTER_MS, Ring, RingConfig};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use nix::time::ClockId;
use testbed::Lab;
use wire::InterfaceName;

use crate::agent::cpu_time;
use crate::error::{Error, Result};
use crate::random::Random;
use crate::statistics::{median, median_ratio, percentile};
use crate::table::{Align, Table};

/// Lengths of blocks, and times in ms until they are closed. podspan's are the first.
const BLOCKS: [usize; 4] = [BLOCK_LEN, BLOCK_LEN / 4, BLOCK_LEN / 2, 2 * BLOCK_LEN];
const TIMES: [u32; 4] = [RETIRE_AFTER_MS, 4, 8, 32];
const RING: usize = 32 * BLOCK_LEN;
/// After the end of a load, the last block is closed in this many milliseconds.
const LAST_MS: u8 = 100;

/// Datagrams that reach the pod.
#[derive(Debug, Clone, Copy)]
struct Load {
    name: &'static str,
    size: usize,
    /// The kernel splits each into datagrams of this size.
    segment: Option<i32>,
    per_second: u32,
    random: bool,
    time: Duration,
}

const LOADS: [Load; 4] = [
    Load {
        name: "none",
        size: 0,
        segment: None,
        per_second: 0,
        random: false,
        time: Duration::from_millis(300),
    },
    Load {
        name: "light",
        size: 86,
        segment: None,
        per_second: 200,
        random: true,
        time: Duration::from_millis(1500),
    },
    Load {
        name: "small",
        size: 86,
        segment: None,
        per_second: 20_000,
        random: false,
        time: Duration::from_millis(500),
    },
    Load {
        name: "bulk",
        size: 44 * 1472,
        segment: Some(1472),
        per_second: 1930,
        random: false,
        time: Duration::from_millis(500),
    },
];

/// What a reader has measured.
#[derive(Debug, Clone, PartialEq)]
struct Reading {
    wake_ups_per_second: f64,
    /// The part of a processor that the reader used.
    cpu: f64,
    /// Of each frame, in ms.
    waits: Vec<f64>,
}

/// One load and one kind of ring, over all rounds.
#[derive(Debug)]
struct Row {
    load: &'static str,
    block_len: usize,
    retire_after_ms: u32,
    rounds: Vec<Reading>,
}

/// Measures everything, and calls `progress` after each round.
///
/// # Errors
/// [`Error`]: of the lab or of a ring. Frames that are lost are an error, too.
pub fn table(rounds: usize, mut progress: impl FnMut(usize)) -> Result<Table> {
    let lab = Lab::builder().build()?;
    for host in [&lab.client, &lab.pod, &lab.sensor] {
        // With IPv6 the kernels would send something from time to time.
        host.namespace
            .set_sysctl("ipv6/conf/all/disable_ipv6", "1")?;
    }
    let mut rows = rows();
    for round in 1..=rounds {
        for row in &mut rows {
            row.rounds.push(measure(&lab, row)?);
        }
        progress(round);
    }
    Ok(shown(&rows))
}

fn rows() -> Vec<Row> {
    let kinds = BLOCKS
        .iter()
        .flat_map(|block| TIMES.map(|time| (*block, time)));
    let kinds: Vec<_> = kinds.collect();
    let rows = LOADS.iter().flat_map(|load| {
        kinds.iter().map(|&(block_len, retire_after_ms)| Row {
            load: load.name,
            block_len,
            retire_after_ms,
            rounds: Vec::new(),
        })
    });
    rows.collect()
}

fn shown(rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        ("load", Align::Left),
        ("block", Align::Right),
        ("closed after", Align::Right),
        ("wait p50", Align::Right),
        ("p99", Align::Right),
        ("wake-ups/s", Align::Right),
        ("CPU", Align::Right),
        ("CPU ratio", Align::Right),
    ]);
    for row in rows {
        let first = rows.iter().find(|other| other.load == row.load);
        table.row(cells(row, first.unwrap_or(row)));
    }
    table
}

fn cells(row: &Row, first: &Row) -> [String; 8] {
    let of = |value: fn(&Reading) -> f64| median(row.rounds.iter().map(value)).unwrap_or(0.0);
    let wait = |percent| {
        let each = row
            .rounds
            .iter()
            .filter_map(|reading| percentile(&reading.waits, percent));
        median(each).map_or("-".to_owned(), |wait| format!("{wait:.1} ms"))
    };
    let pairs = row.rounds.iter().zip(&first.rounds);
    let ratio = median_ratio(pairs.map(|(reading, first)| (reading.cpu, first.cpu)));
    let has_frames = row.rounds.iter().any(|reading| !reading.waits.is_empty());
    [
        row.load.to_owned(),
        format!("{} KiB", row.block_len >> 10),
        format!("{} ms", row.retire_after_ms),
        wait(50),
        wait(99),
        format!("{:.0}", of(|reading| reading.wake_ups_per_second)),
        format!("{:.2} %", 100.0 * of(|reading| reading.cpu)),
        ratio
            .filter(|_| has_frames)
            .map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
    ]
}

fn measure(lab: &Lab, row: &Row) -> Result<Reading> {
    let load = LOADS.iter().find(|load| load.name == row.load);
    let load = *load.ok_or(Error::NotBound)?;
    let mut ring = open(lab, row)?;
    let (from, to) = sockets(lab, load)?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| read(&mut ring, &over));
        let sent = send(&from, load);
        over.store(true, Ordering::Relaxed);
        let reading = reader.join().map_err(|_| Error::LoadFailed)??;
        drop(to);
        if reading.waits.len() < sent? as usize {
            return Err(Error::IncompleteRecording);
        }
        Ok(reading)
    })
}

fn open(lab: &Lab, row: &Row) -> Result<Ring> {
    let interface: InterfaceName = "eth0".parse().map_err(|_| Error::NotBound)?;
    let config = RingConfig {
        block_len: row.block_len,
        retire_after_ms: row.retire_after_ms,
        ..RingConfig::new(RING, NonZeroU32::MIN)
    };
    let open = || Ring::open(interface, &config);
    let mut ring = lab.pod.namespace.run(open).map_err(Error::Ring)?;
    let change = ring.refresh().map_err(failed("binding a ring"))?;
    change.map(|_| ring).ok_or(Error::NotBound)
}

/// A connected sender at the client, and a receiver in the pod that nobody reads.
fn sockets(lab: &Lab, load: Load) -> Result<(UdpSocket, UdpSocket)> {
    let bind = |host: &testbed::Host| host.namespace.run(|| UdpSocket::bind((host.ipv4, 0)));
    let open = || {
        let (from, to) = (bind(&lab.client)?, bind(&lab.pod)?);
        from.connect(to.local_addr()?)?;
        Ok((from, to))
    };
    let (from, to) = open().map_err(failed("opening sockets in the lab"))?;
    if let Some(segment) = load.segment {
        setsockopt(&from, sockopt::UdpGsoSegment, &segment)
            .map_err(|source| failed("setting UDP_SEGMENT")(source.into()))?;
    }
    Ok((from, to))
}

/// Sends the load, and returns how many datagrams or buffers that were.
fn send(socket: &UdpSocket, load: Load) -> Result<u32> {
    let payload = vec![0x5a; load.size];
    let (start, mut due, mut sent) = (Instant::now(), Duration::ZERO, 0);
    let mut random = Random::new();
    loop {
        let mean = Duration::from_secs(1) / load.per_second.max(1);
        due += if load.random {
            mean.mul_f64(2.0 * random.next())
        } else {
            mean
        };
        if due > load.time {
            break;
        }
        thread::sleep(due.saturating_sub(start.elapsed()));
        socket.send(&payload).map_err(failed("sending a load"))?;
        sent += 1;
    }
    thread::sleep(load.time.saturating_sub(start.elapsed()));
    Ok(sent)
}

/// Reads the ring until the load is over and no more block is closed.
fn read(ring: &mut Ring, over: &AtomicBool) -> Result<Reading> {
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
    let (start, cpu) = (Instant::now(), cpu_time(clock)?);
    let mut wake_ups = 0_u32;
    let mut waits = Vec::new();
    loop {
        let is_over = over.load(Ordering::Relaxed);
        let mut wanted = [PollFd::new(ring.as_fd(), PollFlags::POLLIN)];
        let closed =
            poll(&mut wanted, PollTimeout::from(LAST_MS)).map_err(|source| Error::System {
                doing: "waiting for a ring",
                source,
            })?;
        if closed == 0 && is_over {
            break;
        }
        wake_ups += u32::from(closed > 0);
        while let Some(block) = ring.next_block() {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            waits.extend(block.frames().map(|frame| {
                let time = frame.timestamp;
                let time = Duration::new(u64::from(time.seconds), time.nanoseconds);
                now.saturating_sub(time).as_secs_f64() * 1e3
            }));
        }
    }
    let time = start.elapsed().as_secs_f64();
    Ok(Reading {
        wake_ups_per_second: f64::from(wake_ups) / time,
        cpu: cpu_time(clock)?.saturating_sub(cpu).as_secs_f64() / time,
        waits,
    })
}

fn failed(doing: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Io { doing, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_medians_and_ratios_to_the_first_of_its_load() {
        let row = |readings: &[(f64, f64)]| Row {
            load: "light",
            block_len: 256 << 10,
            retire_after_ms: 8,
            rounds: readings
                .iter()
                .map(|&(wake_ups_per_second, cpu)| Reading {
                    wake_ups_per_second,
                    cpu,
                    waits: (0..=100).map(f64::from).collect(),
                })
                .collect(),
        };
        let first = row(&[(60.0, 0.02), (60.0, 0.01), (60.0, 0.01)]);
        let other = row(&[(100.0, 0.05), (120.0, 0.02), (130.0, 0.02)]);
        assert_eq!(
            cells(&other, &first),
            [
                "light", "256 KiB", "8 ms", "50.0 ms", "99.0 ms", "120", "2.00 %", "2.00"
            ]
        );
    }

    #[test]
    fn podspans_ring_is_the_first_of_each_load() {
        let rows = rows();
        assert_eq!(rows.len(), LOADS.len() * BLOCKS.len() * TIMES.len());
        for load in LOADS {
            let first = rows.iter().find(|row| row.load == load.name).unwrap();
            assert_eq!(
                (first.block_len, first.retire_after_ms),
                (BLOCK_LEN, RETIRE_AFTER_MS)
            );
        }
    }
}
