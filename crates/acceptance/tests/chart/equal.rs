//! helm renders what kustomize renders.

use std::fs;
use std::path::Path;

use acceptance::Manifests;
use serde_json::{Value, json};

use crate::programs::{
    Objects, helm, kustomized, manifests, objects, rendered, succeeded, template,
};

/// The name of the webhook's settings, which kustomize extends by a digest.
const SETTINGS: &str = "podspan-webhook-settings";

#[track_caller]
fn assert_equal(found: &Objects, expected: &Objects) {
    let names = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected));
    for (key, object) in expected {
        assert_eq!(&found[key], object, "{key}");
    }
}

/// What kustomize makes of an overlay over folders of `manifests`.
fn overlay(folders: &[&str], rest: &str) -> Objects {
    let parent = testbed::target_folder().join("acceptance");
    fs::create_dir_all(&parent).unwrap();
    let folder = tempfile::tempdir_in(&parent).unwrap();
    let mut text =
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n".to_owned();
    for path in Manifests::relative_paths(folder.path(), folders).unwrap() {
        text.extend(["- ", &path, "\n"]);
    }
    text += rest;
    fs::write(folder.path().join("kustomization.yaml"), text).unwrap();
    objects(&kustomized(folder.path()))
}

/// The differences between helm's and kustomize's webhook that have a reason.
fn without_the_ways_to_restart(found: Objects) -> Objects {
    let mut name = SETTINGS.to_owned();
    for key in found.keys() {
        if let Some(full) = key.strip_prefix("ConfigMap podspan-system/") {
            full.clone_into(&mut name);
        }
    }
    let mut changed = Objects::new();
    for (key, mut object) in found {
        let mut key = key;
        // kustomize: a digest in the ConfigMap's name.
        if object["kind"] == "ConfigMap" {
            object["metadata"]["name"] = json!(SETTINGS);
            key = format!("ConfigMap podspan-system/{SETTINGS}");
        }
        if object["kind"] == "Deployment" {
            let template = &mut object["spec"]["template"];
            let reference = &mut template["spec"]["containers"][0]["envFrom"][0]["configMapRef"];
            assert_eq!(reference["name"], name);
            reference["name"] = json!(SETTINGS);
            // helm: an annotation.
            let metadata = template["metadata"].as_object_mut().unwrap();
            if let Some(annotations) = metadata.remove("annotations") {
                let names: Vec<_> = annotations.as_object().unwrap().keys().cloned().collect();
                assert_eq!(names, ["checksum/settings"]);
            }
        }
        changed.insert(key, object);
    }
    changed
}

#[test]
fn the_policy_is_that_of_its_folders() {
    for (version, folder) in [
        ("v1", "injection/policy"),
        ("v1beta1", "injection/policy-v1beta1"),
    ] {
        let values = format!("policy: {{apiVersion: {version}}}");
        let found = rendered(&manifests("chart"), &values);
        assert_equal(&found, &objects(&kustomized(&manifests(folder))));
    }
}

#[test]
fn the_values_are_the_parameters_of_the_policy() {
    let values = "{image: 'registry.example/podspan:2', security: root, \
                  defaults: {sensor: null, vni: '26', filter: 'not port 53', tunnel-secret: keys}}";
    let found = rendered(&manifests("chart"), values);
    assert_eq!(
        found["ConfigMap podspan-system/podspan"]["data"],
        json!({
            "image": "registry.example/podspan:2", "security": "root", "vni": "26", "filter": "not port 53",
            "tunnel-secret": "keys",
        })
    );
}

#[test]
fn the_webhook_is_that_of_its_folders() {
    let values = "{way: webhook, defaults: {sensor: null}}";
    let found = without_the_ways_to_restart(rendered(&manifests("chart"), values));
    let folder = manifests("injection/webhook");
    let expected = without_the_ways_to_restart(objects(&kustomized(&folder)));
    assert_equal(&found, &expected);

    let values = "{way: webhook, webhook: {certManager: true}, defaults: {sensor: null}}";
    let found = without_the_ways_to_restart(rendered(&manifests("chart"), values));
    let folder = manifests("injection/webhook-cert-manager");
    let expected = without_the_ways_to_restart(objects(&kustomized(&folder)));
    assert_equal(&found, &expected);
}

#[test]
fn the_values_are_an_overlay_of_the_webhook() {
    let values = "{way: webhook, image: 'registry.example/podspan:2', security: baseline, \
                  webhook: {image: 'registry.example/podspan-webhook:3', replicas: 3, placement: plain}, \
                  defaults: {sensor: zeek, cpu: 50m/250m, tunnel-secret: keys}}";
    let found = without_the_ways_to_restart(rendered(&manifests("chart"), values));
    let rest = "
images:
- {name: ghcr.io/podspan/podspan-webhook, newName: registry.example/podspan-webhook, newTag: '3'}
replicas:
- {name: podspan-webhook, count: 3}
configMapGenerator:
- name: podspan-webhook-settings
  namespace: podspan-system
  behavior: merge
  literals:
  - IMAGE=registry.example/podspan:2
  - PLACEMENT=plain
  - SECURITY=baseline
  - DEFAULTS=cpu=50m/250m;sensor=zeek;tunnel-secret=keys
";
    let expected = without_the_ways_to_restart(overlay(&["injection/webhook"], rest));
    assert_equal(&found, &expected);
}

#[test]
fn rights_and_sensor_are_those_of_their_folders() {
    let without = rendered(&manifests("chart"), "");
    let values = "{rbac: {ownNamespace: {default: [default]}, allNamespaces: {default: [default]}}, \
                  sensor: {example: true}}";
    let mut found = rendered(&manifests("chart"), values);
    found.retain(|key, _| !without.contains_key(key));
    let folders = ["rbac/own-namespace", "rbac/all-namespaces"];
    let mut expected = overlay(&folders, "");
    let example = objects(&kustomized(&manifests("examples/central/vxlan-device")));
    let sensor = "Deployment default/sensor";
    expected.insert(sensor.to_owned(), example[sensor].clone());
    assert_equal(&found, &expected);
}

#[test]
fn several_service_accounts_and_namespaces_get_rights() {
    let values = "{rbac: {ownNamespace: {shop: [default, cart], office: [default]}, \
                  allNamespaces: {shop: [cart], office: [default]}}}";
    let found = rendered(&manifests("chart"), values);
    let account =
        |namespace, name| json!({"kind": "ServiceAccount", "name": name, "namespace": namespace});
    let subjects = |key: &str| found[key]["subjects"].clone();
    let of_shop = json!([account("shop", "default"), account("shop", "cart")]);
    assert_eq!(subjects("RoleBinding shop/podspan-discovery"), of_shop);
    let of_office = json!([account("office", "default")]);
    assert_eq!(subjects("RoleBinding office/podspan-discovery"), of_office);
    assert!(found.contains_key("Role shop/podspan-discovery"));
    assert!(found.contains_key("Role office/podspan-discovery"));
    let of_all = json!([account("office", "default"), account("shop", "cart")]);
    assert_eq!(subjects("ClusterRoleBinding /podspan-discovery"), of_all);
}

#[test]
fn a_release_in_podspans_namespace_does_not_make_it() {
    for way in ["policy", "webhook"] {
        let values = format!("way: {way}");
        let mut expected = rendered(&manifests("chart"), &values);
        let namespace: Option<Value> = expected.remove("Namespace /podspan-system");
        assert!(namespace.is_some());
        let output = template(&manifests("chart"), "podspan-system", &values);
        assert_equal(&objects(&succeeded(output)), &expected);
    }
}

#[test]
fn the_packed_chart_renders_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let chart = manifests("chart");
    let destination = folder.path();
    let arguments = [
        Path::new("package"),
        &chart,
        Path::new("--destination"),
        destination,
    ];
    succeeded(helm(&arguments));
    let file = format!("podspan-{}.tgz", env!("CARGO_PKG_VERSION"));
    for values in ["way: policy", "way: webhook"] {
        let found = rendered(&destination.join(&file), values);
        assert_equal(&found, &rendered(&chart, values));
    }
}
