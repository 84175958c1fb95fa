//! A table of cases for [`select`], and its properties.

use std::num::NonZeroU16;

use proptest::prelude::*;

use super::*;
use crate::types::{Scope, Timing};

fn settings() -> Settings {
    Settings {
        name: "zeek".to_owned(),
        scope: Scope::Own,
        default_port: NonZeroU16::new(4789).unwrap(),
        default_receiver: Receiver::Socket,
        tunnel: TunnelSettings {
            default: Tunnel::Off,
            port: NonZeroU16::new(51820).unwrap(),
            has_keys: true,
        },
        node: Some("here".to_owned()),
        own_pod: OwnPod {
            uid: Some("my-uid".to_owned()),
            name: Some("me".to_owned()),
            namespace: Some("shop".to_owned()),
            addresses: vec![[10, 0, 0, 77].into()],
        },
        families: Families {
            ipv4: true,
            ipv6: false,
        },
        timing: Timing::default(),
    }
}

fn pod(name: &str, address: &str) -> Pod {
    Pod {
        name: PodName {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
        },
        uid: format!("uid-of-{name}"),
        version: "1".to_owned(),
        node: Some("there".to_owned()),
        phase: Some("Running".to_owned()),
        ready: true,
        terminating: false,
        addresses: address
            .split_whitespace()
            .map(|text| text.parse().unwrap())
            .collect(),
        port: Annotation::Missing,
        receiver: Annotation::Missing,
        tunnel: Annotation::Missing,
        tunnel_port: Annotation::Missing,
    }
}

fn addresses(list: &SensorList) -> Vec<String> {
    let address = |sensor: &FoundSensor| sensor.address.to_string();
    list.sensors.iter().map(address).collect()
}

/// The remark about the only pod.
fn remark(pod: &Pod, settings: &Settings) -> Option<Remark> {
    let selection = select([pod], settings);
    let remark = selection.remarks.into_values().next();
    let used = matches!(remark, None | Some(Remark::BadReceiver(_)));
    assert_eq!(used, selection.list.sensors.len() == 1, "{pod:?}");
    remark
}

#[test]
fn a_usable_pod_is_used_with_the_defaults() {
    let selection = select([&pod("a", "10.0.0.1")], &settings());
    assert_eq!(selection.remarks, BTreeMap::new());
    let sensor = FoundSensor {
        address: "10.0.0.1:4789".parse().unwrap(),
        has_tunnel: false,
        receiver: Receiver::Socket,
        pod: "shop/a".to_owned(),
        on_this_node: false,
    };
    assert_eq!(selection.list.sensors, [sensor]);
}

#[test]
fn each_reason_not_to_use_a_pod() {
    let good = pod("a", "10.0.0.1");
    let settings = settings();
    let of = |change: &dyn Fn(&mut Pod)| {
        let mut pod = good.clone();
        change(&mut pod);
        remark(&pod, &settings)
    };
    assert_eq!(of(&|_| {}), None);
    assert_eq!(of(&|pod| pod.uid = "my-uid".into()), Some(Remark::OwnPod));
    assert_eq!(of(&|pod| pod.name.name = "me".into()), Some(Remark::OwnPod));
    let own_address = |pod: &mut Pod| pod.addresses.push([10, 0, 0, 77].into());
    assert_eq!(of(&own_address), Some(Remark::OwnPod));
    let link_local = [169, 254, 7, 7].into();
    assert_eq!(
        of(&|pod| pod.addresses = vec![link_local]),
        Some(Remark::InvalidAddress(link_local))
    );
    let elsewhere = PodName {
        namespace: "other".to_owned(),
        name: "me".to_owned(),
    };
    assert_eq!(of(&|pod| pod.name = elsewhere.clone()), None);
    assert_eq!(of(&|pod| pod.terminating = true), Some(Remark::Terminating));
    assert_eq!(
        of(&|pod| pod.phase = Some("Pending".into())),
        Some(Remark::NotRunning("Pending".into()))
    );
    assert_eq!(of(&|pod| pod.phase = None), None);
    assert_eq!(of(&|pod| pod.ready = false), Some(Remark::NotReady));
    assert_eq!(of(&|pod| pod.addresses.clear()), Some(Remark::NoAddress));
    assert_eq!(
        of(&|pod| pod.port = Annotation::Invalid("0".into())),
        Some(Remark::BadPort("0".into()))
    );
    assert_eq!(
        of(&|pod| pod.tunnel = Annotation::Invalid("required".into())),
        Some(Remark::BadTunnel("required".into()))
    );
    assert_eq!(
        of(&|pod| pod.tunnel_port = Annotation::Invalid("0".into())),
        Some(Remark::BadTunnelPort("0".into()))
    );
    for invalid in [
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "fe80::1",
    ] {
        let address: IpAddr = invalid.parse().unwrap();
        let remark = of(&|pod| pod.addresses = vec![address]);
        assert_eq!(remark, Some(Remark::InvalidAddress(address)));
    }
}

#[test]
fn without_an_identity_no_pod_is_podspans_own() {
    let mut settings = settings();
    settings.own_pod = OwnPod::default();
    let mut nameless = pod("", "10.0.0.1");
    nameless.uid = String::new();
    nameless.name.namespace = String::new();
    assert_eq!(remark(&nameless, &settings), None);
}

#[test]
fn the_first_address_of_a_usable_family_is_used() {
    let both = |ipv4, ipv6| Settings {
        families: Families { ipv4, ipv6 },
        ..settings()
    };
    for (list, ipv4, ipv6, expected) in [
        ("10.0.0.1 fd00::1", true, true, "10.0.0.1:4789"),
        ("fd00::1 10.0.0.1", true, true, "[fd00::1]:4789"),
        ("fd00::1 10.0.0.1", true, false, "10.0.0.1:4789"),
        ("10.0.0.1 fd00::1", false, true, "[fd00::1]:4789"),
        ("127.0.0.1 10.0.0.1", true, true, "10.0.0.1:4789"),
    ] {
        let selection = select([&pod("a", list)], &both(ipv4, ipv6));
        assert_eq!(addresses(&selection.list), [expected], "{list}");
    }
    let other = remark(&pod("a", "fd00::1"), &both(true, false));
    assert_eq!(other, Some(Remark::OtherFamily("fd00::1".parse().unwrap())));
}

#[test]
fn annotations_override_the_defaults() {
    let mut declared = pod("a", "10.0.0.1");
    declared.port = Annotation::Valid(NonZeroU16::new(9000).unwrap());
    declared.receiver = Annotation::Valid(Receiver::Sniffer);
    let sensor = select([&declared], &settings()).list.sensors.remove(0);
    assert_eq!(sensor.address.port(), 9000);
    assert_eq!(sensor.receiver, Receiver::Sniffer);
    declared.receiver = Annotation::Invalid("tap".to_owned());
    let Selection { list, remarks } = select([&declared], &settings());
    assert_eq!(list.sensors[0].receiver, Receiver::Sniffer, "always right");
    assert_eq!(
        remarks[&declared.name],
        Remark::BadReceiver("tap".to_owned())
    );
}

#[test]
fn two_pods_with_one_address_are_one_sensor() {
    let mut second = pod("b", "10.0.0.1");
    second.receiver = Annotation::Valid(Receiver::Sniffer);
    let Selection { list, remarks } = select([&pod("a", "10.0.0.1"), &second], &settings());
    assert_eq!(addresses(&list), ["10.0.0.1:4789"]);
    assert_eq!(list.sensors[0].receiver, Receiver::Sniffer);
    let same = Remark::SameAddress("10.0.0.1:4789".parse().unwrap());
    assert_eq!(remarks, BTreeMap::from([(second.name.clone(), same)]));
    second.port = Annotation::Valid(NonZeroU16::new(4790).unwrap());
    let separate = select([&pod("a", "10.0.0.1"), &second], &settings());
    assert_eq!(separate.list.sensors.len(), 2);
}

#[test]
fn a_sensor_of_this_node_is_marked_and_the_others_stay() {
    let far = pod("far", "10.0.0.1");
    let mut near = pod("near", "10.0.0.2");
    near.node = Some("here".to_owned());
    let marks = |settings: &Settings| -> Vec<bool> {
        let SensorList { sensors } = select([&far, &near], settings).list;
        sensors.iter().map(|sensor| sensor.on_this_node).collect()
    };
    assert_eq!(marks(&settings()), [false, true]);
    let nowhere = Settings {
        node: None,
        ..settings()
    };
    assert_eq!(marks(&nowhere), [false, false]);
}

/// Every setting, with and without keys, and everything that a pod declares.
#[test]
fn the_tunnel_is_used_where_the_sensor_or_the_setting_says_so() {
    use Tunnel::{Off, Required, Wireguard};
    let declares = Annotation::Valid(Declared::Tunnel);
    let declines = Annotation::Valid(Declared::Plain);
    let (tunnel, plain) = (Ok(Some(51820)), Ok(None));
    let (no_keys, no_tunnel) = (Err(Remark::NoKeys), Err(Remark::NoTunnel));
    // With keys, and without.
    let rows = [
        (&declares, Off, &tunnel, &no_keys),
        (&declares, Wireguard, &tunnel, &no_keys),
        (&declares, Required, &tunnel, &no_keys),
        (&Annotation::Missing, Off, &plain, &plain),
        (&Annotation::Missing, Wireguard, &tunnel, &no_keys),
        (&Annotation::Missing, Required, &no_tunnel, &no_tunnel),
        (&declines, Off, &plain, &plain),
        (&declines, Wireguard, &plain, &plain),
        (&declines, Required, &no_tunnel, &no_tunnel),
    ];
    for (declared, default, with_keys, without_keys) in rows {
        for (has_keys, expected) in [(true, with_keys), (false, without_keys)] {
            let settings = TunnelSettings {
                default,
                has_keys,
                ..settings().tunnel
            };
            let mut pod = pod("a", "10.0.0.1");
            pod.tunnel = declared.clone();
            let found = tunnel_port(&pod, settings).map(|port| port.map(NonZeroU16::get));
            assert_eq!(&found, expected, "{declared:?} {default} {has_keys}");
        }
    }
}

#[test]
fn a_sensor_behind_a_tunnel_has_the_tunnels_port() {
    let mut declared = pod("a", "10.0.0.1");
    declared.tunnel = Annotation::Valid(Declared::Tunnel);
    let found = |pod: &Pod| {
        let sensor = select([pod], &settings()).list.sensors.remove(0);
        (sensor.address.to_string(), sensor.has_tunnel)
    };
    assert_eq!(found(&declared), ("10.0.0.1:51820".to_owned(), true));
    declared.port = Annotation::Valid(NonZeroU16::new(4790).unwrap());
    declared.tunnel_port = Annotation::Valid(NonZeroU16::new(4789).unwrap());
    assert_eq!(found(&declared), ("10.0.0.1:4789".to_owned(), true));
    declared.tunnel = Annotation::Missing;
    assert_eq!(found(&declared), ("10.0.0.1:4790".to_owned(), false));
}

/// Whichever comes first.
#[test]
fn of_two_pods_with_one_address_the_one_behind_a_tunnel_is_used() {
    let port = NonZeroU16::new(9000).unwrap();
    for tunnelled in ["a", "b"] {
        let mut pods = [pod("a", "10.0.0.1"), pod("b", "10.0.0.1")];
        for pod in &mut pods {
            if pod.name.name == tunnelled {
                pod.tunnel = Annotation::Valid(Declared::Tunnel);
                pod.tunnel_port = Annotation::Valid(port);
            } else {
                pod.port = Annotation::Valid(port);
                pod.receiver = Annotation::Valid(Receiver::Sniffer);
                pod.node = Some("here".to_owned());
            }
        }
        let Selection { list, remarks } = select(&pods, &settings());
        let merged = FoundSensor {
            address: "10.0.0.1:9000".parse().unwrap(),
            has_tunnel: true,
            receiver: Receiver::Sniffer,
            pod: format!("shop/{tunnelled}"),
            on_this_node: true,
        };
        assert_eq!(list.sensors, [merged]);
        let remarks: Vec<_> = remarks.into_iter().collect();
        let [(name, Remark::SameAddress(_))] = remarks.as_slice() else {
            panic!("{remarks:?}");
        };
        assert_ne!(name.name, tunnelled);
    }
}

#[test]
fn a_remark_about_a_tunnel_says_what_to_set() {
    for (remark, words) in [
        (
            Remark::BadTunnel("on".to_owned()),
            vec!["podspan.dev/tunnel is \"on\"", "wireguard or off"],
        ),
        (
            Remark::BadTunnelPort("x".to_owned()),
            vec!["podspan.dev/tunnel-port is \"x\"", "1 to 65535"],
        ),
        (
            Remark::NoKeys,
            vec![
                "WG_SENSOR_KEY_FILE",
                "WG_PRESHARED_KEY_FILE",
                "podspan.dev/tunnel-secret",
            ],
        ),
        (
            Remark::NoTunnel,
            vec!["TUNNEL is required", "podspan.dev/tunnel: wireguard"],
        ),
    ] {
        let text = remark.to_string();
        assert!(
            remark.needs_action() && text.starts_with("not used: "),
            "{text}"
        );
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}

fn any_pod() -> impl Strategy<Value = Pod> {
    let address = prop_oneof![
        (0_u8..4).prop_map(|last| IpAddr::from([10, 0, 0, last])),
        (0_u16..4).prop_map(|last| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last])),
        Just(IpAddr::from([127, 0, 0, 1])),
    ];
    let port = prop_oneof![
        Just(Annotation::Missing),
        (1_u16..4).prop_map(|port| Annotation::Valid(NonZeroU16::new(port).unwrap())),
        Just(Annotation::Invalid("x".to_owned())),
    ];
    let receiver = prop_oneof![
        Just(Annotation::Missing),
        Just(Annotation::Valid(Receiver::Sniffer)),
        Just(Annotation::Invalid("x".to_owned())),
    ];
    let tunnel = prop_oneof![
        Just(Annotation::Missing),
        Just(Annotation::Valid(Declared::Plain)),
        Just(Annotation::Valid(Declared::Tunnel)),
        Just(Annotation::Invalid("x".to_owned())),
    ];
    let tunnel_port = prop_oneof![
        Just(Annotation::Missing),
        (1_u16..4).prop_map(|port| Annotation::Valid(NonZeroU16::new(port).unwrap())),
        Just(Annotation::Invalid("x".to_owned())),
    ];
    let node = prop::option::of(prop_oneof![
        Just("here".to_owned()),
        Just("there".to_owned())
    ]);
    let flags = (any::<bool>(), any::<bool>(), 0_u8..12);
    (
        prop::collection::vec(address, 0..3),
        port,
        receiver,
        (tunnel, tunnel_port),
        node,
        flags,
    )
        .prop_map(
            |(
                addresses,
                port,
                receiver,
                (tunnel, tunnel_port),
                node,
                (ready, terminating, name),
            )| Pod {
                node,
                ready,
                terminating,
                addresses,
                port,
                receiver,
                tunnel,
                tunnel_port,
                ..pod(&name.to_string(), "")
            },
        )
}

proptest! {
    #[test]
    fn every_sensor_is_a_usable_pod_and_every_other_pod_has_a_remark(
        pods in prop::collection::vec(any_pod(), 0..12),
        default in prop::sample::select(vec![Tunnel::Off, Tunnel::Wireguard, Tunnel::Required]),
        has_keys: bool,
    ) {
        let pods: BTreeMap<PodName, Pod> =
            pods.into_iter().map(|pod| (pod.name.clone(), pod)).collect();
        let mut settings = settings();
        settings.tunnel = TunnelSettings { default, has_keys, ..settings.tunnel };
        let Selection { list, remarks } = select(pods.values(), &settings);
        for pair in list.sensors.windows(2) {
            prop_assert!(pair[0].address < pair[1].address, "ordered, and each once");
        }
        for sensor in &list.sensors {
            let pod = pods.values().find(|pod| pod.name.to_string() == sensor.pod).unwrap();
            prop_assert!(pod.ready && !pod.terminating);
            prop_assert!(pod.addresses.contains(&sensor.address.ip()));
            prop_assert!(sensor.address.is_ipv4(), "only usable families");
            prop_assert!(!sensor.address.ip().is_loopback());
            prop_assert!(!sensor.has_tunnel || has_keys);
            if pod.tunnel == Annotation::Valid(Declared::Tunnel) || default == Tunnel::Required {
                prop_assert!(sensor.has_tunnel, "never plain");
            }
        }
        let unused = remarks
            .values()
            .filter(|remark| !matches!(remark, Remark::BadReceiver(_)))
            .count();
        prop_assert_eq!(list.sensors.len() + unused, pods.len());
    }
}
