//! The files with the keys.
//!
//! In: paths. Out: keys, at the start and when a file has changed. A file that is missing or wrong later changes
//! nothing: the keys in use stay, and the reason is logged once.

use std::path::Path;
use std::time::SystemTime;

use keys::{KeyError, KeyFile, PresharedKeys, PrivateKey};
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::variable::{PRESHARED_KEYS_FILE, PRIVATE_KEY_FILE};

/// What is mounted where the files are.
const SECRET: &str = "the Secret of the sensor";

/// Reads the private key.
pub(crate) fn private(path: &Path) -> Result<PrivateKey, KeyError> {
    let (key, _) = KeyFile::new(PRIVATE_KEY_FILE.name, path, SECRET).read()?;
    Ok(key)
}

/// What is known about the file of the pre-shared keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileState {
    /// How many keys are in use.
    pub(crate) keys: usize,
    /// When the file was last read without an error.
    pub(crate) read_at: SystemTime,
    /// How often it could not be read, or was wrong.
    pub(crate) failures: u64,
}

/// The pre-shared keys, and their file.
#[derive(Debug)]
pub(crate) struct PresharedFile {
    file: KeyFile,
    text: Zeroizing<String>,
    state: FileState,
    /// The last reason why the file could not be used.
    reason: Option<String>,
}

impl PresharedFile {
    /// Reads the file for the first time.
    pub(crate) fn open(path: &Path) -> Result<(Self, PresharedKeys), KeyError> {
        let file = KeyFile::new(PRESHARED_KEYS_FILE.name, path, SECRET);
        let (keys, text) = file.read::<PresharedKeys>()?;
        let file = Self {
            file,
            text,
            state: FileState {
                keys: keys.count(),
                read_at: SystemTime::now(),
                failures: 0,
            },
            reason: None,
        };
        Ok((file, keys))
    }

    pub(crate) const fn state(&self) -> FileState {
        self.state
    }

    /// The keys, if they have changed.
    pub(crate) fn changed(&mut self) -> Option<PresharedKeys> {
        match self.file.read::<PresharedKeys>() {
            Ok((keys, text)) => {
                self.reason = None;
                self.state.read_at = SystemTime::now();
                if *text == *self.text {
                    return None;
                }
                self.text = text;
                self.state.keys = keys.count();
                info!(
                    keys = self.state.keys,
                    "the pre-shared keys have changed; sessions stay"
                );
                Some(keys)
            }
            Err(error) => {
                self.state.failures += 1;
                let reason = error.to_string();
                if self.reason.as_ref() != Some(&reason) {
                    warn!("{reason}; the keys read before stay in use");
                    self.reason = Some(reason);
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use keys::PresharedKey;

    use super::*;

    fn line() -> String {
        format!("{}\n", *PresharedKey::generate().to_base64())
    }

    #[test]
    fn changed_keys_are_read_once_and_a_wrong_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        fs::write(&path, line()).unwrap();
        let (mut file, keys) = PresharedFile::open(&path).unwrap();
        assert_eq!((keys.count(), file.changed().is_some()), (1, false));

        fs::write(&path, [line(), line()].concat()).unwrap();
        assert_eq!(file.changed().unwrap().count(), 2);
        assert!(file.changed().is_none());

        fs::write(&path, "x").unwrap();
        assert!(file.changed().is_none());
        assert!(file.reason.as_ref().unwrap().contains("line 1"));
        fs::remove_file(&path).unwrap();
        assert!(file.changed().is_none());
        assert!(file.reason.as_ref().unwrap().contains("no such file"));
        let FileState { keys, failures, .. } = file.state();
        assert_eq!((keys, failures), (2, 2), "the keys read before stay in use");

        // As the kubelet does it.
        let other = folder.path().join("other");
        fs::write(&other, line()).unwrap();
        symlink(&other, &path).unwrap();
        assert_eq!(file.changed().unwrap().count(), 1);
        assert_eq!(file.reason, None);
    }

    #[test]
    fn an_error_names_setting_file_and_reason_and_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = line().replacen('=', "", 1);
        fs::write(&path, &key).unwrap();
        let error = private(&path).unwrap_err().to_string();
        let start = format!("PRIVATE_KEY_FILE={}: a private key is", path.display());
        assert!(error.starts_with(&start), "{error}");
        assert!(!error.contains(key.trim()), "{error}");
    }
}
