//! The meaning of an error of `sendmmsg`.
//!
//! An error number is ambiguous. With `IP_RECVERR`, the kernel puts an ICMP message about an *earlier*
//! datagram to any sensor into the error queue, and the *next* send on that socket fails with the
//! message's error number. That call sends nothing, and clears the pending error. So an error belongs to
//! the current datagram only if it occurs again and the error queue, emptied in between, had no entry
//! from the network. There is always one retry: the kernel queues the message shortly before it sets the
//! pending error (`__udp4_lib_err`), and podspan may read the queue in between.
//!
//! The error numbers of ICMP messages: `icmp_err_convert` in `net/ipv4/icmp.c`, `icmpv6_err_convert` in
//! `net/ipv6/icmp.c`.

use nix::errno::Errno;

/// How often a datagram is tried when the errors may belong to other datagrams. Each further retry
/// requires an ICMP message that arrives between two system calls.
const ATTEMPTS: u32 = 8;

/// The meaning of an error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A signal came in.
    Interrupted,
    /// The socket's send buffer is full; poll(2) reports when there is room.
    BufferFull,
    /// The interface's queue is full, or memory is short; the kernel does not report when this is over.
    QueueFull,
    /// The datagram is too long for the path.
    TooLong,
    /// There is no route to the sensor.
    Unreachable,
    /// Always an ICMP error about an earlier datagram.
    Answer,
    /// Always a firewall's refusal of this datagram.
    Forbidden,
    /// Anything else.
    Other,
}

impl Cause {
    pub(crate) const fn of(errno: Errno) -> Self {
        match errno {
            Errno::EINTR => Self::Interrupted,
            Errno::EAGAIN => Self::BufferFull,
            Errno::ENOBUFS | Errno::ENOMEM => Self::QueueFull,
            Errno::EMSGSIZE => Self::TooLong,
            Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::ENETDOWN | Errno::EADDRNOTAVAIL => {
                Self::Unreachable
            }
            Errno::ECONNREFUSED
            | Errno::EHOSTDOWN
            | Errno::ENONET
            | Errno::ENOPROTOOPT
            | Errno::EOPNOTSUPP
            | Errno::EPROTO => Self::Answer,
            Errno::EPERM => Self::Forbidden,
            _ => Self::Other,
        }
    }

    /// Whether the error is the datagram's own. `failures`: how often it has failed in a row, including
    /// this time. `from_network`: the error queue had an entry from the network.
    pub(crate) const fn is_own(self, failures: u32, from_network: bool) -> bool {
        match self {
            Self::BufferFull | Self::QueueFull | Self::Forbidden => true,
            _ if failures >= ATTEMPTS => true,
            Self::Interrupted | Self::Answer => false,
            Self::TooLong | Self::Unreachable | Self::Other => failures > 1 && !from_network,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_number_has_its_cause() {
        use Cause::*;
        let cases = [
            (Errno::EINTR, Interrupted),
            (Errno::EAGAIN, BufferFull),
            (Errno::ENOBUFS, QueueFull),
            (Errno::ENOMEM, QueueFull),
            (Errno::EMSGSIZE, TooLong),
            (Errno::EHOSTUNREACH, Unreachable),
            (Errno::ENETUNREACH, Unreachable),
            (Errno::ENETDOWN, Unreachable),
            (Errno::EADDRNOTAVAIL, Unreachable),
            (Errno::ECONNREFUSED, Answer),
            (Errno::EHOSTDOWN, Answer),
            (Errno::ENONET, Answer),
            (Errno::ENOPROTOOPT, Answer),
            (Errno::EOPNOTSUPP, Answer),
            (Errno::EPROTO, Answer),
            (Errno::EPERM, Forbidden),
            (Errno::EACCES, Other),
            (Errno::EINVAL, Other),
            (Errno::EFAULT, Other),
        ];
        for (errno, cause) in cases {
            assert_eq!(Cause::of(errno), cause, "{errno}");
        }
    }

    #[test]
    fn an_error_is_the_datagrams_own_when_nothing_else_explains_it() {
        use Cause::*;
        // Cause; after the first failure with the queue empty, with something in it; the second;
        // the last.
        let cases = [
            (Interrupted, [false, false, false, false, true, true]),
            (BufferFull, [true, true, true, true, true, true]),
            (QueueFull, [true, true, true, true, true, true]),
            (TooLong, [false, false, true, false, true, true]),
            (Unreachable, [false, false, true, false, true, true]),
            (Answer, [false, false, false, false, true, true]),
            (Forbidden, [true, true, true, true, true, true]),
            (Other, [false, false, true, false, true, true]),
        ];
        for (cause, expected) in cases {
            let seen = [1, 2, ATTEMPTS]
                .map(|failures| [cause.is_own(failures, false), cause.is_own(failures, true)]);
            assert_eq!(seen.as_flattened(), expected, "{cause:?}");
        }
    }
}
