//! What is logged about the work: the sums over all threads, when they have changed.
//!
//! The sums are exact: `opened` = `forwarded` + `queue_full` + `send_error`.

use std::sync::PoisonError;

use tracing::info;
use tunnel::refusal::Refused;

use crate::worker::{Published, Snapshot};

/// The sum of all threads' numbers.
pub(crate) fn sum(all: &[Published]) -> Snapshot {
    let mut sum = Snapshot::default();
    for published in all {
        let one = *published.lock().unwrap_or_else(PoisonError::into_inner);
        sum.totals += one.totals;
        sum.forward.forwarded += one.forward.forwarded;
        sum.forward.queue_full += one.forward.queue_full;
        sum.forward.send_error += one.forward.send_error;
        sum.overflowed += one.overflowed;
        sum.replies_failed += one.replies_failed;
        sum.peers += one.peers;
    }
    sum
}

/// Logs the numbers.
pub(crate) fn log(what: &'static str, sum: &Snapshot) {
    let Snapshot {
        totals, forward, ..
    } = sum;
    info!(
        peers = sum.peers,
        opened = totals.opened,
        forwarded = forward.forwarded,
        queue_full = forward.queue_full,
        send_error = forward.send_error,
        overflowed = sum.overflowed,
        handshakes = totals.answered,
        sessions = totals.peers_new + totals.rekeyed,
        refused = %reasons(&totals.refused),
        replies_failed = sum.replies_failed,
        "{what}"
    );
}

/// The reasons that occurred, such as `mac1=3 replayed=1`.
fn reasons(refused: &Refused) -> String {
    let reasons: Vec<_> = refused
        .iter()
        .map(|(reason, count)| format!("{reason}={count}"))
        .collect();
    if reasons.is_empty() {
        "0".to_owned()
    } else {
        reasons.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use tunnel::Refusal;

    use super::*;

    #[test]
    fn refusals_are_shown_by_reason() {
        let mut refused = Refused::default();
        assert_eq!(reasons(&refused), "0");
        refused.count(Refusal::Mac1);
        refused.count(Refusal::Replayed);
        refused.count(Refusal::Replayed);
        assert_eq!(reasons(&refused), "replayed=2 mac1=1");
    }
}
