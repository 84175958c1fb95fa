//! What is known of the sensors, for the metrics and the readiness.
//!
//! In: [`Sensors`]. Out: the number of sensors by state, and each of the first [`NAMED_MAX`] by its address, so that a
//! long list does not make the metrics long.

use std::net::SocketAddr;
use std::time::Instant;

use mirror::Sensor;
use wire::Mtu;

use super::{ListedSensor, Sensors};

/// How many sensors are described one by one.
pub(crate) const NAMED_MAX: usize = 64;

/// The state of a listed sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SensorState {
    /// It gets copies.
    InUse,
    /// It gets copies, because there is no other one, and there is no session of its tunnel.
    InUseWithoutSession,
    /// It failed.
    Ejected,
    /// There is no session of its tunnel, and others get its copies.
    NoSession,
    /// Others are preferred.
    NotPreferred,
}

impl SensorState {
    /// All states, each at its own number.
    pub(crate) const ALL: [Self; 5] = [
        Self::InUse,
        Self::InUseWithoutSession,
        Self::Ejected,
        Self::NoSession,
        Self::NotPreferred,
    ];

    /// The name in metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::InUse => "in_use",
            Self::InUseWithoutSession => "in_use_without_session",
            Self::Ejected => "ejected",
            Self::NoSession => "no_session",
            Self::NotPreferred => "not_preferred",
        }
    }
}

/// One sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SensorStatus {
    pub(crate) address: SocketAddr,
    pub(crate) state: SensorState,
    pub(crate) has_tunnel: bool,
    /// Known of those in use.
    pub(crate) path_mtu: Option<Mtu>,
}

/// All sensors.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SensorsStatus {
    /// How many there are in each state, in the order of [`SensorState::ALL`].
    pub(crate) by_state: [u64; SensorState::ALL.len()],
    /// Those that are described.
    pub(crate) named: Vec<SensorStatus>,
    /// How often the sensors in use have changed.
    pub(crate) changes: u64,
}

impl SensorsStatus {
    /// How many sensors are in a state.
    pub(crate) fn count(&self, state: SensorState) -> u64 {
        self.by_state.get(state as usize).copied().unwrap_or(0)
    }
}

impl Sensors {
    /// What is known now.
    pub(crate) fn status(&self, now: Instant) -> SensorsStatus {
        let mut status = SensorsStatus {
            changes: self.changes,
            ..SensorsStatus::default()
        };
        let table = self.table.load();
        for listed in &self.list {
            let mut in_use = table.sensors().iter();
            let in_use = in_use.find(|sensor| sensor.address() == listed.address);
            let state = self.state(listed, in_use.is_some(), now);
            if let Some(count) = status.by_state.get_mut(state as usize) {
                *count += 1;
            }
            if status.named.len() < NAMED_MAX {
                status.named.push(SensorStatus {
                    address: listed.address,
                    state,
                    has_tunnel: listed.has_tunnel,
                    path_mtu: in_use.map(Sensor::path_mtu),
                });
            }
        }
        status
    }

    fn state(&self, listed: &ListedSensor, is_in_use: bool, now: Instant) -> SensorState {
        match (is_in_use, self.is_ready(listed, now)) {
            (true, true) => SensorState::InUse,
            (true, false) => SensorState::InUseWithoutSession,
            (false, _) if self.ejections.is_ejected(listed.address) => SensorState::Ejected,
            (false, false) => SensorState::NoSession,
            (false, true) => SensorState::NotPreferred,
        }
    }
}
