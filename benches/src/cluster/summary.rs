//! The figures of a run: medians and ratios of its rounds.
//!
//! Comes in: [`Results`]. Goes out: one [`Summary`] for each load. Times and rates are medians of the rounds,
//! and a ratio is the median of the ratios of each round. Counts are sums of all rounds. No I/O.

use serde::{Deserialize, Serialize};

use super::results::{Case, Client, Offered, Results, Round, Sidecar};
use crate::statistics::{median, median_ratio};

/// Of the offered rate, the least share that counts as carried by the cluster.
const CARRIED: f64 = 0.95;

/// A figure without and with the sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// The median without.
    pub without: f64,
    /// The median with.
    pub with: f64,
    /// The median of with / without.
    pub ratio: Option<f64>,
}

/// The figures of one load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The load.
    pub offered: Offered,
    /// Whether the cluster carries the load without the sidecar: at least 95 % of the offered rate arrived. If
    /// not, the figures say more about the cluster than about the sidecar.
    pub carried: bool,
    /// Answers, bits or datagrams a second that arrived.
    pub rate: Compared,
    /// Latency of half of the requests, in microseconds.
    pub p50_us: Option<Compared>,
    /// Latency of 99 of 100 requests, in microseconds.
    pub p99_us: Option<Compared>,
    /// Requests, bytes or datagrams sent without the sidecar.
    pub sent_without: u64,
    /// The same with it.
    pub sent_with: u64,
    /// Failed requests, segments sent again, or datagrams lost, without the sidecar.
    pub failed_without: u64,
    /// The same with it.
    pub failed_with: u64,
    /// The sidecar.
    pub sidecar: Usage,
}

/// What the sidecar did and used. Counts are sums.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Frames that passed the ring's filter.
    pub frames: u64,
    /// The share of them that was mirrored.
    pub mirrored: Option<f64>,
    /// Frames that the ring had no room for.
    pub ring_drops: u64,
    /// Copies that the kernel accepted.
    pub copies_sent: u64,
    /// Copies that the sensor has counted.
    pub copies_received: u64,
    /// Copies that were wrong at the sensor.
    pub copies_wrong: u64,
    /// CPU time for each frame that podspan read, in microseconds.
    pub cpu_us_per_frame: Option<f64>,
    /// CPU time for each copy that was sent, in microseconds.
    pub cpu_us_per_copy: Option<f64>,
    /// CPU time as a share of one CPU over the time of the load. What is left in the ring is mirrored after it,
    /// so it can be a little above the quota.
    pub cpu: Option<f64>,
    /// Of the periods in which the sidecar was runnable, those in which it was throttled.
    pub throttled: Option<f64>,
    /// The most resident memory of a round, the ring included.
    pub resident_bytes: Option<u64>,
}

/// The figures of each load, in the order of the plan.
#[must_use]
pub fn summarize(results: &Results) -> Vec<Summary> {
    let seconds = results.plan.seconds;
    let figures = |case| of_case(case, seconds);
    results.cases.iter().filter_map(figures).collect()
}

/// `None` where there is no round.
fn of_case(case: &Case, seconds: u32) -> Option<Summary> {
    let rounds = &case.rounds;
    let rate = compare(rounds, |client| Some(client.rate))?;
    let sum = |count: fn(&Round) -> u64| rounds.iter().map(count).sum();
    Some(Summary {
        offered: case.offered,
        carried: rate.without >= CARRIED * case.offered.rate(),
        rate,
        p50_us: compare(rounds, |client| client.p50_us),
        p99_us: compare(rounds, |client| client.p99_us),
        sent_without: sum(|round| round.without.sent),
        sent_with: sum(|round| round.with.sent),
        failed_without: sum(|round| round.without.failed),
        failed_with: sum(|round| round.with.failed),
        sidecar: usage(rounds, seconds),
    })
}

fn compare(rounds: &[Round], figure: fn(&Client) -> Option<f64>) -> Option<Compared> {
    let pairs: Vec<(f64, f64)> = rounds
        .iter()
        .filter_map(|round| Some((figure(&round.with)?, figure(&round.without)?)))
        .collect();
    Some(Compared {
        without: median(pairs.iter().map(|pair| pair.1))?,
        with: median(pairs.iter().map(|pair| pair.0))?,
        ratio: median_ratio(pairs),
    })
}

fn usage(rounds: &[Round], seconds: u32) -> Usage {
    let sidecars = || rounds.iter().map(|round| &round.sidecar);
    let sum = |count: fn(&Sidecar) -> u64| sidecars().map(count).sum::<u64>();
    let frames = sum(|one| one.ring_packets);
    let per = |count: &dyn Fn(&Sidecar) -> u64| {
        let times = sidecars().map(|one| (one, count(one)));
        let counted = times.filter(|(_, count)| *count > 0);
        median(counted.filter_map(|(one, count)| Some(one.cpu_us? / float(count))))
    };
    // Each is `None` where one round has no value: a sum of fewer rounds would be another figure.
    let throttled: Option<u64> = sidecars().map(|one| one.throttled).sum();
    let periods: Option<u64> = sidecars().map(|one| one.periods).sum();
    Usage {
        frames,
        mirrored: share(sum(|one| one.frames_mirrored), frames),
        ring_drops: sum(|one| one.ring_drops),
        copies_sent: sum(|one| one.copies_sent),
        copies_received: sum(|one| one.copies_received),
        copies_wrong: sum(|one| one.copies_wrong),
        cpu_us_per_frame: per(&|one| one.frames_mirrored + one.frames_dropped),
        cpu_us_per_copy: per(&|one| one.copies_sent),
        cpu: median(sidecars().filter_map(|one| Some(one.cpu_us? / 1e6 / f64::from(seconds)))),
        throttled: throttled
            .zip(periods)
            .map(|(part, all)| share(part, all).unwrap_or(0.0)),
        resident_bytes: sidecars().filter_map(|one| one.resident_bytes).max(),
    }
}

fn share(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| float(part) / float(all))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a share of counts far below 2^52"
)]
fn float(count: u64) -> f64 {
    count as f64
}

impl Offered {
    /// The offered requests, bits or datagrams a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        match *self {
            Self::Http { per_second } | Self::Packets { per_second, .. } => f64::from(per_second),
            Self::Bulk { bits_per_second } => float(bits_per_second),
        }
    }
}
