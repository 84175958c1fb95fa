//! What is known of podspan: one value, which the log, `/metrics`, `/status` and `/readyz` read.
//!
//! In: the worker's published numbers, and what the control side knows. Out: a [`Status`], made at each request and for
//! the lines of totals; the totals as a line of the log ([`Status::log_totals`]); why nothing is mirrored
//! ([`Status::problems`]); the metrics (`catalog`) and the JSON of `/status` (`json`).
//!
//! Invariants: the numbers are those of one time, but for a block that the worker processes meanwhile. The size is
//! bounded: what can be many, such as sensors, is described up to a limit, and summed.

mod catalog;
mod json;
pub(crate) mod process;

use std::fmt;
use std::time::{Duration, Instant};

use discovery::Contact;
use mirror::totals::{DropReason, Dropped};
use settings::{Config, Namespace, ObjectName};

pub(crate) use catalog::CATALOG;

use crate::cpu_quota::Throttling;
use crate::filter_choice::FilterStatus;
use crate::interfaces::InterfaceState;
use crate::published::{RingNumbers, Snapshot};
use crate::sensors::status::{SensorState, SensorsStatus};
use process::Usage;

/// The worker is stuck if it is late by so much. A CPU quota stops it for less.
const STUCK: Duration = Duration::from_secs(10);

/// Who this podspan is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Identity {
    /// `None` if the settings are wrong.
    pub(crate) vni: Option<u32>,
    pub(crate) node: Option<String>,
    pub(crate) pod: Option<String>,
    pub(crate) namespace: Option<String>,
}

impl Identity {
    /// As the settings say.
    pub(crate) fn of(config: &Config) -> Self {
        let text = |name: Option<&str>| name.map(str::to_owned);
        Self {
            vni: Some(config.vni.get()),
            node: text(config.node_name.as_ref().map(ObjectName::as_str)),
            pod: text(config.pod_name.as_ref().map(ObjectName::as_str)),
            namespace: text(config.pod_namespace.as_ref().map(Namespace::as_str)),
        }
    }
}

/// A watch at the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContactStatus {
    pub(crate) is_connected: bool,
    /// How long ago the API server last said something about the pods.
    pub(crate) age: Option<Duration>,
    /// How often each kind of failure has occurred, in the order of [`Contact::KINDS`].
    pub(crate) failures: [u64; Contact::KINDS.len()],
}

impl ContactStatus {
    /// What is known at this time.
    pub(crate) fn at(contact: Contact, now: Instant) -> Self {
        Self {
            is_connected: contact.is_connected,
            age: contact
                .answered
                .map(|answered| now.saturating_duration_since(answered)),
            failures: contact.failures,
        }
    }
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InterfaceStatus {
    /// Its name in the configuration.
    pub(crate) name: String,
    pub(crate) state: InterfaceState,
    pub(crate) ring: RingNumbers,
}

/// All that is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Status {
    pub(crate) identity: Identity,
    /// Why the start has failed, with `ON_FAILURE=idle`.
    pub(crate) idle: Option<String>,
    /// The worker's numbers.
    pub(crate) snapshot: Snapshot,
    pub(crate) interfaces: Vec<InterfaceStatus>,
    /// The size of each ring in bytes; `None` before they are open.
    pub(crate) ring_size: Option<u64>,
    /// The number of blocks of each ring.
    pub(crate) ring_blocks: Option<u64>,
    /// The watch on the sensors, if they have a name.
    pub(crate) sensors_api: Option<ContactStatus>,
    /// The watch on podspan's own pod, if the API server is asked for it.
    pub(crate) own_pod_api: Option<ContactStatus>,
    /// `None` if it is unknown.
    pub(crate) throttling: Option<Throttling>,
    /// By how much the worker is late.
    pub(crate) worker_late: Duration,
    /// Whether a first list of sensors has come.
    pub(crate) has_list: bool,
    pub(crate) sensors: SensorsStatus,
    pub(crate) filter: FilterStatus,
    pub(crate) usage: Usage,
    /// Events of the worker that the control side could not read.
    pub(crate) events_lost: u64,
    /// Lines of the log that were dropped.
    pub(crate) log_lines_dropped: u64,
    /// Connections to METRICS that were closed because there were too many.
    pub(crate) connections_evicted: u64,
}

impl Status {
    /// The state after a start that failed.
    pub(crate) fn idle(identity: Identity, reason: String) -> Self {
        Self {
            identity,
            idle: Some(reason),
            usage: Usage::read(),
            log_lines_dropped: crate::log::dropped(),
            ..Self::default()
        }
    }

    /// For how long the worker is stuck, if it is.
    pub(crate) fn stuck(&self) -> Option<Duration> {
        (self.worker_late > STUCK).then_some(self.worker_late)
    }

    /// Why nothing, or not everything, can be mirrored; each is a line.
    pub(crate) fn problems(&self) -> Vec<String> {
        if let Some(reason) = &self.idle {
            return vec![format!("idle after a failure: {reason}")];
        }
        let mut problems = Vec::new();
        if let Some(late) = self.stuck() {
            problems.push(format!("the worker is stuck for {} s", late.as_secs()));
        }
        for interface in &self.interfaces {
            if let Some(problem) = interface.state.problem() {
                problems.push(format!("not bound: {} {problem}", interface.name));
            }
        }
        if !self.has_list {
            problems.push("no sensor is usable: no list of sensors has come yet".to_owned());
        } else if self.sensors.named.is_empty() {
            problems.push("no sensor is usable: the list of sensors is empty".to_owned());
        } else if self.sensors.count(SensorState::InUse) == 0 {
            problems.push("no sensor is usable: no tunnel has a session".to_owned());
        }
        problems
    }

    /// Logs the totals.
    pub(crate) fn log_totals(&self) {
        let Snapshot { totals, ring, .. } = &self.snapshot;
        tracing::info!(
            ring_packets = ring.packets,
            ring_drops = ring.drops,
            frames_seen = totals.frames_seen,
            frames_mirrored = totals.frames_mirrored,
            frames_dropped = totals.frames_dropped.sum(),
            frames_dropped_by = %ByReason(&totals.frames_dropped),
            datagrams_built = totals.datagrams_built,
            datagrams_sent = totals.datagrams_sent,
            datagrams_dropped = totals.datagrams_dropped.sum(),
            datagrams_dropped_by = %ByReason(&totals.datagrams_dropped),
            bytes_sent = totals.bytes_sent,
            messages_sent = totals.messages_sent,
            trailer_bytes = totals.trailer_bytes,
            "totals"
        );
    }
}

/// A number of microseconds in seconds.
fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

/// Counts as `no_sensor:3,oversize:1`, or `none`.
struct ByReason<'d>(&'d Dropped);

impl fmt::Display for ByReason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for reason in DropReason::ALL {
            let count = self.0.of(reason);
            if count > 0 {
                write!(f, "{separator}{reason}:{count}")?;
                separator = ",";
            }
        }
        if separator.is_empty() {
            f.write_str("none")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::published::RingTotals;
    use crate::sensors::status::SensorStatus;

    fn running() -> Status {
        let mut status = Status {
            interfaces: vec![InterfaceStatus {
                name: "eth0".into(),
                state: InterfaceState::Captured,
                ring: RingNumbers {
                    totals: RingTotals::default(),
                    most_blocks: 0,
                },
            }],
            has_list: true,
            ..Status::default()
        };
        with_sensor(&mut status, SensorState::InUse);
        status
    }

    fn with_sensor(status: &mut Status, state: SensorState) {
        status.sensors.by_state = [0; SensorState::ALL.len()];
        status.sensors.by_state[state as usize] = 1;
        status.sensors.named = vec![SensorStatus {
            address: SocketAddr::from(([10, 0, 0, 1], 4789)),
            state,
            has_tunnel: true,
            path_mtu: None,
        }];
    }

    #[test]
    fn what_is_missing_is_named_and_nothing_else() {
        let change = |change: fn(&mut Status)| {
            let mut status = running();
            change(&mut status);
            status.problems()
        };
        assert_eq!(change(|_| {}), [""; 0]);
        assert_eq!(
            change(|status| status.idle = Some("no permission".into())),
            ["idle after a failure: no permission"]
        );
        assert_eq!(
            change(|status| status.interfaces[0].state = InterfaceState::Missing),
            ["not bound: eth0 does not exist"]
        );
        assert_eq!(
            change(|status| status.worker_late = STUCK + Duration::from_secs(1)),
            ["the worker is stuck for 11 s"]
        );
        assert_eq!(
            change(|status| status.has_list = false),
            ["no sensor is usable: no list of sensors has come yet"]
        );
        assert_eq!(
            change(|status| status.sensors = SensorsStatus::default()),
            ["no sensor is usable: the list of sensors is empty"]
        );
        assert_eq!(
            change(|status| with_sensor(status, SensorState::InUseWithoutSession)),
            ["no sensor is usable: no tunnel has a session"]
        );
    }

    #[test]
    fn a_worker_that_is_late_is_stuck_after_a_while_and_not_before() {
        let mut status = running();
        status.worker_late = STUCK;
        assert_eq!(status.stuck(), None);
        status.worker_late = STUCK + Duration::from_millis(1);
        assert_eq!(status.stuck(), Some(status.worker_late));
    }

    #[test]
    fn counts_are_listed_by_reason() {
        let mut dropped = Dropped::default();
        assert_eq!(ByReason(&dropped).to_string(), "none");
        dropped.set(DropReason::NoSensor, 3);
        dropped.set(DropReason::SendError, 1);
        assert_eq!(ByReason(&dropped).to_string(), "no_sensor:3,send_error:1");
    }
}
