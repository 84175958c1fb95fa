//! `cargo xtask image --tools`: the image of the tests and of `bench --cluster`, for clusters that pull their
//! images.
//!
//! Comes in: the archive that testbed makes. Goes out: the archive at another place, in a node, or its blobs to
//! a registry. It is for this machine's architecture only, so the manifest stands under the tag without an
//! index.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tar::Archive;
use testbed::kind::{self, Stages};

use super::load::Destination;
use super::oci::{Blob, CONFIG, LAYER, MANIFEST, sha256};
use crate::failure::{Failure, Result};
use crate::tools;

/// Makes the archive, copies it to `output` and imports it at `load`, and returns its path.
pub(crate) fn archive(output: Option<&Path>, load: Option<&Destination>) -> Result<PathBuf> {
    tools::for_cluster()?;
    let mut archive = kind::tools_image(&mut Stages::new(&mut |line| println!("{line}")))?;
    if let Some(output) = output {
        let failed = |source| Failure::system(format!("copying to {}", output.display()), source);
        fs::copy(&archive, output).map_err(failed)?;
        output.clone_into(&mut archive);
    }
    println!("{}", archive.display());
    println!("{}", kind::TOOLS);
    if let Some(destination) = load {
        destination.load(&archive)?;
    }
    Ok(archive)
}

/// What an archive of one image holds, in the order in which a registry takes it: the manifest is the last.
pub(crate) fn blobs(archive: &Path) -> Result<Vec<Blob>> {
    let unreadable =
        |source: std::io::Error| Failure::system(format!("reading {}", archive.display()), source);
    let mut files = BTreeMap::new();
    let mut tar = Archive::new(File::open(archive).map_err(unreadable)?);
    for entry in tar.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(unreadable)?;
        files.insert(path, bytes);
    }
    let parse = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).unwrap_or_default() };
    let index = parse(files.get("index.json").map_or(&[], Vec::as_slice));
    let mut blob = |descriptor: &Value, media_type| {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        let bytes = files.remove(&format!("blobs/{}", digest.replace(':', "/")));
        let wrong = || Failure::Wrong(format!("{} has no blob {digest:?}", archive.display()));
        let bytes = bytes
            .filter(|bytes| sha256(bytes) == digest)
            .ok_or_else(wrong)?;
        Ok(Blob {
            media_type,
            digest: digest.to_owned(),
            bytes,
        })
    };
    let manifest = blob(&index["manifests"][0], MANIFEST)?;
    let document = parse(&manifest.bytes);
    let layers = document["layers"].as_array().into_iter().flatten();
    let mut blobs = layers
        .map(|layer| blob(layer, LAYER))
        .collect::<Result<Vec<_>>>()?;
    blobs.push(blob(&document["config"], CONFIG)?);
    blobs.push(manifest);
    Ok(blobs)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tar::{Builder, EntryType};

    use super::super::layer::append;
    use super::*;

    fn archive(path: &Path, layer: &[u8], digest_of: &[u8]) {
        let config = b"{}".as_slice();
        let manifest = json!({
            "config": {"digest": sha256(config)},
            "layers": [{"digest": sha256(digest_of)}],
        });
        let manifest = manifest.to_string().into_bytes();
        let index = json!({"manifests": [{"digest": sha256(&manifest)}]}).to_string();
        let mut tar = Builder::new(Vec::new());
        let mut add = |path: &str, bytes: &[u8]| {
            append(&mut tar, EntryType::Regular, 0o644, path, bytes).unwrap();
        };
        add("index.json", index.as_bytes());
        for (bytes, content) in [(config, config), (digest_of, layer), (&manifest, &manifest)] {
            let name = sha256(bytes).replace(':', "/");
            add(&format!("blobs/{name}"), content);
        }
        fs::write(path, tar.into_inner().unwrap()).unwrap();
    }

    #[test]
    fn the_manifest_comes_after_all_that_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tools.tar");
        archive(&path, b"layer", b"layer");
        let blobs = blobs(&path).unwrap();
        let types: Vec<_> = blobs.iter().map(|blob| blob.media_type).collect();
        assert_eq!(types, [LAYER, CONFIG, MANIFEST]);
        assert_eq!(blobs[0].bytes, b"layer");
    }

    #[test]
    fn a_blob_with_other_bytes_is_not_sent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tools.tar");
        archive(&path, b"other", b"layer");
        let error = blobs(&path).unwrap_err().to_string();
        assert!(error.contains(&sha256(b"layer")), "{error}");
    }
}
