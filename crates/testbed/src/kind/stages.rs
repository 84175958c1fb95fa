//! Telling what goes on, and how long each stage took.

use std::time::{Duration, Instant};

use super::error::Result;

/// Where the lines go.
pub struct Stages<'a> {
    print: &'a mut dyn FnMut(&str),
}

impl<'a> Stages<'a> {
    /// Lines go to `print`, without a line end.
    pub fn new(print: &'a mut dyn FnMut(&str)) -> Self {
        Self { print }
    }

    /// Prints a line.
    pub(super) fn report(&mut self, line: &str) {
        (self.print)(line);
    }

    /// Runs one stage between a line that names it and one that says how long it took.
    pub(super) fn stage<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.report(&format!("{name} ..."));
        let begin = Instant::now();
        let result = work();
        let verdict = if result.is_ok() { "done" } else { "failed" };
        self.report(&format!(
            "{name}: {verdict} after {}",
            seconds(begin.elapsed())
        ));
        result
    }
}

impl std::fmt::Debug for Stages<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Stages").finish_non_exhaustive()
    }
}

/// A time as a person reads it.
pub(super) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
