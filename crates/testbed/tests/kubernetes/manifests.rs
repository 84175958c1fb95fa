//! podspan's manifests, as kubectl renders and the API server accepts them.

use std::fs;
use std::path::{Path, PathBuf};

use inject::Security;
use libtest_mimic::Failed;
use serde_json::{Value, json};
use testbed::kubernetes::{ControlPlane, Error};

use crate::{Outcome, manifest};

/// How many folders of `manifests/rbac` and `manifests/examples` can be applied.
const FOLDERS: usize = 23;

pub(crate) fn accepted(control_plane: &ControlPlane) -> Outcome {
    control_plane.create_namespace("sensors")?;
    let mut folders = Vec::new();
    for group in ["rbac", "examples"] {
        kustomizations(&manifest(group), &mut folders)?;
    }
    for folder in &folders {
        let text = control_plane.kubectl(["kustomize".as_ref(), folder.as_os_str()])?;
        let has_short_name = text.lines().any(|line| line.ends_with("image: podspan"));
        assert!(!has_short_name, "an image without its registry: {text}");
        control_plane.kubectl([
            "apply".as_ref(),
            "--server-side".as_ref(),
            "--dry-run=server".as_ref(),
            "-k".as_ref(),
            folder.as_os_str(),
        ])?;
    }
    assert_eq!(folders.len(), FOLDERS, "{folders:#?}");
    Ok(())
}

/// The folders with a kustomization, at any depth.
fn kustomizations(folder: &Path, found: &mut Vec<PathBuf>) -> Outcome {
    if folder.join("kustomization.yaml").exists() {
        found.push(folder.to_owned());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            kustomizations(&path, found)?;
        }
    }
    Ok(())
}

/// Each place of the analysis, in both forms: what the sensor's pod declares, what it reads, and what is
/// made before it starts.
pub(crate) fn forms(control_plane: &ControlPlane) -> Outcome {
    let sniffing = |interface| (json!("sniffer"), interface, Value::Null);
    let device = |interface| (json!("socket"), interface, json!("vxlan-device"));
    for (folder, kind, (receiver, interface, first)) in [
        ("central/sniffing", "Deployment", sniffing("eth0")),
        ("central/vxlan-device", "Deployment", device("vxlan0")),
        ("per-node/sniffing", "DaemonSet", sniffing("eth0")),
        ("per-node/vxlan-device", "DaemonSet", device("vxlan0")),
        ("per-node/host-network", "DaemonSet", device("podspan0")),
        ("classic", "Deployment", sniffing("eth0")),
    ] {
        let sensor = &applied(control_plane, folder, kind, "sensor")?["spec"]["template"];
        let annotations = &sensor["metadata"]["annotations"];
        assert_eq!(annotations["podspan.dev/receiver"], receiver, "{sensor}");
        let arguments = &sensor["spec"]["containers"][0]["args"];
        assert_eq!(arguments[2], interface, "{sensor}");
        let name = &sensor["spec"]["initContainers"][0]["name"];
        assert_eq!(*name, first, "{sensor}");
    }
    for (folder, interface, receiver) in [
        ("in-pod/sniffing", "lo", None),
        ("in-pod/vxlan-device", "vxlan0", Some("socket")),
    ] {
        let pod = &applied(control_plane, folder, "Deployment", "web")?["spec"]["template"]["spec"];
        let containers = pod["containers"].as_array().ok_or("no containers")?;
        let sensor = containers.iter().find(|c| c["name"] == "sensor");
        assert_eq!(sensor.ok_or("no sensor")?["args"][2], interface, "{pod}");
        let starts = pod["initContainers"].as_array().ok_or("no sidecar")?;
        let podspan = starts.last().ok_or("no sidecar")?;
        let value = |name: &str| {
            let variables = podspan["env"].as_array()?;
            let variable = variables.iter().find(|v| v["name"] == name)?;
            variable["value"].as_str()
        };
        assert_eq!(value("SENSOR"), Some("127.0.0.1"), "{pod}");
        assert_eq!(value("RECEIVER"), receiver, "{pod}");
    }
    Ok(())
}

/// Both ends of the tunnels have their keys, and only the ends that need them.
pub(crate) fn encrypted(control_plane: &ControlPlane) -> Outcome {
    let template = |name| -> Result<Value, Failed> {
        let object = applied(control_plane, "encrypted", "Deployment", name)?;
        Ok(object["spec"]["template"].clone())
    };
    let (web, sensor) = (template("web")?, template("sensor")?);
    let volumes = |pod: &Value| -> Vec<Value> {
        let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
        volumes
            .map(|volume| volume["secret"]["secretName"].clone())
            .collect()
    };
    assert_eq!(volumes(&web), ["podspan-tunnel"]);
    assert_eq!(volumes(&sensor), ["podspan-receive"]);
    let podspan = &web["spec"]["initContainers"][0];
    let variables = podspan["env"].as_array().ok_or("no variables")?;
    let value = |name: &str| {
        let variable = variables.iter().find(|variable| variable["name"] == name)?;
        variable["value"].as_str()
    };
    assert_eq!(value("TUNNEL"), Some("required"));
    let mount = &podspan["volumeMounts"][0]["mountPath"];
    for (variable, file) in [
        ("WG_SENSOR_KEY_FILE", "sensor-key"),
        ("WG_PRESHARED_KEY_FILE", "preshared-key"),
    ] {
        let path = format!("{}/{file}", mount.as_str().unwrap_or_default());
        assert_eq!(value(variable), Some(path.as_str()));
    }
    let annotations = &sensor["metadata"]["annotations"];
    assert_eq!(annotations["podspan.dev/tunnel"], "wireguard");
    let names = |pod: &Value| -> Vec<Value> {
        let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
        containers
            .map(|container| container["name"].clone())
            .collect()
    };
    assert_eq!(names(&web), ["web"]);
    let mut of_sensor = names(&sensor);
    of_sensor.sort_by_key(ToString::to_string);
    assert_eq!(of_sensor, ["podspan-receive", "sensor"]);
    let receive = sensor["spec"]["containers"]
        .as_array()
        .into_iter()
        .flatten();
    for container in receive.filter(|container| container["name"] == "podspan-receive") {
        let security = &container["securityContext"];
        assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(security["runAsNonRoot"], true);
    }
    Ok(())
}

/// An object of an example, as the API server would store it.
fn applied(
    control_plane: &ControlPlane,
    folder: &str,
    kind: &str,
    name: &str,
) -> Result<Value, Failed> {
    let folder = manifest("examples").join(folder);
    let stored = control_plane.kubectl([
        "apply".as_ref(),
        "--server-side".as_ref(),
        "--dry-run=server".as_ref(),
        "--output=json".as_ref(),
        "-k".as_ref(),
        folder.as_os_str(),
    ])?;
    let list: Value = serde_json::from_str(&stored)?;
    let mut items = list["items"].as_array().into_iter().flatten();
    let found = items.find(|item| item["kind"] == kind && item["metadata"]["name"] == name);
    Ok(found.ok_or("no such object in the example")?.clone())
}

/// The sidecar and its variants.
const SIDECARS: [&str; 4] = [
    "sidecar",
    "sidecar-baseline",
    "sidecar-root",
    "sidecar-user-namespace",
];

pub(crate) fn sidecar_first(control_plane: &ControlPlane) -> Outcome {
    for component in SIDECARS {
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
        let is_root = containers[0]["securityContext"]["runAsUser"] == 0;
        assert_eq!(is_root, component == "sidecar-root", "{set}");
        let users = &set["spec"]["template"]["spec"]["hostUsers"];
        assert_eq!(
            *users == false,
            component == "sidecar-user-namespace",
            "{set}"
        );
    }
    Ok(())
}

/// The components and the crate `inject` give the same pod, as the API server stores it: with its defaults, and
/// with quantities in its form.
pub(crate) fn injection(control_plane: &ControlPlane) -> Outcome {
    for (component, security) in [
        ("sidecar", Security::Added),
        ("sidecar-baseline", Security::Baseline),
        ("sidecar-root", Security::Root),
    ] {
        let options = inject::Options {
            security,
            ..inject::Options::new(&[], |_| Ok(()))
        };
        let set = with_component(control_plane, component)?;
        let template = &set["spec"]["template"];
        assert_eq!(
            inject::inject(template, &options)?,
            *template,
            "{component}"
        );

        let without = inject::remove(template)?;
        assert!(!inject::is_injected(&without), "{without}");
        let again = inject::inject(&without, &options)?;
        let mut object =
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "again"}});
        object["spec"] = set["spec"].clone();
        object["spec"]["template"] = again;
        let arguments = ["create", "--dry-run=server", "--output=json", "-f", "-"];
        let admin = control_plane.admin_kubeconfig();
        let stored = control_plane.kubectl_as(&admin, arguments, &object.to_string())?;
        let stored: Value = serde_json::from_str(&stored)?;
        assert_eq!(stored["spec"]["template"], *template, "{component}");
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
    for component in SIDECARS {
        assert!(admitted(component, "privileged")?, "{component}");
        let is_baseline = admitted(component, "baseline")?;
        assert_eq!(is_baseline, component == "sidecar-baseline", "{component}");
        assert!(!admitted(component, "restricted")?, "{component}");
    }
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
