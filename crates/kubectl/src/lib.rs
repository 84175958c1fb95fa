//! The plugin of kubectl: podspan's commands for people and pipelines.
//!
//! In: arguments, files or the standard input. Out: the changed text on the standard output, one line for each
//! object on the standard error, and errors there. Nothing is written to the standard output before all of the
//! input is changed, so an error never leaves a part of a stream for `kubectl apply`.
//!
//! `arguments` declares the commands, `document` writes `docs/kubectl.md`. The settings that annotations can have
//! are those of the crate `settings`, which podspan reads itself.

#![forbid(unsafe_code)]

mod arguments;
mod document;

use std::fs;
use std::io::{self, Read, Write};

use clap::CommandFactory as _;
use inject::yaml::{self, Change, Object, Output};
use inject::{Options, Placement, Security};
use settings::SETTINGS;
use thiserror::Error;

pub use arguments::Arguments;
use arguments::{Command, InjectArguments, Place, SecurityLevel};
pub use document::markdown;

/// Why a command ends with code 1.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the error texts describe the variants")]
pub enum Error {
    #[error("cannot read {name}: {error}")]
    Read { name: String, error: io::Error },
    #[error("{name} is not changed:\n{error}")]
    Refused { name: String, error: yaml::Error },
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// Executes a command.
///
/// # Errors
/// When a file cannot be read, its objects cannot be changed, or the output cannot be written.
pub fn run(
    arguments: &Arguments,
    input: &mut impl Read,
    output: &mut impl Write,
    messages: &mut impl Write,
) -> Result<(), Error> {
    let (files, changed) = match &arguments.command {
        Command::Inject(inject) if inject.remove => (&inject.files, remove(&inject.files, input)?),
        Command::Inject(inject) => (&inject.files, injected(inject, input)?),
        Command::Uninject(files) => (files, remove(files, input)?),
        Command::Version => {
            writeln!(output, "kubectl-podspan {}", env!("CARGO_PKG_VERSION"))?;
            return Ok(writeln!(output, "injects {}", inject::IMAGE)?);
        }
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(
                *shell,
                &mut Arguments::command(),
                "kubectl-podspan",
                &mut script,
            );
            return Ok(output.write_all(&script)?);
        }
        Command::Markdown => return Ok(output.write_all(markdown().as_bytes())?),
    };
    output.write_all(changed.text.as_bytes())?;
    output.flush()?;
    if !files.quiet {
        report(&changed.objects, messages)?;
    }
    Ok(())
}

fn injected(arguments: &InjectArguments, input: &mut impl Read) -> Result<Output, Error> {
    let options = Options {
        image: arguments.image.clone(),
        placement: match arguments.place {
            Place::Native => Placement::Native,
            Place::Plain => Placement::Plain,
        },
        security: match arguments.security {
            SecurityLevel::Added => Security::Added,
            SecurityLevel::Baseline => Security::Baseline,
            SecurityLevel::Root => Security::Root,
        },
        defaults: arguments.defaults.clone(),
        ..Options::new(&SETTINGS, check_filter)
    };
    change(&arguments.files, input, |bytes| {
        yaml::inject(bytes, &options)
    })
}

fn remove(files: &arguments::Files, input: &mut impl Read) -> Result<Output, Error> {
    change(files, input, yaml::remove)
}

fn change(
    files: &arguments::Files,
    input: &mut impl Read,
    action: impl Fn(&[u8]) -> Result<Output, yaml::Error>,
) -> Result<Output, Error> {
    let (name, bytes) = if files.file == "-" {
        let mut bytes = Vec::new();
        let read = input.read_to_end(&mut bytes).map(|_| bytes);
        ("the standard input".to_owned(), read)
    } else {
        (files.file.clone(), fs::read(&files.file))
    };
    let bytes = bytes.map_err(|error| Error::Read {
        name: name.clone(),
        error,
    })?;
    action(&bytes).map_err(|error| Error::Refused { name, error })
}

fn check_filter(text: &str) -> Result<(), String> {
    filter::Filter::new(text)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// One line for each object that can have a sidecar.
fn report(objects: &[Object], messages: &mut impl Write) -> io::Result<()> {
    for object in objects {
        let change = match object.change {
            Change::Injected => "podspan is injected",
            Change::Updated => "podspan is updated",
            Change::Removed => "podspan is removed",
            Change::Unchanged => "unchanged",
            Change::NotAWorkload => continue,
        };
        let name = if object.name.is_empty() {
            "(without a name)"
        } else {
            &object.name
        };
        let name = name.escape_debug();
        writeln!(messages, "{} {name}: {change}", object.kind.to_lowercase())?;
    }
    if objects
        .iter()
        .all(|object| object.change == Change::NotAWorkload)
    {
        writeln!(messages, "no object with pods: nothing is changed")?;
    }
    Ok(())
}
