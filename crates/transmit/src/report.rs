//! What the control side should know of the sending, gathered without a log line on the way.
//!
//! The worker takes the report when it likes, a few times a second, and hands it on. Dropped
//! datagrams are counted in the batch; here stands why, and what the network answered about
//! datagrams that were sent.

use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;
use wire::Mtu;

use crate::icmp::IcmpError;

/// How many sensors a report names. News of more waits for a later report: they repeat. A failure
/// does not wait for sensors that say only that a port is unreachable, as sniffers' hosts always do.
const SENSORS_MAX: usize = 64;

/// What happened since the last report.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// News of sensors, each at most once; at most 64 of them.
    pub sensors: Vec<SensorReport>,
    /// How many times the kernel refused a datagram for a reason that has no name of its own:
    /// what drops as `send_error`.
    pub refusals: u64,
    /// The last of these refusals. `EPERM` is netfilter's: a network policy or a firewall.
    pub last_refusal: Option<Errno>,
}

/// News of a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SensorReport {
    /// Which one.
    pub sensor: SocketAddr,
    /// The path to it turned out narrower; already noted in the table.
    pub path_mtu: Option<Mtu>,
    /// How many times there was no way to it, or nobody at its end: said by the kernel's routing, by
    /// a neighbour's silence, or by a router.
    pub unreachable: u64,
    /// Who said so last, where an ICMP message did: this machine of a silent neighbour, or a router.
    pub unreachable_by: Option<IpAddr>,
    /// How many times its host answered that nobody listens on the port. A failure where the
    /// receiver is a socket; where it sniffs, this is how it is.
    pub port_unreachable: u64,
    /// How many times a firewall on its host refused a datagram. Who sniffs there gets the datagram
    /// all the same.
    pub refused_by_host: u64,
    /// How many times a firewall on the way refused a datagram.
    pub prohibited: u64,
    /// Whose that was, the last time.
    pub prohibited_by: Option<IpAddr>,
}

impl Report {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sensors.is_empty() && self.refusals == 0
    }

    /// An empty report that can take all its news without allocating.
    pub(crate) fn with_room() -> Self {
        Self {
            sensors: Vec::with_capacity(SENSORS_MAX),
            ..Self::default()
        }
    }

    /// A copy without room to spare; this one is empty then and keeps its room.
    pub(crate) fn take(&mut self) -> Self {
        let news = self.clone();
        self.sensors.clear();
        (self.refusals, self.last_refusal) = (0, None);
        news
    }

    pub(crate) fn refused(&mut self, errno: Errno) {
        self.refusals += 1;
        self.last_refusal = Some(errno);
    }

    /// The kernel's routing has no way to a sensor.
    pub(crate) fn unreachable(&mut self, sensor: SocketAddr) {
        self.about(sensor, |news| news.unreachable += 1);
    }

    /// An ICMP message about a sensor.
    pub(crate) fn icmp_error(&mut self, sensor: SocketAddr, icmp_error: IcmpError) {
        match icmp_error {
            IcmpError::Unreachable { by } => self.about(sensor, |news| {
                news.unreachable += 1;
                news.unreachable_by = by;
            }),
            IcmpError::PortUnreachable => self.about(sensor, |news| news.port_unreachable += 1),
            IcmpError::RefusedByHost => self.about(sensor, |news| news.refused_by_host += 1),
            IcmpError::Prohibited { by } => self.about(sensor, |news| {
                news.prohibited += 1;
                news.prohibited_by = Some(by);
            }),
            // The path's MTU is asked of the kernel; the rest is no matter of the sensor's.
            IcmpError::TooLong | IcmpError::Other => {}
        }
    }

    pub(crate) fn path_mtu(&mut self, sensor: SocketAddr, mtu: Mtu) {
        self.about(sensor, |news| news.path_mtu = Some(mtu));
    }

    fn about(&mut self, sensor: SocketAddr, note: impl FnOnce(&mut SensorReport)) {
        if let Some(news) = self.sensors.iter_mut().find(|news| news.sensor == sensor) {
            note(news);
            return;
        }
        let mut news = SensorReport::new(sensor);
        note(&mut news);
        if self.sensors.len() < SENSORS_MAX {
            self.sensors.push(news);
        } else if !news.says_only_port_unreachable() {
            let mut entries = self.sensors.iter_mut();
            if let Some(entry) = entries.find(|entry| entry.says_only_port_unreachable()) {
                *entry = news;
            }
        }
    }
}

impl SensorReport {
    /// Of a sensor, without news yet.
    #[must_use]
    pub const fn new(sensor: SocketAddr) -> Self {
        Self {
            sensor,
            path_mtu: None,
            unreachable: 0,
            unreachable_by: None,
            port_unreachable: 0,
            refused_by_host: 0,
            prohibited: 0,
            prohibited_by: None,
        }
    }

    /// Whether it says what the host of a healthy sniffer says, and nothing else.
    fn says_only_port_unreachable(&self) -> bool {
        let only = Self {
            port_unreachable: self.port_unreachable,
            ..Self::new(self.sensor)
        };
        *self == only
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sensor(number: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], number))
    }

    #[test]
    fn a_sensor_has_one_entry_and_their_number_is_bounded() {
        let mut report = Report::with_room();
        assert!(report.is_empty());
        for _ in 0..3 {
            for number in 0..1000 {
                report.unreachable(sensor(number));
            }
        }
        report.path_mtu(sensor(5), Mtu::MIN);
        report.icmp_error(sensor(5), IcmpError::PortUnreachable);
        let by = IpAddr::from([192, 0, 2, 2]);
        for icmp_error in [
            IcmpError::Unreachable { by: Some(by) },
            IcmpError::Prohibited { by },
            IcmpError::RefusedByHost,
            IcmpError::TooLong,
            IcmpError::Other,
        ] {
            report.icmp_error(sensor(5), icmp_error);
        }
        assert_eq!(report.sensors.len(), SENSORS_MAX);
        let fifth = SensorReport {
            path_mtu: Some(Mtu::MIN),
            unreachable: 4,
            unreachable_by: Some(by),
            port_unreachable: 1,
            refused_by_host: 1,
            prohibited: 1,
            prohibited_by: Some(by),
            ..SensorReport::new(sensor(5))
        };
        assert_eq!(report.sensors[5], fifth);
        assert_eq!(report.take().sensors.len(), SENSORS_MAX);
        assert!(report.take().is_empty());
        assert_eq!(report.sensors.capacity(), SENSORS_MAX);
    }

    #[test]
    fn a_failure_replaces_an_entry_that_has_only_port_unreachable() {
        let sniffers = 1000..1000 + 2 * u16::try_from(SENSORS_MAX).unwrap();
        let failures: [fn(&mut Report, SocketAddr); 5] = [
            Report::unreachable,
            |report, sensor| report.icmp_error(sensor, IcmpError::Unreachable { by: None }),
            |report, sensor| report.icmp_error(sensor, IcmpError::RefusedByHost),
            |report, sensor| report.path_mtu(sensor, Mtu::MIN),
            |report, sensor| {
                let by = IpAddr::from([192, 0, 2, 2]);
                report.icmp_error(sensor, IcmpError::Prohibited { by });
            },
        ];
        let mut report = Report::with_room();
        for number in sniffers.clone() {
            report.icmp_error(sensor(number), IcmpError::PortUnreachable);
        }
        for (number, failure) in (0..).zip(failures) {
            failure(&mut report, sensor(number));
        }
        for number in sniffers {
            report.icmp_error(sensor(number), IcmpError::PortUnreachable);
        }
        assert_eq!(report.sensors.len(), SENSORS_MAX);
        let entry = |number| {
            let mut entries = report.sensors.iter();
            *entries.find(|news| news.sensor == sensor(number)).unwrap()
        };
        assert_eq!([entry(0), entry(1)].map(|news| news.unreachable), [1, 1]);
        assert_eq!(entry(2).refused_by_host, 1);
        assert_eq!(entry(3).path_mtu, Some(Mtu::MIN));
        assert_eq!(entry(4).prohibited, 1);
        // One failure does not displace another.
        for number in 0..1000 {
            report.unreachable(sensor(number));
        }
        assert_eq!(report.sensors.len(), SENSORS_MAX);
        assert!(report.sensors.iter().all(|news| news.sensor.port() < 1000));
        assert_eq!(report.sensors.capacity(), SENSORS_MAX);
    }

    #[test]
    fn the_last_refusal_is_kept_with_the_count() {
        let mut report = Report::default();
        report.refused(Errno::EINVAL);
        report.refused(Errno::EPERM);
        assert!(!report.is_empty());
        assert_eq!(
            (report.refusals, report.last_refusal),
            (2, Some(Errno::EPERM))
        );
    }
}
