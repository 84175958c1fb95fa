//! Admission: what strangers may cost, and that they harm nobody.

use std::num::NonZeroU8;

use super::*;
use crate::responder::steer;

/// An initiation of a new static key, made with the sensor's public key alone.
fn strangers_initiation(fixture: &Fixture) -> Vec<u8> {
    let config = InitiatorConfig {
        preshared: PresharedKey::generate(),
        ..fixture.keys.initiator()
    };
    let mut stranger = Podspan::new(config, rand(), fixture.now);
    stranger.initiation(fixture.now).unwrap()
}

fn rand() -> u32 {
    u32::from_ne_bytes(crate::keys::random())
}

fn address(number: u32) -> SocketAddr {
    let [_, a, b, c] = number.to_be_bytes();
    SocketAddr::from(([172, a, b, c], 1))
}

#[test]
fn a_replayed_initiation_is_refused_while_the_peer_is_known_and_after() {
    let mut fixture = Fixture::new();
    let mut podspan = fixture.podspan(1);
    let initiation = podspan.initiation(fixture.now).unwrap();
    let (_, replies) = fixture.receive(podspan.address, &initiation);
    let replayed = Some(Refusal::ReplayedInitiation);
    assert_eq!(fixture.refusal(podspan.address, &initiation), replayed);
    assert!(podspan.answered(&mut fixture, &replies));
    assert_eq!(fixture.refusal(podspan.address, &initiation), replayed);
    podspan.initiator.restart(fixture.now);
    assert!(podspan.handshake(&mut fixture));
    assert_eq!(fixture.refusal(podspan.address, &initiation), replayed);
    fixture.pass(200);
    assert_eq!(fixture.responder.peers(), 0);
    assert_eq!(fixture.refusal(address(1), &initiation), replayed);
    assert_eq!(fixture.responder.sessions(), 0);
}

#[test]
fn an_older_initiation_that_never_arrived_is_refused_too() {
    let mut fixture = Fixture::new();
    let mut podspan = fixture.podspan(1);
    let old = podspan.initiation(fixture.now).unwrap();
    fixture.now = podspan.initiator.due();
    let new = podspan.initiation(fixture.now).unwrap();
    assert_eq!(fixture.refusal(podspan.address, &new), None);
    let refusal = fixture.refusal(podspan.address, &old);
    assert_eq!(refusal, Some(Refusal::ReplayedInitiation));
}

#[test]
fn strangers_cannot_push_out_confirmed_sessions_and_their_own_are_bounded() {
    let mut fixture = Fixture::with(|config| {
        config.limits.half_open = 8;
        config.limits.without_cookie = 1_000_000;
        config.limits.handshakes = 1_000_000;
    });
    let mut peers: Vec<_> = (0..5).map(|number| fixture.peer(number)).collect();
    for number in 0..100 {
        let initiation = strangers_initiation(&fixture);
        assert_eq!(fixture.refusal(address(number), &initiation), None);
        assert!(fixture.responder.half_open() <= 8);
        assert!(fixture.responder.is_consistent());
    }
    assert_eq!(fixture.responder.totals().half_open_evicted, 92);
    assert_eq!(fixture.responder.sessions(), 5 + 8);
    for podspan in &mut peers {
        let sealed = podspan.seal(fixture.now, &payload(1)).unwrap();
        assert_eq!(fixture.open(podspan.address, &sealed), Ok(payload(1)));
        podspan.initiator.restart(fixture.now);
        assert!(podspan.handshake(&mut fixture));
    }
    fixture.pass(5);
    assert_eq!(fixture.responder.half_open(), 0);
}

#[test]
fn a_flood_costs_a_bounded_number_of_handshakes_and_peers_are_undisturbed() {
    let mut fixture = Fixture::with(|config| {
        config.limits.handshakes = 20;
        config.limits.without_cookie = 1_000_000;
    });
    let mut peers: Vec<_> = (0..5).map(|number| fixture.peer(number)).collect();
    fixture.pass(5);
    let answered = fixture.responder.totals().answered;
    let mut flooded = 0;
    let mut rekeyed = 0;
    // Ten seconds with 100 initiations each, from as many addresses.
    for second in 0..10 {
        for number in 0..100 {
            let initiation = strangers_initiation(&fixture);
            fixture.refusal(address(second * 100 + number), &initiation);
            flooded += 1;
        }
        for podspan in &mut peers {
            podspan.initiator.restart(fixture.now);
            assert!(podspan.handshake(&mut fixture));
            rekeyed += 1;
            let sealed = podspan.seal(fixture.now, &payload(second)).unwrap();
            assert_eq!(fixture.open(podspan.address, &sealed), Ok(payload(second)));
        }
        fixture.pass(1);
    }
    let answered = fixture.responder.totals().answered - answered - rekeyed;
    // A burst of a second, and nine seconds.
    assert!(answered <= 20 * 10, "{answered} of {flooded}");
    let refused = fixture.responder.totals().refused.of(Refusal::TotalRate);
    assert_eq!(refused + answered, flooded);
}

#[test]
fn a_flood_from_one_address_is_bounded_for_itself() {
    let mut fixture = Fixture::with(|config| {
        config.limits.per_source = 3;
        config.limits.without_cookie = 1_000_000;
    });
    let mut other = fixture.podspan(1);
    for at in 0..20 {
        let initiation = strangers_initiation(&fixture);
        let expected = (at >= 6).then_some(Refusal::SourceRate);
        assert_eq!(fixture.refusal(address(7), &initiation), expected);
    }
    assert!(other.handshake(&mut fixture));
    fixture.pass(1);
    let initiation = strangers_initiation(&fixture);
    assert_eq!(fixture.refusal(address(7), &initiation), None);
}

#[test]
fn under_load_a_forged_address_gets_a_cookie_and_no_handshake() {
    let mut fixture = Fixture::with(|config| config.limits.without_cookie = 5);
    for number in 0..50 {
        let initiation = strangers_initiation(&fixture);
        let (received, replies) = fixture.receive(address(number), &initiation);
        if number < 5 {
            assert_eq!(received, Ok(Opened::Answered));
        } else {
            assert_eq!(received, Err(Refusal::CookieSent));
            // Less than was sent: nothing is amplified.
            assert_eq!(replies.iter().map(Vec::len).collect::<Vec<_>>(), [64]);
        }
    }
    assert_eq!(fixture.responder.half_open(), 5);
    // A cookie is for the address that it was sent to.
    let mut podspan = fixture.podspan(1);
    let initiation = podspan.initiation(fixture.now).unwrap();
    let (_, replies) = fixture.receive(podspan.address, &initiation);
    let answer = podspan.initiator.receive(&replies[0], fixture.now);
    assert!(matches!(answer, Ok(Answer::Cookie)));
    let with_cookie = podspan.initiation(podspan.initiator.due()).unwrap();
    let elsewhere = fixture.refusal(address(99), &with_cookie);
    assert_eq!(elsewhere, Some(Refusal::CookieSent));
    let (answered, _) = fixture.receive(podspan.address, &with_cookie);
    assert_eq!(answered, Ok(Opened::Answered));
}

#[test]
fn there_are_no_more_peers_than_allowed_and_room_is_free_again() {
    let mut fixture = Fixture::with(|config| config.limits.peers = 3);
    let mut peers: Vec<_> = (0..3).map(|number| fixture.peer(number)).collect();
    let mut fourth = fixture.podspan(4);
    let initiation = fourth.initiation(fixture.now).unwrap();
    let refusal = fixture.refusal(fourth.address, &initiation);
    assert_eq!(refusal, Some(Refusal::Full));
    // Those that are peers go on.
    peers[0].initiator.restart(fixture.now);
    assert!(peers[0].handshake(&mut fixture));
    fixture.pass(180);
    assert_eq!(fixture.responder.peers(), 0);
    fourth.initiator.restart(fixture.now);
    assert!(fourth.handshake(&mut fixture));
}

#[test]
fn a_peer_too_many_that_was_answered_is_refused_when_it_confirms() {
    let mut fixture = Fixture::with(|config| config.limits.peers = 1);
    let mut podspans = [1, 2].map(|number| fixture.podspan(number));
    let replies = podspans.each_mut().map(|podspan| {
        let initiation = podspan.initiation(fixture.now).unwrap();
        fixture.receive(podspan.address, &initiation).1
    });
    let [one, two] = &mut podspans;
    assert!(one.answered(&mut fixture, &replies[0]));
    assert!(!two.answered(&mut fixture, &replies[1]));
    assert!(fixture.responder.is_consistent());
    assert_eq!(fixture.responder.totals().refused.of(Refusal::Full), 1);
    assert_eq!(fixture.responder.sessions(), 1);
}

#[test]
fn keepalives_come_every_ten_seconds_while_data_arrive_and_not_else() {
    let mut fixture = Fixture::new();
    let mut podspan = fixture.peer(1);
    assert!(fixture.pass(30).is_empty());
    let mut times = Vec::new();
    for second in 0..60 {
        let sealed = podspan.seal(fixture.now, &payload(1)).unwrap();
        assert!(fixture.open(podspan.address, &sealed).is_ok());
        times.extend(fixture.pass(1).iter().map(|_| second));
    }
    assert!((5..=7).contains(&times.len()), "{times:?}");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 10));
    assert!(fixture.pass(60).len() <= 1);
}

#[test]
fn data_of_the_session_before_are_answered_in_it() {
    let mut fixture = Fixture::new();
    let mut podspan = fixture.peer(1);
    let before = podspan.sealer.take();
    podspan.initiator.restart(fixture.now);
    assert!(podspan.handshake(&mut fixture));
    podspan.sealer = before;
    let sealed = podspan.seal(fixture.now, &payload(1)).unwrap();
    assert!(fixture.open(podspan.address, &sealed).is_ok());
    let keepalives = fixture.pass(11);
    assert_eq!(keepalives.len(), 1);
    assert_eq!(podspan.sealer.unwrap().hear(&keepalives[0].1), Ok(()));
}

#[test]
fn the_datagrams_of_a_session_are_steered_to_the_thread_that_made_it() {
    let now = Instant::now();
    let keys = Keys::new();
    for threads in [1, 2, 3, 7, 64, 255] {
        let threads = NonZeroU8::new(threads).unwrap();
        let mut group = Responder::group(&keys.responder(), threads, now);
        for number in 0..20 {
            let mut podspan = Podspan::new(keys.initiator(), number, now);
            let initiation = podspan.initiation(now).unwrap();
            let thread = steer(&initiation, threads);
            let responder = &mut group[usize::from(thread)];
            let (mut out, mut replies) = ([0; 200], Replies::new());
            let answered =
                responder.receive(&initiation, podspan.address, now, &mut out, &mut replies);
            assert_eq!(answered, Ok(Opened::Answered));
            let response = replies.iter().next().unwrap();
            let Ok(Answer::Established(established)) = podspan.initiator.receive(response, now)
            else {
                panic!("no session");
            };
            assert_eq!(steer(&established.confirm, threads), thread);
        }
    }
}

#[test]
fn a_cookie_of_one_thread_is_valid_at_the_others() {
    let now = Instant::now();
    let keys = Keys::new();
    let mut config = keys.responder();
    config.limits.without_cookie = 1;
    let mut group = Responder::group(&config, NonZeroU8::new(2).unwrap(), now);
    let (mut out, mut replies) = ([0; 200], Replies::new());
    let mut receive = |responder: &mut Responder, podspan: &mut Podspan, at| {
        let initiation = podspan.initiation(at).unwrap();
        let received = responder.receive(&initiation, podspan.address, at, &mut out, &mut replies);
        (received, replies.iter().next().map(<[u8]>::to_vec))
    };
    for responder in &mut group {
        let mut first = Podspan::new(keys.initiator(), 1, now);
        assert!(receive(responder, &mut first, now).0.is_ok());
    }
    let mut podspan = Podspan::new(keys.initiator(), 2, now);
    let (refused, cookie) = receive(&mut group[0], &mut podspan, now);
    assert_eq!(refused, Err(Refusal::CookieSent));
    podspan.initiator.receive(&cookie.unwrap(), now).unwrap();
    let due = podspan.initiator.due();
    // The budget without cookies is used up again.
    let mut other = Podspan::new(keys.initiator(), 3, due);
    let _ = receive(&mut group[1], &mut other, due);
    let (answered, _) = receive(&mut group[1], &mut podspan, due);
    assert_eq!(answered, Ok(Opened::Answered));
}
