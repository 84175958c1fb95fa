//! The sockets of tunnels take no ICMP errors for a while after too many of them.
//!
//! In: how many entries an error queue had. Out: the socket option that makes the kernel queue errors (ip(7),
//! `IP_RECVERR`), off for [`PAUSE`] and then on again. Invariant: a flood of errors, which anybody can forge, fills the
//! receive buffer for at most a part of the time. The queue uses the same memory as what the socket receives
//! (`sock_queue_err_skb` in `net/core/skbuff.c`), and the answers to handshakes must fit there. Switching the option off
//! frees the queue. Path MTUs follow ICMP without it (`__udp4_lib_err` in `net/ipv4/udp.c`).

use std::time::{Duration, Instant};

use socket2::Socket;

use crate::socket::Family;

/// How long no errors are taken.
const PAUSE: Duration = Duration::from_secs(4);

/// The pauses of the sockets of tunnels.
#[derive(Debug, Default)]
pub(crate) struct ErrorPauses([Option<Instant>; Family::ALL.len()]);

impl ErrorPauses {
    /// Whether the kernel queues errors at the socket; ends a pause that is over.
    pub(crate) fn takes_errors(&mut self, family: Family, socket: &Socket, now: Instant) -> bool {
        let end = &mut self.0[family as usize];
        if end.is_some_and(|end| now < end) {
            return false;
        }
        if end.take().is_some() {
            // It was set when the socket was opened; so the kernel accepts it.
            let _ = family.queue_errors().set(socket, 1);
        }
        true
    }

    /// Begins a pause, and frees the queue.
    pub(crate) fn begin(&mut self, family: Family, socket: &Socket, now: Instant) {
        if family.queue_errors().set(socket, 0).is_ok() {
            self.0[family as usize] = Some(now + PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::{SocketConfig, Sockets};

    #[test]
    fn a_pause_switches_the_errors_of_one_family_off_and_on_again() {
        let config = SocketConfig {
            has_tunnel: true,
            ..SocketConfig::new(0)
        };
        let sockets = Sockets::open(config).unwrap();
        let [Some(v4), Some(v6)] = sockets.tunnels().unwrap() else {
            panic!("both families");
        };
        let mut pauses = ErrorPauses::default();
        let option = |family: Family, socket: &Socket| family.queue_errors().get(socket).unwrap();
        let start = Instant::now();
        assert!(pauses.takes_errors(Family::V4, &v4, start));
        pauses.begin(Family::V4, &v4, start);
        assert_eq!((option(Family::V4, &v4), option(Family::V6, &v6)), (0, 1));
        assert!(!pauses.takes_errors(Family::V4, &v4, start + PAUSE / 2));
        assert!(pauses.takes_errors(Family::V6, &v6, start + PAUSE / 2));
        assert_eq!(option(Family::V4, &v4), 0);
        assert!(pauses.takes_errors(Family::V4, &v4, start + PAUSE));
        assert_eq!(option(Family::V4, &v4), 1);
    }
}
