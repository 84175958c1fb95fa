//! `kubectl-podspan`, which kubectl runs as `kubectl podspan`.

#![forbid(unsafe_code)]

use std::io::{stderr, stdin, stdout};
use std::process::ExitCode;

use clap::Parser as _;
use kubectl::{Arguments, run};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments, &mut stdin(), &mut stdout(), &mut stderr()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
