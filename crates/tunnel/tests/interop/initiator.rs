//! podspan's end to wireguard-go, which lists podspan's key: the form with a stock interface at the sensor.

use std::net::UdpSocket;
use std::time::Instant;

use testbed::Namespace;
use tunnel::initiator::{Answer, Established, Identity, Initiator, InitiatorConfig};
use tunnel::protocol::INITIATION_LEN;
use tunnel::sealer::Scratch;
use tunnel::{Inner, PresharedKey, Sealer};

use crate::{Configuration, End, Keys, Test, payload, receive, socket, wait_for};

const PORT: u16 = 51_820;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("datagrams_come_out_of_wireguard_go_over_ipv4", || {
            stream("10.77.0.1", "10.77.0.2");
        }),
        ("datagrams_come_out_of_wireguard_go_over_ipv6", || {
            stream("fd77::1", "fd77::2");
        }),
        ("wireguard_go_takes_the_next_session_in_a_stream", rekey),
        ("wireguard_gos_keepalive_is_heard", keepalive),
        ("wireguard_go_refuses_what_was_changed_or_repeated", changed),
        ("wireguard_go_gives_no_session_for_a_wrong_key", wrong_key),
    ]
}

/// podspan's end, and wireguard-go's with a socket behind it.
struct Scene {
    initiator: Initiator,
    socket: UdpSocket,
    /// Where the datagrams come out.
    sensor: UdpSocket,
    end: End,
    sealer: Option<Sealer>,
    scratch: Scratch,
}

impl Scene {
    fn new(ours: &'static str, theirs: &'static str, preshared: Option<PresharedKey>) -> Self {
        let keys = Keys::new();
        let namespace = Namespace::new().unwrap();
        let end = End::start(
            namespace,
            &Configuration {
                keys: &keys,
                peer: keys.ours.public(),
                port: PORT,
                endpoint: None,
                address: theirs,
                other: ours,
            },
        );
        let config = InitiatorConfig {
            sensor: keys.theirs.public(),
            identity: Identity::Fixed(keys.ours.clone()),
            preshared: preshared.unwrap_or_else(|| keys.preshared.clone()),
            inner: Inner::new(ours.parse().unwrap(), theirs.parse().unwrap()).unwrap(),
        };
        let socket = socket(&end.namespace, "127.0.0.1:0");
        socket.connect(("127.0.0.1", PORT)).unwrap();
        let address = if theirs.contains(':') {
            format!("[{theirs}]:4789")
        } else {
            format!("{theirs}:4789")
        };
        Self {
            initiator: Initiator::new(config, 1, Instant::now()),
            socket,
            // The address is usable as soon as the device is up.
            sensor: end.socket(&address),
            end,
            sealer: None,
            scratch: Scratch::new(),
        }
    }

    /// Sends the initiation that is due, and takes the answer if there is one.
    fn step(&mut self) -> Option<Sealer> {
        let mut out = [0; INITIATION_LEN];
        if let Some(initiation) = self.initiator.poll(Instant::now(), &mut out) {
            self.socket.send(initiation).unwrap();
        }
        let (answer, _) = receive(&self.socket)?;
        match self.initiator.receive(&answer, Instant::now()).ok()? {
            Answer::Established(Established { sealer, confirm }) => {
                self.socket.send(&confirm).unwrap();
                Some(sealer)
            }
            Answer::Cookie => None,
        }
    }

    fn handshake(&mut self) {
        let sealer = wait_for("session", || self.step());
        self.sealer = Some(sealer);
    }

    fn seal(&mut self, payload: &[u8]) -> Vec<u8> {
        let sealer = self.sealer.as_mut().unwrap();
        let mut out = vec![0; sealer.sealed_len(payload.len())];
        let mut sealing = sealer.begin(Instant::now(), &mut self.scratch).unwrap();
        sealing
            .seal(50_123, &payload[..8], &payload[8..], &mut out)
            .unwrap();
        out
    }

    /// Sends a payload, and returns what came out and from which port.
    fn send(&mut self, payload: &[u8]) -> (Vec<u8>, u16) {
        let sealed = self.seal(payload);
        self.socket.send(&sealed).unwrap();
        let (received, from) = wait_for("datagram", || receive(&self.sensor));
        (received, from.port())
    }
}

fn stream(ours: &'static str, theirs: &'static str) {
    let mut scene = Scene::new(ours, theirs, None);
    scene.handshake();
    for (number, length) in (0..).zip((12..1_340).step_by(61)) {
        let payload = payload(number, length);
        assert_eq!(scene.send(&payload), (payload, 50_123));
    }
}

fn rekey() {
    let mut scene = Scene::new("10.77.0.1", "10.77.0.2", None);
    scene.handshake();
    let mut next = None;
    for number in 0..60 {
        let payload = payload(number, 100);
        match number {
            // wireguard-go refuses two initiations within 20 ms.
            20 => {
                std::thread::sleep(std::time::Duration::from_millis(50));
                scene.initiator.restart(Instant::now());
                next = Some(wait_for("session", || scene.step()));
            }
            40 => scene.sealer = next.take(),
            _ => {}
        }
        assert_eq!(scene.send(&payload).0, payload);
    }
}

fn keepalive() {
    let mut scene = Scene::new("10.77.0.1", "10.77.0.2", None);
    scene.handshake();
    let payload = payload(1, 100);
    let sealer = |scene: &Scene| scene.sealer.as_ref().unwrap().counts().heard;
    assert_eq!(scene.send(&payload).0, payload);
    // It comes ten seconds after data without an answer.
    wait_for("keepalive", || {
        let (datagram, _) = receive(&scene.socket)?;
        scene.sealer.as_mut().unwrap().hear(&datagram).ok()
    });
    assert!(sealer(&scene) > 0);
}

fn changed() {
    let mut scene = Scene::new("10.77.0.1", "10.77.0.2", None);
    scene.handshake();
    let sealed = scene.seal(&payload(1, 100));
    for at in [0, 4, 8, 16, 60, sealed.len() - 1] {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        scene.socket.send(&changed).unwrap();
    }
    scene.socket.send(&sealed).unwrap();
    scene.socket.send(&sealed).unwrap();
    scene.socket.send(&sealed[..sealed.len() - 1]).unwrap();
    // All of them before it are through when this one is: there is one queue for a peer.
    let last = payload(2, 100);
    let sealed = scene.seal(&last);
    scene.socket.send(&sealed).unwrap();
    let mut arrived = Vec::new();
    wait_for("last datagram", || {
        arrived.push(receive(&scene.sensor)?.0);
        (arrived.last() == Some(&last)).then_some(())
    });
    assert_eq!(arrived, [payload(1, 100), last]);
}

fn wrong_key() {
    let mut scene = Scene::new("10.77.0.1", "10.77.0.2", Some(PresharedKey::generate()));
    let mut out = [0; INITIATION_LEN];
    let initiation = scene.initiator.poll(Instant::now(), &mut out).unwrap();
    scene.socket.send(initiation).unwrap();
    let (response, _) = wait_for("response", || receive(&scene.socket));
    let refused = scene.initiator.receive(&response, Instant::now());
    assert_eq!(refused.unwrap_err(), tunnel::Refusal::NotAuthentic);
    assert!(scene.end.process.try_wait().unwrap().is_none());
}
