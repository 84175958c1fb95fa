//! Where etcd, kube-apiserver, kube-controller-manager and kubectl come from.
//!
//! `KUBEBUILDER_ASSETS`, the variable that the tools of the Kubernetes project use for the same
//! purpose, names a folder with them. Without it they are built from the Go modules in this crate's
//! `kubernetes/` folder: `src/programs.rs` says how.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;

use super::error::Error;
use crate::programs::{CONTROL_PLANE, KUBE_APISERVER, Release};

/// The binaries of a control plane.
#[derive(Clone, Debug)]
pub struct Binaries {
    source: Source,
    /// The API server of another release than the other programs.
    api_server: Option<PathBuf>,
}

#[derive(Clone, Debug)]
enum Source {
    /// One folder with all of them.
    Given(PathBuf),
    /// The path of each.
    Built(BTreeMap<&'static str, PathBuf>),
}

impl Binaries {
    /// Finds the binaries, or builds them: about four minutes on two cores the first
    /// time, milliseconds later.
    ///
    /// # Errors
    /// [`Error::MissingAsset`] when `KUBEBUILDER_ASSETS` is set and incomplete; [`Error::Program`]
    /// when it is not set and there is no Go, or building fails.
    pub fn find() -> Result<Self, Error> {
        let source = match env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty()) {
            Some(folder) => given(folder.into()),
            None => built(),
        };
        Ok(Self {
            source: source?,
            api_server: None,
        })
    }

    /// The same with the API server of a release. It is built if it is not of the default release, also where
    /// `KUBEBUILDER_ASSETS` is set.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn of(release: Release) -> Result<Self, Error> {
        let mut binaries = Self::find()?;
        if release != Release::default() {
            binaries.api_server = Some(release.api_server().find()?);
        }
        Ok(binaries)
    }

    /// The path of one of them.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        if let Some(path) = self
            .api_server
            .as_ref()
            .filter(|_| name == KUBE_APISERVER.name)
        {
            return path.clone();
        }
        match &self.source {
            Source::Given(folder) => folder.join(name),
            Source::Built(paths) => paths.get(name).cloned().unwrap_or_else(|| name.into()),
        }
    }
}

/// `folder` as `KUBEBUILDER_ASSETS` has it: kube-controller-manager is not part of the usual
/// archives, so its absence is an error only for those who start it.
fn given(folder: PathBuf) -> Result<Source, Error> {
    for binary in ["etcd", "kube-apiserver", "kubectl"] {
        if !folder.join(binary).is_file() {
            return Err(Error::MissingAsset { folder, binary });
        }
    }
    Ok(Source::Given(folder))
}

fn built() -> Result<Source, Error> {
    let mut paths = BTreeMap::new();
    for program in CONTROL_PLANE {
        paths.insert(program.name, program.find()?);
    }
    Ok(Source::Built(paths))
}

#[cfg(test)]
mod tests {
    use super::given;
    use crate::kubernetes::Error;

    #[test]
    fn an_incomplete_assets_folder_names_the_missing_binary() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("etcd"), "").unwrap();
        let error = given(folder.path().to_owned()).unwrap_err();
        assert!(
            matches!(
                &error,
                Error::MissingAsset {
                    binary: "kube-apiserver",
                    ..
                }
            ),
            "{error}"
        );
        assert!(error.to_string().contains("KUBEBUILDER_ASSETS"), "{error}");
    }
}
