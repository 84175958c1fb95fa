//! ICMP errors about our own datagrams.
//!
//! The ring's filter keeps out what we send, by mark; an ICMP error that quotes it comes back
//! unmarked. To mirror it would make the next datagram, which makes the next error: a sniffing
//! sensor answers each datagram with "port unreachable". Such errors are about us, not about the
//! pod, so they stay out, counted.
//!
//! Nobody shall hide anything in such an error, so all that can be known must fit: it comes in, it
//! quotes a datagram from where it goes to, from a port that is bound by us, to a sensor; and where
//! the quotation goes on to the VXLAN header, that is ours.

use wire::ip::{self, Network};
use wire::{Direction, Frame, vxlan};

use crate::flow::{addresses, quoted_packet};
use crate::table::SensorTable;

const UDP_HEADER_LEN: usize = 8;

/// What is ours.
#[derive(Debug)]
pub(crate) struct Own {
    /// What each of our datagrams starts with.
    pub(crate) vxlan: [u8; vxlan::HEADER_LEN],
    /// The UDP ports that anything of ours leaves by.
    pub(crate) ports: Vec<u16>,
}

impl Own {
    /// Whether a frame is an ICMP error to us about a datagram of ours.
    pub(crate) fn is_error_about_us(
        &self,
        frame: &Frame<'_>,
        network: &Network,
        table: &SensorTable,
    ) -> bool {
        let Network::Ip(packet) = network else {
            return false;
        };
        if !matches!(packet.protocol, ip::ICMP | ip::ICMPV6)
            || packet.is_fragment
            || frame.direction != Direction::Incoming
        {
            return false;
        }
        let header = frame
            .bytes
            .get(packet.start..packet.end)
            .unwrap_or_default();
        let icmp = frame
            .bytes
            .get(packet.transport..packet.end)
            .unwrap_or_default();
        let Some((quoted, inner)) = quoted_packet(packet.protocol, icmp) else {
            return false;
        };
        let udp = quoted.get(inner.transport..).unwrap_or_default();
        let (Some((_, to)), Some((source, destination))) = (addresses(header), addresses(quoted))
        else {
            return false;
        };
        inner.protocol == ip::UDP
            && source == to
            && udp
                .first_chunk()
                .is_some_and(|p| self.ports.contains(&u16::from_be_bytes(*p)))
            && udp
                .get(UDP_HEADER_LEN..UDP_HEADER_LEN + vxlan::HEADER_LEN)
                .is_none_or(|found| found == self.vxlan)
            && table
                .sensors()
                .iter()
                .any(|sensor| sensor.address().ip() == destination)
    }
}
