//! The next session while data are sent: nothing is lost, nothing is doubled, the order is kept.

use super::*;

/// Datagrams of an ordered stream.
const STREAM: u32 = 40;

/// Sends a stream of which the datagrams from `swap` on are sealed by the next session, whose handshake has
/// come as far before each datagram as `steps` says. Returns what arrived.
fn stream(fixture: &mut Fixture, podspan: &mut Podspan, handshake_at: u32, swap: u32) -> Vec<u32> {
    let mut arrived = Vec::new();
    let mut next: Option<Sealer> = None;
    for number in 0..STREAM {
        if number == handshake_at {
            podspan.initiator.restart(fixture.now);
            let before = podspan.sealer.take();
            assert!(podspan.handshake(fixture));
            next = core::mem::replace(&mut podspan.sealer, before);
        }
        if number == swap {
            podspan.sealer = next.take().or(podspan.sealer.take());
        }
        let sealed = podspan.seal(fixture.now, &payload(number)).unwrap();
        let opened = fixture.open(podspan.address, &sealed).unwrap();
        arrived.push(u32::from_be_bytes(*opened[8..].first_chunk().unwrap()));
    }
    arrived
}

#[test]
fn a_swap_at_any_place_of_a_stream_loses_and_doubles_nothing() {
    let mut fixture = Fixture::with(|config| config.limits.per_source = 10_000);
    let mut podspan = fixture.peer(1);
    for handshake_at in (0..STREAM).step_by(7) {
        for swap in handshake_at..STREAM {
            let arrived = stream(&mut fixture, &mut podspan, handshake_at, swap);
            assert_eq!(arrived, (0..STREAM).collect::<Vec<_>>());
            fixture.now += Duration::from_millis(50);
        }
    }
    assert!(fixture.responder.is_consistent());
    assert_eq!(fixture.responder.peers(), 1);
    assert!(fixture.responder.sessions() <= 2);
}

#[test]
fn datagrams_of_the_session_before_are_opened_until_it_ends() {
    let mut fixture = Fixture::new();
    let mut podspan = fixture.peer(1);
    let under_way: Vec<_> = (0..10)
        .map(|number| podspan.seal(fixture.now, &payload(number)).unwrap())
        .collect();
    fixture.pass(120);
    assert!(podspan.handshake(&mut fixture));
    let new = podspan.seal(fixture.now, &payload(99)).unwrap();
    assert_eq!(fixture.open(podspan.address, &new), Ok(payload(99)));
    fixture.pass(59);
    for (number, sealed) in (0..).zip(&under_way) {
        assert_eq!(fixture.open(podspan.address, sealed), Ok(payload(number)));
    }
    assert_eq!(fixture.responder.sessions(), 2);
    fixture.pass(1);
    assert_eq!(fixture.responder.sessions(), 1);
    assert_eq!(fixture.responder.peers(), 1);
}

#[test]
fn a_session_whose_confirmation_was_lost_is_confirmed_by_data() {
    let mut fixture = Fixture::new();
    let mut podspan = fixture.podspan(1);
    let initiation = podspan.initiation(fixture.now).unwrap();
    let (_, replies) = fixture.receive(podspan.address, &initiation);
    let answer = podspan.initiator.receive(&replies[0], fixture.now).unwrap();
    let Answer::Established(established) = answer else {
        panic!("no session");
    };
    podspan.sealer = Some(established.sealer);
    let sealed = podspan.seal(fixture.now, &payload(1)).unwrap();
    assert_eq!(fixture.open(podspan.address, &sealed), Ok(payload(1)));
    assert_eq!(fixture.responder.peers(), 1);
}

#[test]
fn a_peer_has_two_sessions_at_most() {
    let mut fixture = Fixture::new();
    let mut podspan = fixture.peer(1);
    let oldest = podspan.seal(fixture.now, &payload(1)).unwrap();
    for _ in 0..20 {
        podspan.initiator.restart(fixture.now);
        assert!(podspan.handshake(&mut fixture));
        assert!(fixture.responder.is_consistent());
        assert!(fixture.responder.sessions() <= 2);
    }
    let refusal = fixture.refusal(podspan.address, &oldest);
    assert_eq!(refusal, Some(Refusal::UnknownIndex));
}

#[test]
fn a_sensor_that_restarted_has_the_session_again_after_a_restart_of_the_handshake() {
    let mut fixture = Fixture::new();
    let mut podspan = fixture.peer(1);
    fixture.responder = Responder::new(fixture.keys.responder(), fixture.now);
    let lost = podspan.seal(fixture.now, &payload(1)).unwrap();
    let refusal = fixture.refusal(podspan.address, &lost);
    assert_eq!(refusal, Some(Refusal::UnknownIndex));
    podspan.initiator.restart(fixture.now);
    assert!(podspan.handshake(&mut fixture));
    let sealed = podspan.seal(fixture.now, &payload(2)).unwrap();
    assert_eq!(fixture.open(podspan.address, &sealed), Ok(payload(2)));
}
