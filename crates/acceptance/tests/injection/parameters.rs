//! The `ConfigMap` of the policy: its values apply, wrong ones are named, and without it nothing happens.

use http::Method;
use inject::Options;
use serde_json::{Value, json};

use crate::checks::{object, path};
use crate::cluster::{Api, Cluster, IN, OUT, assert_same, options, pod};
use crate::equal::{both, shipped_parameters};
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "the_parameters_apply_to_pods_without_the_annotation",
        parameters,
    ),
    ("wrong_parameters_are_refused", refused),
    (
        "with_wrong_parameters_nothing_is_injected_or_refused",
        wrong,
    ),
    (
        "without_the_parameters_nothing_is_injected_or_refused",
        missing,
    ),
];

const PATH: &str = "/api/v1/namespaces/podspan-system/configmaps/podspan";

fn parameters(cluster: &Cluster) -> Outcome {
    let data = json!({
        "image": "registry.example:5000/podspan@sha256:12ab", "security": "added", "sensor": "zeek", "vni": "0x1a",
        "cpu": "100m", "memory": "64Mi/128Mi", "log-format": "json", "filter": "not port 53",
        "tunnel-secret": "keys.of.all",
    });
    cluster.set_parameters(&data)?;
    let defaults = data.as_object().unwrap().iter();
    let defaults = defaults.filter(|(name, _)| !["image", "security"].contains(&name.as_str()));
    let options = Options {
        image: data["image"].as_str().unwrap().to_owned(),
        defaults: defaults
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect(),
        ..options()
    };
    let bare = pod(&json!({}), &json!({}));
    cluster.until("the parameters are used", async |api| {
        let stored = api.dry(IN, &bare).await.accepted();
        stored["spec"]["initContainers"][0]["image"] == options.image
    });
    cluster.run(async |api| {
        for pod in [
            bare,
            pod(
                &json!({"podspan.dev/sensor": "arkime", "podspan.dev/cpu": "1"}),
                &json!({}),
            ),
            pod(
                &json!({"podspan.dev/tunnel-secret": "keys-of-one"}),
                &json!({"volumes": [{"name": "a", "emptyDir": {}}]}),
            ),
            pod(
                &json!({"podspan.dev/log": "debug", "podspan.dev/vni": "7"}),
                &json!({}),
            ),
        ] {
            let [by_policy, before] = both(api, &pod, &options).await;
            assert_same(&by_policy, &before, &pod);
        }
    });
    shipped_parameters(cluster)
}

/// Wrong parameters, and a part of the message.
fn cases() -> Vec<(Value, &'static str)> {
    vec![
        (
            json!({"imagr": "x"}),
            "podspan-system/podspan: the key \"imagr\" is unknown",
        ),
        (
            json!({"containers": "web"}),
            "the key \"containers\" is unknown",
        ),
        (
            json!({"image": "a b"}),
            "podspan: image is \"a b\", which is not the name of an image",
        ),
        (
            json!({"image": ""}),
            "image is \"\", which is not the name of an image",
        ),
        (
            json!({"security": "none"}),
            "security is \"none\", expected: added, baseline or root",
        ),
        (
            json!({"vni": "\u{1}"}),
            "podspan: vni is \"?\", expected: a number from 0",
        ),
        (
            json!({"cpu": "fast"}),
            "cpu is \"fast\": it is not a quantity",
        ),
        (
            json!({"memory": "1Mi"}),
            "memory is \"1Mi\": podspan needs a limit of at least 16Mi",
        ),
        (
            json!({"filter": "\u{1}"}),
            "podspan: filter is \"?\", which is not printable",
        ),
        (
            json!({"tunnel-secret": "A"}),
            "podspan: tunnel-secret is \"A\": it is not the name of a Secret",
        ),
        (
            json!({"annotations": "/etc/x"}),
            "annotations is \"/etc/x\", expected: api or off",
        ),
    ]
}

/// What the API server says of new parameters.
async fn is_refused(api: &Api, data: &Value) -> Option<String> {
    let object = json!({"metadata": {"name": "podspan"}, "data": data});
    let answer = api.send(Method::PUT, PATH, &object, true).await;
    (answer.status >= 400).then(|| answer.refused().to_owned())
}

fn refused(cluster: &Cluster) -> Outcome {
    cluster.run(async |api| {
        for (data, message) in cases() {
            let found = is_refused(api, &data).await.unwrap_or_default();
            assert!(found.contains(message), "{data}: {found}");
        }
        // Others of the namespace, and of the name, are not checked.
        for (namespace, name) in [("podspan-system", "other"), (OUT, "podspan")] {
            let other = json!({"metadata": {"name": name}, "data": {"x": "y"}});
            let path = format!("/api/v1/namespaces/{namespace}/configmaps");
            api.send(Method::POST, &path, &other, true).await.accepted();
        }
    });
    Ok(())
}

/// They were there before the policy that refuses them.
fn wrong(cluster: &Cluster) -> Outcome {
    cluster.plane.kubectl([
        "delete",
        "validatingadmissionpolicybinding",
        "podspan-parameters",
    ])?;
    cluster.until("the binding is gone", async |api| {
        is_refused(api, &json!({"x": "y"})).await.is_none()
    });
    for (data, message) in cases() {
        cluster.set_parameters(&data)?;
        cluster.until("the wrong parameters are used", async |api| {
            let answer = api.dry(IN, &pod(&json!({}), &json!({}))).await;
            let is_warned = answer.warned().contains(message);
            let stored = answer.accepted();
            is_warned && stored["spec"]["initContainers"].is_null()
        });
        // Not refused: the application's owner can do nothing about it.
        cluster.run(async |api| {
            let object = object("apps/v1", "Deployment", &pod(&json!({}), &json!({})));
            let path = path("apps/v1", IN, "deployments");
            let answer = api.send(Method::POST, &path, &object, true).await;
            assert!(answer.warned().contains(message), "{answer:?}");
            answer.accepted();
        });
    }
    shipped_parameters(cluster)?;
    cluster.apply_policy()
}

/// Deleting the `ConfigMap` is how an operator stops the injection.
fn missing(cluster: &Cluster) -> Outcome {
    let namespace = "--namespace=podspan-system";
    cluster
        .plane
        .kubectl([namespace, "delete", "configmap", "podspan"])?;
    let wrong = pod(&json!({"podspan.dev/cpu": "fast"}), &json!({}));
    cluster.until("nothing is injected or refused", async |api| {
        let right = api.dry(IN, &pod(&json!({}), &json!({}))).await;
        let answer = api.dry(IN, &wrong).await;
        let is_quiet =
            right.warnings.is_empty() && answer.warnings.is_empty() && answer.status < 400;
        is_quiet && right.accepted()["spec"]["initContainers"].is_null()
    });
    cluster.apply_policy()
}
