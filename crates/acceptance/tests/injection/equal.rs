//! All ways give the same stored pod.

use std::fs;

use inject::{Options, Security};
use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::cluster::{
    Api, Cluster, IN, LABEL, OUT, assert_same, comparable, controller, options, pod,
};
use crate::files::manifests;
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    ("policy_and_filter_give_the_same_pod", same_pod),
    ("policy_and_component_give_the_same_pod", component),
    ("pods_opt_in_and_out", opt_in),
    ("a_pod_that_injection_refuses_is_not_changed", refused),
];

/// Pods with every annotation, and of different shapes.
fn pods() -> Vec<Value> {
    let of = |annotations: Value| pod(&annotations, &json!({}));
    let mut pods = vec![of(json!({}))];
    // Of a file of annotations, there is no volume.
    let examples = settings::SETTINGS.iter().filter_map(|setting| {
        let annotation = setting.annotation()?;
        let is_file = setting.example.starts_with('/');
        Some((annotation, if is_file { "off" } else { setting.example }))
    });
    for (annotation, value) in examples.clone() {
        pods.push(of(json!({annotation: value})));
    }
    pods.push(of(examples
        .map(|(name, value)| (name, Value::from(value)))
        .collect()));
    for annotations in [
        json!({"podspan.dev/interface": "$(POD)$$x"}),
        json!({"podspan.dev/cpu": "100m"}),
        json!({"podspan.dev/cpu": "0.1/0.25", "podspan.dev/memory": "64Mi/1Gi"}),
        json!({"podspan.dev/cpu": "10m", "podspan.dev/memory": "16Mi"}),
        json!({"podspan.dev/memory": "1e8/+2E8"}),
        json!({"podspan.dev/containers": "web"}),
        json!({"podspan.dev/containers": " web , proxy"}),
        json!({"podspan.dev/filter": "not port 53"}),
        json!({"podspan.dev/filter": ""}),
        json!({"podspan.dev/filter": "not port 53", "podspan.dev/annotations": "off"}),
        json!({"podspan.dev/filter": " not port\n 53", "podspan.dev/annotations": "off",
               "podspan.dev/containers": "web"}),
        json!({"podspan.dev/filter": " ", "podspan.dev/annotations": "off", "podspan.dev/containers": "web"}),
        json!({"podspan.dev/mirror": "off"}),
        json!({"podspan.dev/mirror": " ON "}),
        json!({"podspan.dev/annotations": " Off ", "podspan.dev/filter": "tcp", "podspan.dev/containers": "web"}),
        json!({"podspan.dev/port": "4790", "podspan.dev/receiver": "socket", "example.com/podspan": "x"}),
        json!({"podspan.dev/host-network": "allow"}),
    ] {
        let native = json!([
            {"name": "setup", "image": "example.invalid/setup", "ports": [{"containerPort": 1}]},
            {"name": "proxy", "image": "example.invalid/proxy", "restartPolicy": "Always", "ports": [
                {"containerPort": 8080}, {"containerPort": 9000, "protocol": "SCTP"},
            ]},
        ]);
        pods.push(pod(&annotations, &json!({"initContainers": native})));
    }
    let secret = json!({"podspan.dev/tunnel-secret": "shop.keys"});
    for spec in [
        json!({}),
        json!({"volumes": []}),
        json!({"volumes": [{"name": "a", "emptyDir": {}}]}),
        // Without the volume of the token, the pod has none.
        json!({"automountServiceAccountToken": false}),
    ] {
        pods.push(pod(&secret, &spec));
    }
    // Not podspan's concern without keys.
    let volume = json!([{"name": "podspan-tunnel", "emptyDir": {}}]);
    pods.push(pod(&json!({}), &json!({"volumes": volume})));
    pods.push(pod(&json!({}), &json!({"initContainers": []})));
    pods.push(pod(
        &json!({"podspan.dev/host-network": "allow"}),
        &json!({"hostNetwork": true}),
    ));
    pods.push(pod(
        &json!({}),
        &json!({"automountServiceAccountToken": false}),
    ));
    pods.push(pod(
        &json!({}),
        &json!({"restartPolicy": "Never", "os": {"name": "linux"}}),
    ));
    pods
}

/// As the API server sees it: an empty list is none.
fn without_empty_list(pod: &Value) -> Value {
    let mut pod = pod.clone();
    let spec = pod["spec"].as_object_mut().unwrap();
    for list in ["initContainers", "volumes"] {
        if spec.get(list) == Some(&json!([])) {
            spec.remove(list);
        }
    }
    pod
}

/// What the API server stores of a pod that the policy changes, and of one that is injected before.
pub(crate) async fn both(api: &Api, pod: &Value, options: &Options<'_>) -> [Value; 2] {
    let by_policy = api.dry(IN, pod).await.accepted();
    let injected = inject::inject(&without_empty_list(pod), options).unwrap();
    let before = api.dry(OUT, &injected).await.accepted();
    [by_policy, before].map(|stored| comparable(&stored))
}

fn same_pod(cluster: &Cluster) -> Outcome {
    let options = options();
    cluster.run(async |api| {
        for pod in pods() {
            let [by_policy, before] = both(api, &pod, &options).await;
            assert_same(&by_policy, &before, &pod);
            assert_eq!(
                by_policy["spec"]["initContainers"][0]["name"], "podspan",
                "{pod}"
            );

            // The filter over YAML, and the policy after it.
            let text = without_empty_list(&pod).to_string();
            let text = inject::yaml::inject(text.as_bytes(), &options)
                .unwrap()
                .text;
            let filtered: Value = serde_saphyr::from_str(&text).unwrap();
            let stored = api.dry(OUT, &filtered).await.accepted();
            assert_eq!(comparable(&stored), before, "{text}");
            let twice = api.dry(IN, &filtered).await.accepted();
            assert_eq!(comparable(&twice), before, "{text}");
            assert_eq!(inject::inject(&filtered, &options).unwrap(), filtered);
        }
    });
    Ok(())
}

/// With the security contexts that both have, and with keys.
fn component(cluster: &Cluster) -> Outcome {
    let keys = json!({"podspan.dev/tunnel-secret": "podspan-tunnel"});
    for (components, name, security, annotations) in [
        (&["sidecar"][..], "added", Security::Added, json!({})),
        (
            &["sidecar-baseline"],
            "baseline",
            Security::Baseline,
            json!({}),
        ),
        (&["sidecar-root"], "root", Security::Root, json!({})),
        (
            &["sidecar", "sidecar-tunnel"],
            "added",
            Security::Added,
            keys,
        ),
    ] {
        let mut bare = pod(&annotations, &json!({}));
        let kustomized = with_components(cluster, components, &bare)?;
        cluster.set_parameters(&json!({"security": name, "image": inject::IMAGE}))?;
        until_parameters(cluster, security);
        bare["metadata"]["labels"] = json!({"app": "web"});
        let options = Options {
            security,
            ..options()
        };
        cluster.run(async |api| {
            let [by_policy, before] = both(api, &bare, &options).await;
            let by_component = comparable(&api.dry(OUT, &kustomized).await.accepted());
            assert_eq!(by_policy, before, "{components:?}");
            let [by_policy, by_component] = [by_policy, by_component].map(with_sorted_variables);
            assert_eq!(by_policy, by_component, "{components:?}");
        });
    }
    shipped_parameters(cluster)
}

/// Writes what `manifests/injection/policy/parameters.yaml` has.
pub(crate) fn shipped_parameters(cluster: &Cluster) -> Outcome {
    cluster.set_parameters(
        &json!({"image": inject::IMAGE, "security": "added", "sensor": "sensor"}),
    )?;
    until_parameters(cluster, Security::Added);
    Ok(())
}

/// Waits until the API server's cache has the parameters.
fn until_parameters(cluster: &Cluster, security: Security) {
    let bare = pod(&json!({}), &json!({}));
    let options = Options {
        security,
        ..options()
    };
    cluster.until("the parameters are used", async |api| {
        let [by_policy, before] = both(api, &bare, &options).await;
        by_policy == before
    });
}

/// kustomize puts the variables of the second component before those of the first.
fn with_sorted_variables(mut pod: Value) -> Value {
    let variables = pod.pointer_mut("/spec/initContainers/0/env").unwrap();
    let variables = variables.as_array_mut().unwrap();
    variables.sort_by_key(|variable| variable["name"].to_string());
    pod
}

/// The pod of a Deployment that a kustomization with the components makes.
fn with_components(cluster: &Cluster, components: &[&str], bare: &Value) -> Result<Value, Failed> {
    // kustomize accepts components only by relative paths.
    let folder = tempfile::tempdir()?;
    let root = fs::canonicalize(folder.path())?;
    let up = "../".repeat(root.components().count() - 1);
    let mut text = "resources: [web.yaml]\ncomponents:\n".to_owned();
    for component in components {
        let path = fs::canonicalize(manifests("components").join(component))?;
        let path = path.strip_prefix("/")?.display();
        text.extend(["- ", &up, &path.to_string(), "\n"]);
    }
    fs::write(root.join("kustomization.yaml"), text)?;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": bare["spec"]},
        },
    });
    fs::write(root.join("web.yaml"), deployment.to_string())?;
    let text = cluster
        .plane
        .kubectl(["kustomize".as_ref(), root.as_os_str()])?;
    let built: Value = serde_saphyr::from_str(&text)?;
    let template = &built["spec"]["template"];
    let mut pod = bare.clone();
    pod["metadata"]["labels"] = template["metadata"]["labels"].clone();
    pod["spec"] = template["spec"].clone();
    Ok(pod)
}

/// By the label of the pod and of the namespace.
fn opt_in(cluster: &Cluster) -> Outcome {
    cluster.run(async |api| {
        for (namespace, label, expected) in [
            (IN, None, true),
            (IN, Some("true"), true),
            (IN, Some("false"), false),
            (OUT, None, false),
            (OUT, Some("true"), true),
            (OUT, Some("false"), false),
            (OUT, Some("yes"), false),
            ("kube-system", None, false),
            ("kube-system", Some("true"), false),
            ("podspan-system", Some("true"), false),
        ] {
            let mut pod = pod(&json!({}), &json!({}));
            if let Some(label) = label {
                pod["metadata"]["labels"] = json!({LABEL: label});
            }
            // Wrong annotations are nobody's concern where podspan is not injected.
            if !expected {
                pod["metadata"]["annotations"] =
                    json!({"podspan.dev/vni": "\u{1}", "podspan.dev/x": "y"});
            }
            let answer = api.dry(namespace, &pod).await;
            let wrong_label = label == Some("yes");
            assert!(wrong_label || answer.warnings.is_empty(), "{answer:?}");
            if wrong_label {
                assert!(
                    answer.refused().contains("expected: true or false"),
                    "{answer:?}"
                );
                continue;
            }
            let stored = answer.accepted();
            let first = &stored["spec"]["initContainers"][0]["name"];
            assert_eq!(
                *first == "podspan",
                expected,
                "{namespace} {label:?}: {stored}"
            );
        }
    });
    Ok(())
}

/// What [`inject::inject`] refuses, the policy does not change; it is created as it is.
fn refused(cluster: &Cluster) -> Outcome {
    let own = |spec: &Value| pod(&json!({}), spec);
    let container = |more: Value| {
        let mut container = json!({"name": "podspan", "image": "example.invalid/other"});
        for (field, value) in more.as_object().unwrap() {
            container[field] = value.clone();
        }
        container
    };
    let mut sensor = own(&json!({}));
    sensor["metadata"]["labels"] = json!({"run": "sensor"});
    let mut other_sensor = pod(&json!({"podspan.dev/sensor": "zeek"}), &json!({}));
    other_sensor["metadata"]["labels"] = json!({"run": "zeek"});
    let volume = json!([{"name": "podspan-tunnel", "emptyDir": {}}]);
    let mut pods = vec![
        pod(
            &json!({"podspan.dev/tunnel-secret": "a"}),
            &json!({"volumes": volume}),
        ),
        sensor,
        other_sensor,
        own(&json!({"hostNetwork": true})),
        own(&json!({"os": {"name": "windows"}})),
        own(&json!({"nodeSelector": {"kubernetes.io/os": "windows"}})),
        own(&json!({"initContainers": [container(json!({}))]})),
        own(&json!({"initContainers": [container(json!({"restartPolicy": "Always"}))]})),
        own(&json!({"containers": [container(json!({}))]})),
        own(
            &json!({"containers": [container(json!({})), {"name": "a", "image": "example.invalid/a"}]}),
        ),
    ];
    pods.extend(
        crate::checks::WRONG.iter().map(|(name, value, _)| {
            pod(&json!({format!("podspan.dev/{name}"): value}), &json!({}))
        }),
    );
    cluster.run(async |api| {
        for mut pod in pods {
            pod["metadata"]["ownerReferences"] = controller();
            let answer = api.dry(IN, &pod).await;
            assert!(!answer.warnings.is_empty(), "no warning: {pod}");
            let stored = comparable(&answer.accepted());
            let as_it_is = comparable(&api.dry(OUT, &pod).await.accepted());
            assert_eq!(stored, as_it_is, "{pod}");
        }
    });
    Ok(())
}
