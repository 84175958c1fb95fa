//! podspan: mirrors a pod's traffic to a network sensor over VXLAN.
//!
//! The steps of the start: arguments, basic settings, log, all settings, run. If a step fails, the
//! process ends with a text for the operator and a code of [`agent::exit::Exit`], or with
//! `ON_FAILURE=idle` stays alive and logs this text. A later step needs only what an earlier one has
//! checked.

#![forbid(unsafe_code)]

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use agent::cli::{self, Command};
use agent::exit::Exit;
use agent::filter_command;
use agent::help;
use agent::log;
use agent::observability;
use settings::{Basics, Config, OnFailure};

fn main() -> ExitCode {
    log::report_panics();
    match cli::parse(std::env::args_os().skip(1)) {
        Ok(Command::Run) => start(),
        Ok(Command::CheckConfig) => match Config::from_env() {
            Ok(config) => print_and_end(&config.effective()),
            Err(errors) => fail(&errors, Exit::Usage),
        },
        Ok(Command::Help) => print_and_end(&help::help()),
        Ok(Command::Version) => print_and_end(&cli::version()),
        Ok(Command::ConfigurationMarkdown) => print_and_end(&help::markdown()),
        Ok(Command::MetricsMarkdown) => print_and_end(&observability::markdown()),
        Ok(Command::Filter(arguments)) => match filter_command::output(&arguments) {
            Ok(text) => print_and_end(&text),
            Err(error) => fail(&error, Exit::Usage),
        },
        Err(error) => fail(&error, Exit::Usage),
    }
}

fn start() -> ExitCode {
    // Enough to log and to stay alive, even if other settings are wrong.
    let basics = Basics::from_env();
    if let Err(error) = log::start(basics.log, basics.log_format) {
        return fail(&error, Exit::Software);
    }
    match (Config::from_env(), basics.on_failure) {
        (Ok(config), _) => agent::run(&config),
        (Err(errors), OnFailure::Idle) => agent::idle(&errors, &basics),
        (Err(errors), OnFailure::Exit) => fail(&errors, Exit::Usage),
    }
}

/// Prints a text and ends. A closed standard output (`podspan --help | head -1`) is no error.
fn print_and_end(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    Exit::Success.into()
}

/// Prints why the process ends. There may be no log yet. If standard error is closed or not read, the
/// exit code still shows the reason.
fn fail(reason: &dyn Display, exit: Exit) -> ExitCode {
    log::print(reason);
    exit.into()
}
