//! `podspan-receive`: the end of encrypted tunnels from podspans, beside a sensor.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

use program::{Arguments, log};
use receive::{Config, PROGRAM, run};

/// `EX_USAGE` of `sysexits.h`, as podspan itself ends.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let text = match Arguments::parse(std::env::args_os().skip(1)) {
        Ok(Arguments::Run) => return start(),
        Ok(Arguments::Help) => PROGRAM.help(),
        Ok(Arguments::Version) => PROGRAM.version(),
        Ok(Arguments::Markdown) => PROGRAM.markdown(),
        Err(error) => return fail(&error.to_string(), USAGE),
    };
    // A closed standard output (`podspan-receive --help | head -1`) is no error.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn start() -> ExitCode {
    let config = match Config::from_variables(std::env::vars_os()) {
        Ok(config) => config,
        Err(errors) => return fail(&errors.to_string(), USAGE),
    };
    log::start(config.log, config.log_format);
    match run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string(), error.exit_code()),
    }
}

fn fail(reason: &str, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "podspan-receive: {reason}");
    code.into()
}
