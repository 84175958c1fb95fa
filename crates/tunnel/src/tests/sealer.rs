//! The worker's side, with boringtun as the receiver.

use boringtun::noise::{Tunn, TunnResult};
use etherparse::{PacketHeaders, TransportHeader};
use proptest::prelude::*;

use super::*;
use crate::overhead::sealed_len;
use crate::protocol::{REJECT_AFTER, TRANSPORT_HEADER_LEN};

/// boringtun's own responder for one podspan, and this podspan with its sealer.
fn with_boringtun(inner: Inner) -> (Tunn, Sealer, Instant) {
    let (keys, now) = (Keys::new(), Instant::now());
    let config = InitiatorConfig {
        inner,
        ..keys.initiator()
    };
    let mut podspan = Podspan::new(config, 1, now);
    let mut tunn = Tunn::new(
        keys.sensor.secret().clone(),
        podspan.initiator.public_key().point(),
        Some(keys.preshared.bytes()),
        None,
        7,
        None,
    );
    let initiation = podspan.initiation(now).unwrap();
    let mut out = [0; 200];
    let TunnResult::WriteToNetwork(response) = tunn.decapsulate(None, &initiation, &mut out) else {
        panic!("no response");
    };
    let answer = podspan.initiator.receive(response, now).unwrap();
    let Answer::Established(Established { sealer, confirm }) = answer else {
        panic!("no session");
    };
    let confirmed = tunn.decapsulate(None, &confirm, &mut out);
    assert!(matches!(confirmed, TunnResult::Done));
    (tunn, sealer, now)
}

/// The packet that boringtun finds in a datagram.
fn opened(tunn: &mut Tunn, datagram: &[u8]) -> Vec<u8> {
    let mut out = vec![0; datagram.len()];
    match tunn.decapsulate(None, datagram, &mut out) {
        TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
            packet.to_vec()
        }
        other => panic!("{other:?}"),
    }
}

fn v6() -> Inner {
    let (source, destination) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
    Inner::new(source, destination).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn boringtun_and_etherparse_find_what_was_sealed(
        is_v6 in any::<bool>(),
        datagrams in proptest::collection::vec(
            (any::<u16>(), proptest::collection::vec(any::<u8>(), 0..60), proptest::collection::vec(any::<u8>(), 0..1_500)),
            1..10,
        ),
    ) {
        let inner = if is_v6 { v6() } else { Inner::DEFAULT };
        let (mut tunn, mut sealer, now) = with_boringtun(inner);
        let mut scratch = Scratch::new();
        for (port, head, body) in datagrams {
            let mut out = vec![0xaa; sealed_len(head.len() + body.len(), inner.family()) + 5];
            let mut sealing = sealer.begin(now, &mut scratch).unwrap();
            let length = sealing.seal(port, &head, &body, &mut out).unwrap();
            // Exactly as long as announced: nothing is padded.
            prop_assert_eq!(length, out.len() - 5);
            prop_assert_eq!(&out[length..], &[0xaa; 5]);
            let packet = opened(&mut tunn, &out[..length]);
            let headers = PacketHeaders::from_ip_slice(&packet).unwrap();
            prop_assert_eq!(headers.payload.slice(), &[head, body].concat());
            let Some(TransportHeader::Udp(udp)) = headers.transport else {
                return Err(TestCaseError::fail("not UDP"));
            };
            prop_assert_eq!((udp.source_port, udp.destination_port), (port, 4789));
        }
    }
}

#[test]
fn where_head_and_body_meet_does_not_matter() {
    let (mut tunn, mut sealer, now) = with_boringtun(Inner::DEFAULT);
    let mut scratch = Scratch::new();
    let payload = payload(40);
    let packets: Vec<_> = (0..=payload.len())
        .map(|at| {
            let mut out = [0; 200];
            let (head, body) = payload.split_at(at);
            let mut sealing = sealer.begin(now, &mut scratch).unwrap();
            let length = sealing.seal(1, head, body, &mut out).unwrap();
            opened(&mut tunn, &out[..length])
        })
        .collect();
    assert!(packets.iter().all(|packet| *packet == packets[0]));
}

#[test]
fn counters_rise_by_one_and_nothing_is_sealed_twice() {
    let (_, mut sealer, now) = with_boringtun(Inner::DEFAULT);
    let mut scratch = Scratch::new();
    for expected in 1..100_u64 {
        let mut out = [0; 100];
        let mut sealing = sealer.begin(now, &mut scratch).unwrap();
        sealing.seal(1, &[0; 8], &[], &mut out).unwrap();
        // The first keepalive had counter 0.
        assert_eq!(out[8..16], expected.to_le_bytes());
        assert_eq!(sealer.counts().sealed, expected);
    }
}

#[test]
fn a_sealer_refuses_at_the_end_of_its_time_and_not_before() {
    let (_, mut sealer, now) = with_boringtun(Inner::DEFAULT);
    let mut scratch = Scratch::new();
    assert_eq!(sealer.ends(), now + REJECT_AFTER);
    let last = sealer.ends().checked_sub(Duration::from_nanos(1)).unwrap();
    assert!(sealer.begin(last, &mut scratch).is_ok());
    assert!(sealer.begin(sealer.ends(), &mut scratch).is_err());
}

#[test]
fn a_sealer_refuses_at_the_end_of_its_count() {
    let (_, mut sealer, now) = with_boringtun(Inner::DEFAULT);
    let mut scratch = Scratch::new();
    sealer.set_left(2);
    let mut sealing = sealer.begin(now, &mut scratch).unwrap();
    let mut out = [0; 100];
    assert!(sealing.seal(1, &[0; 8], &[], &mut out).is_ok());
    assert!(sealing.seal(1, &[0; 8], &[], &mut out).is_ok());
    let refused = sealing.seal(1, &[0; 8], &[], &mut out);
    assert!(matches!(refused, Err(Unsealed::Ended(_))));
    assert_eq!(sealer.counts().sealed, 2);
}

#[test]
fn what_does_not_fit_is_refused_and_not_counted() {
    for inner in [Inner::DEFAULT, v6()] {
        let (mut tunn, mut sealer, now) = with_boringtun(inner);
        let mut scratch = Scratch::new();
        let mut out = vec![0; 70_000];
        let needed = sealer.sealed_len(8);
        let mut sealing = sealer.begin(now, &mut scratch).unwrap();
        let refused = sealing.seal(1, &[0; 8], &[], &mut out[..needed - 1]);
        let room = needed - 1;
        assert_eq!(refused, Err(Unsealed::NoRoom { needed, room }));
        let longest = inner.payload_max();
        let refused = sealing.seal(1, &[], &vec![0; longest + 1], &mut out);
        assert_eq!(refused, Err(Unsealed::TooLong(longest + 1)));
        let length = sealing
            .seal(1, &[1; 8], &vec![2; longest - 8], &mut out)
            .unwrap();
        assert_eq!(sealer.counts().sealed, 1);
        let packet = opened(&mut tunn, &out[..length]);
        assert!(packet.ends_with(&vec![2; longest - 8]));
    }
}

#[test]
fn a_keepalive_is_heard_once_and_only_if_it_is_authentic() {
    let (mut tunn, mut sealer, _) = with_boringtun(Inner::DEFAULT);
    let mut out = [0; 200];
    let TunnResult::WriteToNetwork(keepalive) = tunn.encapsulate(&[], &mut out) else {
        panic!("no keepalive");
    };
    let keepalive = keepalive.to_vec();
    for at in 0..keepalive.len() {
        let mut changed = keepalive.clone();
        changed[at] ^= 1;
        assert!(sealer.hear(&changed).is_err(), "byte {at}");
        assert!(sealer.hear(&keepalive[..at]).is_err(), "{at} bytes");
    }
    assert_eq!(sealer.counts().heard, 0);
    assert_eq!(sealer.hear(&keepalive), Ok(()));
    assert_eq!(sealer.hear(&keepalive), Err(Refusal::Replayed));
    assert_eq!(sealer.counts().heard, 1);
    // Data, and messages of handshakes, are not for the worker.
    let TunnResult::WriteToNetwork(data) = tunn.encapsulate(&[0x45; 40], &mut out) else {
        panic!("no data");
    };
    assert_eq!(sealer.hear(data), Err(Refusal::UnexpectedType));
    let mut initiation = [0; 148];
    initiation[0] = 1;
    assert_eq!(sealer.hear(&initiation), Err(Refusal::UnexpectedType));
    assert_eq!(sealer.hear(&[]), Err(Refusal::UnknownType));
}

#[test]
fn equal_lengths_are_sealed_to_equal_lengths() {
    let (_, sealer, _) = with_boringtun(Inner::DEFAULT);
    for length in 0..2_000 {
        let overhead = TRANSPORT_HEADER_LEN + 28 + 16;
        assert_eq!(sealer.sealed_len(length), length + overhead);
    }
}
