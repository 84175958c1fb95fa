//! Sessions that the control side makes, with the sensor's end of the crate `tunnel`.

use std::time::Duration;

use mirror::Sensor;
use tunnel::initiator::{Answer, Identity, Initiator, InitiatorConfig};
use tunnel::protocol::INITIATION_LEN;
use tunnel::responder::{Limits, Opened, Replies, Responder, ResponderConfig};
use tunnel::{Inner, PresharedKey, PresharedKeys, PrivateKey, Refusal, overhead};
use wire::Mtu;

use super::*;

const PORTS: [u16; 2] = [50_001, 50_002];

/// Both ends of the tunnel to one sensor.
struct Ends {
    address: SocketAddr,
    initiator: Initiator,
    responder: Responder,
    now: Instant,
}

impl Ends {
    fn new(number: u8) -> Self {
        let (private, preshared) = (PrivateKey::generate(), PresharedKey::generate());
        let now = Instant::now();
        let config = InitiatorConfig {
            identity: Identity::Fresh,
            sensor: private.public(),
            preshared: preshared.clone(),
            inner: Inner::DEFAULT,
        };
        let responder = ResponderConfig {
            private,
            preshared: PresharedKeys::one(preshared),
            limits: Limits::default(),
        };
        Self {
            address: SocketAddr::from(([10, 0, 0, number], 51_820)),
            initiator: Initiator::new(config, number.into(), now),
            responder: Responder::new(responder, now),
            now,
        }
    }

    fn podspan() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 99], 61_000))
    }

    /// A handshake now.
    fn session(&mut self) -> Session {
        self.initiator.restart(self.now);
        let mut out = [0; INITIATION_LEN];
        let initiation = self.initiator.poll(self.now, &mut out).unwrap().to_vec();
        let replies = self.receive(&initiation);
        let Answer::Established(established) =
            self.initiator.receive(&replies[0], self.now).unwrap()
        else {
            panic!("a cookie");
        };
        self.receive(&established.confirm);
        Session {
            sensor: self.address,
            sealer: established.sealer,
            progress: Arc::default(),
        }
    }

    /// What the sensor's end answers.
    fn receive(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        let (mut out, mut replies) = (vec![0; 2000], Replies::new());
        let (responder, podspan) = (&mut self.responder, Self::podspan());
        let received = responder.receive(datagram, podspan, self.now, &mut out, &mut replies);
        received.unwrap();
        replies.iter().map(<[u8]>::to_vec).collect()
    }

    /// The VXLAN datagram in a sealed one.
    fn open(&mut self, sealed: &[u8]) -> Result<Vec<u8>, Refusal> {
        let (mut out, mut replies) = (vec![0; 2000], Replies::new());
        let (responder, podspan) = (&mut self.responder, Self::podspan());
        match responder.receive(sealed, podspan, self.now, &mut out, &mut replies)? {
            Opened::Vxlan { bytes, .. } => Ok(out[bytes].to_vec()),
            other => panic!("{other:?}"),
        }
    }

    /// The keepalive that the sensor's end sends ten seconds after data.
    fn keepalive(&mut self) -> [u8; KEEPALIVE_LEN] {
        self.now += Duration::from_secs(11);
        let mut sent = Vec::new();
        self.responder
            .tick(self.now, |_, datagram| sent.push(datagram.to_vec()));
        sent.concat().try_into().unwrap()
    }
}

fn table(numbers: &[u8]) -> Arc<SensorTable> {
    let added = overhead::added(Inner::DEFAULT.family());
    let sensor = |number: &u8| {
        let address = SocketAddr::from(([10, 0, 0, *number], 51_820));
        Sensor::new(address, Mtu::ETHERNET).with_tunnel(added)
    };
    Arc::new(SensorTable::new(numbers.iter().map(sensor).collect()))
}

/// A datagram of 100 bytes, sealed for a sensor.
fn seal(sessions: &mut Sessions, sensor: u16) -> Option<Vec<u8>> {
    let mut out = vec![0; overhead::sealed_len(100, Inner::DEFAULT.family())];
    let is_sealed = sessions.seal(
        SensorIndex(sensor),
        PortIndex(0),
        &[8; 60],
        &[7; 40],
        &mut out,
    );
    is_sealed.then_some(out)
}

fn datagram() -> Vec<u8> {
    [[8; 60].as_slice(), &[7; 40]].concat()
}

#[test]
fn each_sensor_has_its_own_session_in_any_table() {
    let [mut one, mut two] = [1, 2].map(Ends::new);
    let (to_worker, mut sessions) = Sessions::channel(&PORTS).unwrap();
    sessions.begin(&table(&[1, 2]), one.now);
    assert_eq!(seal(&mut sessions, 0), None, "no session yet");
    for session in [one.session(), two.session()] {
        assert!(to_worker.establish(session));
    }
    // The worker need not have been woken: a new table is enough.
    for numbers in [&[1, 2][..], &[2, 1], &[2], &[3, 1]] {
        sessions.begin(&table(numbers), one.now);
        for (index, number) in (0..).zip(numbers) {
            let sealed = seal(&mut sessions, index);
            match number {
                1 => assert_eq!(one.open(&sealed.unwrap()), Ok(datagram())),
                2 => assert_eq!(two.open(&sealed.unwrap()), Ok(datagram())),
                _ => assert_eq!(sealed, None),
            }
        }
    }
    assert_eq!(seal(&mut sessions, 9), None, "not in the table");
}

#[test]
fn a_new_session_replaces_the_one_before_and_one_that_is_over_is_not_used() {
    let mut ends = Ends::new(1);
    let (to_worker, mut sessions) = Sessions::channel(&PORTS).unwrap();
    let table = table(&[1]);
    for _ in 0..3 {
        let session = ends.session();
        let progress = Arc::clone(&session.progress);
        assert!(to_worker.establish(session));
        sessions.receive(ends.now);
        sessions.begin(&table, ends.now);
        let sealed = seal(&mut sessions, 0).unwrap();
        assert_eq!(ends.open(&sealed), Ok(datagram()));
        assert_eq!(sessions.established.len(), 1);
        assert_eq!(progress.counts().sealed, 0);
        sessions.publish();
        assert_eq!(progress.counts().sealed, 1);
        ends.now += Duration::from_secs(100);
    }
    sessions.begin(&table, ends.now + Duration::from_secs(100));
    assert_eq!(seal(&mut sessions, 0), None);
}

#[test]
fn a_sensor_that_was_removed_has_no_session_when_it_comes_back() {
    let [mut one, mut two] = [1, 2].map(Ends::new);
    let (to_worker, mut sessions) = Sessions::channel(&PORTS).unwrap();
    for session in [one.session(), two.session()] {
        assert!(to_worker.establish(session));
    }
    let table = table(&[1, 2]);
    sessions.begin(&table, one.now);
    assert!(seal(&mut sessions, 0).is_some() && seal(&mut sessions, 1).is_some());
    assert!(to_worker.end(one.address));
    sessions.receive(one.now);
    sessions.begin(&table, one.now);
    assert_eq!(seal(&mut sessions, 0), None);
    let sealed = seal(&mut sessions, 1).unwrap();
    assert_eq!(two.open(&sealed), Ok(datagram()));
}

#[test]
fn keepalives_of_the_session_count_and_others_do_not() {
    let mut ends = Ends::new(1);
    let (to_worker, mut sessions) = Sessions::channel(&PORTS).unwrap();
    let session = ends.session();
    let progress = Arc::clone(&session.progress);
    assert!(to_worker.establish(session));
    sessions.begin(&table(&[1]), ends.now);
    let sealed = seal(&mut sessions, 0).unwrap();
    ends.open(&sealed).unwrap();
    let keepalive = ends.keepalive();
    let mut forged = keepalive;
    forged[20] ^= 1;
    let elsewhere = SocketAddr::from(([10, 0, 0, 2], 51_820));
    for (from, datagram, heard) in [
        (ends.address, forged, 0),
        (elsewhere, keepalive, 0),
        (ends.address, keepalive, 1),
        (ends.address, keepalive, 1),
    ] {
        assert!(to_worker.keepalive(from, datagram));
        sessions.receive(ends.now);
        assert_eq!(progress.counts().heard, heard);
    }
}

#[test]
fn a_worker_that_does_not_read_costs_bounded_memory() {
    let (to_worker, mut sessions) = Sessions::channel(&PORTS).unwrap();
    let from = SocketAddr::from(([10, 0, 0, 1], 51_820));
    let give = || to_worker.keepalive(from, [0; KEEPALIVE_LEN]);
    let sent = (0..1000).filter(|_| give()).count();
    assert_eq!(sent, MESSAGES_MAX);
    sessions.receive(Instant::now());
    assert!(give());
}

#[test]
fn forged_keepalives_take_no_room_of_a_session() {
    let mut ends = Ends::new(1);
    let (to_worker, mut sessions) = Sessions::channel(&PORTS).unwrap();
    while to_worker.keepalive(ends.address, [0; KEEPALIVE_LEN]) {}
    let session = ends.session();
    assert!(to_worker.establish(session));
    sessions.begin(&table(&[1]), ends.now);
    let sealed = seal(&mut sessions, 0).unwrap();
    assert_eq!(ends.open(&sealed), Ok(datagram()));
}
