//! Two pre-shared keys at the responder.

use super::*;

/// A responder with two keys, and a podspan for each of them.
fn fixture() -> (Fixture, [Podspan; 2], [PresharedKey; 2]) {
    let keys = [0; 2].map(|_| PresharedKey::generate());
    let [one, two] = keys.clone();
    let fixture = Fixture::with(|config| config.preshared = PresharedKeys::two(one, two));
    let mut number = 0;
    let podspans = keys.clone().map(|preshared| {
        number += 1;
        let config = InitiatorConfig {
            preshared,
            ..fixture.keys.initiator()
        };
        Podspan::new(config, number, fixture.now)
    });
    (fixture, podspans, keys)
}

#[test]
fn either_key_gives_a_session_and_its_sibling_goes() {
    let (mut fixture, podspans, _) = fixture();
    for mut podspan in podspans {
        let initiation = podspan.initiation(fixture.now).unwrap();
        let (_, mut replies) = fixture.receive(podspan.address, &initiation);
        assert_eq!(replies.len(), 2);
        assert_eq!(fixture.responder.half_open(), 2);
        // In whatever order they arrive.
        replies.reverse();
        assert!(podspan.answered(&mut fixture, &replies));
        assert_eq!(fixture.responder.half_open(), 0);
        assert!(fixture.responder.is_consistent());
        let sealed = podspan.seal(fixture.now, &payload(1)).unwrap();
        assert_eq!(fixture.open(podspan.address, &sealed), Ok(payload(1)));
    }
    assert_eq!(fixture.responder.peers(), 2);
    assert_eq!(fixture.responder.totals().with_older_key, 1);
}

#[test]
fn boringtun_drops_the_response_of_the_other_key_and_waits_on() {
    use boringtun::noise::{Tunn, TunnResult};
    let (mut fixture, _, keys) = fixture();
    for key in &keys {
        let from = "10.2.2.2:1".parse().unwrap();
        let mut tunn = Tunn::new(
            PrivateKey::generate().secret().clone(),
            fixture.keys.sensor.public().point(),
            Some(key.bytes()),
            None,
            1,
            None,
        );
        let mut out = [0; 200];
        let TunnResult::WriteToNetwork(initiation) =
            tunn.format_handshake_initiation(&mut out, false)
        else {
            panic!("no initiation");
        };
        let (_, replies) = fixture.receive(from, initiation);
        let taken = replies.iter().filter(|reply| {
            matches!(
                tunn.decapsulate(None, reply, &mut out),
                TunnResult::WriteToNetwork(_)
            )
        });
        assert_eq!(taken.count(), 1);
    }
}

#[test]
fn a_rotation_under_load_loses_and_doubles_nothing() {
    let [old, new] = [0; 2].map(|_| PresharedKey::generate());
    let mut fixture = Fixture::with(|config| config.preshared = PresharedKeys::one(old.clone()));
    let config = InitiatorConfig {
        preshared: old.clone(),
        ..fixture.keys.initiator()
    };
    let mut podspan = Podspan::new(config, 1, fixture.now);
    assert!(podspan.handshake(&mut fixture));
    for number in 0..400 {
        match number {
            // The sensor has both keys first, then podspan has the new one, then the old one goes.
            100 => {
                let both = PresharedKeys::two(old.clone(), new.clone());
                fixture.responder.set_preshared(both);
            }
            200 => {
                let config = InitiatorConfig {
                    preshared: new.clone(),
                    ..fixture.keys.initiator()
                };
                podspan.initiator.set_config(config, fixture.now);
            }
            300 => {
                let last = PresharedKeys::one(new.clone());
                fixture.responder.set_preshared(last);
            }
            _ => {}
        }
        if podspan.initiator.due() <= fixture.now {
            assert!(podspan.handshake(&mut fixture), "datagram {number}");
        }
        let sealed = podspan.seal(fixture.now, &payload(number)).unwrap();
        assert_eq!(fixture.open(podspan.address, &sealed), Ok(payload(number)));
        fixture.pass(1);
    }
    assert_eq!(fixture.responder.totals().opened, 400);
    assert!(fixture.responder.totals().rekeyed >= 3);
}

#[test]
fn a_key_that_was_removed_gives_no_new_session() {
    let (mut fixture, [mut old, _], [_, new]) = fixture();
    assert!(old.handshake(&mut fixture));
    fixture.responder.set_preshared(PresharedKeys::one(new));
    let sealed = old.seal(fixture.now, &payload(1)).unwrap();
    assert_eq!(fixture.open(old.address, &sealed), Ok(payload(1)));
    old.initiator.restart(fixture.now);
    assert!(!old.handshake(&mut fixture));
    fixture.pass(180);
    assert_eq!(fixture.responder.peers(), 0);
}

#[test]
fn other_keys_at_podspan_start_a_handshake_and_only_a_given_private_key_changes_the_identity() {
    let mut fixture = Fixture::new();
    let mut podspan = fixture.peer(1);
    let before = podspan.initiator.public_key();
    podspan
        .initiator
        .set_config(fixture.keys.initiator(), fixture.now);
    assert_eq!(podspan.initiator.due(), fixture.now);
    assert_eq!(podspan.initiator.public_key(), before);
    assert!(podspan.handshake(&mut fixture));

    let private = PrivateKey::generate();
    let fixed = InitiatorConfig {
        identity: Identity::Fixed(private.clone()),
        ..fixture.keys.initiator()
    };
    podspan.initiator.set_config(fixed, fixture.now);
    assert_eq!(podspan.initiator.public_key(), private.public());
    assert!(podspan.handshake(&mut fixture));
}
