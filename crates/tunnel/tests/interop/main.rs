//! Both ends of the tunnel with wireguard-go at the other end, over real sockets in a network namespace.
//!
//! wireguard-go has a tun device; what comes out of it goes through the kernel's IP stack to a UDP socket, and
//! what is sent from a UDP socket goes in. This crate's end is a plain UDP socket on `lo`. The port of VXLAN
//! is an ordinary one here, so a payload is any bytes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking; these are not #[test] functions"
)]

mod initiator;
mod responder;

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use testbed::{Namespace, Process, WireguardEnd, build_wireguard};
use tunnel::{PresharedKey, PrivateKey, PublicKey};

/// A test by its name.
type Test = (&'static str, fn());

/// Longer than anything here takes; a slow machine needs more of it.
const LIMIT: Duration = Duration::from_mins(1);

fn main() {
    // Building may need a network, which a new namespace does not have.
    program();
    if let Err(error) = testbed::user_namespace::enter() {
        eprintln!("{error}");
        std::process::exit(1);
    }
    let tests = initiator::tests().into_iter().chain(responder::tests());
    let trials = tests
        .map(|(name, test)| {
            Trial::test(name, move || {
                test();
                Ok(())
            })
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// The keys of both ends.
struct Keys {
    ours: PrivateKey,
    theirs: PrivateKey,
    preshared: PresharedKey,
}

impl Keys {
    fn new() -> Self {
        Self {
            ours: PrivateKey::generate(),
            theirs: PrivateKey::generate(),
            preshared: PresharedKey::generate(),
        }
    }
}

/// A namespace with wireguard-go in it, whose tun device has the address `address`.
struct End {
    namespace: Namespace,
    process: Process,
}

/// wireguard-go's end: its own port, if it has one, our endpoint, if it is the initiator, and the addresses of
/// its device and of ours in the tunnel.
struct Configuration<'k> {
    keys: &'k Keys,
    peer: PublicKey,
    port: u16,
    endpoint: Option<SocketAddr>,
    address: &'static str,
    other: &'static str,
}

impl End {
    fn start(namespace: Namespace, configuration: &Configuration<'_>) -> Self {
        let Configuration { keys, peer, .. } = configuration;
        let end = WireguardEnd {
            private: keys.theirs.secret().to_bytes(),
            peer: *peer.as_bytes(),
            preshared: keys.preshared.bytes(),
            port: configuration.port,
            endpoint: configuration.endpoint,
            address: configuration.address.parse().unwrap(),
            other: configuration.other.parse().unwrap(),
            mtu: WireguardEnd::MTU,
        };
        let process = end.start(program(), &namespace, None).unwrap();
        Self { namespace, process }
    }

    /// A UDP socket in the namespace.
    fn socket(&self, address: &str) -> UdpSocket {
        socket(&self.namespace, address)
    }
}

fn program() -> PathBuf {
    build_wireguard().unwrap_or_else(|error| panic!("{error}"))
}

fn socket(namespace: &Namespace, address: &str) -> UdpSocket {
    let socket = namespace.run(|| UdpSocket::bind(address)).unwrap();
    let short = Some(Duration::from_millis(100));
    socket.set_read_timeout(short).unwrap();
    socket
}

/// The next datagram, if one comes within a short time.
fn receive(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
    let mut buffer = [0; 2_000];
    match socket.recv_from(&mut buffer) {
        Ok((length, from)) => Some((buffer[..length].to_vec(), from)),
        // A refusal is an ICMP error for what was sent before the other end was there.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::ConnectionRefused
            ) =>
        {
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Repeats `step` until it gives something.
fn wait_for<T>(what: &str, mut step: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(value) = step() {
            return value;
        }
        assert!(Instant::now() < end, "no {what} within {LIMIT:?}");
    }
}

/// A VXLAN datagram that is unlike others, of any length from 12 bytes on.
fn payload(number: u32, length: usize) -> Vec<u8> {
    let mut payload = vec![8, 0, 0, 0, 0, 0, 1, 0];
    payload.extend_from_slice(&number.to_be_bytes());
    payload.extend((12..length).map(|at| at.to_le_bytes()[0]));
    payload
}
