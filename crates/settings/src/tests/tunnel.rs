//! The settings of the tunnel: its keys, and what the settings must be together.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keys::{PresharedKey, PublicKey};
use proptest::prelude::*;

use super::config;
use crate::*;

/// A pre-shared key whose parts are in no other text here.
const SECRET: &str = "u8Qz5Vt0mXk3Rw9Yb1Lc7Jd2Hf4Gs6Na+PoIeUqTy1E=";
const PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

const KEYS: [(&str, &str); 2] = [("WG_SENSOR_KEY", PUBLIC), ("WG_PRESHARED_KEY_FILE", "/k")];

fn with(more: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let all = [&[("SENSOR", "192.0.2.1,192.0.2.2:9000")], more].concat();
    config(&all)
}

/// Each error without the frame around all.
fn errors(more: &[(&str, &str)]) -> Vec<String> {
    let errors = with(more).unwrap_err();
    errors.all().iter().map(ToString::to_string).collect()
}

/// A text that contains no part of the secret.
fn assert_shows_no_secret(text: &str) {
    for part in SECRET.as_bytes().windows(4) {
        let part = std::str::from_utf8(part).unwrap();
        assert!(!text.contains(part), "{part} in {text}");
    }
}

#[test]
fn without_settings_there_is_no_tunnel() {
    let config = with(&[]).unwrap();
    assert_eq!(config.tunnel, Tunnel::Off);
    assert_eq!(config.tunnel_port.get(), 51820);
    assert!(!config.has_tunnel_keys());
    assert!(!config.have_addresses_tunnels());
    let inner = ::tunnel::Inner::new(config.wg_address.get(), config.wg_sensor_address.get());
    assert_eq!(inner, Some(::tunnel::Inner::DEFAULT));
}

#[test]
fn an_address_behind_a_tunnel_has_the_ports_of_the_tunnel() {
    let ports = |config: &Config| -> Vec<u16> {
        config
            .sensor_addresses()
            .map(|address| address.port())
            .collect()
    };
    let plain = with(&KEYS).unwrap();
    assert_eq!(ports(&plain), [4789, 9000]);
    assert!(!plain.have_addresses_tunnels());
    for word in ["wireguard", "Required"] {
        let more = [("TUNNEL", word), ("SENSOR_PORT", "4790")];
        let tunnelled = with(&[&KEYS[..], &more].concat()).unwrap();
        assert_eq!(ports(&tunnelled), [51820, 9000]);
        assert!(tunnelled.have_addresses_tunnels());
    }
}

#[test]
fn the_same_endpoint_twice_by_the_port_of_the_tunnel() {
    let more = [("TUNNEL", "wireguard"), ("TUNNEL_PORT", "9000")];
    let sensor = ("SENSOR", "192.0.2.1,192.0.2.1:9000");
    let text = config(&[&KEYS[..], &more, &[sensor]].concat()).unwrap_err();
    let expected = "192.0.2.1:9000 is in the list twice, because TUNNEL_PORT is 9000";
    assert!(text.to_string().contains(expected), "{text}");
    assert!(config(&[sensor, ("TUNNEL_PORT", "9000")]).is_ok());
}

#[test]
fn a_tunnel_needs_both_keys_each_as_text_or_as_file() {
    let sensor_key = [("WG_SENSOR_KEY", PUBLIC), ("WG_SENSOR_KEY_FILE", "/s")];
    let preshared = [
        ("WG_PRESHARED_KEY", SECRET),
        ("WG_PRESHARED_KEY_FILE", "/p"),
    ];
    for tunnel in [("TUNNEL", "wireguard"), ("TUNNEL", "required")] {
        let both = errors(&[tunnel]);
        assert_eq!(both.len(), 2, "{both:?}");
        for sensor in sensor_key {
            let [error] = errors(&[tunnel, sensor]).try_into().unwrap();
            assert_eq!(error, both[1]);
            for preshared in preshared {
                assert!(
                    with(&[tunnel, sensor, preshared])
                        .unwrap()
                        .has_tunnel_keys()
                );
            }
        }
        for preshared in preshared {
            let [error] = errors(&[tunnel, preshared]).try_into().unwrap();
            assert_eq!(error, both[0]);
            assert!(!with(&[preshared]).unwrap().has_tunnel_keys());
        }
        let start = format!("TUNNEL={:?}: ", tunnel.1);
        let words = [
            "no public key of the sensors; set WG_SENSOR_KEY_FILE",
            "no pre-shared key; set WG_PRESHARED_KEY_FILE",
        ];
        for (error, words) in both.iter().zip(words) {
            assert!(
                error.starts_with(&start) && error.contains(words),
                "{error}"
            );
        }
    }
}

#[test]
fn a_wrong_key_is_not_reported_as_missing_too() {
    let tunnel = ("TUNNEL", "wireguard");
    let wrong = [("WG_SENSOR_KEY", "x"), ("WG_PRESHARED_KEY_FILE", "k")];
    let found = errors(&[&[tunnel], &wrong[..]].concat());
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("WG_SENSOR_KEY=\"x\": it has 1 characters"),
        "{found:?}"
    );
    assert!(found[1].starts_with("WG_PRESHARED_KEY_FILE=\"k\": it is not an absolute path"));
}

#[test]
fn a_key_as_text_and_as_file_is_an_error() {
    let both = [
        ("WG_SENSOR_KEY", PUBLIC),
        ("WG_SENSOR_KEY_FILE", "/s"),
        ("WG_PRESHARED_KEY", SECRET),
        ("WG_PRESHARED_KEY_FILE", "/p"),
    ];
    assert_eq!(
        errors(&both),
        [
            "WG_SENSOR_KEY_FILE=\"/s\": WG_SENSOR_KEY is set too; unset one of both",
            "WG_PRESHARED_KEY_FILE=\"/p\": WG_PRESHARED_KEY is set too; unset one of both",
        ]
    );
}

#[test]
fn the_two_inner_addresses_are_of_one_family_and_differ() {
    let of = |own, sensor| with(&[("WG_ADDRESS", own), ("WG_SENSOR_ADDRESS", sensor)]);
    for (own, sensor) in [
        ("10.0.0.1", "10.0.0.2"),
        ("fd00::1", "fe80::2"),
        ("::ffff:10.0.0.1", "10.0.0.2"),
    ] {
        let config = of(own, sensor).unwrap();
        assert!(
            ::tunnel::Inner::new(config.wg_address.get(), config.wg_sensor_address.get()).is_some()
        );
    }
    let [error] = errors(&[("WG_ADDRESS", "fd00::1")]).try_into().unwrap();
    let expected = "WG_SENSOR_ADDRESS=\"169.254.47.2\": WG_ADDRESS is fd00::1, and one is IPv4 and the other IPv6";
    assert!(error.starts_with(expected), "{error}");
    let same = of("10.0.0.1", "10.0.0.1").unwrap_err().to_string();
    assert!(same.contains("each end of the tunnel needs its own"));
    for wrong in ["0.0.0.0", "127.0.0.1", "239.0.0.1", "255.255.255.255", "::"] {
        let found = of(wrong, "10.0.0.1").unwrap_err().to_string();
        assert!(found.contains("is not the address of a host"), "{found}");
    }
}

#[test]
fn a_variable_that_kubernetes_sets_for_a_service_named_tunnel_is_ignored() {
    let link = ("TUNNEL_PORT", "udp://10.96.7.7:51820");
    assert_eq!(with(&[link]).unwrap().tunnel_port.get(), 51820);
    assert!(with(&[("TUNNEL_PORT", "10.96.7.7:51820")]).is_err());
}

#[test]
fn nothing_shows_a_preshared_key() {
    let set = [
        ("TUNNEL", "wireguard"),
        ("WG_SENSOR_KEY", PUBLIC),
        ("WG_PRESHARED_KEY", SECRET),
    ];
    let config = with(&set).unwrap();
    let key = config.wg_preshared_key.as_ref().unwrap();
    assert_eq!(*key.to_base64(), SECRET);
    assert_shows_no_secret(&format!("{config:?} {config:#?}"));
    let effective = config.effective();
    assert_shows_no_secret(&effective);
    let line = "WG_PRESHARED_KEY=  # env; it is set, and not shown\n";
    assert!(effective.contains(line), "{effective}");

    let zeros = format!("{}=", "A".repeat(43));
    let wrong = [
        SECRET.trim_end_matches('='),
        &SECRET.replace('+', "-"),
        &SECRET.replace("1E=", "1F="),
        &format!("{SECRET}\n{SECRET}"),
        &zeros,
    ];
    for value in wrong {
        let error = with(&[("WG_PRESHARED_KEY", value)]).unwrap_err();
        assert_shows_no_secret(&format!("{error} {error:?}"));
        let text = error.to_string();
        assert!(text.contains("\n  WG_PRESHARED_KEY: it "), "{text}");
        assert!(!text.contains(&zeros), "{text}");
    }
    let both = [
        ("WG_PRESHARED_KEY", SECRET),
        ("WG_PRESHARED_KEY_FILE", "/p"),
    ];
    let error = with(&both).unwrap_err();
    assert_shows_no_secret(&format!("{error} {error:?}"));
}

proptest! {
    #[test]
    fn a_text_is_a_key_where_it_is_the_base64_of_32_bytes_that_are_not_all_zero(
        text in prop_oneof![
            "[0-9A-Za-z+/]{42}[048AEIMQUYcgkosw]=",
            "[0-9A-Za-z+/]{43}=",
            "[0-9A-Za-z+/=]{40,46}",
            "A{42,43}[A-E]?=",
            any::<String>(),
        ],
    ) {
        let text = text.trim();
        let bytes = STANDARD.decode(text).unwrap_or_default();
        let is_key = bytes.len() == 32 && bytes.iter().any(|byte| *byte != 0);
        prop_assert_eq!(<PublicKey as Value>::parse(text).is_ok(), is_key);
        prop_assert_eq!(<PresharedKey as Value>::parse(text).is_ok(), is_key);
    }
}
