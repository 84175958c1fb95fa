//! The environment as a whole, and the table compared with everything that is generated from it.

mod patterns;
mod properties;
mod tunnel;
mod values;

use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

use crate::receiver::Receiver;
use mirror::{Spread, TrailerBound};
use serde::de::{self, Visitor};
use serde::{Deserialize as _, forward_to_deserialize_any};

use super::*;

/// `Config::from_vars` on pairs of text.
fn config(variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    Config::from_vars(
        variables
            .iter()
            .map(|(name, value)| (name.into(), value.into())),
    )
}

#[test]
fn the_defaults_are_right() {
    let config = config(&[("SENSOR", "192.0.2.10")]).unwrap();
    assert_eq!(config.interface.show(), "eth0");
    assert_eq!(config.vni.get(), 0);
    assert_eq!(config.sensor_namespace, None);
    assert_eq!(config.sensor_port.get(), 4789);
    assert_eq!(config.sensor_prefer, Prefer::Node);
    assert_eq!(config.receiver, Receiver::Sniffer);
    assert_eq!(
        (config.spread, config.source_ports.get()),
        (Spread::Hosts, 1)
    );
    assert_eq!((config.mtu, config.node_name.as_ref()), (None, None));
    assert_eq!(config.ring_size, RingSetting::Auto);
    assert_eq!(config.start_wait.duration(), Duration::from_secs(5));
    assert_eq!(config.on_failure, OnFailure::Exit);
    assert_eq!(config.trailers, TrailerBound::DEFAULT);
    assert_eq!(
        (config.log, config.log_format),
        (LogLevel::Info, LogFormat::Text)
    );
    let address = "192.0.2.10:4789".parse().unwrap();
    assert_eq!(config.sensor_addresses().collect::<Vec<_>>(), [address]);
}

#[test]
fn an_empty_variable_counts_as_unset_except_the_sensor() {
    let nothing: Vec<_> = TABLE
        .iter()
        .map(|variable| {
            (
                variable.name,
                if variable.name == "SENSOR" {
                    "::1"
                } else {
                    " "
                },
            )
        })
        .collect();
    assert_eq!(
        config(&nothing).unwrap(),
        config(&[("SENSOR", "::1")]).unwrap()
    );

    let empty = config(&[("SENSOR", "")]).unwrap_err().to_string();
    assert!(empty.contains("SENSOR=\"\": it is empty"), "{empty}");
    let missing = config(&[]).unwrap_err().to_string();
    assert!(missing.contains("SENSOR is not set"), "{missing}");
}

#[test]
fn every_wrong_variable_is_reported_with_value_and_example() {
    let wrong: Vec<_> = TABLE
        .iter()
        .map(|variable| (variable.name, "a//b \u{7}"))
        .collect();
    let errors = config(&wrong).unwrap_err();
    let named: Vec<_> = errors.all().iter().filter_map(Invalid::name).collect();
    assert_eq!(named, TABLE.map(|variable| variable.name));
    let text = errors.to_string();
    for variable in TABLE {
        let start = if variable.secret {
            format!("  {}: ", variable.name)
        } else {
            format!("  {}=\"a//b \\u{{7}}\": ", variable.name)
        };
        let line = text
            .lines()
            .find(|line| line.starts_with(&start))
            .unwrap_or_else(|| {
                panic!("no line starts with {start:?} in:\n{text}");
            });
        assert!(line.contains(variable.expected), "{line}");
        let example = format!("for example {}={}", variable.name, variable.example);
        assert!(line.ends_with(&example), "{line}");
    }
}

#[test]
fn a_wrong_filter_is_reported_with_the_word_and_what_was_expected_there() {
    let text = "tcp port 80 and host web";
    let errors = config(&[("SENSOR", "::1"), ("FILTER", text)]).unwrap_err();
    let message = errors.to_string();
    for part in [
        "FILTER=",
        "at byte 21, \"web\"",
        "names of hosts are not looked up",
        "expected there: an IPv4 or IPv6 address",
        "for example FILTER=not port 53",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let config = config(&[("SENSOR", "::1"), ("FILTER", " udp port 53 ")]).unwrap();
    assert_eq!(
        config.filter.map(|filter| filter.show()),
        Some("udp port 53".to_owned())
    );
}

#[test]
fn snaplen_and_sample_are_refused_with_the_reason() {
    for name in ["SNAPLEN", "SAMPLE"] {
        let errors = config(&[("SENSOR", "::1"), (name, "64")]).unwrap_err();
        assert_eq!(errors.all().len(), 1);
        let message = errors.to_string();
        assert!(message.contains(&format!("{name}=\"64\": podspan does not")));
        assert!(message.contains("see FILTER"), "{message}");
        assert!(config(&[("SENSOR", "::1"), (name, "")]).is_ok());
    }
}

#[test]
fn a_variable_that_is_not_utf8_is_an_error() {
    for variable in TABLE {
        let mut variables = vec![(variable.name.into(), OsString::from_vec(vec![b'x', 0xff]))];
        if variable.name != "SENSOR" {
            variables.push(("SENSOR".into(), "::1".into()));
        }
        let errors = Config::from_vars(variables).unwrap_err();
        let [
            Invalid::Wrong {
                variable: named,
                reason: Reason::NotUtf8,
                ..
            },
        ] = errors.all()
        else {
            panic!("{errors}");
        };
        assert_eq!(named.name, variable.name);
    }
}

#[test]
fn variables_of_other_programs_are_ignored() {
    let mut variables: Vec<(OsString, OsString)> = vec![("SENSOR".into(), "::1".into())];
    let without = Config::from_vars(variables.clone()).unwrap();
    variables.push(("sensor".into(), "another program's".into()));
    variables.push(("Mtu".into(), "x".into()));
    variables.push((
        OsString::from_vec(vec![0xff]),
        OsString::from_vec(vec![0xff]),
    ));
    assert_eq!(Config::from_vars(variables).unwrap(), without);
}

#[test]
fn the_basics_are_read_although_other_settings_are_wrong() {
    let basics = |variables: &[(&str, &str)]| {
        let pairs = variables.iter();
        Basics::from_vars(pairs.map(|(name, value)| (name.into(), value.into())))
    };
    let defaults = Basics {
        on_failure: OnFailure::Exit,
        log: LogLevel::Info,
        log_format: LogFormat::Text,
        metrics: MetricsAddress::parse(":9469").unwrap(),
        ready: Ready::Lenient,
    };
    assert_eq!(basics(&[]), defaults);
    let wrong = ["ON_FAILURE", "LOG", "LOG_FORMAT", "METRICS", "READY"].map(|name| (name, "a//b"));
    let nowhere = Basics {
        metrics: MetricsAddress::Off,
        ..defaults
    };
    assert_eq!(basics(&wrong), nowhere);
    let set = [
        ("ON_FAILURE", "idle"),
        ("LOG", "debug"),
        ("LOG_FORMAT", "json"),
        ("METRICS", "127.0.0.1:2000"),
        ("READY", "strict"),
        ("MTU", "1"),
        ("VNI", "a//b"),
    ];
    let expected = Basics {
        on_failure: OnFailure::Idle,
        log: LogLevel::Debug,
        log_format: LogFormat::Json,
        metrics: MetricsAddress::parse("127.0.0.1:2000").unwrap(),
        ready: Ready::Strict,
    };
    assert_eq!(basics(&set), expected);
}

#[test]
fn the_same_endpoint_twice_by_the_default_port() {
    let sensor = ("SENSOR", "192.0.2.1,192.0.2.1:5000");
    assert!(config(&[sensor]).is_ok());
    let errors = config(&[sensor, ("SENSOR_PORT", "5000")]).unwrap_err();
    let text = errors.to_string();
    assert!(
        text.contains("192.0.2.1:5000 is in the list twice, because SENSOR_PORT is 5000"),
        "{text}"
    );
}

#[test]
fn a_variable_that_kubernetes_sets_for_a_service_named_sensor_is_ignored() {
    for link in ["tcp://10.96.7.7:4789", "udp://10.96.7.7:4789"] {
        let config = config(&[("SENSOR", "zeek"), ("SENSOR_PORT", link)]).unwrap();
        assert_eq!(config.sensor_port.get(), 4789);
        assert_eq!(config.sensor, SensorSetting::Name("zeek".to_owned()));
    }
    assert!(config(&[("SENSOR", "zeek"), ("SENSOR_PORT", "10.96.7.7:4789")]).is_err());
}

#[test]
fn a_long_value_is_truncated() {
    for filler in ["\u{e9}", "a", "1", "1:", "1.", "a/", " b"] {
        let long = format!("x{}", filler.repeat(50_000));
        let wrong = TABLE.map(|variable| (variable.name, long.as_str()));
        let text = config(&wrong).unwrap_err().to_string();
        assert!(
            text.len() < 1_000 * TABLE.len(),
            "{filler}: {} bytes",
            text.len()
        );
    }
}

#[test]
fn the_output_of_check_config_is_an_environment_with_the_same_meaning() {
    let first = config(&[
        ("SENSOR", " 192.0.2.1 , [2001:db8::1]:5000"),
        ("VNI", "0x10"),
        ("RING_SIZE", "3000KiB"),
        ("SENSOR_NAMESPACE", "*"),
        ("LOG", "DEBUG"),
        ("POD_UID", "u-1"),
    ])
    .unwrap();
    let effective = first.effective();
    assert!(effective.contains("VNI=16  # env\n"), "{effective}");
    assert!(effective.contains("RING_SIZE=3MiB  # env\n"), "{effective}");
    assert!(
        effective.contains("INTERFACE=eth0  # default\n"),
        "{effective}"
    );
    assert!(
        effective.contains("MTU=  # default: from the route"),
        "{effective}"
    );
    let pairs: Vec<_> = effective
        .lines()
        .map(|line| line.split_once("  # ").unwrap().0.split_once('=').unwrap())
        .collect();
    assert_eq!(pairs.len(), TABLE.len());
    let second = config(&pairs).unwrap();
    assert_eq!(second.sensor, first.sensor);
    let values = |config: &Config| -> Vec<String> {
        config
            .effective
            .iter()
            .map(|setting| setting.value.clone())
            .collect()
    };
    assert_eq!(values(&second), values(&first));
}

/// Returns no value, and stores the names of the fields that a struct requests.
struct FieldNames<'n>(&'n mut &'static [&'static str]);

impl<'de> de::Deserializer<'de> for FieldNames<'_> {
    type Error = de::value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(de::Error::custom("only the names are needed"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("not a struct"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[test]
fn the_table_is_what_serde_reads() {
    let mut fields: &[&str] = &[];
    assert!(Environment::deserialize(FieldNames(&mut fields)).is_err());
    let names = TABLE.map(|variable| variable.name.to_lowercase());
    assert_eq!(
        fields, names,
        "a field is not its variable's name in lower case"
    );
}

#[test]
fn every_example_is_valid() {
    // Each key once: as a file.
    let keys = ["WG_SENSOR_KEY", "WG_PRESHARED_KEY"];
    let all: Vec<_> = TABLE
        .iter()
        .map(|variable| (variable.name, variable.example))
        .filter(|(name, _)| !keys.contains(name))
        .collect();
    config(&all).unwrap();
    for variable in TABLE {
        let mut one = vec![(variable.name, variable.example)];
        if variable.name == "TUNNEL" {
            one.extend(keys.map(|key| (key, table::WG_SENSOR_KEY.example)));
        }
        if variable.fallback != Fallback::Required {
            one.push(("SENSOR", "::1"));
        }
        let shown = config(&one).unwrap().effective();
        assert!(
            shown.contains(&format!("{}=", variable.name)),
            "{}",
            variable.name
        );
    }
}
