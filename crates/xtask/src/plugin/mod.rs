//! `cargo xtask plugin`: the release archives of `kubectl-podspan`, and the manifest that krew reads.
//!
//! ```text
//!   targets --> build (a binary for each) --> pack (tar.gz with the licenses) --> DIR/kubectl-podspan-*.tar.gz
//!                                                   | SHA-256
//!   .krew.yaml -------------------------------------+--> manifest ------------> DIR/podspan.yaml
//! ```
//! The same source gives the same archives: entries have a fixed order and no time. A target that this machine
//! cannot link is named with what is missing, and left out of the manifest. [`check`] is the step of
//! `cargo xtask test`.

pub(crate) mod check;
mod manifest;
mod targets;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType};

use crate::arguments::Arguments;
use crate::build::{Binary, for_target, linker};
use crate::cargo::{root, target_dir};
use crate::failure::{Failure, Result};
use crate::image;
use crate::image::layer;
use crate::tools;
pub(crate) use targets::check as check_targets;
use targets::{SHIPPED, Target};

const PLUGIN: Binary = Binary {
    package: "kubectl",
    name: "kubectl-podspan",
};

/// The tag of the release.
const TAG: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// The texts of the licenses. krew asks for one file with this name, and for no other.
const LICENSES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];
const LICENSE: &str = "LICENSE";

/// Archives by name, with their bytes.
type Archives = BTreeMap<String, Vec<u8>>;

pub(crate) fn run(mut arguments: Arguments) -> Result<()> {
    let only: Option<String> = arguments.option("--target")?;
    let folder: Option<PathBuf> = arguments.option("--output")?;
    arguments.finish()?;
    let folder = folder.unwrap_or_else(|| target_dir().join("plugin"));
    let chosen: Vec<&Target> = SHIPPED
        .iter()
        .filter(|target| only.as_deref().is_none_or(|only| only == target.triple))
        .collect();
    if chosen.is_empty() {
        let triples = SHIPPED.map(|target| target.triple).join(", ");
        let message = format!(
            "--target cannot be {:?}; the plugin is shipped for {triples}",
            only.unwrap_or_default()
        );
        return Err(Failure::Usage(message));
    }
    let archives = archives(&chosen)?;
    let manifest = manifest::fill(&template()?, TAG, |file, address| {
        let bytes = archives.get(file)?;
        Some((address.to_owned(), sha256(bytes)))
    })?;
    write(&folder, manifest::FILE, manifest.as_bytes())?;
    for (name, bytes) in &archives {
        write(&folder, name, bytes)?;
        println!("{}  {}", sha256(bytes), folder.join(name).display());
    }
    println!("{}", folder.join(manifest::FILE).display());
    Ok(())
}

/// The archives of those targets that this machine can link. At least one is there.
fn archives(targets: &[&Target]) -> Result<Archives> {
    let mut archives = Archives::new();
    for target in targets {
        if let Err(missing) = linker(target.triple) {
            println!("{}: not built: {missing}", target.triple);
            continue;
        }
        tools::standard_library(target.triple)?;
        let binary = for_target(PLUGIN, target.triple)?;
        let bytes = pack(target, &read(&binary)?)?;
        archives.insert(target.archive(PLUGIN.name, TAG), bytes);
    }
    if archives.is_empty() {
        let message = "no archive is made: this machine can link none of the targets";
        return Err(Failure::Wrong(message.to_owned()));
    }
    Ok(archives)
}

/// A tar.gz of the program and the texts of the licenses.
fn pack(target: &Target, program: &[u8]) -> Result<Vec<u8>> {
    let failed = |source| Failure::system("packing the plugin", source);
    let mut archive = Builder::new(Vec::new());
    let mut append = |mode, name: &str, bytes: &[u8]| {
        layer::append(&mut archive, EntryType::Regular, mode, name, bytes).map_err(failed)
    };
    append(0o644, LICENSE, &licenses()?)?;
    append(0o755, &target.program(PLUGIN.name), program)?;
    let archive = archive.into_inner().map_err(failed)?;
    layer::gzip(&archive).map_err(failed)
}

/// All texts of the licenses, after a line that says how they apply.
fn licenses() -> Result<Vec<u8>> {
    let mut text = b"This program is under either of these licenses, at your option.\n".to_vec();
    for license in LICENSES {
        text.push(b'\n');
        text.extend(read(&root().join(license))?);
    }
    Ok(text)
}

/// The SHA-256 as krew and sha256sum write it: digits only, unlike that of an image.
fn sha256(bytes: &[u8]) -> String {
    let digest = image::sha256(bytes);
    digest.strip_prefix("sha256:").unwrap_or(&digest).to_owned()
}

fn template() -> Result<String> {
    let path = root().join(".krew.yaml");
    fs::read_to_string(&path)
        .map_err(|source| Failure::system(format!("reading {}", path.display()), source))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|source| Failure::system(format!("reading {}", path.display()), source))
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(name);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&path, bytes))
        .map_err(|source| Failure::system(format!("writing {}", path.display()), source))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn the_manifest_names_each_archive_that_is_shipped_and_no_other() {
        let mut named = Vec::new();
        let manifest = manifest::fill(&template().unwrap(), TAG, |file, address| {
            named.push(file.to_owned());
            Some((address.to_owned(), "0".repeat(64)))
        });
        let shipped = SHIPPED.map(|target| target.archive(PLUGIN.name, TAG));
        assert_eq!(named, shipped);
        let manifest = manifest.unwrap();
        for target in SHIPPED {
            let selector = format!("os: {}\n        arch: {}\n", target.os, target.architecture);
            assert!(manifest.contains(&selector), "{selector}\n{manifest}");
            let program = format!("bin: {}\n", target.program(PLUGIN.name));
            assert!(manifest.contains(&program), "{program}\n{manifest}");
        }
    }

    #[test]
    fn the_digest_is_what_sha256sum_prints() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(b""), empty);
    }

    #[test]
    fn an_archive_has_the_program_and_the_licenses() {
        let archive = pack(&SHIPPED[4], b"program").unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&archive[..]));
        let mut files = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), text);
        }
        assert_eq!(files.len(), 2);
        assert_eq!(files["kubectl-podspan.exe"], "program");
        for license in LICENSES {
            let text = fs::read_to_string(root().join(license)).unwrap();
            assert!(files[LICENSE].contains(&text), "{license}");
        }
    }
}
