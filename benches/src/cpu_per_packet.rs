//! CPU time per mirrored packet, compared with the least that any sender through the socket layer
//! needs.
//!
//! Two programs run in turn, over the same route of the same lab, and nothing else captures:
//! - **podspan**: the client sends UDP to the pod, frames of [`FRAME`] bytes; podspan mirrors them.
//!   Its process's CPU time, over the datagrams that it sent.
//! - **bare**: a thread in the pod sends datagrams of the very same size to the same address of the
//!   sensor by `sendmmsg`, as fast as it can. Its CPU time, over its datagrams. The client sends
//!   at the same time, as it does for podspan: the processors share caches, and often more.
//!
//! Both costs include the path through veth and bridge, which the kernel charges to the sender. In
//! addition, podspan reads frames from the ring and decides how to send them. The result is the
//! ratio of the medians.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use testbed::Lab;
use testbed::traffic::{Family, UdpStream, udp_stream};

use crate::agent::Agent;
use crate::bare;
use crate::error::{Error, Result};
use crate::statistics;

/// Length of the frames that are mirrored, in bytes from the Ethernet header on.
pub const FRAME: usize = 128;
/// How many packets a second podspan gets: as fast as the bare sender sends. At a tenth of it, each
/// packet's cost includes a part of a wake-up, and the bare sender has no wake-ups.
pub const FAST: u32 = 100_000;
/// Ethernet, IPv4 and UDP headers.
const INNER_HEADERS: usize = 14 + 20 + 8;
const VXLAN_HEADER: usize = 8;
const VNI: u32 = 1;
const PORT: u16 = 4789;
/// After this time the client's stream is running.
const STARTED: Duration = Duration::from_millis(100);
/// In this time podspan empties its ring: the kernel releases a block after milliseconds.
const QUIET: Duration = Duration::from_millis(300);

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// How often both run.
    pub rounds: u32,
    /// Packets of each in a round.
    pub packets: u32,
    /// Packets a second that podspan has to mirror.
    pub per_second: u32,
}

/// CPU time per packet in one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Of podspan, to a sensor that captures.
    pub podspan: Duration,
    /// Of podspan, to a sensor that is a socket.
    pub socket: Duration,
    /// Of the bare sender.
    pub bare: Duration,
}

/// All rounds, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// In their order.
    pub rounds: Vec<Round>,
}

impl Outcome {
    /// The median over all rounds, separately for each program.
    #[must_use]
    pub fn median(&self) -> Round {
        Round {
            podspan: median(self.rounds.iter().map(|round| round.podspan)),
            socket: median(self.rounds.iter().map(|round| round.socket)),
            bare: median(self.rounds.iter().map(|round| round.bare)),
        }
    }

    /// podspan's CPU time as a multiple of the bare sender's.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        let median = self.median();
        median.podspan.as_secs_f64() / median.bare.as_secs_f64()
    }
}

/// Measures as `plan` says with the podspan at `binary`, and calls `each` with each round. `each`
/// returns false to end the measurement early.
///
/// # Errors
/// [`Error::LoadLost`] where podspan did not mirror the load; see [`Error`] for the rest.
pub fn measure(binary: &Path, plan: Plan, mut each: impl FnMut(Round) -> bool) -> Result<Outcome> {
    let lab = Lab::builder().build()?;
    let sensor = SocketAddr::from((lab.sensor.ipv4, PORT));
    // Nobody reads from it. Without it, the sensor answers each datagram with an ICMP error. The
    // kernel drops what does not fit.
    let _unread = bare::open(&lab.sensor.namespace, sensor)?;
    let mut rounds = Vec::new();
    for _ in 0..plan.rounds {
        let round = Round {
            bare: bare_under_load(&lab, sensor, plan)?,
            podspan: podspan(binary, &lab, sensor, "sniffer", plan)?,
            socket: podspan(binary, &lab, sensor, "socket", plan)?,
        };
        rounds.push(round);
        if !each(round) {
            break;
        }
    }
    Ok(Outcome { rounds })
}

fn podspan(
    binary: &Path,
    lab: &Lab,
    sensor: SocketAddr,
    receiver: &str,
    plan: Plan,
) -> Result<Duration> {
    let settings = [
        ("SENSOR", sensor.to_string()),
        ("VNI", VNI.to_string()),
        ("RECEIVER", receiver.to_owned()),
    ];
    let mut agent = Agent::start_with(binary, lab, &settings)?;
    agent.await_mirroring(lab)?;
    let before = agent.cpu_time()?;
    let load = udp_stream(&lab.client, &lab.pod, Family::V4, stream(plan))?.sent;
    thread::sleep(QUIET);
    let used = agent.cpu_time()?.saturating_sub(before);
    let totals = agent.stop()?;
    if totals.datagrams_sent < load {
        return Err(Error::LoadLost {
            sent: totals.datagrams_sent,
            load,
            dropped: totals.frames_dropped + totals.ring_drops,
        });
    }
    Ok(each_of(used, totals.datagrams_sent))
}

/// The bare sender, while the client sends the same load to the pod as for podspan.
fn bare_under_load(lab: &Lab, sensor: SocketAddr, plan: Plan) -> Result<Duration> {
    thread::scope(|scope| {
        let load = scope.spawn(|| udp_stream(&lab.client, &lab.pod, Family::V4, stream(plan)));
        thread::sleep(STARTED);
        let sent = bare::plain(lab, sensor, &[VXLAN_HEADER + FRAME], plan.packets.into());
        load.join().map_err(|_| Error::LoadFailed)??;
        sent.map(|sent| each_of(sent.cpu, sent.datagrams))
    })
}

/// The client's load.
const fn stream(plan: Plan) -> UdpStream {
    UdpStream {
        size: FRAME - INNER_HEADERS,
        count: plan.packets,
        per_second: plan.per_second,
    }
}

fn each_of(used: Duration, count: u64) -> Duration {
    let nanoseconds = used.as_nanos() / u128::from(count.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

fn median(values: impl Iterator<Item = Duration>) -> Duration {
    let seconds = statistics::median(values.map(|value| value.as_secs_f64()));
    Duration::from_secs_f64(seconds.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_that_of_the_medians() {
        let round = |podspan, bare| Round {
            podspan: Duration::from_micros(podspan),
            socket: Duration::from_micros(1),
            bare: Duration::from_micros(bare),
        };
        let outcome = Outcome {
            rounds: vec![round(9, 10), round(90, 8), round(8, 7)],
        };
        assert_eq!(outcome.median(), round(9, 8));
        assert!((outcome.ratio() - 1.125).abs() < 1e-9);
    }

    #[test]
    fn time_is_divided_by_the_packets() {
        assert_eq!(
            each_of(Duration::from_millis(9), 1000),
            Duration::from_micros(9)
        );
        assert_eq!(each_of(Duration::ZERO, 0), Duration::ZERO);
    }
}
