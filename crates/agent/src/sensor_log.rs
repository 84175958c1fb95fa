//! Log lines about sensors: which are in use, which are ejected, which return, and which firewall
//! rejects datagrams. A line also says which sensors get the flows, which depends on how many there are.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Instant;

use settings::Receiver;
use transmit::SensorReport;

use crate::ejection::{Failure, Return};
use crate::reminders::Reminders;

/// How many sensors one line names.
const NAMED: usize = 16;

/// What has changed about the sensors' health.
#[derive(Debug, Default)]
pub(crate) struct SensorChanges {
    pub(crate) ejected: Vec<(SocketAddr, Failure)>,
    /// The last sensor in use, which fails and is not ejected.
    pub(crate) kept: Option<(SocketAddr, Failure)>,
    pub(crate) returned: Vec<(SocketAddr, Return)>,
}

impl Failure {
    /// What is wrong, and what to do.
    const fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::Unreachable => (
                "a sensor is unreachable",
                "check that its pod or machine runs and that this pod has a route to it",
            ),
            Self::Refused => (
                "the port of a sensor that is a socket is closed",
                "start the program that listens on it; if the sensor captures packets, give its pod the \
                 annotation podspan.dev/receiver: sniffer, or set RECEIVER=sniffer",
            ),
            Self::Prohibited => (
                "a firewall rejects the copies to a sensor",
                "allow UDP from this pod to the sensor's port in the network policies and firewalls",
            ),
        }
    }
}

/// Writes these lines, and remembers the repeated ones.
#[derive(Debug, Default)]
pub(crate) struct SensorLog(Reminders);

impl SensorLog {
    /// Logs changes. `before` and `after` are the sensors in use, `listed` is the number of all.
    pub(crate) fn log_changes(
        &mut self,
        changes: &SensorChanges,
        (before, after): (&[SocketAddr], &[SocketAddr]),
        listed: usize,
        now: Instant,
    ) {
        for (address, failure) in &changes.ejected {
            let (what, remedy) = failure.texts();
            let then = flows_after_ejection(before.contains(address), after.len());
            tracing::warn!(%address, remedy, "{what}; {then}");
        }
        if let Some((address, failure)) = &changes.kept
            && self.0.is_due("every sensor fails".to_owned(), now)
        {
            let (what, remedy) = failure.texts();
            let then = flows_of_the_last(listed);
            tracing::warn!(%address, remedy, "{what}; {then}");
        }
        for (address, why) in &changes.returned {
            let why = match why {
                Return::Answered => "its host answers",
                Return::Retry => "it is tried again",
            };
            if after.contains(address) {
                tracing::info!(%address, why, "a sensor is healthy again; it gets its flows back");
            } else {
                tracing::info!(
                    %address,
                    why,
                    "a sensor is healthy again; it is not used while sensors on this node are preferred"
                );
            }
        }
    }

    /// Logs which sensors are in use, the number of all, and why the others are not in use.
    pub(crate) fn log_in_use(in_use: &[SocketAddr], listed: usize, ejected: usize) {
        let on_other_nodes = listed.saturating_sub(ejected + in_use.len());
        let list = list(in_use);
        tracing::info!(listed, ejected, on_other_nodes, "sensors in use: {list}");
    }

    /// Logs that a firewall rejects datagrams to a sensor, at most once a minute for each firewall.
    pub(crate) fn log_refusals(&mut self, report: &SensorReport, receiver: Receiver, now: Instant) {
        let address = report.sensor;
        let port = address.port();
        if let Some(by) = report.prohibited_by
            && self.0.is_due(format!("{address} on the path"), now)
        {
            let remedy = format!(
                "allow UDP port {port} from this pod to the sensor in the network policies and in \
                 the firewall of {by}"
            );
            let times = report.prohibited;
            tracing::warn!(%address, %by, times, remedy, "a firewall on the path to a sensor rejects the copies");
        }
        if report.refused_by_host == 0 || !self.0.is_due(format!("{address} at its host"), now) {
            return;
        }
        let (by, times) = (address.ip(), report.refused_by_host);
        match receiver {
            Receiver::Sniffer => {
                let remedy = format!(
                    "nothing needs to be done; to avoid these answers, let the firewall drop UDP port \
                     {port} instead of rejecting it"
                );
                tracing::info!(
                    %address, %by, times, remedy,
                    "the firewall of a sensor's host rejects the copies; the sniffer still gets them"
                );
            }
            Receiver::Socket => {
                let remedy = format!("allow UDP port {port} from this pod on the sensor's host");
                tracing::warn!(
                    %address, %by, times, remedy,
                    "the firewall of a sensor's host rejects the copies; the socket does not get them"
                );
            }
        }
    }
}

/// Which sensors get the flows of an ejected one.
const fn flows_after_ejection(was_in_use: bool, others: usize) -> &'static str {
    match (was_in_use, others) {
        (false, _) => "it had no flows",
        (true, 1) => "the other sensor gets its flows",
        (true, _) => "the other sensors get its flows",
    }
}

/// Why the last sensor in use keeps its flows.
const fn flows_of_the_last(listed: usize) -> &'static str {
    match listed {
        0 | 1 => "it is the only sensor and stays in use",
        _ => "the other sensors fail too, so it stays in use",
    }
}

/// The first addresses, and the number of the others.
fn list(addresses: &[SocketAddr]) -> String {
    let mut list = String::new();
    for address in addresses.iter().take(NAMED) {
        let separator = if list.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(list, "{separator}{address}");
    }
    match addresses.len().checked_sub(NAMED) {
        None | Some(0) if list.is_empty() => "none".to_owned(),
        None | Some(0) => list,
        Some(more) => format!("{list} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(count: u8) -> Vec<SocketAddr> {
        (1..=count)
            .map(|number| SocketAddr::from(([10, 0, 0, number], 4789)))
            .collect()
    }

    #[test]
    fn a_line_names_at_most_sixteen_sensors() {
        assert_eq!(list(&[]), "none");
        assert_eq!(list(&addresses(2)), "10.0.0.1:4789, 10.0.0.2:4789");
        assert!(list(&addresses(16)).ends_with("10.0.0.16:4789"));
        assert!(list(&addresses(18)).ends_with("10.0.0.16:4789 and 2 more"));
    }

    #[test]
    fn the_text_about_flows_is_right_for_any_number_of_sensors() {
        assert_eq!(flows_after_ejection(false, 3), "it had no flows");
        assert_eq!(
            flows_after_ejection(true, 1),
            "the other sensor gets its flows"
        );
        assert_eq!(
            flows_after_ejection(true, 2),
            "the other sensors get its flows"
        );
        for (listed, text) in [(1, "the only sensor"), (2, "the other sensors fail too")] {
            assert!(flows_of_the_last(listed).contains(text));
        }
    }
}
