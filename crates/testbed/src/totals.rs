//! The line of totals that podspan logs at its end, checked against the equations of its accounting.
//!
//! In: a log. Out: the numbers of its last line of totals. Every value that [`Totals::read`] returns holds
//! the equations of `mirror::totals`, exactly.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// The sum of two numbers is the first one.
const EQUATIONS: [(&str, [&str; 2]); 3] = [
    ("ring_packets", ["frames_seen", "ring_drops"]),
    ("frames_seen", ["frames_mirrored", "frames_dropped"]),
    ("datagrams_built", ["datagrams_sent", "datagrams_dropped"]),
];

/// One line of totals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    line: String,
    numbers: BTreeMap<String, u64>,
    dropped: BTreeMap<String, u64>,
}

impl Totals {
    /// Reads the last line of totals in a log, and checks its equations.
    ///
    /// # Errors
    /// When there is no such line, or an equation does not hold.
    pub fn read(log: &str) -> Result<Self> {
        let line = log.lines().rev().find(|line| line.contains(" totals "));
        let line = line.ok_or_else(|| wrong("there is no line of totals in", log))?;
        let pairs: Vec<(&str, &str)> = line
            .split_whitespace()
            .filter_map(|word| word.split_once('='))
            .collect();
        let reasons = pairs
            .iter()
            .filter(|(name, _)| *name == "frames_dropped_by")
            .flat_map(|(_, value)| value.split(','))
            .filter_map(|pair| pair.split_once(':'));
        let totals = Self {
            line: line.to_owned(),
            numbers: numbers(pairs.iter().copied()),
            dropped: numbers(reasons),
        };
        for (sum, [one, other]) in EQUATIONS {
            if totals.get(sum)? != totals.get(one)? + totals.get(other)? {
                return Err(wrong(&format!("{sum} is not {one} + {other} in"), line));
            }
        }
        if totals.get("frames_dropped")? != totals.dropped.values().sum::<u64>() {
            return Err(wrong(
                "frames_dropped is not the sum of its reasons in",
                line,
            ));
        }
        Ok(totals)
    }

    /// One number, by the name that the log gives it.
    ///
    /// # Errors
    /// When the line has no such number.
    pub fn get(&self, name: &str) -> Result<u64> {
        let number = self.numbers.get(name).copied();
        number.ok_or_else(|| wrong(&format!("there is no {name} in"), &self.line))
    }

    /// Frames dropped, by reason.
    #[must_use]
    pub fn frames_dropped(&self) -> &BTreeMap<String, u64> {
        &self.dropped
    }

    /// The line.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }
}

fn numbers<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, u64> {
    pairs
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

fn wrong(what: &str, text: &str) -> Error {
    Error::Program {
        program: "podspan".to_owned(),
        reason: format!("{what}: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "INFO totals ring_packets=5 frames_seen=4 ring_drops=1 frames_mirrored=1 \
                        frames_dropped=3 frames_dropped_by=no_sensor:1,oversize:2 datagrams_built=6 \
                        datagrams_sent=6 datagrams_dropped=0";

    #[test]
    fn the_last_line_is_read() {
        let log = format!("{}\n{LINE}\nend", LINE.replace("ent=6", "ent=7"));
        let totals = Totals::read(&log).unwrap();
        assert_eq!(totals.get("datagrams_sent").unwrap(), 6);
        assert_eq!(totals.frames_dropped()["oversize"], 2);
        let error = totals.get("frames").unwrap_err().to_string();
        assert!(error.contains("there is no frames in"), "{error}");
    }

    #[test]
    fn an_equation_that_does_not_hold_is_an_error() {
        for (before, after, text) in [
            (
                "ops=1",
                "ops=2",
                "ring_packets is not frames_seen + ring_drops",
            ),
            (
                "red=1",
                "red=2",
                "frames_seen is not frames_mirrored + frames_dropped",
            ),
            (
                "ent=6",
                "ent=7",
                "datagrams_built is not datagrams_sent + datagrams_dropped",
            ),
            (
                "size:2",
                "size:1",
                "frames_dropped is not the sum of its reasons",
            ),
        ] {
            let error = Totals::read(&LINE.replace(before, after)).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn a_log_without_totals_is_an_error_with_the_log() {
        let error = Totals::read("it ended early").unwrap_err().to_string();
        assert!(error.contains("it ended early"), "{error}");
    }
}
