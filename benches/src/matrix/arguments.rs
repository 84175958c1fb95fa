//! The command line of the matrix. `cargo xtask bench --matrix` passes it on.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

use super::error::{Error, Result};
use super::plan::Part;

/// What was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Arguments {
    /// podspan's binary.
    pub podspan: PathBuf,
    /// The recording of the web mix.
    pub web: PathBuf,
    /// Where the files go.
    pub output: PathBuf,
    /// Where the charts go too.
    pub save: Option<PathBuf>,
    /// How often everything runs.
    pub rounds: u32,
    /// How long a load runs.
    pub time: Duration,
    /// CPU time in each 100 ms.
    pub quota: Duration,
    /// Another program that mirrors.
    pub peer: Option<String>,
    /// What runs.
    pub parts: Vec<Part>,
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            podspan: PathBuf::new(),
            web: PathBuf::new(),
            output: PathBuf::from("target/bench"),
            save: None,
            rounds: 5,
            time: Duration::from_secs(1),
            quota: Duration::from_millis(25),
            peer: None,
            parts: Part::ALL.to_vec(),
        }
    }
}

impl Arguments {
    /// Reads the command line without the program's name.
    ///
    /// # Errors
    /// [`Error::Usage`] that names the argument.
    pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let mut arguments = Self::default();
        let mut parser = Parser::from_args(words);
        loop {
            match parser.next() {
                Ok(None) => break,
                Ok(Some(Arg::Long(option))) => {
                    let option = option.to_owned();
                    arguments.set(&option, &mut parser)?;
                }
                Ok(Some(other)) => return Err(Error::Usage(other.unexpected().to_string())),
                Err(error) => return Err(Error::Usage(error.to_string())),
            }
        }
        Ok(arguments)
    }

    fn set(&mut self, option: &str, parser: &mut Parser) -> Result<()> {
        match option {
            "podspan" => self.podspan = value(option, parser)?,
            "web" => self.web = value(option, parser)?,
            "output" => self.output = value(option, parser)?,
            "save" => self.save = Some(value(option, parser)?),
            "peer" => self.peer = Some(value(option, parser)?),
            "rounds" => self.rounds = in_range(option, parser, 1.0, 100.0)?,
            "seconds" => self.time = Duration::from_secs_f64(number(option, parser, 0.2, 60.0)?),
            "quota" => {
                self.quota = Duration::from_secs_f64(number(option, parser, 0.01, 1.0)? / 10.0);
            }
            "only" => self.parts = parts(&value::<String>(option, parser)?)?,
            other => {
                let message = format!("--{other} is no option of bench --matrix");
                return Err(Error::Usage(message));
            }
        }
        Ok(())
    }
}

pub(crate) fn value<T: FromStr>(option: &str, parser: &mut Parser) -> Result<T> {
    let failed = |error: lexopt::Error| Error::Usage(error.to_string());
    let text = parser.value().and_then(ValueExt::string).map_err(failed)?;
    text.parse()
        .map_err(|_| Error::Usage(format!("--{option} cannot be {text:?}")))
}

pub(crate) fn number(option: &str, parser: &mut Parser, least: f64, most: f64) -> Result<f64> {
    let number: f64 = value(option, parser)?;
    if (least..=most).contains(&number) {
        return Ok(number);
    }
    Err(Error::Usage(format!(
        "--{option} is a number from {least} to {most}"
    )))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked just before"
)]
pub(crate) fn in_range(option: &str, parser: &mut Parser, least: f64, most: f64) -> Result<u32> {
    Ok(number(option, parser, least, most)? as u32)
}

fn parts(text: &str) -> Result<Vec<Part>> {
    let find = |word: &str| Part::ALL.into_iter().find(|part| part.word() == word);
    let parts: Option<Vec<Part>> = text.split(',').map(find).collect();
    parts.ok_or_else(|| {
        let words = Part::ALL.map(Part::word).join(", ");
        Error::Usage(format!("--only is a list of {words}, not {text:?}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Arguments> {
        Arguments::read(words.iter().map(OsString::from))
    }

    #[test]
    fn options_are_read() {
        let arguments = read(&[
            "--rounds",
            "7",
            "--seconds",
            "0.5",
            "--quota",
            "0.5",
            "--only",
            "quota,idle",
            "--peer",
            "x y",
        ])
        .unwrap();
        assert_eq!(arguments.rounds, 7);
        assert_eq!(arguments.time, Duration::from_millis(500));
        assert_eq!(arguments.quota, Duration::from_millis(50));
        assert_eq!(arguments.parts, [Part::Quota, Part::Idle]);
        assert_eq!(arguments.peer.as_deref(), Some("x y"));
    }

    #[test]
    fn a_wrong_option_is_named() {
        for words in [
            &["--rounds", "0"][..],
            &["--rounds", "x"],
            &["--only", "x"],
            &["--nothing"],
            &["word"],
            &["--quota"],
        ] {
            assert!(matches!(read(words), Err(Error::Usage(_))), "{words:?}");
        }
    }
}
