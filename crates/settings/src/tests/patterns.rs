//! Each pattern matches what the parser accepts, and refuses rows of wrong values. The judge is the crate `regex`,
//! whose syntax has RE2's as a part.

use std::sync::LazyLock;

use proptest::prelude::*;
use regex::Regex;

use crate::*;

/// The settings with their patterns; compiling one takes longer than everything else here.
static PATTERNS: LazyLock<Vec<(inject::Setting, Regex)>> = LazyLock::new(|| {
    let compiled = |setting: inject::Setting| (setting, Regex::new(setting.pattern).unwrap());
    SETTINGS.into_iter().map(compiled).collect()
});

fn setting(variable: &str) -> &'static (inject::Setting, Regex) {
    let mut patterns = PATTERNS.iter();
    patterns
        .find(|(setting, _)| setting.variable == variable)
        .unwrap()
}

/// The shape of valid values of each setting; some of the texts are wrong.
fn values(variable: &str) -> BoxedStrategy<String> {
    let any = |expression: &'static str| expression.prop_map(String::from).boxed();
    let entries = |entry: &'static str| {
        prop::collection::vec(entry, 1..4)
            .prop_map(|entries| entries.join(","))
            .boxed()
    };
    let word = |words: &'static [&'static str]| {
        prop::sample::select(words).prop_map(str::to_owned).boxed()
    };
    match variable {
        "SENSOR" => prop_oneof![
            any("[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"),
            any("[0-9.]{0,4}[a-z_.-]{0,3}[0-9]"),
            prop::collection::vec(proptest::arbitrary::any::<std::net::SocketAddr>(), 1..4)
                .prop_map(|addresses| {
                    let texts = addresses.iter().map(ToString::to_string);
                    texts.collect::<Vec<_>>().join(" , ")
                }),
            prop::collection::vec(proptest::arbitrary::any::<std::net::IpAddr>(), 1..4).prop_map(
                |addresses| {
                    let texts = addresses.iter().map(ToString::to_string);
                    texts.collect::<Vec<_>>().join(",\u{a0}")
                }
            ),
            entries("\\[[0-9a-f:]{2,9}\\](:0{0,3}[0-9]{1,5})?|::ffff:10[.]0[.]0[.][0-9]"),
        ]
        .boxed(),
        "INTERFACE" => entries("[ \u{3000}]?([a-z0-9.@_-]{1,15}|\\PC{1,15})[ \t]?"),
        "FILTER" => any("((not )?(tcp|udp)( port [0-9]{1,4})?( and | or |\n)?){0,4}"),
        "VNI" => any("0{0,3}[0-9]{1,8}|0[xX]0{0,3}[0-9a-fA-F]{1,6}"),
        "SENSOR_NAMESPACE" => any("[*]|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"),
        "POD_NAMESPACE" => any("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"),
        "NODE_NAME" | "POD_NAME" => any("[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"),
        "SENSOR_PORT" | "TUNNEL_PORT" | "KUBERNETES_SERVICE_PORT" | "MTU" => {
            any("0{0,3}[1-9][0-9]{0,4}")
        }
        "SOURCE_PORTS" => any("0{0,2}(1|2|4|8|16|32)"),
        "TRAILERS" => any("(off|OFF|0{0,2}[1-9]?[0-9]%|0?100%)"),
        "POD_UID" => any("[!-~]{1,128}"),
        "KUBERNETES_SERVICE_HOST" => prop_oneof![
            any("[a-zA-Z0-9]([a-zA-Z0-9.-]{0,251}[a-zA-Z0-9])?"),
            proptest::arbitrary::any::<std::net::IpAddr>().prop_map(|address| address.to_string()),
        ]
        .boxed(),
        "KUBECONFIG" => any("/\\PC{0,20}"),
        "RING_SIZE" => {
            any("(auto|Auto|0{0,2}[1-9][0-9]{0,9}|[1-9][0-9]{0,6}KiB|[1-9][0-9]{0,3}MiB|[1-5]GiB)")
        }
        "START_WAIT" => any("0{0,2}[0-9]{1,2}s|0{0,2}[0-9]{1,5}ms"),
        "ANNOTATIONS" => word(&["api", "Off", "OFF"]),
        "SENSOR_PREFER" => word(&["node", "Any"]),
        "RECEIVER" => word(&["sniffer", "SOCKET"]),
        "TUNNEL" => word(&["off", "WireGuard", "REQUIRED"]),
        "WG_SENSOR_KEY" | "WG_PRESHARED_KEY" => any("[0-9A-Za-z+/]{42}[048AEIMQUYcgkoswx]="),
        "WG_SENSOR_KEY_FILE" | "WG_PRESHARED_KEY_FILE" | "WG_PRIVATE_KEY_FILE" => {
            any("/\\PC{0,20}")
        }
        "WG_ADDRESS" | "WG_SENSOR_ADDRESS" => proptest::arbitrary::any::<std::net::IpAddr>()
            .prop_map(|address| address.to_string())
            .boxed(),
        "SPREAD" => word(&["hosts", "Flows"]),
        "ON_FAILURE" => word(&["exit", "Idle"]),
        "METRICS" => prop_oneof![
            any("off|OFF|:0{0,2}[0-9]{1,5}|\\[fe80::1%[0-9]{1,2}\\]:[0-9]{4,5}"),
            proptest::arbitrary::any::<std::net::SocketAddr>()
                .prop_map(|address| address.to_string()),
        ]
        .boxed(),
        "READY" => word(&["lenient", "STRICT"]),
        "LOG" => word(&["error", "WARN", "info", "debug", "Trace"]),
        "LOG_FORMAT" => word(&["text", "JSON"]),
        other => panic!("{other} has no values here"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_pattern_matches_what_the_parser_accepts(
        (variable, value) in prop::sample::select(&SETTINGS[..])
            .prop_flat_map(|setting| (Just(setting.variable), values(setting.variable))),
        before in "[ \t\n\u{a0}\u{2003}]{0,2}",
    ) {
        let (setting, pattern) = setting(variable);
        for text in [value.clone(), format!("{before}{value}{before}")] {
            if (setting.check)(&text).is_ok() {
                prop_assert!(pattern.is_match(&text), "{variable} {text:?}");
            }
        }
    }

    /// Of a text of any shape, too, except for the path of a file, which no annotation can have.
    #[test]
    fn a_pattern_matches_any_text_that_is_accepted(text in any::<String>()) {
        for (setting, pattern) in PATTERNS.iter() {
            let is_file = setting.variable == "ANNOTATIONS" && text.trim().starts_with('/');
            if !is_file && (setting.check)(&text).is_ok() {
                prop_assert!(pattern.is_match(&text), "{} {text:?}", setting.variable);
            }
        }
    }
}

#[test]
fn examples_and_defaults_match() {
    for ((setting, pattern), variable) in PATTERNS.iter().zip(TABLE) {
        assert_eq!(setting.variable, variable.name);
        let mut valid = vec![setting.example];
        if let Fallback::Value(value) = variable.fallback {
            valid.push(value);
        }
        // A file is not possible as an annotation.
        for value in valid
            .into_iter()
            .filter(|value| *value != "/etc/podspan/annotations")
        {
            assert_eq!(
                (setting.check)(value),
                Ok(()),
                "{} {value}",
                setting.variable
            );
            assert!(pattern.is_match(value), "{} {value}", setting.variable);
        }
    }
}

/// Without backreferences and lookaround, and no repetition above 1000, which RE2 refuses.
#[test]
fn the_patterns_are_whole_and_in_the_syntax_of_re2() {
    let rounds = Regex::new(r"\{(\d+,)?(\d+)\}").unwrap();
    for setting in SETTINGS {
        let pattern = setting.pattern;
        assert!(
            pattern.starts_with('^') && pattern.ends_with('$'),
            "{pattern}"
        );
        for round in rounds.captures_iter(pattern) {
            assert!(round[2].parse::<u32>().unwrap() <= 1000, "{pattern}");
        }
        for other in [
            "(?=", "(?!", "(?<", r"\d", r"\w", r"\h", "&&", "--", "~~", r"\u",
        ] {
            assert!(!pattern.contains(other), "{other} in {pattern}");
        }
    }
}

/// Texts that are almost keys.
const NO_KEYS: &[&str] = &[
    "",
    "SensorSensorSensorSensorSensorSensorSensor0",
    "SensorSensorSensorSensorSensorSensorSensor1=",
    "SensorSensorSensorSensorSensorSensorSensor-0=",
];

/// Values that are wrong for each setting.
const WRONG: [(&str, &[&str]); 36] = [
    (
        "SENSOR",
        &[
            "",
            "10.0.0.300",
            "1.2.3",
            "a b",
            "a,b",
            "zeek:4789",
            "-a",
            "a-",
            "10.0.0.1:0",
            "10.0.0.1:65536",
            "10.0.0.1,",
            "zeek,10.0.0.1",
            "10.0.0.0/8",
            "[::1",
        ],
    ),
    (
        "INTERFACE",
        &[
            "",
            "eth0,",
            "eth 0",
            "a/b",
            "a:1",
            "abcdefghijklmnop",
            "a\u{7}",
        ],
    ),
    ("FILTER", &["a\u{7}", "caf\u{e9}", "\u{0}"]),
    ("ANNOTATIONS", &["", "on", "/etc/a", "apis"]),
    (
        "VNI",
        &[
            "",
            "16777216",
            "99999999",
            "0x1000000",
            "1a",
            "-1",
            "+1",
            "0x",
            "1 0",
        ],
    ),
    ("SENSOR_NAMESPACE", &["", "**", "A", "a.b", "-a", "a_b"]),
    ("SENSOR_PORT", &["", "0", "65536", "-1", "http", "99999"]),
    ("SENSOR_PREFER", &["", "nodes", "none"]),
    ("RECEIVER", &["", "sock", "sniffers"]),
    ("TUNNEL", &["", "on", "wg", "wireguards"]),
    ("TUNNEL_PORT", &["", "0", "65536"]),
    ("WG_SENSOR_KEY", NO_KEYS),
    ("WG_SENSOR_KEY_FILE", &["", "key", "./key", "/a\u{7}"]),
    ("WG_PRESHARED_KEY", NO_KEYS),
    ("WG_PRESHARED_KEY_FILE", &["", "key", "/a\u{7}"]),
    ("WG_PRIVATE_KEY_FILE", &["", "key", "/a\u{7}"]),
    ("WG_ADDRESS", &["", "10.0.0.300", "10.0.0.1/24", "a"]),
    ("WG_SENSOR_ADDRESS", &["", "10.0.0", "[::1]"]),
    ("SPREAD", &["", "host", "flow"]),
    ("SOURCE_PORTS", &["", "0", "3", "32", "161"]),
    ("TRAILERS", &["", "0%", "101%", "50", "off%"]),
    ("NODE_NAME", &["", "A", "a_b", "a."]),
    ("POD_NAME", &["", "A", "a/b"]),
    ("POD_NAMESPACE", &["", "*", "a.b"]),
    ("POD_UID", &["", "a b"]),
    (
        "KUBERNETES_SERVICE_HOST",
        &["", "a b", "-a", "10.0.0.1:443"],
    ),
    ("KUBERNETES_SERVICE_PORT", &["", "0", "65536"]),
    ("KUBECONFIG", &["", "/a\u{7}"]),
    ("MTU", &["", "1279", "65536", "999", "1500.0"]),
    (
        "RING_SIZE",
        &[
            "", "1MiB", "4097MiB", "5GiB", "64Mi", "64 MiB", "2mib", "1024",
        ],
    ),
    ("START_WAIT", &["", "61s", "60001ms", "5", "1m", "1.5s"]),
    ("ON_FAILURE", &["", "stay", "idle\u{7}"]),
    (
        "METRICS",
        &[
            "",
            "9469",
            ":1023",
            ":65536",
            ":",
            "10.0.0.1",
            "[::1]",
            "::1:9469x",
            "localhost:9469",
            "[::1]:80",
        ],
    ),
    ("READY", &["", "yes", "stricter"]),
    ("LOG", &["", "warning", "verbose"]),
    ("LOG_FORMAT", &["", "logfmt"]),
];

#[test]
fn wrong_values_do_not_match() {
    let named: Vec<_> = WRONG.iter().map(|(variable, _)| *variable).collect();
    let all: Vec<_> = SETTINGS.iter().map(|setting| setting.variable).collect();
    assert_eq!(named, all);
    for (variable, texts) in WRONG {
        let (_, pattern) = setting(variable);
        for text in texts {
            assert!(!pattern.is_match(text), "{variable} {text:?}");
        }
    }
}
