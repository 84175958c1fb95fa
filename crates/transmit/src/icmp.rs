//! What an ICMP error says about the way of a datagram.
//!
//! In: type and code, who sent it, and where the datagram went. Out: [`Verdict`]. An error number
//! says less: `icmp_err_convert` makes "host unreachable" and "prohibited" the same `EHOSTUNREACH`,
//! and a firewall may answer for a host that is alive and gets every datagram.
//!
//! Nothing of this is authenticated: whoever can forge the address of a sensor or a router can send
//! any of it. What follows from a verdict is the caller's decision.
//!
//! Sources: RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1, RFC 4443 section 3.

use std::net::IpAddr;

/// What an ICMP error says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody listens on the port, says the destination's own host: it is alive.
    PortUnreachable,
    /// The destination's own host refuses the datagram for another reason, usually a firewall on
    /// it: it is alive, and the datagram arrived at its interface.
    RefusedByHost,
    /// A firewall on the way refuses the datagram.
    Prohibited {
        /// Whose.
        by: IpAddr,
    },
    /// There is no way to the host, or nobody at its end.
    Unreachable {
        /// Who says so: a router, or this machine when a neighbour does not answer
        /// (`arp_error_report` and `ndisc_error_report` of the kernel). None: the kernel did not
        /// say.
        by: Option<IpAddr>,
    },
    /// The datagram is longer than what the path takes.
    TooLong,
    /// Something else, such as a header that somebody did not understand.
    Other,
}

/// Which ICMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// RFC 792.
    V4,
    /// RFC 4443.
    V6,
}

/// Type and code, whatever the sender.
enum Kind {
    Port,
    Prohibited,
    Unreachable,
    TooLong,
    Other,
}

const fn kind(version: Version, kind: u8, code: u8) -> Kind {
    match (version, kind, code) {
        (Version::V4, 3, 3) | (Version::V6, 1, 4) => Kind::Port,
        (Version::V4, 3, 4) | (Version::V6, 2, _) => Kind::TooLong,
        // RFC 1812: network, host, filtering, precedence. RFC 4443: policy, a refused source
        // address, a route that rejects.
        (Version::V4, 3, 9 | 10 | 13..=15) | (Version::V6, 1, 1 | 5 | 6) => Kind::Prohibited,
        // The rest of "destination unreachable", and the loop that a hop limit ends.
        (Version::V4, 3, _) | (Version::V6, 1, _) | (Version::V4, 11, 0) | (Version::V6, 3, 0) => {
            Kind::Unreachable
        }
        _ => Kind::Other,
    }
}

impl Verdict {
    /// Reads an ICMP error about a datagram to `destination`, sent by `offender`.
    pub(crate) fn of(
        version: Version,
        (icmp_type, code): (u8, u8),
        offender: Option<IpAddr>,
        destination: IpAddr,
    ) -> Self {
        let by_host = offender == Some(destination);
        match (kind(version, icmp_type, code), offender) {
            (Kind::TooLong, _) => Self::TooLong,
            (Kind::Port, _) if by_host => Self::PortUnreachable,
            // A host does not say of itself that it is unreachable; its firewall may.
            (Kind::Prohibited | Kind::Unreachable, _) if by_host => Self::RefusedByHost,
            // A port is not a router's to speak of; it is how a firewall refuses by default.
            (Kind::Port | Kind::Prohibited, Some(by)) => Self::Prohibited { by },
            (Kind::Unreachable, by) => Self::Unreachable { by },
            (Kind::Other, _) | (Kind::Port | Kind::Prohibited, None) => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(version: Version, icmp_type: u8, offender: IpAddr, host: IpAddr) -> Vec<Verdict> {
        let verdict = |code| Verdict::of(version, (icmp_type, code), Some(offender), host);
        (0..16).map(verdict).collect()
    }

    #[test]
    fn what_a_router_says_of_a_host_over_ipv4() {
        let [host, by] = [1, 2].map(|number| IpAddr::from([192, 0, 2, number]));
        let (prohibited, unreachable) = (
            Verdict::Prohibited { by },
            Verdict::Unreachable { by: Some(by) },
        );
        let mut expected = vec![unreachable; 16];
        expected[4] = Verdict::TooLong;
        for code in [3, 9, 10, 13, 14, 15] {
            expected[code] = prohibited;
        }
        assert_eq!(verdicts(Version::V4, 3, by, host), expected);
        assert_eq!(verdicts(Version::V4, 11, by, host)[0], unreachable);
        assert_eq!(verdicts(Version::V4, 12, by, host)[0], Verdict::Other);
    }

    #[test]
    fn what_a_router_says_of_a_host_over_ipv6() {
        let [host, by] = [1, 2].map(|number| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, number]));
        let mut expected = vec![Verdict::Unreachable { by: Some(by) }; 16];
        for code in [1, 4, 5, 6] {
            expected[code] = Verdict::Prohibited { by };
        }
        assert_eq!(verdicts(Version::V6, 1, by, host), expected);
        assert_eq!(verdicts(Version::V6, 2, by, host)[0], Verdict::TooLong);
        assert_eq!(verdicts(Version::V6, 3, by, host)[0], expected[0]);
        assert_eq!(verdicts(Version::V6, 4, by, host)[0], Verdict::Other);
    }

    #[test]
    fn whatever_a_host_says_of_itself_it_is_not_unreachable() {
        let v4 = IpAddr::from([192, 0, 2, 1]);
        let v6 = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]);
        for (version, icmp_type, host, port) in [(Version::V4, 3, v4, 3), (Version::V6, 1, v6, 4)] {
            let mut expected = vec![Verdict::RefusedByHost; 16];
            expected[port] = Verdict::PortUnreachable;
            if version == Version::V4 {
                expected[4] = Verdict::TooLong;
            }
            assert_eq!(verdicts(version, icmp_type, host, host), expected);
        }
    }

    #[test]
    fn without_a_sender_only_the_way_is_in_doubt() {
        let host = IpAddr::from([192, 0, 2, 1]);
        let verdict = |code| Verdict::of(Version::V4, (3, code), None, host);
        assert_eq!(verdict(1), Verdict::Unreachable { by: None });
        assert_eq!([verdict(3), verdict(13)], [Verdict::Other; 2]);
    }
}
