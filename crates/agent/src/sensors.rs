//! All listed sensors, and the table of those in use.
//!
//! In: the list of sensors, from the configuration or from discovery; the worker's reports about
//! sending; answers to probes; the kernel's routes. Out: a new [`SensorTable`] for the worker when the
//! sensors in use change, with each path's MTU; and log lines about these changes.
//!
//! Ejection comes first, then whether a tunnel is ready, and preference is last ([`in_use`]): a sensor on this
//! node is preferred among the sensors that are not ejected and have a session, if they have a tunnel. If it
//! fails, the sensors on other nodes get its flows. If no tunnel is ready, its sensors are used all the same, and
//! frames count as `no_session`. A sensor with a tunnel is never sent a plain datagram.
//!
//! The kernel gives a path's MTU: the minimum of the interface's, the route's, and what ICMP reported.
//! The query needs a socket and sends no datagram. A path without a route may get one later, so it
//! counts as Ethernet until then.

pub(crate) mod status;

use std::cell::LazyCell;
use std::collections::{BTreeSet, HashMap};
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use mirror::{Sensor, SensorTable};
use settings::Receiver;
use transmit::{Answers, Prober, Report, SensorReport};
use wire::Mtu;

use crate::ejection::{Ejections, Failure, HealthChange, Observation};
use crate::observation::{Authentic, from_answer, from_report};
use crate::sensor_lists::own_addresses;
use crate::sensor_log::{SensorChanges, SensorLog};
use crate::tunnels::Tunnels;
use settings::Prefer;

/// How long an answer to a probe can take. The kernel needs three seconds to detect that a neighbour is
/// silent.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// A sensor in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListedSensor {
    pub(crate) address: SocketAddr,
    pub(crate) receiver: Receiver,
    /// Whether it has an encrypted tunnel; the address is the tunnel's then.
    pub(crate) has_tunnel: bool,
    /// Whether it runs on this node; false if this is unknown.
    pub(crate) on_this_node: bool,
}

impl ListedSensor {
    /// The end of a tunnel is a socket, whatever the sensor is: a closed port means that nothing arrives.
    pub(crate) const fn new(
        address: SocketAddr,
        receiver: Receiver,
        has_tunnel: bool,
        on_this_node: bool,
    ) -> Self {
        let receiver = if has_tunnel {
            Receiver::Socket
        } else {
            receiver
        };
        Self {
            address,
            receiver,
            has_tunnel,
            on_this_node,
        }
    }
}

/// The sensors in use: of those that are not ejected, the ones that are ready if there are any; of these, the ones
/// on this node if they are preferred and there are any.
fn in_use(
    list: &[ListedSensor],
    prefer: Prefer,
    is_ejected: impl Fn(SocketAddr) -> bool,
    is_ready: impl Fn(&ListedSensor) -> bool,
) -> Vec<ListedSensor> {
    let mut usable: Vec<_> = list.to_vec();
    usable.retain(|sensor| !is_ejected(sensor.address));
    if usable.iter().any(&is_ready) {
        usable.retain(&is_ready);
    }
    let is_preferred = |sensor: &ListedSensor| prefer == Prefer::Node && sensor.on_this_node;
    if usable.iter().any(is_preferred) {
        usable.retain(is_preferred);
    }
    usable
}

/// All sensors, and their health.
pub(crate) struct Sensors {
    list: Vec<ListedSensor>,
    prefer: Prefer,
    ejections: Ejections,
    prober: Prober,
    /// None without keys; then no sensor with a tunnel is used.
    tunnels: Option<Tunnels>,
    table: Arc<ArcSwap<SensorTable>>,
    /// Until when answers to probes may come.
    answers_until: Instant,
    log: SensorLog,
    /// Upper bound for path MTUs.
    mtu: Option<Mtu>,
    /// How often the sensors in use have changed.
    changes: u64,
}

impl Sensors {
    /// Starts with the list in the configuration. The prober must be opened before the capabilities
    /// are dropped.
    pub(crate) fn new(
        prober: Prober,
        mtu: Option<Mtu>,
        prefer: Prefer,
        list: Vec<ListedSensor>,
        tunnels: Option<Tunnels>,
    ) -> Self {
        let mut sensors = Self {
            list: Vec::new(),
            prefer,
            ejections: Ejections::default(),
            prober,
            tunnels,
            table: Arc::new(ArcSwap::from_pointee(SensorTable::default())),
            answers_until: Instant::now(),
            log: SensorLog::default(),
            mtu,
            changes: 0,
        };
        sensors.set_list(list, Instant::now());
        sensors.refresh_table(Instant::now());
        sensors
    }

    /// The table that the worker reads.
    pub(crate) fn table(&self) -> &Arc<ArcSwap<SensorTable>> {
        &self.table
    }

    /// Sets the list of all sensors, each address once.
    pub(crate) fn update_list(&mut self, list: Vec<ListedSensor>, now: Instant) {
        self.set_list(list, now);
        self.apply(&SensorChanges::default(), now);
    }

    /// Handles the worker's report about sending.
    pub(crate) fn handle_report(&mut self, report: &Report, now: Instant) {
        let mut changes = SensorChanges::default();
        let own: OwnAddresses = LazyCell::new(own_addresses);
        for report in &report.sensors {
            let listed = self
                .list
                .iter()
                .find(|listed| listed.address == report.sensor);
            let Some(ListedSensor { receiver, .. }) = listed.copied() else {
                continue;
            };
            self.log.log_refusals(report, receiver, now);
            let kernel = Kernel::queried_about(report, &own);
            for observation in from_report(report, receiver, &kernel) {
                if observation.is_forgeable_failure()
                    && let Some(tunnels) = &mut self.tunnels
                    && tunnels.refutes_failure(report.sensor, now)
                {
                    continue;
                }
                self.observe(report.sensor, observation, &mut changes, now);
            }
        }
        self.apply(&changes, now);
    }

    /// Whether [`Sensors::check`] has work to do. If not, the next call can wait for the next report.
    pub(crate) fn needs_check(&self, now: Instant) -> bool {
        now < self.answers_until || self.ejections.any_failing()
    }

    /// Reads the answers to probes, ends ejections, and probes the sensors that are not healthy. Call it
    /// about once a second while [`Sensors::needs_check`].
    pub(crate) fn check(&mut self, now: Instant) {
        if let Some(tunnels) = &mut self.tunnels {
            tunnels.check(now);
        }
        let mut changes = SensorChanges::default();
        let own: OwnAddresses = LazyCell::new(own_addresses);
        for (host, answer) in self.prober.results() {
            let observation = from_answer(answer, &Kernel::with_route(&own));
            for sensor in self.ejections.of_host(host) {
                self.observe(sensor, observation, &mut changes, now);
            }
        }
        for sensor in self.ejections.probed().collect::<Vec<_>>() {
            if transmit::path_mtu(sensor, None).is_err() {
                let observation = Observation::Failed(Failure::Unreachable);
                self.observe(sensor, observation, &mut changes, now);
            }
        }
        changes.returned = self.ejections.tick(now);
        let hosts: BTreeSet<_> = self.ejections.probed().map(|sensor| sensor.ip()).collect();
        for host in hosts {
            self.probe(host, now);
        }
        self.apply(&changes, now);
    }

    fn probe(&mut self, host: IpAddr, now: Instant) {
        self.prober.probe(host);
        self.answers_until = now + ANSWERS_WITHIN;
    }

    /// Prepares to wait for the answers of the tunnels; none without tunnels. Must be called within the runtime.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn answers(&self) -> io::Result<Option<Answers>> {
        self.tunnels.as_ref().map(Tunnels::answers).transpose()
    }

    /// Exchanges handshakes until the tunnel to a sensor is ready, or is no longer, and then applies this.
    pub(crate) async fn tunnel_changed(&mut self, answers: Option<&Answers>) {
        match (&mut self.tunnels, answers) {
            (Some(tunnels), Some(answers)) => tunnels.changed(answers).await,
            _ => pending().await,
        }
        self.apply(&SensorChanges::default(), Instant::now());
    }

    /// Whether frames have somewhere to go: a sensor in the table is ready, or the list is empty, and waiting for
    /// one does not help.
    pub(crate) fn is_usable(&self, now: Instant) -> bool {
        self.list.is_empty() || self.list.iter().any(|listed| self.is_ready(listed, now))
    }

    fn is_ready(&self, listed: &ListedSensor, now: Instant) -> bool {
        let is_up = |tunnels: &Tunnels| tunnels.is_ready(listed.address, now);
        !listed.has_tunnel || self.tunnels.as_ref().is_some_and(is_up)
    }

    fn set_list(&mut self, mut list: Vec<ListedSensor>, now: Instant) {
        match &mut self.tunnels {
            Some(tunnels) => {
                let with_tunnel = list.iter().filter(|listed| listed.has_tunnel);
                tunnels.set_sensors(with_tunnel.map(|listed| listed.address), now);
            }
            // The settings and discovery leave them out already.
            None => list.retain(|listed| !listed.has_tunnel),
        }
        let addresses = list.iter().map(|listed| listed.address);
        self.ejections.update_list(addresses, now);
        self.list = list;
    }

    /// Handles an observation, and sends the first probe at once if one is needed.
    fn observe(
        &mut self,
        sensor: SocketAddr,
        observation: Observation,
        changes: &mut SensorChanges,
        now: Instant,
    ) {
        match self.ejections.observe(sensor, observation, now) {
            None => {}
            Some(HealthChange::Unhealthy) => {
                tracing::debug!(address = %sensor, ?observation, "a sensor is unhealthy; it is probed");
                self.probe(sensor.ip(), now);
            }
            Some(HealthChange::Ejected(failure)) => {
                changes.ejected.push((sensor, failure));
                self.probe(sensor.ip(), now);
            }
            Some(HealthChange::Kept(failure)) => {
                // A sensor ejected by the same report may be in use again: this is no change then.
                let ejections = &self.ejections;
                changes
                    .ejected
                    .retain(|(sensor, _)| ejections.is_ejected(*sensor));
                changes.kept = Some((sensor, failure));
            }
        }
    }

    /// Makes a new table if the sensors in use have changed, and logs the changes.
    fn apply(&mut self, changes: &SensorChanges, now: Instant) {
        let before = self.table.load_full();
        let is_new = self.refresh_table(now);
        let addresses = |table: &SensorTable| -> Vec<_> {
            table.sensors().iter().map(Sensor::address).collect()
        };
        let (before, after) = (addresses(&before), addresses(&self.table.load()));
        self.log
            .log_changes(changes, (&before, &after), self.list.len(), now);
        if is_new {
            self.changes += 1;
            let is_ejected = |listed: &&ListedSensor| self.ejections.is_ejected(listed.address);
            let ejected = self.list.iter().filter(is_ejected).count();
            SensorLog::log_in_use(&after, self.list.len(), ejected);
        }
    }

    /// Gives the worker a new table if the sensors in use have changed; returns whether it did. It asks
    /// the kernel only for the paths to new sensors.
    fn refresh_table(&self, now: Instant) -> bool {
        let before = self.table.load();
        let mut sensors_before: HashMap<_, _> = before
            .sensors()
            .iter()
            .map(|sensor| (sensor.address(), sensor))
            .collect();
        let count_before = sensors_before.len();
        let mut any_other_kind = false;
        let tunnel = self.tunnels.as_ref().map(Tunnels::added);
        let sensor = |listed: &ListedSensor| {
            let before = sensors_before.remove(&listed.address);
            let path_mtu = before.map(Sensor::path_mtu);
            let path_mtu = path_mtu.unwrap_or_else(|| self.path_mtu(listed.address));
            let sensor = Sensor::new(listed.address, path_mtu);
            let sensor = match tunnel.filter(|_| listed.has_tunnel) {
                Some(added) => sensor.with_tunnel(added),
                None => sensor.with_socket(listed.receiver == Receiver::Socket),
            };
            any_other_kind |= before.is_some_and(|before| before.lane() != sensor.lane());
            sensor
        };
        let is_ejected = |address| self.ejections.is_ejected(address);
        let is_ready = |listed: &ListedSensor| self.is_ready(listed, now);
        let in_use = in_use(&self.list, self.prefer, is_ejected, is_ready);
        let sensors: Vec<_> = in_use.iter().map(sensor).collect();
        let is_new = sensors.len() != count_before || !sensors_before.is_empty() || any_other_kind;
        if is_new {
            self.table.store(Arc::new(before.followed_by(sensors)));
        }
        is_new
    }

    fn path_mtu(&self, address: SocketAddr) -> Mtu {
        let unknown = self.mtu.unwrap_or(Mtu::MAX).min(Mtu::ETHERNET);
        transmit::path_mtu(address, self.mtu).unwrap_or(unknown)
    }

    /// Reads the MTU of each path again. Call it when routes or links have changed, and periodically.
    pub(crate) fn refresh_paths(&self) {
        for sensor in self.table.load().sensors() {
            let (address, before) = (sensor.address(), sensor.path_mtu());
            let Ok(path_mtu) = transmit::path_mtu(address, self.mtu) else {
                continue;
            };
            // The worker may have stored a newer value in between.
            if path_mtu != before && sensor.replace_path_mtu(before, path_mtu) {
                tracing::info!(%address, %path_mtu, "the MTU of the path to a sensor has changed; nothing needs to be done");
            }
        }
    }
}

/// This machine's own addresses; the kernel is asked for them only when they are needed.
type OwnAddresses = LazyCell<Vec<IpAddr>>;

/// What this machine's kernel confirms.
struct Kernel<'a> {
    own: &'a OwnAddresses,
    /// Whether it has no route to the sensor at this time. An error of sending is not enough: an ICMP
    /// message can cause it too.
    no_route: bool,
}

impl<'a> Kernel<'a> {
    const fn with_route(own: &'a OwnAddresses) -> Self {
        let no_route = false;
        Self { own, no_route }
    }

    fn queried_about(report: &SensorReport, own: &'a OwnAddresses) -> Self {
        let no_route = report.unreachable > 0 && transmit::path_mtu(report.sensor, None).is_err();
        Self { own, no_route }
    }
}

impl Authentic for Kernel<'_> {
    fn is_from_kernel(&self, by: Option<IpAddr>) -> bool {
        let is_own = |by: IpAddr| by.is_ipv4() && self.own.contains(&by);
        self.no_route || by.is_some_and(is_own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(number: u8, on_this_node: bool) -> ListedSensor {
        ListedSensor {
            address: address(number),
            receiver: Receiver::Sniffer,
            has_tunnel: false,
            on_this_node,
        }
    }

    fn address(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, number], 4789))
    }

    fn addresses_of(sensors: &[ListedSensor]) -> Vec<SocketAddr> {
        sensors.iter().map(|sensor| sensor.address).collect()
    }

    #[test]
    fn preference_is_among_those_that_are_not_ejected() {
        let all = [
            listed(1, true),
            listed(2, true),
            listed(3, false),
            listed(4, false),
        ];
        // The ejected sensors; those in use with SENSOR_PREFER=node, and with any.
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
                addresses_of(&in_use(&all, prefer, is_ejected, |_| true))
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
        let on_other_nodes = [listed(3, false), listed(4, false)];
        let used = in_use(&on_other_nodes, Prefer::Node, |_| false, |_| true);
        assert_eq!(addresses_of(&used), [address(3), address(4)]);
    }

    #[test]
    fn sensors_without_a_session_are_used_only_if_no_other_is_left() {
        let all = [listed(1, true), listed(2, true), listed(3, false)];
        // The ejected sensors, the ready ones, and those in use.
        let cases: [(&[u8], &[u8], &[u8]); 5] = [
            (&[], &[2, 3], &[2]),
            (&[], &[3], &[3]),
            (&[], &[], &[1, 2]),
            (&[3], &[3], &[1, 2]),
            (&[2], &[2, 3], &[3]),
        ];
        for (ejected, ready, used) in cases {
            let has = |numbers: &[u8], sensor| numbers.iter().any(|one| address(*one) == sensor);
            let is_ejected = |sensor| has(ejected, sensor);
            let is_ready = |sensor: &ListedSensor| has(ready, sensor.address);
            let found = addresses_of(&in_use(&all, Prefer::Node, is_ejected, is_ready));
            let expected: Vec<_> = used.iter().map(|number| address(*number)).collect();
            assert_eq!(found, expected, "ejected {ejected:?}, ready {ready:?}");
        }
    }
}
