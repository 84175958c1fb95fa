//! Datagrams that were sealed, on their way back, and what others can do to them.

use proptest::prelude::*;

use super::*;
use crate::protocol::{REJECT_AFTER, REJECT_AFTER_MESSAGES};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn any_datagrams_come_out_as_they_went_in(
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 8..1_400), 1..20),
    ) {
        let mut fixture = Fixture::new();
        let mut podspan = fixture.peer(1);
        for payload in &payloads {
            let sealed = podspan.seal(fixture.now, payload).unwrap();
            let (received, replies) = fixture.receive(podspan.address, &sealed);
            let Ok(Opened::Vxlan { bytes, source_port, .. }) = received else {
                return Err(TestCaseError::fail("not opened"));
            };
            prop_assert_eq!(&fixture.out[bytes], &payload[..]);
            prop_assert_eq!(source_port, 50_001);
            prop_assert!(replies.is_empty());
        }
        prop_assert_eq!(fixture.responder.totals().opened, payloads.len() as u64);
    }

    #[test]
    fn any_order_within_the_window_is_opened_once_each(
        order in Just((0..200_usize).collect::<Vec<_>>()).prop_shuffle(),
        again in proptest::collection::vec(0..200_usize, 0..50),
    ) {
        let mut fixture = Fixture::new();
        let mut podspan = fixture.peer(1);
        let sealed: Vec<_> = (0..200).map(|number| podspan.seal(fixture.now, &payload(number)).unwrap()).collect();
        for at in order {
            let expected = payload(u32::try_from(at).unwrap());
            prop_assert_eq!(fixture.open(podspan.address, &sealed[at]), Ok(expected));
        }
        for at in again {
            prop_assert_eq!(fixture.open(podspan.address, &sealed[at]), Err(Refusal::Replayed));
        }
    }

    #[test]
    fn any_datagram_is_refused_or_opened_and_nothing_panics(
        kind in 0_u8..6,
        index in any::<u32>(),
        counter in any::<u64>(),
        rest in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut fixture = Fixture::new();
        let podspan = fixture.peer(1);
        let mut datagram = vec![kind, 0, 0, 0];
        datagram.extend_from_slice(&index.to_le_bytes());
        datagram.extend_from_slice(&counter.to_le_bytes());
        datagram.extend_from_slice(&rest);
        prop_assert!(fixture.refusal(podspan.address, &datagram).is_some());
        prop_assert_eq!(fixture.responder.peers(), 1);
    }
}

#[test]
fn a_change_of_any_byte_is_found_and_harms_nothing() {
    let mut fixture = Fixture::new();
    let mut podspan = fixture.peer(1);
    let sealed = podspan.seal(fixture.now, &payload(7)).unwrap();
    for at in 0..sealed.len() {
        for bit in 0..8 {
            let mut changed = sealed.clone();
            changed[at] ^= 1 << bit;
            let refusal = fixture.refusal(podspan.address, &changed);
            let expected = match (at, bit) {
                (0..4, _) => Refusal::UnknownType,
                (4..8, _) => Refusal::UnknownIndex,
                // The counter is 1, and the first keepalive had 0.
                (8, 0) => Refusal::Replayed,
                _ => Refusal::NotAuthentic,
            };
            assert_eq!(refusal, Some(expected), "byte {at}, bit {bit}");
        }
    }
    assert_eq!(fixture.open(podspan.address, &sealed), Ok(payload(7)));
}

#[test]
fn a_datagram_cut_at_any_length_is_refused_and_harms_nothing() {
    let mut fixture = Fixture::new();
    let mut podspan = fixture.peer(1);
    let sealed = podspan.seal(fixture.now, &payload(7)).unwrap();
    for end in 0..sealed.len() {
        let expected = if end < 32 {
            Refusal::TooShort
        } else {
            Refusal::NotAuthentic
        };
        let refusal = fixture.refusal(podspan.address, &sealed[..end]);
        assert_eq!(refusal, Some(expected), "{end} bytes");
    }
    let longer = [&sealed[..], &[0]].concat();
    let refusal = fixture.refusal(podspan.address, &longer);
    assert_eq!(refusal, Some(Refusal::NotAuthentic));
    assert_eq!(fixture.open(podspan.address, &sealed), Ok(payload(7)));
}

#[test]
fn datagrams_far_behind_the_newest_are_refused() {
    let mut fixture = Fixture::new();
    let mut podspan = fixture.peer(1);
    let old = podspan.seal(fixture.now, &payload(0)).unwrap();
    for number in 0..2_000 {
        let sealed = podspan.seal(fixture.now, &payload(number)).unwrap();
        assert!(fixture.open(podspan.address, &sealed).is_ok());
    }
    assert_eq!(fixture.open(podspan.address, &old), Err(Refusal::Replayed));
}

#[test]
fn a_session_is_over_after_180_seconds_also_between_ticks() {
    let mut fixture = Fixture::new();
    let mut podspan = fixture.peer(1);
    let sealed = podspan.seal(fixture.now, &payload(1)).unwrap();
    let late = podspan.seal(fixture.now, &payload(2)).unwrap();
    let end = fixture.now + REJECT_AFTER;
    fixture.now = end.checked_sub(Duration::from_nanos(1)).unwrap();
    assert!(fixture.open(podspan.address, &sealed).is_ok());
    fixture.now = end;
    let refusal = fixture.refusal(podspan.address, &late);
    assert_eq!(refusal, Some(Refusal::Expired));
    fixture.pass(1);
    let refusal = fixture.refusal(podspan.address, &late);
    assert_eq!(refusal, Some(Refusal::UnknownIndex));
    assert_eq!(
        (fixture.responder.peers(), fixture.responder.sessions()),
        (0, 0)
    );
}

#[test]
fn the_last_counters_are_refused() {
    let mut fixture = Fixture::new();
    let mut podspan = fixture.peer(1);
    let mut sealed = podspan.seal(fixture.now, &payload(1)).unwrap();
    for (counter, expected) in [
        (REJECT_AFTER_MESSAGES - 1, Refusal::NotAuthentic),
        (REJECT_AFTER_MESSAGES, Refusal::Expired),
        (u64::MAX, Refusal::Expired),
    ] {
        sealed[8..16].copy_from_slice(&counter.to_le_bytes());
        let refusal = fixture.refusal(podspan.address, &sealed);
        assert_eq!(refusal, Some(expected));
    }
}

#[test]
fn a_buffer_that_is_too_small_is_no_panic() {
    let mut fixture = Fixture::new();
    let mut podspan = fixture.peer(1);
    let sealed = podspan.seal(fixture.now, &payload(1)).unwrap();
    fixture.out.truncate(sealed.len() - 17);
    let refusal = fixture.refusal(podspan.address, &sealed);
    assert_eq!(refusal, Some(Refusal::TooLong));
    fixture.out.push(0);
    assert_eq!(fixture.open(podspan.address, &sealed), Ok(payload(1)));
}

#[test]
fn a_session_follows_its_podspan_to_other_ports_and_addresses() {
    let mut fixture = Fixture::new();
    let mut podspan = fixture.peer(1);
    let elsewhere: SocketAddr = "10.9.9.9:1234".parse().unwrap();
    let sealed = podspan.seal(fixture.now, &payload(1)).unwrap();
    let mut forged = podspan.seal(fixture.now, &payload(2)).unwrap();
    forged[20] ^= 1;
    assert!(fixture.open(elsewhere, &sealed).is_ok());
    assert!(fixture.responder.is_consistent());
    // Who is not authentic moves nothing.
    assert!(fixture.open(podspan.address, &forged).is_err());
    let keepalives = fixture.pass(11);
    let [(to, keepalive)] = &keepalives[..] else {
        panic!("{} keepalives", keepalives.len());
    };
    assert_eq!(*to, elsewhere);
    assert_eq!(podspan.sealer.unwrap().hear(keepalive), Ok(()));
}
