//! Container images of one layer: files in, an OCI image archive out.
//!
//! The archive is what `ctr images import`, `kind load image-archive` and `docker load` of a current
//! Docker read: a tar with `oci-layout`, `index.json` and blobs named by their SHA-256 (OCI image
//! layout 1.0). The same files give the same bytes: times are zero, owners are root, and entries are
//! in the order of their paths.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::error::{Error, Result};
use crate::programs::hex;

/// Speed before size: the archives stay on this machine.
const COMPRESSION: u32 = 3;

/// What stands at a path of the image.
#[derive(Debug, Clone)]
enum Node {
    Folder(u32),
    File(PathBuf),
    Text(Vec<u8>, u32),
    Link(String),
}

/// An image that will be written.
#[derive(Debug, Clone)]
pub(super) struct Image {
    reference: String,
    entrypoint: Vec<String>,
    command: Vec<String>,
    user: String,
    nodes: BTreeMap<String, Node>,
}

impl Image {
    /// An image with the folders that a runtime mounts on, a `/tmp`, and root in `/etc/passwd`.
    pub(super) fn new(reference: impl Into<String>) -> Self {
        let image = Self {
            reference: reference.into(),
            entrypoint: Vec::new(),
            command: Vec::new(),
            user: String::new(),
            nodes: BTreeMap::new(),
        };
        ["proc", "sys", "dev", "run"]
            .iter()
            .fold(image, |image, folder| {
                image.node(folder, Node::Folder(0o755))
            })
            .node("tmp", Node::Folder(0o1777))
            .text("etc/passwd", "root:x:0:0::/:/bin/sh\n", 0o644)
    }

    pub(super) fn reference(&self) -> &str {
        &self.reference
    }

    /// What runs, with the command behind it as arguments.
    pub(super) fn entrypoint(mut self, words: &[&str]) -> Self {
        self.entrypoint = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// What runs where the pod names nothing.
    pub(super) fn command(mut self, words: &[&str]) -> Self {
        self.command = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// The user and group, as numbers.
    pub(super) fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.user);
        self
    }

    /// A program, or a library: mode 755.
    pub(super) fn file(self, path: &str, source: impl Into<PathBuf>) -> Self {
        self.node(path, Node::File(source.into()))
    }

    /// A file with this text.
    pub(super) fn text(self, path: &str, text: &str, mode: u32) -> Self {
        self.node(path, Node::Text(text.as_bytes().to_vec(), mode))
    }

    /// A symbolic link.
    pub(super) fn link(self, path: &str, target: &str) -> Self {
        self.node(path, Node::Link(target.to_owned()))
    }

    fn node(mut self, path: &str, node: Node) -> Self {
        let path = path.trim_matches('/');
        for (slash, _) in path.match_indices('/') {
            let parent = path.get(..slash).unwrap_or_default();
            self.nodes
                .entry(parent.to_owned())
                .or_insert(Node::Folder(0o755));
        }
        self.nodes.insert(path.to_owned(), node);
        self
    }

    /// Writes the archive.
    pub(super) fn write(&self, archive: &Path) -> Result<()> {
        self.try_write(archive)
            .map_err(Error::io(format!("writing {}", archive.display())))
    }

    fn try_write(&self, archive: &Path) -> io::Result<()> {
        let folder = archive.parent().unwrap_or(Path::new("."));
        let mut layer = tempfile::tempfile_in(folder)?;
        let (compressed, content) = self.write_layer(&mut layer)?;
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Env": ["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Entrypoint": self.entrypoint,
                "Cmd": self.command,
                "User": self.user,
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", content.name)]},
        });
        let config = config.to_string().into_bytes();
        let of_config = Blob::of(&config);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": of_config.descriptor("config.v1+json"),
            "layers": [compressed.descriptor("layer.v1.tar+gzip")],
        });
        let manifest = manifest.to_string().into_bytes();
        let of_manifest = Blob::of(&manifest);
        let mut descriptor = of_manifest.descriptor("manifest.v1+json");
        let tag = self.reference.rsplit(':').next().unwrap_or_default();
        if let Some(fields) = descriptor.as_object_mut() {
            let annotations = json!({
                "io.containerd.image.name": self.reference,
                "org.opencontainers.image.ref.name": tag,
            });
            fields.insert("annotations".to_owned(), annotations);
        }
        let index = json!({"schemaVersion": 2, "manifests": [descriptor]}).to_string();

        let mut tar = Builder::new(File::create(archive)?);
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
        append(
            &mut tar,
            "oci-layout",
            &layout[..],
            layout.len() as u64,
            0o644,
        )?;
        append(
            &mut tar,
            "index.json",
            index.as_bytes(),
            index.len() as u64,
            0o644,
        )?;
        for (blob, bytes) in [(&of_config, &config), (&of_manifest, &manifest)] {
            append(&mut tar, &blob.path(), bytes.as_slice(), blob.size, 0o644)?;
        }
        layer.rewind()?;
        append(&mut tar, &compressed.path(), layer, compressed.size, 0o644)?;
        tar.into_inner()?.flush()
    }

    /// Writes the layer, and returns what it is compressed and what it is not.
    fn write_layer(&self, layer: &mut File) -> io::Result<(Blob, Blob)> {
        let gzip = GzBuilder::new().mtime(0);
        let compressed = gzip.write(Hashing::new(layer), Compression::new(COMPRESSION));
        let mut tar = Builder::new(Hashing::new(compressed));
        for (path, node) in &self.nodes {
            match node {
                Node::Folder(mode) => {
                    let mut header = header(EntryType::Directory, 0, *mode);
                    tar.append_data(&mut header, format!("{path}/"), io::empty())?;
                }
                Node::File(source) => {
                    let file = File::open(source).map_err(|error| {
                        io::Error::new(error.kind(), format!("{}: {error}", source.display()))
                    })?;
                    let size = file.metadata()?.len();
                    append(&mut tar, path, file, size, 0o755)?;
                }
                Node::Text(text, mode) => {
                    append(&mut tar, path, text.as_slice(), text.len() as u64, *mode)?;
                }
                Node::Link(target) => {
                    let mut header = header(EntryType::Symlink, 0, 0o777);
                    tar.append_link(&mut header, path, target)?;
                }
            }
        }
        let (gzip, content) = tar.into_inner()?.finish();
        let (_, compressed) = gzip.finish()?.finish();
        Ok((compressed, content))
    }
}

fn header(kind: EntryType, size: u64, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn append(
    tar: &mut Builder<impl Write>,
    path: &str,
    bytes: impl Read,
    size: u64,
    mode: u32,
) -> io::Result<()> {
    tar.append_data(&mut header(EntryType::Regular, size, mode), path, bytes)
}

/// This machine's architecture as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A run of bytes by its SHA-256.
#[derive(Debug)]
struct Blob {
    name: String,
    size: u64,
}

impl Blob {
    fn of(bytes: &[u8]) -> Self {
        let mut hashing = Hashing::new(io::sink());
        hashing.count(bytes);
        hashing.finish().1
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.name)
    }

    fn descriptor(&self, kind: &str) -> Value {
        json!({
            "mediaType": format!("application/vnd.oci.image.{kind}"),
            "digest": format!("sha256:{}", self.name),
            "size": self.size,
        })
    }
}

/// Passes bytes on and computes their SHA-256.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            size: 0,
        }
    }

    fn count(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
    }

    fn finish(self) -> (W, Blob) {
        let name = hex(&self.hash.finalize());
        let size = self.size;
        (self.inner, Blob { name, size })
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.count(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;

    use flate2::read::GzDecoder;
    use sha2::{Digest, Sha256};
    use tar::Archive;

    use super::*;

    fn image(folder: &Path) -> Image {
        fs::write(folder.join("program"), "a program").unwrap();
        Image::new("podspan.local/test:1")
            .entrypoint(&["/bin/program"])
            .user("65535:65535")
            .file("/bin/program", folder.join("program"))
            .link("bin/other", "program")
            .text("a/b/c.sh", "text", 0o755)
    }

    /// The files of a tar by their paths.
    fn files(tar: impl Read) -> BTreeMap<String, Vec<u8>> {
        let mut archive = Archive::new(tar);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (path, bytes)
        });
        entries.collect()
    }

    fn follow<'a>(files: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'a [u8] {
        let digest = descriptor["digest"].as_str().unwrap();
        let bytes = &files[&digest.replace("sha256:", "blobs/sha256/")];
        assert_eq!(descriptor["size"], bytes.len());
        let name = hex(&Sha256::digest(bytes));
        assert_eq!(digest, format!("sha256:{name}"));
        bytes
    }

    #[test]
    fn every_digest_and_size_is_that_of_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.tar");
        image(folder.path()).write(&path).unwrap();
        let outer = files(File::open(&path).unwrap());
        let index: Value = serde_json::from_slice(&outer["index.json"]).unwrap();
        let first = &index["manifests"][0];
        let name = &first["annotations"]["io.containerd.image.name"];
        assert_eq!(name, "podspan.local/test:1");
        let manifest: Value = serde_json::from_slice(follow(&outer, first)).unwrap();
        let config: Value = serde_json::from_slice(follow(&outer, &manifest["config"])).unwrap();
        assert_eq!(config["config"]["Entrypoint"][0], "/bin/program");
        let layer = follow(&outer, &manifest["layers"][0]);
        let mut content = Vec::new();
        GzDecoder::new(layer).read_to_end(&mut content).unwrap();
        let name = hex(&Sha256::digest(&content));
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{name}"));
        let inner = files(content.as_slice());
        assert_eq!(inner["bin/program"], b"a program");
        assert_eq!(inner["a/b/c.sh"], b"text");
        assert!(inner.contains_key("a/b/"), "{:?}", inner.keys());
        assert!(inner.contains_key("bin/other"), "{:?}", inner.keys());
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = folder.path().join(name);
            image(folder.path()).write(&path).unwrap();
            fs::read(path).unwrap()
        };
        assert_eq!(write("1.tar"), write("2.tar"));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let image = Image::new("podspan.local/test:1").file("x", "/no such file");
        let error = image.write(&folder.path().join("image.tar")).unwrap_err();
        assert!(error.to_string().contains("/no such file"), "{error}");
    }
}
