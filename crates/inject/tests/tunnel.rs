//! The keys of encrypted tunnels in a pod: volume, mount and variables are those of the component, they are not lost, and
//! nobody else's volume is touched.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use inject::{Options, inject, patch, remove};
use serde_json::{Value, json};

use common::options;

fn pod(annotations: &Value) -> Value {
    json!({"metadata": {"annotations": annotations}, "spec": {"containers": [{"name": "web"}]}})
}

/// The order of the variables means nothing.
#[test]
fn the_component_with_keys_is_this_sidecar() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../manifests/components/sidecar-tunnel/tunnel.yaml"
    );
    let object: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let own = &object["spec"]["template"]["spec"];
    let bare = pod(&json!({}));
    let plain = inject(&bare, &options()).unwrap();
    let annotations = json!({"podspan.dev/tunnel-secret": "podspan-tunnel"});
    let with_keys = inject(&pod(&annotations), &options()).unwrap();
    let mut expected = plain["spec"].clone();
    let fields = &own["initContainers"][0];
    let container = &mut expected["initContainers"][0];
    let variables = container["env"].as_array_mut().unwrap();
    variables.extend(fields["env"].as_array().unwrap().iter().cloned());
    container["volumeMounts"] = fields["volumeMounts"].clone();
    expected["volumes"] = own["volumes"].clone();
    assert_eq!(with_keys["spec"], expected);
}

#[test]
fn a_wrong_name_is_refused_where_it_is_given() {
    let why = "\"Shop_keys\": it is not the name of a Secret: lower-case letters, digits, - and ., at most 253, with a \
               letter or digit at both ends and beside each dot. Example: ";
    let annotations = json!({"podspan.dev/tunnel-secret": "Shop_keys"});
    let refused = inject(&pod(&annotations), &options()).unwrap_err();
    let expected = format!(
        "the annotation podspan.dev/tunnel-secret is {why}podspan.dev/tunnel-secret: podspan-tunnel"
    );
    assert_eq!(refused.to_string(), expected);
    let refused = inject(&pod(&json!({})), &with_default("Shop_keys")).unwrap_err();
    let expected = format!("the default tunnel-secret is {why}tunnel-secret=podspan-tunnel");
    assert_eq!(refused.to_string(), expected);
}

fn with_default(secret: &str) -> Options<'static> {
    Options {
        defaults: vec![("tunnel-secret".to_owned(), secret.to_owned())],
        ..options()
    }
}

#[test]
fn an_annotation_comes_before_the_default() {
    let secret = |pod: &Value| {
        let injected = inject(pod, &with_default("default")).unwrap();
        injected["spec"]["volumes"][0]["secret"]["secretName"].clone()
    };
    assert_eq!(secret(&pod(&json!({}))), "default");
    let annotations = json!({"podspan.dev/tunnel-secret": "shop"});
    assert_eq!(secret(&pod(&annotations)), "shop");
}

/// What an API server gets from the webhook.
#[test]
fn the_json_patch_adds_the_volume_to_those_of_the_pod() {
    let mut bare = pod(&json!({"podspan.dev/tunnel-secret": "shop"}));
    let volume =
        json!({"name": "podspan-tunnel", "secret": {"secretName": "shop", "optional": true}});
    for (volumes, path, value) in [
        (None, "/spec/volumes", json!([volume])),
        (Some(json!([])), "/spec/volumes", json!([volume])),
        (
            Some(json!([{"name": "a"}])),
            "/spec/volumes/-",
            volume.clone(),
        ),
    ] {
        if let Some(volumes) = volumes {
            bare["spec"]["volumes"] = volumes;
        }
        let operations = patch(&bare, &options()).unwrap();
        let expected = json!({"op": "add", "path": path, "value": value});
        assert_eq!(operations.last(), Some(&expected));
        assert_eq!(operations.len(), 2);
    }
}

/// With keys, and without a name of their Secret now.
#[test]
fn keys_are_not_lost() {
    let with_keys = keys_of("shop");
    let mut without_name = with_keys.clone();
    without_name["metadata"] = json!({});
    let refused = inject(&without_name, &options()).unwrap_err().to_string();
    assert_eq!(
        refused,
        "podspan's container has the keys of the Secret \"shop\", which podspan did not write for this pod, so an \
         update would lose it. Add the annotation podspan.dev/tunnel-secret: \"shop\", or inject with this default, or \
         remove podspan's container first (uninject)"
    );
    // Another Secret is an update, and so are keys of a container that had none.
    let mut renamed = with_keys.clone();
    renamed["metadata"]["annotations"]["podspan.dev/tunnel-secret"] = "web".into();
    assert_eq!(inject(&renamed, &options()).unwrap(), keys_of("web"));
    let mut bare = inject(&pod(&json!({})), &options()).unwrap();
    bare["metadata"] = with_keys["metadata"].clone();
    assert_eq!(inject(&bare, &options()).unwrap(), with_keys);
    // As the component had it.
    let mut required = with_keys.clone();
    required["spec"]["volumes"][0]["secret"] = json!({"secretName": "shop"});
    assert_eq!(inject(&required, &options()).unwrap(), with_keys);
}

fn keys_of(secret: &str) -> Value {
    inject(
        &pod(&json!({"podspan.dev/tunnel-secret": secret})),
        &options(),
    )
    .unwrap()
}

#[test]
fn a_volume_of_somebody_else_is_neither_replaced_nor_removed() {
    let annotations = json!({"podspan.dev/tunnel-secret": "shop"});
    let volumes = |volumes: Value, mut pod: Value| {
        pod["spec"]["volumes"] = volumes;
        pod
    };
    let own = json!({"name": "podspan-tunnel", "secret": {"secretName": "shop", "optional": true}});
    let with_source = |source: Value| json!([{"name": "podspan-tunnel", "secret": source}]);
    let keys = || keys_of("shop");
    let cases = [
        (
            volumes(json!([own]), pod(&annotations)),
            "podspan's container does not mount it",
        ),
        (volumes(json!([own, own]), keys()), "there are several"),
        (
            volumes(
                json!([{"name": "podspan-tunnel", "hostPath": {"path": "/"}}]),
                keys(),
            ),
            "it has hostPath, which podspan never sets",
        ),
        (
            volumes(json!([{"name": "podspan-tunnel"}]), keys()),
            "it has emptyDir, which podspan never sets",
        ),
        (
            volumes(
                with_source(json!({"secretName": "shop", "defaultMode": 288})),
                keys(),
            ),
            "it has defaultMode, which podspan never sets",
        ),
        (
            volumes(
                with_source(json!({"secretName": "shop", "items": []})),
                keys(),
            ),
            "it has items, which podspan never sets",
        ),
    ];
    for (pod, why) in cases {
        let expected = format!(
            "spec.volumes has a volume named podspan-tunnel that podspan did not add: {why}. Rename or remove it"
        );
        assert_eq!(inject(&pod, &options()).unwrap_err().to_string(), expected);
        // Without podspan's container there is nothing to remove.
        match remove(&pod) {
            Ok(removed) => assert_eq!(removed, pod),
            Err(refused) => assert_eq!(refused.to_string(), expected),
        }
    }
    // Without the annotation, it disturbs nobody.
    let theirs = volumes(json!([own]), pod(&json!({})));
    let injected = inject(&theirs, &options()).unwrap();
    assert_eq!(remove(&injected).unwrap(), theirs);
    // Removal would leave a pod that is not valid.
    let mut shared = keys_of("shop");
    shared["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "podspan-tunnel", "mountPath": "/keys"}]);
    assert_eq!(inject(&shared, &options()).unwrap(), shared);
    let refused = remove(&shared).unwrap_err().to_string();
    assert!(
        refused.contains("the container web mounts it. Rename"),
        "{refused}"
    );
}
