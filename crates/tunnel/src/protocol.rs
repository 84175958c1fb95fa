//! The numbers of the protocol: lengths, types and times of messages.
//!
//! Source: the paper, sections 5.4 (messages) and 6.1 (constants).

use std::time::Duration;

/// Bytes of a handshake initiation.
pub const INITIATION_LEN: usize = 148;
/// Bytes of a handshake response.
pub const RESPONSE_LEN: usize = 92;
/// Bytes of a cookie reply.
pub const COOKIE_LEN: usize = 64;
/// Bytes before the sealed packet in a transport datagram: type, receiver's index, counter.
pub const TRANSPORT_HEADER_LEN: usize = 16;
/// Bytes of the authentication tag after the sealed packet.
pub const TAG_LEN: usize = 16;
/// Bytes of a transport datagram without a packet: a keepalive, and the shortest one.
pub const KEEPALIVE_LEN: usize = TRANSPORT_HEADER_LEN + TAG_LEN;

/// Age of a session at which the initiator makes the next one.
pub const REKEY_AFTER: Duration = Duration::from_mins(2);
/// Age of a session at which neither end uses it.
pub const REJECT_AFTER: Duration = Duration::from_mins(3);
/// How many datagrams are sealed in one session. The paper's number; no sender reaches it.
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// The first counter of a datagram that the receiver refuses.
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// How long an initiator repeats initiations of one handshake.
pub const REKEY_ATTEMPT: Duration = Duration::from_secs(90);
/// The time between two initiations, before jitter.
pub const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// The time between two keepalives of an end that receives data and sends none.
pub const KEEPALIVE: Duration = Duration::from_secs(10);
/// How long an end sends data without an answer before it takes the other one for gone.
pub const SILENCE: Duration = KEEPALIVE.saturating_add(REKEY_TIMEOUT);

/// The type of a message: its first four bytes, of which the last three are reserved and zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A handshake initiation, of its length.
    Initiation,
    /// A handshake response, of its length.
    Response,
    /// A cookie reply, of its length.
    Cookie,
    /// A transport datagram, at least as long as a keepalive.
    Transport,
}

impl Kind {
    /// The type of a datagram; none if the type is unknown or the length is not the type's.
    pub(crate) fn of(datagram: &[u8]) -> Option<Self> {
        match (word(datagram, 0)?, datagram.len()) {
            (1, INITIATION_LEN) => Some(Self::Initiation),
            (2, RESPONSE_LEN) => Some(Self::Response),
            (3, COOKIE_LEN) => Some(Self::Cookie),
            (4, KEEPALIVE_LEN..) => Some(Self::Transport),
            _ => None,
        }
    }
}

/// Four bytes of a message as its fields are read: little endian.
pub(crate) fn word(message: &[u8], at: usize) -> Option<u32> {
    let bytes = message.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

/// The index of the receiver's session in a transport datagram, and the counter.
pub(crate) fn transport_header(datagram: &[u8]) -> Option<(u32, u64)> {
    let counter = datagram.get(8..)?.first_chunk()?;
    Some((word(datagram, 4)?, u64::from_le_bytes(*counter)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, length: usize) -> Vec<u8> {
        let mut message = vec![0; length];
        message[0] = kind;
        message
    }

    #[test]
    fn a_message_has_the_length_of_its_type() {
        for (kind, length, expected) in [
            (1, INITIATION_LEN, Kind::Initiation),
            (2, RESPONSE_LEN, Kind::Response),
            (3, COOKIE_LEN, Kind::Cookie),
        ] {
            for other in 0..200 {
                let found = Kind::of(&message(kind, other.max(1)));
                assert_eq!(found, (other == length).then_some(expected));
            }
        }
        assert_eq!(Kind::of(&message(4, 31)), None);
        assert_eq!(Kind::of(&message(4, 32)), Some(Kind::Transport));
        assert_eq!(Kind::of(&message(4, 65_535)), Some(Kind::Transport));
    }

    #[test]
    fn reserved_bytes_are_zero() {
        let mut reserved = message(4, 32);
        reserved[3] = 1;
        assert_eq!(Kind::of(&reserved), None);
        assert_eq!(Kind::of(&message(0, 32)), None);
        assert_eq!(Kind::of(&message(5, 32)), None);
        assert_eq!(Kind::of(&[]), None);
    }

    #[test]
    fn the_fields_of_a_transport_header_are_little_endian() {
        let datagram: Vec<u8> = (0..32).collect();
        let (index, counter) = transport_header(&datagram).unwrap();
        assert_eq!(index, 0x0706_0504);
        assert_eq!(counter, 0x0f0e_0d0c_0b0a_0908);
        assert_eq!(transport_header(&datagram[..15]), None);
    }
}
