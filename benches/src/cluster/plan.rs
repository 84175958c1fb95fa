//! What is to be measured, and the limits of it.
//!
//! Comes in: the command line. Goes out: a [`Plan`], which is bounded in time and rate whatever was asked
//! for, because it may run in a cluster that others use.

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::results::Offered;

/// What is to be measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// How often each load runs with and without the sidecar.
    pub rounds: u32,
    /// How long each load runs.
    pub seconds: u32,
    /// HTTP requests a second.
    pub http_rates: Vec<u32>,
    /// Payload of the TCP connection, in millions of bits a second; 0 for none.
    pub tcp_mbits: u32,
    /// UDP datagrams a second.
    pub packet_rates: Vec<u32>,
    /// Payload of each.
    pub packet_bytes: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            rounds: 3,
            seconds: 3,
            http_rates: vec![100, 400, 1000],
            tcp_mbits: 200,
            packet_rates: vec![2000, 10_000, 20_000],
            packet_bytes: 128,
        }
    }
}

impl Plan {
    /// Checks the limits.
    ///
    /// # Errors
    /// [`Error::Usage`] that names the option, the value and the limit.
    pub fn check(self) -> Result<Self> {
        let limits = [
            ("--rounds", self.rounds, 1, 20),
            ("--seconds", self.seconds, 1, 60),
            ("--tcp-mbits", self.tcp_mbits, 0, 10_000),
            ("--packet-bytes", self.packet_bytes, 16, 1400),
        ];
        let http = self
            .http_rates
            .iter()
            .map(|&rate| ("--http-rates", rate, 1, 20_000));
        let packets = self
            .packet_rates
            .iter()
            .map(|&rate| ("--packet-rates", rate, 10, 500_000));
        for (option, value, least, most) in limits.into_iter().chain(http).chain(packets) {
            if !(least..=most).contains(&value) {
                return Err(Error::Usage(format!(
                    "{option} {value}: it must be between {least} and {most}"
                )));
            }
        }
        match self.cases().len() {
            0 => Err(Error::Usage("there is nothing to measure".to_owned())),
            1..=12 => Ok(self),
            many => Err(Error::Usage(format!(
                "{many} loads: at most 12, because each has a pod and a sensor; give fewer rates"
            ))),
        }
    }

    /// The loads, in their order.
    #[must_use]
    pub fn cases(&self) -> Vec<Offered> {
        let http = self
            .http_rates
            .iter()
            .map(|&per_second| Offered::Http { per_second });
        let bulk = (self.tcp_mbits > 0).then(|| Offered::Bulk {
            bits_per_second: u64::from(self.tcp_mbits) * 1_000_000,
        });
        let packets = self
            .packet_rates
            .iter()
            .map(|&per_second| Offered::Packets {
                per_second,
                bytes: self.packet_bytes,
            });
        http.chain(bulk).chain(packets).collect()
    }

    /// After this time a pod of the bench ends whatever happens, in seconds. `rounds` is how many of them it
    /// serves.
    pub(super) fn deadline(&self, rounds: u32) -> u32 {
        let cases = u32::try_from(self.cases().len()).unwrap_or(u32::MAX);
        // A load, the pod's end and the sensor's last line, generously; then the start of all pods.
        (cases * 2 * (self.seconds + 30) + 240).saturating_mul(rounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_within_the_limits() {
        let plan = Plan::default().check().unwrap();
        assert_eq!(plan.cases().len(), 7);
    }

    #[test]
    fn a_load_above_a_limit_is_refused_with_its_name() {
        for (plan, text) in [
            (
                Plan {
                    seconds: 3600,
                    ..Plan::default()
                },
                "--seconds 3600: it must be between 1 and 60",
            ),
            (
                Plan {
                    packet_rates: vec![1, 2000],
                    ..Plan::default()
                },
                "--packet-rates 1: it must be between 10 and 500000",
            ),
            (
                Plan {
                    http_rates: (1..=20).collect(),
                    ..Plan::default()
                },
                "24 loads: at most 12",
            ),
            (
                Plan {
                    http_rates: vec![],
                    packet_rates: vec![],
                    tcp_mbits: 0,
                    ..Plan::default()
                },
                "nothing to measure",
            ),
        ] {
            let error = plan.check().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
