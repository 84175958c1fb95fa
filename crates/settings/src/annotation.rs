//! A value in an annotation, checked as podspan checks it when it starts.
//!
//! In: a text. Out: nothing, or the reason as a part of a sentence. A text of spaces is refused: the variable
//! would count as not set, so the annotation would have no effect.

use filter::Filter;
use inject::Options;

use crate::error::Reason;
use crate::table::SETTINGS;
use crate::values::Value;

/// Injection with podspan's settings, each checked as podspan checks it: the published image, as a native sidecar.
#[must_use]
pub fn injection() -> Options<'static> {
    Options::new(&SETTINGS, check_filter)
}

fn check_filter(text: &str) -> Result<(), String> {
    let compiled = Filter::new(text).map(drop);
    compiled.map_err(|error| error.to_string())
}

/// Whether a text is a value of this type.
pub(crate) fn check<T: Value>(text: &str) -> Result<(), String> {
    let text = text.trim();
    let checked = if text.is_empty() {
        Err(Reason::Empty)
    } else {
        T::parse(text).map(drop)
    };
    checked.map_err(|reason| reason.to_string())
}
