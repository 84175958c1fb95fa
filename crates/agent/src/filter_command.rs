//! `podspan filter`: checks an expression for `FILTER` before it is in a pod.
//!
//! In: the arguments, and a file with `-r`. Out: a text for standard output, or an error. With `-r`, the
//! filter is compiled for the frames of a file, where VLAN tags are in the frames.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::PathBuf;

use filter::{Filter, Link, Metadata, Options, Program, compile, decimal, listing, run};
use thiserror::Error;

use crate::capture_file::{FileError, Frames};
use crate::cli::{FilterArguments, FilterOutput};

/// Why there is no result.
#[derive(Debug, Error)]
pub enum FilterCommandError {
    /// The expression is wrong.
    #[error("{text:?} does not compile: {source}")]
    Expression {
        /// The expression.
        text: String,
        /// What is wrong with it.
        source: filter::Error,
    },
    /// The file cannot be opened.
    #[error("{path} cannot be opened: {source}", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: FileError,
    },
}

/// What the command prints.
///
/// # Errors
/// If the expression does not compile, or the file cannot be read.
pub fn output(arguments: &FilterArguments) -> Result<String, FilterCommandError> {
    let FilterArguments { expression, output } = arguments;
    let wrong = |source| FilterCommandError::Expression {
        text: expression.clone(),
        source,
    };
    if let FilterOutput::Count(path) = output {
        let open = |source| FilterCommandError::Open {
            path: path.clone(),
            source,
        };
        let file = File::open(path).map_err(open)?;
        let program = |link| compile(expression, Options::file(link)).map_err(wrong);
        let programs = [program(Link::Ethernet)?, program(Link::Ip)?];
        let read = |source| FilterCommandError::Read {
            path: path.clone(),
            source,
        };
        return count(BufReader::new(file), &programs).map_err(read);
    }
    let filter = Filter::new(expression).map_err(wrong)?;
    let ethernet = filter.program(Link::Ethernet).instructions();
    Ok(match output {
        FilterOutput::Listing => listing(ethernet),
        FilterOutput::Decimal => decimal(ethernet),
        FilterOutput::Verdict | FilterOutput::Count(_) => format!(
            "the expression compiles: {} instructions for Ethernet frames, {} for devices without link \
             headers\n",
            ethernet.len(),
            filter.program(Link::Ip).instructions().len()
        ),
    })
}

/// Counts the frames that the filter keeps.
fn count(file: impl io::Read, [ethernet, ip]: &[Program; 2]) -> Result<String, FileError> {
    let (mut frames, mut kept) = ((0_u64, 0_u64), (0_u64, 0_u64));
    let mut reader = Frames::new(file)?;
    while let Some(frame) = reader.next_frame()? {
        let program = match frame.link {
            Link::Ethernet => ethernet,
            Link::Ip => ip,
        };
        let metadata = Metadata {
            length: Some(frame.length),
            ..Metadata::default()
        };
        let bytes = u64::from(frame.length);
        frames = (frames.0 + 1, frames.1 + bytes);
        if run(program.instructions(), frame.bytes, &metadata) != 0 {
            kept = (kept.0 + 1, kept.1 + bytes);
        }
    }
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{} of {} frames are kept, {} of {} bytes",
        kept.0, frames.0, kept.1, frames.1
    );
    Ok(text)
}
