//! The line of totals that podspan logs at its end, checked against the equations of its accounting.

use std::collections::BTreeMap;

/// The numbers of podspan's last line.
#[derive(Debug)]
pub(crate) struct Totals {
    numbers: BTreeMap<String, u64>,
    /// Frames dropped, by reason.
    pub(crate) frames_dropped: BTreeMap<String, u64>,
}

impl Totals {
    pub(crate) fn get(&self, name: &str) -> u64 {
        *self
            .numbers
            .get(name)
            .unwrap_or_else(|| panic!("{name} in {self:?}"))
    }

    /// Reads the last line of totals in a log.
    pub(crate) fn read(log: &str) -> Self {
        let line = log.lines().rev().find(|line| line.contains(" totals "));
        let line = line.unwrap_or_else(|| panic!("a line of totals in:\n{log}"));
        let pairs = || {
            line.split_whitespace()
                .filter_map(|word| word.split_once('='))
        };
        let numbers: BTreeMap<String, u64> = pairs()
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect();
        let frames_dropped = pairs()
            .filter(|(name, value)| *name == "frames_dropped_by" && *value != "none")
            .flat_map(|(_, value)| value.split(','))
            .map(|pair| pair.split_once(':').expect("reason:count"))
            .map(|(reason, count)| (reason.to_owned(), count.parse().expect("a count")))
            .collect();
        let totals = Self {
            numbers,
            frames_dropped,
        };
        totals.check();
        totals
    }

    /// Asserts the equations of the accounting, exactly.
    fn check(&self) {
        let get = |name| self.get(name);
        assert_eq!(
            get("ring_packets"),
            get("frames_seen") + get("ring_drops"),
            "{self:?}"
        );
        assert_eq!(
            get("frames_seen"),
            get("frames_mirrored") + get("frames_dropped"),
            "{self:?}"
        );
        assert_eq!(
            get("frames_dropped"),
            self.frames_dropped.values().sum::<u64>(),
            "{self:?}"
        );
        assert_eq!(
            get("datagrams_built"),
            get("datagrams_sent") + get("datagrams_dropped"),
            "{self:?}"
        );
    }

    /// Asserts that nothing was dropped, except for `own_error` and these reasons.
    pub(crate) fn assert_lossless_but(&self, reasons: &[&str]) {
        let allowed = |reason: &str| reason == "own_error" || reasons.contains(&reason);
        let others = self.frames_dropped.keys().find(|reason| !allowed(reason));
        assert_eq!((self.get("ring_drops"), others), (0, None), "{self:?}");
        assert!(self.get("frames_mirrored") > 0, "{self:?}");
    }
}
