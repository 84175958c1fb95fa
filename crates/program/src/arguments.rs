//! The arguments: one option, or none. Settings are environment variables only.

use std::ffi::OsString;

use thiserror::Error;

/// What the process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arguments {
    /// Do the program's work.
    Run,
    /// Print the usage and every setting.
    Help,
    /// Print name and version.
    Version,
    /// Print the table of settings for the documents, for podspan's developers.
    Markdown,
}

/// An argument that the program does not accept.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "unexpected argument {0:?}; use --help or --version. Settings are environment variables: --help lists them"
)]
pub(crate) struct ArgumentError(String);

impl Arguments {
    /// Reads the arguments that follow the program's name.
    ///
    /// # Errors
    /// For an unknown argument, or more than one.
    pub(crate) fn parse(
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, ArgumentError> {
        let mut arguments = arguments.into_iter();
        let Some(first) = arguments.next() else {
            return Ok(Self::Run);
        };
        let wrong = |argument: OsString| ArgumentError(argument.to_string_lossy().into_owned());
        let chosen = match first.to_str() {
            Some("--help" | "-h") => Self::Help,
            Some("--version" | "-V") => Self::Version,
            Some("--settings-markdown") => Self::Markdown,
            _ => return Err(wrong(first)),
        };
        arguments
            .next()
            .map_or(Ok(chosen), |second| Err(wrong(second)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_option_or_none_is_accepted() {
        let parse = |arguments: &[&str]| Arguments::parse(arguments.iter().map(OsString::from));
        assert_eq!(parse(&[]), Ok(Arguments::Run));
        assert_eq!(parse(&["--help"]), Ok(Arguments::Help));
        assert_eq!(parse(&["-V"]), Ok(Arguments::Version));
        assert_eq!(parse(&["--settings-markdown"]), Ok(Arguments::Markdown));
        for wrong in [&["--listen"][..], &["--help", "x"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
