//! The totals that podspan logs at its end, read by [`testbed::Totals`]. Whatever is wrong with them fails the
//! test.

use std::collections::BTreeMap;

#[derive(Debug)]
pub(crate) struct Totals {
    numbers: testbed::Totals,
    /// Frames dropped, by reason.
    pub(crate) frames_dropped: BTreeMap<String, u64>,
}

impl Totals {
    /// Reads the last line of totals in a log, and asserts the equations of the accounting.
    pub(crate) fn read(log: &str) -> Self {
        let numbers = testbed::Totals::read(log).unwrap_or_else(|error| panic!("{error}"));
        let frames_dropped = numbers.frames_dropped().clone();
        Self {
            numbers,
            frames_dropped,
        }
    }

    pub(crate) fn get(&self, name: &str) -> u64 {
        let number = self.numbers.get(name);
        number.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Asserts that nothing was dropped, except for `own_error` and these reasons.
    pub(crate) fn assert_lossless_but(&self, reasons: &[&str]) {
        assert_eq!(self.get("ring_drops"), 0, "{self:?}");
        self.assert_lossless_but_ring_and(reasons);
    }

    /// The same, and the ring may have been full.
    pub(crate) fn assert_lossless_but_ring_and(&self, reasons: &[&str]) {
        let allowed = |reason: &str| reason == "own_error" || reasons.contains(&reason);
        let others = self.frames_dropped.keys().find(|reason| !allowed(reason));
        assert_eq!(others, None, "{self:?}");
        assert!(self.get("frames_mirrored") > 0, "{self:?}");
    }
}
