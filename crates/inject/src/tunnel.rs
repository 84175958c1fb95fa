//! The keys of encrypted tunnels: the volume with them, where it is mounted, and the variables that name the files.
//!
//! In: the name of a Secret, and the pod that is there. Out: the parts of the sidecar and of the pod, and the step that
//! adds, replaces or removes the volume. `manifests/components/sidecar-tunnel` is compared with it by
//! `the_component_with_keys_is_this_sidecar`.
//!
//! The volume is optional: a missing Secret must not keep the application's pod from starting. podspan reads the files
//! when they are there. They have the mode that volumes have by default, because podspan is an unprivileged user.
//!
//! A volume of this name is podspan's if podspan's container mounts it, and if it has no field that podspan never
//! writes, except for what the API server adds. Everything else of this name is refused.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;
use thiserror::Error;

use crate::refused::{Name, Reason};
use crate::sidecar::NAME;
use crate::step::{List, Step, rest};
use crate::tree::Tree;

/// The annotation that names the Secret, without its prefix.
pub(crate) const ANNOTATION: &str = "tunnel-secret";

/// The volume.
pub(crate) const VOLUME: &str = "podspan-tunnel";

/// Where it is mounted.
pub(crate) const PATH: &str = "/etc/podspan/tunnel";

/// The variables with the files of the keys.
pub(crate) const VARIABLES: [(&str, &str); 2] = [
    ("WG_SENSOR_KEY_FILE", "/etc/podspan/tunnel/sensor-key"),
    ("WG_PRESHARED_KEY_FILE", "/etc/podspan/tunnel/preshared-key"),
];

/// What the API server gives to a volume without a mode: 0644.
const DEFAULT_MODE: u32 = 0o644;

/// The name of a Secret: an RFC 1123 subdomain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretName(String);

/// A text that is not the name of a Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "it is not the name of a Secret: lower-case letters, digits, - and ., at most {longest}, with a letter or digit at \
     both ends and beside each dot",
    longest = SecretName::LONGEST
)]
pub struct NotASecretName;

impl SecretName {
    /// The longest name.
    pub const LONGEST: usize = 253;

    /// A regular expression (RE2) for all names, and for longer ones.
    pub(crate) const PATTERN: &str =
        "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

    /// A valid one: what `kubectl podspan keys` calls it.
    pub const EXAMPLE: &str = "podspan-tunnel";

    /// [`Self::EXAMPLE`].
    pub(crate) fn example() -> Self {
        Self(Self::EXAMPLE.to_owned())
    }
}

impl FromStr for SecretName {
    type Err = NotASecretName;

    fn from_str(text: &str) -> Result<Self, NotASecretName> {
        let end = |byte: Option<&u8>| {
            byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        let is_part = |part: &str| {
            let bytes = part.as_bytes();
            let inner = |byte: &u8| end(Some(byte)) || *byte == b'-';
            end(bytes.first()) && end(bytes.last()) && bytes.iter().all(inner)
        };
        if text.len() > Self::LONGEST || !text.split('.').all(is_part) {
            return Err(NotASecretName);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The volume of a Secret.
pub(crate) fn volume(secret: &SecretName) -> Tree {
    let source = vec![
        ("secretName", Tree::text(&secret.0)),
        ("optional", Tree::Bool(true)),
    ];
    Tree::Map(vec![
        ("name", Tree::text(VOLUME)),
        ("secret", Tree::Map(source)),
    ])
}

/// The field `volumeMounts` of podspan's container.
pub(crate) fn mounts() -> Tree {
    Tree::List(vec![Tree::Map(vec![
        ("name", Tree::text(VOLUME)),
        ("mountPath", Tree::text(PATH)),
        ("readOnly", Tree::Bool(true)),
    ])])
}

/// The variables of podspan's container.
pub(crate) fn variables() -> Vec<Tree> {
    let variable = |(name, file): (&str, &str)| {
        Tree::Map(vec![
            ("name", Tree::text(name)),
            ("value", Tree::text(file)),
        ])
    };
    VARIABLES.map(variable).into()
}

/// Whether this is podspan's mount.
pub(crate) fn is_mount(mount: &Value) -> bool {
    mounts()
        .value()
        .as_array()
        .is_some_and(|own| own.contains(mount))
}

/// Whether a container has podspan's mount.
pub(crate) fn has_mount(container: &Value) -> bool {
    let mounts = container["volumeMounts"].as_array();
    mounts.is_some_and(|mounts| mounts.iter().any(is_mount))
}

/// The name of the Secret in podspan's volume; `None` without such a volume.
pub(crate) fn secret(spec: &Value) -> Option<&str> {
    let (_, volume) = places(spec).into_iter().next()?;
    volume["secret"]["secretName"].as_str()
}

/// What gives the pod the volume. `is_mounted`: whether a container of podspan has the mount already.
pub(crate) fn plan_inject(
    spec: &Value,
    is_mounted: bool,
    secret: &SecretName,
) -> Result<Option<Step>, Reason> {
    let wanted = volume(secret);
    let Some((place, found)) = own(spec, is_mounted)? else {
        return Ok(Some(match &spec["volumes"] {
            Value::Array(entries) if !entries.is_empty() => Step::Append(List::Volumes, wanted),
            Value::Null if spec.get("volumes").is_none() => Step::AddList(List::Volumes, wanted),
            _ => Step::FillList(List::Volumes, wanted),
        }));
    };
    let mut is_same = found.clone();
    if let Some(source) = is_same["secret"].as_object_mut() {
        source.remove("defaultMode");
    }
    let is_same = is_same == wanted.value();
    Ok((!is_same).then_some(Step::Replace(List::Volumes, place, wanted)))
}

/// What removes the volume. `restore`: the text that stood there before.
pub(crate) fn plan_remove(
    spec: &Value,
    is_mounted: bool,
    restore: Option<&str>,
) -> Result<Option<Step>, Reason> {
    if !is_mounted {
        return Ok(None);
    }
    let Some((place, _)) = own(spec, is_mounted)? else {
        return Ok(None);
    };
    if let Some(name) = other_mount(spec) {
        return Err(foreign(format!("the container {} mounts it", Name(name))));
    }
    let rest = rest(&spec["volumes"], restore);
    Ok(Some(Step::Remove(List::Volumes, place, rest)))
}

/// The place of podspan's volume.
fn own(spec: &Value, is_mounted: bool) -> Result<Option<(usize, &Value)>, Reason> {
    match places(spec).as_slice() {
        [] => Ok(None),
        _ if !is_mounted => Err(foreign("podspan's container does not mount it")),
        [(place, volume)] => match not_podspan(volume) {
            None => Ok(Some((*place, *volume))),
            Some(field) => Err(foreign(format!(
                "it has {}, which podspan never sets",
                Name(field)
            ))),
        },
        _ => Err(foreign("there are several")),
    }
}

fn places(spec: &Value) -> Vec<(usize, &Value)> {
    let volumes = spec["volumes"].as_array().map_or(&[][..], Vec::as_slice);
    let numbered = (0..).zip(volumes);
    numbered
        .filter(|(_, volume)| volume["name"] == VOLUME)
        .collect()
}

fn foreign(why: impl Into<String>) -> Reason {
    Reason::ForeignVolume { why: why.into() }
}

/// A field of a volume that is not podspan's.
fn not_podspan(volume: &Value) -> Option<&str> {
    let fields = volume.as_object()?;
    let source = volume["secret"].as_object();
    let is_known = |name: &str| name == "name" || (name == "secret" && source.is_some());
    let mut others = fields.keys().filter(|name| !is_known(name));
    let mut of_source = source.into_iter().flatten().filter(|(name, value)| {
        let is_known = match name.as_str() {
            "secretName" => value.is_string(),
            "optional" => value.is_boolean(),
            "defaultMode" => *value == DEFAULT_MODE,
            _ => false,
        };
        !is_known
    });
    let other = others.next().or_else(|| Some(of_source.next()?.0));
    // A volume without a source is an emptyDir.
    let missing = source.is_none().then_some("emptyDir");
    other.map(String::as_str).or(missing)
}

/// The name of another container that mounts the volume.
fn other_mount(spec: &Value) -> Option<&str> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let containers = lists.iter().filter_map(|list| spec[*list].as_array());
    let mut others = containers.flatten().filter(|entry| entry["name"] != NAME);
    let other = others.find(|container| {
        let mounts = container["volumeMounts"].as_array();
        mounts.is_some_and(|mounts| mounts.iter().any(|mount| mount["name"] == VOLUME))
    })?;
    Some(other["name"].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets() {
        let longest = "a".repeat(SecretName::LONGEST);
        for name in [
            "a",
            "podspan-tunnel",
            "7.a-b.c",
            SecretName::EXAMPLE,
            &longest,
        ] {
            assert_eq!(name.parse::<SecretName>().unwrap().to_string(), name);
        }
        let too_long = format!("{longest}a");
        for text in [
            "", " a", "A", "a_b", "-a", "a-", ".a", "a.", "a..b", "a.-b", "a\n", "ä", &too_long,
        ] {
            assert_eq!(text.parse::<SecretName>(), Err(NotASecretName), "{text}");
        }
    }
}
