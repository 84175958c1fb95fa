//! The latency of a copy: the time from a frame at the pod's `eth0` to its copy at the sensor's.
//!
//! Both times are those that the kernel gives packets for captures, on one machine, so they are of one clock.
//! podspan has a quota of 0.25 CPU. A frame carries a number, which is found again in the copy; to a sensor
//! that is a socket, a message with many copies is seen before the kernel splits it. Loads, each for a sensor
//! that captures and for one that is a socket:
//! - **now and then**: one frame, then nothing for 40 ms on average, at random;
//! - **bursts**: 100 frames at once, then nothing for 150 ms on average, at random;
//! - **half**: half of the highest rate that podspan mirrors without loss under its quota, which is
//!   searched first.
//!
//! A sensor's capture and the pod's cost the senders' CPU time: that of the sensor is a part of podspan's quota.

mod histogram;
mod report;

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use testbed::{ControlGroup, Filter, FrameRef, Lab, Sink, Sniffer};

use crate::agent::Agent;
use crate::error::{Error, Result};
use crate::random::Random;
use crate::statistics::percentile;

pub use histogram::{Bucket, buckets};
pub use report::{Results, Row};

/// The limit of the 99th percentile, in milliseconds.
pub const BAR_MS: f64 = 20.0;
/// CPU time in each 100 ms.
const QUOTA: Duration = Duration::from_millis(25);
/// Bytes of a frame from its Ethernet header on.
const FRAME: usize = 128;
/// Ethernet, IPv4 and UDP headers, of the frame and of the copy's datagram.
const HEADERS: usize = 14 + 20 + 8;
const VXLAN: usize = 8;
const VNI: u32 = 1;
const PORT: u16 = 4789;
/// After a frame's number.
const MAGIC: [u8; 8] = *b"latency?";
/// A rate is too high if a copy is later than two periods of the quota: the ring fills.
const LATE_MS: f64 = 200.0;
/// How long copies are awaited after a load.
const AFTER: Duration = Duration::from_millis(400);
/// Frames a second with which the search starts.
const SLOWEST: u32 = 8_000;
/// How long a rate is tried.
const TRIAL: Duration = Duration::from_millis(1500);
/// How often it is tried before it counts as too high.
const TRIALS: usize = 3;

/// The kinds of sensors, as `RECEIVER` names them.
pub const RECEIVERS: [&str; 2] = ["sniffer", "socket"];

/// When frames are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Its name in results.
    pub name: &'static str,
    /// Frames that are sent at once.
    burst: u32,
    /// The time between two bursts.
    gap: Duration,
    /// Whether the gap is random, from zero to twice as much.
    random: bool,
}

impl Load {
    /// The loads; the last has this rate.
    #[must_use]
    pub fn all(half: u32) -> [Self; 3] {
        let idle = |name, burst, gap| Self {
            name,
            burst,
            gap: Duration::from_millis(gap),
            random: true,
        };
        [
            idle("now and then", 1, 40),
            idle("bursts", 100, 150),
            Self {
                name: "half load",
                ..Self::of_rate(half)
            },
        ]
    }

    fn of_rate(per_second: u32) -> Self {
        Self {
            name: "",
            burst: 1,
            gap: Duration::from_secs(1) / per_second.max(1),
            random: false,
        }
    }
}

/// What a load came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Frames that were sent to the pod a second.
    pub per_second: f64,
    /// Frames without a copy.
    pub missing: usize,
    /// The latency of each copy in milliseconds.
    pub latencies: Vec<f64>,
}

impl Measured {
    /// Whether the client sent as fast as it should.
    fn has_rate(&self, per_second: u32) -> bool {
        self.per_second >= f64::from(per_second) * 0.95
    }

    /// A trial without loss is better, and then the faster one.
    fn is_better_than(&self, other: &Self) -> bool {
        let key = |one: &Self| (one.is_without_loss(), one.per_second);
        key(self) > key(other)
    }

    fn is_without_loss(&self) -> bool {
        let latest = percentile(&self.latencies, 100);
        self.missing == 0 && latest.is_some_and(|latest| latest <= LATE_MS)
    }
}

/// Measures everything, and calls `progress` with a line of text now and then.
///
/// # Errors
/// [`Error::NoQuota`], [`Error::TooSlow`], [`Error::CopiesLost`], or of the lab or podspan.
pub fn measure(
    binary: &Path,
    rounds: usize,
    time: Duration,
    mut progress: impl FnMut(&str),
) -> Result<Results> {
    let bench = Bench::open(binary)?;
    let mut highest = Vec::new();
    for receiver in RECEIVERS {
        let rate = bench.highest_rate(receiver)?;
        progress(&format!("{receiver}: no loss up to {rate} frames a second"));
        highest.push(rate);
    }
    let mut results = Results::new(rounds, time, &highest);
    for round in 1..=rounds {
        for (receiver, highest) in RECEIVERS.iter().zip(&highest) {
            let mut agent = bench.agent(receiver)?;
            for load in Load::all(highest / 2) {
                let measured = bench.load(&mut agent, load, time)?;
                results.add(receiver, load.name, measured);
            }
        }
        progress(&format!("round {round} of {rounds}"));
    }
    Ok(results)
}

struct Bench<'b> {
    binary: &'b Path,
    lab: Lab,
    group: ControlGroup,
    sensor: SocketAddr,
    /// Nobody reads from these: without them, each datagram would be answered with an ICMP error.
    client: UdpSocket,
    _unread: [UdpSocket; 2],
}

impl<'b> Bench<'b> {
    fn open(binary: &'b Path) -> Result<Self> {
        let group = ControlGroup::with_quota(QUOTA).ok_or(Error::NoQuota)?;
        let lab = Lab::builder().build()?;
        let failed = |source| Error::Io {
            doing: "opening sockets in the lab",
            source,
        };
        let bind = |host: &testbed::Host, port| {
            let bound = host.namespace.run(|| UdpSocket::bind((host.ipv4, port)));
            bound.map_err(failed)
        };
        let (client, pod) = (bind(&lab.client, 0)?, bind(&lab.pod, 0)?);
        let sensor = bind(&lab.sensor, PORT)?;
        let to = pod.local_addr().map_err(failed)?;
        client.connect(to).map_err(failed)?;
        Ok(Self {
            binary,
            sensor: SocketAddr::from((lab.sensor.ipv4, PORT)),
            lab,
            group,
            client,
            _unread: [pod, sensor],
        })
    }

    fn agent(&self, receiver: &str) -> Result<Agent> {
        let settings = [
            ("SENSOR", self.sensor.to_string()),
            ("VNI", VNI.to_string()),
            ("RECEIVER", receiver.to_owned()),
        ];
        let group = Some(&self.group);
        let mut agent = Agent::start_in(self.binary, &self.lab, &settings, group)?;
        agent.await_mirroring(&self.lab)?;
        Ok(agent)
    }

    /// The highest rate that podspan mirrors without loss, within 6 %, or the highest that is sent here.
    fn highest_rate(&self, receiver: &str) -> Result<u32> {
        let (mut good, mut bad) = (None, None);
        let mut rate = SLOWEST;
        loop {
            let tried = self.trial(receiver, rate)?;
            if tried.is_without_loss() {
                good = Some(rate);
                if !tried.has_rate(rate) {
                    return Ok(rounded(tried.per_second));
                }
            } else {
                bad = Some(rate);
            }
            rate = match (good, bad) {
                (None, _) => return Err(Error::TooSlow { per_second: rate }),
                (Some(good), None) => good + good / 2,
                (Some(good), Some(bad)) if bad - good <= good / 16 => return Ok(good),
                (Some(good), Some(bad)) => u32::midpoint(good, bad),
            };
        }
    }

    /// Tries a rate. Another program can take the processor from the client or from podspan, so one of several
    /// trials is enough.
    fn trial(&self, receiver: &str, rate: u32) -> Result<Measured> {
        let mut best: Option<Measured> = None;
        for _ in 0..TRIALS {
            let mut agent = self.agent(receiver)?;
            // It is killed then: its totals are not needed, and after too high a rate it could not log them in time.
            let tried = self.measure(&mut agent, Load::of_rate(rate), TRIAL)?;
            drop(agent);
            if tried.is_without_loss() && tried.has_rate(rate) {
                return Ok(tried);
            }
            best = best
                .filter(|best| best.is_better_than(&tried))
                .or(Some(tried));
        }
        best.ok_or(Error::TooSlow { per_second: rate })
    }

    /// A load of which no copy may be missing.
    fn load(&self, agent: &mut Agent, load: Load, time: Duration) -> Result<Measured> {
        let measured = self.measure(agent, load, time)?;
        let missing = measured.missing;
        if missing > 0 {
            let sent = missing + measured.latencies.len();
            return Err(Error::CopiesLost { missing, sent });
        }
        Ok(measured)
    }

    fn measure(&self, agent: &mut Agent, load: Load, time: Duration) -> Result<Measured> {
        agent.check_running()?;
        let capture = |host: &testbed::Host, datagrams| {
            let numbers = Numbers {
                datagrams,
                seen: Vec::new(),
            };
            Sniffer::start(&host.namespace, "eth0", Filter::Incoming, numbers)
        };
        let (frames, copies) = (
            capture(&self.lab.pod, false)?,
            capture(&self.lab.sensor, true)?,
        );
        let (sent, sending) = send(&self.client, load, time)?;
        thread::sleep(AFTER);
        let ((frames, _), (copies, _)) = (frames.stop()?, copies.stop()?);
        let latencies = latencies(&frames.seen, &copies.seen);
        Ok(Measured {
            per_second: f64::from(sent) / sending.as_secs_f64(),
            missing: (sent as usize).saturating_sub(latencies.len()),
            latencies,
        })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate"
)]
fn rounded(per_second: f64) -> u32 {
    per_second.round() as u32
}

/// Sends the load, and returns how many frames that were and how long it took.
fn send(socket: &UdpSocket, load: Load, time: Duration) -> Result<(u32, Duration)> {
    let mut payload = [0x5a; FRAME - HEADERS];
    payload[4..12].copy_from_slice(&MAGIC);
    let mut random = Random::new();
    let (start, mut due, mut number) = (Instant::now(), Duration::ZERO, 0_u32);
    loop {
        due += if load.random {
            load.gap.mul_f64(2.0 * random.next())
        } else {
            load.gap
        };
        if due > time || start.elapsed() > time {
            return Ok((number, start.elapsed()));
        }
        thread::sleep(due.saturating_sub(start.elapsed()));
        for _ in 0..load.burst {
            payload[..4].copy_from_slice(&number.to_be_bytes());
            socket.send(&payload).map_err(|source| Error::Io {
                doing: "sending a load",
                source,
            })?;
            number += 1;
        }
    }
}

/// The numbers of frames and when they were seen.
struct Numbers {
    /// Whether the frames are datagrams with copies in them.
    datagrams: bool,
    seen: Vec<(u32, Duration)>,
}

impl Sink for Numbers {
    fn receive(&mut self, frame: FrameRef<'_>) {
        let time = frame.time;
        if self.datagrams {
            let copies = copies(frame.bytes).filter_map(number);
            self.seen.extend(copies.map(|number| (number, time)));
        } else {
            self.seen
                .extend(number(frame.bytes).map(|number| (number, time)));
        }
    }
}

/// The copies in a message: one, or several of one length.
fn copies(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let payload = message.get(HEADERS..).unwrap_or_default();
    let segments = payload.chunks(VXLAN + FRAME);
    segments.filter_map(|segment| segment.get(VXLAN..))
}

/// The number of a frame of the load.
fn number(frame: &[u8]) -> Option<u32> {
    let (number, rest) = frame.get(HEADERS..)?.split_first_chunk()?;
    (rest.first_chunk() == Some(&MAGIC)).then(|| u32::from_be_bytes(*number))
}

/// The time between each frame and its first copy, in milliseconds.
fn latencies(frames: &[(u32, Duration)], copies: &[(u32, Duration)]) -> Vec<f64> {
    let mut waiting: Vec<Option<Duration>> = Vec::new();
    for (number, time) in frames {
        let number = *number as usize;
        if waiting.len() <= number {
            waiting.resize(number + 1, None);
        }
        waiting[number] = Some(*time);
    }
    let latency = |(number, copied): &(u32, Duration)| {
        let seen = waiting.get_mut(*number as usize)?.take()?;
        Some(copied.saturating_sub(seen).as_secs_f64() * 1e3)
    };
    copies.iter().filter_map(latency).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u32) -> Vec<u8> {
        let mut frame = vec![0; FRAME];
        frame[HEADERS..HEADERS + 4].copy_from_slice(&number.to_be_bytes());
        frame[HEADERS + 4..HEADERS + 12].copy_from_slice(&MAGIC);
        frame
    }

    #[test]
    fn all_copies_of_a_message_are_found() {
        let mut message = vec![0; HEADERS];
        for number in [7, 8, 9] {
            message.extend([8, 0, 0, 0, 0, 0, 1, 0]);
            message.extend(frame(number));
        }
        message.extend([8, 0, 0, 0, 0, 0, 1, 0, 1, 2, 3]);
        let found: Vec<u32> = copies(&message).filter_map(number).collect();
        assert_eq!(found, [7, 8, 9]);
        assert_eq!(number(&message), None, "a datagram is no frame");
        assert_eq!(copies(&[0; 20]).count(), 0);
    }

    #[test]
    fn a_latency_is_that_of_the_first_copy() {
        let ms = Duration::from_millis;
        let frames = [(0, ms(10)), (1, ms(11)), (2, ms(12))];
        let copies = [(1, ms(15)), (0, ms(30)), (1, ms(40)), (9, ms(40))];
        let found = latencies(&frames, &copies);
        assert_eq!(found.len(), 2);
        assert!((found[0] - 4.0).abs() < 1e-9 && (found[1] - 20.0).abs() < 1e-9);
    }

    #[test]
    fn a_rate_is_without_loss_if_every_copy_arrives_in_time() {
        let of = |missing, latencies: &[f64]| Measured {
            per_second: 1.0,
            missing,
            latencies: latencies.to_vec(),
        };
        assert!(of(0, &[1.0, 199.0]).is_without_loss());
        assert!(!of(0, &[1.0, 201.0]).is_without_loss());
        assert!(!of(1, &[1.0]).is_without_loss());
        assert!(!of(0, &[]).is_without_loss());
    }
}
