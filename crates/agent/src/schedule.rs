//! When the control side checks the sensors and the numbers next.
//!
//! In: the end of each check, requests for an earlier one, and the time. Out: the time of the next check.
//! While something changes there is a check each [`CHECK_EVERY`]. Otherwise the next check is at the next
//! deadline, so the control side of an idle podspan sleeps for many seconds.
//!
//! Invariants: two checks are never closer than [`CHECK_EVERY`], and a request never delays a check.

use std::time::{Duration, Instant};

/// How often sensors and numbers are checked while something changes.
pub(crate) const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The time of the next check.
#[derive(Debug)]
pub(crate) struct Schedule {
    last: Option<Instant>,
    next: Instant,
}

impl Schedule {
    /// The first check is due at once.
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            last: None,
            next: now,
        }
    }

    /// When the next check is due.
    pub(crate) const fn next(&self) -> Instant {
        self.next
    }

    /// Requests a check at `time`, or at the earliest time after it.
    pub(crate) fn request(&mut self, time: Instant) {
        let earliest = self.last.map_or(time, |last| last + CHECK_EVERY);
        self.next = self.next.min(time.max(earliest));
    }

    /// A check was done. If nothing changes (`is_idle`), the next one is at `deadline`.
    pub(crate) fn checked(&mut self, now: Instant, is_idle: bool, deadline: Instant) {
        let earliest = now + CHECK_EVERY;
        self.last = Some(now);
        self.next = if is_idle {
            deadline.max(earliest)
        } else {
            earliest
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn without_changes_the_next_check_is_at_the_deadline() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        assert_eq!(schedule.next(), now);
        let deadline = now + SECOND * 30;
        schedule.checked(now, true, deadline);
        assert_eq!(schedule.next(), deadline);
        schedule.checked(now, false, deadline);
        assert_eq!(schedule.next(), now + CHECK_EVERY);
        schedule.checked(now, true, now);
        assert_eq!(
            schedule.next(),
            now + CHECK_EVERY,
            "a deadline that is over"
        );
    }

    #[test]
    fn a_request_makes_the_next_check_earlier_and_never_later() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        schedule.checked(start, true, start + SECOND * 30);
        // Soon after a check it has to wait.
        schedule.request(start + SECOND / 4);
        assert_eq!(schedule.next(), start + CHECK_EVERY);
        schedule.checked(start, true, start + SECOND * 30);
        // Later it need not.
        schedule.request(start + SECOND * 7);
        schedule.request(start + SECOND * 9);
        assert_eq!(schedule.next(), start + SECOND * 7);
        let mut unused = Schedule::new(start);
        unused.request(start + SECOND);
        assert_eq!(unused.next(), start);
    }
}
