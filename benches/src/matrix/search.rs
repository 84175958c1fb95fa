//! Finds the highest load without loss on a ladder of loads.
//!
//! Each rung is a certain factor above the one below. The search starts near the answer that is expected
//! and goes up or down in growing steps until one rung without and one with loss are known, and then halves
//! what is between them. Pure: the caller measures what [`Search::next`] names.

/// The factor between neighbouring rungs: the resolution of the result.
const FACTOR: f64 = 1.06;

/// A search on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    start: i32,
    lowest: i32,
    highest: i32,
    step: i32,
    /// The highest rung without loss.
    good: Option<i32>,
    /// The lowest rung with loss.
    bad: Option<i32>,
}

impl Search {
    /// A search from a rate that is expected, between the lowest and the highest that are possible.
    #[must_use]
    pub fn new(expected: f64, lowest: f64, highest: f64) -> Self {
        let (lowest, highest) = (rung(lowest), rung(highest));
        Self {
            start: rung(expected).clamp(lowest, highest),
            lowest,
            highest,
            step: 2,
            good: None,
            bad: None,
        }
    }

    /// The rate to measure next; `None` when the result is known.
    #[must_use]
    pub fn next(&self) -> Option<f64> {
        let next = match (self.good, self.bad) {
            (None, None) => self.start,
            (Some(good), None) => (good + self.step).min(self.highest),
            (None, Some(bad)) => (bad - self.step).max(self.lowest),
            (Some(good), Some(bad)) => i32::midpoint(good, bad),
        };
        let is_known = self.good == Some(next) || self.bad == Some(next);
        (!is_known).then(|| rate(next))
    }

    /// The result of the rate that [`Search::next`] named.
    pub fn report(&mut self, without_loss: bool) {
        let Some(measured) = self.next().map(rung) else {
            return;
        };
        if (self.good, self.bad) != (None, None) {
            self.step *= 2;
        }
        if without_loss {
            self.good = Some(measured);
        } else {
            self.bad = Some(measured);
        }
    }

    /// The highest rate without loss so far.
    #[must_use]
    pub fn result(&self) -> Option<f64> {
        self.good.map(rate)
    }

    /// Whether the highest possible rate had no loss, so that the limit is not known.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.good == Some(self.highest)
    }
}

fn rate(rung: i32) -> f64 {
    FACTOR.powi(rung)
}

#[expect(clippy::cast_possible_truncation, reason = "the number of a rung")]
fn rung(rate: f64) -> i32 {
    (rate.max(1.0).ln() / FACTOR.ln()).round() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(expected: f64, limit: f64) -> (Search, usize) {
        let mut search = Search::new(expected, 1000.0, 400_000.0);
        let mut steps = 0;
        while let Some(rate) = search.next() {
            search.report(rate <= limit);
            steps += 1;
        }
        (search, steps)
    }

    #[test]
    fn the_highest_rung_below_the_limit_is_found() {
        for expected in [1000.0, 48_000.0, 400_000.0] {
            for limit in [1500.0, 44_000.0, 52_000.0, 300_000.0] {
                let (search, steps) = find(expected, limit);
                let found = search.result().unwrap();
                assert!(found <= limit && found * FACTOR > limit, "{found} {limit}");
                assert!(steps <= 14, "{steps}");
                assert!(!search.is_at_end());
            }
        }
    }

    #[test]
    fn a_good_guess_takes_few_steps() {
        assert!(find(50_000.0, 48_000.0).1 <= 4);
    }

    #[test]
    fn the_ends_of_the_ladder_are_the_last() {
        let (search, _) = find(50_000.0, 1e9);
        assert!(search.is_at_end());
        let (search, _) = find(50_000.0, 1.0);
        assert_eq!(search.result(), None);
    }
}
