//! What is logged of sensors: who is in use and why, who is ejected, who returns, and which firewall
//! refuses what. A line says what is true of the flows: with one sensor there are no others that
//! take them.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Instant;

use discovery::Receiver;
use transmit::SensorReport;

use crate::ejection::{Failure, Return};
use crate::reminders::Reminders;

/// How many sensors one line names.
const NAMED: usize = 16;

/// What has changed about sensors.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) ejected: Vec<(SocketAddr, Failure)>,
    /// The last one, which would have been ejected.
    pub(crate) kept: Option<(SocketAddr, Failure)>,
    pub(crate) returned: Vec<(SocketAddr, Return)>,
}

impl Failure {
    /// What is wrong, and what to do.
    const fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::Unreachable => (
                "a sensor is unreachable",
                "see whether its pod or machine runs and whether this pod has a way to it",
            ),
            Self::Refused => (
                "nobody listens on the port of a sensor that is a socket",
                "start what listens there; where it captures packets, give its pod the annotation \
                 podspan.dev/receiver: sniffer, or set RECEIVER=sniffer",
            ),
            Self::Prohibited => (
                "a firewall refuses what is sent to a sensor",
                "allow UDP from this pod to the sensor's port in the network policies and firewalls",
            ),
        }
    }
}

/// Logs, and what it has said lately.
#[derive(Debug, Default)]
pub(crate) struct SensorLog(Reminders);

impl SensorLog {
    /// Logs changes, between the sensors in use before and after, out of all that are known.
    pub(crate) fn changes(
        &mut self,
        news: &News,
        (before, after): (&[SocketAddr], &[SocketAddr]),
        known: usize,
        now: Instant,
    ) {
        for (address, failure) in &news.ejected {
            let (what, remedy) = failure.texts();
            let then = flows_after_ejection(before.contains(address), after.len());
            tracing::warn!(%address, remedy, "{what}; {then}");
        }
        if let Some((address, failure)) = &news.kept
            && self.0.is_due("every sensor fails".to_owned(), now)
        {
            let (what, remedy) = failure.texts();
            let then = flows_of_the_last(known);
            tracing::warn!(%address, remedy, "{what}; {then}");
        }
        for (address, why) in &news.returned {
            let why = match why {
                Return::Answered => "its host answers",
                Return::Trial => "it is tried again",
            };
            if after.contains(address) {
                tracing::info!(%address, why, "a sensor takes its flows back");
            } else {
                tracing::info!(
                    %address,
                    why,
                    "a sensor is healthy again; it is not used while those of this node are preferred"
                );
            }
        }
    }

    /// Logs which sensors are in use, out of how many, and why not the others.
    pub(crate) fn in_use(in_use: &[SocketAddr], known: usize, ejected: usize) {
        let on_other_nodes = known.saturating_sub(ejected + in_use.len());
        let list = list(in_use);
        tracing::info!(known, ejected, on_other_nodes, "sensors in use: {list}");
    }

    /// Logs that a firewall refuses datagrams to a sensor, once a minute for each.
    pub(crate) fn refusals(&mut self, news: &SensorReport, receiver: Receiver, now: Instant) {
        let address = news.sensor;
        let port = address.port();
        if let Some(by) = news.prohibited_by
            && self.0.is_due(format!("{address} on the way"), now)
        {
            let remedy = format!(
                "allow UDP port {port} from this pod to the sensor in the network policies and in \
                 the firewall of {by}"
            );
            let times = news.prohibited;
            tracing::warn!(%address, %by, times, remedy, "a firewall on the way to a sensor refuses what is sent");
        }
        if news.refused_by_host == 0 || !self.0.is_due(format!("{address} at its host"), now) {
            return;
        }
        let (by, times) = (address.ip(), news.refused_by_host);
        match receiver {
            Receiver::Sniffer => {
                let remedy = format!(
                    "nothing has to be done; drop UDP port {port} there instead of rejecting it to \
                     spare its answers"
                );
                tracing::info!(
                    %address, %by, times, remedy,
                    "the firewall of a sensor's host refuses what is sent; a sniffer gets it nevertheless"
                );
            }
            Receiver::Socket => {
                let remedy = format!("allow UDP port {port} from this pod on the sensor's host");
                tracing::warn!(
                    %address, %by, times, remedy,
                    "the firewall of a sensor's host refuses what is sent; its socket gets nothing"
                );
            }
        }
    }
}

/// What becomes of the flows of an ejected sensor.
const fn flows_after_ejection(was_in_use: bool, others: usize) -> &'static str {
    match (was_in_use, others) {
        (false, _) => "it had no flows",
        (true, 1) => "the other one takes its flows",
        (true, _) => "the others take its flows",
    }
}

/// What becomes of the flows where the last sensor fails.
const fn flows_of_the_last(known: usize) -> &'static str {
    match known {
        0 | 1 => "it is the only one and stays in use",
        _ => "the others fail too, so it stays in use",
    }
}

/// The first of them, and how many more there are.
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
    fn what_is_said_of_flows_is_true_of_any_number_of_sensors() {
        assert_eq!(flows_after_ejection(false, 3), "it had no flows");
        assert_eq!(
            flows_after_ejection(true, 1),
            "the other one takes its flows"
        );
        assert_eq!(flows_after_ejection(true, 2), "the others take its flows");
        for (known, text) in [(1, "the only one"), (2, "the others fail too")] {
            assert!(flows_of_the_last(known).contains(text));
        }
    }
}
