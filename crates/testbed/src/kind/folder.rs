//! The folder of a cluster: its name, what is called after it, and its lock.

use std::fs::File;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::{Error, Result};
use super::stages::Stages;
use crate::programs::{short, target_folder};

pub(super) fn kubeconfig_in(folder: &Path) -> PathBuf {
    folder.join("kubeconfig")
}

/// The folder of the cluster of this name, whether it is up or not; it is below the target folder.
///
/// # Errors
/// [`Error::Name`] where a cluster cannot be named so.
pub fn folder_of(name: &str) -> Result<PathBuf> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let first = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase());
    // `node` holds the node image.
    if !first || name.len() > 30 || !name.bytes().all(allowed) || name == "node" {
        return Err(Error::Name {
            name: name.to_owned(),
        });
    }
    Ok(target_folder().join("testbed-kind").join(name))
}

/// The name of the parent of the control groups of everything in the cluster of this folder, with
/// [`Source::Own`](super::Source::Own): another folder has another one.
#[must_use]
pub fn control_group_of(folder: &Path) -> String {
    let digest = Sha256::digest(folder.as_os_str().as_encoded_bytes());
    format!("podspan-kind-{}", short(&digest))
}

/// Keeps two commands on the same cluster apart.
pub(super) fn lock(folder: &Path, stages: &mut Stages<'_>) -> Result<File> {
    let path = folder.join("lock");
    let describe = || format!("locking {}", path.display());
    let file = File::create(&path).map_err(Error::io(describe()))?;
    if file.try_lock().is_err() {
        stages.report("waiting for another command on this cluster");
        file.lock().map_err(Error::io(describe()))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_are_refused() {
        for name in ["", "Big", "1st", "a/b", "node", &"a".repeat(31)] {
            assert!(matches!(folder_of(name), Err(Error::Name { .. })), "{name}");
        }
        assert!(
            folder_of("podspan-2")
                .unwrap()
                .ends_with("testbed-kind/podspan-2")
        );
    }

    #[test]
    fn each_folder_has_a_control_group_of_its_own() {
        let group = control_group_of(Path::new("/a/target/testbed-kind/podspan"));
        assert!(group.starts_with("podspan-kind-"), "{group}");
        assert_ne!(
            group,
            control_group_of(Path::new("/b/target/testbed-kind/podspan"))
        );
    }
}
