//! Probes the hosts of sensors.
//!
//! In: a sensor's host. Out: the result, some time later. The probe is an empty datagram to the discard
//! port (RFC 863): the kernel looks up the route and the neighbour, as for a mirrored datagram, and no
//! sensor decodes it. A reachable host answers that no program listens or that its firewall refuses, or
//! does not answer. The kernel or a router reports an unreachable host. An error from a firewall on the
//! way is not a result.
//!
//! The sockets are opened with the others, before the capabilities are dropped, and have the same mark:
//! the ring's filter rejects the probes. The control side uses them.

use std::net::{IpAddr, SocketAddr};

use socket2::SockAddr;

use crate::error_queue::ErrorQueue;
use crate::icmp::IcmpError;
use crate::socket::{Family, OpenError, ProbeSockets, SocketConfig};

/// No sensor decodes datagrams to this port.
const DISCARD_PORT: u16 = 9;
/// How many results are read from a socket at a time.
const RESULTS_MAX: usize = 64;
/// An ICMP error about an earlier probe makes the next send fail once.
const ATTEMPTS: usize = 2;

/// The result of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeResult {
    /// There is no route to the host, or it does not answer.
    Unreachable {
        /// The sender of the error; see [`IcmpError::Unreachable`].
        by: Option<IpAddr>,
    },
    /// The host itself answered that no program listens on the port, or that it refuses.
    Reached,
}

impl ProbeResult {
    /// The result that follows from an ICMP error about a probe, if any.
    const fn of(error: IcmpError) -> Option<Self> {
        match error {
            IcmpError::PortUnreachable | IcmpError::RefusedByHost => Some(Self::Reached),
            IcmpError::Unreachable { by } => Some(Self::Unreachable { by }),
            IcmpError::Prohibited { .. } | IcmpError::TooLong | IcmpError::Other => None,
        }
    }
}

/// Sends probes and reads their results.
#[derive(Debug)]
pub struct Prober {
    sockets: ProbeSockets,
    error_queue: ErrorQueue,
    /// Before the first probe there is nothing to read.
    has_probed: bool,
}

impl Prober {
    /// Opens a socket of each address family that the network namespace has.
    ///
    /// # Errors
    /// As [`crate::Transmitter::open`].
    pub fn open(config: &SocketConfig) -> Result<Self, OpenError> {
        let sockets = ProbeSockets::open(*config)?;
        Ok(Self {
            sockets,
            error_queue: ErrorQueue::new(),
            has_probed: false,
        })
    }

    /// The UDP source port of the probes, the same in both address families.
    #[must_use]
    pub const fn source_port(&self) -> u16 {
        self.sockets.port
    }

    /// Probes a host. If there is no route, nothing is sent, and there is no result.
    pub fn probe(&mut self, host: IpAddr) {
        let to = SocketAddr::new(host, DISCARD_PORT);
        let Some(socket) = self.sockets.get(Family::of(to)) else {
            return;
        };
        self.has_probed = true;
        for _ in 0..ATTEMPTS {
            if socket.send_to(&[], &SockAddr::from(to)).is_ok() {
                return;
            }
        }
    }

    /// Reads the results since the last call.
    pub fn results(&mut self) -> Vec<(IpAddr, ProbeResult)> {
        let mut results = Vec::new();
        if !self.has_probed {
            return results;
        }
        for socket in self.sockets.all() {
            for _ in 0..RESULTS_MAX {
                let Some(entry) = self.error_queue.read(socket) else {
                    break;
                };
                let host = entry.destination.map(|host| host.ip());
                results.extend(host.zip(entry.icmp_error.and_then(ProbeResult::of)));
            }
        }
        results
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reachable_host_answers() {
        let mut prober = Prober::open(&SocketConfig::new(0)).unwrap();
        let host: IpAddr = "127.0.0.1".parse().unwrap();
        prober.probe(host);
        assert_eq!(prober.results(), [(host, ProbeResult::Reached)]);
        assert!(prober.results().is_empty());
    }

    #[test]
    fn only_an_answer_of_the_host_proves_that_it_is_reachable() {
        let by = IpAddr::from([192, 0, 2, 254]);
        let unreachable = ProbeResult::Unreachable { by: Some(by) };
        for (error, result) in [
            (IcmpError::PortUnreachable, Some(ProbeResult::Reached)),
            (IcmpError::RefusedByHost, Some(ProbeResult::Reached)),
            (IcmpError::Unreachable { by: Some(by) }, Some(unreachable)),
            (IcmpError::Prohibited { by }, None),
            (IcmpError::TooLong, None),
            (IcmpError::Other, None),
        ] {
            assert_eq!(ProbeResult::of(error), result, "{error:?}");
        }
    }
}
