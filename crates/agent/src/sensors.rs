//! The sensors that are known, and the table of those that are fed.
//!
//! In: the list of sensors, from the configuration or later from discovery; what the worker's sending
//! learned of them; the kernel's routing. Out: a [`SensorTable`] for the worker, made anew when who
//! is fed changes, with each path's MTU.
//!
//! A path's MTU comes from the kernel, which knows the interface's, the route's, and what ICMP has
//! said since; asking costs a socket and no datagram. A path that leads nowhere now may lead
//! somewhere later, so it counts as Ethernet's until then.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use discovery::Receiver;
use mirror::{Sensor, SensorTable};
use transmit::{Prober, Report};
use wire::Mtu;

use crate::suspects::{Accusation, Suspects};

/// A sensor that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) address: SocketAddr,
    pub(crate) receiver: Receiver,
}

/// All sensors, and what is thought of them.
pub(crate) struct Sensors {
    known: Vec<Known>,
    suspects: Suspects,
    prober: Prober,
    table: Arc<ArcSwap<SensorTable>>,
    /// Upper bound for path MTUs.
    mtu: Option<Mtu>,
}

impl Sensors {
    /// No sensor yet. The prober must have been opened before the capabilities were dropped.
    pub(crate) fn new(prober: Prober, mtu: Option<Mtu>) -> Self {
        let table = Arc::new(ArcSwap::from_pointee(SensorTable::default()));
        Self {
            known: Vec::new(),
            suspects: Suspects::default(),
            prober,
            table,
            mtu,
        }
    }

    /// Where the worker finds the table.
    pub(crate) fn table(&self) -> &Arc<ArcSwap<SensorTable>> {
        &self.table
    }

    /// Takes the list of all sensors, each address once.
    pub(crate) fn know(&mut self, known: Vec<Known>) {
        self.suspects
            .retain(|address| known.iter().any(|sensor| sensor.address == *address));
        self.known = known;
        self.feed();
    }

    /// Takes what the worker's sending has learned.
    pub(crate) fn take(&mut self, report: &Report, now: Instant) {
        let mut is_new = false;
        for news in &report.sensors {
            let known = self.known.iter().find(|known| known.address == news.sensor);
            let Some(Known { address, receiver }) = known.copied() else {
                continue;
            };
            let accusation = match receiver {
                _ if news.unreachable > 0 => Accusation::Unreachable,
                // Where a sensor sniffs, that nobody listens on the port is how it is.
                Receiver::Socket if news.port_unreachable > 0 => Accusation::Refused,
                _ => continue,
            };
            if self.suspects.accuse(address, accusation, now) {
                tracing::warn!(%address, "a sensor is unreachable; the others take its flows");
                is_new = true;
            }
        }
        if is_new {
            self.feed();
        }
    }

    /// Looks after suspects and paths. To be called about once a second.
    pub(crate) fn look(&mut self, now: Instant) {
        let mut back = self.suspects.let_go(now);
        let mut answers = self.prober.answers();
        let hosts: Vec<_> = self.suspects.hosts().collect();
        for host in hosts {
            answers.extend(self.prober.ask(host).map(|answer| (host, answer)));
        }
        for (host, answer) in answers {
            back.extend(self.suspects.hear(host, answer, now));
        }
        for address in &back {
            tracing::info!(%address, "a sensor takes its flows back");
        }
        if !back.is_empty() {
            self.feed();
        }
        self.refresh_paths();
    }

    /// Gives the worker a table of the sensors that are to be fed, unless it has it. The kernel is
    /// asked only for paths to new ones.
    fn feed(&self) {
        let before = self.table.load();
        let mut learned: HashMap<_, _> = before
            .sensors()
            .iter()
            .map(|sensor| (sensor.address(), sensor.path_mtu()))
            .collect();
        let were = learned.len();
        let sensor = |known: &Known| {
            let address = known.address;
            let path_mtu = learned.remove(&address);
            Sensor::new(address, path_mtu.unwrap_or_else(|| self.path_mtu(address)))
        };
        let fed = self.suspects.fed(&self.known, |known| known.address);
        let sensors: Vec<_> = fed.iter().map(sensor).collect();
        if sensors.len() != were || !learned.is_empty() {
            self.table.store(Arc::new(before.followed_by(sensors)));
        }
    }

    fn path_mtu(&self, address: SocketAddr) -> Mtu {
        let unknown = self.mtu.unwrap_or(Mtu::MAX).min(Mtu::ETHERNET);
        transmit::path_mtu(address, self.mtu).unwrap_or(unknown)
    }

    fn refresh_paths(&self) {
        for sensor in self.table.load().sensors() {
            let (address, before) = (sensor.address(), sensor.path_mtu());
            let Ok(path_mtu) = transmit::path_mtu(address, self.mtu) else {
                continue;
            };
            // The worker may have learned better since.
            if path_mtu != before && sensor.replace_path_mtu(before, path_mtu) {
                tracing::info!(%address, %path_mtu, "the path to a sensor takes other packets now");
            }
        }
    }
}
