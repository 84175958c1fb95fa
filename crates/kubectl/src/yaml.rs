//! Values as YAML, for people who read a diff or results.

use serde_json::Value;
use serde_saphyr::SerializerOptions;
pub(crate) use serde_saphyr::ser::Error;

/// Block YAML. Long texts stay on their line.
pub(crate) fn text(value: &Value) -> Result<String, Error> {
    let mut options = SerializerOptions::default();
    options.prefer_block_scalars = false;
    options.min_fold_chars = usize::MAX;
    let mut text = serde_saphyr::to_string_with_options(value, options)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}
