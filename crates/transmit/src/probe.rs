//! Asks the hosts of sensors whether they are there.
//!
//! In: a sensor's host. Out: what the network answers, some time later. The question is an empty
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
use crate::icmp::Verdict;
use crate::socket::{Family, OpenError, ProbeSockets, SocketConfig};

/// Nobody decodes what comes to this port.
const DISCARD_PORT: u16 = 9;
/// As many answers are read from a socket at a time.
const ANSWERS_MAX: usize = 64;
/// The answer to an earlier question makes the next send fail, once, and nothing is sent then.
const ATTEMPTS: usize = 2;

/// What is known of a host that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// There is no way to it, or nobody at its end.
    Unreachable {
        /// Who says so; see [`Verdict::Unreachable`].
        by: Option<IpAddr>,
    },
    /// It is there: it says itself that nobody listens on the port, or that it refuses.
    Reached,
}

impl Answer {
    /// What an ICMP message about a question says of the host, if anything.
    const fn of(verdict: Verdict) -> Option<Self> {
        match verdict {
            Verdict::PortUnreachable | Verdict::RefusedByHost => Some(Self::Reached),
            Verdict::Unreachable { by } => Some(Self::Unreachable { by }),
            Verdict::Prohibited { .. } | Verdict::TooLong | Verdict::Other => None,
        }
    }
}

/// Sockets to ask with.
#[derive(Debug)]
pub struct Prober {
    sockets: ProbeSockets,
    error_queue: ErrorQueue,
    /// Before the first question there is no answer, and nothing to read.
    has_asked: bool,
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
            has_asked: false,
        })
    }

    /// The UDP port that the questions leave by, the same in both address families.
    #[must_use]
    pub const fn source_port(&self) -> u16 {
        self.sockets.port
    }

    /// Asks a host. Where the kernel knows of no way nothing is asked, and no answer comes.
    pub fn ask(&mut self, host: IpAddr) {
        let to = SocketAddr::new(host, DISCARD_PORT);
        let Some(socket) = self.sockets.get(Family::of(to)) else {
            return;
        };
        self.has_asked = true;
        for _ in 0..ATTEMPTS {
            if socket.send_to(&[], &SockAddr::from(to)).is_ok() {
                return;
            }
        }
    }

    /// Reads what has come in since the last call.
    pub fn answers(&mut self) -> Vec<(IpAddr, Answer)> {
        let mut answers = Vec::new();
        if !self.has_asked {
            return answers;
        }
        for socket in self.sockets.all() {
            for _ in 0..ANSWERS_MAX {
                let Some(entry) = self.error_queue.take(socket) else {
                    break;
                };
                let host = entry.destination.map(|host| host.ip());
                answers.extend(host.zip(entry.verdict.and_then(Answer::of)));
            }
        }
        answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_is_there_says_so() {
        let mut prober = Prober::open(&SocketConfig::new(0)).unwrap();
        let host: IpAddr = "127.0.0.1".parse().unwrap();
        prober.ask(host);
        assert_eq!(prober.answers(), [(host, Answer::Reached)]);
        assert!(prober.answers().is_empty());
    }

    #[test]
    fn only_the_host_itself_proves_that_it_is_there() {
        let by = IpAddr::from([192, 0, 2, 254]);
        let unreachable = Answer::Unreachable { by: Some(by) };
        for (verdict, answer) in [
            (Verdict::PortUnreachable, Some(Answer::Reached)),
            (Verdict::RefusedByHost, Some(Answer::Reached)),
            (Verdict::Unreachable { by: Some(by) }, Some(unreachable)),
            (Verdict::Prohibited { by }, None),
            (Verdict::TooLong, None),
            (Verdict::Other, None),
        ] {
            assert_eq!(Answer::of(verdict), answer, "{verdict:?}");
        }
    }
}
