//! wireguard-go to the sensor's end, which knows nothing of it but the pre-shared key.

use std::net::UdpSocket;
use std::time::Instant;

use testbed::Namespace;
use tunnel::responder::{Limits, Opened, Replies, Responder, ResponderConfig};
use tunnel::{PresharedKey, PresharedKeys, Refusal};

use crate::{Configuration, End, Keys, Test, payload, receive, socket, wait_for};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("datagrams_of_wireguard_go_are_opened_over_ipv4", || {
            stream("10.78.0.1", "10.78.0.2");
        }),
        ("datagrams_of_wireguard_go_are_opened_over_ipv6", || {
            stream("fd78::1", "fd78::2");
        }),
        (
            "wireguard_go_takes_the_response_of_its_key_of_two",
            rotation,
        ),
        ("wireguard_go_comes_back_with_a_cookie", cookie),
        (
            "a_wrong_pre_shared_key_of_wireguard_go_gives_no_peer",
            wrong_key,
        ),
    ]
}

/// What a datagram was: a VXLAN datagram with its inner source port, or something else that was accepted or
/// refused.
type Received = Result<(Vec<u8>, u16), Option<Refusal>>;

/// wireguard-go's end with a socket behind it, and the sensor's end.
struct Scene {
    responder: Responder,
    socket: UdpSocket,
    /// Where the datagrams go in.
    source: UdpSocket,
    to: String,
    _end: End,
}

impl Scene {
    fn new(
        theirs: &'static str,
        ours: &'static str,
        preshared: impl FnOnce(PresharedKey) -> PresharedKeys,
        limits: Limits,
    ) -> Self {
        let keys = Keys::new();
        let namespace = Namespace::new().unwrap();
        let socket = socket(&namespace, "127.0.0.1:0");
        let end = End::start(
            namespace,
            &Configuration {
                keys: &keys,
                peer: keys.ours.public(),
                port: 0,
                endpoint: Some(socket.local_addr().unwrap()),
                address: theirs,
                other: ours,
            },
        );
        let config = ResponderConfig {
            private: keys.ours.clone(),
            preshared: preshared(keys.preshared.clone()),
            limits,
        };
        let bracketed = |address: &str| {
            if address.contains(':') {
                format!("[{address}]")
            } else {
                address.to_owned()
            }
        };
        Self {
            responder: Responder::new(config, Instant::now()),
            socket,
            source: end.socket(&format!("{}:50124", bracketed(theirs))),
            to: format!("{}:4789", bracketed(ours)),
            _end: end,
        }
    }

    fn send(&self, payload: &[u8]) {
        self.source.send_to(payload, &self.to).unwrap();
    }

    /// Takes the next datagram; what it was, if one came.
    fn step(&mut self) -> Option<Received> {
        let (datagram, from) = receive(&self.socket)?;
        let (mut out, mut replies) = ([0; 2_000], Replies::new());
        let now = Instant::now();
        let received = self
            .responder
            .receive(&datagram, from, now, &mut out, &mut replies);
        for reply in replies.iter() {
            self.socket.send_to(reply, from).unwrap();
        }
        Some(match received {
            Ok(Opened::Vxlan {
                bytes, source_port, ..
            }) => Ok((out[bytes].to_vec(), source_port)),
            Ok(_) => Err(None),
            Err(refusal) => Err(Some(refusal)),
        })
    }

    /// The next VXLAN datagram.
    fn opened(&mut self) -> (Vec<u8>, u16) {
        wait_for("datagram", || self.step()?.ok())
    }
}

fn stream(theirs: &'static str, ours: &'static str) {
    let mut scene = Scene::new(theirs, ours, PresharedKeys::one, Limits::default());
    for (number, length) in (0..).zip((12..1_340).step_by(61)) {
        let payload = payload(number, length);
        scene.send(&payload);
        assert_eq!(scene.opened(), (payload, 50_124));
    }
    assert_eq!(scene.responder.totals().refused.total(), 0);
    assert_eq!(scene.responder.peers(), 1);
}

fn rotation() {
    for is_first in [false, true] {
        let other = PresharedKey::generate();
        let both = |key| {
            if is_first {
                PresharedKeys::two(key, other)
            } else {
                PresharedKeys::two(other, key)
            }
        };
        let mut scene = Scene::new("10.78.0.1", "10.78.0.2", both, Limits::default());
        for number in 0..10 {
            let payload = payload(number, 100);
            scene.send(&payload);
            assert_eq!(scene.opened().0, payload);
        }
        // One handshake was enough.
        assert_eq!(scene.responder.totals().answered, 1);
        assert_eq!(
            (scene.responder.peers(), scene.responder.sessions()),
            (1, 1)
        );
    }
}

fn cookie() {
    let limits = Limits {
        without_cookie: 1,
        ..Limits::default()
    };
    let mut scene = Scene::new("10.78.0.1", "10.78.0.2", PresharedKeys::one, limits);
    let payload = payload(1, 100);
    scene.send(&payload);
    let (first, from) = wait_for("initiation", || receive(&scene.socket));
    // It is lost. Others have used up what is given without a cookie: two of them in the same second do.
    let (mut out, mut replies) = ([0; 200], Replies::new());
    let mut receive_now = |responder: &mut Responder, datagram: &[u8], replies: &mut Replies| {
        responder.receive(datagram, from, Instant::now(), &mut out, replies)
    };
    let is_loaded = |received| received == Err(Refusal::CookieSent);
    wait_for("load", || {
        is_loaded(receive_now(&mut scene.responder, &first, &mut replies)).then_some(())
    });
    for reply in replies.iter() {
        scene.socket.send_to(reply, from).unwrap();
    }
    // wireguard-go waits five seconds.
    let (second, _) = wait_for("second initiation", || receive(&scene.socket));
    assert_ne!(second[132..], [0; 16], "no cookie");
    let mut others = Replies::new();
    wait_for("load", || {
        is_loaded(receive_now(&mut scene.responder, &first, &mut others)).then_some(())
    });
    let answered = receive_now(&mut scene.responder, &second, &mut replies);
    assert_eq!(answered, Ok(Opened::Answered));
    for reply in replies.iter() {
        scene.socket.send_to(reply, from).unwrap();
    }
    assert_eq!(scene.opened().0, payload);
    assert_eq!(scene.responder.peers(), 1);
}

fn wrong_key() {
    let other = |_| PresharedKeys::one(PresharedKey::generate());
    let mut scene = Scene::new("10.78.0.1", "10.78.0.2", other, Limits::default());
    scene.send(&payload(1, 100));
    wait_for("initiation", || match scene.step()? {
        Err(None) => Some(()),
        other => panic!("{other:?}"),
    });
    // wireguard-go has the response, drops it, and sends no data.
    let more: Vec<_> = (0..10).filter_map(|_| scene.step()).collect();
    assert_eq!(more, []);
    assert_eq!(scene.responder.peers(), 0);
}
