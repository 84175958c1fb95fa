//! What the network's answers say of a sensor, and what of that is believed.
//!
//! In: the worker's report, and answers to probes. Out: [`Evidence`]. ICMP is not authenticated, so
//! what moves flows is decided here for each answer:
//!
//! | answer | receiver | evidence |
//! |-|-|-|
//! | no route, says the kernel when it is asked anew | any | fails |
//! | an IPv4 neighbour is silent, says this machine | any | fails: a packet from outside that has our own address as its source is dropped (`fib_validate_source`) |
//! | an IPv6 neighbour is silent, says our address | any | may fail: IPv6 has no such check |
//! | unreachable, says a router | any | may fail |
//! | prohibited, says a firewall on the way | any | may fail: datagrams do not arrive |
//! | nobody listens, says the host | socket | fails |
//! | refused, says the host's firewall | socket | fails |
//! | either of these two | sniffer | arrived: whoever sniffs gets a datagram before the host's firewall does (`__netif_receive_skb_core` of the kernel) |
//!
//! The host's own refusal of a socket can be forged too. It is believed, since a probe could not
//! confirm it: hosts send about one ICMP error a second to a peer (`icmp_ratelimit`), and the
//! mirrored datagrams use that up. `ejection` bounds what a forged one does.

use std::net::IpAddr;

use discovery::Receiver;
use transmit::{ProbeResult, SensorReport};

use crate::ejection::{Evidence, Failure};

/// Whether who says that a sensor is unreachable is this machine's kernel for sure.
pub(crate) trait Authentic {
    /// An ICMP message of this sender, or the kernel's routing where there is none.
    fn is_kernel(&self, by: Option<IpAddr>) -> bool;
}

/// What a report says of a sensor, what clears it last.
pub(crate) fn of_report(
    news: &SensorReport,
    receiver: Receiver,
    authentic: &impl Authentic,
) -> Vec<Evidence> {
    let said = |count: u64, evidence| (count > 0).then_some(evidence);
    let (port, firewall) = match receiver {
        Receiver::Socket => (
            Evidence::Failed(Failure::Refused),
            Evidence::Failed(Failure::Prohibited),
        ),
        Receiver::Sniffer => (Evidence::Arrived, Evidence::Arrived),
    };
    let unreachable = (news.unreachable > 0).then(|| unreachable(news.unreachable_by, authentic));
    [
        unreachable,
        said(news.prohibited, Evidence::MayFail(Failure::Prohibited)),
        said(news.port_unreachable, port),
        said(news.refused_by_host, firewall),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What the answer to a probe says of each sensor of the host.
pub(crate) fn of_answer(answer: ProbeResult, authentic: &impl Authentic) -> Evidence {
    match answer {
        ProbeResult::Reached => Evidence::Answered,
        ProbeResult::Unreachable { by } => unreachable(by, authentic),
    }
}

fn unreachable(by: Option<IpAddr>, authentic: &impl Authentic) -> Evidence {
    if authentic.is_kernel(by) {
        Evidence::Failed(Failure::Unreachable)
    } else {
        Evidence::MayFail(Failure::Unreachable)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    /// 10.0.0.1 is this machine, and the kernel has a route.
    struct Kernel;

    impl Authentic for Kernel {
        fn is_kernel(&self, by: Option<IpAddr>) -> bool {
            by == Some(IpAddr::from([10, 0, 0, 1]))
        }
    }

    fn evidence(change: impl Fn(&mut SensorReport), receiver: Receiver) -> Vec<Evidence> {
        let mut news = SensorReport::new(SocketAddr::from(([10, 0, 0, 2], 4789)));
        change(&mut news);
        of_report(&news, receiver, &Kernel)
    }

    #[test]
    fn each_answer_is_believed_as_far_as_it_can_be() {
        use Evidence::{Arrived, Failed, MayFail};
        use Failure::{Prohibited, Refused, Unreachable};
        type Change = fn(&mut SensorReport);
        let by = |last| Some(IpAddr::from([10, 0, 0, last]));
        let own: Change = |news| {
            news.unreachable = 1;
            news.unreachable_by = Some(IpAddr::from([10, 0, 0, 1]));
        };
        let routed: Change = |news| news.unreachable = 2;
        let on_the_way: Change = |news| news.prohibited = 1;
        let port: Change = |news| news.port_unreachable = 9;
        let host: Change = |news| news.refused_by_host = 1;
        // The answer; what it is to a sniffer, and to a socket.
        let cases = [
            (own, Failed(Unreachable), Failed(Unreachable)),
            (routed, MayFail(Unreachable), MayFail(Unreachable)),
            (on_the_way, MayFail(Prohibited), MayFail(Prohibited)),
            (port, Arrived, Failed(Refused)),
            (host, Arrived, Failed(Prohibited)),
        ];
        for (change, sniffer, socket) in cases {
            assert_eq!(evidence(change, Receiver::Sniffer), [sniffer]);
            assert_eq!(evidence(change, Receiver::Socket), [socket]);
        }
        assert_eq!(of_answer(ProbeResult::Reached, &Kernel), Evidence::Answered);
        for (by, expected) in [
            (by(1), Failed(Unreachable)),
            (by(254), MayFail(Unreachable)),
            (None, MayFail(Unreachable)),
        ] {
            let answer = ProbeResult::Unreachable { by };
            assert_eq!(of_answer(answer, &Kernel), expected);
        }
    }

    #[test]
    fn what_arrives_counts_last() {
        let all = |news: &mut SensorReport| {
            (news.unreachable, news.prohibited, news.port_unreachable) = (1, 1, 1);
        };
        let last = evidence(all, Receiver::Sniffer).pop();
        assert_eq!(last, Some(Evidence::Arrived));
        assert!(evidence(|_| {}, Receiver::Socket).is_empty());
    }
}
