//! The chart has copies of files of `manifests`, because a chart can read only its own.

use std::fs;

use crate::programs::{kustomized, manifests};

/// The copies, by their path in `manifests`.
const COPIES: [&str; 16] = [
    "injection/policy/mutating.yaml",
    "injection/policy/namespace.yaml",
    "injection/policy/parameters.yaml",
    "injection/policy/validating.yaml",
    "injection/webhook-cert-manager/certificate.yaml",
    "injection/webhook/access.yaml",
    "injection/webhook/configuration.yaml",
    "injection/webhook/deployment.yaml",
    "injection/webhook/disruption-budget.yaml",
    "injection/webhook/namespace.yaml",
    "injection/webhook/secret.yaml",
    "injection/webhook/service.yaml",
    "rbac/all-namespaces/cluster-role-binding.yaml",
    "rbac/all-namespaces/cluster-role.yaml",
    "rbac/own-namespace/role-binding.yaml",
    "rbac/own-namespace/role.yaml",
];

/// The example of a sensor is the result of components, so it is kept as kustomize renders it.
const SENSOR: &str = "# Rendered from examples/central/vxlan-device.\n";

#[test]
fn the_files_of_the_chart_are_those_of_the_kustomizations() {
    let write = std::env::var_os("GOLDEN").is_some_and(|value| value == "write");
    let files = manifests("chart").join("files");
    let example = kustomized(&manifests("examples/central/vxlan-device"));
    let sensor = example
        .split("---\n")
        .find(|text| text.contains("kind: Deployment\n") && text.contains("\n  name: sensor\n"))
        .unwrap();
    let copy = |path| {
        let text = fs::read_to_string(manifests("").join(path)).unwrap();
        (path, text)
    };
    let mut expected: Vec<_> = COPIES.into_iter().map(copy).collect();
    expected.push(("sensor.yaml", format!("{SENSOR}{sensor}")));
    for (path, text) in expected {
        let file = files.join(path);
        if write {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &text).unwrap();
        }
        let found = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            found == text,
            "{} is not up to date: GOLDEN=write cargo test -p acceptance --test chart files",
            file.display()
        );
    }
}

#[test]
fn the_chart_has_the_version_of_podspan() {
    let text = fs::read_to_string(manifests("chart").join("Chart.yaml")).unwrap();
    let chart: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    for field in ["version", "appVersion"] {
        assert_eq!(chart[field], env!("CARGO_PKG_VERSION"), "{field}");
    }
}
