//! Log lines that repeat: each is logged at once, and then at most once a minute.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

/// The time after which a line that repeats is logged again.
pub(crate) const REMIND_EVERY: Duration = Duration::from_mins(1);

/// The lines of the last minute. Their number is limited: they name sensors, interfaces and error
/// numbers, and no text that the network chooses.
#[derive(Debug, Default)]
pub(crate) struct Reminders(HashMap<String, Instant>);

impl Reminders {
    /// Whether to log a line now.
    pub(crate) fn is_due(&mut self, line: String, now: Instant) -> bool {
        self.0
            .retain(|_, logged| now.saturating_duration_since(*logged) < REMIND_EVERY);
        match self.0.entry(line) {
            Entry::Occupied(_) => false,
            Entry::Vacant(entry) => {
                entry.insert(now);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_repeats_is_logged_once_a_minute() {
        let (mut reminders, start) = (Reminders::default(), Instant::now());
        let mut at =
            |seconds| reminders.is_due("EPERM".to_owned(), start + Duration::from_secs(seconds));
        assert_eq!(
            [at(0), at(1), at(59), at(60), at(61)],
            [true, false, false, true, false]
        );
    }
}
