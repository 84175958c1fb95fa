//! `cargo xtask plugin`: the plugin of kubectl for every system that can be built here, and krew's manifest.
//!
//! In: `.krew.yaml`, a template as the release tool of krew reads it. Out, in `target/plugin`: an archive for each
//! target with the program and the licenses, and `podspan.yaml`, the template with addresses and digests of these
//! archives. A target whose linker is not here is named and left out of both, so the manifest of a release is made
//! where all can be linked.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::arguments::Arguments;
use crate::build::{Binary, static_binary};
use crate::cargo::{self, cargo, root, run as run_command, target_dir};
use crate::failure::{Failure, Result};
use crate::tools;

/// Of the archives.
const LICENSES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];

/// Checks a manifest: a tool of krew.
const VALIDATOR: &str = "sigs.k8s.io/krew/cmd/validate-krew-manifest@v0.4.3";

const PLUGIN: Binary = Binary {
    package: "kubectl",
    name: "kubectl-podspan",
};

/// Rust's name of a target, and the part of the archives' names that `.krew.yaml` has.
pub(crate) const TARGETS: [(&str, &str); 6] = [
    ("x86_64-unknown-linux-gnu", "linux_amd64"),
    ("aarch64-unknown-linux-gnu", "linux_arm64"),
    ("x86_64-apple-darwin", "darwin_amd64"),
    ("aarch64-apple-darwin", "darwin_arm64"),
    ("x86_64-pc-windows-gnu", "windows_amd64"),
    ("aarch64-pc-windows-msvc", "windows_arm64"),
];

/// Compiles the plugin for all targets, without linking.
pub(crate) fn check_targets() -> Result<()> {
    for (target, _) in TARGETS {
        tools::standard_library(target)?;
        let mut check = cargo();
        check.args([
            "check",
            "--package",
            PLUGIN.package,
            "--bin",
            PLUGIN.name,
            "--target",
            target,
        ]);
        run_command(check)?;
    }
    Ok(())
}

pub(crate) fn run(arguments: Arguments) -> Result<()> {
    arguments.finish()?;
    let folder = target_dir().join("plugin");
    make_folder(&folder)?;
    let path = root().join(".krew.yaml");
    let template = fs::read_to_string(&path)
        .map_err(|source| Failure::system("reading .krew.yaml", source))?;
    let mut digests = Vec::new();
    for (target, system) in TARGETS {
        match binary(target) {
            Ok(binary) => {
                let archive = archive(&folder, system, &binary)?;
                let digest = digest(&archive)?;
                println!("{digest}  {}", archive.display());
                digests.push((system, digest));
            }
            Err(failure) => println!("{target} is left out: {failure}"),
        }
    }
    let manifest = rendered(&template, env!("CARGO_PKG_VERSION"), &digests);
    let path = folder.join("podspan.yaml");
    fs::write(&path, manifest)
        .map_err(|source| Failure::system(format!("writing {}", path.display()), source))?;
    validate(&path)
}

fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)
        .map_err(|source| Failure::system(format!("making {}", folder.display()), source))
}

/// The program for a target, statically linked for Linux.
fn binary(target: &str) -> Result<PathBuf> {
    if target.contains("linux") {
        return static_binary(PLUGIN, Some(target.to_owned()));
    }
    let mut build = cargo();
    build.args([
        "build",
        "--release",
        "--package",
        PLUGIN.package,
        "--bin",
        PLUGIN.name,
        "--target",
        target,
    ]);
    let built = cargo::build(build)?.into_iter().next();
    built.ok_or_else(|| Failure::Wrong(format!("cargo built no program for {target}")))
}

/// A tar archive with the program and the licenses, which has the same bytes for the same input.
fn archive(folder: &Path, system: &str, binary: &Path) -> Result<PathBuf> {
    let path = folder.join(format!("kubectl-podspan_{system}.tar.gz"));
    let failed = |source| Failure::system(format!("writing {}", path.display()), source);
    let file = File::create(&path).map_err(failed)?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::best()));
    let licenses = LICENSES.map(|name| (root().join(name), 0o644));
    for (source, mode) in [(binary.to_owned(), 0o755)].into_iter().chain(licenses) {
        let bytes = fs::read(&source).map_err(failed)?;
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        header.set_mtime(0);
        let name = source.file_name().unwrap_or_default();
        archive
            .append_data(&mut header, name, &bytes[..])
            .map_err(failed)?;
    }
    archive
        .into_inner()
        .and_then(GzEncoder::finish)
        .map_err(failed)?;
    Ok(path)
}

fn digest(path: &Path) -> Result<String> {
    let bytes = fs::read(path)
        .map_err(|source| Failure::system(format!("reading {}", path.display()), source))?;
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
    Ok(digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// The template with version, addresses and digests. A platform without an archive is left out.
fn rendered(template: &str, version: &str, digests: &[(&str, String)]) -> String {
    let tag = format!("v{version}");
    let (head, platforms) = template
        .split_once("  platforms:\n")
        .unwrap_or((template, ""));
    let mut text = head.to_owned() + "  platforms:\n";
    for platform in platforms.split("  - selector:").skip(1) {
        let Some((before, rest)) = platform.split_once("{{addURIAndSha \"") else {
            continue;
        };
        let Some((address, after)) = rest.split_once("\" .TagName }}") else {
            continue;
        };
        let address = address.replace("{{ .TagName }}", &tag);
        let of = digests
            .iter()
            .find(|(system, _)| address.contains(&format!("_{system}.")));
        if let Some((_, digest)) = of {
            text += &format!("  - selector:{before}uri: {address}\n    sha256: {digest}{after}");
        }
    }
    text.replace("{{ .TagName }}", &tag)
}

/// Has krew's own tool check a manifest. It installs nothing.
fn validate(manifest: &Path) -> Result<()> {
    let mut go = Command::new("go");
    go.args(["run", VALIDATOR, "-skip-install", "-manifest"])
        .arg(manifest)
        .current_dir(target_dir());
    run_command(go)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{TARGETS, rendered};
    use crate::cargo::root;

    #[test]
    fn krew_has_every_target_with_its_digest() {
        let template = fs::read_to_string(root().join(".krew.yaml")).unwrap();
        let digests = TARGETS.map(|(target, system)| (system, format!("digest-of-{target}")));
        let manifest = rendered(&template, "1.2.3", &digests);
        for (target, system) in TARGETS {
            let archive = format!(
                "/v1.2.3/kubectl-podspan_{system}.tar.gz\n    sha256: digest-of-{target}\n"
            );
            assert!(manifest.contains(&archive), "{archive}\n{manifest}");
        }
        assert!(manifest.contains("  version: v1.2.3\n"), "{manifest}");
        assert!(!manifest.contains("{{"), "{manifest}");
        let one = rendered(&template, "1.2.3", &digests[..1]);
        assert_eq!(one.matches("- selector:").count(), 1, "{one}");
    }
}
