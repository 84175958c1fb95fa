//! Both ends together, with a clock that the test sets.

mod crowd;
mod initiator;
mod open;
mod refusals;
mod rekey;
mod responder;
mod rotation;
mod sealer;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::initiator::{Answer, Established, Identity, Initiator, InitiatorConfig};
use crate::inner::Inner;
use crate::keys::{PresharedKey, PresharedKeys, PrivateKey};
use crate::protocol::INITIATION_LEN;
use crate::refusal::Refusal;
use crate::responder::{Limits, Opened, Replies, Responder, ResponderConfig};
use crate::sealer::{Scratch, Sealer, Unsealed};

/// The keys of a sensor and its podspans.
pub(super) struct Keys {
    pub(super) sensor: PrivateKey,
    pub(super) preshared: PresharedKey,
}

impl Keys {
    pub(super) fn new() -> Self {
        Self {
            sensor: PrivateKey::generate(),
            preshared: PresharedKey::generate(),
        }
    }

    pub(super) fn initiator(&self) -> InitiatorConfig {
        InitiatorConfig {
            identity: Identity::Fresh,
            sensor: self.sensor.public(),
            preshared: self.preshared.clone(),
            inner: Inner::DEFAULT,
        }
    }

    pub(super) fn responder(&self) -> ResponderConfig {
        ResponderConfig {
            private: self.sensor.clone(),
            preshared: PresharedKeys::one(self.preshared.clone()),
            limits: Limits::default(),
        }
    }
}

/// A responder, and the time.
pub(super) struct Fixture {
    pub(super) keys: Keys,
    pub(super) now: Instant,
    pub(super) responder: Responder,
    pub(super) out: Vec<u8>,
}

/// What a responder says to a datagram.
pub(super) type Reaction = (Result<Opened, Refusal>, Vec<Vec<u8>>);

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut ResponderConfig)) -> Self {
        let (keys, now) = (Keys::new(), Instant::now());
        let mut config = keys.responder();
        change(&mut config);
        Self {
            keys,
            now,
            responder: Responder::new(config, now),
            out: vec![0; 2_000],
        }
    }

    /// Lets time pass, with a tick each second. Returns the keepalives.
    pub(super) fn pass(&mut self, seconds: u64) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut sent = Vec::new();
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.responder
                .tick(self.now, |to, datagram| sent.push((to, datagram.to_vec())));
            assert!(self.responder.is_consistent());
        }
        sent
    }

    pub(super) fn receive(&mut self, from: SocketAddr, datagram: &[u8]) -> Reaction {
        let mut replies = Replies::new();
        let (responder, now) = (&mut self.responder, self.now);
        let received = responder.receive(datagram, from, now, &mut self.out, &mut replies);
        (received, replies.iter().map(<[u8]>::to_vec).collect())
    }

    pub(super) fn refusal(&mut self, from: SocketAddr, datagram: &[u8]) -> Option<Refusal> {
        let before = self.responder.totals().refused.total();
        let (received, _) = self.receive(from, datagram);
        let refusal = received.err();
        let after = self.responder.totals().refused.total();
        assert_eq!(after - before, u64::from(refusal.is_some()));
        refusal
    }

    /// The VXLAN datagram in a transport datagram.
    pub(super) fn open(&mut self, from: SocketAddr, datagram: &[u8]) -> Result<Vec<u8>, Refusal> {
        match self.receive(from, datagram).0? {
            Opened::Vxlan { bytes, .. } => Ok(self.out[bytes].to_vec()),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn podspan(&self, number: u32) -> Podspan {
        Podspan::new(self.keys.initiator(), number, self.now)
    }

    /// A podspan with a session.
    pub(super) fn peer(&mut self, number: u32) -> Podspan {
        let mut podspan = self.podspan(number);
        assert!(podspan.handshake(self));
        podspan
    }
}

/// An initiator with its address and its sealer.
pub(super) struct Podspan {
    pub(super) initiator: Initiator,
    pub(super) address: SocketAddr,
    pub(super) sealer: Option<Sealer>,
    pub(super) scratch: Scratch,
}

impl Podspan {
    pub(super) fn new(config: InitiatorConfig, number: u32, now: Instant) -> Self {
        let [_, a, b, c] = number.to_be_bytes();
        Self {
            initiator: Initiator::new(config, number.into(), now),
            address: SocketAddr::from(([10, a, b, c], 50_000)),
            sealer: None,
            scratch: Scratch::new(),
        }
    }

    /// The initiation that is due.
    pub(super) fn initiation(&mut self, now: Instant) -> Option<Vec<u8>> {
        let mut out = [0; INITIATION_LEN];
        self.initiator.poll(now, &mut out).map(<[u8]>::to_vec)
    }

    /// A handshake without losses; whether it gave a session.
    pub(super) fn handshake(&mut self, fixture: &mut Fixture) -> bool {
        let initiation = self.initiation(fixture.now).expect("an initiation is due");
        let (_, replies) = fixture.receive(self.address, &initiation);
        self.answered(fixture, &replies)
    }

    /// Takes the replies to an initiation, and confirms the session.
    pub(super) fn answered(&mut self, fixture: &mut Fixture, replies: &[Vec<u8>]) -> bool {
        let answers = replies
            .iter()
            .map(|reply| self.initiator.receive(reply, fixture.now));
        let sessions: Vec<_> = answers
            .filter_map(|answer| match answer {
                Ok(Answer::Established(established)) => Some(established),
                _ => None,
            })
            .collect();
        assert!(sessions.len() <= 1);
        let Some(Established { sealer, confirm }) = sessions.into_iter().next() else {
            return false;
        };
        self.sealer = Some(sealer);
        let confirmed = fixture.receive(self.address, &confirm).0;
        assert!(matches!(
            confirmed,
            Ok(Opened::Keepalive) | Err(Refusal::Full)
        ));
        confirmed.is_ok()
    }

    pub(super) fn seal(&mut self, now: Instant, payload: &[u8]) -> Result<Vec<u8>, Unsealed> {
        let sealer = self.sealer.as_mut().expect("a session");
        let mut out = vec![0; sealer.sealed_len(payload.len())];
        let (head, body) = payload.split_at(payload.len().min(8));
        let mut sealing = sealer.begin(now, &mut self.scratch)?;
        let length = sealing.seal(50_001, head, body, &mut out)?;
        assert_eq!(length, out.len());
        Ok(out)
    }
}

/// A VXLAN datagram that is unlike others.
pub(super) fn payload(number: u32) -> Vec<u8> {
    let mut payload = vec![8, 0, 0, 0, 0, 0, 1, 0];
    payload.extend_from_slice(&number.to_be_bytes());
    payload.extend((0..number % 50).map(|at| at.to_le_bytes()[0]));
    payload
}
