//! An image as OCI has it (image-spec 1.1): blobs that name each other by their digest.
//!
//! ```text
//!   index.json --> index --+--> manifest amd64 --+--> config amd64
//!                          |                     '--> layer amd64
//!                          '--> manifest arm64 --+--> config arm64
//!                                                '--> layer arm64
//! ```
//! `index.json` stands in the archive only and says what the image is called. All else goes to a
//! registry as it is, so the digest of the index is the image's in both. Layers in, bytes out; the
//! fields of each document have a fixed order, and the only time in it is that of the epoch.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use ring::digest;
use serde::Serialize;
use tar::{Builder, EntryType};

use super::contents::{Architecture, Runtime};
use super::layer::{self, append};

pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Some tools show a missing time as an error.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// Bytes with their digest and media type.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) media_type: &'static str,
    pub(crate) digest: String,
    pub(crate) bytes: Vec<u8>,
}

/// The image for one architecture.
#[derive(Clone, Debug)]
pub(crate) struct ForOne {
    pub(crate) architecture: Architecture,
    pub(crate) layer: Blob,
    pub(crate) config: Blob,
    pub(crate) manifest: Blob,
}

/// The whole image.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) images: Vec<ForOne>,
    pub(crate) index: Blob,
}

/// Something else than an image.
#[derive(Clone, Debug)]
pub(crate) struct Artefact {
    config: Blob,
    pub(crate) layer: Blob,
    pub(crate) manifest: Blob,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: &'a str,
    digest: &'a str,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct Platform {
    architecture: &'static str,
    os: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u8,
    media_type: &'a str,
    config: Descriptor<'a>,
    layers: Vec<Descriptor<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u8,
    media_type: &'a str,
    manifests: Vec<Descriptor<'a>>,
}

#[derive(Serialize)]
struct Configuration<'a> {
    created: &'a str,
    architecture: &'a str,
    os: &'a str,
    #[serde(rename = "config")]
    runtime: &'a Runtime,
    rootfs: RootFs<'a>,
    history: [History<'a>; 1],
}

#[derive(Serialize)]
struct RootFs<'a> {
    r#type: &'a str,
    diff_ids: [&'a str; 1],
}

#[derive(Serialize)]
struct History<'a> {
    created: &'a str,
    created_by: &'a str,
}

impl Blob {
    pub(super) fn new(media_type: &'static str, bytes: Vec<u8>) -> Self {
        Self {
            media_type,
            digest: sha256(&bytes),
            bytes,
        }
    }

    pub(super) fn json(media_type: &'static str, document: &impl Serialize) -> io::Result<Self> {
        Ok(Self::new(media_type, serde_json::to_vec(document)?))
    }

    fn descriptor(&self) -> Descriptor<'_> {
        Descriptor {
            media_type: self.media_type,
            digest: &self.digest,
            size: self.bytes.len(),
            platform: None,
            annotations: BTreeMap::new(),
        }
    }
}

impl ForOne {
    /// An image with one layer, whose tar archive is `archive`.
    pub(crate) fn new(
        architecture: Architecture,
        archive: &[u8],
        runtime: &Runtime,
    ) -> io::Result<Self> {
        let layer = Blob::new(LAYER, layer::gzip(archive)?);
        let config = Blob::json(
            CONFIG,
            &Configuration {
                created: CREATED,
                architecture: architecture.name(),
                os: "linux",
                runtime,
                rootfs: RootFs {
                    r#type: "layers",
                    diff_ids: [&sha256(archive)],
                },
                history: [History {
                    created: CREATED,
                    created_by: "cargo xtask image",
                }],
            },
        )?;
        let manifest = Blob::json(
            MANIFEST,
            &Manifest {
                schema_version: 2,
                media_type: MANIFEST,
                config: config.descriptor(),
                layers: vec![layer.descriptor()],
                annotations: BTreeMap::new(),
            },
        )?;
        Ok(Self {
            architecture,
            layer,
            config,
            manifest,
        })
    }

    fn blobs(&self) -> [&Blob; 3] {
        [&self.layer, &self.config, &self.manifest]
    }

    /// What a node downloads.
    pub(crate) fn bytes(&self) -> usize {
        self.blobs().iter().map(|blob| blob.bytes.len()).sum()
    }
}

impl Image {
    pub(crate) fn new(mut images: Vec<ForOne>) -> io::Result<Self> {
        images.sort_by_key(|image| image.architecture);
        let manifests = images.iter().map(|image| Descriptor {
            platform: Some(Platform {
                architecture: image.architecture.name(),
                os: "linux",
            }),
            ..image.manifest.descriptor()
        });
        let index = Index {
            schema_version: 2,
            media_type: INDEX,
            manifests: manifests.collect(),
        };
        let index = Blob::json(INDEX, &index)?;
        Ok(Self { images, index })
    }

    /// In the order in which a registry takes them: each after all that it names.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.images
            .iter()
            .flat_map(ForOne::blobs)
            .chain([&self.index])
    }

    /// The compressed layer of each architecture.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &[u8]> {
        self.images.iter().map(|image| image.layer.bytes.as_slice())
    }

    /// The OCI archive of the image.
    pub(crate) fn archive(&self, name: &str) -> io::Result<Vec<u8>> {
        archive(&self.index, self.blobs().collect(), name)
    }
}

impl Artefact {
    /// Something with one layer that is no image.
    pub(super) fn new(
        config: Blob,
        layer: Blob,
        annotations: BTreeMap<&str, &str>,
    ) -> io::Result<Self> {
        let manifest = Blob::json(
            MANIFEST,
            &Manifest {
                schema_version: 2,
                media_type: MANIFEST,
                config: config.descriptor(),
                layers: vec![layer.descriptor()],
                annotations,
            },
        )?;
        Ok(Self {
            config,
            layer,
            manifest,
        })
    }

    /// In the order in which a registry takes them.
    pub(super) fn blobs(&self) -> [&Blob; 3] {
        [&self.config, &self.layer, &self.manifest]
    }

    /// The OCI archive of the artefact.
    pub(super) fn archive(&self, name: &str) -> io::Result<Vec<u8>> {
        archive(&self.manifest, self.blobs().to_vec(), name)
    }
}

/// An OCI archive: a tar of an image layout. `name` is what containerd, and so a cluster's node, calls `root` after
/// the import.
fn archive(root: &Blob, mut blobs: Vec<&Blob>, name: &str) -> io::Result<Vec<u8>> {
    let index = Index {
        schema_version: 2,
        media_type: INDEX,
        manifests: vec![Descriptor {
            annotations: BTreeMap::from([
                ("io.containerd.image.name", name),
                ("org.opencontainers.image.ref.name", tag(name)),
            ]),
            ..root.descriptor()
        }],
    };
    let mut archive = Builder::new(Vec::new());
    let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
    append(
        &mut archive,
        EntryType::Regular,
        0o644,
        "oci-layout",
        layout,
    )?;
    let text = serde_json::to_vec(&index)?;
    append(&mut archive, EntryType::Regular, 0o644, "index.json", &text)?;
    // Skopeo without root cannot make folders that are not in the archive.
    for folder in ["blobs/", "blobs/sha256/"] {
        append(&mut archive, EntryType::Directory, 0o755, folder, &[])?;
    }
    blobs.sort_by_key(|blob| &blob.digest);
    // Two architectures of the same bytes would have the same layer.
    blobs.dedup_by_key(|blob| &blob.digest);
    for blob in blobs {
        let path = format!("blobs/{}", blob.digest.replace(':', "/"));
        append(&mut archive, EntryType::Regular, 0o644, &path, &blob.bytes)?;
    }
    archive.into_inner()
}

/// The part of a name after its last colon, if that is no port.
fn tag(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((_, tag)) if !tag.contains('/') => tag,
        _ => "latest",
    }
}

/// As OCI writes a digest.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in digest::digest(&digest::SHA256, bytes).as_ref() {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
