//! What is logged, and how often: a failure when it begins or changes, its end once, a pod's reason
//! not to be used when it changes, the sensors when they change. Nothing per attempt or event.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use crate::failure::Failure;
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
    remarks: BTreeMap<PodName, Remark>,
}

/// A time without success.
#[derive(Debug)]
struct Failing {
    since: Instant,
    /// What failed last, and whether that has been told.
    last: Failure,
    last_is_told: bool,
    /// Whether anything has been told, so that the end is to be told too.
    is_told: bool,
}

impl Journal {
    /// An attempt has failed.
    pub(crate) fn failed(&mut self, failure: Failure, asking: &Asking) {
        let before = self.failing.take();
        let again = before
            .as_ref()
            .filter(|before| before.last.is_like(&failure));
        let tell = match again {
            Some(before) => !before.last_is_told,
            None => !self.may_pass(&failure),
        };
        let text = remedy(&failure, asking);
        if tell {
            let kept = if self.connected {
                "; the last known sensors stay"
            } else {
                ""
            };
            tracing::warn!("discovery{kept}: {text}");
        } else {
            tracing::debug!("discovery fails: {text}");
        }
        self.failing = Some(Failing {
            since: before
                .as_ref()
                .map_or_else(Instant::now, |before| before.since),
            last_is_told: tell || again.is_some_and(|before| before.last_is_told),
            is_told: tell || before.as_ref().is_some_and(|before| before.is_told),
            last: failure,
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

    /// The API server answers.
    pub(crate) fn answered(&mut self, asking: &Asking) {
        let (server, wanted) = (&asking.server, asking.wanted());
        let told = self.failing.take().filter(|failing| failing.is_told);
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
            let _ = write!(
                list,
                "{separator}{} ({}, {})",
                sensor.address, sensor.pod, sensor.receiver
            );
        }
        let more = view.sensors.len().saturating_sub(NAMED);
        if more > 0 {
            let _ = write!(list, " and {more} more");
        }
        tracing::info!(count = view.sensors.len(), "sensors: {list}");
    }
}
