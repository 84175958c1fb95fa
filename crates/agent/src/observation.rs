//! What the network's answers show about a sensor, and which of them podspan trusts.
//!
//! In: the worker's report, and answers to probes. Out: [`Observation`]s. ICMP is not authenticated,
//! so this table decides for each answer whether it moves flows:
//!
//! | answer | receiver | observation |
//! |-|-|-|
//! | the kernel reports again that it has no route | any | fails |
//! | this machine reports that an IPv4 neighbour is silent | any | fails: the kernel drops a packet from outside that has podspan's own address as its source (`fib_validate_source`) |
//! | podspan's own address reports that an IPv6 neighbour is silent | any | may fail: IPv6 has no such check |
//! | a router reports the host as unreachable | any | may fail |
//! | a firewall on the path rejects the datagram | any | may fail: datagrams do not arrive |
//! | the host reports a closed port | socket | fails |
//! | the host's firewall rejects the datagram | socket | fails |
//! | either of these two | sniffer | arrived: a sniffer gets a datagram before the host's firewall does (`__netif_receive_skb_core` of the kernel) |
//!
//! All but what the kernel reports can be forged. A sensor with a tunnel that has just answered a handshake refutes it
//! ([`crate::tunnels::Tunnels::refutes_failure`]).
//!
//! A message in the name of a socket's host can be forged too. podspan trusts it, because a probe
//! could not confirm it: a host sends about one ICMP error a second to a peer (`icmp_ratelimit`), and
//! the copies use up this limit. `ejection` limits the effect of a forged message.

use std::net::IpAddr;

use settings::Receiver;
use transmit::{ProbeResult, SensorReport};

use crate::ejection::{Failure, Observation};

/// Decides whether a report of an unreachable sensor is certainly from this machine's kernel.
pub(crate) trait Authentic {
    /// Whether the report is the kernel's. `by` is the sender of the ICMP message; without one, an
    /// error of sending reported it.
    fn is_from_kernel(&self, by: Option<IpAddr>) -> bool;
}

/// The observations in a report about a sensor; those that clear it come last.
pub(crate) fn from_report(
    report: &SensorReport,
    receiver: Receiver,
    authentic: &impl Authentic,
) -> Vec<Observation> {
    let if_any = |count: u64, observation| (count > 0).then_some(observation);
    let (port, firewall) = match receiver {
        Receiver::Socket => (
            Observation::Failed(Failure::Refused),
            Observation::Failed(Failure::Prohibited),
        ),
        Receiver::Sniffer => (Observation::Arrived, Observation::Arrived),
    };
    let unreachable =
        (report.unreachable > 0).then(|| unreachable(report.unreachable_by, authentic));
    [
        unreachable,
        if_any(report.prohibited, Observation::MayFail(Failure::Prohibited)),
        if_any(report.port_unreachable, port),
        if_any(report.refused_by_host, firewall),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The observation of each sensor of a host that follows from the answer to a probe.
pub(crate) fn from_answer(answer: ProbeResult, authentic: &impl Authentic) -> Observation {
    match answer {
        ProbeResult::Reached => Observation::Answered,
        ProbeResult::Unreachable { by } => unreachable(by, authentic),
    }
}

fn unreachable(by: Option<IpAddr>, authentic: &impl Authentic) -> Observation {
    if authentic.is_from_kernel(by) {
        Observation::Failed(Failure::Unreachable)
    } else {
        Observation::MayFail(Failure::Unreachable)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    /// 10.0.0.1 is this machine, and the kernel has a route.
    struct Kernel;

    impl Authentic for Kernel {
        fn is_from_kernel(&self, by: Option<IpAddr>) -> bool {
            by == Some(IpAddr::from([10, 0, 0, 1]))
        }
    }

    fn observations(change: impl Fn(&mut SensorReport), receiver: Receiver) -> Vec<Observation> {
        let mut report = SensorReport::new(SocketAddr::from(([10, 0, 0, 2], 4789)));
        change(&mut report);
        from_report(&report, receiver, &Kernel)
    }

    #[test]
    fn each_answer_is_trusted_only_as_far_as_it_cannot_be_forged() {
        use Failure::{Prohibited, Refused, Unreachable};
        use Observation::{Arrived, Failed, MayFail};
        type Change = fn(&mut SensorReport);
        let by = |last| Some(IpAddr::from([10, 0, 0, last]));
        let own: Change = |report| {
            report.unreachable = 1;
            report.unreachable_by = Some(IpAddr::from([10, 0, 0, 1]));
        };
        let routed: Change = |report| report.unreachable = 2;
        let on_the_path: Change = |report| report.prohibited = 1;
        let port: Change = |report| report.port_unreachable = 9;
        let host: Change = |report| report.refused_by_host = 1;
        // The answer; the observation for a sniffer, and for a socket.
        let cases = [
            (own, Failed(Unreachable), Failed(Unreachable)),
            (routed, MayFail(Unreachable), MayFail(Unreachable)),
            (on_the_path, MayFail(Prohibited), MayFail(Prohibited)),
            (port, Arrived, Failed(Refused)),
            (host, Arrived, Failed(Prohibited)),
        ];
        for (change, sniffer, socket) in cases {
            assert_eq!(observations(change, Receiver::Sniffer), [sniffer]);
            assert_eq!(observations(change, Receiver::Socket), [socket]);
        }
        assert_eq!(
            from_answer(ProbeResult::Reached, &Kernel),
            Observation::Answered
        );
        for (by, expected) in [
            (by(1), Failed(Unreachable)),
            (by(254), MayFail(Unreachable)),
            (None, MayFail(Unreachable)),
        ] {
            let answer = ProbeResult::Unreachable { by };
            assert_eq!(from_answer(answer, &Kernel), expected);
        }
    }

    #[test]
    fn the_observation_that_clears_a_sensor_comes_last() {
        let all = |report: &mut SensorReport| {
            (
                report.unreachable,
                report.prohibited,
                report.port_unreachable,
            ) = (1, 1, 1);
        };
        let last = observations(all, Receiver::Sniffer).pop();
        assert_eq!(last, Some(Observation::Arrived));
        assert!(observations(|_| {}, Receiver::Socket).is_empty());
    }
}
