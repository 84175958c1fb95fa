//! `--chart`: the Helm chart of `manifests/chart` as an OCI artefact, without helm.
//!
//! ```text
//!   manifests/chart --> archive (tar, gzip) --> artefact (manifest, config) --> archive file, registry
//! ```
//! The same files give the same digest. The media types are helm's (`pkg/registry/constants.go`), its
//! configuration is `Chart.yaml` as JSON, and helm looks for the name and the version of the chart at the end of
//! the artefact's name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tar::{Builder, EntryType};

use super::layer::{self, append};
use super::oci::{Artefact, Blob};
use super::registry::Registry;
use super::{folder, push_image, read_file, write_file};
use crate::arguments::Arguments;
use crate::cargo::{cargo, root, run as run_command};
use crate::failure::{Failure, Result};

const CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
const CONTENT: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";

/// `Chart.yaml`, and the configuration of the artefact.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Metadata {
    name: String,
    version: String,
    description: String,
    api_version: String,
    app_version: String,
    r#type: String,
}

pub(super) fn run(mut arguments: Arguments) -> Result<()> {
    let output: Option<PathBuf> = arguments.option("--output")?;
    let push: Option<String> = arguments.option("--push")?;
    let insecure = arguments.flag("--insecure");
    arguments.finish()?;
    let metadata = metadata()?;
    let Metadata { name, version, .. } = &metadata;
    let ending = format!("/{name}:{version}");
    if let Some(push) = push.as_ref().filter(|name| !name.ends_with(&ending)) {
        return Err(Failure::Usage(format!(
            "--push {push:?} does not end with {ending}, by which helm finds the chart"
        )));
    }
    #[cfg(not(feature = "registry"))]
    if push.is_some() {
        return Err(crate::cargo::run_again_with("registry"));
    }
    let artefact = artefact(&metadata)?;
    let output = output.unwrap_or_else(|| folder().join(format!("{name}-chart-{version}.tar")));
    let archived = artefact.archive(&format!("{name}:{version}"));
    write_file(&output, archived)?;
    println!("{}", output.display());
    println!("{name}:{version}@{}", artefact.manifest.digest);
    let blobs = || Ok(artefact.blobs().into_iter().cloned().collect());
    push_image(blobs, push.as_deref(), insecure)
}

/// What the step `image` checks: helm pulls from a registry what is pushed, and renders it.
pub(super) fn check() -> Result<()> {
    let metadata = metadata()?;
    let artefact = artefact(&metadata)?;
    let registry = Registry::start()?;
    let temporary = tempfile::tempdir()
        .map_err(|source| Failure::system("making a temporary folder", source))?;
    let repository = format!("{}/charts/{}", registry.address(), metadata.name);
    let mut push = cargo();
    push.args(["run", "--quiet", "--package", "xtask"])
        .args(["--features", "registry", "--", "image", "--chart"])
        .args(["--push", &format!("{repository}:{}", metadata.version)])
        .arg("--output")
        .arg(temporary.path().join("chart.tar"));
    run_command(push)?;
    let mut pull = testbed::helm(temporary.path())?;
    pull.args(["pull", "--plain-http", &format!("oci://{repository}")])
        .args(["--version", &metadata.version, "--destination"])
        .arg(temporary.path());
    run_command(pull)?;
    let file = format!("{}-{}.tgz", metadata.name, metadata.version);
    let pulled = temporary.path().join(file);
    if read_file(&pulled)? != artefact.layer.bytes {
        return Err(Failure::Wrong(
            "helm pulled another chart than the one that was pushed".to_owned(),
        ));
    }
    let mut lint = testbed::helm(temporary.path())?;
    lint.args(["lint", "--strict"]).arg(pulled);
    run_command(lint)
}

fn source() -> PathBuf {
    root().join("manifests/chart")
}

fn metadata() -> Result<Metadata> {
    let path = source().join("Chart.yaml");
    let failed = |source| Failure::system(format!("reading {}", path.display()), source);
    let text = fs::read_to_string(&path).map_err(failed)?;
    serde_saphyr::from_str(&text)
        .map_err(|error| Failure::Wrong(format!("{}: {error}", path.display())))
}

fn artefact(metadata: &Metadata) -> Result<Artefact> {
    let failed = |error| Failure::system(format!("packing {}", source().display()), error);
    let mut files = Vec::new();
    collect(&source(), &metadata.name, &mut files).map_err(failed)?;
    files.sort();
    let mut archive = Builder::new(Vec::new());
    for (path, bytes) in &files {
        append(&mut archive, EntryType::Regular, 0o644, path, bytes).map_err(failed)?;
    }
    let archive = archive.into_inner().map_err(failed)?;
    let layer = Blob::new(CONTENT, layer::gzip(&archive).map_err(failed)?);
    let config = Blob::json(CONFIG, metadata).map_err(failed)?;
    let annotations = [
        (
            "org.opencontainers.image.description",
            &*metadata.description,
        ),
        ("org.opencontainers.image.title", &*metadata.name),
        ("org.opencontainers.image.version", &*metadata.version),
    ];
    Artefact::new(config, layer, annotations.into()).map_err(failed)
}

/// The files of a folder, with the names that they get in the archive.
fn collect(folder: &Path, name: &str, files: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &name, files)?;
        } else {
            files.push((name, fs::read(entry.path())?));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_archives_of_the_chart_are_equal_and_name_its_files() {
        let metadata = metadata().unwrap();
        let first = artefact(&metadata).unwrap();
        let second = artefact(&metadata).unwrap();
        assert_eq!(
            first.archive("a:1").unwrap(),
            second.archive("a:1").unwrap()
        );
        let mut layer = Vec::new();
        let mut unpacked = flate2::read::GzDecoder::new(first.layer.bytes.as_slice());
        io::Read::read_to_end(&mut unpacked, &mut layer).unwrap();
        let mut archive = tar::Archive::new(layer.as_slice());
        let mut names = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string());
        assert!(names.any(|name| name == "podspan/templates/NOTES.txt"));
    }
}
