//! The numbers in podspan's line of totals, held to the equations of its accounting.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// One line of totals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    numbers: BTreeMap<String, u64>,
    line: String,
}

impl Totals {
    /// Reads the last line of totals in a log, and checks its equations.
    ///
    /// # Errors
    /// When there is no such line, or an equation does not hold.
    pub fn read(log: &str) -> Result<Self> {
        let line = log
            .lines()
            .rev()
            .find(|line| line.contains(" totals "))
            .ok_or_else(|| Error::unexpected("podspan's log without totals", log))?;
        let numbers = line
            .split_whitespace()
            .filter_map(|word| word.split_once('='))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect();
        let totals = Self {
            numbers,
            line: line.to_owned(),
        };
        let equations = [
            ("ring_packets", ["frames_seen", "ring_drops"]),
            ("frames_seen", ["frames_mirrored", "frames_dropped"]),
            ("datagrams_built", ["datagrams_sent", "datagrams_dropped"]),
        ];
        for (sum, [one, other]) in equations {
            if totals.get(sum)? != totals.get(one)? + totals.get(other)? {
                let what = format!("{sum} = {one} + {other}");
                return Err(Error::unexpected(what, line));
            }
        }
        Ok(totals)
    }

    /// One number, by the name that the log gives it.
    ///
    /// # Errors
    /// When the line has no such number.
    pub fn get(&self, name: &str) -> Result<u64> {
        let number = self.numbers.get(name).copied();
        number.ok_or_else(|| Error::unexpected(format!("totals without {name}"), &self.line))
    }

    /// The line.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "INFO totals ring_packets=5 frames_seen=4 ring_drops=1 frames_mirrored=4 \
                        frames_dropped=0 frames_dropped_by=none datagrams_built=6 datagrams_sent=6 \
                        datagrams_dropped=0";

    #[test]
    fn the_last_line_is_read() {
        let log = format!("start\n{LINE}\nend");
        assert_eq!(
            Totals::read(&log).unwrap().get("datagrams_sent").unwrap(),
            6
        );
    }

    #[test]
    fn an_equation_that_does_not_hold_is_an_error() {
        let log = LINE.replace("ring_drops=1", "ring_drops=2");
        let error = Totals::read(&log).unwrap_err().to_string();
        assert!(
            error.contains("ring_packets = frames_seen + ring_drops"),
            "{error}"
        );
    }
}
