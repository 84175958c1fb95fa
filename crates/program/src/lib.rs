//! What the programs beside podspan share: settings from the environment, arguments, and the log.
//!
//! In: a table of settings ([`settings!`](crate::settings)), the environment and the arguments. Out: checked values
//! or all errors, `--help`, a table for the documents, and log lines in podspan's formats. podspan itself has more of
//! each: the crate `settings`, and a log that never waits.

#![forbid(unsafe_code)]

mod arguments;
pub mod log;
mod reading;
mod variable;

pub use arguments::{ArgumentError, Arguments};
pub use reading::{
    ConfigErrors, Invalid, Reading, UNKNOWN_WORD, log_format, log_level, parsed, time,
};
pub use variable::{Program, Variable};
