//! Injection into a YAML or JSON stream, and removal from it.

use std::io;

use inject::yaml::{self, Object};
use thiserror::Error;

use crate::console::Console;
use crate::live::Action;
use crate::results::{self, Row};

/// Why a stream is not changed.
#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot read {name}: {error}")]
    Read { name: String, error: io::Error },
    #[error("{name} is not changed:\n{error}")]
    Refused { name: String, error: yaml::Error },
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// Prints the changed stream.
pub(crate) fn run(
    file: &str,
    quiet: bool,
    action: &Action<'_>,
    console: &mut Console<'_>,
) -> Result<(), Error> {
    let (name, bytes) = console.read(file);
    let bytes = bytes.map_err(|error| Error::Read {
        name: name.clone(),
        error,
    })?;
    let changed = action.apply(&bytes);
    let changed = changed.map_err(|error| Error::Refused { name, error })?;
    console.output.write_all(changed.text.as_bytes())?;
    console.output.flush()?;
    if !quiet {
        let rows: Vec<_> = changed.objects.into_iter().map(row).collect();
        results::write_lines(&rows, false, console.messages)?;
    }
    Ok(())
}

fn row(object: Object) -> Row {
    Row {
        kind: object.kind,
        namespace: String::new(),
        name: object.name,
        outcome: object.change.into(),
    }
}
