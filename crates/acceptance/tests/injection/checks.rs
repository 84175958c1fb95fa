//! What the validating policies refuse and warn about, with the texts that an operator reads.

use http::Method;
use serde_json::{Value, json};

use crate::cluster::{Cluster, IN, LABEL, OUT, controller, pod};
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "each_wrong_annotation_is_refused_with_the_reason",
        wrong_annotations,
    ),
    (
        "objects_without_a_controller_are_refused_and_others_warned",
        kinds,
    ),
    ("a_change_of_something_else_is_not_refused", updates),
    ("pods_that_cannot_have_podspan_are_only_warned", warned),
];

/// Annotations, wrong values, and parts of the message.
pub(crate) const WRONG: &[(&str, &str, &str)] = &[
    (
        "senser",
        "a",
        "the annotation podspan.dev/senser is unknown, or cannot be set",
    ),
    (
        "node-name",
        "a",
        "the annotation podspan.dev/node-name is unknown, or cannot be set",
    ),
    (
        "image",
        "a",
        "the annotation podspan.dev/image is unknown, or cannot be set",
    ),
    (
        "inject",
        "true",
        "the annotation podspan.dev/inject is unknown, or cannot be set",
    ),
    (
        "vni",
        "1\u{1}",
        "the annotation podspan.dev/vni is \"1?\", expected: a number from 0 to 16777215",
    ),
    (
        "annotations",
        "/etc/a",
        "the annotation podspan.dev/annotations is \"/etc/a\", expected: api or off. Example: podspan.dev/annotations: \"off\"",
    ),
    (
        "cpu",
        "fast",
        "the annotation podspan.dev/cpu is \"fast\": it is not a quantity, or a request and a limit separated \
         by a slash. Example: podspan.dev/cpu: 50m/250m",
    ),
    ("cpu", "", "it is not a quantity"),
    ("cpu", "-1", "it is not a quantity"),
    ("cpu", "1/2/3", "it is not a quantity"),
    ("cpu", "100m/", "it is not a quantity"),
    ("memory", "1mi", "it is not a quantity"),
    (
        "cpu",
        "300m/250m",
        "\"300m/250m\": the request is above the limit. Example: podspan.dev/cpu: 50m/250m",
    ),
    (
        "memory",
        "64",
        "\"64\": podspan needs a limit of at least 16Mi. Example: podspan.dev/memory: 32Mi/256Mi",
    ),
    ("cpu", "9m", "podspan needs a limit of at least 10m"),
    (
        "mirror",
        "no",
        "the annotation podspan.dev/mirror is \"no\": it is neither on nor off",
    ),
    (
        "filter",
        "tcp\u{1}",
        "the annotation podspan.dev/filter is ",
    ),
    (
        "containers",
        "db",
        "the annotation podspan.dev/containers: the pod has no container \"db\"; it has web, api",
    ),
    (
        "containers",
        "api",
        "the container api declares no ports; add them to its ports, or use podspan.dev/filter",
    ),
    (
        "mtu",
        "1279",
        "the annotation podspan.dev/mtu is \"1279\", expected: a number of bytes from 1280",
    ),
    (
        "log",
        "loud\u{202e}\u{1b}[1m",
        "the annotation podspan.dev/log is \"loud??[1m\", expected: ",
    ),
    (
        "kubeconfig",
        "/a",
        "the annotation podspan.dev/kubeconfig is unknown, or cannot be set",
    ),
    (
        "tunnel-secret",
        "Keys",
        "the annotation podspan.dev/tunnel-secret is \"Keys\": it is not the name of a Secret: lower-case letters, \
         digits, - and ., at most 253, with a letter or digit at both ends and beside each dot. Example: \
         podspan.dev/tunnel-secret: podspan-tunnel",
    ),
    ("tunnel-secret", "", "it is not the name of a Secret"),
    ("tunnel-secret", "a..b", "it is not the name of a Secret"),
    ("tunnel-secret", "a\n", "it is not the name of a Secret"),
    (
        "wg-preshared-key",
        "secret",
        "the annotation podspan.dev/wg-preshared-key is unknown, or cannot be set",
    ),
    ("containers", "web,", "it has an empty entry"),
    ("containers", "", "it has an empty entry"),
    ("containers", "web, web", "a name is in the list twice"),
    (
        "host-network",
        "true",
        "the annotation podspan.dev/host-network is \"true\": the only value is allow",
    ),
];

fn wrong_annotations(cluster: &Cluster) -> Outcome {
    cluster.run(async |api| {
        for (name, value, message) in WRONG {
            let wrong = pod(&json!({format!("podspan.dev/{name}"): value}), &json!({}));
            let answer = api.dry(IN, &wrong).await;
            let found = answer.refused();
            assert!(found.contains(message), "{name}: {found}");
            assert!(found.contains("'podspan-deny'"), "{found}");
            assert!(!api.dry(OUT, &wrong).await.body["spec"].is_null());
        }
        // Together, and long: all are named, as far as the message may go.
        let long = "x".repeat(200_000);
        let all = json!({
            "podspan.dev/a": "", "podspan.dev/cpu": long, "podspan.dev/mirror": "no", "podspan.dev/log": "x",
        });
        let answer = api.dry(IN, &pod(&all, &json!({}))).await;
        for part in [
            "podspan.dev/a",
            "podspan.dev/cpu is \"xxx",
            "xxx...\"",
            "podspan.dev/mirror",
        ] {
            assert!(
                answer.refused().contains(part),
                "{part}: {}",
                answer.refused()
            );
        }
        for (annotations, message) in [
            (
                json!({"podspan.dev/annotations": "off", "podspan.dev/mirror": "off"}),
                "with annotations: off, podspan ignores it",
            ),
            (
                json!({"podspan.dev/containers": "web", "podspan.dev/filter": "not host 10.0.0.1"}),
                "the pod has the annotations podspan.dev/containers and podspan.dev/filter",
            ),
        ] {
            let answer = api.dry(IN, &pod(&annotations, &json!({}))).await;
            assert!(answer.refused().contains(message), "{}", answer.refused());
        }
    });
    Ok(())
}

/// The kinds, where they are, and where their template is.
const KINDS: [(&str, &str, &str, &str); 6] = [
    ("apps/v1", "Deployment", "deployments", "/spec/template"),
    ("apps/v1", "StatefulSet", "statefulsets", "/spec/template"),
    ("apps/v1", "DaemonSet", "daemonsets", "/spec/template"),
    ("apps/v1", "ReplicaSet", "replicasets", "/spec/template"),
    ("batch/v1", "Job", "jobs", "/spec/template"),
    (
        "batch/v1",
        "CronJob",
        "cronjobs",
        "/spec/jobTemplate/spec/template",
    ),
];

pub(crate) fn object(version: &str, kind: &str, template: &Value) -> Value {
    let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "web"}});
    let mut template = json!({"metadata": template["metadata"], "spec": template["spec"]});
    template["metadata"]["name"] = Value::Null;
    let is_job = version == "batch/v1";
    if is_job {
        template["spec"]["restartPolicy"] = "Never".into();
    } else {
        template["metadata"]["labels"]["app"] = "web".into();
    }
    let mut spec = json!({"template": template});
    match kind {
        "CronJob" => spec = json!({"schedule": "0 0 * * *", "jobTemplate": {"spec": spec}}),
        "Job" => (),
        _ => spec["selector"] = json!({"matchLabels": {"app": "web"}}),
    }
    if kind == "StatefulSet" {
        spec["serviceName"] = "web".into();
    }
    object["spec"] = spec;
    object
}

pub(crate) fn path(version: &str, namespace: &str, resource: &str) -> String {
    format!("/apis/{version}/namespaces/{namespace}/{resource}")
}

fn kinds(cluster: &Cluster) -> Outcome {
    let wrong = pod(&json!({"podspan.dev/cpu": "fast"}), &json!({}));
    let right = pod(&json!({"podspan.dev/cpu": "100m"}), &json!({}));
    cluster.run(async |api| {
        for (version, kind, resource, _) in KINDS {
            let create = async |namespace: &str, object: &Value| {
                api.send(
                    Method::POST,
                    &path(version, namespace, resource),
                    object,
                    true,
                )
                .await
            };
            let bad = object(version, kind, &wrong);
            let answer = create(IN, &bad).await;
            assert!(
                answer.refused().contains("it is not a quantity"),
                "{kind}: {answer:?}"
            );
            assert!(answer.warnings.is_empty(), "{kind}: {answer:?}");
            let answer = create(OUT, &bad).await;
            assert!(answer.warnings.is_empty(), "{kind}: {answer:?}");
            answer.accepted();

            let mut owned = bad.clone();
            owned["metadata"]["ownerReferences"] = controller();
            let answer = create(IN, &owned).await;
            assert!(
                answer.warned().contains("it is not a quantity"),
                "{kind}: {answer:?}"
            );
            answer.accepted();

            let answer = create(IN, &object(version, kind, &right)).await;
            assert!(answer.warnings.is_empty(), "{kind}: {answer:?}");
            answer.accepted();

            // By the label of the template.
            for (label, namespace, expected) in [("true", OUT, true), ("false", IN, false)] {
                let mut labelled = wrong.clone();
                labelled["metadata"]["labels"] = json!({LABEL: label});
                let answer = create(namespace, &object(version, kind, &labelled)).await;
                assert_eq!(answer.status >= 400, expected, "{kind}: {answer:?}");
            }
        }
        let mut owned = wrong.clone();
        owned["metadata"]["ownerReferences"] = controller();
        let answer = api.dry(IN, &owned).await;
        let text = answer.warned();
        for part in [
            "podspan-warn",
            "podspan is not injected: the annotation podspan.dev/cpu is \"fast\"",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(answer.accepted()["spec"]["initContainers"].is_null());
        // An owner that is no controller.
        owned["metadata"]["ownerReferences"][0]["controller"] = false.into();
        let answer = api.dry(IN, &owned).await;
        assert!(
            answer.refused().contains("it is not a quantity"),
            "{answer:?}"
        );
    });
    Ok(())
}

/// An object that was there before its namespace opted in can be changed, unless the change is about podspan.
fn updates(cluster: &Cluster) -> Outcome {
    const LATE: &str = "late";
    cluster.plane.create_namespace(LATE)?;
    let wrong = pod(
        &json!({"podspan.dev/cpu": "fast", "example.com/a": "1"}),
        &json!({}),
    );
    // The template of a Job cannot be changed.
    let kinds = || KINDS.iter().filter(|(_, kind, ..)| *kind != "Job");
    let old = cluster.run(async |api| {
        let mut old = Vec::new();
        for (version, kind, resource, _) in kinds() {
            let object = object(version, kind, &wrong);
            let path = path(version, LATE, resource);
            old.push(
                api.send(Method::POST, &path, &object, false)
                    .await
                    .accepted(),
            );
        }
        old
    });
    cluster
        .plane
        .kubectl(["label", "namespace", LATE, &format!("{LABEL}=true")])?;
    cluster.until("the namespace opts in", async |api| {
        api.dry(LATE, &wrong).await.status >= 400
    });
    cluster.run(async |api| {
        for ((version, kind, resource, template), old) in kinds().zip(&old) {
            let path = format!("{}/web", path(version, LATE, resource));
            let put = async |annotations: Value, labels: Value| {
                let mut object = old.clone();
                object["metadata"]["resourceVersion"] = Value::Null;
                object["metadata"]["labels"] = labels;
                let template = object.pointer_mut(template).unwrap();
                template["metadata"]["annotations"] = annotations;
                api.send(Method::PUT, &path, &object, true).await
            };
            let same = "podspan.dev/cpu";
            for (annotations, expected) in [
                (json!({same: "fast", "example.com/a": "1"}), None),
                (json!({same: "fast", "example.com/a": "2"}), None),
                (json!({}), None),
                (json!({same: "100m"}), None),
                (
                    json!({same: "slow"}),
                    Some("\"slow\": it is not a quantity"),
                ),
                (
                    json!({same: "fast", "podspan.dev/mirror": "no"}),
                    Some("it is neither on nor off"),
                ),
            ] {
                let answer = put(annotations, json!({"a": "b"})).await;
                match expected {
                    None => drop(answer.accepted()),
                    Some(message) => {
                        assert!(answer.refused().contains(message), "{kind}: {answer:?}");
                    }
                }
            }
        }
    });
    Ok(())
}

/// Nothing is refused for what an application's owner may need.
fn warned(cluster: &Cluster) -> Outcome {
    let own = |name: &str, spec: Value| ("apps/v1", name.to_owned(), pod(&json!({}), &spec));
    let mut sensor = pod(&json!({}), &json!({}));
    sensor["metadata"]["labels"] = json!({"run": "sensor"});
    let podspan = json!([{"name": "podspan", "image": "example.invalid/other"}]);
    let keys = json!({"podspan.dev/tunnel-secret": "a"});
    let volume = json!([{"name": "podspan-tunnel", "emptyDir": {}}]);
    let cases = [
        (
            own("hostNetwork: true", json!({"hostNetwork": true})),
            "podspan would mirror all traffic of the node",
        ),
        (
            own("windows", json!({"os": {"name": "windows"}})),
            "podspan runs only on Linux",
        ),
        (
            ("apps/v1", "sensor".to_owned(), sensor),
            "the pod is a sensor of its own podspan",
        ),
        (
            own("foreign", json!({"initContainers": podspan})),
            "spec.initContainers has a container named podspan",
        ),
        (
            (
                "apps/v1",
                "volume".to_owned(),
                pod(&keys, &json!({"volumes": volume})),
            ),
            "spec.volumes has a volume named podspan-tunnel that podspan did not add: podspan's container does not \
             mount it",
        ),
    ];
    cluster.run(async |api| {
        for ((version, name, template), message) in &cases {
            for object in [object(version, "Deployment", template), template.clone()] {
                let answer = if object["kind"] == "Pod" {
                    api.dry(IN, &object).await
                } else {
                    api.send(
                        Method::POST,
                        &path(version, IN, "deployments"),
                        &object,
                        true,
                    )
                    .await
                };
                let text = answer.warned();
                assert!(
                    text.contains("podspan is not injected: ") && text.contains(message),
                    "{name}: {text}"
                );
                answer.accepted();
            }
        }
        // podspan's own container is no reason, also when another way put it there.
        for annotations in [json!({}), keys] {
            let pod = pod(&annotations, &json!({}));
            let injected = inject::inject(&pod, &crate::cluster::options()).unwrap();
            let answer = api.dry(IN, &injected).await;
            assert!(answer.warnings.is_empty(), "{answer:?}");
            answer.accepted();
        }
    });
    Ok(())
}
