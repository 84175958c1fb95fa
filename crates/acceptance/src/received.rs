//! What the example's sensors (`podspan-sensor capture`) have counted, from their logs.
//!
//! A line a second has the numbers of that second; a last line `total ...` sums them up and is left out.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::objects::get;
use crate::scenario::{Scenario, text};

/// The numbers of one or more sensors.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Received {
    /// Copies.
    pub frames: u64,
    /// Copies with a wrong checksum.
    pub bad_checksums: u64,
    /// Copies that the sensor's own ring had no room for.
    pub lost: u64,
    /// Everything that was not readable as a copy: other numbers of the lines, by name.
    pub faults: BTreeMap<String, u64>,
}

impl Received {
    /// Reads a log.
    #[must_use]
    pub fn read(log: &str) -> Self {
        let mut received = Self::default();
        for line in log.lines().filter(|line| line.starts_with("frames=")) {
            for (name, value) in line
                .split_whitespace()
                .filter_map(|word| word.split_once('='))
            {
                let Ok(value) = value.parse::<u64>() else {
                    continue;
                };
                match name {
                    "frames" => received.frames += value,
                    "bad_checksums" => received.bad_checksums += value,
                    "lost" => received.lost += value,
                    "bytes" => {}
                    other => *received.faults.entry(other.to_owned()).or_default() += value,
                }
            }
        }
        received
    }

    /// Adds another sensor's.
    pub fn add(&mut self, other: &Self) {
        self.frames += other.frames;
        self.bad_checksums += other.bad_checksums;
        self.lost += other.lost;
        for (name, value) in &other.faults {
            *self.faults.entry(name.clone()).or_default() += value;
        }
    }

    /// Reads the logs of all containers `sensor` of the scenario, by pod.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn of_each(scenario: &Scenario<'_>) -> Result<BTreeMap<String, Self>> {
        let mut each = BTreeMap::new();
        let pods = get(scenario.cluster(), &["-n", scenario.namespace(), "pods"])?;
        for pod in pods["items"].as_array().into_iter().flatten() {
            let has_sensor = pod["spec"]["containers"]
                .as_array()
                .is_some_and(|list| list.iter().any(|container| container["name"] == "sensor"));
            if has_sensor {
                let name = text(&pod["metadata"]["name"]);
                let log = scenario.logs(&name, "sensor")?;
                each.insert(name, Self::read(&log));
            }
        }
        Ok(each)
    }

    /// As [`Self::of_each`], summed up.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn of_all(scenario: &Scenario<'_>) -> Result<Self> {
        let mut sum = Self::default();
        for received in Self::of_each(scenario)?.values() {
            sum.add(received);
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_summed_up_without_the_total() {
        let log = "frames=2 bytes=200 vnis=1:2 senders=10.0.0.1:2 bad_checksums=0 lost=0\n\
                   frames=3 bytes=50 bad_checksums=1 lost=0 unsplit=4\n\
                   total frames=5 bytes=250 bad_checksums=1 lost=0 unsplit=4\n";
        let received = Received::read(log);
        assert_eq!(
            (received.frames, received.bad_checksums, received.lost),
            (5, 1, 0)
        );
        assert_eq!(
            received.faults.into_iter().collect::<Vec<_>>(),
            [("unsplit".to_owned(), 4)]
        );
    }
}
