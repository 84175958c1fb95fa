//! What an image says of itself, read from the folder of an OCI image layout; and whether that is
//! what [`super::contents`] asks for. It judges our own archive after another program has copied it,
//! and what the `Containerfile` gives.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::Value;
use tar::{Archive, EntryType};

use super::contents::{Architecture, Contents};
use super::oci::sha256;
use super::{layer, read_file};
use crate::elf;
use crate::failure::{Failure, Result};

/// An image as found.
#[derive(Debug)]
pub(crate) struct Found {
    config: Value,
    files: BTreeMap<String, File>,
}

#[derive(Debug)]
pub(crate) struct File {
    mode: u32,
    owner: (u64, u64),
    capability: Option<Vec<u8>>,
    pub(crate) bytes: Vec<u8>,
}

impl Found {
    /// Reads a layout that holds one image, and makes sure of every digest on the way.
    pub(crate) fn read(layout: &Path) -> Result<Self> {
        let index = json(&read_file(&layout.join("index.json"))?)?;
        let manifest = json(&blob(layout, &index["manifests"][0])?)?;
        let config = json(&blob(layout, &manifest["config"])?)?;
        let mut files = BTreeMap::new();
        for (number, descriptor) in manifest["layers"]
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
        {
            let mut layer = Vec::new();
            GzDecoder::new(blob(layout, descriptor)?.as_slice())
                .read_to_end(&mut layer)
                .map_err(unreadable)?;
            let expected = &config["rootfs"]["diff_ids"][number];
            if expected.as_str() != Some(&sha256(&layer)) {
                return Err(wrong(&format!("layer {number} is not {expected}")));
            }
            add_files(&layer, &mut files).map_err(unreadable)?;
        }
        Ok(Self { config, files })
    }

    /// The file at an absolute path.
    pub(crate) fn file(&self, path: &str) -> Result<&File> {
        let missing = || wrong(&format!("it has no {path}"));
        self.files.get(path).ok_or_else(missing)
    }

    /// Whether it holds the programs for `architecture`, with their capabilities and nothing else,
    /// and starts the right one as the right user.
    pub(crate) fn check(&self, contents: &Contents, architecture: Architecture) -> Result<()> {
        let expected = contents.runtime();
        same(
            "architecture",
            &self.config["architecture"],
            architecture.name(),
        )?;
        same("os", &self.config["os"], "linux")?;
        let config = &self.config["config"];
        same("user", &config["User"], expected.user)?;
        same("entrypoint", &config["Entrypoint"], expected.entrypoint)?;
        for (label, value) in expected.labels {
            same(label, &config["Labels"][label], value)?;
        }
        let paths: Vec<_> = self.files.keys().map(String::as_str).collect();
        let mut wanted: Vec<_> = contents.programs.iter().map(|one| one.path).collect();
        wanted.sort_unstable();
        if paths != wanted {
            return Err(wrong(&format!("it holds {paths:?} instead of {wanted:?}")));
        }
        for program in contents.programs {
            let file = self.file(program.path)?;
            let capability = program.capability.map(layer::permitted);
            if file.capability.as_deref() != capability.as_ref().map(<[u8; 20]>::as_slice) {
                return Err(wrong(&format!(
                    "{} has the file capability {:02x?}, not {capability:02x?}",
                    program.path, file.capability
                )));
            }
            if (file.mode, file.owner) != (0o755, (0, 0)) {
                return Err(wrong(&format!(
                    "{} has mode {:o} and owner {:?}",
                    program.path, file.mode, file.owner
                )));
            }
            if elf::is_static(&file.bytes) != Some(true) {
                return Err(wrong(&format!("{} is not static", program.path)));
            }
            if elf::machine(&file.bytes) != Some(architecture.machine()) {
                return Err(wrong(&format!("{} is for another machine", program.path)));
            }
        }
        Ok(())
    }
}

fn same(what: &str, found: &Value, expected: impl Into<Value>) -> Result<()> {
    let expected = expected.into();
    if *found == expected {
        return Ok(());
    }
    Err(wrong(&format!("its {what} is {found}, not {expected}")))
}

/// All that is no folder.
fn add_files(layer: &[u8], files: &mut BTreeMap<String, File>) -> std::io::Result<()> {
    for entry in Archive::new(layer).entries()? {
        let mut entry = entry?;
        if entry.header().entry_type() == EntryType::Directory {
            continue;
        }
        let mut capability = None;
        for extension in entry.pax_extensions()?.into_iter().flatten() {
            let extension = extension?;
            if extension.key_bytes() == layer::CAPABILITY_RECORD.as_bytes() {
                capability = Some(extension.value_bytes().to_vec());
            }
        }
        let header = entry.header();
        // Buildah puts the file's type in it too.
        let (mode, owner) = (header.mode()? & 0o7777, (header.uid()?, header.gid()?));
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = format!("/{}", path.trim_start_matches("./").trim_start_matches('/'));
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        files.insert(
            path,
            File {
                mode,
                owner,
                capability,
                bytes,
            },
        );
    }
    Ok(())
}

/// The blob that a descriptor names.
fn blob(layout: &Path, descriptor: &Value) -> Result<Vec<u8>> {
    let digest = descriptor["digest"].as_str().unwrap_or_default();
    let bytes = read_file(&layout.join("blobs").join(digest.replace(':', "/")))?;
    if sha256(&bytes) != digest {
        return Err(wrong(&format!("the blob {digest} holds something else")));
    }
    Ok(bytes)
}

fn json(bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(|source| Failure::system("reading the image", source))
}

fn unreadable(source: std::io::Error) -> Failure {
    Failure::system("reading the image", source)
}

fn wrong(what: &str) -> Failure {
    Failure::Wrong(format!("the image is not as it must be: {what}"))
}
