//! What is logged, and how often.
//!
//! In: failures, answers, remarks about pods, and lists of sensors. Out: log lines. Each kind of
//! failure is logged once until the API server answers again, and the end of the failures once: as warnings
//! if the pods are sensors, and as information if it is podspan's own pod, which not everybody needs. The
//! reason why a pod is not used is logged when it changes, and so are the sensors.
//!
//! Invariant: no line is logged per attempt or per event.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use crate::failure::Failure;
use crate::own_pod::{FILTER_ANNOTATION, MIRROR_ANNOTATION};
use crate::pod::PodName;
use crate::remedy::{Target, remedy};
use crate::select::Remark;
use crate::types::SensorList;
use settings::Foreign;

/// How many sensors one line names.
const NAMED: usize = 16;

/// What has been logged.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    failing: Option<Failing>,
    /// Whether the API server has answered before.
    connected: bool,
    /// Whether a list has been complete.
    listed: bool,
    remarks: BTreeMap<PodName, Remark>,
}

/// The failures since the last success.
#[derive(Debug)]
struct Failing {
    since: Instant,
    last: Failure,
    /// One of each kind that has been logged. Behind a load balancer, two kinds may alternate.
    logged: Vec<Failure>,
}

impl Journal {
    /// An attempt has failed.
    pub(crate) fn failed(&mut self, failure: Failure, target: &Target) {
        let (since, last, mut logged) = match self.failing.take() {
            Some(Failing {
                since,
                last,
                logged,
            }) => (since, Some(last), logged),
            None => (Instant::now(), None, Vec::new()),
        };
        let again = last.is_some_and(|last| last.is_same_kind(&failure));
        let is_new = !logged.iter().any(|logged| logged.is_same_kind(&failure));
        let text = remedy(&failure, target);
        if is_new && (again || !self.may_be_transient(&failure)) {
            if target.are_sensors() {
                let sensors = if self.listed {
                    "; the last known sensors stay in use"
                } else {
                    ""
                };
                tracing::warn!("discovery{sensors}: {text}");
            } else {
                let last = if self.listed {
                    "; the last ones stay in use"
                } else {
                    ""
                };
                tracing::info!(
                    "the annotations {FILTER_ANNOTATION} and {MIRROR_ANNOTATION} of podspan's own pod are not \
                     followed{last}: {text}. If nobody uses them, set ANNOTATIONS=off; with a file \
                     in ANNOTATIONS they are followed without the API server"
                );
            }
            logged.push(failure.clone());
        } else {
            tracing::debug!("discovery fails: {text}");
        }
        self.failing = Some(Failing {
            since,
            last: failure,
            logged,
        });
    }

    /// Whether a failure is logged only when it comes twice in a row. An API server that has just
    /// started has not loaded the Roles yet, and its first 403 is not worth a page of YAML.
    fn may_be_transient(&self, failure: &Failure) -> bool {
        match failure {
            Failure::Gone => true,
            Failure::Forbidden { .. } => self.connected,
            _ => false,
        }
    }

    /// A list is complete. A watch may still fail.
    pub(crate) fn listed(&mut self) {
        self.listed = true;
    }

    /// The API server answers.
    pub(crate) fn answered(&mut self, target: &Target) {
        let (server, pods) = (Foreign(&target.server), target.pods());
        let failing = self
            .failing
            .take()
            .filter(|failing| !failing.logged.is_empty());
        let after_seconds = failing.map(|failing| failing.since.elapsed().as_secs());
        match (self.connected, target.are_sensors(), after_seconds) {
            (false, true, _) => tracing::info!("discovery: watching the {pods} at {server}"),
            (false, false, _) => tracing::info!(
                "following the annotations {FILTER_ANNOTATION} and {MIRROR_ANNOTATION} of the {pods} at {server}"
            ),
            (true, true, Some(after_seconds)) => tracing::info!(
                after_seconds,
                "discovery: the API server {server} answers again"
            ),
            (true, false, Some(after_seconds)) => tracing::info!(
                after_seconds,
                "the annotations of podspan's own pod are followed again"
            ),
            (true, _, None) => {}
        }
        self.connected = true;
    }

    /// A refresh gave these remarks, for all pods that have one.
    pub(crate) fn remarks(&mut self, remarks: BTreeMap<PodName, Remark>) {
        for (pod, remark) in &remarks {
            if self.remarks.get(pod) == Some(remark) {
                continue;
            }
            if remark.needs_action() {
                tracing::warn!(%pod, "a pod with the sensor's name is {remark}");
            } else {
                tracing::info!(%pod, "a pod with the sensor's name is {remark}");
            }
        }
        self.remarks = remarks;
    }

    /// The list of sensors is new or has changed.
    pub(crate) fn sensors(&self, list: &SensorList, target: &Target) {
        let sensors = &list.sensors;
        if sensors.is_empty() {
            let pods = target.pods();
            let unusable = self.remarks.len();
            tracing::warn!(
                unusable,
                "no sensor: there are no usable {pods}; check the label, the namespace, and that a \
                 pod is Ready. Mirroring starts with the first usable pod"
            );
            return;
        }
        let mut text = String::new();
        for sensor in sensors.iter().take(NAMED) {
            let separator = if text.is_empty() { "" } else { ", " };
            let node = if sensor.on_this_node {
                ", on this node"
            } else {
                ""
            };
            let tunnel = if sensor.has_tunnel {
                ", through WireGuard"
            } else {
                ""
            };
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "{separator}{} ({}, {}{tunnel}{node})",
                sensor.address,
                Foreign(&sensor.pod),
                sensor.receiver
            );
        }
        let more = sensors.len().saturating_sub(NAMED);
        if more > 0 {
            let _ = write!(text, " and {more} more");
        }
        tracing::info!(count = sensors.len(), "usable sensors: {text}");
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
