//! The folders of the policy in the repository are what the crate `inject` generates.

use std::fs;
use std::path::PathBuf;

use inject::policy::{Version, files};
use settings::SETTINGS;

use crate::Outcome;

/// A folder of `manifests`.
pub(crate) fn manifests(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../manifests")
        .join(path)
}

/// With `GOLDEN=write` in the environment, the files are written.
pub(crate) fn generated() -> Outcome {
    let write = std::env::var_os("GOLDEN").is_some_and(|value| value == "write");
    for version in [Version::V1, Version::V1Beta1] {
        let (_, name) = version.names();
        let folder = manifests("injection").join(name);
        let files = files(version, &SETTINGS);
        if write {
            fs::create_dir_all(&folder)?;
        }
        for (file, text) in &files {
            let path = folder.join(file);
            if write {
                fs::write(&path, text)?;
            }
            let found = fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(
                found,
                *text,
                "{} is not up to date: GOLDEN=write cargo test -p acceptance --test injection files",
                path.display()
            );
        }
        let found = fs::read_dir(&folder)?.count();
        assert_eq!(
            found,
            files.len(),
            "{} has a file too many",
            folder.display()
        );
    }
    Ok(())
}
