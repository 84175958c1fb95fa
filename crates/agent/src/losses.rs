//! The losses that continue, and their log lines.
//!
//! In: the worker's numbers, and the time. Out: one line when frames begin to be lost for a reason, and one when this is
//! over: not one for each frame.

use std::time::{Duration, Instant};

use mirror::totals::{DropReason, Dropped};

use crate::published::Snapshot;

/// A loss is over when its counter has not grown for this time.
const LOSS_OVER_AFTER: Duration = Duration::from_secs(10);

/// The losses that continue. Only the start and the end of each are logged.
#[derive(Default)]
pub(crate) struct Losses {
    /// The counters at the last update.
    dropped: Dropped,
    ring_drops: u64,
    /// When each counter last grew, for losses that continue; the ring's is the last.
    grew_at: [Option<Instant>; DropReason::ALL.len() + 1],
}

impl Losses {
    /// Whether a loss continues.
    pub(crate) fn any(&self) -> bool {
        self.grew_at.iter().any(Option::is_some)
    }

    /// Compares the numbers with those of the last update, and logs what begins or ends.
    pub(crate) fn update(&mut self, snapshot: &Snapshot, now: Instant) {
        let [reasons @ .., ring] = &mut self.grew_at;
        for (grew_at, reason) in reasons.iter_mut().zip(DropReason::ALL) {
            // This is not a loss: such frames are left out on purpose.
            if reason == DropReason::OwnError {
                continue;
            }
            let count = snapshot.totals.frames_dropped.of(reason);
            let frames = count - self.dropped.of(reason).min(count);
            log_loss(grew_at, reason.label(), frames, now);
        }
        let frames = snapshot.ring.drops - self.ring_drops.min(snapshot.ring.drops);
        log_loss(ring, "ring_drops", frames, now);
        self.dropped = snapshot.totals.frames_dropped;
        self.ring_drops = snapshot.ring.drops;
    }
}

/// Logs the start or the end of a loss. `frames` were lost since the last update.
fn log_loss(grew_at: &mut Option<Instant>, reason: &str, frames: u64, now: Instant) {
    match grew_at {
        None if frames > 0 => {
            tracing::warn!(reason, frames, "frames are not mirrored");
            *grew_at = Some(now);
        }
        Some(_) if frames > 0 => *grew_at = Some(now),
        Some(last) if now.duration_since(*last) >= LOSS_OVER_AFTER => {
            tracing::info!(reason, "frames are mirrored again");
            *grew_at = None;
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_continues_until_ten_seconds_without_a_lost_frame() {
        let mut losses = Losses::default();
        let mut snapshot = Snapshot::default();
        let start = Instant::now();
        snapshot.ring.drops = 5;
        losses.update(&snapshot, start);
        assert!(losses.grew_at[DropReason::ALL.len()].is_some());
        losses.update(&snapshot, start + LOSS_OVER_AFTER / 2);
        assert!(losses.grew_at[DropReason::ALL.len()].is_some());
        losses.update(&snapshot, start + LOSS_OVER_AFTER);
        assert!(losses.grew_at.iter().all(Option::is_none));
    }
}
