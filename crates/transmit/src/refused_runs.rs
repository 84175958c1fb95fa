//! The sensors that get no runs for some time, because the path to them refused one.
//!
//! In: refusals, and the time. Out: whether a sensor gets runs. A device on a path can lose or gain the
//! ability to split a message, so runs are tried again after [`RUNS_AGAIN_AFTER`], and at once when the
//! routes have changed. The list is usually empty, so a batch then needs no time for it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a sensor whose path refused a run gets none.
pub(crate) const RUNS_AGAIN_AFTER: Duration = Duration::from_mins(1);

/// The sensors without runs, and until when. Each once: a sensor without runs is sent none to refuse.
#[derive(Debug, Default)]
pub(crate) struct RefusedRuns(Vec<(SocketAddr, Instant)>);

impl RefusedRuns {
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, sensor: SocketAddr) -> bool {
        self.0.iter().any(|(refusing, _)| *refusing == sensor)
    }

    pub(crate) fn add(&mut self, sensor: SocketAddr, now: Instant) {
        self.0.push((sensor, now + RUNS_AGAIN_AFTER));
    }

    /// Removes those whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.0.retain(|(_, until)| now < *until);
    }

    /// Removes all.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sensor_gets_runs_again_after_a_minute_or_when_routes_have_changed() {
        let sensor = |port| SocketAddr::from(([192, 0, 2, 1], port));
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        let mut refused = RefusedRuns::default();
        refused.add(sensor(1), now);
        refused.add(sensor(2), later(30));
        refused.expire(later(59));
        assert!(refused.contains(sensor(1)) && refused.contains(sensor(2)));
        assert!(!refused.contains(sensor(3)), "only these paths");
        refused.expire(later(60));
        assert!(!refused.contains(sensor(1)) && refused.contains(sensor(2)));
        refused.clear();
        assert!(refused.is_empty());
    }
}
