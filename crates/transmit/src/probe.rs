//! Asks sensors that were said to be unreachable whether they are again.
//!
//! In: a sensor's address. Out: what the network answers, some time later. The question is an empty
//! datagram to the discard port (RFC 863): it makes the kernel look for the way and the neighbour,
//! as a mirrored datagram would, and no sensor decodes it. A host that is there says that nobody
//! listens, or nothing; a host that is not is reported by the kernel or by a router.
//!
//! The sockets are opened with the others, before the capabilities are dropped, and marked like
//! them: what they send is kept out of the ring. They are the control side's.

use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;
use socket2::SockAddr;

use crate::error_queue::ErrorQueue;
use crate::socket::{Family, OpenError, ProbeSockets, SocketConfig};

/// Nobody decodes what comes to this port.
const DISCARD_PORT: u16 = 9;
/// As many answers are read from a socket at a time.
const ANSWERS_MAX: usize = 64;

/// What is known of a host that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// There is no way to it, or nobody at its end.
    Unreachable,
    /// It is there: it says that nobody listens on the port.
    Reached,
}

/// Sockets to ask with.
#[derive(Debug)]
pub struct Prober {
    sockets: ProbeSockets,
    error_queue: ErrorQueue,
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
        })
    }

    /// The UDP port that the questions leave by, the same in both address families.
    #[must_use]
    pub const fn source_port(&self) -> u16 {
        self.sockets.port
    }

    /// Asks a host; the answer is there at once when the kernel knows of no way.
    pub fn ask(&mut self, host: IpAddr) -> Option<Answer> {
        let to = SocketAddr::new(host, DISCARD_PORT);
        let Some(socket) = self.sockets.get(Family::of(to)) else {
            return Some(Answer::Unreachable);
        };
        let error = socket.send_to(&[], &SockAddr::from(to)).err()?;
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENETUNREACH) => Some(Answer::Unreachable),
            // The answer to an earlier question surfaces here; `answers` reads it.
            _ => None,
        }
    }

    /// Reads what has come in since the last call.
    pub fn answers(&mut self) -> Vec<(IpAddr, Answer)> {
        let mut answers = Vec::new();
        for socket in self.sockets.all() {
            for _ in 0..ANSWERS_MAX {
                let Some(entry) = self.error_queue.take(socket) else {
                    break;
                };
                let Some(host) = entry.destination.map(|host| host.ip()) else {
                    continue;
                };
                let answer = match entry.errno {
                    Errno::ECONNREFUSED => Answer::Reached,
                    _ => Answer::Unreachable,
                };
                answers.push((host, answer));
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
        assert_eq!(prober.ask(host), None);
        assert_eq!(prober.answers(), [(host, Answer::Reached)]);
        assert!(prober.answers().is_empty());
    }
}
