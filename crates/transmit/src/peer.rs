//! Which sensor a socket is connected to, if any.
//!
//! For a connected UDP socket, the kernel keeps the route. For others it looks up the route of each
//! datagram, which costs several percent of the CPU time. A socket is for all sensors of its lane, so it
//! is connected only if there is one, which is the usual case. Otherwise each datagram has an address.
//!
//! A connected socket also keeps its source address. After [`Peers::renew`], the next batch connects
//! again, so an old route or source address is not used longer than the time between these calls.
//! Connecting needs no capability and sends nothing. Source: `__ip4_datagram_connect` and
//! `__udp_disconnect` in the kernel's `net/ipv4`.

use std::mem::size_of;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use libc::{sockaddr, socklen_t};
use mirror::plan::Lane;
use mirror::{PortIndex, SourcePorts};
use nix::errno::Errno;
use socket2::{SockAddr, Socket};

/// The sensor that a socket is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    /// It is not connected.
    None,
    /// It is connected to this one; if it is stale, it must be connected again.
    Connected { to: SocketAddr, stale: bool },
    /// The kernel refused to connect it to this one, for example because there is no route now.
    Refused(SocketAddr),
}

/// The largest number of sockets of a lane.
const PORTS: usize = SourcePorts::MAX.get() as usize;

/// All sockets' peers.
#[derive(Debug)]
pub(crate) struct Peers([[Peer; PORTS]; Lane::ALL.len()]);

impl Peers {
    pub(crate) const fn new() -> Self {
        Self([[Peer::None; PORTS]; Lane::ALL.len()])
    }

    /// Connects a socket to the only sensor of its lane, or disconnects it if there are several, and
    /// returns whether it is connected. Makes no system call if nothing has changed.
    pub(crate) fn connect(
        &mut self,
        socket: &Socket,
        (lane, port): (Lane, PortIndex),
        only: Option<&(SocketAddr, SockAddr)>,
    ) -> bool {
        // The kernel refuses port 0 in an address, but would send to it over a connected socket.
        let only = only.filter(|(to, _)| to.port() != 0);
        let peers = &mut self.0[lane.index()];
        let Some(peer) = peers.get_mut(usize::from(port.0)) else {
            return false;
        };
        match (*peer, only) {
            (Peer::Connected { to, stale: false }, Some((wanted, _))) if to == *wanted => {
                return true;
            }
            (Peer::Refused(to), Some((wanted, _))) if to == *wanted => return false,
            (Peer::None | Peer::Refused(_), None) => return false,
            _ => {}
        }
        if matches!(peer, Peer::Connected { .. }) && disconnect(socket).is_err() {
            // It stays connected, so each datagram needs an address.
            return false;
        }
        *peer = match only {
            None => Peer::None,
            Some((to, address)) if socket.connect(address).is_ok() => Peer::Connected {
                to: *to,
                stale: false,
            },
            Some((to, _)) => Peer::Refused(*to),
        };
        matches!(peer, Peer::Connected { .. })
    }

    /// Every socket is connected again when it is used next.
    pub(crate) fn renew(&mut self) {
        for peer in self.0.as_flattened_mut() {
            match peer {
                Peer::Connected { stale, .. } => *stale = true,
                Peer::Refused(_) => *peer = Peer::None,
                Peer::None => {}
            }
        }
    }
}

/// Removes the peer and the source address of a socket; the bound port stays.
fn disconnect(socket: &impl AsFd) -> Result<(), Errno> {
    // SAFETY: all fields are integers, for which zero is a value; zero is AF_UNSPEC.
    let unspecified: sockaddr = unsafe { std::mem::zeroed() };
    let length = socklen_t::try_from(size_of::<sockaddr>()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the address is valid for reads of its whole length during the call, and the kernel
    // keeps no pointer to it.
    let result =
        unsafe { libc::connect(socket.as_fd().as_raw_fd(), &raw const unspecified, length) };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_socket_is_connected_to_the_only_sensor_and_keeps_its_port() {
        // Only a port that was bound by its number stays when a socket is disconnected.
        let free = UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap();
        let socket = Socket::from(UdpSocket::bind(free).unwrap());
        let bound = socket.local_addr().unwrap().as_socket().unwrap();
        let sensor = |port: u16| {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            (address, SockAddr::from(address))
        };
        let peer = || Ok::<_, std::io::Error>(socket.peer_addr()?.as_socket());
        let place = (Lane::ALL[0], PortIndex(0));
        let mut peers = Peers::new();

        assert!(!peers.connect(&socket, place, None));
        for port in [4789, 4790] {
            assert!(peers.connect(&socket, place, Some(&sensor(port))));
            assert_eq!(peer().unwrap(), Some(sensor(port).0));
        }
        peers.renew();
        assert!(peers.connect(&socket, place, Some(&sensor(4790))));
        assert!(!peers.connect(&socket, place, None));
        assert!(peer().is_err(), "no peer is left");
        assert_eq!(socket.local_addr().unwrap().as_socket(), Some(bound));
    }

    #[test]
    fn a_refused_connect_is_not_tried_again_before_renew() {
        let socket = Socket::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let nowhere = SocketAddr::from(([255, 255, 255, 255], 9));
        let nowhere = (nowhere, SockAddr::from(nowhere));
        let place = (Lane::ALL[0], PortIndex(3));
        let mut peers = Peers::new();
        assert!(!peers.connect(&socket, place, Some(&nowhere)));
        assert_eq!(peers.0[0][3], Peer::Refused(nowhere.0));
        peers.renew();
        assert_eq!(peers.0[0][3], Peer::None);
    }
}
