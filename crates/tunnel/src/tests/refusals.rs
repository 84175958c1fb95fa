//! What a podspan with the right keys can send that is refused: made by boringtun.

use boringtun::noise::{Tunn, TunnResult};

use super::*;
use crate::inner::Headers;

/// boringtun's own initiator with a session at the responder.
fn boringtun(fixture: &mut Fixture) -> (Tunn, SocketAddr) {
    let from = "10.1.1.1:1000".parse().unwrap();
    let mut tunn = Tunn::new(
        PrivateKey::generate().secret().clone(),
        fixture.keys.sensor.public().point(),
        Some(fixture.keys.preshared.bytes()),
        None,
        9,
        None,
    );
    let mut out = [0; 200];
    let TunnResult::WriteToNetwork(initiation) = tunn.format_handshake_initiation(&mut out, false)
    else {
        panic!("no initiation");
    };
    let (answered, replies) = fixture.receive(from, initiation);
    assert_eq!(answered, Ok(Opened::Answered));
    let confirm = match tunn.decapsulate(None, &replies[0], &mut out) {
        TunnResult::WriteToNetwork(confirm) => confirm.to_vec(),
        other => panic!("{other:?}"),
    };
    assert_eq!(fixture.receive(from, &confirm).0, Ok(Opened::Keepalive));
    (tunn, from)
}

fn sealed(tunn: &mut Tunn, packet: &[u8]) -> Vec<u8> {
    let mut out = vec![0; packet.len() + 200];
    match tunn.encapsulate(packet, &mut out) {
        TunnResult::WriteToNetwork(datagram) => datagram.to_vec(),
        other => panic!("{other:?}"),
    }
}

/// An IPv4 packet of podspan.
fn packet() -> Vec<u8> {
    let mut packet = [vec![0; 28], payload(9)].concat();
    Headers::new(&Inner::DEFAULT)
        .write(&mut packet, 77)
        .unwrap();
    packet
}

#[test]
fn boringtuns_packets_are_opened() {
    let mut fixture = Fixture::new();
    let (mut tunn, from) = boringtun(&mut fixture);
    let datagram = sealed(&mut tunn, &packet());
    assert_eq!(fixture.open(from, &datagram), Ok(payload(9)));
    // With the padding that others add.
    let padded = [packet(), vec![0; 15]].concat();
    let datagram = sealed(&mut tunn, &padded);
    assert_eq!(fixture.open(from, &datagram), Ok(payload(9)));
}

#[test]
fn authentic_packets_that_are_no_vxlan_are_refused_with_their_reason() {
    let mut fixture = Fixture::new();
    let (mut tunn, from) = boringtun(&mut fixture);
    let changed = |at: usize, value: u8| {
        let mut packet = packet();
        packet[at] = value;
        packet
    };
    for (packet, expected) in [
        (vec![0x10; 40], Refusal::NotIp),
        (vec![0x45], Refusal::TooShort),
        (packet()[..19].to_vec(), Refusal::TooShort),
        (packet()[..30].to_vec(), Refusal::LengthMismatch),
        (changed(0, 0x44), Refusal::LengthMismatch),
        (changed(6, 0x20), Refusal::Fragment),
        (changed(9, 6), Refusal::NotUdp),
        (changed(23, 0), Refusal::WrongPort),
        (changed(25, 3), Refusal::LengthMismatch),
    ] {
        let datagram = sealed(&mut tunn, &packet);
        assert_eq!(fixture.refusal(from, &datagram), Some(expected));
    }
    // The session is unharmed.
    let datagram = sealed(&mut tunn, &packet());
    assert_eq!(fixture.open(from, &datagram), Ok(payload(9)));
}

#[test]
fn messages_that_a_responder_does_not_take_are_refused() {
    let mut fixture = Fixture::new();
    let from = fixture.podspan(1).address;
    let message = |kind: u8, length: usize| {
        let mut message = vec![0; length];
        message[0] = kind;
        message
    };
    for (message, expected) in [
        (message(2, 92), Refusal::UnexpectedType),
        (message(3, 64), Refusal::UnexpectedType),
        (message(1, 147), Refusal::UnknownType),
        (message(1, 149), Refusal::UnknownType),
        (message(5, 100), Refusal::UnknownType),
        (message(4, 31), Refusal::TooShort),
        (vec![], Refusal::TooShort),
        (message(4, 32), Refusal::UnknownIndex),
        (message(1, 148), Refusal::Mac1),
    ] {
        assert_eq!(fixture.refusal(from, &message), Some(expected));
    }
}

#[test]
fn an_initiation_that_was_changed_or_cut_is_refused_and_gives_no_session() {
    let mut fixture = Fixture::new();
    let mut podspan = fixture.podspan(1);
    let initiation = podspan.initiation(fixture.now).unwrap();
    for at in 0..initiation.len() {
        let mut changed = initiation.clone();
        changed[at] ^= 0x20;
        let expected = match at {
            0..4 => Refusal::UnknownType,
            4..132 => Refusal::Mac1,
            // Without load nobody reads `mac2`.
            _ => continue,
        };
        assert_eq!(fixture.refusal(podspan.address, &changed), Some(expected));
        let cut = fixture.refusal(podspan.address, &initiation[..at]);
        let is_short = at < 32;
        let expected = if is_short {
            Refusal::TooShort
        } else {
            Refusal::UnknownType
        };
        assert_eq!(cut, Some(expected));
    }
    assert_eq!(fixture.responder.sessions(), 0);
    let (_, replies) = fixture.receive(podspan.address, &initiation);
    assert!(podspan.answered(&mut fixture, &replies));
}

#[test]
fn the_wrong_sensor_key_gives_no_answer() {
    let mut fixture = Fixture::new();
    let config = InitiatorConfig {
        sensor: PrivateKey::generate().public(),
        ..fixture.keys.initiator()
    };
    let mut podspan = Podspan::new(config, 1, fixture.now);
    let initiation = podspan.initiation(fixture.now).unwrap();
    let (refused, replies) = fixture.receive(podspan.address, &initiation);
    assert_eq!(refused, Err(Refusal::Mac1));
    assert!(replies.is_empty());
}

#[test]
fn the_wrong_pre_shared_key_gives_no_session() {
    let mut fixture = Fixture::new();
    let config = InitiatorConfig {
        preshared: PresharedKey::generate(),
        ..fixture.keys.initiator()
    };
    let mut podspan = Podspan::new(config, 1, fixture.now);
    assert!(!podspan.handshake(&mut fixture));
    assert_eq!(fixture.responder.half_open(), 1);
    assert_eq!(fixture.responder.peers(), 0);
    fixture.pass(5);
    assert_eq!(fixture.responder.sessions(), 0);
}
