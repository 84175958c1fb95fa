//! What an error of `sendmmsg` means.
//!
//! An error number is ambiguous. With `IP_RECVERR` an ICMP message about an *earlier* datagram, to
//! whichever sensor, is put into the error queue and makes the *next* send on that socket fail with
//! the number it stands for; nothing is sent then, and the pending error is cleared. So an error
//! belongs to the datagram at hand only if it comes again and the error queue, emptied in between,
//! held nothing from the network. One retry is made in any case: the kernel queues the message a
//! moment before it sets the pending error (`__udp4_lib_err`), and we may look in between.
//!
//! Which numbers ICMP messages become: `icmp_err_convert` in `net/ipv4/icmp.c`,
//! `icmpv6_err_convert` in `net/ipv6/icmp.c`.

use nix::errno::Errno;

/// How many times a datagram is tried against errors that may be those of others. Each retry needs
/// an ICMP message that arrives between two system calls.
const ATTEMPTS: u32 = 8;

/// What went wrong, as far as the number tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A signal came in.
    Interrupted,
    /// The socket's send buffer is full; the kernel says when there is room.
    BufferFull,
    /// The interface's queue is full, or memory is short; nobody says when that is over.
    QueueFull,
    /// The datagram is longer than what the path takes.
    TooLong,
    /// There is no way to the sensor.
    Unreachable,
    /// The network's answer to an earlier datagram, and nothing else.
    Answer,
    /// A firewall's verdict on this datagram, and nothing else.
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

    /// Whether the error is the datagram's own, after so many failures of it in a row, this one
    /// included, and with or without something from the network in the error queue just now.
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
