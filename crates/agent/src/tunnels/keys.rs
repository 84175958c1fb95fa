//! The keys of the tunnels, from settings or files.
//!
//! In: each key, or its file. Out: keys, at the start and when a file has changed. A mounted Secret changes by a new
//! link, in one step (`AtomicWriter` of the kubelet), so no half of a file is read. A file that is missing or wrong
//! later changes nothing: the keys in use stay, and the reason is logged once.
//!
//! No error and no log line contains a key.

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use settings::{Config, FilePath, PresharedKeyText, PublicKeyText};
use thiserror::Error;
use tunnel::initiator::Identity;
use tunnel::{PresharedKey, PrivateKey, PublicKey};
use zeroize::Zeroizing;

/// A file without a key that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{setting}={}: {reason}", .path.display())]
pub(crate) struct KeyError {
    setting: &'static str,
    path: PathBuf,
    reason: String,
}

/// Where a key is.
#[derive(Clone)]
enum Source {
    /// It is a setting's value.
    Text(Zeroizing<String>),
    /// It is in a file.
    File(&'static str, PathBuf),
}

impl Source {
    /// `file`: the setting that names the file, and its value.
    fn of(text: Option<&str>, file: (&'static str, Option<&FilePath>)) -> Option<Self> {
        let (setting, path) = file;
        let text = text.map(|text| Self::Text(Zeroizing::new(text.to_owned())));
        text.or_else(|| Some(Self::File(setting, path?.as_str().into())))
    }

    fn read<T: FromStr<Err: Display>>(&self) -> Result<T, KeyError> {
        let (setting, path, text) = match self {
            // The settings have checked it in the same way.
            Self::Text(text) => ("a key of the environment", Path::new(""), text.clone()),
            Self::File(setting, path) => (*setting, path.as_path(), read_file(setting, path)?),
        };
        text.parse().map_err(|error: T::Err| KeyError {
            setting,
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }
}

fn read_file(setting: &'static str, path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let read = fs::read_to_string(path).map(Zeroizing::new);
    read.map_err(|error| KeyError {
        setting,
        path: path.to_owned(),
        reason: match error.kind() {
            io::ErrorKind::NotFound => {
                "there is no such file; mount the Secret with the keys".to_owned()
            }
            _ => format!("it cannot be read: {error}"),
        },
    })
}

/// Where all keys are.
#[derive(Clone)]
pub(crate) struct Sources {
    sensor: Source,
    preshared: Source,
    /// None: podspan makes a new private key at each start.
    private: Option<Source>,
}

impl Sources {
    /// Those of the settings; `None` if the settings have no keys.
    pub(crate) fn of(config: &Config) -> Option<Self> {
        let sensor = config.wg_sensor_key.as_ref();
        let preshared = config.wg_preshared_key.as_ref();
        let sensor_file = ("WG_SENSOR_KEY_FILE", config.wg_sensor_key_file.as_ref());
        let preshared_file = (
            "WG_PRESHARED_KEY_FILE",
            config.wg_preshared_key_file.as_ref(),
        );
        let private_file = ("WG_PRIVATE_KEY_FILE", config.wg_private_key_file.as_ref());
        Some(Self {
            sensor: Source::of(sensor.map(PublicKeyText::as_str), sensor_file)?,
            preshared: Source::of(preshared.map(PresharedKeyText::secret), preshared_file)?,
            private: Source::of(None, private_file),
        })
    }
}

/// All keys.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    /// The sensor's public key.
    pub(crate) sensor: PublicKey,
    /// The group's pre-shared key.
    pub(crate) preshared: PresharedKey,
    /// podspan's private key.
    pub(crate) identity: Identity,
}

impl Keys {
    fn read(sources: &Sources) -> Result<Self, KeyError> {
        let private: Option<PrivateKey> = sources.private.as_ref().map(Source::read).transpose()?;
        Ok(Self {
            sensor: sources.sensor.read()?,
            preshared: sources.preshared.read()?,
            identity: private.map_or(Identity::Fresh, Identity::Fixed),
        })
    }

    /// Whether no key differs.
    fn is_same(&self, other: &Self) -> bool {
        let public = |keys: &Self| match &keys.identity {
            Identity::Fresh => None,
            Identity::Fixed(private) => Some(private.public()),
        };
        self.sensor == other.sensor
            && self.preshared == other.preshared
            && public(self) == public(other)
    }
}

/// The keys in use, and where they come from.
pub(crate) struct KeyFiles {
    sources: Sources,
    keys: Keys,
    /// Why they could not be read the last time.
    error: Option<KeyError>,
}

impl KeyFiles {
    /// Reads the keys for the first time.
    pub(crate) fn open(sources: Sources) -> Result<Self, KeyError> {
        let keys = Keys::read(&sources)?;
        Ok(Self {
            sources,
            keys,
            error: None,
        })
    }

    /// The keys in use.
    pub(crate) const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Reads the files again; returns the keys if they have changed.
    pub(crate) fn changed(&mut self) -> Option<&Keys> {
        match Keys::read(&self.sources) {
            Ok(keys) => {
                self.error = None;
                if keys.is_same(&self.keys) {
                    return None;
                }
                self.keys = keys;
                Some(&self.keys)
            }
            Err(error) => {
                if self.error.as_ref() != Some(&error) {
                    tracing::warn!("{error}; the keys read before stay in use");
                    self.error = Some(error);
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preshared() -> Zeroizing<String> {
        PresharedKey::generate().to_base64()
    }

    /// The sources of these settings, and of a sensor's key.
    fn sources(settings: &[(&str, &str)]) -> Sources {
        let key = PrivateKey::generate().public().to_string();
        let base = [("SENSOR", "zeek"), ("WG_SENSOR_KEY", &key)];
        let all = base.iter().chain(settings);
        let pairs = all.map(|(name, value)| (name.into(), value.into()));
        Sources::of(&Config::from_vars(pairs).unwrap()).unwrap()
    }

    #[test]
    fn a_changed_file_is_read_and_a_wrong_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("preshared-key");
        let sources = sources(&[("WG_PRESHARED_KEY_FILE", path.to_str().unwrap())]);
        let error = KeyFiles::open(sources.clone()).err().unwrap().to_string();
        let expected = format!(
            "WG_PRESHARED_KEY_FILE={}: there is no such file",
            path.display()
        );
        assert!(error.starts_with(&expected), "{error}");

        fs::write(&path, format!("{}\n", *preshared())).unwrap();
        let mut files = KeyFiles::open(sources).unwrap();
        assert!(files.changed().is_none());
        fs::write(&path, preshared()).unwrap();
        let before = files.keys().preshared.clone();
        assert!(files.changed().unwrap().preshared != before);
        assert!(files.changed().is_none());

        fs::write(&path, "x").unwrap();
        assert!(files.changed().is_none() && files.error.is_some());
        fs::write(&path, preshared()).unwrap();
        assert!(files.changed().is_some() && files.error.is_none());
    }

    #[test]
    fn an_error_names_the_setting_and_the_file_and_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("private-key");
        let text = PrivateKey::generate().to_base64().replacen('=', "", 1);
        fs::write(&path, &text).unwrap();
        let sources = sources(&[
            ("WG_PRESHARED_KEY", preshared().as_str()),
            ("WG_PRIVATE_KEY_FILE", path.to_str().unwrap()),
        ]);
        let error = KeyFiles::open(sources).err().unwrap().to_string();
        let expected = format!("WG_PRIVATE_KEY_FILE={}: a private key is", path.display());
        assert!(error.starts_with(&expected), "{error}");
        assert!(!error.contains(&text), "{error}");
    }
}
