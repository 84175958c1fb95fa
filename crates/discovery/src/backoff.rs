//! How long to wait before the next attempt.
//!
//! In: a failure, a random number and a [`Pace`]. Out: a time. It depends on what failed and how often, and
//! has jitter, so that the podspans of a cluster do not all try again at the same time.
//!
//! A missing answer and a refusal have different times. An attempt without an answer costs the API
//! server nothing, and the sensors may have changed while it was down: podspan tries about once a
//! second for the first five minutes. A refusal costs the API server something. podspan tries three
//! times about once a second, because an API server that has just started refuses at first. Then the
//! time doubles, up to 30 s.
//!
//! The watch on podspan's own pod tries less often: many pods have no right to it, and do not need it. After
//! a minute it costs the API server no more requests than a watch that works.
//!
//! Invariant: the time is at least 1 s.

use std::time::Duration;

use crate::failure::Failure;

/// How often podspan tries again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// How long podspan tries once a second while no answer comes.
    fast_for: Duration,
    /// The seconds between attempts after that. Jitter adds up to a quarter.
    slow: u64,
    /// The seconds after the first, second, … refusal; the last one repeats. Jitter adds up to half.
    refusals: [u64; 7],
}

/// For the sensors.
pub(crate) const SENSORS: Pace = Pace {
    fast_for: Duration::from_mins(5),
    slow: 5,
    refusals: [1, 1, 1, 2, 4, 8, 20],
};
/// For podspan's own pod.
pub(crate) const OWN_POD: Pace = Pace {
    fast_for: Duration::from_mins(1),
    slow: 30,
    refusals: [1, 2, 4, 8, 15, 30, 60],
};
/// The longest `Retry-After` that is obeyed. A wrong one must not end discovery.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(5);

/// The failures since the last success.
#[derive(Debug)]
pub(crate) struct Backoff {
    pace: &'static Pace,
    /// The refusals in a row.
    refusals: usize,
    /// The time waited since the last answer.
    unanswered: Duration,
}

impl Backoff {
    /// No failure yet.
    pub(crate) const fn new(pace: &'static Pace) -> Self {
        Self {
            pace,
            refusals: 0,
            unanswered: Duration::ZERO,
        }
    }

    /// Starts again after a success.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.pace);
    }

    /// The time to wait after `failure`; `jitter` is from 0 to 1.
    pub(crate) fn after(&mut self, failure: &Failure, jitter: f64) -> Duration {
        // The seconds, and the largest share of them that jitter adds.
        let (seconds, share) = if failure.is_unanswered() {
            self.refusals = 0;
            let fast = self.unanswered < self.pace.fast_for;
            (if fast { 1 } else { self.pace.slow }, 0.25)
        } else {
            self.unanswered = Duration::ZERO;
            let refusals = &self.pace.refusals;
            let step = refusals[self.refusals.min(refusals.len() - 1)];
            self.refusals = self.refusals.saturating_add(1);
            (step, 0.5)
        };
        let wait = Duration::from_secs(seconds).mul_f64(1.0 + jitter.clamp(0.0, 1.0) * share);
        if failure.is_unanswered() {
            self.unanswered = self.unanswered.saturating_add(wait);
        }
        match failure {
            // The API server sends the same time to all podspans, so jitter is added to it.
            Failure::Throttled {
                after: Some(after), ..
            } => wait.max((*after).min(MAX_RETRY_AFTER) + wait / 4),
            _ => wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn no_answer() -> Failure {
        Failure::TimedOut {
            waiting_for: "nothing",
        }
    }

    #[test]
    fn refusals_are_retried_more_and_more_slowly() {
        let mut backoff = Backoff::new(&SENSORS);
        let waits: Vec<u64> = (0..9)
            .map(|_| backoff.after(&Failure::Unauthorized, 0.0).as_secs())
            .collect();
        assert_eq!(waits, [1, 1, 1, 2, 4, 8, 20, 20, 20]);
        backoff.reset();
        assert_eq!(backoff.after(&Failure::Unauthorized, 0.0).as_secs(), 1);
        for _ in 0..9 {
            let longest = backoff.after(&Failure::Unauthorized, 1.0);
            assert!(longest <= Duration::from_secs(30));
        }
    }

    /// A watch that works costs a request each 48 to 60 s, and a list each ten minutes.
    #[test]
    fn a_refused_watch_on_the_own_pod_costs_no_more_requests_than_a_watch() {
        let mut backoff = Backoff::new(&OWN_POD);
        let (mut waited, mut requests) = (Duration::ZERO, 0);
        while waited < Duration::from_hours(1) {
            waited += backoff.after(&Failure::Unauthorized, 0.0);
            requests += 1;
        }
        assert!(requests <= 60 + 6, "{requests} in an hour");
        assert_eq!(
            backoff.after(&Failure::Unauthorized, 0.0),
            Duration::from_mins(1)
        );
    }

    #[test]
    fn without_an_answer_podspan_tries_every_second_for_five_minutes() {
        let mut backoff = Backoff::new(&SENSORS);
        let mut waited = Duration::ZERO;
        while waited < SENSORS.fast_for {
            let wait = backoff.after(&no_answer(), 1.0);
            assert!(
                wait <= Duration::from_millis(1250),
                "{wait:?} after {waited:?}"
            );
            waited += wait;
        }
        assert_eq!(
            backoff.after(&no_answer(), 0.0),
            Duration::from_secs(SENSORS.slow)
        );
        backoff.after(&Failure::Unauthorized, 0.0);
        assert_eq!(backoff.after(&no_answer(), 0.0), Duration::from_secs(1));
    }

    #[test]
    fn retry_after_is_obeyed_up_to_five_minutes() {
        let after = |seconds| Failure::Throttled {
            code: 429,
            after: Some(Duration::from_secs(seconds)),
        };
        for (asked, least) in [(0, 1), (7, 7), (60, 60), (u64::MAX, 300)] {
            let wait = Backoff::new(&SENSORS).after(&after(asked), 0.5);
            assert!(wait.as_secs() >= least, "{asked}: {wait:?}");
            assert!(wait.as_secs() <= least + 1, "{asked}: {wait:?}");
        }
    }

    proptest! {
        #[test]
        fn never_faster_than_once_a_second(
            failures in prop::collection::vec((any::<bool>(), 0.0..=1.0), 1..1000),
            own in any::<bool>(),
        ) {
            let (pace, longest) = if own { (&OWN_POD, 90) } else { (&SENSORS, 30) };
            let mut backoff = Backoff::new(pace);
            for (is_unanswered, jitter) in failures {
                let failure = if is_unanswered { no_answer() } else { Failure::Unauthorized };
                let wait = backoff.after(&failure, jitter);
                prop_assert!(wait >= Duration::from_secs(1) && wait <= Duration::from_secs(longest));
            }
        }
    }
}
