//! The MTU of the path to a sensor, from the kernel's routing.
//!
//! Connecting a UDP socket sends nothing. The socket then has the MTU of its route: the smallest of the
//! interface's, the route's, and the one that an ICMP message reported in the last ten minutes
//! (`net.ipv4.route.mtu_expires`).

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, SockAddr, Socket, Type};
use wire::Mtu;

use crate::option::SocketOption;

const IP_MTU: SocketOption = SocketOption(libc::IPPROTO_IP, libc::IP_MTU);
const IPV6_MTU: SocketOption = SocketOption(libc::IPPROTO_IPV6, libc::IPV6_MTU);

/// The MTU of the path to a sensor, for the outer packet, but at most `limit`.
///
/// Needs no capability. Makes four system calls and never waits for the network.
///
/// # Errors
/// The kernel's error if there is no route to the sensor (`ENETUNREACH`, `EHOSTUNREACH`), or no IPv6 for
/// an IPv6 address (`EAFNOSUPPORT`, `EADDRNOTAVAIL`).
pub fn path_mtu(sensor: SocketAddr, limit: Option<Mtu>) -> io::Result<Mtu> {
    let socket = Socket::new(Domain::for_address(sensor), Type::DGRAM, None)?;
    socket.connect(&SockAddr::from(sensor))?;
    let option = if sensor.is_ipv4() { IP_MTU } else { IPV6_MTU };
    let bytes = u32::try_from(option.get(&socket)?).map_err(io::Error::other)?;
    let mtu = Mtu::saturating(bytes);
    Ok(limit.map_or(mtu, |limit| mtu.min(limit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_the_largest_mtu_unless_limited() {
        let sensor = SocketAddr::from(([127, 0, 0, 1], 4789));
        assert_eq!(path_mtu(sensor, None).unwrap(), Mtu::MAX);
        assert_eq!(
            path_mtu(sensor, Some(Mtu::ETHERNET)).unwrap(),
            Mtu::ETHERNET
        );
    }

    #[test]
    fn an_address_without_a_route_is_an_error() {
        // 240.0.0.0/4 is reserved (RFC 1112); the kernel may route it, but never to a broadcast.
        let nowhere = SocketAddr::from(([255, 255, 255, 255], 4789));
        assert!(path_mtu(nowhere, None).is_err());
    }
}
