//! When the worker reads the network's answers and the rings' counters next.
//!
//! In: blocks, reports, and the time. Out: the time of the next report. While there is traffic there is a
//! report each [`REPORT_EVERY`]. After the last block the pauses double, up to [`PAUSE_MAX`]. When no
//! answer to the last datagram can come any more, the next report is after [`IDLE_PAUSE`], so an idle
//! worker sleeps.

use std::time::{Duration, Instant};

/// The pause between two reports while there is traffic.
const REPORT_EVERY: Duration = Duration::from_millis(250);
/// The longest pause while an answer can come.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long after the last block an answer can come. The kernel needs three seconds to detect that a
/// neighbour is silent.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// The pause while there is no traffic.
const IDLE_PAUSE: Duration = Duration::from_secs(10);

/// The time of the next report.
#[derive(Debug)]
pub(crate) struct ReportSchedule {
    next: Instant,
    pause: Duration,
    active_until: Instant,
}

impl ReportSchedule {
    /// The first report is due at once.
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            next: now,
            pause: REPORT_EVERY,
            active_until: now,
        }
    }

    /// When the next report is due.
    pub(crate) const fn next(&self) -> Instant {
        self.next
    }

    /// A block was processed.
    pub(crate) fn block(&mut self, now: Instant) {
        self.active_until = now + ANSWERS_WITHIN;
        self.pause = REPORT_EVERY;
        self.next = self.next.min(now + REPORT_EVERY);
    }

    /// A report was made.
    pub(crate) fn reported(&mut self, now: Instant) {
        if now < self.active_until {
            self.next = now + self.pause;
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        } else {
            self.next = now + IDLE_PAUSE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The times of the reports in milliseconds, with blocks at `blocks`.
    fn reports(blocks: impl Iterator<Item = u32>, end: u32) -> Vec<u128> {
        let start = Instant::now();
        let mut schedule = ReportSchedule::new(start);
        let mut reports = Vec::new();
        let mut blocks = blocks.peekable();
        for time in (0..end).map(|ms| start + MS * ms) {
            if blocks
                .next_if(|block| start + MS * *block == time)
                .is_some()
            {
                schedule.block(time);
            }
            if schedule.next() <= time {
                schedule.reported(time);
                reports.push((time - start).as_millis());
            }
        }
        reports
    }

    #[test]
    fn there_are_four_reports_a_second_while_there_is_traffic() {
        let traffic = (0..2000).step_by(16);
        let count = reports(traffic, 2000).len();
        assert!((7..=8).contains(&count), "{count}");
        // Also with few blocks: each has a report soon after it.
        let times = reports([1000, 1600, 2200].into_iter(), 2500);
        for block in [1000, 1600, 2200] {
            let is_soon = |time: &u128| (block..=block + 250).contains(time);
            assert!(times.iter().any(is_soon), "{block} in {times:?}");
        }
    }

    #[test]
    fn after_the_last_block_reports_become_rare() {
        let times = reports([20].into_iter(), 30_000);
        let expected = [0, 270, 520, 1020, 2020, 3020, 4020, 5020, 15_020, 25_020];
        assert_eq!(times, expected);
    }
}
