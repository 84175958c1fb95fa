//! Two pre-shared keys at the responder.

use super::*;

/// A responder with two keys, and a podspan for each of them.
fn world() -> (World, [Podspan; 2], [PresharedKey; 2]) {
    let keys = [0; 2].map(|_| PresharedKey::generate());
    let [one, two] = keys.clone();
    let world = World::with(|config| config.preshared = PresharedKeys::two(one, two));
    let mut number = 0;
    let podspans = keys.clone().map(|preshared| {
        number += 1;
        let config = InitiatorConfig {
            preshared,
            ..world.keys.initiator()
        };
        Podspan::new(config, number, world.now)
    });
    (world, podspans, keys)
}

#[test]
fn either_key_gives_a_session_and_its_sibling_goes() {
    let (mut world, podspans, _) = world();
    for mut podspan in podspans {
        let initiation = podspan.initiation(world.now).unwrap();
        let (_, mut replies) = world.receive(podspan.address, &initiation);
        assert_eq!(replies.len(), 2);
        assert_eq!(world.responder.half_open(), 2);
        // In whatever order they arrive.
        replies.reverse();
        assert!(podspan.answered(&mut world, &replies));
        assert_eq!(world.responder.half_open(), 0);
        assert!(world.responder.is_consistent());
        let sealed = podspan.seal(world.now, &payload(1)).unwrap();
        assert_eq!(world.open(podspan.address, &sealed), Ok(payload(1)));
    }
    assert_eq!(world.responder.peers(), 2);
}

#[test]
fn boringtun_drops_the_response_of_the_other_key_and_waits_on() {
    use boringtun::noise::{Tunn, TunnResult};
    let (mut world, _, keys) = world();
    for key in &keys {
        let from = "10.2.2.2:1".parse().unwrap();
        let mut tunn = Tunn::new(
            PrivateKey::generate().secret().clone(),
            world.keys.sensor.public().point(),
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
        let (_, replies) = world.receive(from, initiation);
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
    let mut world = World::with(|config| config.preshared = PresharedKeys::one(old.clone()));
    let config = InitiatorConfig {
        preshared: old.clone(),
        ..world.keys.initiator()
    };
    let mut podspan = Podspan::new(config, 1, world.now);
    assert!(podspan.handshake(&mut world));
    for number in 0..400 {
        match number {
            // The sensor has both keys first, then podspan has the new one, then the old one goes.
            100 => {
                let both = PresharedKeys::two(old.clone(), new.clone());
                world.responder.set_preshared(both);
            }
            200 => podspan.initiator.set_preshared(new.clone(), world.now),
            300 => {
                let last = PresharedKeys::one(new.clone());
                world.responder.set_preshared(last);
            }
            _ => {}
        }
        if podspan.initiator.due() <= world.now {
            assert!(podspan.handshake(&mut world), "datagram {number}");
        }
        let sealed = podspan.seal(world.now, &payload(number)).unwrap();
        assert_eq!(world.open(podspan.address, &sealed), Ok(payload(number)));
        world.pass(1);
    }
    assert_eq!(world.responder.totals().opened, 400);
    assert!(world.responder.totals().rekeyed >= 3);
}

#[test]
fn a_key_that_was_removed_gives_no_new_session() {
    let (mut world, [mut old, _], [_, new]) = world();
    assert!(old.handshake(&mut world));
    world.responder.set_preshared(PresharedKeys::one(new));
    let sealed = old.seal(world.now, &payload(1)).unwrap();
    assert_eq!(world.open(old.address, &sealed), Ok(payload(1)));
    old.initiator.restart(world.now);
    assert!(!old.handshake(&mut world));
    world.pass(180);
    assert_eq!(world.responder.peers(), 0);
}

#[test]
fn the_same_key_at_podspan_starts_no_handshake() {
    let mut world = World::new();
    let mut podspan = world.peer(1);
    let due = podspan.initiator.due();
    let key = world.keys.preshared.clone();
    podspan.initiator.set_preshared(key, world.now);
    assert_eq!(podspan.initiator.due(), due);
}
