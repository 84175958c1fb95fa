//! Why a stream is not changed: each refusal with document, object and line.

use std::fmt;

use thiserror::Error;

use crate::refused::{Name, Refused};

/// Nothing of the stream is changed, for these reasons. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts describe the variants")]
pub enum Error {
    #[error("the input is not UTF-8 text: byte {0} is invalid")]
    NotUtf8(usize),
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("{}", lines(.0))]
    Objects(Vec<Refusal>),
}

fn lines(refusals: &[Refusal]) -> String {
    let lines: Vec<String> = refusals.iter().map(Refusal::to_string).collect();
    lines.join("\n")
}

/// The text is not valid YAML.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct Broken {
    /// The number of the document, from 1.
    pub document: usize,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// What the parser expected.
    pub why: String,
    /// Whether it seems to be a template of helm.
    pub template: bool,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (document, line, column) = (self.document, self.line, self.column);
        let why = Name(&self.why);
        write!(
            f,
            "document {document}, line {line}: not valid YAML at column {column}: {why}"
        )?;
        if self.template {
            f.write_str(
                ". This seems to be a template of helm: inject what helm makes of it (helm template ... | \
                 kubectl podspan inject -f -)",
            )?;
        }
        Ok(())
    }
}

/// One object that is not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The number of the document, from 1.
    pub document: usize,
    /// The kind, such as `Deployment`.
    pub kind: String,
    /// The name; empty if it has none.
    pub name: String,
    /// The line, from 1.
    pub line: usize,
    /// The reason.
    pub why: Why,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() {
            "(without a name)"
        } else {
            &self.name
        };
        write!(
            f,
            "document {}, {} {}, line {}: {}",
            self.document,
            Name(&self.kind),
            Name(name),
            self.line,
            self.why
        )
    }
}

/// The reason of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts describe the variants")]
pub enum Why {
    #[error(transparent)]
    Pod(#[from] Refused),
    #[error("{0} is not a mapping")]
    NoTemplate(&'static str),
    #[error("{name} is in {found}, where podspan does not read it. Move it to the pod: {place}")]
    Misplaced {
        name: String,
        found: String,
        place: String,
    },
    #[error(
        "the place to change is shared by an anchor, an alias or a merge key (line {line}), so the change \
         would have an effect elsewhere too. Write it out there"
    )]
    Shared { line: usize },
    #[error("the value at line {line} is not valid in Kubernetes: {what}")]
    Value { line: usize, what: String },
    #[error(
        "podspan cannot change this text without changing something else. Write the pod's containers in \
         the usual form, one key and one entry a line, and end the file with a line break"
    )]
    Layout,
}
