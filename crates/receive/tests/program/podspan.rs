//! podspan's end of a tunnel over a real socket, by the crate `tunnel`.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use tunnel::initiator::{Answer, Identity, Initiator, InitiatorConfig};
use tunnel::sealer::Scratch;
use tunnel::{Inner, PresharedKey, PublicKey, Sealer};

/// A busy machine must fail no test.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Podspan {
    socket: UdpSocket,
    initiator: Initiator,
    sealer: Option<Sealer>,
    scratch: Scratch,
}

impl Podspan {
    pub(crate) fn new(to: SocketAddr, sensor: PublicKey, preshared: PresharedKey) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(to).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let config = InitiatorConfig {
            identity: Identity::Fresh,
            sensor,
            preshared,
            inner: Inner::DEFAULT,
        };
        Self {
            socket,
            initiator: Initiator::new(config, Initiator::random_seed(), Instant::now()),
            sealer: None,
            scratch: Scratch::new(),
        }
    }

    /// Handshakes until there is a new session; returns whether there is one within the time.
    pub(crate) fn connect(&mut self, within: Duration) -> bool {
        let begun = Instant::now();
        self.initiator.restart(begun);
        let mut bytes = [0; 2048];
        while begun.elapsed() < within {
            let mut initiation = [0; 148];
            if let Some(initiation) = self.initiator.poll(Instant::now(), &mut initiation) {
                self.socket.send(initiation).unwrap();
            }
            let Ok(length) = self.socket.recv(&mut bytes) else {
                continue;
            };
            let answer = self.initiator.receive(&bytes[..length], Instant::now());
            if let Ok(Answer::Established(established)) = answer {
                self.socket.send(&established.confirm).unwrap();
                self.sealer = Some(established.sealer);
                return true;
            }
        }
        false
    }

    /// The sealed form of a VXLAN datagram.
    pub(crate) fn sealed(&mut self, datagram: &[u8]) -> Vec<u8> {
        let sealer = self.sealer.as_mut().unwrap();
        let mut out = vec![0; sealer.sealed_len(datagram.len())];
        let mut sealing = sealer.begin(Instant::now(), &mut self.scratch).unwrap();
        sealing.seal(49_152, datagram, &[], &mut out).unwrap();
        out
    }

    pub(crate) fn send(&mut self, datagram: &[u8]) {
        let sealed = self.sealed(datagram);
        self.send_raw(&sealed);
    }

    pub(crate) fn send_raw(&self, bytes: &[u8]) {
        self.socket.send(bytes).unwrap();
    }
}
