//! Properties for any text: no panic, and a printed value parses to the same value.

use std::fmt::Debug;
use std::num::NonZeroU16;
use std::os::unix::ffi::OsStringExt as _;

use crate::receiver::Receiver;
use mirror::{SourcePorts, Spread, TrailerBound};
use proptest::prelude::*;
use wire::{Mtu, Vni};

use crate::*;

/// Any text, and texts that are almost valid.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[0-9a-fxX+.:,\\[\\]%/ -]{0,40}",
        "(0x)?[0-9a-g]{1,9}",
        "[0-9]{1,22}(KiB|MiB|GiB|Mi|k)?",
        "[0-9]{1,6}m?s",
        "[0-9]{1,4}%",
        "[a-zA-Z0-9.,:*_-]{0,70}",
    ]
}

/// Parses `text`; a valid value is printed and parsed again.
fn round_trip<T: Value + PartialEq + Debug>(text: &str) {
    if let Ok(value) = T::parse(text) {
        assert_eq!(T::parse(&value.show()), Ok(value));
    }
}

proptest! {
    #[test]
    fn parsing_never_panics_and_a_printed_value_parses(text in texts()) {
        round_trip::<SensorSetting>(&text);
        round_trip::<Interfaces>(&text);
        round_trip::<Vni>(&text);
        round_trip::<Mtu>(&text);
        round_trip::<NonZeroU16>(&text);
        round_trip::<RingSetting>(&text);
        round_trip::<StartWait>(&text);
        round_trip::<OnFailure>(&text);
        round_trip::<TrailerBound>(&text);
        round_trip::<Namespaces>(&text);
        round_trip::<ObjectName>(&text);
        round_trip::<PodUid>(&text);
        round_trip::<Prefer>(&text);
        round_trip::<Receiver>(&text);
        round_trip::<Spread>(&text);
        round_trip::<SourcePorts>(&text);
        round_trip::<LogLevel>(&text);
        round_trip::<LogFormat>(&text);
        round_trip::<MetricsAddress>(&text);
        round_trip::<Ready>(&text);
        round_trip::<Tunnel>(&text);
        round_trip::<keys::PublicKey>(&text);
        round_trip::<FilePath>(&text);
        round_trip::<InnerAddress>(&text);
    }

    #[test]
    fn numbers_round_trip(vni in 0_u32..1 << 24, mtu in 1280_u32..=65_535, mib in 2_u64..=4096) {
        prop_assert_eq!(Vni::parse(&vni.to_string()).map(Vni::get), Ok(vni));
        prop_assert_eq!(Vni::parse(&format!("{vni:#x}")).map(Vni::get), Ok(vni));
        prop_assert_eq!(Mtu::parse(&mtu.to_string()).map(|mtu| u32::from(mtu.get())), Ok(mtu));
        let rings = [format!("{mib}MiB"), format!("{}KiB", mib << 10), format!("{}", mib << 20)];
        for text in rings {
            prop_assert_eq!(RingSize::parse(&text).map(RingSize::bytes), Ok(mib << 20));
        }
    }

    #[test]
    fn addresses_round_trip(endpoints in prop::collection::vec(any::<SocketAddr>(), 1..5)) {
        let text: Vec<_> = endpoints
            .iter()
            .map(|endpoint| SocketAddr::new(endpoint.ip(), endpoint.port()).to_string())
            .collect();
        if let Ok(sensor) = SensorSetting::parse(&text.join(",")) {
            prop_assert_eq!(SensorSetting::parse(&sensor.to_string()), Ok(sensor));
        }
    }

    #[test]
    fn each_wrong_value_is_one_line_of_the_errors(
        values in prop::collection::vec("(\\PC|[\n\r\u{1b}\u{85}\u{2028}\u{202e}\"\\\\]){1,500}", TABLE.len()),
    ) {
        let set = TABLE.iter().zip(values);
        let set = set.map(|(variable, value)| (variable.name.into(), value.into()));
        if let Err(errors) = Config::from_vars(set) {
            let text = errors.to_string();
            let lines: Vec<&str> = text.split('\n').collect();
            prop_assert_eq!(lines.len(), 1 + errors.all().len() + 1, "{}", text);
            for line in lines {
                let is_invisible = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{202e}');
                prop_assert!(!line.contains(is_invisible) && line.chars().count() < 2000, "{}", line);
            }
        }
    }

    #[test]
    fn any_environment_is_a_config_or_errors(
        values in prop::collection::vec(prop::option::of(any::<Vec<u8>>()), TABLE.len()),
    ) {
        let set = TABLE.iter().zip(values).filter_map(|(variable, value)| {
            Some((variable.name.into(), OsString::from_vec(value?)))
        });
        if let Err(errors) = Config::from_vars(set) {
            prop_assert!(!errors.all().is_empty());
        }
    }
}
