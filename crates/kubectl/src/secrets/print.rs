//! Secrets as text.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use serde_json::{Value, json};

/// The form of the Secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// YAML documents, with comments
    Yaml,
    /// One JSON document, a List
    Json,
}

/// An object, and what it is for.
#[derive(Debug, Clone)]
pub(super) struct Document {
    /// Lines without line breaks at the end.
    pub(super) comment: String,
    pub(super) object: Value,
}

/// A text as an entry of `data`.
pub(super) fn data(text: &str) -> String {
    STANDARD.encode(text)
}

pub(super) fn write(documents: &[Document], form: Form, out: &mut dyn Write) -> io::Result<()> {
    let text = match form {
        Form::Yaml => yaml(documents)?,
        Form::Json => {
            let items: Vec<_> = documents.iter().map(|document| &document.object).collect();
            let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
            format!("{list:#}\n")
        }
    };
    // All of it or nothing.
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn yaml(documents: &[Document]) -> io::Result<String> {
    let mut stream = String::new();
    for document in documents {
        if !stream.is_empty() {
            stream.push_str("---\n");
        }
        for line in document.comment.lines() {
            stream.extend(["# ", line, "\n"]);
        }
        stream.push_str(&crate::yaml::text(&document.object).map_err(io::Error::other)?);
    }
    Ok(stream)
}
