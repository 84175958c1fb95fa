//! A session between both ends, without a network. The bench of sealing uses it too.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Instant;

use tunnel::initiator::{Answer, Identity, Initiator, InitiatorConfig};
use tunnel::protocol::INITIATION_LEN;
use tunnel::responder::{Limits, Opened, Replies, Responder, ResponderConfig};
use tunnel::sealer::Sealer;
use tunnel::{Inner, PresharedKey, PresharedKeys, PrivateKey};

/// Where the datagrams come from.
pub(crate) const FROM: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 50_000));

/// Both ends of a session.
pub(crate) fn session(now: Instant) -> (Sealer, Responder) {
    let sensor = PrivateKey::generate();
    let preshared = PresharedKey::generate();
    let config = InitiatorConfig {
        identity: Identity::Fresh,
        sensor: sensor.public(),
        preshared: preshared.clone(),
        inner: Inner::DEFAULT,
    };
    let mut initiator = Initiator::new(config, 1, now);
    let config = ResponderConfig {
        private: sensor,
        preshared: PresharedKeys::one(preshared),
        limits: Limits::default(),
    };
    let mut responder = Responder::new(config, now);
    let mut initiation = [0; INITIATION_LEN];
    let initiation = initiator.poll(now, &mut initiation).unwrap();
    let (mut out, mut replies) = ([0; 200], Replies::new());
    let answered = responder.receive(initiation, FROM, now, &mut out, &mut replies);
    assert_eq!(answered, Ok(Opened::Answered));
    let answer = initiator.receive(replies.iter().next().unwrap(), now);
    let Ok(Answer::Established(established)) = answer else {
        panic!("{answer:?}");
    };
    let confirmed = responder.receive(&established.confirm, FROM, now, &mut out, &mut replies);
    assert_eq!(confirmed, Ok(Opened::Keepalive));
    (established.sealer, responder)
}
