//! The sensors that are known, and the table of those in use.
//!
//! In: the list of sensors, from the configuration or from discovery; what the worker's sending
//! learned of them; answers to probes; the kernel's routing. Out: a [`SensorTable`] for the worker,
//! made anew when the sensors in use change, with each path's MTU; and the log of these changes.
//!
//! Ejection comes first and preference second ([`in_use`]): a sensor of this node is preferred among
//! those that are not ejected, so one that fails leaves its flows to the other nodes'.
//!
//! A path's MTU comes from the kernel, which knows the interface's, the route's, and what ICMP has
//! said since; asking costs a socket and no datagram. A path that leads nowhere now may lead
//! somewhere later, so it counts as Ethernet's until then.

use std::cell::LazyCell;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use discovery::Receiver;
use mirror::{Sensor, SensorTable};
use transmit::{Prober, Report, SensorReport};
use wire::Mtu;

use crate::config::Prefer;
use crate::ejection::{Change, Ejections, Evidence, Failure};
use crate::evidence::{Authentic, of_answer, of_report};
use crate::finding::own_addresses;
use crate::sensor_log::{News, SensorLog};

/// A sensor that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) address: SocketAddr,
    pub(crate) receiver: Receiver,
    /// Whether it runs on this node, as far as that is known.
    pub(crate) on_this_node: bool,
}

/// The sensors in use: of those that are not ejected the ones on this node where they are preferred
/// and there are any, else all of them.
fn in_use(
    known: &[Known],
    prefer: Prefer,
    is_ejected: impl Fn(SocketAddr) -> bool,
) -> Vec<SocketAddr> {
    let healthy = known.iter().filter(|known| !is_ejected(known.address));
    let here = healthy.clone().filter(|known| known.on_this_node);
    let addresses = |known: &Known| known.address;
    let preferred: Vec<_> = match prefer {
        Prefer::Node => here.map(addresses).collect(),
        Prefer::Any => Vec::new(),
    };
    if preferred.is_empty() {
        healthy.map(addresses).collect()
    } else {
        preferred
    }
}

/// All sensors, and their health.
pub(crate) struct Sensors {
    known: Vec<Known>,
    prefer: Prefer,
    ejections: Ejections,
    prober: Prober,
    table: Arc<ArcSwap<SensorTable>>,
    log: SensorLog,
    /// Upper bound for path MTUs.
    mtu: Option<Mtu>,
}

impl Sensors {
    /// The sensors that the configuration gives. The prober must have been opened before the
    /// capabilities were dropped.
    pub(crate) fn new(prober: Prober, mtu: Option<Mtu>, prefer: Prefer, known: Vec<Known>) -> Self {
        let mut sensors = Self {
            known: Vec::new(),
            prefer,
            ejections: Ejections::default(),
            prober,
            table: Arc::new(ArcSwap::from_pointee(SensorTable::default())),
            log: SensorLog::default(),
            mtu,
        };
        sensors.replace(known, Instant::now());
        sensors.refresh_table();
        sensors
    }

    /// Where the worker finds the table.
    pub(crate) fn table(&self) -> &Arc<ArcSwap<SensorTable>> {
        &self.table
    }

    /// Takes the list of all sensors, each address once.
    pub(crate) fn update(&mut self, known: Vec<Known>, now: Instant) {
        self.replace(known, now);
        self.refresh(&News::default(), now);
    }

    /// Takes what the worker's sending has learned.
    pub(crate) fn take(&mut self, report: &Report, now: Instant) {
        let mut news = News::default();
        let own: Own = LazyCell::new(own_addresses);
        for about in &report.sensors {
            let known = self
                .known
                .iter()
                .find(|known| known.address == about.sensor);
            let Some(Known { receiver, .. }) = known.copied() else {
                continue;
            };
            self.log.refusals(about, receiver, now);
            let kernel = Kernel::asked_about(about, &own);
            for evidence in of_report(about, receiver, &kernel) {
                self.judge(about.sensor, evidence, &mut news, now);
            }
        }
        self.refresh(&news, now);
    }

    /// Probes who is not healthy. To be called about once a second.
    pub(crate) fn look(&mut self, now: Instant) {
        let mut news = News::default();
        let own: Own = LazyCell::new(own_addresses);
        for (host, answer) in self.prober.results() {
            let evidence = of_answer(answer, &Kernel::with_route(&own));
            for sensor in self.ejections.of_host(host) {
                self.judge(sensor, evidence, &mut news, now);
            }
        }
        for sensor in self.ejections.probed().collect::<Vec<_>>() {
            if transmit::path_mtu(sensor, None).is_err() {
                let evidence = Evidence::Failed(Failure::Unreachable);
                self.judge(sensor, evidence, &mut news, now);
            }
        }
        news.returned = self.ejections.tick(now);
        let hosts: BTreeSet<_> = self.ejections.probed().map(|sensor| sensor.ip()).collect();
        for host in hosts {
            self.prober.probe(host);
        }
        self.refresh(&news, now);
    }

    fn replace(&mut self, known: Vec<Known>, now: Instant) {
        let addresses = known.iter().map(|known| known.address);
        self.ejections.update(addresses, now);
        self.known = known;
    }

    /// Takes evidence, and begins to probe at once where that is what it takes.
    fn judge(&mut self, sensor: SocketAddr, evidence: Evidence, news: &mut News, now: Instant) {
        match self.ejections.take(sensor, evidence, now) {
            None => {}
            Some(Change::Unhealthy) => {
                tracing::debug!(address = %sensor, ?evidence, "a sensor is unhealthy; it is probed");
                self.prober.probe(sensor.ip());
            }
            Some(Change::Ejected(failure)) => {
                news.ejected.push((sensor, failure));
                self.prober.probe(sensor.ip());
            }
            Some(Change::Kept(failure)) => {
                // Whoever was ejected just now may be in use again: none of that was ever so.
                let ejections = &self.ejections;
                news.ejected
                    .retain(|(sensor, _)| ejections.is_ejected(*sensor));
                news.kept = Some((sensor, failure));
            }
        }
    }

    /// Makes the table anew where that is needed, and logs what has changed.
    fn refresh(&mut self, news: &News, now: Instant) {
        let before = self.table.load_full();
        let is_new = self.refresh_table();
        let addresses = |table: &SensorTable| -> Vec<_> {
            table.sensors().iter().map(Sensor::address).collect()
        };
        let (before, after) = (addresses(&before), addresses(&self.table.load()));
        self.log
            .changes(news, (&before, &after), self.known.len(), now);
        if is_new {
            let is_ejected = |known: &&Known| self.ejections.is_ejected(known.address);
            let ejected = self.known.iter().filter(is_ejected).count();
            SensorLog::in_use(&after, self.known.len(), ejected);
        }
    }

    /// Gives the worker a table of the sensors in use, unless it has it, and says whether it did.
    /// The kernel is asked only for paths to new ones.
    fn refresh_table(&self) -> bool {
        let before = self.table.load();
        let mut learned: HashMap<_, _> = before
            .sensors()
            .iter()
            .map(|sensor| (sensor.address(), sensor.path_mtu()))
            .collect();
        let were = learned.len();
        let sensor = |address: &SocketAddr| {
            let path_mtu = learned.remove(address);
            Sensor::new(
                *address,
                path_mtu.unwrap_or_else(|| self.path_mtu(*address)),
            )
        };
        let is_ejected = |address| self.ejections.is_ejected(address);
        let in_use = in_use(&self.known, self.prefer, is_ejected);
        let sensors: Vec<_> = in_use.iter().map(sensor).collect();
        let is_new = sensors.len() != were || !learned.is_empty();
        if is_new {
            self.table.store(Arc::new(before.followed_by(sensors)));
        }
        is_new
    }

    fn path_mtu(&self, address: SocketAddr) -> Mtu {
        let unknown = self.mtu.unwrap_or(Mtu::MAX).min(Mtu::ETHERNET);
        transmit::path_mtu(address, self.mtu).unwrap_or(unknown)
    }

    /// Learns the MTU of each path anew. To be called when routes or links have changed, and now and then.
    pub(crate) fn refresh_paths(&self) {
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

/// This machine's own addresses, asked of the kernel only where that matters.
type Own = LazyCell<Vec<IpAddr>>;

/// What this machine's kernel confirms.
struct Kernel<'a> {
    own: &'a Own,
    /// Whether it has no way to the sensor, asked just now: an error of sending may have been an
    /// ICMP message's.
    no_route: bool,
}

impl<'a> Kernel<'a> {
    const fn with_route(own: &'a Own) -> Self {
        let no_route = false;
        Self { own, no_route }
    }

    fn asked_about(news: &SensorReport, own: &'a Own) -> Self {
        let no_route = news.unreachable > 0 && transmit::path_mtu(news.sensor, None).is_err();
        Self { own, no_route }
    }
}

impl Authentic for Kernel<'_> {
    fn is_kernel(&self, by: Option<IpAddr>) -> bool {
        let is_own = |by: IpAddr| by.is_ipv4() && self.own.contains(&by);
        self.no_route || by.is_some_and(is_own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(number: u8, on_this_node: bool) -> Known {
        Known {
            address: address(number),
            receiver: Receiver::Sniffer,
            on_this_node,
        }
    }

    fn address(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, number], 4789))
    }

    #[test]
    fn preference_is_among_those_that_are_not_ejected() {
        let all = [
            known(1, true),
            known(2, true),
            known(3, false),
            known(4, false),
        ];
        // The ejected; what is used with SENSOR_PREFER=node, and with any.
        let cases: [(&[u8], &[u8], &[u8]); 5] = [
            (&[], &[1, 2], &[1, 2, 3, 4]),
            (&[1], &[2], &[2, 3, 4]),
            (&[3], &[1, 2], &[1, 2, 4]),
            (&[1, 2], &[3, 4], &[3, 4]),
            (&[1, 2, 3], &[4], &[4]),
        ];
        for (ejected, node, any) in cases {
            let used = |prefer| {
                let is_ejected = |sensor| ejected.iter().any(|number| address(*number) == sensor);
                in_use(&all, prefer, is_ejected)
            };
            let addresses = |numbers: &[u8]| -> Vec<_> {
                numbers.iter().map(|number| address(*number)).collect()
            };
            assert_eq!(used(Prefer::Node), addresses(node), "{ejected:?}");
            assert_eq!(used(Prefer::Any), addresses(any), "{ejected:?}");
        }
    }

    #[test]
    fn without_a_sensor_on_this_node_all_are_used() {
        let far = [known(3, false), known(4, false)];
        let used = in_use(&far, Prefer::Node, |_| false);
        assert_eq!(used, [address(3), address(4)]);
    }
}
