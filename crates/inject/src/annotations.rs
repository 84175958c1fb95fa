//! The annotations `podspan.dev/*` of a pod, and what they make of the sidecar.
//!
//! In: the pod and the table of settings. Out: a [`Sidecar`], or everything that is wrong.
//!
//! | annotation | read by |
//! |-|-|
//! | one for each setting: `SENSOR_PORT` is `podspan.dev/sensor-port` | here; it sets the variable |
//! | `podspan.dev/cpu`, `podspan.dev/memory` | here: request and limit |
//! | `podspan.dev/containers` | here; it becomes the variable `FILTER` |
//! | `podspan.dev/host-network` | here |
//! | `podspan.dev/filter`, `podspan.dev/mirror` | podspan while it runs; here only checked |
//! | `podspan.dev/port`, `podspan.dev/receiver` | other podspans, if the pod is a sensor |
//!
//! `podspan.dev/containers` and `podspan.dev/filter` together are refused, with the filter that joins both;
//! with `podspan.dev/annotations: off`, they are joined in the variable.
//! An unknown one is refused: a mistyped annotation would otherwise have no effect, and nobody would see it.
//! The image has no annotation: whoever injects chooses it, because a policy that permits `NET_RAW` to
//! podspan depends on it.

use serde_json::Value;

use crate::Options;
use crate::ports;
use crate::quantity::thousandths;
use crate::refused::Reason;
use crate::sidecar::{Amount, DOWNWARD, Sidecar};

/// What all names of annotations begin with.
pub const PREFIX: &str = "podspan.dev/";

/// Annotations that set no variable.
pub(crate) const OTHER: [&str; 8] = [
    "cpu",
    "memory",
    "containers",
    "host-network",
    "filter",
    "mirror",
    "port",
    "receiver",
];

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
    /// The name of its annotation; `None` if no annotation sets it: the downward API sets four variables, and
    /// podspan itself follows the annotation `podspan.dev/filter`.
    #[must_use]
    pub fn annotation(&self) -> Option<String> {
        let name = match self.variable {
            "FILTER" => return None,
            // podspan.dev/receiver is an annotation of sensors.
            "RECEIVER" => "sensor-receiver".to_owned(),
            variable if DOWNWARD.iter().any(|(name, _)| *name == variable) => return None,
            variable => variable.to_ascii_lowercase().replace('_', "-"),
        };
        Some(format!("{PREFIX}{name}"))
    }
}

/// The sidecar that a pod's annotations and the options describe.
pub(crate) fn sidecar(
    annotations: &Value,
    spec: &Value,
    options: &Options<'_>,
) -> Result<Sidecar, Vec<Reason>> {
    let mut sidecar = Sidecar::new(&options.image, options.placement, options.security);
    let mut reasons = Vec::new();
    if !is_image(&options.image) {
        reasons.push(Reason::Image(options.image.clone()));
    }
    let texts = match texts(annotations) {
        Ok(texts) => texts,
        Err(mut wrong) => {
            reasons.append(&mut wrong);
            Vec::new()
        }
    };
    for (annotation, _) in &texts {
        reasons.extend(refused_name(annotation, options));
    }
    let get = |name: &str| {
        texts
            .iter()
            .find(|(annotation, _)| annotation.strip_prefix(PREFIX) == Some(name))
            .map(|(_, value)| *value)
    };
    let mut keep = |result: Result<(), Reason>| reasons.extend(result.err());
    for setting in options.settings {
        let Some(annotation) = setting.annotation() else {
            continue;
        };
        if let Some(value) = annotation.strip_prefix(PREFIX).and_then(get) {
            keep(checked(setting, &annotation, value));
            sidecar.set(setting.variable, value);
        }
    }
    let minimum = [(10, "10m"), (16 << 20, "16Mi")];
    let resources = [("cpu", &mut sidecar.cpu), ("memory", &mut sidecar.memory)];
    for ((name, amount), (least, shown)) in resources.into_iter().zip(minimum) {
        if let Some(text) = get(name) {
            // The table has thousandths; memory is in bytes.
            let least = if name == "cpu" { least } else { least * 1000 };
            keep(self::amount(name, text, (least, shown)).map(|new| *amount = new));
        }
    }
    keep(host_network(get("host-network"), spec));
    let followed = get("annotations") != Some("off");
    keep(source(get("annotations")));
    keep(switch(get("mirror"), followed));
    keep(
        filter(get("filter"), get("containers"), followed, spec, options).map(|expression| {
            if let Some(expression) = expression {
                sidecar.set("FILTER", &expression);
            }
        }),
    );
    if reasons.is_empty() {
        Ok(sidecar)
    } else {
        Err(reasons)
    }
}

/// The variable `FILTER`. While podspan follows the annotation `podspan.dev/filter`, it uses it in the place of
/// the variable, so only one of both can have an effect; with `podspan.dev/annotations: off`, the variable has
/// both.
fn filter(
    annotation: Option<&str>,
    names: Option<&str>,
    followed: bool,
    spec: &Value,
    options: &Options<'_>,
) -> Result<Option<String>, Reason> {
    if let Some(text) = annotation {
        (options.check_filter)(text)
            .map_err(|why| wrong("filter", text, why, "\"not port 9090\""))?;
    }
    let Some(names) = names else {
        return Ok(annotation.filter(|_| !followed).map(str::to_owned));
    };
    let wrong = |why| wrong("containers", names, why, "web,api");
    let ports = ports::filter(names, spec).map_err(wrong)?;
    let joined = match annotation {
        Some(text) if !text.trim().is_empty() => format!("({ports}) and ({text})"),
        _ => ports,
    };
    (options.check_filter)(&joined).map_err(wrong)?;
    if followed && annotation.is_some() {
        return Err(Reason::TwoFilters { joined });
    }
    Ok(Some(joined))
}

/// podspan's container gets no volume, so it cannot read a file.
fn source(annotation: Option<&str>) -> Result<(), Reason> {
    match annotation {
        Some(text) if !matches!(text, "api" | "off") => {
            let why = "podspan is injected without a volume for such a file";
            Err(wrong("annotations", text, why, "\"off\""))
        }
        _ => Ok(()),
    }
}

/// podspan's annotations, in the order of their names.
fn texts(annotations: &Value) -> Result<Vec<(&str, &str)>, Vec<Reason>> {
    let annotations = match annotations {
        Value::Null => return Ok(Vec::new()),
        Value::Object(annotations) => annotations,
        _ => {
            return Err(vec![Reason::Type(
                "metadata.annotations".to_owned(),
                "a mapping",
            )]);
        }
    };
    let mut texts = Vec::new();
    let mut reasons = Vec::new();
    for (name, value) in annotations {
        match value {
            _ if !name.starts_with(PREFIX) => (),
            Value::String(text) => texts.push((name.as_str(), text.as_str())),
            other => reasons.push(Reason::NotText {
                annotation: crate::refused::Name(name).to_string(),
                value: other.to_string(),
            }),
        }
    }
    texts.sort_unstable();
    if reasons.is_empty() {
        Ok(texts)
    } else {
        Err(reasons)
    }
}

/// Why there is no such annotation.
fn refused_name(annotation: &str, options: &Options<'_>) -> Option<Reason> {
    let name = annotation.strip_prefix(PREFIX)?;
    let mut known: Vec<String> = OTHER.iter().map(|name| format!("{PREFIX}{name}")).collect();
    known.extend(options.settings.iter().filter_map(Setting::annotation));
    if known.iter().any(|known| known == annotation) {
        return None;
    }
    let variable = name.to_ascii_uppercase().replace('-', "_");
    let why = if DOWNWARD.iter().any(|(name, _)| *name == variable) {
        "podspan gets this value from the pod itself"
    } else if name == "image" {
        "whoever injects podspan chooses the image"
    } else if name == "inject" {
        "podspan.dev/inject is a label"
    } else {
        let nearest = known
            .into_iter()
            .min_by_key(|known| distance(known, annotation))
            .unwrap_or_default();
        return Some(Reason::Unknown {
            annotation: annotation.to_owned(),
            nearest,
        });
    };
    Some(Reason::NotSettable {
        annotation: annotation.to_owned(),
        why,
    })
}

fn checked(setting: &Setting, annotation: &str, value: &str) -> Result<(), Reason> {
    (setting.check)(value).map_err(|why| Reason::Wrong {
        annotation: annotation.to_owned(),
        value: value.to_owned(),
        why,
        example: format!("\"{}\"", setting.example),
    })
}

fn wrong(name: &str, value: &str, why: impl Into<String>, example: &str) -> Reason {
    Reason::Wrong {
        annotation: format!("{PREFIX}{name}"),
        value: value.to_owned(),
        why: why.into(),
        example: example.to_owned(),
    }
}

/// One quantity is request and limit, so that a pod of the class Guaranteed stays one; two, separated by a
/// slash, are the request and the limit.
fn amount(name: &str, text: &str, (least, shown): (u128, &str)) -> Result<Amount, Reason> {
    let example = if name == "cpu" {
        "50m/250m"
    } else {
        "32Mi/256Mi"
    };
    let wrong = |why: String| wrong(name, text, why, example);
    let (request, limit) = text.split_once('/').unwrap_or((text, text));
    let [request_value, limit_value] = [request, limit].map(thousandths);
    let (Some(request_value), Some(limit_value)) = (request_value, limit_value) else {
        return Err(wrong(
            "it is not a quantity, or a request and a limit separated by a slash".to_owned(),
        ));
    };
    if request_value > limit_value {
        return Err(wrong("the request is above the limit".to_owned()));
    }
    if limit_value < least {
        return Err(wrong(format!("podspan needs a limit of at least {shown}")));
    }
    Ok(Amount {
        request: request.to_owned(),
        limit: limit.to_owned(),
    })
}

fn host_network(annotation: Option<&str>, spec: &Value) -> Result<(), Reason> {
    match annotation {
        Some("allow") => Ok(()),
        Some(text) => Err(wrong(
            "host-network",
            text,
            "the only value is allow",
            "allow",
        )),
        None if spec["hostNetwork"] == true => Err(Reason::HostNetwork),
        None => Ok(()),
    }
}

fn switch(annotation: Option<&str>, followed: bool) -> Result<(), Reason> {
    match annotation {
        Some(text) if !matches!(text.trim(), "on" | "off") => {
            Err(wrong("mirror", text, "it is neither on nor off", "\"off\""))
        }
        Some(text) if !followed => {
            let why = "with podspan.dev/annotations: off, podspan ignores it";
            Err(wrong(
                "mirror",
                text,
                why,
                "\"off\", without podspan.dev/annotations",
            ))
        }
        _ => Ok(()),
    }
}

/// A plain check, which finds empty texts and YAML in them.
fn is_image(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@".contains(&byte);
    let end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.iter().copied().all(inner) && end(bytes.first()) && end(bytes.last())
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

    #[test]
    fn names_of_images() {
        for image in [
            "podspan",
            "registry.example:5000/a/podspan@sha256:12ab",
            "a/b_c:1.0-x",
        ] {
            assert!(is_image(image), "{image}");
        }
        for image in ["", " a", "a b", "a\n", "a:", "/a", "{a}"] {
            assert!(!is_image(image), "{image}");
        }
    }
}
