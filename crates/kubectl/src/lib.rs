//! The plugin of kubectl: podspan's commands for people and pipelines.
//!
//! In: arguments, files or the standard input. Out: results on the standard output, and everything for people on
//! the standard error. Nothing is written to the standard output before all of a stream is changed, so an error
//! never leaves a part of it for `kubectl apply`.
//!
//! `arguments` declares the commands; each has a module, and [`run`] is their table: `stream` changes files, `live`
//! changes objects of a cluster through `connection`, `manifests` prints objects, `secrets` keys. The settings that annotations can
//! have are those of the crate `settings`, which podspan reads itself. `document` writes `docs/kubectl.md`, and
//! `results` tells what happened.

#![forbid(unsafe_code)]

mod arguments;
mod connection;
mod console;
mod document;
mod live;
mod manifests;
mod results;
mod secrets;
mod stream;
mod yaml;

use std::io;

use clap::CommandFactory as _;
use inject::{Options, Placement, Security};
use thiserror::Error;

pub use arguments::Arguments;
use arguments::{Command, Files, InjectArguments, Live, Place, SecurityLevel};
pub use console::Console;
pub use document::markdown;
use live::Action;

/// Why a command ends with code 1.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the error texts describe the variants")]
pub enum Error {
    #[error(transparent)]
    Stream(#[from] stream::Error),
    #[error(transparent)]
    Live(#[from] live::Error),
    #[error(transparent)]
    Manifests(#[from] manifests::Error),
    #[error(transparent)]
    Secrets(#[from] secrets::Error),
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// Executes a command.
///
/// # Errors
/// When a file cannot be read, objects cannot be changed, or the output cannot be written.
pub fn run(arguments: &Arguments, console: &mut Console<'_>) -> Result<(), Error> {
    match &arguments.command {
        Command::Inject(inject) if inject.remove => {
            change(&inject.files, &inject.live, &Action::Remove, console)
        }
        Command::Inject(inject) => {
            let action = Action::Inject(Box::new(options(inject)));
            change(&inject.files, &inject.live, &action, console)
        }
        Command::Uninject(uninject) => {
            change(&uninject.files, &uninject.live, &Action::Remove, console)
        }
        Command::Manifests(manifests) => Ok(manifests::run(manifests, console)?),
        Command::Keys(keys) => Ok(secrets::run(keys, console)?),
        Command::Version { output } => Ok(results::write_version(*output, console.output)?),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(
                *shell,
                &mut Arguments::command(),
                "kubectl-podspan",
                &mut script,
            );
            Ok(console.output.write_all(&script)?)
        }
        Command::Markdown => Ok(console.output.write_all(markdown().as_bytes())?),
    }
}

fn change(
    files: &Files,
    live: &Live,
    action: &Action<'_>,
    console: &mut Console<'_>,
) -> Result<(), Error> {
    match &files.file {
        Some(file) => Ok(stream::run(file, files.quiet, action, console)?),
        None => Ok(live::run(live, files.quiet, action, console)?),
    }
}

fn options(arguments: &InjectArguments) -> Options<'static> {
    Options {
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
        defaults: arguments.defaults.all(),
        ..settings::injection()
    }
}
