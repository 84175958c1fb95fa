//! An update does not lose what somebody patched into podspan's container, and everything that injection wrote
//! itself is updated.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use inject::{Options, Placement, Security, inject, remove};
use serde_json::{Value, json};

use common::options;

fn pod(annotations: &Value) -> Value {
    json!({"metadata": {"annotations": annotations}, "spec": {"containers": [{"name": "web"}]}})
}

fn injected() -> Value {
    inject(&pod(&json!({})), &options()).unwrap()
}

fn patched(path: &str, value: Value) -> Value {
    let mut pod = injected();
    let container = &mut pod["spec"]["initContainers"][0];
    let (parent, name) = path.rsplit_once('/').unwrap();
    match container.pointer_mut(parent).unwrap() {
        Value::Array(entries) => entries[name.parse::<usize>().unwrap()] = value,
        fields => fields[name] = value,
    }
    pod
}

/// With a further variable.
fn with_variable(name: &str, value: &str) -> Value {
    let mut pod = injected();
    let variables = &mut pod["spec"]["initContainers"][0]["env"];
    variables
        .as_array_mut()
        .unwrap()
        .push(json!({"name": name, "value": value}));
    pod
}

#[test]
fn a_patch_is_not_lost() {
    let cases = [
        // As manifests/components/sidecar recommends.
        (
            patched("/env/0", json!({"name": "SENSOR", "value": "zeek"})),
            "SENSOR=\"zeek\"",
            "Add the annotation podspan.dev/sensor: \"zeek\", or inject with this default, or remove podspan's \
             container first (uninject)",
        ),
        (
            with_variable("INTERFACE", "$$(A)"),
            "INTERFACE=\"$(A)\"",
            "Add the annotation podspan.dev/interface: \"$(A)\", or inject with this default, or remove podspan's \
             container first (uninject)",
        ),
        (
            with_variable("FILTER", "tcp"),
            "FILTER=\"tcp\"",
            "Add the annotation podspan.dev/filter: \"tcp\", or inject with this default, or remove podspan's \
             container first (uninject)",
        ),
        (
            with_variable("HTTP_PROXY", "a"),
            "HTTP_PROXY=\"a\"",
            "Remove podspan's container first (uninject)",
        ),
        // The value may be a key.
        (
            with_variable("WG_PRESHARED_KEY", "secret"),
            "the variable WG_PRESHARED_KEY",
            "Remove podspan's container first (uninject)",
        ),
        (
            with_variable("SENSOR", "sensor"),
            "the variable SENSOR twice",
            "Remove one of them",
        ),
        (
            patched("/image", json!("a.example:5000/podspan:0.1.0")),
            "the image \"a.example:5000/podspan:0.1.0\"",
            "Inject with this image, or remove podspan's container first (uninject)",
        ),
        (
            patched("/resources/limits/cpu", json!("1")),
            "cpu 50m/1",
            "Add the annotation podspan.dev/cpu: \"50m/1\", or inject with this default, or remove podspan's \
             container first (uninject)",
        ),
        (
            patched("/resources/limits", json!({"memory": "256Mi"})),
            "cpu request 50m and limit none",
            "Remove podspan's container first (uninject)",
        ),
        (
            patched("/resources/limits/ephemeral-storage", json!("1Gi")),
            "the resource ephemeral-storage",
            "Remove podspan's container first (uninject)",
        ),
        (
            patched("/resources/claims", json!([{"name": "a"}])),
            "the resource claims",
            "Remove podspan's container first (uninject)",
        ),
        (
            patched("/securityContext/runAsUser", json!(1000)),
            "another securityContext",
            "Remove podspan's container first (uninject)",
        ),
    ];
    for (pod, what, remedy) in cases {
        let refused = inject(&pod, &options()).unwrap_err().to_string();
        let expected = format!(
            "podspan's container has {what}, which podspan did not write for this pod, so an update would lose it. \
             {remedy}"
        );
        assert_eq!(refused, expected);
        assert_eq!(remove(&pod).unwrap(), self::pod(&json!({})));
    }
}

#[test]
fn each_remedy_lets_the_update_pass() {
    let mut zeek = patched("/env/0", json!({"name": "SENSOR", "value": "zeek"}));
    let defaults = vec![("sensor".to_owned(), "zeek".to_owned())];
    let with_default = Options {
        defaults,
        ..options()
    };
    assert_eq!(inject(&zeek, &with_default).unwrap(), zeek);
    zeek["metadata"]["annotations"] = json!({"podspan.dev/sensor": "zeek"});
    assert_eq!(inject(&zeek, &options()).unwrap(), zeek);

    let image = "a.example:5000/podspan:0.1.0";
    let chosen = Options {
        image: image.to_owned(),
        ..options()
    };
    let pod = patched("/image", json!(image));
    assert_eq!(inject(&pod, &chosen).unwrap(), pod);

    let mut pod = patched("/resources/limits/cpu", json!("1"));
    pod["metadata"]["annotations"] = json!({"podspan.dev/cpu": "50m/1"});
    assert_eq!(inject(&pod, &options()).unwrap(), pod);
}

/// What an earlier injection wrote with other options, from another version, or for other annotations that are
/// still there.
#[test]
fn what_injection_wrote_is_updated() {
    let fresh =
        |annotations: &Value, options: &Options<'_>| inject(&pod(annotations), options).unwrap();
    let none = json!({});
    let old = |options: Options<'static>| inject(&pod(&json!({})), &options).unwrap();
    for before in [
        old(Options {
            image: "ghcr.io/podspan/podspan:0.0.1".to_owned(),
            ..options()
        }),
        old(Options {
            security: Security::Root,
            ..options()
        }),
        old(Options {
            security: Security::Baseline,
            ..options()
        }),
        old(Options {
            placement: Placement::Plain,
            ..options()
        }),
    ] {
        assert_eq!(
            inject(&before, &options()).unwrap(),
            fresh(&none, &options())
        );
    }
    let annotations = json!({"podspan.dev/sensor": "zeek", "podspan.dev/cpu": "100m", "podspan.dev/filter": "tcp"});
    let mut before = fresh(&annotations, &options());
    let annotations =
        json!({"podspan.dev/sensor": "b", "podspan.dev/cpu": "1", "podspan.dev/filter": "udp"});
    before["metadata"]["annotations"] = annotations.clone();
    assert_eq!(
        inject(&before, &options()).unwrap(),
        fresh(&annotations, &options())
    );
    // New annotations.
    let mut before = injected();
    before["metadata"]["annotations"] = annotations.clone();
    assert_eq!(
        inject(&before, &options()).unwrap(),
        fresh(&annotations, &options())
    );
    // Another chosen image.
    let chosen = Options {
        image: "a.example/podspan:1".to_owned(),
        ..options()
    };
    assert_eq!(inject(&injected(), &chosen).unwrap(), fresh(&none, &chosen));
}
