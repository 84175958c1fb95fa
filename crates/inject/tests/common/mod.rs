//! What several suites use: settings, and pods of random shape.

#![allow(dead_code, reason = "each suite uses a part of this")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

pub(crate) mod writer;

use std::collections::BTreeMap;

use inject::{Options, Placement, Security, Setting};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
    EnvVarSource, ExecAction, HTTPGetAction, HostAlias, Lifecycle, LifecycleHandler,
    ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements,
    SecurityContext, TCPSocketAction, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Some of podspan's settings, with checks of the tests.
pub(crate) const SETTINGS: [Setting; 10] = [
    setting("SENSOR", no_space, "zeek"),
    setting("INTERFACE", no_space, "eth0,net1"),
    setting("VNI", number, "26"),
    setting("SENSOR_PORT", number, "4789"),
    setting("RECEIVER", no_space, "socket"),
    setting("NODE_NAME", no_space, "worker-1"),
    setting("ON_FAILURE", no_space, "exit"),
    setting("LOG_FORMAT", no_space, "json"),
    setting("FILTER", no_space, "tcp"),
    setting("ANNOTATIONS", no_space, "off"),
];

const fn setting(
    variable: &'static str,
    check: fn(&str) -> Result<(), String>,
    example: &'static str,
) -> Setting {
    Setting {
        variable,
        check,
        example,
        expected: "a value",
        pattern: "^.*$",
    }
}

fn number(text: &str) -> Result<(), String> {
    match text.parse::<u32>() {
        Ok(_) => Ok(()),
        Err(_) => Err("it is not a number".to_owned()),
    }
}

fn no_space(text: &str) -> Result<(), String> {
    if text.contains(' ') || text.is_empty() {
        return Err("it is not one word".to_owned());
    }
    Ok(())
}

fn balanced(text: &str) -> Result<(), String> {
    if text.matches('(').count() != text.matches(')').count() {
        return Err("a parenthesis is missing".to_owned());
    }
    Ok(())
}

/// Options with the settings of the tests.
pub(crate) fn options() -> Options<'static> {
    Options::new(&SETTINGS, balanced)
}

/// All kinds of options.
pub(crate) fn any_options() -> impl Strategy<Value = Options<'static>> {
    let placement = prop_oneof![3 => Just(Placement::Native), 1 => Just(Placement::Plain)];
    let security = prop_oneof![
        Just(Security::Added),
        Just(Security::Baseline),
        Just(Security::Root)
    ];
    // Of one repository: another one is not replaced without notice.
    let image = prop_oneof![
        Just("ghcr.io/podspan/podspan:0.1.0"),
        Just("ghcr.io/podspan/podspan@sha256:12")
    ];
    let secret = of(Just(("tunnel-secret".to_owned(), "keys".to_owned())));
    (placement, security, image, secret).prop_map(|(placement, security, image, secret)| Options {
        placement,
        security,
        image: image.to_owned(),
        defaults: secret.into_iter().collect(),
        ..options()
    })
}

/// The new options, with a Secret if the old ones have one: without it, the keys would be lost, which is refused.
pub(crate) fn keeping_keys(new: Options<'static>, old: &Options<'_>) -> Options<'static> {
    if old.defaults.is_empty() {
        return new;
    }
    Options {
        defaults: vec![("tunnel-secret".to_owned(), "other".to_owned())],
        ..new
    }
}

/// A template of a pod, of random shape and valid to podspan.
pub(crate) fn template() -> impl Strategy<Value = Value> {
    (typed_template(), [0..4_u8, 0..4_u8]).prop_map(|(template, empty)| {
        let mut template = serde_json::to_value(template).unwrap();
        let spec = template["spec"].as_object_mut().unwrap();
        for (list, empty) in ["initContainers", "volumes"].into_iter().zip(empty) {
            let has_entries = spec.contains_key(list);
            match empty {
                0 if !has_entries => drop(spec.insert(list.to_owned(), json!([]))),
                1 if !has_entries => drop(spec.insert(list.to_owned(), Value::Null)),
                _ => (),
            }
        }
        template
    })
}

/// A text as people write it, and as they should not.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z0-9 ./:-]{0,16}",
        2 => "[ -~]{0,24}",
        1 => "\\PC{0,8}",
        1 => "([a-z #:]{0,8}\n){1,4}[a-z]{0,4}",
        1 => prop_oneof![
            Just("true"), Just("null"), Just("---"), Just("- a"), Just("a: b"), Just("# x"), Just("1e3"),
            Just("0x10"), Just("|"), Just("..."), Just("{{ .Values.x }}"), Just("tab\there"),
        ].prop_map(str::to_owned),
    ]
}

fn name() -> impl Strategy<Value = String> {
    "[a-z]{1,3}[a-z0-9-]{0,6}[a-z0-9]".prop_filter("podspan's", |name| name != "podspan")
}

fn quantity() -> impl Strategy<Value = Quantity> {
    "[1-9][0-9]{0,2}(m|Mi|)".prop_map(Quantity)
}

fn resources() -> impl Strategy<Value = ResourceRequirements> {
    let amounts = || {
        of(btree_map(
            "(cpu|memory)".prop_map(String::from),
            quantity(),
            0..3,
        ))
    };
    (amounts(), amounts()).prop_map(|(limits, requests)| ResourceRequirements {
        claims: None,
        limits,
        requests,
    })
}

fn variable() -> impl Strategy<Value = EnvVar> {
    (("[A-Z_]{1,8}", of(text())), any::<bool>()).prop_map(|((name, value), field)| EnvVar {
        name,
        value_from: field.then(|| EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: None,
                field_path: "metadata.name".to_owned(),
            }),
            ..EnvVarSource::default()
        }),
        value: value.filter(|_| !field),
    })
}

fn port() -> impl Strategy<Value = ContainerPort> {
    let protocol = prop_oneof![Just("TCP"), Just("UDP"), Just("SCTP")].prop_map(str::to_owned);
    (1..65536_i32, of(name()), of(protocol)).prop_map(|(container_port, name, protocol)| {
        ContainerPort {
            container_port,
            name,
            protocol,
            ..ContainerPort::default()
        }
    })
}

fn probe() -> impl Strategy<Value = Probe> {
    (vec(text(), 0..3), 0..3_u8, of(1..60_i32)).prop_map(|(command, kind, period_seconds)| Probe {
        exec: (kind == 0).then_some(ExecAction {
            command: Some(command),
        }),
        http_get: (kind == 1).then(|| HTTPGetAction {
            port: IntOrString::String("http".to_owned()),
            ..HTTPGetAction::default()
        }),
        tcp_socket: (kind == 2).then_some(TCPSocketAction {
            port: IntOrString::Int(80),
            host: None,
        }),
        period_seconds,
        ..Probe::default()
    })
}

fn context() -> impl Strategy<Value = SecurityContext> {
    let names = || of(vec("[A-Z_]{3,8}", 0..3));
    (names(), names(), of(any::<bool>()), of(0..70000_i64)).prop_map(
        |(add, drop, privileged, run_as_user)| SecurityContext {
            capabilities: Some(Capabilities { add, drop }),
            privileged,
            run_as_user,
            ..SecurityContext::default()
        },
    )
}

fn container() -> impl Strategy<Value = Container> {
    let first = (
        name(),
        of(text()),
        of(vec(text(), 0..3)),
        of(vec(text(), 0..3)),
        of(vec(variable(), 0..4)),
        of(vec(port(), 0..3)),
    );
    let second = (
        of(resources()),
        of(probe()),
        of(context()),
        of(vec((name(), "/[a-z/]{0,8}", of(any::<bool>())), 0..3)),
        of(text()),
        of(vec(text(), 0..2)),
    );
    (first, second).prop_map(|(first, second)| {
        let (name, image, command, args, env, ports) = first;
        let (resources, readiness_probe, security_context, mounts, working_dir, stop) = second;
        Container {
            name,
            image,
            command,
            args,
            env,
            ports,
            resources,
            readiness_probe,
            security_context,
            working_dir,
            volume_mounts: mounts.map(|mounts| mounts.into_iter().map(mount).collect()),
            lifecycle: stop.map(|command| Lifecycle {
                pre_stop: Some(LifecycleHandler {
                    exec: Some(ExecAction {
                        command: Some(command),
                    }),
                    ..LifecycleHandler::default()
                }),
                ..Lifecycle::default()
            }),
            ..Container::default()
        }
    })
}

fn mount((name, mount_path, read_only): (String, String, Option<bool>)) -> VolumeMount {
    VolumeMount {
        name,
        mount_path,
        read_only,
        ..VolumeMount::default()
    }
}

fn volume() -> impl Strategy<Value = Volume> {
    (name(), any::<bool>(), of(name())).prop_map(|(name, empty, config)| Volume {
        name,
        empty_dir: empty.then(EmptyDirVolumeSource::default),
        config_map: config.filter(|_| !empty).map(|name| ConfigMapVolumeSource {
            name,
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    })
}

fn annotations() -> impl Strategy<Value = BTreeMap<String, String>> {
    let own = prop_oneof![
        ("podspan[.]dev/sensor", "[a-z]{1,8}"),
        ("podspan[.]dev/vni", "[0-9]{1,4}"),
        ("podspan[.]dev/sensor-port", "[1-9][0-9]{2}"),
        ("podspan[.]dev/cpu", "[1-9]00m"),
        ("podspan[.]dev/memory", "[1-9]{2}Mi/1Gi"),
        ("podspan[.]dev/filter", "not port 9090"),
        ("podspan[.]dev/mirror", "(on|off|On|OFF)"),
        ("podspan[.]dev/interface", "[$(]{0,3}[A-Z]{1,3}[)]{0,1}"),
        ("podspan[.]dev/port", "[0-9]{1,4}"),
        (
            "podspan[.]dev/tunnel-secret",
            "[a-z]{1,3}([.-][a-z0-9]{1,3})?"
        ),
    ];
    let other = ("[a-z]{1,4}[.]example/[a-z]{1,4}", text());
    (vec(own, 0..4), vec(other, 0..3))
        .prop_map(|(own, other)| own.into_iter().chain(other).collect())
}

prop_compose! {
    fn typed_template()(
        annotations in of(annotations()),
        labels in of(btree_map("[a-z]{1,5}", "[a-z0-9]{0,5}", 0..3)),
        has_metadata in any::<bool>(),
        (containers, init, volumes) in (
            vec(container(), 1..4), of(vec((container(), any::<bool>()), 1..4)), of(vec(volume(), 0..3)),
        ),
        (service_account_name, node, group, seconds) in
            (of(name()), of(btree_map("[a-z]{1,5}", text(), 0..2)), of(0..9_i64), of(0..90_i64)),
        (tolerated, aliases, host_pid) in
            (of(vec(of(name()), 0..2)), of(vec(vec(name(), 0..2), 0..2)), of(any::<bool>())),
    ) -> PodTemplateSpec {
        let init = init.map(|entries| entries.into_iter().map(|(container, always)| Container {
            restart_policy: always.then(|| "Always".to_owned()),
            ..container
        }).collect());
        let alias = |hostnames| HostAlias { hostnames: Some(hostnames), ip: "10.0.0.1".to_owned() };
        let toleration = |key| Toleration { key, ..Toleration::default() };
        PodTemplateSpec {
            metadata: has_metadata.then(|| ObjectMeta { annotations, labels, ..ObjectMeta::default() }),
            spec: Some(PodSpec {
                containers,
                init_containers: init,
                volumes,
                service_account_name,
                node_selector: node,
                security_context: group.map(|fs_group| PodSecurityContext {
                    fs_group: Some(fs_group),
                    ..PodSecurityContext::default()
                }),
                termination_grace_period_seconds: seconds,
                tolerations: tolerated.map(|keys| keys.into_iter().map(toleration).collect()),
                host_aliases: aliases.map(|names| names.into_iter().map(alias).collect()),
                host_pid,
                ..PodSpec::default()
            }),
        }
    }
}

/// Follows the numbers down the value, and replaces what they lead to.
pub(crate) fn replace(at: &mut Value, path: &[usize], value: Value) {
    let Some((place, rest)) = path.split_first() else {
        *at = value;
        return;
    };
    match at {
        Value::Object(fields) if !fields.is_empty() => {
            let place = place % fields.len();
            replace(fields.values_mut().nth(place).unwrap(), rest, value);
        }
        Value::Array(entries) if !entries.is_empty() => {
            let place = place % entries.len();
            replace(&mut entries[place], rest, value);
        }
        _ => *at = value,
    }
}
