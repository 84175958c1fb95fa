//! What is logged at once, and again once a minute while it goes on.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

/// How often a line that repeats is logged.
pub(crate) const REMIND_EVERY: Duration = Duration::from_mins(1);

/// The lines of the last minute. Bounded by what can come in a minute: a caller names one of the
/// sensors or of the error numbers, never what the network chooses.
#[derive(Debug, Default)]
pub(crate) struct Reminders(HashMap<String, Instant>);

impl Reminders {
    /// Whether a line is to be logged now.
    pub(crate) fn is_due(&mut self, line: String, now: Instant) -> bool {
        self.0
            .retain(|_, logged| now.saturating_duration_since(*logged) < REMIND_EVERY);
        match self.0.entry(line) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(now);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_logged_once_a_minute() {
        let (mut reminders, start) = (Reminders::default(), Instant::now());
        let mut at =
            |seconds| reminders.is_due("EPERM".to_owned(), start + Duration::from_secs(seconds));
        assert_eq!(
            [at(0), at(1), at(59), at(60), at(61)],
            [true, false, false, true, false]
        );
    }
}
