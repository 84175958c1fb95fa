//! The results: medians over the rounds, a table, a chart, and what goes into the JSON file.

use std::time::Duration;

use serde::Serialize;

use crate::chart::{Axis, Chart, Series};
use crate::statistics::{median, percentile};
use crate::table::{Align, Table, grouped};

use super::{BAR_MS, Bucket, FRAME, Load, Measured, QUOTA, RECEIVERS, buckets};

/// All results.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Results {
    /// Length of the frames, in bytes.
    pub frame: usize,
    /// podspan's quota as a part of a processor.
    pub cpu: f64,
    /// How often each load was measured.
    pub rounds: usize,
    /// For how long each time, in seconds.
    pub seconds: f64,
    /// One for each kind of sensor and each load.
    pub rows: Vec<Row>,
}

/// One kind of sensor and one load.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The kind of sensor.
    pub receiver: &'static str,
    /// The load.
    pub load: &'static str,
    /// The highest rate without loss for this kind of sensor, in frames a second.
    pub highest_per_second: u32,
    /// Frames sent a second, the median.
    pub per_second: f64,
    /// Copies in all rounds.
    pub copies: usize,
    /// The latency in milliseconds: medians of the rounds' percentiles.
    pub p50_ms: f64,
    /// The same.
    pub p90_ms: f64,
    /// The same.
    pub p99_ms: f64,
    /// The longest of all rounds.
    pub max_ms: f64,
    /// How many copies of all rounds took how long, in milliseconds.
    pub histogram: Vec<Bucket>,
    #[serde(skip)]
    measured: Vec<Measured>,
}

impl Results {
    pub(super) fn new(rounds: usize, time: Duration, highest: &[u32]) -> Self {
        let rows = RECEIVERS
            .iter()
            .zip(highest)
            .flat_map(|(receiver, highest)| {
                Load::all(0).map(|load| Row {
                    receiver,
                    load: load.name,
                    highest_per_second: *highest,
                    per_second: 0.0,
                    copies: 0,
                    p50_ms: 0.0,
                    p90_ms: 0.0,
                    p99_ms: 0.0,
                    max_ms: 0.0,
                    histogram: Vec::new(),
                    measured: Vec::new(),
                })
            });
        Self {
            frame: FRAME,
            cpu: QUOTA.as_secs_f64() * 10.0,
            rounds,
            seconds: time.as_secs_f64(),
            rows: rows.collect(),
        }
    }

    pub(super) fn add(&mut self, receiver: &str, load: &str, measured: Measured) {
        let is_its = |row: &&mut Row| row.receiver == receiver && row.load == load;
        if let Some(row) = self.rows.iter_mut().find(is_its) {
            row.add(measured);
        }
    }

    /// Whether the 99th percentile is within the bar everywhere.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.rows.iter().all(Row::is_met)
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new(&[
            ("sensor", Align::Left),
            ("load", Align::Left),
            ("frames/s", Align::Right),
            ("copies", Align::Right),
            ("p50", Align::Right),
            ("p90", Align::Right),
            ("p99", Align::Right),
            ("max", Align::Right),
            ("p99 <= 20 ms", Align::Left),
        ]);
        for row in &self.rows {
            let ms = |value: f64| format!("{value:.1} ms");
            table.row([
                row.receiver.to_owned(),
                row.load.to_owned(),
                format!("{:.0}", row.per_second),
                grouped(row.copies as u64),
                ms(row.p50_ms),
                ms(row.p90_ms),
                ms(row.p99_ms),
                ms(row.max_ms),
                if row.is_met() { "met" } else { "not met" }.to_owned(),
            ]);
        }
        table
    }

    /// The histograms.
    #[must_use]
    pub fn chart(&self) -> Chart {
        let series = self.rows.iter().map(|row| Series {
            name: format!("{}, {}", row.receiver, row.load),
            points: row.shares(),
        });
        Chart {
            title: "Latency of a copy".to_owned(),
            x: Axis::logarithmic("ms from the pod's eth0 to the sensor's"),
            y: Axis::linear("% of the copies"),
            series: series.collect(),
        }
    }
}

impl Row {
    fn is_met(&self) -> bool {
        self.copies > 0 && self.p99_ms <= BAR_MS
    }

    #[expect(clippy::cast_precision_loss, reason = "some million copies")]
    fn shares(&self) -> Vec<(f64, f64)> {
        let all = self.copies.max(1) as f64;
        let share = |bucket: &Bucket| (bucket.middle(), 100.0 * bucket.count as f64 / all);
        self.histogram.iter().map(share).collect()
    }

    fn add(&mut self, measured: Measured) {
        self.measured.push(measured);
        let rounds = &self.measured;
        let of = |percent| {
            let each = rounds
                .iter()
                .filter_map(|one| percentile(&one.latencies, percent));
            median(each).unwrap_or(f64::NAN)
        };
        (self.p50_ms, self.p90_ms, self.p99_ms) = (of(50), of(90), of(99));
        let all: Vec<f64> = rounds
            .iter()
            .flat_map(|one| one.latencies.clone())
            .collect();
        self.max_ms = all.iter().copied().fold(0.0, f64::max);
        self.per_second = median(rounds.iter().map(|one| one.per_second)).unwrap_or(0.0);
        self.copies = all.len();
        self.histogram = buckets(&all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(latencies: impl Iterator<Item = u32>) -> Measured {
        Measured {
            per_second: 1000.0,
            missing: 0,
            latencies: latencies.map(f64::from).collect(),
        }
    }

    #[test]
    fn percentiles_are_medians_over_the_rounds_and_the_maximum_is_of_all() {
        let mut results = Results::new(3, Duration::from_secs(1), &[10, 20]);
        for round in [1..=10, 1..=100, 1..=20] {
            results.add("socket", "bursts", measured(round));
        }
        let row = &results.rows[4];
        assert_eq!(
            (row.receiver, row.load, row.highest_per_second),
            ("socket", "bursts", 20)
        );
        assert_eq!(row.copies, 130);
        assert!((row.max_ms - 100.0).abs() < 1e-9);
        assert!((row.p50_ms - 10.0).abs() < 1e-9 && (row.p99_ms - 20.0).abs() < 1e-9);
        assert!(row.is_met());
        assert!(!results.is_met(), "the others have no copies");
        let shares: f64 = row.shares().iter().map(|(_, share)| share).sum();
        assert!((shares - 100.0).abs() < 1e-6);
        let json = serde_json::to_string(&results).unwrap();
        assert!(json.contains("\"p99_ms\":20.0") && !json.contains("measured"));
    }

    #[test]
    fn a_row_above_the_bar_is_not_met() {
        let mut results = Results::new(1, Duration::from_secs(1), &[10, 20]);
        for receiver in RECEIVERS {
            for load in Load::all(0) {
                results.add(receiver, load.name, measured(1..=20));
            }
        }
        assert!(results.is_met());
        results.add("sniffer", "half load", measured(21..=60));
        results.add("sniffer", "half load", measured(21..=60));
        assert!(!results.is_met());
        assert!(results.table().to_string().contains("not met"));
        assert_eq!(results.chart().series.len(), 6);
    }
}
