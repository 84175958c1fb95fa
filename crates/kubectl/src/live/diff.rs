//! The difference that people read: an object before and after, as YAML.
//!
//! Status and managed fields are left out, and so are the numbers by which the API server counts changes.

use serde_json::Value;
use similar::TextDiff;

use crate::yaml::{Error, text};

/// A unified diff of two versions of the object `name`.
pub(super) fn unified(name: &str, before: &Value, after: &Value) -> Result<String, Error> {
    let (before, after) = (yaml(before)?, yaml(after)?);
    let diff = TextDiff::from_lines(&before, &after);
    let diff = diff
        .unified_diff()
        .header(name, &format!("{name} (changed)"))
        .to_string();
    Ok(diff)
}

fn yaml(object: &Value) -> Result<String, Error> {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["managedFields", "resourceVersion", "generation"] {
            metadata.remove(field);
        }
    }
    text(&object)
}

/// Removed lines in red and added ones in green.
pub(super) fn coloured(diff: &str, is_coloured: bool) -> String {
    if !is_coloured {
        return diff.to_owned();
    }
    let lines = diff.split_inclusive('\n').map(|line| {
        let code = match line.as_bytes().first() {
            Some(b'-') => "31",
            Some(b'+') => "32",
            _ => return line.to_owned(),
        };
        let text = line.trim_end_matches('\n');
        format!("\x1b[{code}m{text}\x1b[0m\n")
    });
    lines.collect()
}
