//! Rows of texts, and the value or error of each.

use std::fmt::Debug;
use std::num::NonZeroU16;
use std::time::Duration;

use crate::receiver::Receiver;
use mirror::{SourcePorts, Spread};
use wire::InvalidInterfaceName;
use wire::{Mtu, Vni};

use crate::*;

fn rows<T: Value + PartialEq + Debug>(rows: &[(&str, T)]) {
    for (text, value) in rows {
        assert_eq!(T::parse(text).as_ref(), Ok(value), "{text}");
    }
}

fn refused<T: Value + Debug>(rows: &[(&str, Reason)]) {
    for (text, reason) in rows {
        assert_eq!(&T::parse(text).unwrap_err(), reason, "{text}");
    }
}

#[test]
fn vni() {
    let vni = |vni| Vni::new(vni).unwrap();
    rows(&[
        ("0", vni(0)),
        ("10", vni(10)),
        ("007", vni(7)),
        ("0x10", vni(16)),
        ("0X1A", vni(26)),
        ("0xffffff", Vni::MAX),
        ("16777215", Vni::MAX),
    ]);
    refused::<Vni>(&[
        ("1a", Reason::BareHexadecimal("1a".into())),
        ("FF", Reason::BareHexadecimal("FF".into())),
        ("16777216", Reason::VniTooLarge),
        ("0x1000000", Reason::VniTooLarge),
        ("ffffffff", Reason::VniTooLarge),
        ("99999999999999999999", Reason::VniTooLarge),
        ("0x", Reason::NotANumber),
        ("0x+1", Reason::NotANumber),
        ("+1", Reason::NotANumber),
        ("-1", Reason::NotANumber),
        ("1 0", Reason::NotANumber),
        ("1_0", Reason::NotANumber),
        ("zehn", Reason::NotANumber),
        ("\u{664}", Reason::NotANumber),
    ]);
}

#[test]
fn annotations() {
    let file = |path: &str| Annotations::File(path.to_owned());
    rows(&[
        ("api", Annotations::Api),
        ("Off", Annotations::Off),
        ("/etc/podspan/annotations", file("/etc/podspan/annotations")),
    ]);
    refused::<Annotations>(&[
        ("on", Reason::NoSourceOfAnnotations),
        ("etc/podspan", Reason::NoSourceOfAnnotations),
        ("/etc/\u{7f}", Reason::ControlCharacters),
    ]);
}

#[test]
fn mtu_and_port() {
    rows(&[
        ("1280", Mtu::new(1280).unwrap()),
        ("1500", Mtu::ETHERNET),
        ("65535", Mtu::MAX),
    ]);
    refused::<Mtu>(&[
        ("1279", Reason::MtuOutOfBounds),
        ("65536", Reason::MtuOutOfBounds),
        ("99999999999", Reason::MtuOutOfBounds),
        ("+1500", Reason::NotANumber),
        ("1.5k", Reason::NotANumber),
    ]);
    let port = |port| NonZeroU16::new(port).unwrap();
    rows(&[("1", port(1)), ("4789", port(4789)), ("65535", port(65535))]);
    refused::<NonZeroU16>(&[
        ("0", Reason::BadPort),
        ("65536", Reason::BadPort),
        ("vxlan", Reason::NotANumber),
        ("+1", Reason::NotANumber),
    ]);
}

#[test]
fn metrics() {
    let at = |address: &str| MetricsAddress::At(address.parse().unwrap());
    rows(&[
        ("off", MetricsAddress::Off),
        (":9469", at("[::]:9469")),
        ("[::]:9469", at("[::]:9469")),
        ("0.0.0.0:1024", at("0.0.0.0:1024")),
        ("127.0.0.1:9469", at("127.0.0.1:9469")),
        ("[::1]:65535", at("[::1]:65535")),
    ]);
    assert_eq!(at("[::]:9469").show(), ":9469");
    refused::<MetricsAddress>(&[
        ("on", Reason::NoMetricsAddress),
        ("9469", Reason::NoMetricsAddress),
        ("127.0.0.1", Reason::NoMetricsAddress),
        ("::1:9469", Reason::NoMetricsAddress),
        (":+9469", Reason::NoMetricsAddress),
        (":65536", Reason::BadPort),
        (":1023", Reason::PrivilegedPort),
        ("127.0.0.1:80", Reason::PrivilegedPort),
        ("[::1]:0", Reason::PrivilegedPort),
    ]);
}

#[test]
fn source_ports() {
    let ports = |count| SourcePorts::new(count).unwrap();
    rows(&[("1", ports(1)), ("8", ports(8)), ("16", ports(16))]);
    refused::<SourcePorts>(&[
        ("0", Reason::BadSourcePorts),
        ("3", Reason::BadSourcePorts),
        ("32", Reason::BadSourcePorts),
        ("256", Reason::BadSourcePorts),
        ("+1", Reason::NotANumber),
        ("many", Reason::NotANumber),
    ]);
}

#[test]
fn start_wait() {
    for (text, ms) in [
        ("0s", 0),
        ("0ms", 0),
        ("5s", 5000),
        ("250ms", 250),
        ("007s", 7000),
        ("1500ms", 1500),
        ("60s", 60_000),
        ("60000ms", 60_000),
    ] {
        let wait = StartWait::parse(text).unwrap();
        assert_eq!(wait.duration(), Duration::from_millis(ms), "{text}");
    }
    let shown = ["1500ms", "2000ms"].map(|text| StartWait::parse(text).unwrap().show());
    assert_eq!(shown, ["1500ms", "2s"]);
    refused::<StartWait>(&[
        ("61s", Reason::StartWaitOutOfBounds),
        ("60001ms", Reason::StartWaitOutOfBounds),
        ("99999999999999999999s", Reason::StartWaitOutOfBounds),
        ("5", Reason::NotATime),
        ("s", Reason::NotATime),
        ("ms", Reason::NotATime),
        ("1.5s", Reason::NotATime),
        ("-1s", Reason::NotATime),
        ("+1s", Reason::NotATime),
        ("1 s", Reason::NotATime),
        ("1m", Reason::NotATime),
        ("5S", Reason::NotATime),
    ]);
}

#[test]
fn ring_size() {
    for (text, mib) in [
        ("2MiB", 2),
        ("2048KiB", 2),
        ("2049KiB", 3),
        ("2097152", 2),
        ("2097153", 3),
        ("32MiB", 32),
        ("1GiB", 1024),
        ("4GiB", 4096),
    ] {
        assert_eq!(RingSize::parse(text).unwrap().bytes(), mib << 20, "{text}");
    }
    for text in ["auto", "AUTO"] {
        assert_eq!(RingSetting::parse(text), Ok(RingSetting::Auto));
    }
    let fixed = RingSize::parse("3MiB").map(RingSetting::Fixed);
    assert_eq!(RingSetting::parse("3MiB"), fixed);
    refused::<RingSetting>(&[
        ("automatic", Reason::NotANumber),
        ("1MiB", Reason::RingSizeOutOfBounds),
        ("32", Reason::RingSizeOutOfBounds),
        ("4294967297", Reason::RingSizeOutOfBounds),
        ("5GiB", Reason::RingSizeOutOfBounds),
        ("18446744073709551615GiB", Reason::RingSizeOutOfBounds),
        ("99999999999999999999999", Reason::RingSizeOutOfBounds),
        ("32MB", Reason::UnknownUnit("MB".into())),
        ("32 MiB", Reason::UnknownUnit(" MiB".into())),
        ("32mib", Reason::UnknownUnit("mib".into())),
        ("1.5GiB", Reason::UnknownUnit(".5GiB".into())),
        ("-2MiB", Reason::NotANumber),
        ("MiB", Reason::NotANumber),
    ]);
}

#[test]
fn interfaces() {
    let names = |text| Interfaces::parse(text).map(|names| names.show());
    assert_eq!(names("eth0"), Ok("eth0".into()));
    assert_eq!(names("eth0, net1 ,lo"), Ok("eth0,net1,lo".into()));
    assert_eq!(names("abcdefghijklmno"), Ok("abcdefghijklmno".into()));
    let bad = |name: &str| Reason::BadInterface(InvalidInterfaceName(name.into()));
    refused::<Interfaces>(&[
        ("abcdefghijklmnop", bad("abcdefghijklmnop")),
        // Fifteen characters, sixteen bytes.
        ("abcdefghijklmn\u{e9}", bad("abcdefghijklmn\u{e9}")),
        ("eth0:1", bad("eth0:1")),
        ("a/b", bad("a/b")),
        ("eth 0", bad("eth 0")),
        ("eth\u{202e}0", bad("eth\u{202e}0")),
        ("eth\u{1b}0", bad("eth\u{1b}0")),
        (".", bad(".")),
        ("..", bad("..")),
        ("eth0,,lo", Reason::EmptyEntry),
        ("eth0,", Reason::EmptyEntry),
        ("eth0,lo,eth0", Reason::Duplicate("eth0".into())),
    ]);
}

#[test]
fn sensor_addresses() {
    let port = NonZeroU16::new(4789).unwrap();
    for (text, expected) in [
        ("192.0.2.10", "192.0.2.10:4789"),
        ("192.0.2.10:5000", "192.0.2.10:5000"),
        ("2001:db8::10", "[2001:db8::10]:4789"),
        ("[2001:db8::10]", "[2001:db8::10]:4789"),
        ("[2001:db8::10]:5000", "[2001:db8::10]:5000"),
        ("127.0.0.1, ::1", "127.0.0.1:4789+[::1]:4789"),
        ("::ffff:192.0.2.1", "192.0.2.1:4789"),
        ("192.0.2.1,192.0.2.1:5000", "192.0.2.1:4789+192.0.2.1:5000"),
    ] {
        let sensor = SensorSetting::parse(text).unwrap();
        let shown: Vec<_> = sensor
            .addresses(port)
            .map(|address| address.to_string())
            .collect();
        assert_eq!(shown.join("+"), expected, "{text}");
    }
}

#[test]
fn sensor_names() {
    let longest = "a".repeat(63);
    for name in [
        "sensor",
        "zeek-01",
        "Sensor_A",
        "a.b",
        "7",
        "sensor.example.com",
        &longest,
    ] {
        assert_eq!(
            SensorSetting::parse(name),
            Ok(SensorSetting::Name(name.into()))
        );
    }
}

#[test]
fn sensors_that_are_refused() {
    let no_address = |text: &str| Reason::NotAnAddress(text.into());
    let unusable = |ip: &str, why| Reason::UnusableAddress(ip.parse().unwrap(), why);
    let link_local = "a link-local address, which needs an interface to be reachable";
    refused::<SensorSetting>(&[
        ("10.0.0.300", no_address("10.0.0.300")),
        ("10.0.0", no_address("10.0.0")),
        ("10.0.0.1/24", no_address("10.0.0.1/24")),
        ("[10.0.0.1]:80", no_address("[10.0.0.1]:80")),
        ("2001:db8:::1", no_address("2001:db8:::1")),
        ("[2001:db8::1", no_address("[2001:db8::1")),
        ("[fe80::1%3]:4789", no_address("[fe80::1%3]:4789")),
        ("http://sensor", no_address("http://sensor")),
        ("192.0.2.1:0", Reason::BadPort),
        ("192.0.2.1:65536", Reason::BadPort),
        ("192.0.2.1:+80", Reason::BadPort),
        ("[2001:db8::1]:", Reason::BadPort),
        ("sensor:4789", Reason::NameWithPort("sensor:4789".into())),
        ("0.0.0.0", unusable("0.0.0.0", "the unspecified address")),
        ("[::]:4789", unusable("::", "the unspecified address")),
        ("239.1.2.3", unusable("239.1.2.3", "a multicast address")),
        ("ff02::1", unusable("ff02::1", "a multicast address")),
        (
            "255.255.255.255",
            unusable("255.255.255.255", "the broadcast address"),
        ),
        (
            "::ffff:255.255.255.255",
            unusable("255.255.255.255", "the broadcast address"),
        ),
        ("fe80::1", unusable("fe80::1", link_local)),
        ("192.0.2.1,", Reason::EmptyEntry),
        (
            "192.0.2.1, 192.0.2.1",
            Reason::Duplicate("192.0.2.1".into()),
        ),
        ("::1,0:0:0:0:0:0:0:1", Reason::Duplicate("::1".into())),
        (
            "zeek,arkime",
            Reason::SeveralNames("zeek".into(), "arkime".into()),
        ),
        ("zeek,192.0.2.1", Reason::Mixture("zeek".into())),
        ("192.0.2.1,zeek", Reason::Mixture("zeek".into())),
    ]);
    for name in ["-sensor", "sensor-", "a b", "s\u{e9}nsor", &"a".repeat(64)] {
        assert!(
            matches!(SensorSetting::parse(name), Err(Reason::BadName(..))),
            "{name}"
        );
    }
}

#[test]
fn names_that_kubernetes_gives() {
    assert_eq!(Namespaces::parse("*"), Ok(Namespaces::All));
    assert!(matches!(
        Namespaces::parse("shop-1"),
        Ok(Namespaces::One(_))
    ));
    for bad in ["Shop", "a.b", "-a", "a-", "a_b", "**", &"a".repeat(64)] {
        assert!(Namespaces::parse(bad).is_err(), "{bad}");
        assert!(Namespace::parse(bad).is_err(), "{bad}");
    }
    assert!(Namespace::parse("*").is_err());
    assert_eq!(
        ObjectName::parse("ip-10-0-0-1.ec2.internal")
            .unwrap()
            .as_str()
            .len(),
        24
    );
    for bad in ["Node", ".a", "a b", &"a".repeat(254)] {
        assert!(ObjectName::parse(bad).is_err(), "{bad}");
    }
    assert!(PodUid::parse("0f4d2a55-9c1e-4f9a-8a49-1c1f6f2f7d10").is_ok());
    assert!(PodUid::parse("a b").is_err());
}

#[test]
fn words_in_any_case() {
    rows(&[("node", Prefer::Node), ("ANY", Prefer::Any)]);
    rows(&[("sniffer", Receiver::Sniffer), ("Socket", Receiver::Socket)]);
    rows(&[("hosts", Spread::Hosts), ("Flows", Spread::Flows)]);
    rows(&[("info", LogLevel::Info), ("WARN", LogLevel::Warn)]);
    rows(&[("text", LogFormat::Text), ("JSON", LogFormat::Json)]);
    rows(&[
        ("off", Tunnel::Off),
        ("WireGuard", Tunnel::Wireguard),
        ("required", Tunnel::Required),
    ]);
    refused::<Tunnel>(&[("on", Reason::UnknownWord), ("wg", Reason::UnknownWord)]);
    refused::<LogLevel>(&[
        ("verbose", Reason::UnknownWord),
        ("warning", Reason::UnknownWord),
    ]);
    refused::<Receiver>(&[("sock", Reason::UnknownWord)]);
}
