//! Which objects are changed.

use serde_json::{Value, json};

use crate::Test;
use crate::fixture::{Cluster, Outcome};

pub(crate) const TESTS: &[Test] = &[
    ("labels_and_all_namespaces_select", labels),
    ("objects_without_pods_stay_as_they_are", no_pods),
    ("the_namespaces_of_the_cluster_are_left_out", never),
];

fn is_injected(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
) -> Result<bool, libtest_mimic::Failed> {
    let object = cluster.read(namespace, &format!("deployment/{name}"))?;
    Ok(inject::is_injected(&object["spec"]["template"]))
}

fn labels(cluster: &Cluster) -> Outcome {
    for namespace in ["labels-a", "labels-b"] {
        cluster.namespace(namespace)?;
        cluster.deploy(namespace, "labels")?;
    }
    cluster.deploy("labels-a", "other")?;
    cluster
        .podspan(
            "labels-a",
            &["inject", "deploy", "-l", "app=labels", "--yes"],
        )
        .succeeded();
    let state = || -> Result<_, libtest_mimic::Failed> {
        let both = (
            is_injected(cluster, "labels-a", "labels")?,
            is_injected(cluster, "labels-b", "labels")?,
        );
        assert!(!is_injected(cluster, "labels-a", "other")?);
        Ok(both)
    };
    assert_eq!(state()?, (true, false));
    let ran = cluster
        .podspan(
            "",
            &[
                "inject",
                "deploy",
                "-A",
                "-l",
                "app=labels",
                "--yes",
                "--output=table",
            ],
        )
        .succeeded();
    for row in [
        "Deployment   labels-a    labels   unchanged\n",
        "Deployment   labels-b    labels   injected\n",
    ] {
        assert!(ran.output.contains(row), "{ran:?}");
    }
    assert_eq!(state()?, (true, true));
    Ok(())
}

fn no_pods(cluster: &Cluster) -> Outcome {
    cluster.namespace("no-pods")?;
    let metadata = json!({"name": "web", "namespace": "no-pods"});
    cluster.plane.apply(&json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}))?;
    let ran = cluster
        .podspan("no-pods", &["inject", "service/web"])
        .succeeded();
    assert_eq!(ran.messages, "no object with pods: nothing is changed\n");
    let ran = cluster
        .podspan("no-pods", &["inject", "deployments", "--output=yaml"])
        .succeeded();
    assert_eq!(ran.output, "dryRun: false\nobjects: []\n");
    Ok(())
}

fn never(cluster: &Cluster) -> Outcome {
    cluster.namespace("kube-system")?;
    cluster.deploy("kube-system", "dns")?;
    cluster
        .podspan("kube-system", &["inject", "deploy/dns", "--yes"])
        .failed(&[
            "deployment kube-system/dns: podspan is not injected in the namespace kube-system",
        ]);
    let ran = cluster
        .podspan(
            "",
            &[
                "inject",
                "deploy",
                "-A",
                "-l",
                "app=dns",
                "--yes",
                "--output=json",
            ],
        )
        .succeeded();
    let results: Value = serde_json::from_str(&ran.output)?;
    assert_eq!(results["objects"][0]["change"], "left-out");
    assert!(!is_injected(cluster, "kube-system", "dns")?);
    Ok(())
}
