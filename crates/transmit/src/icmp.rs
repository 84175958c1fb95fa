//! The meaning of an ICMP error about a datagram.
//!
//! In: type and code, the sender of the error, and the destination of the datagram. Out: [`IcmpError`].
//! An error number is less exact: `icmp_err_convert` converts "host unreachable" and "prohibited" into
//! the same `EHOSTUNREACH`, and a firewall may answer for a host that is alive and gets every datagram.
//!
//! An error that the destination itself sends proves that the host is alive only if it is about a port or
//! a prohibition. If the destination is translated on the way (a Service's address, a load balancer), the
//! kernel replaces the sender of an ICMP error from behind the translation by the destination
//! (`nf_nat_icmp_reply_translation`). So "host unreachable" from the destination may come from a router.
//! A prohibition by a router behind a translation looks the same as one by the host.
//!
//! Nothing of this is authenticated: anybody who can forge the address of a sensor or a router can send
//! any of these errors. The caller decides how to react.
//!
//! Sources: RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1, RFC 4443 section 3.

use std::net::IpAddr;

/// The meaning of an ICMP error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpError {
    /// The destination's own host reports that no program listens on the port: it is alive.
    PortUnreachable,
    /// A firewall on the destination's own host refuses the datagram: the host is alive, and the
    /// datagram arrived at its interface.
    RefusedByHost,
    /// A firewall on the way refuses the datagram.
    Prohibited {
        /// The address of the firewall.
        by: IpAddr,
    },
    /// There is no route to the host, or the host does not answer.
    Unreachable {
        /// The sender of the error: a router, or this machine if a neighbour does not answer
        /// (`arp_error_report` and `ndisc_error_report` of the kernel). The destination's address means a
        /// router behind a translation. None: the kernel did not report it.
        by: Option<IpAddr>,
    },
    /// The datagram is too long for the path.
    TooLong,
    /// Another error, for example an unknown header.
    Other,
}

/// The version of ICMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IcmpVersion {
    /// RFC 792.
    V4,
    /// RFC 4443.
    V6,
}

/// The meaning of type and code, for any sender.
enum Kind {
    Port,
    /// Sent by the firewall of a host or of a router.
    Prohibited,
    /// Sent only by routers: a refused precedence.
    Precedence,
    Unreachable,
    TooLong,
    Other,
}

const fn kind(version: IcmpVersion, kind: u8, code: u8) -> Kind {
    match (version, kind, code) {
        (IcmpVersion::V4, 3, 3) | (IcmpVersion::V6, 1, 4) => Kind::Port,
        (IcmpVersion::V4, 3, 4) | (IcmpVersion::V6, 2, _) => Kind::TooLong,
        // RFC 1812: network, host, filtering. RFC 4443: policy, a refused source address, a route
        // that rejects.
        (IcmpVersion::V4, 3, 9 | 10 | 13) | (IcmpVersion::V6, 1, 1 | 5 | 6) => Kind::Prohibited,
        (IcmpVersion::V4, 3, 14 | 15) => Kind::Precedence,
        // The rest of "destination unreachable", and the exceeded hop limit of a loop.
        (IcmpVersion::V4, 3, _)
        | (IcmpVersion::V6, 1, _)
        | (IcmpVersion::V4, 11, 0)
        | (IcmpVersion::V6, 3, 0) => Kind::Unreachable,
        _ => Kind::Other,
    }
}

impl IcmpError {
    /// Reads an ICMP error about a datagram to `destination`, sent by `offender`.
    pub(crate) fn of(
        version: IcmpVersion,
        (icmp_type, code): (u8, u8),
        offender: Option<IpAddr>,
        destination: IpAddr,
    ) -> Self {
        let by_host = offender == Some(destination);
        match (kind(version, icmp_type, code), offender) {
            (Kind::TooLong, _) => Self::TooLong,
            (Kind::Port, _) if by_host => Self::PortUnreachable,
            (Kind::Prohibited, _) if by_host => Self::RefusedByHost,
            // A router has no ports: this is the default refusal of a firewall.
            (Kind::Port | Kind::Prohibited | Kind::Precedence, Some(by)) => Self::Prohibited { by },
            // A host never reports that it is unreachable itself. With the host's address, the error
            // comes from a router behind a translation.
            (Kind::Unreachable, by) => Self::Unreachable { by },
            (Kind::Port | Kind::Prohibited | Kind::Precedence, None) | (Kind::Other, _) => {
                Self::Other
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(
        version: IcmpVersion,
        icmp_type: u8,
        offender: IpAddr,
        host: IpAddr,
    ) -> Vec<IcmpError> {
        let error = |code| IcmpError::of(version, (icmp_type, code), Some(offender), host);
        (0..16).map(error).collect()
    }

    #[test]
    fn errors_of_a_router_over_ipv4_are_classified() {
        let [host, by] = [1, 2].map(|number| IpAddr::from([192, 0, 2, number]));
        let (prohibited, unreachable) = (
            IcmpError::Prohibited { by },
            IcmpError::Unreachable { by: Some(by) },
        );
        let mut expected = vec![unreachable; 16];
        expected[4] = IcmpError::TooLong;
        for code in [3, 9, 10, 13, 14, 15] {
            expected[code] = prohibited;
        }
        assert_eq!(errors(IcmpVersion::V4, 3, by, host), expected);
        assert_eq!(errors(IcmpVersion::V4, 11, by, host)[0], unreachable);
        assert_eq!(errors(IcmpVersion::V4, 12, by, host)[0], IcmpError::Other);
    }

    #[test]
    fn errors_of_a_router_over_ipv6_are_classified() {
        let [host, by] = [1, 2].map(|number| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, number]));
        let mut expected = vec![IcmpError::Unreachable { by: Some(by) }; 16];
        for code in [1, 4, 5, 6] {
            expected[code] = IcmpError::Prohibited { by };
        }
        assert_eq!(errors(IcmpVersion::V6, 1, by, host), expected);
        assert_eq!(errors(IcmpVersion::V6, 2, by, host)[0], IcmpError::TooLong);
        assert_eq!(errors(IcmpVersion::V6, 3, by, host)[0], expected[0]);
        assert_eq!(errors(IcmpVersion::V6, 4, by, host)[0], IcmpError::Other);
    }

    #[test]
    fn an_error_of_the_hosts_port_or_firewall_proves_that_it_is_alive() {
        let v4 = IpAddr::from([192, 0, 2, 1]);
        let v6 = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]);
        for (version, icmp_type, host, port, firewall) in [
            (IcmpVersion::V4, 3, v4, 3, [9, 10, 13]),
            (IcmpVersion::V6, 1, v6, 4, [1, 5, 6]),
        ] {
            let errors = errors(version, icmp_type, host, host);
            let codes = |of: IcmpError| -> Vec<usize> {
                (0..16).filter(|code| errors[*code] == of).collect()
            };
            assert_eq!(codes(IcmpError::PortUnreachable), [port]);
            assert_eq!(codes(IcmpError::RefusedByHost), firewall);
        }
    }

    #[test]
    fn a_routers_error_behind_nat_does_not_prove_that_the_sensor_is_alive() {
        let v4 = IpAddr::from([192, 0, 2, 1]);
        let v6 = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]);
        let codes: [(_, u8, _, &[u8]); 4] = [
            (IcmpVersion::V4, 3, v4, &[0, 1, 2, 5, 6, 7, 8, 11, 12]),
            (IcmpVersion::V4, 11, v4, &[0]),
            (IcmpVersion::V6, 1, v6, &[0, 2, 3]),
            (IcmpVersion::V6, 3, v6, &[0]),
        ];
        for (version, icmp_type, sensor, codes) in codes {
            for code in codes {
                let kind = (icmp_type, *code);
                let error = IcmpError::of(version, kind, Some(sensor), sensor);
                let by = Some(sensor);
                assert_eq!(error, IcmpError::Unreachable { by }, "{kind:?}");
            }
        }
        // Only routers check the precedence of a datagram (RFC 1812).
        for code in [14, 15] {
            let error = IcmpError::of(IcmpVersion::V4, (3, code), Some(v4), v4);
            assert_eq!(error, IcmpError::Prohibited { by: v4 });
        }
    }

    #[test]
    fn without_a_sender_an_error_is_unreachable_or_other() {
        let host = IpAddr::from([192, 0, 2, 1]);
        let error = |code| IcmpError::of(IcmpVersion::V4, (3, code), None, host);
        assert_eq!(error(1), IcmpError::Unreachable { by: None });
        assert_eq!([error(3), error(13)], [IcmpError::Other; 2]);
    }
}
