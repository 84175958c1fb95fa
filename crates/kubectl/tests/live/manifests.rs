//! What `manifests` prints, compared with what kubectl makes of the folders.

use std::path::Path;

use crate::Test;
use crate::fixture::{Cluster, Outcome};

pub(crate) const TESTS: &[Test] = &[
    ("rbac_is_what_kubectl_makes_of_the_folders", folders),
    (
        "options_of_rbac_change_the_namespaces_and_the_account",
        options,
    ),
    ("a_version_without_policies_names_the_webhook", |cluster| {
        no_policy(cluster);
        Ok(())
    }),
    ("an_option_without_an_effect_is_refused", |cluster| {
        no_effect(cluster);
        Ok(())
    }),
];

fn folders(cluster: &Cluster) -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/rbac");
    for (scope, folder) in [
        ("own", "own-namespace"),
        ("other", "other-namespace"),
        ("all", "all-namespaces"),
    ] {
        let built = cluster
            .plane
            .kubectl(["kustomize".as_ref(), root.join(folder).as_os_str()])?;
        let ran = cluster.podspan("default", &["manifests", "rbac", "--scope", scope]);
        assert_eq!(ran.succeeded().output, built, "{scope}");
    }
    Ok(())
}

fn options(cluster: &Cluster) -> Outcome {
    let arguments = [
        "manifests",
        "rbac",
        "--scope=other",
        "--sensor-namespace=ids",
    ];
    let arguments = [&arguments[..], &["--service-account=cart"]].concat();
    let text = cluster.podspan("shop", &arguments).succeeded().output;
    assert_eq!(text.matches("\n  namespace: ids\n").count(), 2, "{text}");
    let subject = "subjects:\n- kind: ServiceAccount\n  name: cart\n  namespace: shop\n";
    assert!(text.contains(subject), "{text}");
    cluster.namespace("ids")?;
    Ok(cluster.plane.apply_text(&text)?)
}

fn no_policy(cluster: &Cluster) {
    let arguments = ["manifests", "policy", "--kubernetes-version=1.33"];
    let ran = cluster.podspan("", &arguments);
    ran.failed(&[
        "Kubernetes 1.33 serves no MutatingAdmissionPolicy",
        "manifests webhook",
    ]);
}

fn no_effect(cluster: &Cluster) {
    for (arguments, option) in [
        (&["rbac", "--set=sensor=zeek"][..], "set"),
        (&["rbac", "--image=a:1"], "image"),
        (&["policy", "-n=shop"], "namespace"),
        (&["webhook", "--scope=all"], "scope"),
        (&["rbac", "--sensor-namespace=ids"], "sensor-namespace"),
    ] {
        let ran = cluster.podspan("", &[&["manifests"], arguments].concat());
        ran.failed(&[&format!(
            "--{option} does not apply to {}. Remove it",
            arguments[0]
        )]);
    }
}
