//! podspan's manifests, as kubectl renders and the API server accepts them.

use std::fs;

use libtest_mimic::Failed;
use serde_json::{Value, json};
use testbed::kubernetes::{ControlPlane, Error};

use crate::{Outcome, manifest};

pub(crate) fn accepted(control_plane: &ControlPlane) -> Outcome {
    control_plane.create_namespace("sensors")?;
    let mut seen = 0;
    for group in ["rbac", "examples"] {
        for entry in fs::read_dir(manifest(group))? {
            let folder = entry?.path();
            control_plane.kubectl(["kustomize".as_ref(), folder.as_os_str()])?;
            control_plane.kubectl([
                "apply".as_ref(),
                "--server-side".as_ref(),
                "--dry-run=server".as_ref(),
                "-k".as_ref(),
                folder.as_os_str(),
            ])?;
            seen += 1;
        }
    }
    assert_eq!(seen, 6, "a new folder of manifests must be counted here");
    Ok(())
}

pub(crate) fn sidecar_first(control_plane: &ControlPlane) -> Outcome {
    for component in ["sidecar", "sidecar-baseline"] {
        let set = with_component(control_plane, component)?;
        let containers = &set["spec"]["template"]["spec"]["initContainers"];
        assert_eq!(containers[0]["name"], "podspan", "{set}");
        assert_eq!(containers[0]["restartPolicy"], "Always", "{set}");
        let idle = json!({"name": "ON_FAILURE", "value": "idle"});
        let variables = containers[0]["env"].as_array().ok_or("no env")?;
        assert!(variables.contains(&idle), "{set}");
        assert_eq!(
            containers[0]["image"], "ghcr.io/podspan/podspan:0.1.0",
            "{set}"
        );
        assert_eq!(containers[1]["name"], "migrate", "{set}");
    }
    Ok(())
}

pub(crate) fn pod_security(control_plane: &ControlPlane) -> Outcome {
    for level in ["privileged", "baseline", "restricted"] {
        control_plane.create_namespace(level)?;
        let label = format!("pod-security.kubernetes.io/enforce={level}");
        control_plane.kubectl(["label", "namespace", level, &label])?;
    }
    let admitted = |component: &str, level: &str| -> Result<bool, Failed> {
        let set = with_component(control_plane, component)?;
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "database-0"},
            "spec": set["spec"]["template"]["spec"],
        });
        let namespace = format!("--namespace={level}");
        let arguments = ["create", "--dry-run=server", &namespace, "-f", "-"];
        let admin = control_plane.admin_kubeconfig();
        match control_plane.kubectl_as(&admin, arguments, &pod.to_string()) {
            Ok(_) => Ok(true),
            Err(Error::Kubectl { stderr, .. }) if stderr.contains("violates PodSecurity") => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    };
    assert!(admitted("sidecar", "privileged")?);
    assert!(!admitted("sidecar", "baseline")?);
    assert!(admitted("sidecar-baseline", "privileged")?);
    assert!(admitted("sidecar-baseline", "baseline")?);
    assert!(!admitted("sidecar-baseline", "restricted")?);
    Ok(())
}

/// A set of pods that has an init container of its own already, with a component applied to it, as
/// the API server would store it.
fn with_component(control_plane: &ControlPlane, component: &str) -> Result<Value, Failed> {
    // kustomize accepts components only by relative paths.
    let folder = tempfile::tempdir()?;
    let root = fs::canonicalize(folder.path())?;
    let up = "../".repeat(root.components().count() - 1);
    let component = fs::canonicalize(manifest("components").join(component))?;
    let component = format!("{up}{}", component.strip_prefix("/")?.display());
    fs::write(
        root.join("kustomization.yaml"),
        format!("resources: [database.yaml]\ncomponents: [{component}]\n"),
    )?;
    let database = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "database"},
        "spec": {
            "serviceName": "database",
            "selector": {"matchLabels": {"app": "database"}},
            "template": {
                "metadata": {"labels": {"app": "database"}},
                "spec": {
                    "initContainers": [{"name": "migrate", "image": "example.invalid/none"}],
                    "containers": [{"name": "main", "image": "example.invalid/none"}],
                },
            },
        },
    });
    fs::write(root.join("database.yaml"), database.to_string())?;
    let stored = control_plane.kubectl([
        "apply".as_ref(),
        "--server-side".as_ref(),
        "--dry-run=server".as_ref(),
        "--output=json".as_ref(),
        "-k".as_ref(),
        root.as_os_str(),
    ])?;
    Ok(serde_json::from_str(&stored)?)
}
