//! What was measured, and medians of it. Pure.

use serde::Serialize;

use super::bulk::Bulk;
use super::capture::{Beside, Kind, Sent};
use super::plan::{Direction, Mirror};
use crate::matrix::bars::{Bar, Limit, bar};
use crate::statistics::{median, median_ratio, percentile};

/// What a mirror copied in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Copies {
    /// Bytes at the sensor's vxlan device.
    pub bytes: u64,
    /// Frames that podspan's filter let pass.
    pub frames: u64,
    /// Of these, frames for which its ring had no room.
    pub ring_drops: u64,
    /// podspan's CPU time, as a part of one processor.
    pub cpu: f64,
}

/// A turn of bulk TCP.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Throughput {
    /// The round.
    pub round: u32,
    /// Where the data went.
    pub direction: Direction,
    /// What mirrored it.
    pub mirror: Mirror,
    /// What the application got.
    pub bulk: Bulk,
    /// What the sensor got.
    pub copies: Copies,
    /// The part of all processors that other programs used.
    pub others: f64,
}

impl Throughput {
    /// The part of the application's bytes that arrived at the sensor, with headers.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "bytes")]
    pub fn copied(&self) -> f64 {
        self.copies.bytes as f64 / self.bulk.bytes.max(1.0)
    }
}

/// A turn of requests.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Latency {
    /// The round.
    pub round: u32,
    /// What mirrored it.
    pub mirror: Mirror,
    /// Percentiles in microseconds: 50, 99, 99.9.
    pub micros: [f64; 3],
    /// Requests without a response.
    pub missing: usize,
    /// What the sensor got.
    pub copies: Copies,
    /// The part of all processors that other programs used.
    pub others: f64,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
pub struct Results {
    /// podspan's CPU time in each 100 ms, in ms.
    pub quota_ms: u64,
    /// How long a load ran.
    pub seconds: f64,
    /// Nanoseconds of a copy of a KiB in memory.
    pub copy_nanos_per_kib: f64,
    /// The first number of `/proc/loadavg` before and after.
    pub load_average: Vec<f64>,
    /// Requests a second at half load; 0 where it was not searched.
    pub half_per_second: f64,
    /// Bulk TCP.
    pub throughput: Vec<Throughput>,
    /// Requests.
    pub latency: Vec<Latency>,
    /// What captures cost.
    pub sent: Vec<Sent>,
}

/// The median of the ratios of each round.
fn ratio<T>(
    all: &[T],
    round: fn(&T) -> u32,
    (is, is_base): (impl Fn(&T) -> bool, impl Fn(&T) -> bool),
    value: impl Fn(&T) -> f64,
) -> Option<f64> {
    let pairs = all.iter().filter(|one| is(one)).filter_map(|one| {
        let mut bases = all.iter().filter(|base| is_base(base));
        let base = bases.find(|base| round(base) == round(one))?;
        Some((value(one), value(base)))
    });
    median_ratio(pairs)
}

impl Results {
    /// The median of a value of one mirror's bulk TCP.
    #[must_use]
    pub fn bulk(
        &self,
        direction: Direction,
        mirror: Mirror,
        value: impl Fn(&Throughput) -> f64,
    ) -> Option<f64> {
        let turns = self.throughput.iter();
        let turns = turns.filter(|turn| (turn.direction, turn.mirror) == (direction, mirror));
        median(turns.map(value))
    }

    /// The median of the ratios of the rates of each round.
    #[must_use]
    pub fn bulk_ratio(&self, direction: Direction, mirror: Mirror, base: Mirror) -> Option<f64> {
        let of =
            |mirror| move |turn: &Throughput| (turn.direction, turn.mirror) == (direction, mirror);
        let rate = |turn: &Throughput| turn.bulk.bits_per_second;
        ratio(
            &self.throughput,
            |turn| turn.round,
            (of(mirror), of(base)),
            rate,
        )
    }

    /// The median of a value of one mirror's requests.
    #[must_use]
    pub fn requests(&self, mirror: Mirror, value: impl Fn(&Latency) -> f64) -> Option<f64> {
        let turns = self.latency.iter().filter(|turn| turn.mirror == mirror);
        median(turns.map(value))
    }

    /// The median of the ratios of a value of each round, to that without a mirror.
    #[must_use]
    pub fn latency_ratio(&self, mirror: Mirror, value: impl Fn(&Latency) -> f64) -> Option<f64> {
        let of = |mirror| move |turn: &Latency| turn.mirror == mirror;
        let pair = (of(mirror), of(Mirror::Nothing));
        ratio(&self.latency, |turn| turn.round, pair, value)
    }

    /// The median of a value beside a ring.
    #[must_use]
    pub fn beside(&self, beside: Beside, value: fn(&Sent) -> f64) -> Option<f64> {
        let turns = self.sent.iter().filter(|turn| turn.beside == beside);
        median(turns.map(value))
    }

    /// The median of the ratios of the sender's CPU time of each round, to that beside nothing.
    #[must_use]
    pub fn beside_ratio(&self, beside: Beside) -> Option<f64> {
        let of = |beside| move |turn: &Sent| turn.beside == beside;
        let pair = (of(beside), of(Beside::Mirror(Mirror::Nothing)));
        ratio(
            &self.sent,
            |turn| turn.round,
            pair,
            |turn| turn.nanos_per_kib,
        )
    }

    /// How long the copy of a KiB into podspan's ring takes, as a multiple of a copy in memory: what the sender
    /// needs more than beside a full ring.
    #[must_use]
    pub fn copy_ratio(&self) -> Option<f64> {
        let nanos = |kind| self.beside(Beside::Ring(kind), |turn| turn.nanos_per_kib);
        let more = nanos(Kind::USUAL)? - nanos(Kind::FULL)?;
        (self.copy_nanos_per_kib > 0.0).then(|| more / self.copy_nanos_per_kib)
    }

    /// The largest part of all processors that other programs used in a turn of an application.
    #[must_use]
    pub fn others(&self) -> f64 {
        let throughput = self.throughput.iter().map(|turn| turn.others);
        let all = throughput.chain(self.latency.iter().map(|turn| turn.others));
        all.fold(0.0, f64::max)
    }

    /// The bars.
    #[must_use]
    pub fn bars(&self) -> Vec<Bar> {
        let throughput = Direction::ALL.map(|direction| {
            let name = direction.name();
            let measure = format!("TCP throughput of the application {name}, podspan / tc mirred");
            let figure = self.bulk_ratio(direction, Mirror::Podspan, Mirror::Tc);
            bar(&measure, Limit::AtLeast(0.95), figure, "x")
        });
        let latency = bar(
            "p99 latency of the application at half load, podspan / no mirror",
            Limit::AtMost(1.05),
            self.latency_ratio(Mirror::Podspan, |turn| turn.micros[1]),
            "x",
        );
        let rejected = Direction::ALL.map(|direction| {
            let name = direction.name();
            let measure =
                format!("TCP throughput {name} that the filter rejects, podspan / no mirror");
            let figure = self.bulk_ratio(direction, Mirror::Rejecting, Mirror::Nothing);
            bar(&measure, Limit::AtLeast(0.98), figure, "x")
        });
        let cpu = Direction::ALL.map(|direction| {
            let name = direction.name();
            let measure = format!("podspan's CPU time while it rejects data {name}, of a core");
            let percent = |turn: &Throughput| 100.0 * turn.copies.cpu;
            let figure = self.bulk(direction, Mirror::Rejecting, percent);
            bar(&measure, Limit::AtMost(0.05), figure, " %")
        });
        let bars = throughput.into_iter().chain([latency]);
        bars.chain(rejected).chain(cpu).collect()
    }
}

/// The 50th, 99th and 99.9th percentile.
#[must_use]
pub fn percentiles(values: &[f64]) -> Option<[f64; 3]> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    // The smallest value that is not below 99.9 %.
    let last = (sorted.len() * 999).div_ceil(1000).max(1);
    Some([
        percentile(&sorted, 50)?,
        percentile(&sorted, 99)?,
        *sorted.get(last - 1)?,
    ])
}
