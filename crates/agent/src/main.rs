//! podspan: mirrors a pod's traffic to a network sensor over VXLAN.
//!
//! The story of startup: arguments, then the log, then the environment, then the run. Each step can
//! end the process with a text for the operator and a code of [`agent::exit::Exit`], or with
//! `ON_FAILURE=idle` keep it alive with that text in the log; what a later step needs is checked by an
//! earlier one.

#![forbid(unsafe_code)]

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use agent::cli::{self, Command};
use agent::config::{self, Basics, Config, OnFailure};
use agent::exit::Exit;
use agent::log;

fn main() -> ExitCode {
    log::report_panics();
    match cli::parse(std::env::args_os().skip(1)) {
        Ok(Command::Run) => start(),
        Ok(Command::CheckConfig) => match Config::from_env() {
            Ok(config) => answer(&config.effective()),
            Err(errors) => refuse(&errors, Exit::Usage),
        },
        Ok(Command::Help) => answer(&config::help()),
        Ok(Command::Version) => answer(&cli::version()),
        Ok(Command::ConfigurationMarkdown) => answer(&config::markdown()),
        Err(error) => refuse(&error, Exit::Usage),
    }
}

fn start() -> ExitCode {
    // Enough to log and to stay alive, whatever else is wrong.
    let basics = Basics::from_env();
    if let Err(error) = log::start(basics.log, basics.log_format) {
        return refuse(&error, Exit::Software);
    }
    match (Config::from_env(), basics.on_failure) {
        (Ok(config), _) => agent::run(&config),
        (Err(errors), OnFailure::Idle) => agent::idle(&errors),
        (Err(errors), OnFailure::Exit) => refuse(&errors, Exit::Usage),
    }
}

/// Prints what was asked for. A reader that has gone away (`podspan --help | head -1`) is no error.
fn answer(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    Exit::Success.into()
}

/// Says why the process ends. There may be no log yet, and standard error may be closed or not be
/// read: the exit code then says it alone.
fn refuse(reason: &dyn Display, exit: Exit) -> ExitCode {
    log::print(reason);
    exit.into()
}
