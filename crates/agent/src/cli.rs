//! The arguments: one option, `filter` with its own, or none.
//!
//! In: the argument list without the program's name. Out: one [`Command`]. Settings are never arguments:
//! they are in the container's environment only. So an unknown argument is an error with a hint at that.

use std::ffi::OsString;
use std::path::PathBuf;

use settings::Foreign;
use thiserror::Error;

/// What the process does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Mirror: no argument.
    Run,
    /// Print the usage and every setting.
    Help,
    /// Print name and version.
    Version,
    /// Print the settings in effect, or all errors.
    CheckConfig,
    /// Print `docs/configuration.md`. This is for podspan's developers, so `--help` does not list it.
    ConfigurationMarkdown,
    /// Print the table of `docs/observability.md`; also for developers.
    MetricsMarkdown,
    /// Check an expression for `FILTER`.
    Filter(FilterArguments),
}

/// The arguments of `podspan filter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterArguments {
    /// The expression.
    pub expression: String,
    /// What is printed.
    pub output: FilterOutput,
}

/// What `podspan filter` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterOutput {
    /// Whether the expression compiles.
    Verdict,
    /// The program for people (`-d`).
    Listing,
    /// The program as numbers (`-ddd`).
    Decimal,
    /// How many frames of a file are kept (`-r`).
    Count(PathBuf),
}

/// An argument list that podspan does not accept.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ArgumentError {
    /// An unknown argument.
    #[error(
        "unknown argument {shown:?}; use --help, --version or --check-config. Settings are \
         environment variables, for example: SENSOR=zeek podspan",
        shown = Foreign(.0)
    )]
    Unknown(String),
    /// More than one.
    #[error("unexpected argument {shown:?}: podspan accepts at most one argument; see podspan --help",
            shown = Foreign(.0))]
    TooMany(String),
    /// Wrong arguments of `filter`.
    #[error(
        "usage: podspan filter 'EXPRESSION' [-d | -ddd | -r FILE], for example: podspan filter -r \
         capture.pcap 'not port 53'"
    )]
    Filter,
}

/// Reads the arguments that follow the program's name.
///
/// # Errors
/// For an unknown argument, or more than one. Bytes that are not UTF-8 are replaced.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, ArgumentError> {
    let mut arguments = arguments.into_iter();
    let Some(first) = arguments.next() else {
        return Ok(Command::Run);
    };
    let command = match first.to_str() {
        Some("--help" | "-h") => Command::Help,
        Some("--version" | "-V") => Command::Version,
        Some("--check-config") => Command::CheckConfig,
        Some("--configuration-markdown") => Command::ConfigurationMarkdown,
        Some("--metrics-markdown") => Command::MetricsMarkdown,
        Some("filter") => return filter(arguments).map(Command::Filter),
        _ => return Err(ArgumentError::Unknown(first.to_string_lossy().into_owned())),
    };
    match arguments.next() {
        None => Ok(command),
        Some(second) => Err(ArgumentError::TooMany(
            second.to_string_lossy().into_owned(),
        )),
    }
}

/// The arguments that follow `filter`.
fn filter(mut arguments: impl Iterator<Item = OsString>) -> Result<FilterArguments, ArgumentError> {
    let (mut expression, mut output) = (None, None);
    while let Some(argument) = arguments.next() {
        let chosen = match argument.to_str() {
            Some("-d") => FilterOutput::Listing,
            Some("-ddd") => FilterOutput::Decimal,
            Some("-r") => {
                FilterOutput::Count(arguments.next().ok_or(ArgumentError::Filter)?.into())
            }
            Some(text)
                if expression.is_none() && (!text.starts_with('-') || text.contains(' ')) =>
            {
                expression = Some(text.to_owned());
                continue;
            }
            _ => return Err(ArgumentError::Filter),
        };
        if output.replace(chosen).is_some() {
            return Err(ArgumentError::Filter);
        }
    }
    Ok(FilterArguments {
        expression: expression.ok_or(ArgumentError::Filter)?,
        output: output.unwrap_or(FilterOutput::Verdict),
    })
}

/// The output of `--version`, with a line end.
#[must_use]
pub fn version() -> String {
    format!("podspan {}\n", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Command, ArgumentError> {
        parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn each_argument_is_one_command() {
        assert_eq!(parsed(&[]), Ok(Command::Run));
        assert_eq!(parsed(&["--help"]), Ok(Command::Help));
        assert_eq!(parsed(&["-h"]), Ok(Command::Help));
        assert_eq!(parsed(&["--version"]), Ok(Command::Version));
        assert_eq!(parsed(&["-V"]), Ok(Command::Version));
        assert_eq!(parsed(&["--check-config"]), Ok(Command::CheckConfig));
        assert_eq!(
            parsed(&["--configuration-markdown"]),
            Ok(Command::ConfigurationMarkdown)
        );
        assert_eq!(
            parsed(&["--metrics-markdown"]),
            Ok(Command::MetricsMarkdown)
        );
    }

    #[test]
    fn filter_has_an_expression_and_one_output() {
        let filter = |output| {
            Ok(Command::Filter(FilterArguments {
                expression: "not port 53".to_owned(),
                output,
            }))
        };
        let with = |more: &[&str]| parsed(&[&["filter", "not port 53"], more].concat());
        assert_eq!(with(&[]), filter(FilterOutput::Verdict));
        assert_eq!(with(&["-d"]), filter(FilterOutput::Listing));
        assert_eq!(with(&["-ddd"]), filter(FilterOutput::Decimal));
        let count = FilterOutput::Count("a.pcap".into());
        assert_eq!(with(&["-r", "a.pcap"]), filter(count));
        for wrong in [&["-x"][..], &["udp"], &["-d", "-ddd"], &["-r"]] {
            assert_eq!(with(wrong), Err(ArgumentError::Filter));
        }
        assert_eq!(parsed(&["filter"]), Err(ArgumentError::Filter));
    }

    #[test]
    fn any_other_argument_is_an_error_with_a_hint() {
        let unknown = parsed(&["--sensor=10.0.0.1"]).unwrap_err().to_string();
        assert!(
            unknown.contains("--sensor=10.0.0.1") && unknown.contains("SENSOR="),
            "{unknown}"
        );
        let second = parsed(&["--help", "x"]).unwrap_err();
        assert_eq!(second, ArgumentError::TooMany("x".into()));
    }

    #[test]
    fn an_argument_that_is_not_utf8_is_an_error() {
        let error = parse([OsString::from_vec(vec![b'-', 0xff])]).unwrap_err();
        assert_eq!(error, ArgumentError::Unknown("-\u{fffd}".into()));
    }
}
