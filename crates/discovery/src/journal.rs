//! What is logged, and how often: each kind of failure once until all is well again, its end once, a
//! pod's reason not to be used when it changes, the sensors when they change. Nothing per attempt or
//! event.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use crate::failure::Failure;
use crate::foreign::Foreign;
use crate::pod::PodName;
use crate::remedy::{Asking, remedy};
use crate::select::Remark;
use crate::settings::View;

/// How many sensors one line names.
const NAMED: usize = 16;

/// What has been said.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    failing: Option<Failing>,
    /// Whether the API server has answered before.
    connected: bool,
    /// Whether there has been a list.
    listed: bool,
    remarks: BTreeMap<PodName, Remark>,
}

/// A time without success.
#[derive(Debug)]
struct Failing {
    since: Instant,
    last: Failure,
    /// One of each kind that has been told. Two may take turns, behind a load balancer.
    told: Vec<Failure>,
}

impl Journal {
    /// An attempt has failed.
    pub(crate) fn failed(&mut self, failure: Failure, asking: &Asking) {
        let (since, last, mut told) = match self.failing.take() {
            Some(Failing { since, last, told }) => (since, Some(last), told),
            None => (Instant::now(), None, Vec::new()),
        };
        let again = last.is_some_and(|last| last.is_like(&failure));
        let is_new = !told.iter().any(|told| told.is_like(&failure));
        let text = remedy(&failure, asking);
        if is_new && (again || !self.may_pass(&failure)) {
            let kept = if self.listed {
                "; the last known sensors stay"
            } else {
                ""
            };
            tracing::warn!("discovery{kept}: {text}");
            told.push(failure.clone());
        } else {
            tracing::debug!("discovery fails: {text}");
        }
        self.failing = Some(Failing {
            since,
            last: failure,
            told,
        });
    }

    /// Whether a failure is told only when it comes twice in a row. An API server that has just
    /// started knows no Role for a moment: not worth a page of YAML.
    fn may_pass(&self, failure: &Failure) -> bool {
        match failure {
            Failure::Gone => true,
            Failure::Forbidden { .. } => self.connected,
            _ => false,
        }
    }

    /// A list is complete; whether a watch works too is not yet known.
    pub(crate) fn listed(&mut self) {
        self.listed = true;
    }

    /// The API server answers.
    pub(crate) fn answered(&mut self, asking: &Asking) {
        let (server, wanted) = (Foreign(&asking.server), asking.wanted());
        let told = self
            .failing
            .take()
            .filter(|failing| !failing.told.is_empty());
        if !self.connected {
            tracing::info!("discovery: watching the {wanted} at {server}");
        } else if let Some(Failing { since, .. }) = told {
            let after_seconds = since.elapsed().as_secs();
            tracing::info!(
                after_seconds,
                "discovery: the API server {server} answers again"
            );
        }
        self.connected = true;
    }

    /// A complete look at the pods, with what is to be said about some.
    pub(crate) fn remark(&mut self, remarks: BTreeMap<PodName, Remark>) {
        for (pod, remark) in &remarks {
            if self.remarks.get(pod) == Some(remark) {
                continue;
            }
            if remark.needs_attention() {
                tracing::warn!(%pod, "a pod with the sensor's name is {remark}");
            } else {
                tracing::info!(%pod, "a pod with the sensor's name is {remark}");
            }
        }
        self.remarks = remarks;
    }

    /// The sensors have changed, or are known for the first time.
    pub(crate) fn view(&self, view: &View, asking: &Asking) {
        if view.sensors.is_empty() {
            let wanted = asking.wanted();
            let unusable = self.remarks.len();
            tracing::warn!(
                unusable,
                "no sensor: there are no usable {wanted}; mirroring begins with the first"
            );
            return;
        }
        let mut list = String::new();
        for sensor in view.sensors.iter().take(NAMED) {
            let separator = if list.is_empty() { "" } else { ", " };
            // Writing to a string cannot fail.
            let node = if sensor.on_this_node {
                ", on this node"
            } else {
                ""
            };
            let _ = write!(
                list,
                "{separator}{} ({}, {}{node})",
                sensor.address,
                Foreign(&sensor.pod),
                sensor.receiver
            );
        }
        let more = view.sensors.len().saturating_sub(NAMED);
        if more > 0 {
            let _ = write!(list, " and {more} more");
        }
        tracing::info!(count = view.sensors.len(), "usable sensors: {list}");
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
