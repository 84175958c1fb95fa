use super::*;
use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
use proptest::prelude::*;

fn v6() -> Inner {
    Inner::V6 {
        source: "fe80::1".parse().unwrap(),
        destination: "fe80::2".parse().unwrap(),
    }
}

/// A packet of podspan around `payload`.
fn packet(inner: Inner, source_port: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; inner.header_len()];
    packet.extend_from_slice(payload);
    Headers::new(&inner)
        .write(&mut packet, source_port)
        .unwrap();
    packet
}

#[test]
fn each_wrong_field_has_its_reason() {
    let v4 = packet(Inner::DEFAULT, 50_000, &[7; 30]);
    let v6 = packet(v6(), 50_000, &[7; 30]);
    let changed = |packet: &[u8], at: usize, value: u8| {
        let mut packet = packet.to_vec();
        packet[at] = value;
        locate(&packet)
    };
    assert_eq!(locate(&[]), Err(Refusal::TooShort));
    for (at, value, reason) in [
        (0, 0x55, Refusal::NotIp),
        (0, 0x44, Refusal::LengthMismatch),
        (0, 0x4f, Refusal::LengthMismatch),
        (3, 57, Refusal::LengthMismatch),
        (3, 59, Refusal::LengthMismatch),
        (3, 19, Refusal::LengthMismatch),
        (3, 20, Refusal::TooShort),
        (6, 0x20, Refusal::Fragment),
        (7, 1, Refusal::Fragment),
        (9, 6, Refusal::NotUdp),
        (22, 0, Refusal::WrongPort),
        (25, 37, Refusal::LengthMismatch),
        (25, 39, Refusal::LengthMismatch),
    ] {
        assert_eq!(changed(&v4, at, value), Err(reason), "byte {at}: {value}");
    }
    for (at, value, reason) in [
        (5, 37, Refusal::LengthMismatch),
        (5, 39, Refusal::LengthMismatch),
        (5, 7, Refusal::TooShort),
        (6, 44, Refusal::Fragment),
        (6, 0, Refusal::NotUdp),
        (42, 0, Refusal::WrongPort),
        (45, 39, Refusal::LengthMismatch),
    ] {
        assert_eq!(changed(&v6, at, value), Err(reason), "byte {at}: {value}");
    }
    for (packet, header) in [(&v4, 20), (&v6, 40)] {
        for end in 0..packet.len() {
            let expected = if end < header {
                Refusal::TooShort
            } else {
                Refusal::LengthMismatch
            };
            assert_eq!(locate(&packet[..end]), Err(expected), "{end} bytes");
        }
    }
}

#[test]
fn a_datagram_without_a_vxlan_header_is_too_short() {
    for inner in [Inner::DEFAULT, v6()] {
        assert_eq!(locate(&packet(inner, 1, &[0; 7])), Err(Refusal::TooShort));
        assert!(locate(&packet(inner, 1, &[0; 8])).is_ok());
    }
}

#[test]
fn a_packet_is_as_long_as_its_length_fields_can_say() {
    for inner in [Inner::DEFAULT, v6()] {
        let longest = packet(inner, 1, &vec![0; inner.payload_max()]);
        assert_eq!(locate(&longest).unwrap().payload.len(), inner.payload_max());
        let mut longer = [longest, vec![0]].concat();
        assert_eq!(Headers::new(&inner).write(&mut longer, 1), None);
        let mut headers = vec![0; inner.header_len() - 1];
        assert_eq!(Headers::new(&inner).write(&mut headers, 1), None);
    }
}

#[test]
fn addresses_of_two_versions_are_refused() {
    let (v4, v6) = ("10.0.0.1".parse().unwrap(), "fe80::1".parse().unwrap());
    assert_eq!(Inner::new(v4, v6), None);
    assert_eq!(Inner::new(v6, v4), None);
    assert!(Inner::new(v4, v4).is_some() && Inner::new(v6, v6).is_some());
}

fn any_inner() -> impl Strategy<Value = Inner> {
    let v4 = any::<[[u8; 4]; 2]>().prop_map(|[source, destination]| Inner::V4 {
        source: source.into(),
        destination: destination.into(),
    });
    let v6 = any::<[[u8; 16]; 2]>().prop_map(|[source, destination]| Inner::V6 {
        source: source.into(),
        destination: destination.into(),
    });
    prop_oneof![v4, v6]
}

proptest! {
    #[test]
    fn etherparse_reads_what_was_written(
        inner in any_inner(),
        port in any::<u16>(),
        payload in proptest::collection::vec(any::<u8>(), 8..300),
    ) {
        let packet = packet(inner, port, &payload);
        let headers = PacketHeaders::from_ip_slice(&packet).unwrap();
        prop_assert_eq!(headers.payload.slice(), &payload);
        let Some(TransportHeader::Udp(udp)) = headers.transport else {
            return Err(TestCaseError::fail("not UDP"));
        };
        prop_assert_eq!((udp.source_port, udp.destination_port), (port, 4789));
        match (headers.net.unwrap(), inner) {
            (NetHeaders::Ipv4(ip, _), Inner::V4 { source, destination }) => {
                prop_assert_eq!((ip.source, ip.destination), (source.octets(), destination.octets()));
                prop_assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                prop_assert!(ip.dont_fragment && !ip.more_fragments);
                prop_assert_eq!(ip.time_to_live, 64);
                prop_assert_eq!(udp.checksum, 0);
            }
            (NetHeaders::Ipv6(ip, _), Inner::V6 { source, destination }) => {
                prop_assert_eq!((ip.source, ip.destination), (source.octets(), destination.octets()));
                prop_assert_eq!(udp.checksum, udp.calc_checksum_ipv6(&ip, &payload).unwrap());
            }
            _ => return Err(TestCaseError::fail("another version")),
        }
        let located = locate(&packet).unwrap();
        prop_assert_eq!(&packet[located.payload], &payload);
        prop_assert_eq!(located.source_port, port);
    }

    #[test]
    fn padding_after_a_packet_is_ignored(inner in any_inner(), padding in 0_usize..16) {
        let packet = packet(inner, 1, &[9; 20]);
        let padded = [packet.clone(), vec![0; padding]].concat();
        prop_assert_eq!(locate(&padded), locate(&packet));
    }

    #[test]
    fn what_is_located_in_any_bytes_lies_in_them(
        start in proptest::sample::select(vec![0x45_u8, 0x46, 0x60]),
        bytes in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let bytes = [vec![start], bytes].concat();
        if let Ok(located) = locate(&bytes) {
            prop_assert!(located.payload.len() >= 8);
            prop_assert!(bytes.get(located.payload).is_some());
        }
    }
}
