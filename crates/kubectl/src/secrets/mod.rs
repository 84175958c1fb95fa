//! The keys of encrypted copies, as Secrets.
//!
//! In: nothing, or the Secret of `podspan-receive`. Out: Secrets for `podspan-receive` and for podspans, or that
//! Secret with other pre-shared keys. `sensor` is the Secret of `podspan-receive`, `print` writes documents.
//!
//! New random keys are made in two places: for both Secrets at once, and by `--rotate`, which writes only one Secret.
//! Everything else follows from the Secret in the cluster. So an output that is lost or made again changes no key, and
//! podspans never have a key before `podspan-receive` does. What is changed keeps its `resourceVersion`: the API server
//! refuses it if somebody else was quicker.

mod print;
mod sensor;

use std::io;

use keys::{PresharedKey, PresharedKeys, PrivateKey, PublicKey};
use serde_json::json;
use settings::Namespace;
use thiserror::Error;

use crate::arguments::KeysArguments;
use crate::console::Console;
pub(crate) use print::Form;
use print::{Document, data};
use sensor::SensorSecret;

/// Why nothing is printed. No text has a key in it.
#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot read {name}: {error}")]
    Read { name: String, error: io::Error },
    #[error("{name} is not YAML or JSON: {place}. {EXPECTED}")]
    NotYaml { name: String, place: String },
    #[error("{name} has {count} objects. {EXPECTED}")]
    NotOne { name: String, count: usize },
    #[error("{name} has an object of the kind {kind:?}, and no Secret. {EXPECTED}")]
    NotSecret { name: String, kind: String },
    #[error("{name} has a Secret whose name or namespace is not one of Kubernetes. {EXPECTED}")]
    NotNamed { name: String },
    #[error("the Secret {secret} has no {entry}, so it is not that of podspan-receive. {EXPECTED}")]
    NoEntry { secret: String, entry: &'static str },
    #[error("the Secret {secret} has a wrong {entry}: {reason}")]
    Entry {
        secret: String,
        entry: &'static str,
        reason: String,
    },
    #[error(
        "the Secret {0} is immutable, so its keys cannot be changed. Make one with another name (--sensor-name) and give \
         it to podspan-receive"
    )]
    Immutable(String),
    #[error(
        "the Secret {0} has two pre-shared keys: a rotation has begun. Give the newer one to podspans (without --rotate), \
         and then remove the older one (--finish)"
    )]
    Begun(String),
    #[error(
        "the Secret {0} has one pre-shared key: no rotation has begun, and nothing is to be removed"
    )]
    NotBegun(String),
    #[error(
        "the Secret of podspan-receive and one of podspans would both be {0}: give them different names \
         (--name, --sensor-name) or namespaces"
    )]
    Same(String),
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// What is to be given.
const EXPECTED: &str =
    "Give what this prints: kubectl get secret podspan-receive -n NAMESPACE -o yaml";

/// Prints Secrets.
pub(crate) fn run(arguments: &KeysArguments, console: &mut Console<'_>) -> Result<(), Error> {
    let (documents, next) = documents(arguments, console)?;
    print::write(&documents, arguments.output, console.output)?;
    if arguments.quiet {
        return Ok(());
    }
    if console.is_shown {
        writeln!(
            console.messages,
            "these keys are on a terminal: who sees it, or what it keeps, has them"
        )?;
    }
    Ok(next.map_or(Ok(()), |next| writeln!(console.messages, "{next}"))?)
}

/// What is printed, and what is to be done after it.
type Planned = (Vec<Document>, Option<&'static str>);

fn documents(arguments: &KeysArguments, console: &mut Console<'_>) -> Result<Planned, Error> {
    let Some(file) = &arguments.file else {
        return Ok((new(arguments)?, None));
    };
    let (name, bytes) = console.read(file);
    let read = |error| Error::Read {
        name: name.clone(),
        error,
    };
    let secret = SensorSecret::read(&bytes.map_err(read)?, &name)?;
    Ok(if arguments.rotate {
        let next = "next, when each podspan-receive has logged keys=2: give podspans the new key \
                    (kubectl podspan keys -f - -n NAMESPACE), and then remove the old one (--finish)";
        (vec![secret.rotated(PresharedKey::generate())?], Some(next))
    } else if arguments.finish {
        (vec![secret.finished()?], None)
    } else {
        let (public, newest) = (secret.private.public(), secret.preshared.newest());
        let place = secret.place();
        (for_podspans(arguments, public, newest, &place)?, None)
    })
}

/// Both Secrets with new keys.
fn new(arguments: &KeysArguments) -> Result<Vec<Document>, Error> {
    let (private, preshared) = (PrivateKey::generate(), PresharedKey::generate());
    let namespace = arguments.sensor_namespace.as_ref();
    let mut metadata = json!({"name": arguments.sensor_name.as_str()});
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.as_str().into();
    }
    let secret = SensorSecret {
        object: json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata}),
        private,
        preshared: PresharedKeys::one(preshared),
    };
    let public = secret.private.public();
    let podspans = for_podspans(
        arguments,
        public,
        secret.preshared.newest(),
        &secret.place(),
    )?;
    Ok([vec![secret.document()], podspans].concat())
}

/// A Secret for each namespace of podspans. `sensor` is where the other Secret is.
fn for_podspans(
    arguments: &KeysArguments,
    sensor_key: PublicKey,
    preshared: &PresharedKey,
    sensor: &str,
) -> Result<Vec<Document>, Error> {
    let mut namespaces: Vec<Option<&Namespace>> = arguments.namespaces.iter().map(Some).collect();
    if namespaces.is_empty() {
        namespaces.push(None);
    }
    let name = arguments.name.as_str();
    let mut documents = Vec::new();
    for (at, namespace) in namespaces.iter().enumerate() {
        if namespaces.iter().take(at).any(|before| before == namespace) {
            continue;
        }
        let mut metadata = json!({"name": name});
        if let Some(namespace) = namespace {
            metadata["namespace"] = namespace.as_str().into();
        }
        if place(&metadata) == sensor {
            return Err(Error::Same(sensor.to_owned()));
        }
        documents.push(Document {
            comment: format!(
                "For podspan{}: the container of podspan reads it. Who has it can send copies to the sensor, \
                 and read none.\nsensor-key is public: {sensor_key}",
                namespace.map_or_else(String::new, |namespace| format!(
                    " in the namespace {}",
                    namespace.as_str()
                ))
            ),
            object: json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata,
                "data": {
                    "sensor-key": data(&sensor_key.to_string()),
                    "preshared-key": data(&preshared.to_base64()),
                },
            }),
        });
    }
    Ok(documents)
}

/// Namespace and name, or the name alone.
fn place(metadata: &serde_json::Value) -> String {
    let text = |key: &str| metadata[key].as_str().unwrap_or_default();
    match text("namespace") {
        "" => text("name").to_owned(),
        namespace => [namespace, "/", text("name")].concat(),
    }
}
