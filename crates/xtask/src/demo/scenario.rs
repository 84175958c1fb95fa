//! What differs between the plain demo and `--kubernetes`: the sensors, podspan's settings, and what
//! happens to the sensors while traffic runs.
//!
//! In the plain demo there is one sensor, podspan gets its address, and nothing happens to it. What
//! happens to the sensors of `--kubernetes` is an [`Events`]; the demo calls it ten times a second.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use testbed::{Host, Lab};

use super::sensors::{Arrivals, SensorHost};
use super::{Options, PORT, VNI};
use crate::failure::Result;

/// What happens to the sensors while traffic runs.
pub(super) trait Events {
    /// Does what is due. Returns the lines to print: what was done, and what podspan logged about
    /// it. `log` is all that podspan has logged so far.
    fn advance(&mut self, elapsed: Duration, log: &str) -> Result<Vec<String>>;

    /// Names and values for the display.
    fn rows(&self, arrivals: &[Arrivals], log: &str) -> Vec<(String, String)>;

    /// The result at the end.
    fn summary(&self, arrivals: &[Arrivals]) -> Summary;
}

/// What happened to the sensors.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) lines: Vec<String>,
    /// The first thing that is wrong.
    pub(super) verdict: Result<()>,
}

/// All that differs between the plain demo and `--kubernetes`.
pub(super) struct Scenario {
    /// Printed before podspan starts.
    pub(super) introduction: String,
    pub(super) sensors: Vec<SensorHost>,
    /// podspan's environment.
    pub(super) settings: Vec<(&'static str, String)>,
    /// The display's name for the frames that the sensors decoded.
    pub(super) decoded_label: &'static str,
    events: Option<Box<dyn Events>>,
}

impl Scenario {
    /// One sensor, to which nothing happens.
    pub(super) fn plain(lab: &Lab, options: &Options) -> Self {
        let sensor = sensor_host(&lab.sensor, options);
        let address = sensor.address;
        Self {
            introduction: format!(
                "client {}, pod {}, sensor {}: each in its own network namespace, on one bridge\n\
                 podspan runs in the pod with SENSOR={address}",
                lab.client.ipv4, lab.pod.ipv4, lab.sensor.ipv4
            ),
            sensors: vec![sensor],
            settings: vec![("SENSOR", address.to_string()), ("VNI", VNI.to_string())],
            decoded_label: "decoded at the sensor",
            events: None,
        }
    }

    #[cfg(feature = "kubernetes")]
    pub(super) fn with_events(
        introduction: String,
        sensors: Vec<SensorHost>,
        settings: Vec<(&'static str, String)>,
        events: impl Events + 'static,
    ) -> Self {
        Self {
            introduction,
            sensors,
            settings,
            decoded_label: "decoded at the sensors",
            events: Some(Box::new(events)),
        }
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.sensors.iter().map(|sensor| sensor.address).collect()
    }

    /// As [`Events::advance`].
    pub(super) fn advance(&mut self, elapsed: Duration, log: &str) -> Result<Vec<String>> {
        match &mut self.events {
            Some(events) => events.advance(elapsed, log),
            None => Ok(Vec::new()),
        }
    }

    /// As [`Events::rows`].
    pub(super) fn rows(&self, arrivals: &[Arrivals], log: &str) -> Vec<(String, String)> {
        let rows = self
            .events
            .as_ref()
            .map(|events| events.rows(arrivals, log));
        rows.unwrap_or_default()
    }

    /// As [`Events::summary`].
    pub(super) fn summary(&self, arrivals: &[Arrivals]) -> Option<Summary> {
        self.events.as_ref().map(|events| events.summary(arrivals))
    }
}

/// A host of the lab as a sensor, with its address in the underlay's family.
pub(super) fn sensor_host(host: &Host, options: &Options) -> SensorHost {
    let address: IpAddr = if options.ipv6_underlay {
        host.ipv6.into()
    } else {
        host.ipv4.into()
    };
    SensorHost {
        host: host.clone(),
        address: (address, PORT).into(),
    }
}
