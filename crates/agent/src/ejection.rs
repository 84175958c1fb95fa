//! Which sensors are ejected: known, and not used for now.
//!
//! In: [`Evidence`] about a sensor, and the time. Out: who is ejected, whom to probe, and what
//! changed. The words are those of Envoy's outlier detection. A sensor is
//!
//! - *healthy*: used, and nothing is held against it;
//! - *unhealthy*: still used, and probed, because of evidence that anybody can forge. It is ejected
//!   when the evidence comes again after [`PROBE_TIME`] in which its host did not answer;
//! - *ejected*: its flows go to the others. It returns when its host answers, when there has been no
//!   evidence for [`QUIET`], or at the end of its ejection.
//!
//! # Invariants
//! - No ejection lasts longer than [`EJECTION_MAX`], whatever the evidence: a sensor is then used
//!   again, to try it.
//! - Every return is backed off. The first ejection for "unreachable" ends with the first answer;
//!   each later one lasts at least 4 s, 8, 16, 32, and 60 at last, until the sensor has been used for
//!   [`RESET`]. So a sensor changes at most ten times in a minute
//!   (`no_answers_eject_for_longer_than_the_bound_or_flap`).
//! - One sensor at least is not ejected. When the last one would be, all are forgiven: the evidence
//!   then tells more of podspan's own way than of the sensors. After that nobody is ejected for as
//!   long as an ejection would have lasted, so forgiving cannot flap either.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// The longest ejection.
pub(crate) const EJECTION_MAX: Duration = Duration::from_mins(1);
/// The shortest, where there is one.
const EJECTION_LEAST: Duration = Duration::from_secs(4);
/// Without evidence for so long, an unreachable sensor is tried again, though nothing has answered.
/// Longer than it takes to learn that a neighbour is silent still: a second until the next probe,
/// three for the kernel's three requests (`mcast_solicit`, `retrans_time_ms`), and a second until
/// the answer is read.
const QUIET: Duration = Duration::from_secs(6);
/// How long an unhealthy sensor is probed: three probes.
const PROBE_TIME: Duration = Duration::from_secs(3);
/// An unhealthy sensor without new evidence for so long is healthy again.
const FORGET: Duration = Duration::from_secs(10);
/// A sensor that has been used for so long begins anew with the shortest ejection.
const RESET: Duration = Duration::from_mins(1);

/// What is wrong with a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no way to it, or nobody at its end.
    Unreachable,
    /// Its host is there and nobody listens on its port, where somebody should.
    Refused,
    /// A firewall keeps datagrams from it.
    Prohibited,
}

impl Failure {
    /// How long the ejection lasts at the least, after so many before it.
    fn least(self, level: u32) -> Duration {
        match self {
            // The first return is as quick as the answer.
            Self::Unreachable => level.checked_sub(1).map_or(Duration::ZERO, backoff),
            Self::Refused | Self::Prohibited => backoff(level),
        }
    }
}

/// 4 s, 8, 16, 32, and 60 from then on.
fn backoff(level: u32) -> Duration {
    let factor = 2_u32.checked_pow(level).unwrap_or(u32::MAX);
    EJECTION_LEAST.saturating_mul(factor).min(EJECTION_MAX)
}

/// What was learned of a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// It fails, by the kernel's own word or by a decision to believe it.
    Failed(Failure),
    /// It may fail; anybody can have forged that.
    MayFail(Failure),
    /// Its host has answered a probe.
    Answered,
    /// Its host has answered about the sensor's own port: what is sent there arrives.
    Arrived,
}

/// What evidence has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The sensor is to be probed.
    Unhealthy,
    /// It is not used from now on.
    Ejected(Failure),
    /// It was the last one, so all are used from now on.
    Forgiven(Failure),
}

/// Why a sensor is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Return {
    /// Its host answers.
    Answered,
    /// Its ejection is over; whether it works will be seen.
    Trial,
}

#[derive(Debug, Clone, Copy)]
enum State {
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
        /// When the last evidence came.
        last: Instant,
        /// Whether its host has answered since.
        answered: bool,
        /// How long this one lasts at the least.
        least: Duration,
    },
}

#[derive(Debug, Clone, Copy)]
struct Sensor {
    state: State,
    /// How many ejections there were, one soon after the other.
    level: u32,
    /// When the last of them was over.
    returned: Option<Instant>,
}

impl Sensor {
    const NEW: Self = Self {
        state: State::Healthy,
        level: 0,
        returned: None,
    };

    const fn is_ejected(&self) -> bool {
        matches!(self.state, State::Ejected { .. })
    }

    /// Counts an ejection that begins now, and returns how many came before it.
    fn next_level(&mut self, now: Instant) -> u32 {
        let in_use = self.returned.map(|at| now.saturating_duration_since(at));
        if in_use.is_some_and(|time| time >= RESET) {
            self.level = 0;
        }
        let level = self.level;
        self.level = level.saturating_add(1);
        level
    }

    /// Makes it healthy; its use counts from this time on.
    const fn return_at(&mut self, time: Instant) {
        self.state = State::Healthy;
        self.returned = Some(time);
    }

    /// Takes evidence that may be forged, while it is not ejected.
    fn may_fail(&mut self, failure: Failure, now: Instant) -> Probing {
        let (outcome, began) = match self.state {
            State::Unhealthy { since, last, .. }
                if now.saturating_duration_since(last) < FORGET =>
            {
                let has_lasted = now.saturating_duration_since(since) >= PROBE_TIME;
                let outcome = if has_lasted {
                    Probing::Failed
                } else {
                    Probing::Running
                };
                (outcome, since)
            }
            _ => (Probing::Begun, now),
        };
        self.state = State::Unhealthy {
            failure,
            since: began,
            last: now,
        };
        outcome
    }

    /// Takes evidence while it is ejected. Only what an answer can end is prolonged.
    fn failed_again(&mut self, now: Instant) {
        if let State::Ejected { last, answered, .. } = &mut self.state {
            *last = now;
            *answered = false;
        }
    }

    /// Its host has answered.
    fn answered(&mut self) {
        match &mut self.state {
            // A host that is there says nothing of a firewall on the way to a port.
            State::Unhealthy { failure, .. } if *failure == Failure::Unreachable => {
                self.state = State::Healthy;
            }
            State::Ejected { answered, .. } => *answered = true,
            State::Healthy | State::Unhealthy { .. } => {}
        }
    }

    /// Its host has answered about the sensor's port.
    fn arrived(&mut self) {
        self.answered();
        if matches!(self.state, State::Unhealthy { .. }) {
            self.state = State::Healthy;
        }
    }

    /// Ends what has lasted long enough, and says so of an ejection.
    fn end(&mut self, now: Instant) -> Option<Return> {
        match self.state {
            State::Unhealthy { last, .. } if now.saturating_duration_since(last) >= FORGET => {
                self.state = State::Healthy;
                None
            }
            State::Healthy | State::Unhealthy { .. } => None,
            State::Ejected {
                failure,
                since,
                last,
                answered,
                least,
            } => {
                let lasted = now.saturating_duration_since(since);
                let is_quiet = now.saturating_duration_since(last) >= QUIET;
                let may_return = answered || is_quiet || failure != Failure::Unreachable;
                if lasted < EJECTION_MAX && (lasted < least || !may_return) {
                    return None;
                }
                self.return_at(now);
                Some(if answered && failure == Failure::Unreachable {
                    Return::Answered
                } else {
                    Return::Trial
                })
            }
        }
    }
}

/// What becomes of a sensor with evidence that may be forged.
enum Probing {
    Begun,
    Running,
    /// The evidence has come again, and in between nothing has answered.
    Failed,
}

/// The health of all sensors.
#[derive(Debug, Default)]
pub(crate) struct Ejections {
    sensors: BTreeMap<SocketAddr, Sensor>,
    /// Nobody is ejected before.
    hold_until: Option<Instant>,
}

impl Ejections {
    /// Takes the list of all sensors; who is new is healthy, and so there is one to take the others'
    /// flows.
    pub(crate) fn update(&mut self, sensors: impl Iterator<Item = SocketAddr>, now: Instant) {
        let before = std::mem::take(&mut self.sensors);
        let kept = |address| {
            (
                address,
                before.get(&address).copied().unwrap_or(Sensor::NEW),
            )
        };
        self.sensors = sensors.map(kept).collect();
        if self
            .sensors
            .keys()
            .any(|sensor| !before.contains_key(sensor))
        {
            self.hold_until = None;
        }
        if self.sensors.values().all(Sensor::is_ejected) {
            self.forgive(Duration::ZERO, now);
        }
    }

    /// Takes evidence about a sensor, and says what that has changed.
    pub(crate) fn take(
        &mut self,
        address: SocketAddr,
        evidence: Evidence,
        now: Instant,
    ) -> Option<Change> {
        let is_held = self.hold_until.is_some_and(|until| now < until);
        let sensor = self.sensors.get_mut(&address)?;
        match evidence {
            Evidence::Failed(_) | Evidence::MayFail(_) if sensor.is_ejected() => {
                sensor.failed_again(now);
                None
            }
            Evidence::Failed(_) | Evidence::MayFail(_) if is_held => None,
            Evidence::Failed(failure) => Some(self.eject(address, failure, now)),
            Evidence::MayFail(failure) => match sensor.may_fail(failure, now) {
                Probing::Begun => Some(Change::Unhealthy),
                Probing::Running => None,
                Probing::Failed => Some(self.eject(address, failure, now)),
            },
            Evidence::Answered => {
                sensor.answered();
                None
            }
            Evidence::Arrived => {
                sensor.arrived();
                None
            }
        }
    }

    /// Ends what has lasted long enough, and says who is used again. To be called about once a
    /// second.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<(SocketAddr, Return)> {
        let end =
            |(address, sensor): (&SocketAddr, &mut Sensor)| Some((*address, sensor.end(now)?));
        self.sensors.iter_mut().filter_map(end).collect()
    }

    /// The sensors to be probed.
    pub(crate) fn probed(&self) -> impl Iterator<Item = SocketAddr> {
        let is_probed = |sensor: &Sensor| match sensor.state {
            State::Healthy => false,
            State::Unhealthy { .. } => true,
            // An answer of the host says nothing of a port that refuses.
            State::Ejected { failure, .. } => failure == Failure::Unreachable,
        };
        let probed = self
            .sensors
            .iter()
            .filter(move |(_, sensor)| is_probed(sensor));
        probed.map(|(address, _)| *address)
    }

    /// Whether a sensor is not to be used.
    pub(crate) fn is_ejected(&self, address: SocketAddr) -> bool {
        self.sensors.get(&address).is_some_and(Sensor::is_ejected)
    }

    /// The sensors of a host.
    pub(crate) fn of_host(&self, host: IpAddr) -> Vec<SocketAddr> {
        let of_host = self.sensors.keys().filter(|address| address.ip() == host);
        of_host.copied().collect()
    }

    fn eject(&mut self, address: SocketAddr, failure: Failure, now: Instant) -> Change {
        let mut others = self.sensors.iter().filter(|(other, _)| **other != address);
        let is_last = others.all(|(_, sensor)| sensor.is_ejected());
        let Some(sensor) = self.sensors.get_mut(&address) else {
            return Change::Ejected(failure);
        };
        let level = sensor.next_level(now);
        if is_last {
            let until = self.forgive(backoff(level), now);
            if let Some(sensor) = self.sensors.get_mut(&address) {
                sensor.return_at(until);
            }
            return Change::Forgiven(failure);
        }
        sensor.state = State::Ejected {
            failure,
            since: now,
            last: now,
            answered: false,
            least: failure.least(level),
        };
        Change::Ejected(failure)
    }

    /// Uses all sensors again, for as long as any of their ejections would last, and says until
    /// when.
    fn forgive(&mut self, least: Duration, now: Instant) -> Instant {
        let ejected = self.sensors.values().filter(|sensor| sensor.is_ejected());
        let backoffs = ejected.map(|sensor| backoff(sensor.level.saturating_sub(1)));
        let until = now + backoffs.fold(least, Duration::max);
        self.hold_until = Some(until);
        let sensors = self.sensors.values_mut();
        for sensor in sensors.filter(|sensor| sensor.is_ejected()) {
            sensor.return_at(until);
        }
        until
    }
}

#[cfg(test)]
#[path = "ejection_tests.rs"]
mod tests;
