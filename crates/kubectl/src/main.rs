//! `kubectl-podspan`, which kubectl runs as `kubectl podspan`.

#![forbid(unsafe_code)]

use std::env;
use std::io::{IsTerminal as _, stderr, stdin, stdout};
use std::process::ExitCode;

use clap::Parser as _;
use kubectl::{Arguments, Console, run};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // https://no-color.org
    let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let mut console = Console {
        input: &mut stdin(),
        output: &mut stdout(),
        messages: &mut stderr(),
        is_interactive: stdin().is_terminal() && stderr().is_terminal(),
        is_shown: stdout().is_terminal(),
        is_coloured: stdout().is_terminal() && !no_color,
    };
    match run(&arguments, &mut console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
