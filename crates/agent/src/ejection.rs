//! Which sensors are ejected: in the list, but not used for now.
//!
//! In: an [`Observation`] of a sensor, and the time. Out: which sensors are ejected, which to probe,
//! and what changed. The terms are those of Envoy's outlier detection. A sensor is
//!
//! - *healthy*: used, and there is no recent evidence of a failure;
//! - *unhealthy*: still used, and probed, because of evidence that anybody can forge. It is ejected
//!   when the evidence comes again after [`health::PROBE_TIME`] and its host did not answer in this time;
//! - *ejected*: the other sensors get its flows. It returns when its host answers, when there is no
//!   evidence for [`health::QUIET`], or at the end of its ejection.
//!
//! A sensor is ejected only while another sensor in use has weaker evidence against it. The evidence
//! of the last [`health::QUIET`] counts ([`FailureEvidence`]): none, a message that anybody can forge, or a
//! report of this machine's kernel. This has three results:
//!
//! - The sensor that would be the last one stays in use, whatever is observed.
//! - The ejected sensors with no stronger evidence than the last one then return *early*, that is at
//!   once. If all sensors fail, all are used, because podspan's own network is then the more likely
//!   cause. A sensor that the kernel reports as unreachable does not return because of forged evidence
//!   against the last one: what is sent to it is lost.
//! - A sensor that returned early and still fails is ejected again as soon as another one has no recent
//!   evidence.
//!
//! # Invariants
//! - No ejection lasts longer than [`health::EJECTION_MAX`], whatever is observed. Then the sensor is used
//!   again, to try it.
//! - At least one sensor is not ejected. If the list has only ejected ones left, those with the weakest
//!   evidence are used at once.
//! - Every return has a backoff. The first ejection for "unreachable" ends with the first answer; each
//!   later one lasts at least 4 s, 8, 16, 32, and then 60, until the sensor has been used for [`health::RESET`].
//!   A sensor returns early at most once in [`health::EARLY_AGAIN`]. If it must be used sooner than that (the
//!   list has no other sensor, or the kernel reports the others as unreachable), it is used at once and
//!   *held*: it is not ejected for as long as the ejection would have lasted. So a sensor changes at
//!   most twelve times in a minute, whatever is observed and however the list changes
//!   (`no_observations_eject_for_longer_than_the_bound_or_flap`).
//! - Whatever is forged against sensors that work, a sensor that the kernel reports as unreachable is
//!   not used for nine tenths of the time (`nothing_forged_keeps_a_dead_sensor_in_use`).

mod health;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use health::{FailureEvidence, Probing, RESET, SensorHealth, State};

/// The number of removed sensors whose backoff is kept.
const REMOVED_MAX: usize = 256;

/// What is wrong with a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no route to it, or its host does not answer.
    Unreachable,
    /// Its host answers that nothing listens on its port, and the sensor is a socket.
    Refused,
    /// A firewall rejects datagrams to it.
    Prohibited,
}

/// What was observed of a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Observation {
    /// It fails: the kernel reports it, or podspan trusts the message.
    Failed(Failure),
    /// It may fail: anybody can forge this message.
    MayFail(Failure),
    /// Its host has answered a probe.
    Answered,
    /// Its host has answered about the sensor's port, so datagrams to it arrive.
    Arrived,
}

impl Observation {
    /// Whether it is evidence of a failure that anybody can forge.
    pub(crate) const fn is_forgeable_failure(self) -> bool {
        match self {
            Self::Failed(failure) => !matches!(failure, Failure::Unreachable),
            Self::MayFail(_) => true,
            Self::Answered | Self::Arrived => false,
        }
    }
}

/// What an observation has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HealthChange {
    /// The sensor is to be probed.
    Unhealthy,
    /// The sensor is not used from now on.
    Ejected(Failure),
    /// The sensor would be the last one, so it stays in use. Others may have returned early.
    Kept(Failure),
}

/// Why a sensor is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Return {
    /// Its host answers.
    Answered,
    /// Its ejection is over; it is tried again.
    Retry,
}
/// The health of all sensors.
#[derive(Debug, Default)]
pub(crate) struct Ejections {
    sensors: BTreeMap<SocketAddr, SensorHealth>,
    /// Sensors that were removed from the list after an ejection, and when. They may come back soon.
    removed: BTreeMap<SocketAddr, (SensorHealth, Instant)>,
}

impl Ejections {
    /// Sets the list of all sensors. The state of a sensor that was in it in the last minute is kept,
    /// so a sensor cannot avoid the backoff by leaving the list and coming back.
    pub(crate) fn update_list(&mut self, sensors: impl Iterator<Item = SocketAddr>, now: Instant) {
        let mut before = std::mem::take(&mut self.sensors);
        for address in sensors {
            let sensor = before
                .remove(&address)
                .or_else(|| self.restore(address, now));
            self.sensors.insert(address, sensor.unwrap_or_default());
        }
        self.keep_removed(before, now);
        if self.sensors.values().all(SensorHealth::is_ejected) {
            let weakest = self
                .sensors
                .values()
                .map(|sensor| sensor.evidence(now))
                .min();
            let sensors = self.sensors.values_mut();
            for sensor in sensors.filter(|sensor| Some(sensor.evidence(now)) == weakest) {
                sensor.return_early(now);
            }
        }
    }

    /// The kept state of a sensor that comes back to the list soon enough.
    fn restore(&mut self, address: SocketAddr, now: Instant) -> Option<SensorHealth> {
        let (mut sensor, at) = self.removed.remove(&address)?;
        if now.saturating_duration_since(at) >= RESET {
            return None;
        }
        sensor.expire(now);
        // It was not used in between.
        sensor.returned = sensor.returned.map(|time| time.max(now));
        Some(sensor)
    }

    /// Keeps the state of sensors that were removed from the list, for a limited time and number.
    fn keep_removed(&mut self, removed: BTreeMap<SocketAddr, SensorHealth>, now: Instant) {
        let is_recent = |at: Instant| now.saturating_duration_since(at) < RESET;
        self.removed.retain(|_, (_, at)| is_recent(*at));
        let ejected_once = removed.into_iter().filter(|(_, sensor)| sensor.level > 0);
        self.removed
            .extend(ejected_once.map(|(address, sensor)| (address, (sensor, now))));
        while self.removed.len() > REMOVED_MAX {
            let oldest = self.removed.iter().min_by_key(|(_, (_, at))| *at);
            let Some(address) = oldest.map(|(address, _)| *address) else {
                break;
            };
            self.removed.remove(&address);
        }
    }

    /// Handles an observation of a sensor; returns what it has changed.
    pub(crate) fn observe(
        &mut self,
        address: SocketAddr,
        observation: Observation,
        now: Instant,
    ) -> Option<HealthChange> {
        let sensor = self.sensors.get_mut(&address)?;
        match observation {
            Observation::Failed(_) | Observation::MayFail(_) if sensor.is_ejected() => {
                sensor.add_evidence(observation, now);
                None
            }
            Observation::Failed(failure) => {
                sensor.add_evidence(observation, now);
                self.eject(address, failure, now)
            }
            Observation::MayFail(failure) => match sensor.may_fail(failure, now) {
                Probing::Started => Some(HealthChange::Unhealthy),
                Probing::Running => None,
                Probing::Failed => {
                    sensor.add_evidence(observation, now);
                    self.eject(address, failure, now)
                }
            },
            Observation::Answered => {
                sensor.answered();
                None
            }
            Observation::Arrived => {
                sensor.arrived();
                None
            }
        }
    }

    /// Ends states that are over; returns the sensors that are used again. Call it about once a
    /// second.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<(SocketAddr, Return)> {
        let expire = |(address, sensor): (&SocketAddr, &mut SensorHealth)| {
            Some((*address, sensor.expire(now)?))
        };
        self.sensors.iter_mut().filter_map(expire).collect()
    }

    /// Whether a sensor is not healthy. Without one, [`Ejections::tick`] has nothing to do.
    pub(crate) fn any_failing(&self) -> bool {
        let is_failing = |sensor: &SensorHealth| !matches!(sensor.state, State::Healthy);
        self.sensors.values().any(is_failing)
    }

    /// The sensors to probe.
    pub(crate) fn probed(&self) -> impl Iterator<Item = SocketAddr> {
        let is_probed = |sensor: &SensorHealth| match sensor.state {
            State::Healthy => false,
            State::Unhealthy { .. } => true,
            // An answer of the host does not show whether its port still refuses.
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
        self.sensors
            .get(&address)
            .is_some_and(SensorHealth::is_ejected)
    }

    /// The sensors of a host.
    pub(crate) fn of_host(&self, host: IpAddr) -> Vec<SocketAddr> {
        let of_host = self.sensors.keys().filter(|address| address.ip() == host);
        of_host.copied().collect()
    }

    /// Ejects a sensor if another one can get its flows.
    fn eject(
        &mut self,
        address: SocketAddr,
        failure: Failure,
        now: Instant,
    ) -> Option<HealthChange> {
        let evidence = self.sensors.get(&address)?.evidence(now);
        let mut others = self.sensors.iter().filter(|(other, _)| **other != address);
        if !others.any(|(_, other)| !other.is_ejected() && other.evidence(now) < evidence) {
            self.return_others(evidence, now);
            return Some(HealthChange::Kept(failure));
        }
        let sensor = self.sensors.get_mut(&address)?;
        if sensor.is_held(now) {
            return None;
        }
        sensor.eject(failure, now);
        Some(HealthChange::Ejected(failure))
    }

    /// Ends early the ejections of sensors with no stronger evidence than the last one in use.
    fn return_others(&mut self, last: FailureEvidence, now: Instant) {
        for sensor in self
            .sensors
            .values_mut()
            .filter(|sensor| sensor.is_ejected())
        {
            let evidence = sensor.evidence(now);
            // What is sent to the last one is lost.
            let is_needed = last == FailureEvidence::Kernel && evidence < last;
            if is_needed || (evidence <= last && sensor.may_return_early(now)) {
                sensor.return_early(now);
            }
        }
    }
}

#[cfg(test)]
#[path = "ejection_tests.rs"]
mod tests;
