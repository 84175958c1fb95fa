//! podspan's settings as annotations: their names.
//!
//! In: the table of settings, which whoever injects brings along. Out: which names of annotations there are,
//! and why another one is none. An unknown one is refused: a mistyped annotation would otherwise have no
//! effect, and nobody would see it.

use crate::given::Origin;
use crate::refused::Reason;
use crate::sidecar::DOWNWARD;
use crate::tunnel;

/// What all names of annotations begin with.
pub const PREFIX: &str = "podspan.dev/";

/// Annotations that set no variable of their own.
pub(crate) const OTHER: [&str; 9] = [
    "cpu",
    "memory",
    tunnel::ANNOTATION,
    "containers",
    "host-network",
    "filter",
    "mirror",
    "port",
    "receiver",
];

/// Of these, the ones that describe one pod.
const ONE_POD: [&str; 5] = ["containers", "host-network", "mirror", "port", "receiver"];

/// Settings that injection cannot set, with the reason.
const NOT_SETTABLE: [(&str, &str); 3] = [
    (
        "KUBERNETES_SERVICE_HOST",
        "the kubelet sets this variable in every container",
    ),
    (
        "KUBERNETES_SERVICE_PORT",
        "the kubelet sets this variable in every container",
    ),
    (
        "KUBECONFIG",
        "podspan is injected without a volume for such a file",
    ),
];

/// Settings that are keys or files with them. No annotation sets them: everybody who reads pods would read the
/// pre-shared key there, and whoever writes a pod would choose who can decrypt its copies.
const KEYS: [&str; 5] = [
    "WG_SENSOR_KEY",
    "WG_SENSOR_KEY_FILE",
    "WG_PRESHARED_KEY",
    "WG_PRESHARED_KEY_FILE",
    "WG_PRIVATE_KEY_FILE",
];

/// Whether a setting is a key or a file with one.
pub(crate) fn is_key(variable: &str) -> bool {
    KEYS.contains(&variable)
}

/// One setting of podspan: a variable, and the annotation that sets it.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The name of the environment variable, such as `SENSOR_PORT`.
    pub variable: &'static str,
    /// Whether a value is valid; else the reason, as a part of a sentence.
    pub check: fn(&str) -> Result<(), String>,
    /// A valid value.
    pub example: &'static str,
    /// What is valid, as a part of a sentence.
    pub expected: &'static str,
    /// A regular expression (RE2) from `^` to `$` that matches each valid value, and few others.
    pub pattern: &'static str,
}

impl Setting {
    /// The name of its annotation; `None` if no annotation sets it: the downward API sets four variables and
    /// the kubelet two, a file needs a volume, keys are in no annotation, and podspan itself follows the annotation
    /// `podspan.dev/filter`.
    #[must_use]
    pub fn annotation(&self) -> Option<String> {
        self.name().map(|name| format!("{PREFIX}{name}"))
    }

    /// The same without [`PREFIX`], as in [`Options::defaults`](crate::Options::defaults).
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let variable = self.variable;
        let is_other = variable == "FILTER"
            || is_key(variable)
            || DOWNWARD.iter().any(|(name, _)| *name == variable)
            || NOT_SETTABLE.iter().any(|(name, _)| *name == variable);
        // podspan.dev/receiver is an annotation of sensors.
        match variable {
            _ if is_other => None,
            "RECEIVER" => Some("sensor-receiver".to_owned()),
            variable => Some(variable.to_ascii_lowercase().replace('_', "-")),
        }
    }
}

/// Whether there is an annotation of this name, which is without [`PREFIX`].
pub(crate) fn is_known(name: &str, settings: &[Setting]) -> bool {
    OTHER.contains(&name)
        || settings
            .iter()
            .any(|setting| setting.name().as_deref() == Some(name))
}

/// Why there is no such annotation or default.
pub(crate) fn refused(origin: Origin, name: &str, settings: &[Setting]) -> Option<Reason> {
    let not_settable = |why| {
        Some(Reason::NotSettable {
            origin,
            name: name.to_owned(),
            why,
        })
    };
    if origin == Origin::Default && ONE_POD.contains(&name) {
        return not_settable("it describes one pod, so it can only be an annotation of the pod");
    }
    if is_known(name, settings) {
        return None;
    }
    let variable = name.to_ascii_uppercase().replace('-', "_");
    if DOWNWARD.iter().any(|(name, _)| *name == variable) {
        return not_settable("podspan gets this value from the pod itself");
    }
    if is_key(&variable) {
        return not_settable(
            "keys belong into a Secret, because everybody who reads pods reads this. Name it with \
             podspan.dev/tunnel-secret",
        );
    }
    if let Some((_, why)) = NOT_SETTABLE.iter().find(|(name, _)| *name == variable) {
        return not_settable(why);
    }
    match name {
        "image" => return not_settable("whoever injects podspan chooses the image"),
        "inject" => return not_settable("podspan.dev/inject is a label"),
        _ => (),
    }
    let settable = |known: &String| origin == Origin::Annotation || !ONE_POD.contains(&&**known);
    let others = OTHER.into_iter().map(str::to_owned);
    let nearest = others
        .chain(settings.iter().filter_map(Setting::name))
        .filter(settable)
        .min_by_key(|known| distance(known, name))
        .unwrap_or_default();
    Some(Reason::Unknown {
        origin,
        name: name.to_owned(),
        nearest,
    })
}

/// The number of letters to insert, delete or replace (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(100).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in (1..).zip(a.chars().take(100)) {
        let mut diagonal = i - 1;
        let mut previous = i;
        let mut next = vec![i];
        for (right, above) in b.iter().zip(row.iter().skip(1)) {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = *above;
            previous = replaced.min(above + 1).min(previous + 1);
            next.push(previous);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_is_the_number_of_changed_letters() {
        for (a, b, expected) in [
            ("", "", 0),
            ("sensor", "sensor", 0),
            ("senser", "sensor", 1),
            ("snesor", "sensor", 2),
            ("", "abc", 3),
            ("abc", "", 3),
            ("vin", "vni", 2),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
