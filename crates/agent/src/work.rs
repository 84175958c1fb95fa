//! What the worker counts about its batches: how many datagrams they have, and how late the copies are.
//!
//! In: one observation for each batch that was sent. Out: distributions with fixed bounds. The worker has plain integers
//! ([`Work`]) and publishes them after each block with relaxed stores ([`PublishedWork`]).
//!
//! The latency of a batch is that of its oldest frame: from the kernel's time of the frame in the ring to the end of the
//! last system call of the batch. It has the time in the ring, that of the batch, and that of sending. If the clock is
//! set in between, a latency is wrong by this, and never below zero.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use wire::Timestamp;

/// Upper bounds of the numbers of datagrams of a batch.
pub(crate) const DATAGRAMS: [u32; 6] = [1, 4, 16, 64, 256, 512];
/// Upper bounds of latencies in microseconds. A block of a quiet interface is closed after 16 ms, and a CPU quota stops
/// podspan for up to 100 ms and more.
pub(crate) const LATENCIES: [u32; 10] = [
    250, 1000, 5000, 10_000, 20_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
];

/// A distribution: a count for each bound and one above all, and the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Distribution<const BOUNDS: usize> {
    pub(crate) counts: [u64; BOUNDS],
    pub(crate) above: u64,
    pub(crate) sum: u64,
}

impl<const BOUNDS: usize> Default for Distribution<BOUNDS> {
    fn default() -> Self {
        Self {
            counts: [0; BOUNDS],
            above: 0,
            sum: 0,
        }
    }
}

impl<const BOUNDS: usize> Distribution<BOUNDS> {
    /// How many observations there were.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.above
    }

    fn observe(&mut self, bounds: &[u32; BOUNDS], value: u64) {
        self.sum += value;
        let within = bounds.iter().position(|bound| value <= u64::from(*bound));
        match within.and_then(|bound| self.counts.get_mut(bound)) {
            Some(count) => *count += 1,
            None => self.above += 1,
        }
    }
}

/// The worker's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Work {
    /// Datagrams of each batch.
    pub(crate) datagrams: Distribution<{ DATAGRAMS.len() }>,
    /// Latency of each batch, in microseconds.
    pub(crate) latency: Distribution<{ LATENCIES.len() }>,
}

impl Work {
    /// A batch of so many datagrams was sent.
    pub(crate) fn sent(&mut self, datagrams: usize, oldest: Timestamp, now: SystemTime) {
        self.datagrams.observe(&DATAGRAMS, datagrams as u64);
        let seconds = Duration::from_secs(oldest.seconds.into());
        let nanoseconds = Duration::from_nanos(oldest.nanoseconds.into());
        let oldest = SystemTime::UNIX_EPOCH + seconds + nanoseconds;
        let latency = now.duration_since(oldest).unwrap_or_default();
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency.observe(&LATENCIES, micros);
    }
}

#[derive(Debug)]
struct PublishedDistribution<const BOUNDS: usize> {
    counts: [AtomicU64; BOUNDS],
    above: AtomicU64,
    sum: AtomicU64,
}

impl<const BOUNDS: usize> Default for PublishedDistribution<BOUNDS> {
    fn default() -> Self {
        Self {
            counts: std::array::from_fn(|_| AtomicU64::default()),
            above: AtomicU64::default(),
            sum: AtomicU64::default(),
        }
    }
}

impl<const BOUNDS: usize> PublishedDistribution<BOUNDS> {
    fn store(&self, distribution: &Distribution<BOUNDS>) {
        for (counter, count) in self.counts.iter().zip(distribution.counts) {
            counter.store(count, Ordering::Relaxed);
        }
        self.above.store(distribution.above, Ordering::Relaxed);
        self.sum.store(distribution.sum, Ordering::Relaxed);
    }

    fn read(&self) -> Distribution<BOUNDS> {
        Distribution {
            counts: std::array::from_fn(|bound| {
                let counter = self.counts.get(bound);
                counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
            }),
            above: self.above.load(Ordering::Relaxed),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// The counters that the worker last stored.
#[derive(Debug, Default)]
pub(crate) struct PublishedWork {
    datagrams: PublishedDistribution<{ DATAGRAMS.len() }>,
    latency: PublishedDistribution<{ LATENCIES.len() }>,
}

impl PublishedWork {
    pub(crate) fn store(&self, work: &Work) {
        self.datagrams.store(&work.datagrams);
        self.latency.store(&work.latency);
    }

    pub(crate) fn read(&self) -> Work {
        Work {
            datagrams: self.datagrams.read(),
            latency: self.latency.read(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_counted_at_the_first_bound_that_is_not_below_it() {
        let mut work = Work::default();
        let oldest = Timestamp {
            seconds: 1_800_000_000,
            nanoseconds: 999_999_000,
        };
        let time = SystemTime::UNIX_EPOCH + Duration::from_micros(1_800_000_000_999_999);
        // The clock was set back in the last one.
        let rows = [
            (1, time + Duration::from_micros(250)),
            (4, time + Duration::from_micros(251)),
            (513, time + Duration::from_secs(2)),
            (5, time - Duration::from_secs(9)),
        ];
        for (datagrams, now) in rows {
            work.sent(datagrams, oldest, now);
        }
        assert_eq!(work.datagrams.counts, [1, 1, 1, 0, 0, 0]);
        assert_eq!((work.datagrams.above, work.datagrams.sum), (1, 523));
        assert_eq!(work.latency.counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!((work.latency.above, work.latency.sum), (1, 2_000_501));
        let published = PublishedWork::default();
        published.store(&work);
        assert_eq!(published.read(), work);
    }
}
