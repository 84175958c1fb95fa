//! The command line of the matrix. `cargo xtask bench --matrix` passes it on.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::Parser;

use super::error::{Error, Result};
use super::plan::Part;
use crate::options::{self, in_range, number, some_of, value};

/// What was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Arguments {
    /// podspan's binary.
    pub podspan: PathBuf,
    /// podspan-receive's binary.
    pub receive: PathBuf,
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
            receive: PathBuf::new(),
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
        options::read(words, |option, parser| arguments.set(option, parser))?;
        Ok(arguments)
    }

    fn set(&mut self, option: &str, parser: &mut Parser) -> Result<()> {
        match option {
            "podspan" => self.podspan = value(option, parser)?,
            "receive" => self.receive = value(option, parser)?,
            "web" => self.web = value(option, parser)?,
            "output" => self.output = value(option, parser)?,
            "save" => self.save = Some(value(option, parser)?),
            "peer" => self.peer = Some(value(option, parser)?),
            "rounds" => self.rounds = in_range(option, parser, 1.0, 100.0)?,
            "seconds" => self.time = Duration::from_secs_f64(number(option, parser, 0.2, 60.0)?),
            "quota" => {
                self.quota = Duration::from_secs_f64(number(option, parser, 0.01, 1.0)? / 10.0);
            }
            "only" => self.parts = some_of(option, parser, &Part::ALL, Part::word)?,
            other => {
                let message = format!("--{other} is no option of bench --matrix");
                return Err(Error::Usage(message));
            }
        }
        Ok(())
    }
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
            "quota,idle,tunnel",
            "--peer",
            "x y",
        ])
        .unwrap();
        assert_eq!(arguments.rounds, 7);
        assert_eq!(arguments.time, Duration::from_millis(500));
        assert_eq!(arguments.quota, Duration::from_millis(50));
        assert_eq!(arguments.parts, [Part::Quota, Part::Idle, Part::Tunnel]);
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
