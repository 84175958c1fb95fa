//! How long to wait before the next attempt: a pure function of what failed and how often, with
//! jitter added so that the podspans of a cluster do not come back all at once.
//!
//! Nobody answering and somebody refusing are told apart. An attempt that nobody answers costs the
//! API server nothing, and sensors may have changed while it was away: it is asked about once a
//! second for the first five minutes. A refusal costs it something: the time doubles up to 30 s,
//! after three quick attempts, as an API server that has just started refuses for a moment.

use std::time::Duration;

use crate::failure::Failure;

/// How long silence is met with an attempt a second.
const SOON_FOR: Duration = Duration::from_mins(5);
/// The seconds between attempts after that.
const SILENCE: u64 = 5;
/// The seconds after the first, second, … refusal; the last holds. Chance adds up to half.
const REFUSALS: [u64; 7] = [1, 1, 1, 2, 4, 8, 20];
/// The longest time that is waited because an answer says so: a wrong one must not end discovery.
const LONGEST_ASKED: Duration = Duration::from_mins(5);

/// What has failed since the last success.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    /// How often in a row somebody refused.
    refusals: usize,
    /// How long nobody has answered, as waited here.
    silent: Duration,
}

impl Backoff {
    /// After a success.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    /// The time to wait after `failure`; `jitter` is from 0 to 1.
    pub(crate) fn after(&mut self, failure: &Failure, jitter: f64) -> Duration {
        // The seconds, and the share of them that chance adds at most.
        let (seconds, share) = if failure.is_silence() {
            self.refusals = 0;
            let soon = self.silent < SOON_FOR;
            (if soon { 1 } else { SILENCE }, 0.25)
        } else {
            self.silent = Duration::ZERO;
            let last = REFUSALS.len() - 1;
            let step = REFUSALS[self.refusals.min(last)];
            self.refusals = self.refusals.saturating_add(1);
            (step, 0.5)
        };
        let wait = Duration::from_secs(seconds).mul_f64(1.0 + jitter.clamp(0.0, 1.0) * share);
        if failure.is_silence() {
            self.silent = self.silent.saturating_add(wait);
        }
        match failure {
            // Everybody was told the same time, so the jitter comes on top of it.
            Failure::Throttled {
                after: Some(asked), ..
            } => wait.max((*asked).min(LONGEST_ASKED) + wait / 4),
            _ => wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn silence() -> Failure {
        Failure::TimedOut { doing: "nothing" }
    }

    #[test]
    fn refusals_are_met_with_patience() {
        let mut backoff = Backoff::default();
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

    #[test]
    fn silence_is_asked_every_second_for_minutes() {
        let mut backoff = Backoff::default();
        let mut waited = Duration::ZERO;
        while waited < SOON_FOR {
            let wait = backoff.after(&silence(), 1.0);
            assert!(
                wait <= Duration::from_millis(1250),
                "{wait:?} after {waited:?}"
            );
            waited += wait;
        }
        assert_eq!(backoff.after(&silence(), 0.0), Duration::from_secs(SILENCE));
        backoff.after(&Failure::Unauthorized, 0.0);
        assert_eq!(backoff.after(&silence(), 0.0), Duration::from_secs(1));
    }

    #[test]
    fn retry_after_is_obeyed_within_reason() {
        let after = |seconds| Failure::Throttled {
            code: 429,
            after: Some(Duration::from_secs(seconds)),
        };
        for (asked, least) in [(0, 1), (7, 7), (60, 60), (u64::MAX, 300)] {
            let wait = Backoff::default().after(&after(asked), 0.5);
            assert!(wait.as_secs() >= least, "{asked}: {wait:?}");
            assert!(wait.as_secs() <= least + 1, "{asked}: {wait:?}");
        }
    }

    proptest! {
        #[test]
        fn never_faster_than_once_a_second(
            failures in prop::collection::vec((any::<bool>(), 0.0..=1.0), 1..1000),
        ) {
            let mut backoff = Backoff::default();
            for (silent, jitter) in failures {
                let failure = if silent { silence() } else { Failure::Unauthorized };
                let wait = backoff.after(&failure, jitter);
                prop_assert!(wait >= Duration::from_secs(1) && wait <= Duration::from_secs(30));
            }
        }
    }
}
