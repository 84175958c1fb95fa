//! The keys of the tunnels, from settings or files.
//!
//! In: each key, or its file. Out: keys, at the start and when a file has changed. A file that is missing at the start
//! may come later: the Secret is an optional volume, so that the application's pod starts without it, and the kubelet
//! adds the files about a minute after the Secret is made. Until all files are there, there are no keys. A file that is
//! missing or wrong later changes nothing: the keys in use stay, and the reason is logged once.
//!
//! No error and no log line contains a key.

use std::fmt::Display;
use std::str::FromStr;

use keys::{KeyError, KeyFile, PresharedKey, PrivateKey, PublicKey};
use settings::{Config, FilePath};
use tunnel::initiator::Identity;

/// What is mounted where the files are.
const SECRET: &str = "the Secret with the keys";

/// Where a key is.
#[derive(Clone)]
enum Source<T> {
    /// It is a setting's value.
    Value(T),
    /// It is in a file.
    File(KeyFile),
}

impl<T: Clone + FromStr<Err: Display>> Source<T> {
    /// `file`: the setting that names the file, and its value.
    fn of(value: Option<&T>, file: (&'static str, Option<&FilePath>)) -> Option<Self> {
        let (setting, path) = file;
        let file = || Some(KeyFile::new(setting, path?.as_str().as_ref(), SECRET));
        let value = value.cloned().map(Self::Value);
        value.or_else(|| file().map(Self::File))
    }

    fn read(&self) -> Result<T, KeyError> {
        match self {
            Self::Value(key) => Ok(key.clone()),
            Self::File(file) => Ok(file.read()?.0),
        }
    }
}

/// Where all keys are.
#[derive(Clone)]
pub(crate) struct Sources {
    sensor: Source<PublicKey>,
    preshared: Source<PresharedKey>,
    /// None: podspan makes a new private key at each start.
    private: Option<Source<PrivateKey>>,
}

impl Sources {
    /// Those of the settings; `None` if the settings have no keys.
    pub(crate) fn of(config: &Config) -> Option<Self> {
        let sensor_file = ("WG_SENSOR_KEY_FILE", config.wg_sensor_key_file.as_ref());
        let preshared_file = (
            "WG_PRESHARED_KEY_FILE",
            config.wg_preshared_key_file.as_ref(),
        );
        let private_file = ("WG_PRIVATE_KEY_FILE", config.wg_private_key_file.as_ref());
        Some(Self {
            sensor: Source::of(config.wg_sensor_key.as_ref(), sensor_file)?,
            preshared: Source::of(config.wg_preshared_key.as_ref(), preshared_file)?,
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
    /// A file that is wrong is an error before one that is missing.
    fn read(sources: &Sources) -> Result<Self, KeyError> {
        let private = sources.private.as_ref().map(Source::read).transpose();
        let (sensor, preshared) = (sources.sensor.read(), sources.preshared.read());
        let errors = [
            private.as_ref().err(),
            sensor.as_ref().err(),
            preshared.as_ref().err(),
        ];
        let wrong = errors
            .into_iter()
            .flatten()
            .find(|error| !error.is_missing())
            .cloned();
        if let Some(error) = wrong {
            return Err(error);
        }
        Ok(Self {
            sensor: sensor?,
            preshared: preshared?,
            identity: private?.map_or(Identity::Fresh, Identity::Fixed),
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
    /// None until all files are there.
    keys: Option<Keys>,
    /// Why they could not be read the last time.
    error: Option<KeyError>,
}

impl KeyFiles {
    /// Reads the keys for the first time. A file that is missing is no error.
    pub(crate) fn open(sources: Sources) -> Result<Self, KeyError> {
        let (keys, error) = match Keys::read(&sources) {
            Ok(keys) => (Some(keys), None),
            Err(error) if error.is_missing() => {
                tracing::warn!(
                    "{error}. No sensor with a tunnel is used until it is there; it is read again all the time. The \
                     command kubectl podspan keys ... | kubectl create -f - makes the Secret"
                );
                (None, Some(error))
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            sources,
            keys,
            error,
        })
    }

    /// The keys in use; `None` if there were none yet.
    pub(crate) const fn keys(&self) -> Option<&Keys> {
        self.keys.as_ref()
    }

    /// Reads the files again; returns whether a key has changed.
    pub(crate) fn read_again(&mut self) -> bool {
        match Keys::read(&self.sources) {
            Ok(keys) => {
                self.error = None;
                let before = self.keys.as_ref();
                let has_changed = before.is_none_or(|before| !keys.is_same(before));
                self.keys = Some(keys);
                has_changed
            }
            Err(error) => {
                if self.error.as_ref() != Some(&error) {
                    let meanwhile = if self.keys.is_some() {
                        "the keys read before stay in use"
                    } else {
                        "no sensor with a tunnel is used until then"
                    };
                    tracing::warn!("{error}; {meanwhile}");
                    self.error = Some(error);
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use zeroize::Zeroizing;

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
        fs::write(&path, format!("{}\n", *preshared())).unwrap();
        let mut files = KeyFiles::open(sources).unwrap();
        assert!(!files.read_again());
        fs::write(&path, preshared()).unwrap();
        let key = |files: &KeyFiles| files.keys().unwrap().preshared.clone();
        let before = key(&files);
        assert!(files.read_again() && key(&files) != before);
        assert!(!files.read_again());

        fs::write(&path, "x").unwrap();
        assert!(!files.read_again() && files.error.is_some());
        fs::write(&path, preshared()).unwrap();
        assert!(files.read_again() && files.error.is_none());
    }

    #[test]
    fn a_file_that_comes_after_the_start_is_read_and_a_wrong_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("preshared-key");
        let sources = sources(&[("WG_PRESHARED_KEY_FILE", path.to_str().unwrap())]);
        let mut files = KeyFiles::open(sources).unwrap();
        let error = files.error.as_ref().unwrap().to_string();
        let expected = format!(
            "WG_PRESHARED_KEY_FILE={}: there is no such file",
            path.display()
        );
        assert!(error.starts_with(&expected), "{error}");
        assert!(!files.read_again() && files.keys().is_none());
        fs::write(&path, "x").unwrap();
        assert!(!files.read_again() && files.keys().is_none());
        fs::write(&path, preshared()).unwrap();
        assert!(files.read_again() && files.keys().is_some() && files.error.is_none());
        assert!(!files.read_again());
        // As before.
        fs::remove_file(&path).unwrap();
        assert!(!files.read_again() && files.keys().is_some());
    }

    #[test]
    fn a_wrong_file_is_an_error_at_the_start_also_beside_a_missing_one() {
        let folder = tempfile::tempdir().unwrap();
        let [wrong, missing] = ["wrong", "missing"].map(|name| folder.path().join(name));
        fs::write(&wrong, "x").unwrap();
        for (preshared, private) in [(&wrong, &missing), (&missing, &wrong)] {
            let sources = sources(&[
                ("WG_PRESHARED_KEY_FILE", preshared.to_str().unwrap()),
                ("WG_PRIVATE_KEY_FILE", private.to_str().unwrap()),
            ]);
            let error = KeyFiles::open(sources).err().unwrap().to_string();
            assert!(
                error.contains(wrong.to_str().unwrap()) && !error.contains("no such file"),
                "{error}"
            );
        }
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
