//! Why a pod is not changed, as texts for the operator.
//!
//! All reasons of a pod are reported together. Each names what is wrong, its value, and what to do. Texts of
//! the pod are shown in printable characters and shortened, so they stay within their line.

use std::fmt;

use thiserror::Error;

use crate::given::Origin;

/// The pod is not changed, for these reasons. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct Refused {
    /// The reasons, in the order of the checks.
    pub reasons: Vec<Reason>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, reason) in self.reasons.iter().enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            write!(f, "{separator}{reason}")?;
        }
        Ok(())
    }
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self {
            reasons: vec![reason],
        }
    }
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts describe the variants")]
pub enum Reason {
    #[error("{0} is not {1}")]
    Type(String, &'static str),
    #[error("spec.containers has no entry; a pod needs at least one container besides podspan")]
    NoContainers,
    #[error(
        "{list} has a container named podspan that podspan did not add: {why}. Rename or remove it"
    )]
    Foreign { list: String, why: String },
    #[error(
        "spec.volumes has a volume named podspan-tunnel that podspan did not add: {why}. Rename or remove it"
    )]
    ForeignVolume { why: String },
    #[error(
        "the pod has hostNetwork: true, so podspan would mirror all traffic of the node. If this is what \
         you want, add the annotation podspan.dev/host-network: allow"
    )]
    HostNetwork,
    #[error("the pod is for Windows nodes; podspan runs only on Linux")]
    Windows,
    #[error(
        "the pod ends by itself (restartPolicy: {0}), and a plain container podspan would keep it from \
         ending. Use a native sidecar (Kubernetes 1.29 and newer)"
    )]
    NeverEnds(String),
    #[error("the image {} is not the name of an image. Example: registry.example/podspan:0.1.0", Shown(.0))]
    Image(String),
    #[error("{} is unknown; the nearest known one is {}", .origin.named(.name), .origin.full(.nearest))]
    Unknown {
        origin: Origin,
        name: String,
        nearest: String,
    },
    #[error("{} cannot be set: {why}", .origin.named(.name))]
    NotSettable {
        origin: Origin,
        name: String,
        why: &'static str,
    },
    #[error("the pod has the label {}, which has no effect: podspan reads annotations. Make it an annotation", Name(.0))]
    Label(String),
    #[error(
        "the pod has the label run: {0}, and SENSOR is {0}, so the pod is a sensor of its own podspan: each copy \
         would be mirrored again. Rename the label, or choose another sensor with podspan.dev/sensor"
    )]
    OwnSensor(String),
    #[error(
        "podspan's container has {what}, which podspan did not write for this pod, so an update would lose it. \
         {remedy}"
    )]
    Patched { what: String, remedy: String },
    #[error(
        "the annotation {annotation} is not a text. Put the value in quotes: {annotation}: {}",
        Quoted(.value)
    )]
    NotText { annotation: String, value: String },
    #[error(
        "the pod has the annotations podspan.dev/containers and podspan.dev/filter, and podspan uses the \
         second in the place of the first. Remove podspan.dev/containers, and join both: podspan.dev/filter: \
         {}. Or add podspan.dev/annotations: \"off\"",
        Quoted(.joined)
    )]
    TwoFilters { joined: String },
    #[error(
        "{} is {}: {why}. Example: {}",
        .origin.named(.name), Shown(.value), .origin.example(.name, .example)
    )]
    Wrong {
        origin: Origin,
        name: String,
        value: String,
        why: String,
        example: String,
    },
}

/// A foreign text: printable, in quotes, at most 120 characters.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        write_shown(f, self.0, 120, true)?;
        f.write_str("\"")
    }
}

/// The same without quotes.
pub(crate) struct Name<'a>(pub(crate) &'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_shown(f, self.0, 120, false)
    }
}

fn write_shown(
    f: &mut fmt::Formatter<'_>,
    text: &str,
    longest: usize,
    quoted: bool,
) -> fmt::Result {
    let mut characters = text.chars();
    for character in characters.by_ref().take(longest) {
        // Rust does not escape those that reverse the direction of a line.
        match character {
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                write!(f, "{}", character.escape_unicode())?;
            }
            '\'' => f.write_str("'")?,
            '"' if !quoted => f.write_str("\"")?,
            other => write!(f, "{}", other.escape_debug())?,
        }
    }
    let rest = if characters.next().is_some() {
        "..."
    } else {
        ""
    };
    f.write_str(rest)
}

/// A value in the quotes that make it a text, to be copied: complete if it is no longer than any filter.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        write_shown(f, self.0, 4096, true)?;
        f.write_str("\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_text_is_part_of_one_line() {
        let text = format!("a\n\u{1b}[1m\u{202e}\"{}", "x".repeat(500));
        let shown = Shown(&text).to_string();
        assert!(
            shown.starts_with("\"a\\n\\u{1b}[1m\\u{202e}\\\"xxx"),
            "{shown}"
        );
        assert!(shown.len() < 160 && shown.ends_with("...\""), "{shown}");
    }
}
