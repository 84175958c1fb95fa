//! ICMP messages about podspan's datagrams, and the datagrams of an earlier podspan.
//!
//! The ring's filter rejects podspan's datagrams by their mark. An ICMP error or redirect that quotes one
//! comes back without the mark. If podspan mirrored it, that copy would cause the next message: the host
//! of a sniffing sensor answers each datagram with "port unreachable", and a router with a better route
//! sends a redirect for each. These messages are not about the pod's traffic, so they are not mirrored,
//! but counted.
//!
//! A message counts as such only if everything matches: it is incoming, it quotes a datagram from the
//! address that it goes to and from a port that podspan has bound, and if the quotation contains the
//! first bytes of the payload, they are those of podspan's datagrams: its VXLAN header, or from the port of the
//! tunnel the type of a WireGuard message. The quoted destination is not compared: sensors that are gone, or are
//! ejected and probed, cause such messages too. But anybody who has the port number can forge all of this
//! and add any bytes. So at most [`PER_SECOND`] are mirrored per second: an analyst sees such messages
//! and their content, and the number of copies that they cause is bounded.
//!
//! The other end of a tunnel answers: handshakes, cookies, and a keepalive each ten seconds. These datagrams come
//! to the port of the tunnel, which only podspan has, and are not the pod's traffic either. What comes to this
//! port and has neither type nor length of such an answer is mirrored.
//!
//! If podspan was killed, its last datagrams may still wait in the kernel for the address of the sensor's
//! host (RFC 826, `arp_queue` in the kernel's `net/core/neighbour.c`: at most three probes, one a second).
//! They have the mark of the killed process. So in its first [`EARLIER_SECONDS`] podspan mirrors no outgoing
//! datagram that comes from a port that it has bound itself and starts as its datagrams do. Only a process with
//! `NET_RAW` can forge this.
//!
//! Source: RFC 792, RFC 4443, RFC 7348, and of WireGuard's paper section 5.4 (types and lengths of messages).

use wire::ip::{self, Network};
use wire::{Direction, Frame, Timestamp, vxlan};

use crate::quoted::{Quoted, addresses, quoted};

const UDP_HEADER_LEN: usize = 8;

/// How many ICMP messages about podspan's datagrams are mirrored per second; after a quiet second, this
/// many at once.
pub const PER_SECOND: u32 = 10;

/// How long the datagrams of an earlier podspan can come, from the first frame on. They wait for three
/// seconds at most.
pub const EARLIER_SECONDS: u32 = 10;

/// Types of WireGuard's messages: initiation, response, cookie, data. Three zeros follow.
const TYPES: core::ops::RangeInclusive<u8> = 1..=4;
/// The types of the answers of a tunnel's other end, and the length of each: response, cookie, keepalive.
pub const ANSWERS: [(u8, usize); 3] = [(2, 92), (3, 64), (4, 32)];

/// Finds the ICMP messages about podspan's datagrams, and the datagrams of an earlier podspan.
#[derive(Debug)]
pub(crate) struct OwnTraffic {
    /// The first bytes of each of podspan's datagrams.
    pub(crate) vxlan: [u8; vxlan::HEADER_LEN],
    /// The UDP source ports of all datagrams that podspan sends.
    pub(crate) ports: Vec<u16>,
    /// The source port of those that are sealed.
    pub(crate) tunnel_port: Option<u16>,
    /// Selects the messages that are mirrored all the same.
    pub(crate) sample: TokenBucket,
    /// The time of the first frame, in seconds.
    pub(crate) first_frame: Option<u32>,
}

impl OwnTraffic {
    /// Whether a frame is an ICMP message about one of podspan's datagrams, and above the rate, or a datagram
    /// of an earlier podspan, or an answer of a tunnel's other end.
    pub(crate) fn rejects(&mut self, frame: &Frame<'_>, network: &Network) -> bool {
        let seconds = frame.timestamp.seconds;
        let first = *self.first_frame.get_or_insert(seconds);
        if seconds.abs_diff(first) < EARLIER_SECONDS
            && self.is_earlier_datagram(frame, network).unwrap_or(false)
        {
            return true;
        }
        if self.tunnel_port.is_some() && self.is_answer(frame, network).unwrap_or(false) {
            return true;
        }
        let quotes_own_datagram = self.quotes_own_datagram(frame, network).unwrap_or(false);
        quotes_own_datagram && !self.sample.take(frame.timestamp)
    }

    /// `None` if the frame is too short to decide.
    fn is_earlier_datagram(&self, frame: &Frame<'_>, network: &Network) -> Option<bool> {
        let Some(udp) = udp(frame, network, Direction::Outgoing) else {
            return Some(false);
        };
        let port = u16::from_be_bytes(*udp.first_chunk()?);
        let payload = udp.get(UDP_HEADER_LEN..)?;
        self.starts_as_own(port, payload)
    }

    /// `None` if the frame is too short to decide.
    fn is_answer(&self, frame: &Frame<'_>, network: &Network) -> Option<bool> {
        let udp = udp(frame, network, Direction::Incoming)?;
        let port = u16::from_be_bytes(*udp.get(2..)?.first_chunk()?);
        let payload = udp.get(UDP_HEADER_LEN..)?;
        let [kind, 0, 0, 0] = *payload.first_chunk()? else {
            return Some(false);
        };
        Some(self.tunnel_port == Some(port) && ANSWERS.contains(&(kind, payload.len())))
    }

    /// Whether a UDP payload from a port starts as podspan's do; `None` if it is too short to decide.
    fn starts_as_own(&self, port: u16, payload: &[u8]) -> Option<bool> {
        if self.tunnel_port == Some(port) {
            let [kind, zeros @ ..] = payload.first_chunk::<4>()?;
            return Some(TYPES.contains(kind) && zeros == &[0; 3]);
        }
        if !self.ports.contains(&port) {
            return Some(false);
        }
        Some(*payload.first_chunk()? == self.vxlan)
    }

    /// `None` if the message is too short to decide.
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
        if inner.protocol != ip::UDP || source != to {
            return Some(false);
        }
        let is_own_port = self.ports.contains(&port) || self.tunnel_port == Some(port);
        let payload = udp.get(UDP_HEADER_LEN..).unwrap_or_default();
        // Without the payload's first bytes, the port decides.
        Some(self.starts_as_own(port, payload).unwrap_or(is_own_port))
    }
}

/// The UDP header and payload of a frame of this direction, if it has both.
fn udp<'f>(frame: &Frame<'f>, network: &Network, direction: Direction) -> Option<&'f [u8]> {
    let Network::Ip(packet) = network else {
        return None;
    };
    if packet.protocol != ip::UDP || packet.is_fragment || frame.direction != direction {
        return None;
    }
    frame.bytes.get(packet.transport..packet.end)
}

/// Allows [`PER_SECOND`] messages: this many at once, then one for each part of a second. The time is
/// that of the frames, so no clock is read. It can go back a little when the blocks of several rings are
/// read in turn.
///
/// This is the generic cell rate algorithm (ITU-T I.371). Its only state is the time at which the bucket
/// is full again.
#[derive(Debug, Default)]
pub(crate) struct TokenBucket {
    full_at: u64,
    /// The latest time that a frame had.
    latest: u64,
}

impl TokenBucket {
    const SECOND: u64 = 1_000_000_000;
    const TOKEN: u64 = Self::SECOND / PER_SECOND as u64;
    /// If the time goes back by more than the age of any frame in a ring, the clock was set back.
    const SET_BACK: u64 = 60 * Self::SECOND;

    fn take(&mut self, now: Timestamp) -> bool {
        let now = u64::from(now.seconds) * Self::SECOND + u64::from(now.nanoseconds);
        if now.saturating_add(Self::SET_BACK) < self.latest {
            self.latest = now;
        }
        self.latest = self.latest.max(now);
        let now = self.latest;
        // It is at most a second in the future, unless the clock was set back.
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
        // Two rings whose frames are a second apart, and whose blocks are read in turn.
        let turns = (0..1000).map(|number| if number % 2 == 0 { 1000 } else { 0 });
        assert_eq!(passed(turns), 10);
        let mut bucket = TokenBucket::default();
        assert!((0..20).any(|_| !bucket.take(at(5_000_000))));
        let later = (0..20).filter(|_| bucket.take(at(0))).count();
        assert_eq!(later, 0, "a clock that was set back gives no extra tokens");
        assert!(bucket.take(at(100)), "and blocks for at most a second");
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
