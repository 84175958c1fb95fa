//! The settings of podspan that annotations can have, and the check of filters, as the crate `settings` has them.

use inject::Options;
use settings::SETTINGS;

fn check_filter(text: &str) -> Result<(), String> {
    filter::Filter::new(text)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// The published image as a native sidecar, with all settings.
pub(crate) fn options() -> Options<'static> {
    Options::new(&SETTINGS, check_filter)
}
