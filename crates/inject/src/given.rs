//! What is given for one pod: its annotations `podspan.dev/*`, and the defaults of the injection.
//!
//! In: the pod's annotations and [`Options::defaults`]. Out: one value for each name, with its origin, which
//! errors name. An annotation comes before the default of the same name.

use serde_json::Value;

use crate::Options;
use crate::refused::{Name, Reason};
use crate::setting::{self, PREFIX};

/// Who gave a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// An annotation of the pod.
    Annotation,
    /// [`Options::defaults`].
    Default,
}

impl Origin {
    /// `podspan.dev/vni`, or `vni`.
    pub(crate) fn full(self, name: &str) -> String {
        match self {
            Self::Annotation => format!("{PREFIX}{}", Name(name)),
            Self::Default => Name(name).to_string(),
        }
    }

    /// `the annotation podspan.dev/vni`, or `the default vni`.
    pub(crate) fn named(self, name: &str) -> String {
        let what = match self {
            Self::Annotation => "annotation",
            Self::Default => "default",
        };
        format!("the {what} {}", self.full(name))
    }

    /// `podspan.dev/vni: "26"`, or `vni=26`. The value may have quotes already.
    pub(crate) fn example(self, name: &str, value: &str) -> String {
        match self {
            Self::Annotation => format!("{PREFIX}{name}: {value}"),
            Self::Default => format!("{name}={}", value.trim_matches('"')),
        }
    }
}

/// Annotations and defaults, both without [`PREFIX`].
pub(crate) struct Given<'a> {
    annotations: Vec<(&'a str, &'a str)>,
    defaults: &'a [(String, String)],
}

impl<'a> Given<'a> {
    /// Everything that is given, and what is wrong with names and types.
    pub(crate) fn new(annotations: &'a Value, options: &'a Options<'_>) -> (Self, Vec<Reason>) {
        let mut reasons = Vec::new();
        let mut given = Self {
            annotations: Vec::new(),
            defaults: &options.defaults,
        };
        match texts(annotations) {
            Ok(texts) => given.annotations = texts,
            Err(mut wrong) => reasons.append(&mut wrong),
        }
        for (name, _) in &given.annotations {
            reasons.extend(setting::refused(Origin::Annotation, name, options.settings));
        }
        for (place, (name, _)) in (0..).zip(given.defaults) {
            reasons.extend(setting::refused(Origin::Default, name, options.settings));
            let earlier = given.defaults.iter().take(place);
            if earlier.into_iter().any(|(earlier, _)| earlier == name) {
                reasons.push(Reason::NotSettable {
                    origin: Origin::Default,
                    name: name.clone(),
                    why: "it is given twice",
                });
            }
        }
        (given, reasons)
    }

    /// The annotation of this name.
    pub(crate) fn annotation(&self, name: &str) -> Option<&'a str> {
        let mut annotations = self.annotations.iter();
        let found = annotations.find(|(annotation, _)| *annotation == name);
        found.map(|(_, value)| *value)
    }

    /// The annotation of this name, or else the default.
    pub(crate) fn get(&self, name: &str) -> Option<(Origin, &'a str)> {
        if let Some(value) = self.annotation(name) {
            return Some((Origin::Annotation, value));
        }
        let default = self.defaults.iter().find(|(default, _)| default == name);
        default.map(|(_, value)| (Origin::Default, value.as_str()))
    }

    /// Its value.
    pub(crate) fn value(&self, name: &str) -> Option<&'a str> {
        self.get(name).map(|(_, value)| value)
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
    for (annotation, value) in annotations {
        let Some(name) = annotation.strip_prefix(PREFIX) else {
            continue;
        };
        match value {
            Value::String(text) => texts.push((name, text.as_str())),
            other => reasons.push(Reason::NotText {
                annotation: Name(annotation).to_string(),
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
