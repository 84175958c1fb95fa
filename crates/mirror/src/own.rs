//! ICMP errors about our own datagrams.
//!
//! The ring's filter keeps out what we send, by mark; an ICMP error that quotes it comes back
//! unmarked. To mirror it would make the next datagram, which makes the next error: a sniffing
//! sensor answers each datagram with "port unreachable". Such errors are about us, not about the
//! pod, so they stay out, counted.

use wire::Frame;
use wire::ip::{self, Network};
use wire::ipv4::Ipv4;
use wire::ipv6::Ipv6;

use crate::flow::quoted_packet;
use crate::table::SensorTable;

/// Whether a frame is an ICMP error that quotes a datagram from one of our ports to a sensor.
pub(crate) fn is_error_about_us(
    frame: &Frame<'_>,
    network: &Network,
    table: &SensorTable,
    own_ports: &[u16],
) -> bool {
    let Network::Ip(packet) = network else {
        return false;
    };
    if !matches!(packet.protocol, ip::ICMP | ip::ICMPV6) || packet.is_fragment {
        return false;
    }
    let icmp = frame
        .bytes
        .get(packet.transport..packet.end)
        .unwrap_or_default();
    let Some((quoted, inner)) = quoted_packet(packet.protocol, icmp) else {
        return false;
    };
    let udp = quoted
        .get(inner.transport..)
        .and_then(|udp| udp.first_chunk());
    let (ip::UDP, Some([a, b, c, d])) = (inner.protocol, udp) else {
        return false;
    };
    let source_port = u16::from_be_bytes([*a, *b]);
    let destination_port = u16::from_be_bytes([*c, *d]);
    let destination = match packet.protocol {
        ip::ICMP => Ipv4::parse(quoted).map(|ip| ip.destination().into()),
        _ => Ipv6::parse(quoted).map(|ip| ip.destination().into()),
    };
    own_ports.contains(&source_port)
        && table.sensors().iter().any(|sensor| {
            let address = sensor.address();
            Some(address.ip()) == destination && address.port() == destination_port
        })
}
