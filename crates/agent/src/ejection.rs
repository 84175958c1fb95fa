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
//! A sensor is ejected only while another one in use has less against it. What is against a sensor is
//! the evidence of the last [`QUIET`] ([`Against`]): nothing, what anybody can forge, or the kernel's
//! own word. So
//!
//! - the sensor that would be the last one stays in use, whatever comes;
//! - the ejected ones that have no more against them than the last one are then *forgiven*, that is
//!   used at once: where all fail, all are used, as the evidence then says more of podspan's own way
//!   than of the sensors. One that the kernel calls dead is not forgiven for what may be forged against
//!   the last one: what goes to it is lost for sure;
//! - a forgiven one that still fails is ejected again as soon as another one has had no evidence lately.
//!
//! # Invariants
//! - No ejection lasts longer than [`EJECTION_MAX`], whatever the evidence: a sensor is then used
//!   again, to try it.
//! - One sensor at least is not ejected. Where the list leaves no other one, those with the least
//!   against them are used at once.
//! - Every return is backed off. The first ejection for "unreachable" ends with the first answer;
//!   each later one lasts at least 4 s, 8, 16, 32, and 60 at last, until the sensor has been used for
//!   [`RESET`]. A sensor returns before that time once in [`EARLY_AGAIN`]. Where it has to be used
//!   sooner than that again (the list leaves no other one, or the kernel calls the others dead), it
//!   is used at once and *held*: not ejected for as long as the ejection would have lasted. So a
//!   sensor changes at most twelve times in a minute, whatever is said and however the list changes
//!   (`no_answers_eject_for_longer_than_the_bound_or_flap`).
//! - Whatever is forged against sensors that work, one that the kernel calls dead is out of use for
//!   nine tenths of the time (`nothing_forged_keeps_a_dead_sensor_in_use`).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// The longest ejection.
pub(crate) const EJECTION_MAX: Duration = Duration::from_mins(1);
/// The shortest, where there is one.
const EJECTION_LEAST: Duration = Duration::from_secs(4);
/// Evidence counts for so long; without any, an unreachable sensor is tried again, though nothing
/// has answered. Longer than it takes to learn that a neighbour is silent still: a second until the
/// next probe, three for the kernel's three requests (`mcast_solicit`, `retrans_time_ms`), and a
/// second until the answer is read.
const QUIET: Duration = Duration::from_secs(6);
/// How long an unhealthy sensor is probed: three probes.
const PROBE_TIME: Duration = Duration::from_secs(3);
/// An unhealthy sensor without new evidence for so long is healthy again.
const FORGET: Duration = Duration::from_secs(10);
/// A sensor that has been used for so long begins anew with the shortest ejection.
const RESET: Duration = Duration::from_mins(1);
/// A sensor may return before its time once in so long.
const EARLY_AGAIN: Duration = Duration::from_mins(1);
/// Of so many sensors that have left the list their backoff is kept.
const GONE_MAX: usize = 256;

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
    /// It would be the last one, so it stays in use. Others may have been forgiven.
    Kept(Failure),
}

/// Why a sensor is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Return {
    /// Its host answers.
    Answered,
    /// Its ejection is over; whether it works will be seen.
    Trial,
}

/// What is against a sensor, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Against {
    Nothing,
    /// Evidence that anybody can forge.
    Network,
    /// This machine's kernel says that nobody is there.
    Kernel,
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
        /// Whether its host has answered since the last evidence.
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
    /// When the last one ended before its time.
    early: Option<Instant>,
    /// It is not ejected before.
    held_until: Option<Instant>,
    /// When it failed last by what anybody can forge.
    failed: Option<Instant>,
    /// When the kernel called it dead last, if nothing of it has answered since.
    dead: Option<Instant>,
}

impl Sensor {
    const NEW: Self = Self {
        state: State::Healthy,
        level: 0,
        returned: None,
        early: None,
        held_until: None,
        failed: None,
        dead: None,
    };

    const fn is_ejected(&self) -> bool {
        matches!(self.state, State::Ejected { .. })
    }

    fn is_held(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    fn against(&self, now: Instant) -> Against {
        let counts = |last: Instant| now.saturating_duration_since(last) < QUIET;
        if self.dead.is_some_and(counts) {
            Against::Kernel
        } else if self.failed.is_some_and(counts) {
            Against::Network
        } else {
            Against::Nothing
        }
    }

    fn eject(&mut self, failure: Failure, now: Instant) {
        let in_use = self.returned.map(|at| now.saturating_duration_since(at));
        if in_use.is_some_and(|time| time >= RESET) {
            self.level = 0;
        }
        self.state = State::Ejected {
            failure,
            since: now,
            answered: false,
            least: failure.least(self.level),
        };
        self.level = self.level.saturating_add(1);
    }

    /// Makes it healthy; its use counts from this time on.
    const fn return_at(&mut self, time: Instant) {
        self.state = State::Healthy;
        self.returned = Some(time);
    }

    fn may_return_early(&self, now: Instant) -> bool {
        let since = |at| now.saturating_duration_since(at);
        self.early.is_none_or(|at| since(at) >= EARLY_AGAIN)
    }

    /// Uses it again before its time; if that is too early, it is held.
    fn return_early(&mut self, now: Instant) {
        if self.may_return_early(now) {
            self.return_at(now);
        } else {
            let until = now + backoff(self.level.saturating_sub(1));
            self.held_until = Some(until);
            self.return_at(until);
        }
        self.early = Some(now);
    }

    /// Notes evidence that counts against it.
    fn failed(&mut self, evidence: Evidence, now: Instant) {
        // The kernel's word is about nothing else, and nothing else is the kernel's.
        if evidence == Evidence::Failed(Failure::Unreachable) {
            self.dead = Some(now);
        } else {
            self.failed = Some(now);
        }
        if let State::Ejected { answered, .. } = &mut self.state {
            *answered = false;
        }
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

    /// Its host has answered.
    fn answered(&mut self) {
        self.dead = None;
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
        self.failed = None;
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
                answered,
                least,
            } => {
                let lasted = now.saturating_duration_since(since);
                let is_quiet = self.against(now) == Against::Nothing;
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
    /// Those that have left the list after an ejection, and when. They may come back soon.
    gone: BTreeMap<SocketAddr, (Sensor, Instant)>,
}

impl Ejections {
    /// Takes the list of all sensors. What is known of one that was in it in the last minute is
    /// kept, so that to leave the list and to come back is no way around the backoff.
    pub(crate) fn update(&mut self, sensors: impl Iterator<Item = SocketAddr>, now: Instant) {
        let mut before = std::mem::take(&mut self.sensors);
        for address in sensors {
            let sensor = before.remove(&address).or_else(|| self.back(address, now));
            self.sensors.insert(address, sensor.unwrap_or(Sensor::NEW));
        }
        self.remember(before, now);
        if self.sensors.values().all(Sensor::is_ejected) {
            let least = self
                .sensors
                .values()
                .map(|sensor| sensor.against(now))
                .min();
            let sensors = self.sensors.values_mut();
            for sensor in sensors.filter(|sensor| Some(sensor.against(now)) == least) {
                sensor.return_early(now);
            }
        }
    }

    /// A sensor that has come back to the list soon enough.
    fn back(&mut self, address: SocketAddr, now: Instant) -> Option<Sensor> {
        let (mut sensor, at) = self.gone.remove(&address)?;
        if now.saturating_duration_since(at) >= RESET {
            return None;
        }
        sensor.end(now);
        // It was not used meanwhile.
        sensor.returned = sensor.returned.map(|time| time.max(now));
        Some(sensor)
    }

    /// Keeps what is known of sensors that have left the list, for a while and of not too many.
    fn remember(&mut self, left: BTreeMap<SocketAddr, Sensor>, now: Instant) {
        let is_recent = |at: Instant| now.saturating_duration_since(at) < RESET;
        self.gone.retain(|_, (_, at)| is_recent(*at));
        let left = left.into_iter().filter(|(_, sensor)| sensor.level > 0);
        self.gone
            .extend(left.map(|(address, sensor)| (address, (sensor, now))));
        while self.gone.len() > GONE_MAX {
            let oldest = self.gone.iter().min_by_key(|(_, (_, at))| *at);
            let Some(address) = oldest.map(|(address, _)| *address) else {
                break;
            };
            self.gone.remove(&address);
        }
    }

    /// Takes evidence about a sensor, and says what that has changed.
    pub(crate) fn take(
        &mut self,
        address: SocketAddr,
        evidence: Evidence,
        now: Instant,
    ) -> Option<Change> {
        let sensor = self.sensors.get_mut(&address)?;
        match evidence {
            Evidence::Failed(_) | Evidence::MayFail(_) if sensor.is_ejected() => {
                sensor.failed(evidence, now);
                None
            }
            Evidence::Failed(failure) => {
                sensor.failed(evidence, now);
                self.eject(address, failure, now)
            }
            Evidence::MayFail(failure) => match sensor.may_fail(failure, now) {
                Probing::Begun => Some(Change::Unhealthy),
                Probing::Running => None,
                Probing::Failed => {
                    sensor.failed(evidence, now);
                    self.eject(address, failure, now)
                }
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

    /// Ejects a sensor if another one can take its flows.
    fn eject(&mut self, address: SocketAddr, failure: Failure, now: Instant) -> Option<Change> {
        let against = self.sensors.get(&address)?.against(now);
        let mut others = self.sensors.iter().filter(|(other, _)| **other != address);
        if !others.any(|(_, other)| !other.is_ejected() && other.against(now) < against) {
            self.forgive(against, now);
            return Some(Change::Kept(failure));
        }
        let sensor = self.sensors.get_mut(&address)?;
        if sensor.is_held(now) {
            return None;
        }
        sensor.eject(failure, now);
        Some(Change::Ejected(failure))
    }

    /// Uses ejected sensors again that have no more against them than the last one in use.
    fn forgive(&mut self, last: Against, now: Instant) {
        for sensor in self
            .sensors
            .values_mut()
            .filter(|sensor| sensor.is_ejected())
        {
            let against = sensor.against(now);
            // What goes to the last one is lost for sure.
            let is_needed = last == Against::Kernel && against < last;
            if is_needed || (against <= last && sensor.may_return_early(now)) {
                sensor.return_early(now);
            }
        }
    }
}

#[cfg(test)]
#[path = "ejection_tests.rs"]
mod tests;
