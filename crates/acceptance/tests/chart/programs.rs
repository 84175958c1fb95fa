//! helm and kubectl, and the objects that they render.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use acceptance::Manifests;
use serde_json::Value;

/// Objects by `KIND NAMESPACE/NAME`.
pub(crate) type Objects = BTreeMap<String, Value>;

/// A folder of `manifests`.
pub(crate) fn manifests(path: &str) -> PathBuf {
    let folder = Manifests::folder(path).unwrap();
    folder.canonicalize().unwrap()
}

/// What helm says, with folders of its own that hold nothing.
pub(crate) fn helm<T: AsRef<OsStr>>(arguments: &[T]) -> Output {
    let home = tempfile::tempdir().unwrap();
    let mut helm = testbed::helm(home.path()).unwrap();
    helm.args(arguments).output().unwrap()
}

/// What a program prints that finds no fault.
pub(crate) fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What helm makes of a chart with values as YAML, in a release in the namespace `default`.
pub(crate) fn rendered(chart: &Path, values: &str) -> Objects {
    objects(&succeeded(template(chart, "default", values)))
}

pub(crate) fn template(chart: &Path, namespace: &str, values: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    std::fs::write(&file, values).unwrap();
    helm(&[
        OsStr::new("template"),
        OsStr::new("podspan"),
        chart.as_os_str(),
        OsStr::new("--namespace"),
        OsStr::new(namespace),
        OsStr::new("--values"),
        file.as_os_str(),
    ])
}

/// What kustomize makes of a folder.
pub(crate) fn kustomized(folder: &Path) -> String {
    let output = Command::new(testbed::kubectl().unwrap())
        .args(["kustomize", "--load-restrictor=LoadRestrictionsNone"])
        .arg(folder)
        .output()
        .unwrap();
    succeeded(output)
}

pub(crate) fn objects(text: &str) -> Objects {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    let mut objects = Objects::new();
    for object in documents {
        if object.is_null() {
            continue;
        }
        let metadata = &object["metadata"];
        let field = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        let kind = object["kind"].as_str().unwrap();
        let key = format!("{kind} {}/{}", field("namespace"), field("name"));
        assert!(objects.insert(key.clone(), object).is_none(), "{key} twice");
    }
    objects
}
