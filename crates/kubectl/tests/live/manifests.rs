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
    (
        "policy_and_webhook_are_what_kubectl_makes_of_the_folders",
        injection,
    ),
    (
        "options_of_policy_and_webhook_are_in_their_config_maps",
        |cluster| {
            parameters(cluster);
            Ok(())
        },
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

fn injection(cluster: &Cluster) -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/injection");
    for (name, version, folder) in [
        ("policy", "1.36", "policy"),
        ("policy", "1.35", "policy-v1beta1"),
        ("webhook", "1.36", "webhook"),
        ("webhook-cert-manager", "1.29", "webhook-cert-manager"),
    ] {
        let built = cluster
            .plane
            .kubectl(["kustomize".as_ref(), root.join(folder).as_os_str()])?;
        let version = format!("--kubernetes-version={version}");
        let ran = cluster.podspan("", &["manifests", name, &version]);
        assert_eq!(ran.succeeded().output, built, "{name} {version}");
    }
    // The cluster serves the policies as v1.
    let asked = cluster.podspan("", &["manifests", "policy"]).succeeded();
    let given = ["manifests", "policy", "--kubernetes-version=1.36"];
    assert_eq!(asked.output, cluster.podspan("", &given).succeeded().output);
    Ok(())
}

fn parameters(cluster: &Cluster) {
    let options = [
        "--image=a.example/podspan:2",
        "--set=sensor=zeek",
        "--set=cpu=50m/250m",
    ];
    for (name, version, lines) in [
        (
            "policy",
            "--kubernetes-version=1.36",
            &[
                "  image: a.example/podspan:2",
                "  sensor: zeek",
                "  cpu: 50m/250m",
                "  security: added",
            ][..],
        ),
        (
            "webhook",
            "--kubernetes-version=1.28",
            &[
                "  IMAGE: a.example/podspan:2",
                "  DEFAULTS: sensor=zeek; cpu=50m/250m",
                "  PLACEMENT: plain",
            ],
        ),
        (
            "webhook-cert-manager",
            "--kubernetes-version=1.29",
            &["  IMAGE: a.example/podspan:2", "  PLACEMENT: native"],
        ),
    ] {
        let arguments = [&["manifests", name, version][..], &options].concat();
        let text = cluster.podspan("", &arguments).succeeded().output;
        for line in lines {
            assert!(
                text.lines().any(|found| found == *line),
                "no {line:?} in:\n{text}"
            );
        }
    }
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
