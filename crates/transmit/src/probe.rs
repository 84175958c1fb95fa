//! Asks the hosts of sensors whether they are there.
//!
//! In: a sensor's host. Out: what the network results, some time later. The question is an empty
//! datagram to the discard port (RFC 863): it makes the kernel look for the way and the neighbour,
//! as a mirrored datagram would, and no sensor decodes it. A host that is there says that nobody
//! listens or that its firewall refuses, or nothing; a host that is not is reported by the kernel or
//! by a router. What a firewall on the way says is neither.
//!
//! The sockets are opened with the others, before the capabilities are dropped, and marked like
//! them: what they send is kept out of the ring. They are the control side's.

use std::net::{IpAddr, SocketAddr};

use socket2::SockAddr;

use crate::error_queue::ErrorQueue;
use crate::icmp::IcmpError;
use crate::socket::{Family, OpenError, ProbeSockets, SocketConfig};

/// Nobody decodes what comes to this port.
const DISCARD_PORT: u16 = 9;
/// As many results are read from a socket at a time.
const RESULTS_MAX: usize = 64;
/// The answer to an earlier question makes the next send fail, once, and nothing is sent then.
const ATTEMPTS: usize = 2;

/// What is known of a host that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeResult {
    /// There is no way to it, or nobody at its end.
    Unreachable {
        /// Who says so; see [`IcmpError::Unreachable`].
        by: Option<IpAddr>,
    },
    /// It is there: it says itself that nobody listens on the port, or that it refuses.
    Reached,
}

impl ProbeResult {
    /// What an ICMP message about a question says of the host, if anything.
    const fn of(verdict: IcmpError) -> Option<Self> {
        match verdict {
            IcmpError::PortUnreachable | IcmpError::RefusedByHost => Some(Self::Reached),
            IcmpError::Unreachable { by } => Some(Self::Unreachable { by }),
            IcmpError::Prohibited { .. } | IcmpError::TooLong | IcmpError::Other => None,
        }
    }
}

/// Sockets to probe with.
#[derive(Debug)]
pub struct Prober {
    sockets: ProbeSockets,
    error_queue: ErrorQueue,
    /// Before the first question there is no answer, and nothing to read.
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

    /// The UDP port that the questions leave by, the same in both address families.
    #[must_use]
    pub const fn source_port(&self) -> u16 {
        self.sockets.port
    }

    /// Asks a host. Where the kernel knows of no way nothing is asked, and no answer comes.
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

    /// Reads what has come in since the last call.
    pub fn results(&mut self) -> Vec<(IpAddr, ProbeResult)> {
        let mut results = Vec::new();
        if !self.has_probed {
            return results;
        }
        for socket in self.sockets.all() {
            for _ in 0..RESULTS_MAX {
                let Some(entry) = self.error_queue.take(socket) else {
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
        for (verdict, answer) in [
            (IcmpError::PortUnreachable, Some(ProbeResult::Reached)),
            (IcmpError::RefusedByHost, Some(ProbeResult::Reached)),
            (IcmpError::Unreachable { by: Some(by) }, Some(unreachable)),
            (IcmpError::Prohibited { by }, None),
            (IcmpError::TooLong, None),
            (IcmpError::Other, None),
        ] {
            assert_eq!(ProbeResult::of(verdict), answer, "{verdict:?}");
        }
    }
}
