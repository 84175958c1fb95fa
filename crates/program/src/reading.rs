//! Reads settings from the environment, and collects all errors.
//!
//! In: pairs of name and value. Out: values, or every error with setting, value, what is expected and an example. An
//! empty variable counts as not set.

use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;
use tracing::level_filters::LevelFilter;

use crate::log::{Format, Log};
use crate::variable::{LOG, LOG_FORMAT, Program, Variable};

/// The reason for a word that is none of a list.
pub const UNKNOWN_WORD: &str = "it is not one of the allowed words";

/// A setting that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}={value:?}: {reason}; expected: {}; for example {}={:?}",
        .variable.name, .variable.expected, .variable.name, .variable.example)]
pub struct Invalid {
    /// The setting.
    pub variable: &'static Variable,
    /// Its value, with bytes that are not UTF-8 replaced.
    pub value: String,
    /// What is wrong, as a part of a sentence.
    pub reason: String,
}

/// All errors, in the order of the table. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct ConfigErrors {
    /// The errors.
    pub errors: Vec<Invalid>,
    /// The name of the program.
    program: &'static str,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration is wrong:")?;
        for invalid in &self.errors {
            write!(f, "\n  {invalid}")?;
        }
        write!(f, "\n{} --help describes every setting", self.program)
    }
}

impl Program {
    /// Reads the settings of the log, and by `config` the others.
    ///
    /// # Errors
    /// Every setting that is wrong.
    pub fn read<C>(
        &self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        config: impl FnOnce(&mut Reading) -> Option<C>,
    ) -> Result<(Log, C), ConfigErrors> {
        let mut reading = Reading {
            variables: variables.into_iter().collect(),
            errors: Vec::new(),
        };
        let config = config(&mut reading);
        match (reading.log(), config) {
            (Some(log), Some(config)) if reading.errors.is_empty() => Ok((log, config)),
            _ => {
                let mut errors = reading.errors;
                let place = |invalid: &Invalid| {
                    self.settings
                        .iter()
                        .position(|known| *known == invalid.variable)
                };
                errors.sort_by_key(place);
                let program = self.name;
                Err(ConfigErrors { errors, program })
            }
        }
    }
}

/// The environment while it is read.
#[derive(Debug)]
pub struct Reading {
    variables: Vec<(OsString, OsString)>,
    errors: Vec<Invalid>,
}

impl Reading {
    /// The value of a variable, or its default. An error is kept.
    pub fn value<T>(
        &mut self,
        variable: &'static Variable,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let set = self
            .variables
            .iter()
            .find(|(name, _)| name == variable.name);
        let set = set
            .map(|(_, value)| value)
            .filter(|value| !value.is_empty());
        let result = match set.map(|value| value.to_str()) {
            Some(None) => Err("it is not UTF-8 text".to_owned()),
            Some(Some(text)) => parse(text),
            None => parse(variable.default),
        };
        let wrong = |reason| {
            self.errors.push(Invalid {
                variable,
                value: set.map_or_else(String::new, |value| value.to_string_lossy().into_owned()),
                reason,
            });
        };
        result.map_err(wrong).ok()
    }

    fn log(&mut self) -> Option<Log> {
        let level = self.value(&LOG, |text| match text {
            "error" => Ok(LevelFilter::ERROR),
            "warn" => Ok(LevelFilter::WARN),
            "info" => Ok(LevelFilter::INFO),
            "debug" => Ok(LevelFilter::DEBUG),
            "trace" => Ok(LevelFilter::TRACE),
            _ => Err(UNKNOWN_WORD.to_owned()),
        });
        let format = self.value(&LOG_FORMAT, |text| match text {
            "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            _ => Err(UNKNOWN_WORD.to_owned()),
        });
        Some(Log {
            level: level?,
            format: format?,
        })
    }
}

/// Parses by the type's own reader.
///
/// # Errors
/// What the reader says.
pub fn parsed<T: FromStr>(text: &str) -> Result<T, String>
where
    T::Err: fmt::Display,
{
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// A whole number with a unit: ms, s, m, h or d.
///
/// # Errors
/// For another form, and outside of the bounds.
pub fn time(text: &str, min: Duration, max: Duration) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 5] = [
        ("ms", 1),
        ("s", 1000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = UNITS.iter().find(|(name, _)| *name == unit);
    let (Ok(number), Some((_, factor))) = (number.parse::<u64>(), factor) else {
        return Err("it is not a time: a whole number and a unit".to_owned());
    };
    let time = Duration::from_millis(number.saturating_mul(*factor));
    if (min..=max).contains(&time) {
        return Ok(time);
    }
    Err("it is out of bounds".to_owned())
}
