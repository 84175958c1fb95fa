//! Any datagram at the initiator and at the worker's sealer.
//!
//! Run with `cargo +nightly fuzz run initiator` in `crates/tunnel`. The first byte says what the others are: a
//! datagram at the one or the other; changes of a true response; changes of a true keepalive. Nothing panics, a
//! changed message is refused, and the true one still counts after it.

#![no_main]

use std::cell::RefCell;
use std::time::Instant;

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::StaticSecret;
use libfuzzer_sys::fuzz_target;
use tunnel::initiator::{Answer, Identity, Initiator, InitiatorConfig};
use tunnel::{Inner, PresharedKey, PrivateKey, Sealer};

const SENSOR: [u8; 32] = [0x47; 32];
const PRESHARED: [u8; 32] = [0x49; 32];
/// The same keys as `wg` writes them.
const SENSOR_TEXT: &str = "R0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0c=";
const PRESHARED_TEXT: &str = "SUlJSUlJSUlJSUlJSUlJSUlJSUlJSUlJSUlJSUlJSUk=";
const PODSPAN: [u8; 32] = [0x11; 32];
const PODSPAN_TEXT: &str = "ERERERERERERERERERERERERERERERERERERERERERE=";

/// An initiator with a handshake under way, boringtun as its sensor, and the response.
fn handshake(now: Instant) -> (Initiator, Tunn, Vec<u8>) {
    let sensor: PrivateKey = SENSOR_TEXT.parse().expect("a key");
    let preshared: PresharedKey = PRESHARED_TEXT.parse().expect("a key");
    let config = InitiatorConfig {
        identity: Identity::Fixed(PODSPAN_TEXT.parse().expect("a key")),
        sensor: sensor.public(),
        preshared,
        inner: Inner::DEFAULT,
    };
    let mut initiator = Initiator::new(config, 1, now);
    let podspan = (&StaticSecret::from(PODSPAN)).into();
    let mut tunn = Tunn::new(SENSOR.into(), podspan, Some(PRESHARED), None, 1, None);
    let (mut initiation, mut out) = ([0; 148], [0; 200]);
    let initiation = initiator.poll(now, &mut initiation).expect("it is due");
    let TunnResult::WriteToNetwork(response) = tunn.decapsulate(None, initiation, &mut out) else {
        panic!("no response");
    };
    let response = response.to_vec();
    (initiator, tunn, response)
}

/// A message with changes; none if it is still the same.
fn changed(message: &[u8], changes: &[u8]) -> Option<Vec<u8>> {
    let mut other = message.to_vec();
    for change in changes.chunks_exact(2) {
        let at = usize::from(change[0]) % other.len();
        other[at] ^= change[1];
    }
    (other != message).then_some(other)
}

/// A handshake that waits for its response, and a session.
struct State {
    now: Instant,
    waiting: Initiator,
    response: Vec<u8>,
    sealer: Sealer,
    sensor: Tunn,
}

thread_local! {
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
}

/// Takes the true response, and gives the sensor the first keepalive.
fn established(
    mut initiator: Initiator,
    sensor: &mut Tunn,
    response: &[u8],
    now: Instant,
) -> Sealer {
    let Ok(Answer::Established(established)) = initiator.receive(response, now) else {
        panic!("no session");
    };
    let mut out = [0; 200];
    let confirmed = sensor.decapsulate(None, &established.confirm, &mut out);
    assert!(matches!(confirmed, TunnResult::Done));
    established.sealer
}

impl State {
    fn new() -> Self {
        let now = Instant::now();
        let (initiator, mut sensor, response) = handshake(now);
        let sealer = established(initiator, &mut sensor, &response, now);
        let (waiting, _, response) = handshake(now);
        Self {
            now,
            waiting,
            response,
            sealer,
            sensor,
        }
    }

    fn run(&mut self, kind: u8, bytes: &[u8]) {
        match kind % 32 {
            0..10 => assert!(self.waiting.receive(bytes, self.now).is_err()),
            10..20 => assert!(self.sealer.hear(bytes).is_err()),
            // A handshake takes much longer than all others.
            31 => {
                // The last 16 bytes are `mac2`, which nobody reads without load.
                if let Some(other) = changed(&self.response[..76], bytes) {
                    let other = [&other, &self.response[76..]].concat();
                    assert!(self.waiting.receive(&other, self.now).is_err());
                }
                // It still counts; then the next handshake waits.
                let answer = self.waiting.receive(&self.response, self.now);
                assert!(matches!(answer, Ok(Answer::Established(_))));
                (self.waiting, _, self.response) = handshake(self.now);
            }
            _ => {
                let mut out = [0; 32];
                let TunnResult::WriteToNetwork(keepalive) = self.sensor.encapsulate(&[], &mut out)
                else {
                    panic!("no keepalive");
                };
                if let Some(other) = changed(keepalive, bytes) {
                    assert!(self.sealer.hear(&other).is_err());
                }
                assert_eq!(self.sealer.hear(keepalive), Ok(()));
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Some((kind, bytes)) = bytes.split_first() {
        STATE.with_borrow_mut(|state| state.get_or_insert_with(State::new).run(*kind, bytes));
    }
});
