//! The command lines of the benches that read their own options. `cargo xtask bench` passes them on.
//!
//! In: words. Out: each long option by its name, and its value, parsed. An error names the option.

use std::ffi::OsString;
use std::str::FromStr;

use lexopt::{Arg, Parser, ValueExt};

/// What is wrong with the command line.
#[derive(Debug, PartialEq, Eq)]
pub struct Usage(pub String);

impl From<lexopt::Error> for Usage {
    fn from(error: lexopt::Error) -> Self {
        Self(error.to_string())
    }
}

type Result<T> = std::result::Result<T, Usage>;

/// Passes each long option to `set`, which reads its value if it has one.
///
/// # Errors
/// Of `set`, and a word that is no long option.
pub fn read<E: From<Usage>>(
    words: impl IntoIterator<Item = OsString>,
    mut set: impl FnMut(&str, &mut Parser) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let mut parser = Parser::from_args(words);
    while let Some(word) = parser.next().map_err(Usage::from)? {
        let Arg::Long(option) = word else {
            return Err(Usage::from(word.unexpected()).into());
        };
        let option = option.to_owned();
        set(&option, &mut parser)?;
    }
    Ok(())
}

/// The value of an option.
///
/// # Errors
/// Where there is none, or it cannot be parsed.
pub fn value<T: FromStr>(option: &str, parser: &mut Parser) -> Result<T> {
    let text = parser.value().and_then(ValueExt::string)?;
    text.parse()
        .map_err(|_| Usage(format!("--{option} cannot be {text:?}")))
}

/// A number within bounds.
///
/// # Errors
/// As [`value`], and where it is out of bounds.
pub fn number(option: &str, parser: &mut Parser, least: f64, most: f64) -> Result<f64> {
    let number: f64 = value(option, parser)?;
    if (least..=most).contains(&number) {
        return Ok(number);
    }
    Err(Usage(format!(
        "--{option} is a number from {least} to {most}"
    )))
}

/// A number without its fraction.
///
/// # Errors
/// As [`number`].
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked just before"
)]
pub fn in_range(option: &str, parser: &mut Parser, least: f64, most: f64) -> Result<u32> {
    Ok(number(option, parser, least, most)? as u32)
}

/// Some of `all`, by their words with commas between them.
///
/// # Errors
/// As [`value`], and a word that none has.
pub fn some_of<T: Copy>(
    option: &str,
    parser: &mut Parser,
    all: &[T],
    word: fn(T) -> &'static str,
) -> Result<Vec<T>> {
    let text: String = value(option, parser)?;
    let find = |wanted: &str| all.iter().copied().find(|one| word(*one) == wanted);
    let found: Option<Vec<T>> = text.split(',').map(find).collect();
    found.ok_or_else(|| {
        let words: Vec<_> = all.iter().copied().map(word).collect();
        Usage(format!(
            "--{option} is a list of {}, not {text:?}",
            words.join(", ")
        ))
    })
}
