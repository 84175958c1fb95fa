//! The Secret of `podspan-receive`.
//!
//! In: the object as `kubectl get -o yaml` or `-o json` prints it. Out: its keys, and the object with other pre-shared
//! keys. Everything else of it stays, but for the annotation of `kubectl apply`, which has a copy of the old keys, and
//! `managedFields`.
//!
//! Invariant: no error has a part of the input in it but names.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use inject::yaml;
use keys::{PresharedKey, PresharedKeys, PrivateKey};
use serde_json::Value;
use settings::{Namespace, ObjectName, Value as _};

use super::print::{Document, data};
use super::{Error, place};

const PRIVATE_KEY: &str = "private-key";
const PRESHARED_KEYS: &str = "preshared-keys";
/// Where `kubectl apply` keeps what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The Secret of `podspan-receive`.
#[derive(Debug)]
pub(super) struct SensorSecret {
    /// The object; its entries for the keys are those below when it is written.
    pub(super) object: Value,
    pub(super) private: PrivateKey,
    pub(super) preshared: PresharedKeys,
}

impl SensorSecret {
    /// Reads the object; `name` is where it comes from.
    pub(super) fn read(bytes: &[u8], name: &str) -> Result<Self, Error> {
        let name = || name.to_owned();
        let not_yaml = |place| Error::NotYaml {
            name: name(),
            place,
        };
        let mut objects = yaml::values(bytes).map_err(|error| not_yaml(line_of(&error)))?;
        objects.retain(|object| !object.is_null());
        let [object] = &mut objects[..] else {
            return Err(Error::NotOne {
                name: name(),
                count: objects.len(),
            });
        };
        let mut object = object.take();
        let kind = object["kind"].as_str().unwrap_or_default();
        if kind != "Secret" || object["apiVersion"] != "v1" {
            return Err(Error::NotSecret {
                name: name(),
                kind: kind.to_owned(),
            });
        }
        if !is_named(&object["metadata"]) {
            return Err(Error::NotNamed { name: name() });
        }
        let private = parsed(&object, PRIVATE_KEY)?;
        let preshared = parsed(&object, PRESHARED_KEYS)?;
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
            if let Some(annotations) = metadata
                .get_mut("annotations")
                .and_then(Value::as_object_mut)
            {
                annotations.remove(LAST_APPLIED);
            }
        }
        Ok(Self {
            object,
            private,
            preshared,
        })
    }

    /// Namespace and name.
    pub(super) fn place(&self) -> String {
        place(&self.object["metadata"])
    }

    /// With a new key behind the one that is there.
    pub(super) fn rotated(mut self, new: PresharedKey) -> Result<Document, Error> {
        self.check_mutable()?;
        if self.preshared.count() > 1 {
            return Err(Error::Begun(self.place()));
        }
        self.preshared = PresharedKeys::two(self.preshared.newest().clone(), new);
        Ok(self.document())
    }

    /// With the newest key alone.
    pub(super) fn finished(mut self) -> Result<Document, Error> {
        self.check_mutable()?;
        if self.preshared.count() < 2 {
            return Err(Error::NotBegun(self.place()));
        }
        self.preshared = PresharedKeys::one(self.preshared.newest().clone());
        Ok(self.document())
    }

    fn check_mutable(&self) -> Result<(), Error> {
        if self.object["immutable"] == true {
            return Err(Error::Immutable(self.place()));
        }
        Ok(())
    }

    /// The object with these keys.
    pub(super) fn document(self) -> Document {
        let valid = match self.preshared.count() {
            1 => "one pre-shared key is valid",
            _ => "two pre-shared keys are valid, the older one first",
        };
        let comment = format!(
            "For podspan-receive beside the sensor, and nobody else: who has it can pose as the sensor.\n\
             {valid}. The public key: {}",
            self.private.public()
        );
        let mut object = self.object;
        if let Some(texts) = object.get_mut("stringData").and_then(Value::as_object_mut) {
            texts.remove(PRIVATE_KEY);
            texts.remove(PRESHARED_KEYS);
        }
        object["data"][PRIVATE_KEY] = data(&self.private.to_base64()).into();
        object["data"][PRESHARED_KEYS] = data(&self.preshared.to_lines()).into();
        Document { comment, object }
    }
}

/// Where a text is wrong; what is wrong could have a part of a key in it.
fn line_of(error: &yaml::Error) -> String {
    match error {
        yaml::Error::NotUtf8(at) => format!("byte {at} is not UTF-8 text"),
        yaml::Error::Broken(broken) => format!("line {}, column {}", broken.line, broken.column),
        yaml::Error::Objects(refusals) => {
            let line = refusals.first().map_or(1, |refusal| refusal.line);
            format!("the object at line {line}")
        }
    }
}

/// Whether the names are such, so that they can be in comments and errors.
fn is_named(metadata: &Value) -> bool {
    let name = metadata["name"].as_str().unwrap_or_default();
    let namespace = &metadata["namespace"];
    let is_namespace = |text: &str| Namespace::parse(text).is_ok();
    ObjectName::parse(name).is_ok()
        && (namespace.is_null() || namespace.as_str().is_some_and(is_namespace))
}

/// The value of an entry.
fn parsed<T>(object: &Value, entry: &'static str) -> Result<T, Error>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let secret = || place(&object["metadata"]);
    let wrong = |reason: String| Error::Entry {
        secret: secret(),
        entry,
        reason,
    };
    // As the API server does: `stringData` is written over `data`.
    let text = match (&object["stringData"][entry], &object["data"][entry]) {
        (Value::String(text), _) => text.clone(),
        (_, Value::String(text)) => {
            let bytes = STANDARD.decode(text.trim_ascii());
            let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
            text.ok_or_else(|| wrong("it is not base64 of a text, as data has it".to_owned()))?
        }
        _ => {
            return Err(Error::NoEntry {
                secret: secret(),
                entry,
            });
        }
    };
    text.parse()
        .map_err(|error: T::Err| wrong(error.to_string()))
}
