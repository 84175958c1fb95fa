//! ICMP errors about our own datagrams.
//!
//! The ring's filter keeps out what we send, by mark; an ICMP error that quotes it comes back
//! unmarked. To mirror it would make the next datagram, which makes the next error: a sniffing
//! sensor answers each datagram with "port unreachable". Such errors are about us, not about the
//! pod, so they stay out, counted. They are known by the quoted source port: the ports are bound by
//! us, so nobody else in the pod sends from them. Errors that the pod itself sends quote other
//! hosts' ports, which may well be the same numbers, and are mirrored.

use wire::ip::{self, Network};
use wire::{Direction, Frame};

use crate::flow::quoted_packet;

/// Whether a frame is an ICMP error to us that quotes a UDP datagram from one of our ports.
pub(crate) fn is_error_about_us(frame: &Frame<'_>, network: &Network, own_ports: &[u16]) -> bool {
    let Network::Ip(packet) = network else {
        return false;
    };
    if !matches!(packet.protocol, ip::ICMP | ip::ICMPV6)
        || packet.is_fragment
        || frame.direction != Direction::Incoming
    {
        return false;
    }
    let icmp = frame
        .bytes
        .get(packet.transport..packet.end)
        .unwrap_or_default();
    let Some((quoted, inner)) = quoted_packet(packet.protocol, icmp) else {
        return false;
    };
    let port = quoted
        .get(inner.transport..)
        .and_then(|udp| udp.first_chunk());
    matches!((inner.protocol, port), (ip::UDP, Some(port)) if own_ports.contains(&u16::from_be_bytes(*port)))
}
