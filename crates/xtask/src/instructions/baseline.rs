//! The counts of the repository, and what is compared with them.
//!
//! In: the text of a baseline and new counts. Out: for each measure both counts, or why they cannot be
//! compared. No I/O.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// From this many percent more on, a check fails. The counts of one build are equal from run to run.
pub(super) const LIMIT_PERCENT: u64 = 3;

/// Counts, and all that they depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Baseline {
    /// The target that the program was built for.
    pub(super) target: String,
    /// The compiler with its version.
    pub(super) compiler: String,
    /// The digest of the recorded frames.
    pub(super) frames: String,
    /// Instructions of each measure.
    pub(super) counts: BTreeMap<String, u64>,
}

/// Why new counts cannot be compared with a baseline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Difference {
    #[error(
        "the baseline was made with {baseline}, and {now} is in use: their counts cannot be compared"
    )]
    Compiler { baseline: String, now: String },
    #[error("the baseline is for {baseline}, not for {now}")]
    Target { baseline: String, now: String },
    #[error("the recorded frames have changed since the baseline was made")]
    Frames,
    #[error("the measures have changed since the baseline was made: {names} are not in both")]
    Measures { names: String },
}

/// One measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) name: String,
    /// In the baseline.
    pub(super) before: u64,
    pub(super) now: u64,
}

impl Baseline {
    pub(super) fn without_counts(target: String, compiler: String, frames: String) -> Self {
        Self {
            target,
            compiler,
            frames,
            counts: BTreeMap::new(),
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Whether counts that are made with `now`'s target, compiler and frames can be compared with these.
    pub(super) fn is_comparable(&self, now: &Self) -> Result<(), Difference> {
        let pair = |of: fn(&Self) -> &String| (of(self).clone(), of(now).clone());
        if self.target != now.target {
            let (baseline, now) = pair(|of| &of.target);
            return Err(Difference::Target { baseline, now });
        }
        if self.compiler != now.compiler {
            let (baseline, now) = pair(|of| &of.compiler);
            return Err(Difference::Compiler { baseline, now });
        }
        if self.frames != now.frames {
            return Err(Difference::Frames);
        }
        Ok(())
    }

    /// Compares each measure.
    pub(super) fn compare(&self, now: &BTreeMap<String, u64>) -> Result<Vec<Compared>, Difference> {
        let names = |of: &BTreeMap<String, u64>, others: &BTreeMap<String, u64>| {
            let alone = of.keys().filter(|name| !others.contains_key(*name));
            alone.cloned().collect::<Vec<_>>()
        };
        let mut alone = names(&self.counts, now);
        alone.extend(names(now, &self.counts));
        if !alone.is_empty() {
            let names = alone.join(", ");
            return Err(Difference::Measures { names });
        }
        let pairs = self.counts.iter().zip(now.values());
        Ok(pairs
            .map(|((name, before), now)| Compared {
                name: name.clone(),
                before: *before,
                now: *now,
            })
            .collect())
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string_pretty(self).map_err(|_| fmt::Error)?;
        writeln!(formatter, "{text}")
    }
}

impl Compared {
    pub(super) fn is_too_many(&self) -> bool {
        self.now > self.before && self.now * 100 >= self.before * (100 + LIMIT_PERCENT)
    }

    pub(super) fn is_far_fewer(&self) -> bool {
        self.now < self.before && self.now * 100 <= self.before * (100 - LIMIT_PERCENT)
    }

    /// In percent, with a sign.
    pub(super) fn change(&self) -> String {
        let hundredths = |more: u64| more * 10_000 / self.before.max(1);
        let shown = |sign, more| {
            let hundredths = hundredths(more);
            format!("{sign}{}.{:02} %", hundredths / 100, hundredths % 100)
        };
        if self.now < self.before {
            shown('-', self.before - self.now)
        } else {
            shown('+', self.now - self.before)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(counts: &[(&str, u64)]) -> Baseline {
        let counts = counts
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count));
        Baseline {
            counts: counts.collect(),
            ..Baseline::without_counts("t".to_owned(), "c".to_owned(), "f".to_owned())
        }
    }

    #[test]
    fn three_percent_more_is_too_many() {
        for (before, now, too_many, far_fewer, change) in [
            (100, 100, false, false, "+0.00 %"),
            (10_000, 10_299, false, false, "+2.99 %"),
            (10_000, 10_300, true, false, "+3.00 %"),
            (10_000, 20_000, true, false, "+100.00 %"),
            (10_000, 9_701, false, false, "-2.99 %"),
            (10_000, 9_700, false, true, "-3.00 %"),
            (33, 34, true, false, "+3.03 %"),
            (34, 35, false, false, "+2.94 %"),
            (0, 1, true, false, "+100.00 %"),
            (0, 0, false, false, "+0.00 %"),
        ] {
            let compared = baseline(&[("a", before)]).compare(&baseline(&[("a", now)]).counts);
            let [row] = compared.unwrap().try_into().unwrap();
            let found = (row.is_too_many(), row.is_far_fewer(), row.change());
            assert_eq!(
                found,
                (too_many, far_fewer, change.to_owned()),
                "{before} {now}"
            );
        }
    }

    #[test]
    fn each_measure_is_compared_with_its_own_count() {
        let compared =
            baseline(&[("b", 2), ("a", 1)]).compare(&baseline(&[("a", 3), ("b", 4)]).counts);
        let rows = compared.unwrap();
        let rows: Vec<_> = rows
            .iter()
            .map(|row| (row.name.as_str(), row.before, row.now))
            .collect();
        assert_eq!(rows, [("a", 1, 3), ("b", 2, 4)]);
    }

    #[test]
    fn a_measure_that_is_only_on_one_side_is_an_error() {
        let (one, two) = (baseline(&[("a", 1)]), baseline(&[("a", 1), ("b", 1)]));
        for error in [one.compare(&two.counts), two.compare(&one.counts)] {
            assert!(
                error
                    .unwrap_err()
                    .to_string()
                    .contains(": b are not in both")
            );
        }
    }

    #[test]
    fn other_conditions_are_not_compared() {
        let same = baseline(&[("a", 1)]);
        assert_eq!(same.is_comparable(&same.clone()), Ok(()));
        let changed = |change: fn(&mut Baseline)| {
            let mut other = same.clone();
            change(&mut other);
            same.is_comparable(&other).unwrap_err().to_string()
        };
        assert_eq!(
            changed(|other| "rustc 2".clone_into(&mut other.compiler)),
            "the baseline was made with c, and rustc 2 is in use: their counts cannot be compared"
        );
        assert_eq!(
            changed(|other| "arm".clone_into(&mut other.target)),
            "the baseline is for t, not for arm"
        );
        assert!(changed(|other| other.frames.clear()).contains("frames have changed"));
    }

    #[test]
    fn a_baseline_is_read_as_it_was_written() {
        let written = baseline(&[("a", 1), ("b", u64::MAX)]);
        assert_eq!(Baseline::parse(&written.to_string()).unwrap(), written);
        assert!(written.to_string().ends_with("}\n"));
        Baseline::parse("{}").unwrap_err();
    }
}
