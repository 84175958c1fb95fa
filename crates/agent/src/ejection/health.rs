//! The health of one sensor: healthy, unhealthy, or ejected, and the evidence for it.
//!
//! In: evidence, answers, and the time. Out: the state, and how long it lasts. [`super::Ejections`] decides
//! about all sensors together: this file does not compare sensors.

use std::time::{Duration, Instant};

use super::{Failure, Observation, Return};

/// The longest ejection.
pub(super) const EJECTION_MAX: Duration = Duration::from_mins(1);
/// The shortest ejection that has a minimum.
pub(super) const EJECTION_MIN: Duration = Duration::from_secs(4);
/// Evidence counts for this time. Without new evidence for this time, an unreachable sensor is tried
/// again, even if nothing answered. It is longer than the time to detect that a neighbour is still
/// silent: one second until the next probe, three for the kernel's three requests (`mcast_solicit`,
/// `retrans_time_ms`), and one until the answer is read.
pub(super) const QUIET: Duration = Duration::from_secs(6);
/// How long an unhealthy sensor is probed: three probes.
pub(super) const PROBE_TIME: Duration = Duration::from_secs(3);
/// An unhealthy sensor without new evidence for this time is healthy again.
pub(super) const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// After a sensor was used for this time, its backoff starts again with the shortest ejection.
pub(super) const RESET: Duration = Duration::from_mins(1);
/// A sensor may return early once in this time.
pub(super) const EARLY_AGAIN: Duration = Duration::from_mins(1);

impl Failure {
    /// The minimum duration of an ejection after `level` earlier ones.
    fn min_ejection(self, level: u32) -> Duration {
        match self {
            // The first ejection ends with the first answer.
            Self::Unreachable => level.checked_sub(1).map_or(Duration::ZERO, backoff),
            Self::Refused | Self::Prohibited => backoff(level),
        }
    }
}

/// 4 s, 8, 16, 32, and then 60.
fn backoff(level: u32) -> Duration {
    let factor = 2_u32.checked_pow(level).unwrap_or(u32::MAX);
    EJECTION_MIN.saturating_mul(factor).min(EJECTION_MAX)
}

/// The strongest recent evidence of a sensor's failure, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FailureEvidence {
    None,
    /// A message that anybody can forge.
    Forgeable,
    /// This machine's kernel reports it as unreachable.
    Kernel,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) enum State {
    #[default]
    Healthy,
    Unhealthy {
        failure: Failure,
        since: Instant,
        /// When the last evidence came.
        last: Instant,
    },
    Ejected {
        failure: Failure,
        since: Instant,
        /// Whether its host has answered since the last evidence of a failure.
        answered: bool,
        /// The minimum duration of this ejection.
        min: Duration,
    },
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SensorHealth {
    pub(super) state: State,
    /// The number of ejections since the last reset: the level of the backoff.
    pub(super) level: u32,
    /// When the last ejection ended.
    pub(super) returned: Option<Instant>,
    /// When it last returned early.
    early: Option<Instant>,
    /// It is not ejected before this time.
    held_until: Option<Instant>,
    /// When the last evidence came that anybody can forge.
    forgeable_at: Option<Instant>,
    /// When the kernel last reported it as unreachable, if its host has not answered since.
    kernel_at: Option<Instant>,
}

impl SensorHealth {
    pub(super) const fn is_ejected(&self) -> bool {
        matches!(self.state, State::Ejected { .. })
    }

    pub(super) fn is_held(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    pub(super) fn evidence(&self, now: Instant) -> FailureEvidence {
        let is_recent = |last: Instant| now.saturating_duration_since(last) < QUIET;
        if self.kernel_at.is_some_and(is_recent) {
            FailureEvidence::Kernel
        } else if self.forgeable_at.is_some_and(is_recent) {
            FailureEvidence::Forgeable
        } else {
            FailureEvidence::None
        }
    }

    pub(super) fn eject(&mut self, failure: Failure, now: Instant) {
        let in_use = self.returned.map(|at| now.saturating_duration_since(at));
        if in_use.is_some_and(|time| time >= RESET) {
            self.level = 0;
        }
        self.state = State::Ejected {
            failure,
            since: now,
            answered: false,
            min: failure.min_ejection(self.level),
        };
        self.level = self.level.saturating_add(1);
    }

    /// Makes it healthy. Its time in use starts at `time`.
    const fn return_at(&mut self, time: Instant) {
        self.state = State::Healthy;
        self.returned = Some(time);
    }

    pub(super) fn may_return_early(&self, now: Instant) -> bool {
        let since = |at| now.saturating_duration_since(at);
        self.early.is_none_or(|at| since(at) >= EARLY_AGAIN)
    }

    /// Ends its ejection early; holds it if it returned early a short time ago.
    pub(super) fn return_early(&mut self, now: Instant) {
        if self.may_return_early(now) {
            self.return_at(now);
        } else {
            let until = now + backoff(self.level.saturating_sub(1));
            self.held_until = Some(until);
            self.return_at(until);
        }
        self.early = Some(now);
    }

    /// Stores evidence of a failure.
    pub(super) fn add_evidence(&mut self, observation: Observation, now: Instant) {
        // The kernel reports this failure only, and no other source gives it.
        if observation == Observation::Failed(Failure::Unreachable) {
            self.kernel_at = Some(now);
        } else {
            self.forgeable_at = Some(now);
        }
        if let State::Ejected { answered, .. } = &mut self.state {
            *answered = false;
        }
    }

    /// Handles evidence that may be forged, for a sensor that is not ejected.
    pub(super) fn may_fail(&mut self, failure: Failure, now: Instant) -> Probing {
        let (probing, started) = match self.state {
            State::Unhealthy { since, last, .. }
                if now.saturating_duration_since(last) < HEALTHY_AFTER =>
            {
                let is_over = now.saturating_duration_since(since) >= PROBE_TIME;
                let probing = if is_over {
                    Probing::Failed
                } else {
                    Probing::Running
                };
                (probing, since)
            }
            _ => (Probing::Started, now),
        };
        self.state = State::Unhealthy {
            failure,
            since: started,
            last: now,
        };
        probing
    }

    /// Its host has answered.
    pub(super) fn answered(&mut self) {
        self.kernel_at = None;
        match &mut self.state {
            // An answer of the host does not exclude a firewall that rejects the port.
            State::Unhealthy { failure, .. } if *failure == Failure::Unreachable => {
                self.state = State::Healthy;
            }
            State::Ejected { answered, .. } => *answered = true,
            State::Healthy | State::Unhealthy { .. } => {}
        }
    }

    /// Its host has answered about the sensor's port.
    pub(super) fn arrived(&mut self) {
        self.answered();
        self.forgeable_at = None;
        if matches!(self.state, State::Unhealthy { .. }) {
            self.state = State::Healthy;
        }
    }

    /// Ends a state that is over; returns why, if it was an ejection.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Return> {
        match self.state {
            State::Unhealthy { last, .. }
                if now.saturating_duration_since(last) >= HEALTHY_AFTER =>
            {
                self.state = State::Healthy;
                None
            }
            State::Healthy | State::Unhealthy { .. } => None,
            State::Ejected {
                failure,
                since,
                answered,
                min,
            } => {
                let lasted = now.saturating_duration_since(since);
                let is_quiet = self.evidence(now) == FailureEvidence::None;
                let may_return = answered || is_quiet || failure != Failure::Unreachable;
                if lasted < EJECTION_MAX && (lasted < min || !may_return) {
                    return None;
                }
                self.return_at(now);
                Some(if answered && failure == Failure::Unreachable {
                    Return::Answered
                } else {
                    Return::Retry
                })
            }
        }
    }
}

/// The probing of an unhealthy sensor.
pub(super) enum Probing {
    Started,
    Running,
    /// The evidence has come again, and the host did not answer in between.
    Failed,
}
