//! Any datagram at the responder: from strangers, from who knows an index, and from a peer.
//!
//! Run with `cargo +nightly fuzz run responder` in `crates/tunnel`. The first byte says what the others are: a
//! datagram; one with the header of a session; a packet that a peer seals; changes of a true packet that a peer
//! seals; changes of an initiation. Nothing panics, what is opened lies in the buffer, and each datagram is
//! counted once.

#![no_main]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use libfuzzer_sys::fuzz_target;
use tunnel::responder::{Limits, Opened, Replies, Responder, ResponderConfig};
use tunnel::{PresharedKey, PresharedKeys, PrivateKey};

const SENSOR: [u8; 32] = [0x47; 32];
const PRESHARED: [u8; 32] = [0x49; 32];
/// The same keys as `wg` writes them.
const SENSOR_TEXT: &str = "R0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0c=";
const PRESHARED_TEXT: &str = "SUlJSUlJSUlJSUlJSUlJSUlJSUlJSUlJSUlJSUlJSUk=";

/// A responder and a peer that it knows.
struct State {
    now: Instant,
    end: Instant,
    responder: Responder,
    peer: Tunn,
    /// The first bytes of the peer's datagrams: type and index.
    header: [u8; 8],
    out: Vec<u8>,
}

/// A VXLAN datagram of 16 bytes in IPv4 and UDP.
const PACKET: [u8; 44] = [
    0x45, 0, 0, 44, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
    0xc0, 0, 0x12, 0xb5, 0, 24, 0, 0, // UDP
    8, 0, 0, 0, 0, 0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8,
];

/// Changes bytes: pairs of a place and a mask.
fn change(message: &mut [u8], changes: &[u8]) {
    let length = message.len();
    for change in changes.chunks_exact(2) {
        message[usize::from(change[0]) % length] ^= change[1];
    }
}

thread_local! {
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
}

fn tunn(key: u8) -> Tunn {
    let private = StaticSecret::from([key; 32]);
    let sensor = PublicKey::from(&StaticSecret::from(SENSOR));
    Tunn::new(private, sensor, Some(PRESHARED), None, 1, None)
}

fn from(port: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], u16::from(port)))
}

impl State {
    fn new() -> Self {
        let preshared: PresharedKey = PRESHARED_TEXT.parse().expect("a key");
        let private: PrivateKey = SENSOR_TEXT.parse().expect("a key");
        let config = ResponderConfig {
            private,
            preshared: PresharedKeys::two(preshared, PresharedKey::generate()),
            limits: Limits {
                per_source: 1_000_000,
                handshakes: 1_000_000,
                half_open: 16,
                ..Limits::default()
            },
        };
        let now = Instant::now();
        let mut state = Self {
            now,
            end: now + Duration::from_secs(100),
            responder: Responder::new(config, now),
            peer: tunn(1),
            header: [0; 8],
            out: vec![0; 70_000],
        };
        let mut buffer = [0; 200];
        let TunnResult::WriteToNetwork(initiation) =
            state.peer.format_handshake_initiation(&mut buffer, true)
        else {
            panic!("no initiation");
        };
        let initiation = initiation.to_vec();
        let (_, replies) = state.receive(&initiation, 0);
        let response = replies.iter().next().expect("a response");
        let TunnResult::WriteToNetwork(confirm) =
            state.peer.decapsulate(None, response, &mut buffer)
        else {
            panic!("no session");
        };
        let confirm = confirm.to_vec();
        state.header.copy_from_slice(&confirm[..8]);
        assert!(state.receive(&confirm, 0).0);
        state
    }

    /// Whether a datagram was accepted, and the replies.
    fn receive(&mut self, datagram: &[u8], port: u8) -> (bool, Replies) {
        let count = |responder: &Responder| {
            let totals = responder.totals();
            totals.opened + totals.keepalives + totals.answered + totals.refused.total()
        };
        let before = count(&self.responder);
        let mut replies = Replies::new();
        let received =
            self.responder
                .receive(datagram, from(port), self.now, &mut self.out, &mut replies);
        assert_eq!(count(&self.responder), before + 1);
        if let Ok(Opened::Vxlan { bytes, .. }) = &received {
            assert!(bytes.len() >= 8 && bytes.end <= datagram.len());
        }
        (received.is_ok(), replies)
    }

    /// A packet that the peer seals.
    fn sealed(&mut self, packet: &[u8], port: u8) {
        let mut datagram = vec![0; packet.len() + 200];
        let TunnResult::WriteToNetwork(sealed) = self.peer.encapsulate(packet, &mut datagram)
        else {
            panic!("not sealed");
        };
        self.receive(sealed, port);
        assert!(!self.receive(sealed, port).0, "opened twice");
    }

    fn run(&mut self, kind: u8, bytes: &[u8]) {
        self.now += Duration::from_millis(10);
        match kind % 32 {
            0..8 => _ = self.receive(bytes, kind),
            8..16 => {
                let datagram = [&self.header[..], bytes].concat();
                self.receive(&datagram, kind);
            }
            16..24 => self.sealed(bytes, kind),
            // A handshake takes much longer than all others.
            31 => {
                let mut initiation = [0; 148];
                let other = tunn(kind).format_handshake_initiation(&mut initiation, true);
                assert!(matches!(other, TunnResult::WriteToNetwork(_)));
                change(&mut initiation, bytes);
                self.receive(&initiation, kind);
                self.responder.tick(self.now, |_, _| {});
                assert!(self.responder.half_open() <= 16);
            }
            _ => {
                let mut packet = PACKET;
                change(&mut packet, bytes);
                let end = packet.len() - usize::from(kind / 32) * 2;
                self.sealed(&packet[..end], kind);
            }
        }
        assert!(self.responder.peers() >= 1);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    STATE.with_borrow_mut(|state| {
        if state.as_ref().is_some_and(|state| state.now > state.end) {
            *state = None;
        }
        state.get_or_insert_with(State::new).run(*kind, bytes);
    });
});
