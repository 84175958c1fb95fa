//! A report about sending for the control side, which logs it.
//!
//! The worker reads the report a few times a second and passes it on. The batch counts the dropped
//! datagrams; the report has the reasons, and the ICMP errors about datagrams that were sent.

use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;
use wire::Mtu;

use crate::icmp::IcmpError;

/// How many sensors a report has. Errors of others repeat, so a later report has them. A failure replaces
/// an entry that has only "port unreachable", which the hosts of sniffers always send.
const SENSORS_MAX: usize = 64;

/// Errors since the last report.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// One entry for each sensor with errors; at most 64.
    pub sensors: Vec<SensorReport>,
    /// How many times the kernel refused a datagram for a reason without its own name: these drops count
    /// as `send_error`.
    pub refusals: u64,
    /// The error number of the last of these refusals. `EPERM` comes from netfilter: a network policy or a
    /// firewall.
    pub last_refusal: Option<Errno>,
}

/// The errors of a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SensorReport {
    /// The sensor's address.
    pub sensor: SocketAddr,
    /// The new, smaller MTU of the path; it is already in the table.
    pub path_mtu: Option<Mtu>,
    /// The kernel's error when it refused several datagrams for it in one message. They were sent one by one,
    /// as those of the next minute are.
    pub runs_refused: Option<Errno>,
    /// How many times there was no route to it, or it did not answer: reported by the kernel's routing,
    /// by the kernel for a neighbour without an answer, or by a router.
    pub unreachable: u64,
    /// The sender of the last ICMP error of this kind: this machine for a neighbour, or a router.
    pub unreachable_by: Option<IpAddr>,
    /// How many times its host answered that no program listens on the port. This is a failure if the
    /// receiver is a socket, and normal if it is a sniffer.
    pub port_unreachable: u64,
    /// How many times a firewall on its host refused a datagram. A sniffer on that host gets the datagram
    /// all the same.
    pub refused_by_host: u64,
    /// How many times a firewall on the way refused a datagram.
    pub prohibited: u64,
    /// The address of the last of these firewalls.
    pub prohibited_by: Option<IpAddr>,
}

impl Report {
    /// Whether there is nothing to report.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sensors.is_empty() && self.refusals == 0
    }

    /// An empty report with room for all its entries, so that adding them does not allocate memory.
    pub(crate) fn with_room() -> Self {
        Self {
            sensors: Vec::with_capacity(SENSORS_MAX),
            ..Self::default()
        }
    }

    /// Returns a copy and empties this report, which keeps its room.
    pub(crate) fn take(&mut self) -> Self {
        let copy = self.clone();
        self.sensors.clear();
        (self.refusals, self.last_refusal) = (0, None);
        copy
    }

    pub(crate) fn refused(&mut self, errno: Errno) {
        self.refusals += 1;
        self.last_refusal = Some(errno);
    }

    /// Adds that the kernel has no route to a sensor.
    pub(crate) fn unreachable(&mut self, sensor: SocketAddr) {
        self.update(sensor, |entry| entry.unreachable += 1);
    }

    /// Adds an ICMP error about a sensor.
    pub(crate) fn icmp_error(&mut self, sensor: SocketAddr, icmp_error: IcmpError) {
        match icmp_error {
            IcmpError::Unreachable { by } => self.update(sensor, |entry| {
                entry.unreachable += 1;
                entry.unreachable_by = by;
            }),
            IcmpError::PortUnreachable => self.update(sensor, |entry| entry.port_unreachable += 1),
            IcmpError::RefusedByHost => self.update(sensor, |entry| entry.refused_by_host += 1),
            IcmpError::Prohibited { by } => self.update(sensor, |entry| {
                entry.prohibited += 1;
                entry.prohibited_by = Some(by);
            }),
            // The path's MTU is read from the kernel; the others are not about the sensor.
            IcmpError::TooLong | IcmpError::Other => {}
        }
    }

    pub(crate) fn path_mtu(&mut self, sensor: SocketAddr, mtu: Mtu) {
        self.update(sensor, |entry| entry.path_mtu = Some(mtu));
    }

    pub(crate) fn runs_refused(&mut self, sensor: SocketAddr, errno: Errno) {
        self.update(sensor, |entry| entry.runs_refused = Some(errno));
    }

    fn update(&mut self, sensor: SocketAddr, change: impl FnOnce(&mut SensorReport)) {
        if let Some(entry) = self.sensors.iter_mut().find(|entry| entry.sensor == sensor) {
            change(entry);
            return;
        }
        let mut new = SensorReport::new(sensor);
        change(&mut new);
        if self.sensors.len() < SENSORS_MAX {
            self.sensors.push(new);
        } else if !new.has_only_port_unreachable() {
            let mut entries = self.sensors.iter_mut();
            if let Some(entry) = entries.find(|entry| entry.has_only_port_unreachable()) {
                *entry = new;
            }
        }
    }
}

impl SensorReport {
    /// An entry without errors.
    #[must_use]
    pub const fn new(sensor: SocketAddr) -> Self {
        Self {
            sensor,
            path_mtu: None,
            runs_refused: None,
            unreachable: 0,
            unreachable_by: None,
            port_unreachable: 0,
            refused_by_host: 0,
            prohibited: 0,
            prohibited_by: None,
        }
    }

    /// Whether there is only "port unreachable", as for a healthy sniffer.
    fn has_only_port_unreachable(&self) -> bool {
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
        report.runs_refused(sensor(5), Errno::EIO);
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
            runs_refused: Some(Errno::EIO),
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
            *entries
                .find(|entry| entry.sensor == sensor(number))
                .unwrap()
        };
        assert_eq!([entry(0), entry(1)].map(|entry| entry.unreachable), [1, 1]);
        assert_eq!(entry(2).refused_by_host, 1);
        assert_eq!(entry(3).path_mtu, Some(Mtu::MIN));
        assert_eq!(entry(4).prohibited, 1);
        // A failure does not replace another.
        for number in 0..1000 {
            report.unreachable(sensor(number));
        }
        assert_eq!(report.sensors.len(), SENSORS_MAX);
        assert!(
            report
                .sensors
                .iter()
                .all(|entry| entry.sensor.port() < 1000)
        );
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
