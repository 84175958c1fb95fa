//! Keys in files.
//!
//! In: the path in a setting. Out: a key or keys, or an error with the setting, the path and the reason, and without a
//! part of the file. A mounted Secret changes by a new link, in one step (`AtomicWriter` of the kubelet), so no half of
//! a file is read.

use core::fmt::Display;
use core::str::FromStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

/// A file with a key or keys.
#[derive(Debug, Clone)]
pub struct KeyFile {
    setting: &'static str,
    path: PathBuf,
    secret: &'static str,
}

/// A file without a key that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{setting}={}: {reason}", .path.display())]
pub struct KeyError {
    setting: &'static str,
    path: PathBuf,
    is_missing: bool,
    reason: String,
}

impl KeyError {
    /// Whether there is no such file. It may come later, as that of an optional Secret does.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        self.is_missing
    }
}

impl KeyFile {
    /// The file that a setting names. `secret`: what is mounted there, for the error if it is missing.
    #[must_use]
    pub fn new(setting: &'static str, path: &Path, secret: &'static str) -> Self {
        Self {
            setting,
            path: path.to_owned(),
            secret,
        }
    }

    /// The key or keys in it, and the text that they were read from.
    ///
    /// # Errors
    /// [`KeyError`] if the file is missing, cannot be read, or has none.
    pub fn read<T>(&self) -> Result<(T, Zeroizing<String>), KeyError>
    where
        T: FromStr<Err: Display>,
    {
        let wrong = |reason| KeyError {
            setting: self.setting,
            path: self.path.clone(),
            is_missing: false,
            reason,
        };
        let text = fs::read_to_string(&self.path).map(Zeroizing::new);
        let text = text.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => KeyError {
                is_missing: true,
                ..wrong(format!("there is no such file; mount {}", self.secret))
            },
            _ => wrong(format!("it cannot be read: {error}")),
        })?;
        let keys = text.parse();
        let keys = keys.map_err(|error: T::Err| wrong(error.to_string()))?;
        Ok((keys, text))
    }
}
