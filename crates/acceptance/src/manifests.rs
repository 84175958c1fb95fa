//! The repository's kustomizations, with a namespace and the images of a test.
//!
//! kustomize reads resources by relative paths only, so the overlay is written into a folder below
//! cargo's target folder.

use std::fs;
use std::path::{Path, PathBuf};

use crate::access::Access;
use crate::error::{Error, Result};
use crate::images;

/// The repository's folder with manifests.
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests");

/// An overlay over folders of `manifests`.
#[derive(Debug, Clone)]
pub struct Manifests {
    namespace: String,
    resources: Vec<String>,
    components: Vec<String>,
    extra: Vec<String>,
    patches: String,
}

impl Manifests {
    /// An overlay that puts everything into `namespace`.
    #[must_use]
    pub fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            resources: Vec::new(),
            components: Vec::new(),
            extra: Vec::new(),
            patches: String::new(),
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

    /// Adds a folder, such as `examples/central`.
    #[must_use]
    pub fn resource(mut self, folder: &str) -> Self {
        self.resources.push(folder.to_owned());
        self
    }

    /// Adds a component, such as `components/sidecar`.
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

    /// Adds an entry to the list `patches` of the kustomization, as YAML without indentation.
    #[must_use]
    pub fn patch(mut self, entry: &str) -> Self {
        self.patches.push_str(entry.trim_end());
        self.patches.push('\n');
        self
    }

    /// What kustomize makes of it.
    ///
    /// # Errors
    /// When a folder is missing, or kustomize refuses.
    pub fn render(&self, access: &Access) -> Result<String> {
        let parent = target();
        fs::create_dir_all(&parent).map_err(Error::system("making a folder for manifests"))?;
        let folder = tempfile::tempdir_in(&parent)
            .map_err(Error::system("making a folder for manifests"))?;
        self.write(folder.path())?;
        let path = folder.path().display().to_string();
        access.kubectl(&["kustomize", "--load-restrictor=LoadRestrictionsNone", &path])
    }

    fn write(&self, folder: &Path) -> Result<()> {
        let mut text = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: {}\n",
            self.namespace
        );
        let list = |text: &mut String, name: &str, entries: &[String]| {
            if !entries.is_empty() {
                text.push_str(name);
                text.push_str(":\n");
            }
            for entry in entries {
                text.push_str("- ");
                text.push_str(entry);
                text.push('\n');
            }
        };
        let mut resources = relative_paths(folder, &self.resources)?;
        for (number, yaml) in (0..).zip(&self.extra) {
            let name = format!("extra-{number}.yaml");
            fs::write(folder.join(&name), yaml).map_err(Error::system("writing a manifest"))?;
            resources.push(name);
        }
        list(&mut text, "resources", &resources);
        list(
            &mut text,
            "components",
            &relative_paths(folder, &self.components)?,
        );
        if !self.patches.is_empty() {
            text.push_str("patches:\n");
            text.push_str(&self.patches);
        }
        text.push_str(&images::kustomize());
        fs::write(folder.join("kustomization.yaml"), text)
            .map_err(Error::system("writing a kustomization"))
    }
}

fn relative_paths(folder: &Path, entries: &[String]) -> Result<Vec<String>> {
    let manifests = fs::canonicalize(MANIFESTS).map_err(Error::system("finding the manifests"))?;
    let folder = fs::canonicalize(folder).map_err(Error::system("finding a folder"))?;
    let up = "../".repeat(folder.components().count().saturating_sub(1));
    entries
        .iter()
        .map(|entry| {
            let path = manifests.join(entry);
            if !path.is_dir() {
                return Err(Error::Missing { path });
            }
            let below_root = path.strip_prefix("/").unwrap_or(&path);
            Ok(format!("{up}{}", below_root.display()))
        })
        .collect()
}

fn target() -> PathBuf {
    testbed::target_folder().join("acceptance")
}
