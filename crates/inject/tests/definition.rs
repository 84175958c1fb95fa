//! The components of the manifests are the sidecar of this crate, and every refusal has its text.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use inject::{Options, Placement, Security, container, inject, is_injected, remove};
use serde_json::{Value, json};

use common::options;

fn component(path: &str) -> Value {
    let path = format!(
        "{}/../../manifests/components/{path}",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(path).unwrap();
    let object: Value = serde_saphyr::from_str(&text).unwrap();
    object["spec"]["template"]["spec"]["initContainers"][0].clone()
}

/// As kustomize merges the fields of one container: null removes, lists of texts are replaced.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    for (name, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name], value);
        }
    }
}

#[test]
fn the_components_are_this_sidecar() {
    let sidecar = component("sidecar/sidecar.yaml");
    assert_eq!(
        sidecar,
        container("podspan", Placement::Native, Security::Added)
    );
    for (path, security) in [
        ("sidecar-baseline/capabilities.yaml", Security::Baseline),
        ("sidecar-root/user.yaml", Security::Root),
    ] {
        let mut patched = sidecar.clone();
        merge(&mut patched, &component(path));
        assert_eq!(
            patched,
            container("podspan", Placement::Native, security),
            "{path}"
        );
    }
}

#[test]
fn the_component_names_this_image() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../manifests/components/sidecar/kustomization.yaml"
    );
    let object: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let image = &object["images"][0];
    let name = format!(
        "{}:{}",
        image["newName"].as_str().unwrap(),
        image["newTag"].as_str().unwrap()
    );
    assert_eq!(name, inject::IMAGE);
}

fn pod(annotations: &Value, spec: &Value) -> Value {
    let mut pod = json!({"metadata": {"annotations": annotations}, "spec": {"containers": [
        {"name": "web", "ports": [{"containerPort": 8080}, {"containerPort": 53, "protocol": "UDP"}]},
        {"name": "api"},
    ]}});
    merge(&mut pod["spec"], spec);
    pod
}

fn variables(pod: &Value) -> Vec<(String, String)> {
    let variables = pod["spec"]["initContainers"][0]["env"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    variables
        .iter()
        .map(|variable| (text(&variable["name"]), text(&variable["value"])))
        .collect()
}

#[test]
fn annotations_set_variables() {
    let annotations = json!({
        "podspan.dev/log-format": "json",
        "podspan.dev/sensor-receiver": "socket",
        "podspan.dev/interface": "$(POD_NAME)",
        "podspan.dev/sensor": "zeek",
        "podspan.dev/containers": "web",
        "podspan.dev/cpu": "100m",
        "podspan.dev/memory": "32Mi/1Gi",
        "podspan.dev/mirror": "off",
        "example.com/other": "x",
    });
    let injected = inject(&pod(&annotations, &json!({})), &options()).unwrap();
    let expected = [
        ("SENSOR", "zeek"),
        ("ON_FAILURE", "idle"),
        ("NODE_NAME", ""),
        ("POD_NAME", ""),
        ("POD_NAMESPACE", ""),
        ("POD_UID", ""),
        ("INTERFACE", "$$(POD_NAME)"),
        ("RECEIVER", "socket"),
        ("LOG_FORMAT", "json"),
        ("FILTER", "tcp port 8080 or udp port 53"),
    ];
    assert_eq!(
        variables(&injected),
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    assert_eq!(
        injected["spec"]["initContainers"][0]["resources"],
        json!({"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "100m", "memory": "1Gi"}})
    );
}

/// One wrong thing each, and what the operator reads.
#[test]
fn each_refusal_names_the_cause_and_the_remedy() {
    let annotated =
        |name: &str, value: Value| pod(&json!({format!("podspan.dev/{name}"): value}), &json!({}));
    let cases = [
        (
            annotated("senser", "a".into()),
            "the annotation podspan.dev/senser is unknown; the nearest known one is podspan.dev/sensor",
        ),
        (
            annotated("sensor", "a b".into()),
            "the annotation podspan.dev/sensor is \"a b\": it is not one word; expected: a value. Example: podspan.dev/sensor: \"zeek\"",
        ),
        (
            annotated("vni", 10.into()),
            "the annotation podspan.dev/vni is not a text. Put the value in quotes: podspan.dev/vni: \"10\"",
        ),
        (
            annotated("node-name", "a".into()),
            "the annotation podspan.dev/node-name cannot be set: podspan gets this value from the pod itself",
        ),
        (
            annotated("image", "a".into()),
            "the annotation podspan.dev/image cannot be set: whoever injects podspan chooses the image",
        ),
        (
            annotated("inject", "true".into()),
            "the annotation podspan.dev/inject cannot be set: podspan.dev/inject is a label",
        ),
        (
            annotated("kubeconfig", "/a".into()),
            "the annotation podspan.dev/kubeconfig cannot be set: podspan is injected without a volume for such a \
             file",
        ),
        (
            annotated("wg-preshared-key", "secret".into()),
            "the annotation podspan.dev/wg-preshared-key cannot be set: keys belong into a Secret, because everybody who \
             reads pods reads this. Name it with podspan.dev/tunnel-secret",
        ),
        (
            annotated("kubernetes-service-port", "443".into()),
            "the annotation podspan.dev/kubernetes-service-port cannot be set: the kubelet sets this variable in \
             every container",
        ),
        (
            annotated("cpu", "fast".into()),
            "the annotation podspan.dev/cpu is \"fast\": it is not a quantity, or a request and a limit separated \
          by a slash. Example: podspan.dev/cpu: 50m/250m",
        ),
        (
            annotated("cpu", "300m/250m".into()),
            "the annotation podspan.dev/cpu is \"300m/250m\": the request is above the limit. Example: \
          podspan.dev/cpu: 50m/250m",
        ),
        (
            annotated("memory", "64".into()),
            "the annotation podspan.dev/memory is \"64\": podspan needs a limit of at least 16Mi. Example: \
          podspan.dev/memory: 32Mi/256Mi",
        ),
        (
            annotated("mirror", "no".into()),
            "the annotation podspan.dev/mirror is \"no\": it is neither on nor off. Example: podspan.dev/mirror: \
          \"off\"",
        ),
        (
            annotated("filter", "(tcp".into()),
            "the annotation podspan.dev/filter is \"(tcp\": a parenthesis is missing. Example: podspan.dev/filter: \
          \"not port 9090\"",
        ),
        (
            annotated("containers", "db".into()),
            "the annotation podspan.dev/containers is \"db\": the pod has no container \"db\"; it has web, api. \
          Example: podspan.dev/containers: web,api",
        ),
        (
            annotated("containers", "api".into()),
            "the annotation podspan.dev/containers is \"api\": the container \"api\" declares no ports; add them \
          to its ports, or use podspan.dev/filter. Example: podspan.dev/containers: web,api",
        ),
        (
            annotated("annotations", "/etc/a".into()),
            "the annotation podspan.dev/annotations is \"/etc/a\": podspan is injected without a volume for such a \
             file. Example: podspan.dev/annotations: \"off\"",
        ),
        (
            pod(
                &json!({"podspan.dev/annotations": "off", "podspan.dev/mirror": "off"}),
                &json!({}),
            ),
            "the annotation podspan.dev/mirror is \"off\": with podspan.dev/annotations: off, podspan ignores it. \
             Example: podspan.dev/mirror: \"off\", without podspan.dev/annotations",
        ),
        (
            annotated("host-network", "true".into()),
            "the annotation podspan.dev/host-network is \"true\": the only value is allow. Example: \
          podspan.dev/host-network: allow",
        ),
    ];
    refused(&cases);
}

fn refused(cases: &[(Value, &str)]) {
    for (pod, expected) in cases {
        let refused = inject(pod, &options()).unwrap_err().to_string();
        assert_eq!(refused, *expected);
    }
}

/// The same for fields of the pod.
#[test]
fn each_pod_that_is_refused_is_named() {
    let with = |spec: Value| pod(&json!({}), &spec);
    let cases = [
        (
            with(json!({"hostNetwork": true})),
            "the pod has hostNetwork: true, so podspan would mirror all traffic of the node. If this is what you \
          want, add the annotation podspan.dev/host-network: allow",
        ),
        (
            with(json!({"os": {"name": "windows"}})),
            "the pod is for Windows nodes; podspan runs only on Linux",
        ),
        (
            with(json!({"containers": []})),
            "spec.containers has no entry; a pod needs at least one container besides podspan",
        ),
        (
            with(json!({"containers": "web"})),
            "spec.containers is not a list",
        ),
        (
            with(json!({"initContainers": [1]})),
            "an entry of spec.initContainers is not a mapping",
        ),
        (json!({}), "spec is not a mapping"),
        (
            with(json!({"initContainers": [{"name": "podspan", "image": "x"}]})),
            "spec.initContainers has a container named podspan that podspan did not add: it has no restartPolicy: \
          Always. Rename or remove it",
        ),
        (
            with(
                json!({"containers": [{"name": "a"}, {"name": "podspan", "volumeMounts": [{"mountPath": "/x"}]}]}),
            ),
            "spec.containers has a container named podspan that podspan did not add: it has volumeMounts, which \
          podspan never sets. Rename or remove it",
        ),
        (
            with(json!({"containers": [{"name": "a"}, {"name": "podspan"}, {"name": "podspan"}]})),
            "spec.containers has a container named podspan that podspan did not add: there are several. Rename or \
          remove it",
        ),
        (
            json!({"metadata": {"labels": {"podspan.dev/vni": "1", "podspan.dev/inject": "true"}},
                "spec": {"containers": [{"name": "a"}]}}),
            "the pod has the label podspan.dev/vni, which has no effect: podspan reads annotations. Make it an \
             annotation",
        ),
        (
            json!({"metadata": {"labels": {"run": "zeek"}, "annotations": {"podspan.dev/sensor": "zeek"}},
                "spec": {"containers": [{"name": "a"}]}}),
            "the pod has the label run: zeek, and SENSOR is zeek, so the pod is a sensor of its own podspan: each \
             copy would be mirrored again. Rename the label, or choose another sensor with podspan.dev/sensor",
        ),
        (
            with(json!({"ephemeralContainers": [{"name": "podspan"}]})),
            "spec.ephemeralContainers has a container named podspan that podspan did not add: podspan is not \
          injected there. Rename or remove it",
        ),
    ];
    refused(&cases);
}

/// podspan uses the annotation in the place of the variable `FILTER`, so the limit to the containers would be
/// lost without notice.
#[test]
fn containers_and_a_filter_are_joined_by_the_operator() {
    let annotations =
        json!({"podspan.dev/containers": "web", "podspan.dev/filter": "not host 10.0.0.1"});
    let refused = inject(&pod(&annotations, &json!({})), &options())
        .unwrap_err()
        .to_string();
    assert_eq!(
        refused,
        "the pod has the annotations podspan.dev/containers and podspan.dev/filter, and podspan uses the second \
         in the place of the first. Remove podspan.dev/containers, and join both: podspan.dev/filter: \"(tcp port \
         8080 or udp port 53) and (not host 10.0.0.1)\". Or add podspan.dev/annotations: \"off\""
    );
    let fixed = |filter: &str| {
        let mut annotations = annotations.clone();
        annotations["podspan.dev/annotations"] = "off".into();
        annotations["podspan.dev/filter"] = filter.into();
        let injected = inject(&pod(&annotations, &json!({})), &options()).unwrap();
        variables(&injected).pop().unwrap().1
    };
    assert_eq!(
        fixed("not host 10.0.0.1"),
        "(tcp port 8080 or udp port 53) and (not host 10.0.0.1)"
    );
    assert_eq!(fixed(""), "tcp port 8080 or udp port 53");
    let only = json!({"podspan.dev/annotations": "off", "podspan.dev/filter": "tcp"});
    let injected = inject(&pod(&only, &json!({})), &options()).unwrap();
    assert_eq!(
        variables(&injected).pop().unwrap(),
        ("FILTER".to_owned(), "tcp".to_owned())
    );
}

#[test]
fn all_reasons_are_reported_at_once() {
    let annotations = json!({"podspan.dev/vni": "x", "podspan.dev/cpu": "x", "podspan.dev/x": "x"});
    let options = Options {
        image: String::new(),
        ..options()
    };
    let refused = inject(&pod(&annotations, &json!({"hostNetwork": true})), &options).unwrap_err();
    assert_eq!(refused.reasons.len(), 5, "{refused}");
}

#[test]
fn host_network_is_injected_where_the_pod_allows_it() {
    let pod = pod(
        &json!({"podspan.dev/host-network": "allow"}),
        &json!({"hostNetwork": true}),
    );
    assert!(is_injected(&inject(&pod, &options()).unwrap()));
}

/// A plain container would keep the pod of a Job from ending.
#[test]
fn a_plain_container_is_not_injected_into_a_job() {
    let job = pod(&json!({}), &json!({"restartPolicy": "Never"}));
    let plain = Options {
        placement: Placement::Plain,
        ..options()
    };
    let refused = inject(&job, &plain).unwrap_err().to_string();
    assert!(refused.contains("(restartPolicy: Never)"), "{refused}");
    assert!(is_injected(&inject(&job, &options()).unwrap()));
}

/// The first container stays the one that kubectl selects.
#[test]
fn a_plain_container_is_the_last() {
    let plain = Options {
        placement: Placement::Plain,
        ..options()
    };
    let injected = inject(&pod(&json!({}), &json!({})), &plain).unwrap();
    let names: Vec<_> = injected["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["name"])
        .collect();
    assert_eq!(names, ["web", "api", "podspan"]);
    assert!(
        injected["spec"]["containers"][2]
            .get("restartPolicy")
            .is_none()
    );
}

#[test]
fn a_foreign_container_is_not_removed() {
    let pod = pod(
        &json!({}),
        &json!({"initContainers": [{"name": "podspan"}]}),
    );
    assert!(!is_injected(&pod));
    assert!(remove(&pod).is_err());
}

fn with_defaults(defaults: &[(&str, &str)]) -> Options<'static> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Options {
        defaults: defaults.iter().map(owned).collect(),
        ..options()
    }
}

#[test]
fn defaults_are_the_annotations_that_a_pod_does_not_have() {
    let defaults = with_defaults(&[("sensor", "zeek"), ("vni", "7"), ("cpu", "100m")]);
    let pod = pod(&json!({"podspan.dev/vni": "9"}), &json!({}));
    let injected = inject(&pod, &defaults).unwrap();
    let found = variables(&injected);
    for (name, value) in [("SENSOR", "zeek"), ("VNI", "9")] {
        assert!(
            found.contains(&(name.to_owned(), value.to_owned())),
            "{found:?}"
        );
    }
    let resources = &injected["spec"]["initContainers"][0]["resources"];
    assert_eq!(resources["requests"]["cpu"], "100m");
    assert_eq!(remove(&injected).unwrap(), pod, "no annotation is written");
}

#[test]
fn a_wrong_default_is_named_as_one() {
    let cases = [
        (
            ("vni", "x"),
            "the default vni is \"x\": it is not a number; expected: a value. Example: vni=26",
        ),
        (
            ("vin", "1"),
            "the default vin is unknown; the nearest known one is vni",
        ),
        (
            ("host-network", "allow"),
            "the default host-network cannot be set: it describes one pod, so it can only be an annotation of the \
             pod",
        ),
        (
            ("image", "a"),
            "the default image cannot be set: whoever injects podspan chooses the image",
        ),
        (
            ("filter", "(tcp"),
            "the default filter is \"(tcp\": a parenthesis is missing. Example: filter=not port 9090",
        ),
        (
            ("annotations", "/a"),
            "the default annotations is \"/a\": podspan is injected without a volume for such a file. Example: \
             annotations=off",
        ),
    ];
    for (default, expected) in cases {
        let refused = inject(&pod(&json!({}), &json!({})), &with_defaults(&[default])).unwrap_err();
        assert_eq!(refused.to_string(), expected);
    }
    let twice = with_defaults(&[("vni", "1"), ("vni", "2")]);
    let refused = inject(&pod(&json!({}), &json!({})), &twice).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the default vni cannot be set: it is given twice"
    );
}

/// It applies until podspan has the first answer of the API server, and if podspan may not ask it.
#[test]
fn a_filter_is_in_the_variable_too() {
    let filter = |annotations: Value, default: Option<&str>| {
        let defaults: Vec<_> = default.map(|text| ("filter", text)).into_iter().collect();
        let injected = inject(&pod(&annotations, &json!({})), &with_defaults(&defaults)).unwrap();
        let filter = variables(&injected)
            .into_iter()
            .find(|(name, _)| name == "FILTER");
        filter.map(|(_, value)| value)
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        filter(json!({"podspan.dev/filter": "tcp"}), None),
        text("tcp")
    );
    assert_eq!(
        filter(json!({"podspan.dev/filter": "tcp"}), Some("udp")),
        text("tcp")
    );
    assert_eq!(
        filter(json!({"podspan.dev/filter": " "}), Some("udp")),
        None
    );
    assert_eq!(filter(json!({}), Some("udp")), text("udp"));
    // Both are limits, and no annotation replaces the variable.
    assert_eq!(
        filter(
            json!({"podspan.dev/containers": "web"}),
            Some("not host 10.0.0.1")
        ),
        text("(tcp port 8080 or udp port 53) and (not host 10.0.0.1)")
    );
}
