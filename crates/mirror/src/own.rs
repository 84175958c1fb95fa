//! ICMP messages about our own datagrams.
//!
//! The ring's filter keeps out what we send, by mark; an ICMP error or redirect that quotes it comes
//! back unmarked. To mirror each would make the next datagram, which makes the next error: a
//! sniffing sensor answers each datagram with "port unreachable", and a router that knows a better
//! way redirects each. They are about us, not about the pod, so they stay out, counted.
//!
//! All that can be known must fit: it comes in, it quotes a datagram from where it goes to, from a
//! port that is bound by us; and where the quotation goes on to the VXLAN header, that is ours. To
//! whom does not matter: a sensor that is gone or ejected, and is probed, causes such messages too. But
//! who knows the port can forge all that and hide any bytes behind it. So some are mirrored,
//! [`PER_SECOND`] at most: an analyst sees that there are such messages, and what was sent in them,
//! while the number of copies that they cause stays bounded.

use wire::ip::{self, Network};
use wire::{Direction, Frame, Timestamp, vxlan};

use crate::quoted::{Quoted, addresses, quoted};

const UDP_HEADER_LEN: usize = 8;

/// How many ICMP messages about our own datagrams are mirrored in a second, and at once after a
/// quiet second.
pub const PER_SECOND: u32 = 10;

/// What is ours.
#[derive(Debug)]
pub(crate) struct OwnErrors {
    /// What each of our datagrams starts with.
    pub(crate) vxlan: [u8; vxlan::HEADER_LEN],
    /// The UDP ports that anything of ours leaves by.
    pub(crate) ports: Vec<u16>,
    /// Which of the messages about them are mirrored all the same.
    pub(crate) sample: TokenBucket,
}

impl OwnErrors {
    /// Whether a frame is an ICMP message to us about a datagram of ours, and one too many.
    pub(crate) fn rejects(&mut self, frame: &Frame<'_>, network: &Network) -> bool {
        let quotes_own_datagram = self.quotes_own_datagram(frame, network).unwrap_or(false);
        quotes_own_datagram && !self.sample.take(frame.timestamp)
    }

    /// `None` where the message ends before all is known.
    fn quotes_own_datagram(&self, frame: &Frame<'_>, network: &Network) -> Option<bool> {
        let Network::Ip(packet) = network else {
            return Some(false);
        };
        if !matches!(packet.protocol, ip::ICMP | ip::ICMPV6)
            || packet.is_fragment
            || frame.direction != Direction::Incoming
        {
            return Some(false);
        }
        let icmp = frame.bytes.get(packet.transport..packet.end)?;
        let Quoted {
            bytes,
            packet: inner,
            ..
        } = quoted(packet.protocol, icmp)?;
        let (_, to) = addresses(frame.bytes.get(packet.start..packet.end)?)?;
        let (source, _) = addresses(bytes)?;
        let udp = bytes.get(inner.transport..)?;
        let port = u16::from_be_bytes(*udp.first_chunk()?);
        let quotes_own_datagram = inner.protocol == ip::UDP
            && source == to
            && self.ports.contains(&port)
            && udp
                .get(UDP_HEADER_LEN..UDP_HEADER_LEN + vxlan::HEADER_LEN)
                .is_none_or(|found| found == self.vxlan);
        Some(quotes_own_datagram)
    }
}

/// Lets [`PER_SECOND`] pass: as many at once, and then one each time a part of a second is over. The
/// time is that of the frames, so nobody is asked for it; it goes back a little where blocks of several
/// rings take turns.
///
/// This is the generic cell rate algorithm (ITU-T I.371): the time at which the bucket would be full
/// again is all that it has to keep.
#[derive(Debug, Default)]
pub(crate) struct TokenBucket {
    full_at: u64,
    /// The latest time that a frame had.
    latest: u64,
}

impl TokenBucket {
    const SECOND: u64 = 1_000_000_000;
    const TOKEN: u64 = Self::SECOND / PER_SECOND as u64;
    /// A time that goes back further than a ring's frames can be old is that of a clock that was set.
    const SET_BACK: u64 = 60 * Self::SECOND;

    fn take(&mut self, now: Timestamp) -> bool {
        let now = u64::from(now.seconds) * Self::SECOND + u64::from(now.nanoseconds);
        if now.saturating_add(Self::SET_BACK) < self.latest {
            self.latest = now;
        }
        self.latest = self.latest.max(now);
        let now = self.latest;
        // It is never more than a second away, unless the clock was set back.
        let full_at = self.full_at.clamp(now, now + Self::SECOND);
        let has_token = full_at + Self::TOKEN <= now + Self::SECOND;
        self.full_at = if has_token {
            full_at + Self::TOKEN
        } else {
            full_at
        };
        has_token
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(milliseconds: u32) -> Timestamp {
        Timestamp {
            seconds: 1_700_000_000 + milliseconds / 1000,
            nanoseconds: milliseconds % 1000 * 1_000_000,
        }
    }

    fn passed(times: impl IntoIterator<Item = u32>) -> usize {
        let mut bucket = TokenBucket::default();
        times
            .into_iter()
            .filter(|time| bucket.take(at(*time)))
            .count()
    }

    #[test]
    fn a_flood_is_limited_to_the_rate_and_rare_messages_pass() {
        assert_eq!(passed([0; 1000]), 10);
        assert_eq!(passed(0..10_000), 10 + 99);
        assert_eq!(passed((0..100).map(|number| number * 100)), 100);
        // Two rings whose frames are a second apart, and whose blocks take turns.
        let turns = (0..1000).map(|number| if number % 2 == 0 { 1000 } else { 0 });
        assert_eq!(passed(turns), 10);
        let mut bucket = TokenBucket::default();
        assert!((0..20).any(|_| !bucket.take(at(5_000_000))));
        let later = (0..20).filter(|_| bucket.take(at(0))).count();
        assert_eq!(
            later, 0,
            "a clock that was set back gives nothing for nothing"
        );
        assert!(bucket.take(at(100)), "and takes no more than a second");
    }

    proptest! {
        #[test]
        fn no_second_has_more_than_twice_the_rate(mut times in proptest::collection::vec(0_u32..5000, 0..500), from in 0_u32..4000) {
            times.sort_unstable();
            let mut bucket = TokenBucket::default();
            let passed = times.into_iter().filter(|time| bucket.take(at(*time)));
            let within = passed.filter(|time| (from..from + 1000).contains(time)).count();
            prop_assert!(within <= 2 * PER_SECOND as usize, "{within}");
        }
    }
}
