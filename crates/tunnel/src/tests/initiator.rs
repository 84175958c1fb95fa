//! The control side: times, retries, silence.

use super::*;
use crate::protocol::{REJECT_AFTER, REKEY_AFTER, REKEY_ATTEMPT, SILENCE};
use crate::sealer::Counts;

const SECOND: Duration = Duration::from_secs(1);

/// The times, since the start, at which initiations come while nobody answers.
fn unanswered(seed: u32, most: Duration) -> Vec<Duration> {
    let fixture = Fixture::new();
    let mut podspan = fixture.podspan(seed);
    let mut times = Vec::new();
    loop {
        let due = podspan.initiator.due();
        let since = due - fixture.now;
        if since > most {
            return times;
        }
        assert!(podspan.initiation(due).is_some());
        times.push(since);
    }
}

#[test]
fn initiations_come_after_1_2_4_and_5_seconds_with_a_third_of_jitter() {
    let mut second = Vec::new();
    for seed in 0..20 {
        let times = unanswered(seed, Duration::from_mins(1));
        assert_eq!(times[0], Duration::ZERO);
        for (pair, step) in times.windows(2).zip([1, 2, 4, 5, 5, 5, 5]) {
            let waited = pair[1].saturating_sub(pair[0]);
            let step = Duration::from_secs(step);
            assert!(waited >= step && waited <= step + step / 3, "{waited:?}");
        }
        second.push(times[1]);
    }
    second.sort_unstable();
    second.dedup();
    assert!(second.len() > 10, "no jitter");
}

#[test]
fn nothing_is_sent_before_it_is_due() {
    let fixture = Fixture::new();
    let mut podspan = fixture.podspan(1);
    assert!(podspan.initiation(fixture.now).is_some());
    assert!(podspan.initiation(fixture.now).is_none());
    let before = podspan
        .initiator
        .due()
        .checked_sub(Duration::from_nanos(1))
        .unwrap();
    assert!(podspan.initiation(before).is_none());
    assert!(podspan.initiation(podspan.initiator.due()).is_some());
}

#[test]
fn an_initiator_never_gives_up_and_changes_a_fresh_identity_after_90_seconds() {
    let fixture = Fixture::new();
    let fixed = PrivateKey::generate();
    let config = InitiatorConfig {
        identity: Identity::Fixed(fixed.clone()),
        ..fixture.keys.initiator()
    };
    let mut fresh = fixture.podspan(1);
    let mut listed = Podspan::new(config, 1, fixture.now);
    let first = fresh.initiator.public_key();
    for podspan in [&mut fresh, &mut listed] {
        while podspan.initiator.due() < fixture.now + 2 * REKEY_ATTEMPT {
            let due = podspan.initiator.due();
            assert!(podspan.initiation(due).is_some());
        }
    }
    assert_ne!(fresh.initiator.public_key(), first);
    assert_eq!(listed.initiator.public_key(), fixed.public());
}

#[test]
fn the_answer_to_either_of_the_last_two_initiations_gives_a_session() {
    for lost in [0, 1, 2] {
        let mut fixture = Fixture::new();
        let mut podspan = fixture.podspan(1);
        let initiations = [0; 3].map(|_| {
            let due = podspan.initiator.due();
            (due, podspan.initiation(due).unwrap())
        });
        let (sent, initiation) = &initiations[lost];
        fixture.now = podspan.initiator.due();
        let (_, replies) = fixture.receive(podspan.address, initiation);
        let established = podspan.answered(&mut fixture, &replies);
        assert_eq!(established, lost > 0);
        if let Some(sealer) = podspan.sealer {
            // From the initiation that was answered, not from the last one.
            assert_eq!(sealer.ends(), *sent + REJECT_AFTER);
        }
    }
}

#[test]
fn the_next_handshake_starts_between_100_and_120_seconds_and_at_random() {
    let mut fixture = Fixture::new();
    let mut waits: Vec<_> = (0..50)
        .map(|number| fixture.peer(number).initiator.due() - fixture.now)
        .collect();
    waits.sort_unstable();
    assert!(waits[0] >= Duration::from_secs(100) && waits[49] <= REKEY_AFTER);
    assert!(
        waits[49].saturating_sub(waits[0]) > 10 * SECOND,
        "no jitter"
    );
}

#[test]
fn a_session_is_made_again_and_again_without_data() {
    let mut fixture = Fixture::new();
    let mut podspan = fixture.peer(1);
    for _ in 0..5 {
        assert!(podspan.initiator.has_session(fixture.now));
        let wait = podspan.initiator.due() - fixture.now;
        fixture.pass(wait.as_secs() + 1);
        assert!(podspan.handshake(&mut fixture));
        let sealed = podspan.seal(fixture.now, &payload(1)).unwrap();
        assert_eq!(fixture.open(podspan.address, &sealed), Ok(payload(1)));
    }
    assert_eq!(fixture.responder.totals().rekeyed, 5);
    assert_eq!(fixture.responder.peers(), 1);
}

#[test]
fn a_session_that_is_not_renewed_ends() {
    let mut fixture = Fixture::new();
    let podspan = fixture.peer(1);
    let end = fixture.now + REJECT_AFTER;
    assert!(
        podspan
            .initiator
            .has_session(end.checked_sub(SECOND).unwrap())
    );
    assert!(!podspan.initiator.has_session(end));
}

#[test]
fn data_without_a_sign_of_life_for_15_seconds_start_a_handshake() {
    let mut fixture = Fixture::new();
    let mut podspan = fixture.peer(1);
    let (start, rekey) = (fixture.now, podspan.initiator.due());
    let counts = |sealed, heard| Counts { sealed, heard };
    // Without data silence means nothing.
    podspan.initiator.observe(counts(0, 0), start + 60 * SECOND);
    assert!(!podspan.initiator.is_silent());
    podspan.initiator.observe(counts(1, 0), start + 61 * SECOND);
    podspan.initiator.observe(counts(9, 0), start + 75 * SECOND);
    assert!(!podspan.initiator.is_silent());
    assert_eq!(podspan.initiator.due(), rekey);
    let silent = start + 61 * SECOND + SILENCE;
    podspan.initiator.observe(counts(9, 0), silent);
    assert!(podspan.initiator.is_silent());
    assert_eq!(podspan.initiator.due(), silent);
    assert!(podspan.initiation(silent).is_some());
    // A keepalive ends it; the handshake goes on.
    podspan.initiator.observe(counts(9, 1), silent + SECOND);
    assert!(!podspan.initiator.is_silent());
}

#[test]
fn the_keepalives_of_the_receiver_keep_an_initiator_from_new_handshakes() {
    let mut fixture = Fixture::new();
    let mut podspan = fixture.peer(1);
    let rekey = podspan.initiator.due();
    while fixture.now + SECOND < rekey {
        let sealed = podspan.seal(fixture.now, &payload(1)).unwrap();
        assert!(fixture.open(podspan.address, &sealed).is_ok());
        for (to, keepalive) in fixture.pass(1) {
            assert_eq!(to, podspan.address);
            podspan.sealer.as_mut().unwrap().hear(&keepalive).unwrap();
        }
        let counts = podspan.sealer.as_ref().unwrap().counts();
        podspan.initiator.observe(counts, fixture.now);
        assert!(!podspan.initiator.is_silent());
    }
    assert_eq!(podspan.initiator.due(), rekey);
    let heard = podspan.sealer.unwrap().counts().heard;
    assert!((8..=12).contains(&heard), "{heard} keepalives");
}

#[test]
fn a_cookie_hastens_the_next_initiation_and_is_in_it() {
    let mut fixture = Fixture::with(|config| config.limits.without_cookie = 1);
    fixture.peer(1);
    let mut podspan = fixture.podspan(2);
    let initiation = podspan.initiation(fixture.now).unwrap();
    assert_eq!(initiation[132..], [0; 16], "no cookie yet");
    let (refused, replies) = fixture.receive(podspan.address, &initiation);
    assert_eq!(refused, Err(Refusal::CookieSent));
    let [cookie] = &replies[..] else {
        panic!("{} replies", replies.len());
    };
    for at in 0..cookie.len() {
        let mut changed = cookie.clone();
        changed[at] ^= 1;
        assert!(podspan.initiator.receive(&changed, fixture.now).is_err());
    }
    let due = podspan.initiator.due();
    let answer = podspan.initiator.receive(cookie, fixture.now).unwrap();
    assert!(matches!(answer, Answer::Cookie));
    let wait = podspan.initiator.due() - fixture.now;
    assert!(podspan.initiator.due() <= due);
    assert!(wait >= Duration::from_millis(100) && wait <= SECOND);
    fixture.now = podspan.initiator.due();
    assert!(podspan.handshake(&mut fixture));
}

#[test]
fn a_restart_starts_at_once_and_keeps_the_session() {
    let mut fixture = Fixture::new();
    let mut podspan = fixture.peer(1);
    podspan.initiator.restart(fixture.now);
    assert_eq!(podspan.initiator.due(), fixture.now);
    assert!(podspan.initiator.has_session(fixture.now));
    let sealed = podspan.seal(fixture.now, &payload(1)).unwrap();
    assert_eq!(fixture.open(podspan.address, &sealed), Ok(payload(1)));
    assert!(podspan.handshake(&mut fixture));
}

#[test]
fn a_response_that_was_changed_or_cut_is_refused_and_the_true_one_still_counts() {
    let mut fixture = Fixture::new();
    let mut podspan = fixture.podspan(1);
    let initiation = podspan.initiation(fixture.now).unwrap();
    let (_, replies) = fixture.receive(podspan.address, &initiation);
    let response = &replies[0];
    for at in 0..response.len() {
        let mut changed = response.clone();
        changed[at] ^= 0x10;
        // Without load nobody reads `mac2`.
        let is_mac2 = at >= 76;
        if !is_mac2 {
            assert!(podspan.initiator.receive(&changed, fixture.now).is_err());
        }
        assert!(
            podspan
                .initiator
                .receive(&response[..at], fixture.now)
                .is_err()
        );
    }
    assert!(podspan.answered(&mut fixture, &replies));
    // Once.
    let again = podspan
        .initiator
        .receive(response, fixture.now)
        .unwrap_err();
    assert_eq!(again, Refusal::UnknownIndex);
}

#[test]
fn what_is_no_answer_is_refused() {
    let mut fixture = Fixture::new();
    let mut podspan = fixture.podspan(1);
    let initiation = podspan.initiation(fixture.now).unwrap();
    let mut receive = |datagram: &[u8]| {
        podspan
            .initiator
            .receive(datagram, fixture.now)
            .unwrap_err()
    };
    assert_eq!(receive(&initiation), Refusal::UnexpectedType);
    assert_eq!(receive(&[4; 40]), Refusal::UnknownType);
    assert_eq!(receive(&[]), Refusal::UnknownType);
    let mut transport = [0; 32];
    transport[0] = 4;
    assert_eq!(receive(&transport), Refusal::UnexpectedType);
    let others = fixture.podspan(2).initiation(fixture.now).unwrap();
    let (_, replies) = fixture.receive(podspan.address, &others);
    // Its `mac1` is for another static key.
    let refused = podspan.initiator.receive(&replies[0], fixture.now);
    assert_eq!(refused.unwrap_err(), Refusal::Mac1);
}
