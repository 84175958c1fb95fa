//! Why a datagram from the network is refused.
//!
//! Each reason is declared once, with its label. The labels are stable: logs and metrics contain them.

use core::fmt;

use boringtun::noise::errors::WireGuardError;

macro_rules! refusals {
    ($($(#[doc = $text:literal])+ $reason:ident => $label:literal,)+) => {
        /// Why a datagram from the network is refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Refusal {
            $($(#[doc = $text])+ $reason,)+
        }

        impl Refusal {
            /// All reasons, each at its own number.
            pub const ALL: &[Self] = &[$(Self::$reason,)+];

            /// The name in logs and metrics.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$reason => $label,)+
                }
            }
        }
    };
}

refusals! {
    /// It is shorter than the shortest message, or than its inner headers.
    TooShort => "too_short",
    /// It does not fit the caller's buffer.
    TooLong => "too_long",
    /// It is no message of WireGuard, or has not the length of its type.
    UnknownType => "unknown_type",
    /// It is a message that this end does not take: a response at the responder, an initiation at the
    /// initiator.
    UnexpectedType => "unexpected_type",
    /// Its session is not known here.
    UnknownIndex => "unknown_index",
    /// Its session is too old, or has had too many datagrams.
    Expired => "expired",
    /// Its counter was seen before, or is far behind.
    Replayed => "replayed",
    /// It was not sealed with the key of its session, or not made with the right keys.
    NotAuthentic => "not_authentic",
    /// What was sealed is not an IP packet.
    NotIp => "not_ip",
    /// What was sealed is a fragment of an IP packet.
    Fragment => "fragment",
    /// What was sealed is not UDP.
    NotUdp => "not_udp",
    /// What was sealed is not for the port of VXLAN.
    WrongPort => "wrong_port",
    /// The length fields of what was sealed do not agree with each other or with its length.
    LengthMismatch => "length_mismatch",
    /// The initiation was made without the responder's public key.
    Mac1 => "mac1",
    /// Under load: the initiator was sent a cookie, with which it can try again.
    CookieSent => "cookie_sent",
    /// The address has sent too many initiations.
    SourceRate => "source_rate",
    /// There are too many initiations altogether.
    TotalRate => "total_rate",
    /// The initiation is not newer than the last one with the same static key.
    ReplayedInitiation => "replayed_initiation",
    /// There are as many peers as there may be.
    Full => "full",
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl Refusal {
    /// What boringtun's error means here.
    pub(crate) const fn of(error: &WireGuardError) -> Self {
        match error {
            WireGuardError::DestinationBufferTooSmall => Self::TooLong,
            WireGuardError::InvalidMac => Self::Mac1,
            WireGuardError::WrongIndex
            | WireGuardError::UnexpectedPacket
            | WireGuardError::NoCurrentSession => Self::UnknownIndex,
            WireGuardError::InvalidCounter | WireGuardError::DuplicateCounter => Self::Replayed,
            WireGuardError::WrongTai64nTimestamp | WireGuardError::InvalidTai64nTimestamp => {
                Self::ReplayedInitiation
            }
            WireGuardError::ConnectionExpired => Self::Expired,
            WireGuardError::UnderLoad => Self::TotalRate,
            WireGuardError::IncorrectPacketLength | WireGuardError::WrongPacketType => {
                Self::UnknownType
            }
            // After authentication: neither version of IP, or longer than the datagram.
            WireGuardError::InvalidPacket => Self::NotIp,
            WireGuardError::WrongKey
            | WireGuardError::InvalidAeadTag
            | WireGuardError::LockFailed => Self::NotAuthentic,
        }
    }
}

/// A count for each reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Refused([u64; Refusal::ALL.len()]);

impl Refused {
    /// Counts one more.
    pub const fn count(&mut self, reason: Refusal) {
        self.0[reason as usize] += 1;
    }

    /// The count for one reason.
    #[must_use]
    pub const fn of(&self, reason: Refusal) -> u64 {
        self.0[reason as usize]
    }

    /// The sum over all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The reasons that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Refusal, u64)> {
        let all = Refusal::ALL
            .iter()
            .map(|reason| (*reason, self.of(*reason)));
        all.filter(|(_, count)| *count > 0)
    }
}

impl core::ops::AddAssign for Refused {
    fn add_assign(&mut self, other: Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_number_and_label() {
        let mut refused = Refused::default();
        for (at, reason) in Refusal::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, at);
            let same = |other: &&Refusal| other.label() == reason.label();
            assert_eq!(Refusal::ALL.iter().filter(same).count(), 1);
            refused.count(*reason);
            assert_eq!(refused.of(*reason), 1);
        }
        refused.count(Refusal::Mac1);
        assert_eq!(refused.total(), Refusal::ALL.len() as u64 + 1);
        assert!(refused.iter().any(|pair| pair == (Refusal::Mac1, 2)));
    }
}
