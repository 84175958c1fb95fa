//! The repository's kustomizations, with a namespace and the images of a test.
//!
//! kustomize reads resources by relative paths only, so the overlay is written into a folder below
//! cargo's target folder.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::images::Images;
use testbed::kind::Cluster;

/// The repository's folder with manifests.
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests");

/// An overlay over folders of `manifests`.
#[derive(Debug, Clone)]
pub struct Manifests {
    namespace: String,
    images: Images,
    resources: Vec<String>,
    components: Vec<String>,
    extra: Vec<String>,
    patches: Vec<String>,
}

impl Manifests {
    /// An overlay that puts everything into `namespace` and uses `images`.
    #[must_use]
    pub fn new(namespace: &str, images: &Images) -> Self {
        Self {
            namespace: namespace.to_owned(),
            images: images.clone(),
            resources: Vec::new(),
            components: Vec::new(),
            extra: Vec::new(),
            patches: Vec::new(),
        }
    }

    /// The text of a file, such as `examples/base/web/web.yaml`.
    ///
    /// # Errors
    /// When it is missing.
    pub fn file(path: &str) -> Result<String> {
        let path = Path::new(MANIFESTS).join(path);
        fs::read_to_string(&path).map_err(|_| Error::Missing { path })
    }

    /// The path of a folder, such as `injection/policy`.
    ///
    /// # Errors
    /// When it is missing.
    pub fn folder(path: &str) -> Result<PathBuf> {
        let path = Path::new(MANIFESTS).join(path);
        if !path.is_dir() {
            return Err(Error::Missing { path });
        }
        Ok(path)
    }

    /// The paths of folders of `manifests` relative to `folder`.
    ///
    /// # Errors
    /// When one is missing.
    pub fn relative_paths<T: AsRef<str>>(folder: &Path, entries: &[T]) -> Result<Vec<String>> {
        let manifests =
            fs::canonicalize(MANIFESTS).map_err(Error::system("finding the manifests"))?;
        let folder = fs::canonicalize(folder).map_err(Error::system("finding a folder"))?;
        let up = "../".repeat(folder.components().count().saturating_sub(1));
        entries
            .iter()
            .map(|entry| {
                let path = manifests.join(entry.as_ref());
                if !path.is_dir() {
                    return Err(Error::Missing { path });
                }
                let below_root = path.strip_prefix("/").unwrap_or(&path);
                Ok(format!("{up}{}", below_root.display()))
            })
            .collect()
    }

    /// Adds a folder, such as `examples/central`.
    #[must_use]
    pub fn resource(mut self, folder: &str) -> Self {
        self.resources.push(folder.to_owned());
        self
    }

    /// Adds a component, such as `components/sidecar`. It changes all objects of the overlay.
    #[must_use]
    pub fn component(mut self, folder: &str) -> Self {
        self.components.push(folder.to_owned());
        self
    }

    /// Adds objects as YAML.
    #[must_use]
    pub fn yaml(mut self, text: &str) -> Self {
        self.extra.push(text.to_owned());
        self
    }

    /// Adds a strategic merge patch; its kind and name say of which object.
    #[must_use]
    pub fn patch(mut self, text: &str) -> Self {
        self.patches.push(text.to_owned());
        self
    }

    /// What kustomize makes of it.
    ///
    /// # Errors
    /// When a folder is missing, or kustomize refuses.
    pub fn render(&self, cluster: &Cluster) -> Result<String> {
        let parent = target();
        fs::create_dir_all(&parent).map_err(Error::system("making a folder for manifests"))?;
        let folder = tempfile::tempdir_in(&parent)
            .map_err(Error::system("making a folder for manifests"))?;
        self.write(folder.path())?;
        let path = folder.path().display().to_string();
        Ok(cluster.kubectl(&["kustomize", "--load-restrictor=LoadRestrictionsNone", &path])?)
    }

    fn write(&self, folder: &Path) -> Result<()> {
        let mut text = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: {}\n",
            self.namespace
        );
        let mut resources = Self::relative_paths(folder, &self.resources)?;
        for (number, yaml) in (0..).zip(&self.extra) {
            let name = format!("extra-{number}.yaml");
            fs::write(folder.join(&name), yaml).map_err(Error::system("writing a manifest"))?;
            resources.push(name);
        }
        let components = Self::relative_paths(folder, &self.components)?;
        let mut patches = Vec::new();
        for (number, yaml) in (0..).zip(&self.patches) {
            let name = format!("patch-{number}.yaml");
            fs::write(folder.join(&name), yaml).map_err(Error::system("writing a patch"))?;
            patches.push(format!("path: {name}"));
        }
        for (field, entries) in [
            ("resources", resources),
            ("components", components),
            ("patches", patches),
        ] {
            let entries: Vec<_> = entries.iter().map(|entry| format!("\n- {entry}")).collect();
            if !entries.is_empty() {
                text.push_str(field);
                text.push(':');
                text.push_str(&entries.concat());
                text.push('\n');
            }
        }
        text.push_str(&self.images.kustomize());
        fs::write(folder.join("kustomization.yaml"), text)
            .map_err(Error::system("writing a kustomization"))
    }
}

fn target() -> PathBuf {
    testbed::target_folder().join("acceptance")
}
