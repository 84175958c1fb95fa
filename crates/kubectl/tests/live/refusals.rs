//! What is refused, with which remedy, and that nothing is changed then.

use serde_json::{Value, json};

use crate::Test;
use crate::fixture::{Cluster, Outcome, deployment, template};

pub(crate) const TESTS: &[Test] = &[
    ("all_reasons_of_all_objects_are_given_at_once", reasons),
    ("pods_and_jobs_name_what_to_change", immutable),
    ("missing_rights_are_named", rights),
    ("what_kubectl_refuses_is_not_hidden", kubectl_refuses),
];

fn reasons(cluster: &Cluster) -> Outcome {
    cluster.namespace("reasons")?;
    cluster.deploy("reasons", "good")?;
    for (name, annotation, value) in [
        ("bad", "podspan.dev/vin", "1"),
        ("worse", "podspan.dev/filter", "tcp prt 80"),
    ] {
        let mut object = deployment("reasons", name);
        object["spec"]["template"]["metadata"]["annotations"][annotation] = value.into();
        cluster.plane.apply(&object)?;
    }
    let before = cluster.read("reasons", "deployments")?;
    let ran = cluster
        .podspan("reasons", &["inject", "deployments", "--yes"])
        .failed(&[
            "nothing is changed:\n",
            "deployment reasons/bad: the annotation podspan.dev/vin is unknown",
            "deployment reasons/worse: the annotation podspan.dev/filter is \"tcp prt 80\"",
        ]);
    assert_eq!(ran.output, "");
    assert_eq!(
        cluster.read("reasons", "deployments")?["items"],
        before["items"]
    );
    Ok(())
}

fn immutable(cluster: &Cluster) -> Outcome {
    cluster.namespace("immutable")?;
    cluster.deploy("immutable", "web")?;
    let uid = |object: &str| {
        Ok::<_, libtest_mimic::Failed>(
            cluster.read("immutable", object)?["metadata"]["uid"].clone(),
        )
    };
    let owned = |kind: &str, version: &str, owner: &str, uid: Value| json!([{"apiVersion": version, "kind": kind, "name": owner, "uid": uid, "controller": true}]);
    let labels = json!({"app": "web", "pod-template-hash": "7d4b9c6f5"});
    let mut template = template("web");
    template["metadata"]["labels"] = labels.clone();
    let object = |version: &str, kind: &str, name: &str, owners: Value, spec: Value| {
        json!({
            "apiVersion": version, "kind": kind, "spec": spec,
            "metadata": {"name": name, "namespace": "immutable", "labels": labels, "ownerReferences": owners},
        })
    };
    let owners = owned("Deployment", "apps/v1", "web", uid("deployment/web")?);
    let spec = json!({"selector": {"matchLabels": labels}, "template": template});
    cluster.plane.apply(&object(
        "apps/v1",
        "ReplicaSet",
        "web-7d4b9c6f5",
        owners,
        spec,
    ))?;
    let owners = owned(
        "ReplicaSet",
        "apps/v1",
        "web-7d4b9c6f5",
        uid("replicaset/web-7d4b9c6f5")?,
    );
    cluster.plane.apply(&object(
        "v1",
        "Pod",
        "web-7d4b9c6f5-x",
        owners,
        template["spec"].clone(),
    ))?;
    cluster.plane.apply(&object(
        "v1",
        "Pod",
        "alone",
        json!([]),
        template["spec"].clone(),
    ))?;
    let mut once = template.clone();
    once["spec"]["restartPolicy"] = json!("Never");
    cluster.plane.apply(&object(
        "batch/v1",
        "Job",
        "once",
        json!([]),
        json!({"template": once}),
    ))?;
    cluster.podspan("immutable", &["inject", "pods,replicasets,jobs", "--yes"]).failed(&[
        "pod immutable/web-7d4b9c6f5-x: the containers of a pod cannot be changed. Change what has made it: kubectl podspan inject deployment/web\n",
        "replicaset immutable/web-7d4b9c6f5: its controller decides about its pods. Change what has made it: kubectl podspan inject deployment/web\n",
        "pod immutable/alone: the containers of a pod cannot be changed. Make the pod again: kubectl get pod alone",
        "job immutable/once: the template of a Job cannot be changed.",
    ]);
    Ok(())
}

fn rights(cluster: &Cluster) -> Outcome {
    cluster.namespace("rights")?;
    cluster.deploy("rights", "web")?;
    let rule =
        json!({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list"]});
    let group = "rbac.authorization.k8s.io";
    let version = format!("{group}/v1");
    let metadata = json!({"name": "reader", "namespace": "rights"});
    cluster.plane.apply(
        &json!({"apiVersion": version, "kind": "Role", "metadata": metadata, "rules": [rule]}),
    )?;
    cluster.plane.apply(&json!({
        "apiVersion": version, "kind": "RoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "reader"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "reader"}],
    }))?;
    let before = cluster.read("rights", "deployment/web")?;
    let inject =
        |user: &str| cluster.podspan("rights", &["inject", "deploy/web", "--yes", "--as", user]);
    inject("reader").failed(&[
        "nothing is changed:\ndeployment rights/web: Error from server (Forbidden): ",
        "cannot patch resource",
    ]);
    inject("nobody").failed(&[
        "cannot get resource",
        "kubectl get failed; its reason is above",
    ]);
    assert_eq!(cluster.read("rights", "deployment/web")?, before);
    Ok(())
}

fn kubectl_refuses(cluster: &Cluster) -> Outcome {
    cluster.namespace("kubectl")?;
    cluster.deploy("kubectl", "web")?;
    for (arguments, reason) in [
        (
            &["inject", "deploy/web", "deploy/wbe", "--yes"][..],
            "deployments.apps \"wbe\" not found",
        ),
        (
            &["inject", "deploy/web", "--yes", "--context=other"],
            "context \"other\" does not exist",
        ),
        (
            &["inject", "deplyo", "--yes"],
            "the server doesn't have a resource type \"deplyo\"",
        ),
    ] {
        cluster
            .podspan("kubectl", arguments)
            .failed(&[reason, "kubectl get failed; its reason is above"]);
    }
    let template = &cluster.read("kubectl", "deployment/web")?["spec"]["template"];
    assert!(!inject::is_injected(template));
    Ok(())
}
