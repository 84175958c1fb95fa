//! krew, the plugin manager of kubectl, and the check of its manifests, which runs `kubectl krew install`.

use std::path::PathBuf;

use crate::programs::{Error, KUBECTL, Program};

const KREW: Program = Program::new("krew", "sigs.k8s.io/krew/cmd/krew", "kubernetes/krew");
const VALIDATE: Program = Program::new(
    "validate-krew-manifest",
    "sigs.k8s.io/krew/cmd/validate-krew-manifest",
    "kubernetes/krew",
);

/// The programs that a test of a manifest needs.
#[derive(Clone, Debug)]
pub struct Krew {
    /// Runs plugins.
    pub kubectl: PathBuf,
    /// The plugin manager, a plugin itself.
    pub krew: PathBuf,
    /// The check.
    pub validate: PathBuf,
}

/// Builds the programs where they are not there: a minute, once.
///
/// # Errors
/// [`Error::NoGo`] and [`Error::Build`] where building fails.
pub fn build_krew() -> Result<Krew, Error> {
    Ok(Krew {
        kubectl: KUBECTL.find()?,
        krew: KREW.find()?,
        validate: VALIDATE.find()?,
    })
}
