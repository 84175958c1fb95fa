//! Who plays: the sensors, how podspan is told of them, and what happens to them meanwhile.
//!
//! In the plain demo there is one sensor, podspan is given its address, and nothing happens to it.
//! What may happen is a [`Play`]; it is asked ten times a second what is due.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use testbed::{Host, Lab};

use super::sensors::{Sensor, Tally};
use super::{Options, PORT, VNI};
use crate::failure::Result;

/// What happens to the sensors while traffic crosses.
pub(super) trait Play {
    /// Does what is due, and returns what is to be told: what was done, and what podspan says to
    /// it. `log` is all that podspan has logged until now.
    fn advance(&mut self, elapsed: Duration, log: &str) -> Result<Vec<String>>;

    /// Names and values for the display.
    fn rows(&self, tallies: &[Tally], log: &str) -> Vec<(String, String)>;

    /// What came of it.
    fn ending(&self, tallies: &[Tally]) -> Ending;
}

/// What became of the sensors.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) lines: Vec<String>,
    /// The first thing that is not as it should be.
    pub(super) verdict: Result<()>,
}

/// Everything that differs between the plain demo and others.
pub(super) struct Stage {
    /// Said before podspan starts.
    pub(super) introduction: String,
    pub(super) sensors: Vec<Sensor>,
    /// podspan's environment.
    pub(super) settings: Vec<(&'static str, String)>,
    /// What the frames that arrived are called.
    pub(super) decoded: &'static str,
    play: Option<Box<dyn Play>>,
}

impl Stage {
    /// One sensor, to which nothing happens.
    pub(super) fn plain(lab: &Lab, options: &Options) -> Self {
        let sensor = sensor(&lab.sensor, options);
        let address = sensor.address;
        Self {
            introduction: format!(
                "client {}, pod {}, sensor {}: each in its own network namespace, on one bridge\n\
                 podspan runs in the pod with SENSOR={address}",
                lab.client.ipv4, lab.pod.ipv4, lab.sensor.ipv4
            ),
            sensors: vec![sensor],
            settings: vec![("SENSOR", address.to_string()), ("VNI", VNI.to_string())],
            decoded: "decoded at the sensor",
            play: None,
        }
    }

    #[cfg(feature = "kubernetes")]
    pub(super) fn with_play(
        introduction: String,
        sensors: Vec<Sensor>,
        settings: Vec<(&'static str, String)>,
        play: impl Play + 'static,
    ) -> Self {
        Self {
            introduction,
            sensors,
            settings,
            decoded: "decoded at the sensors",
            play: Some(Box::new(play)),
        }
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.sensors.iter().map(|sensor| sensor.address).collect()
    }

    /// As [`Play::advance`].
    pub(super) fn advance(&mut self, elapsed: Duration, log: &str) -> Result<Vec<String>> {
        match &mut self.play {
            Some(play) => play.advance(elapsed, log),
            None => Ok(Vec::new()),
        }
    }

    /// As [`Play::rows`].
    pub(super) fn rows(&self, tallies: &[Tally], log: &str) -> Vec<(String, String)> {
        let rows = self.play.as_ref().map(|play| play.rows(tallies, log));
        rows.unwrap_or_default()
    }

    /// As [`Play::ending`].
    pub(super) fn ending(&self, tallies: &[Tally]) -> Option<Ending> {
        self.play.as_ref().map(|play| play.ending(tallies))
    }
}

/// A host of the lab as a sensor, over the underlay that was asked for.
pub(super) fn sensor(host: &Host, options: &Options) -> Sensor {
    let address: IpAddr = if options.ipv6_underlay {
        host.ipv6.into()
    } else {
        host.ipv4.into()
    };
    Sensor {
        host: host.clone(),
        address: (address, PORT).into(),
    }
}
