//! The next session while data are sent: nothing is lost, nothing is doubled, the order is kept.

use super::*;

/// Datagrams of an ordered stream.
const STREAM: u32 = 40;

/// Sends a stream of which the datagrams from `swap` on are sealed by the next session, whose handshake has
/// come as far before each datagram as `steps` says. Returns what arrived.
fn stream(world: &mut World, podspan: &mut Podspan, handshake_at: u32, swap: u32) -> Vec<u32> {
    let mut arrived = Vec::new();
    let mut next: Option<Sealer> = None;
    for number in 0..STREAM {
        if number == handshake_at {
            podspan.initiator.restart(world.now);
            let before = podspan.sealer.take();
            assert!(podspan.handshake(world));
            next = core::mem::replace(&mut podspan.sealer, before);
        }
        if number == swap {
            podspan.sealer = next.take().or(podspan.sealer.take());
        }
        let sealed = podspan.seal(world.now, &payload(number)).unwrap();
        let opened = world.open(podspan.address, &sealed).unwrap();
        arrived.push(u32::from_be_bytes(*opened[8..].first_chunk().unwrap()));
    }
    arrived
}

#[test]
fn a_swap_at_any_place_of_a_stream_loses_and_doubles_nothing() {
    let mut world = World::with(|config| config.limits.per_source = 10_000);
    let mut podspan = world.peer(1);
    for handshake_at in (0..STREAM).step_by(7) {
        for swap in handshake_at..STREAM {
            let arrived = stream(&mut world, &mut podspan, handshake_at, swap);
            assert_eq!(arrived, (0..STREAM).collect::<Vec<_>>());
            world.now += Duration::from_millis(50);
        }
    }
    assert!(world.responder.is_consistent());
    assert_eq!(world.responder.peers(), 1);
    assert!(world.responder.sessions() <= 2);
}

#[test]
fn datagrams_of_the_session_before_are_opened_until_it_ends() {
    let mut world = World::new();
    let mut podspan = world.peer(1);
    let under_way: Vec<_> = (0..10)
        .map(|number| podspan.seal(world.now, &payload(number)).unwrap())
        .collect();
    world.pass(120);
    assert!(podspan.handshake(&mut world));
    let new = podspan.seal(world.now, &payload(99)).unwrap();
    assert_eq!(world.open(podspan.address, &new), Ok(payload(99)));
    world.pass(59);
    for (number, sealed) in (0..).zip(&under_way) {
        assert_eq!(world.open(podspan.address, sealed), Ok(payload(number)));
    }
    assert_eq!(world.responder.sessions(), 2);
    world.pass(1);
    assert_eq!(world.responder.sessions(), 1);
    assert_eq!(world.responder.peers(), 1);
}

#[test]
fn a_session_whose_confirmation_was_lost_is_confirmed_by_data() {
    let mut world = World::new();
    let mut podspan = world.podspan(1);
    let initiation = podspan.initiation(world.now).unwrap();
    let (_, replies) = world.receive(podspan.address, &initiation);
    let answer = podspan.initiator.receive(&replies[0], world.now).unwrap();
    let Answer::Established(established) = answer else {
        panic!("no session");
    };
    podspan.sealer = Some(established.sealer);
    let sealed = podspan.seal(world.now, &payload(1)).unwrap();
    assert_eq!(world.open(podspan.address, &sealed), Ok(payload(1)));
    assert_eq!(world.responder.peers(), 1);
}

#[test]
fn a_peer_has_two_sessions_at_most() {
    let mut world = World::new();
    let mut podspan = world.peer(1);
    let oldest = podspan.seal(world.now, &payload(1)).unwrap();
    for _ in 0..20 {
        podspan.initiator.restart(world.now);
        assert!(podspan.handshake(&mut world));
        assert!(world.responder.is_consistent());
        assert!(world.responder.sessions() <= 2);
    }
    let refusal = world.refusal(podspan.address, &oldest);
    assert_eq!(refusal, Some(Refusal::UnknownIndex));
}

#[test]
fn a_sensor_that_restarted_has_the_session_again_after_a_restart_of_the_handshake() {
    let mut world = World::new();
    let mut podspan = world.peer(1);
    world.responder = Responder::new(world.keys.responder(), world.now);
    let lost = podspan.seal(world.now, &payload(1)).unwrap();
    let refusal = world.refusal(podspan.address, &lost);
    assert_eq!(refusal, Some(Refusal::UnknownIndex));
    podspan.initiator.restart(world.now);
    assert!(podspan.handshake(&mut world));
    let sealed = podspan.seal(world.now, &payload(2)).unwrap();
    assert_eq!(world.open(podspan.address, &sealed), Ok(payload(2)));
}
