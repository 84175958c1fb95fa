//! What the programs beside podspan share: settings from the environment, arguments, the log, and the exit.
//!
//! In: a table of settings ([`settings!`](crate::settings)), the environment and the arguments. Out: checked values
//! or all errors, `--help`, a table for the documents, and log lines in podspan's formats. podspan itself has more of
//! each: the crate `settings`, and a log that never waits.

#![forbid(unsafe_code)]

mod arguments;
mod log;
mod reading;
mod variable;

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use arguments::Arguments;
pub use log::{Format, Log};
pub use reading::{ConfigErrors, Invalid, Reading, UNKNOWN_WORD, parsed, time};
pub use variable::{LOG, LOG_FORMAT, Program, Variable};

/// The exit code for wrong arguments and settings: `EX_USAGE` of `sysexits.h`, as podspan itself ends.
pub const USAGE: u8 = 64;
/// The exit code for a refusal of the system: `EX_OSERR`.
pub const OS_ERROR: u8 = 71;

/// Why a program ends by itself.
pub trait Failure: Display {
    /// The exit code.
    fn exit_code(&self) -> u8 {
        OS_ERROR
    }
}

/// The main function of a program: answers an option, or reads the settings by `config` and runs until `run` ends.
pub fn main<C, E: Failure>(
    program: &Program,
    config: impl FnOnce(&mut Reading) -> Option<C>,
    run: impl FnOnce(C) -> Result<(), E>,
) -> ExitCode {
    let fail = |reason: &dyn Display, code: u8| {
        let _ = writeln!(std::io::stderr(), "{}: {reason}", program.name);
        ExitCode::from(code)
    };
    let text = match Arguments::parse(std::env::args_os().skip(1)) {
        Ok(Arguments::Run) => match program.read(std::env::vars_os(), config) {
            Ok((log, config)) => {
                log::start(log);
                return match run(config) {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(error) => fail(&error, error.exit_code()),
                };
            }
            Err(errors) => return fail(&errors, USAGE),
        },
        Ok(Arguments::Help) => program.help(),
        Ok(Arguments::Version) => program.version(),
        Ok(Arguments::Markdown) => program.markdown(),
        Err(error) => return fail(&error, USAGE),
    };
    // A closed standard output (`--help | head -1`) is no error.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
