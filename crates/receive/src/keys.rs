//! The files with the keys.
//!
//! In: paths. Out: keys, at the start and when a file has changed. A mounted Secret changes by a new link, in one step
//! (`AtomicWriter` of the kubelet), so no half of a file is read. A file that is missing or wrong later changes
//! nothing: the keys in use stay, and the reason is logged once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::SystemTime;

use thiserror::Error;
use tracing::{info, warn};
use tunnel::{PresharedKeys, PrivateKey};
use zeroize::Zeroizing;

use crate::variable::{PRESHARED_KEYS_FILE, PRIVATE_KEY_FILE};

/// A file of keys that cannot be used.
#[derive(Debug, Error)]
#[error("{setting}={}: {reason}", .path.display())]
pub struct KeyError {
    setting: &'static str,
    path: PathBuf,
    reason: String,
}

/// A key or keys, and the text that they were read from.
type Parsed<T> = (T, Zeroizing<String>);

fn read<T: FromStr>(setting: &'static str, path: &Path) -> Result<Parsed<T>, KeyError>
where
    T::Err: std::fmt::Display,
{
    let wrong = |reason| KeyError {
        setting,
        path: path.to_owned(),
        reason,
    };
    let text = fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| {
            wrong(match error.kind() {
                io::ErrorKind::NotFound => {
                    "there is no such file; mount the Secret of the sensor".to_owned()
                }
                _ => format!("it cannot be read: {error}"),
            })
        })?;
    match text.parse() {
        Ok(keys) => Ok((keys, text)),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// Reads the private key.
pub(crate) fn private(path: &Path) -> Result<PrivateKey, KeyError> {
    let (key, _) = read(PRIVATE_KEY_FILE.name, path)?;
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
    path: PathBuf,
    text: Zeroizing<String>,
    state: FileState,
    /// The last reason why the file could not be used.
    reason: Option<String>,
}

impl PresharedFile {
    /// Reads the file for the first time.
    pub(crate) fn open(path: PathBuf) -> Result<(Self, PresharedKeys), KeyError> {
        let (keys, text) = read::<PresharedKeys>(PRESHARED_KEYS_FILE.name, &path)?;
        let file = Self {
            path,
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
        match read::<PresharedKeys>(PRESHARED_KEYS_FILE.name, &self.path) {
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
    use std::os::unix::fs::symlink;

    use tunnel::PresharedKey;

    use super::*;

    fn line() -> String {
        format!("{}\n", *PresharedKey::generate().to_base64())
    }

    #[test]
    fn changed_keys_are_read_once_and_a_wrong_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        fs::write(&path, line()).unwrap();
        let (mut file, keys) = PresharedFile::open(path.clone()).unwrap();
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
