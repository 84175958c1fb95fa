//! `podspan-webhook`: adds podspan's sidecar to pods that an API server asks about.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use webhook::{Config, PROGRAM, run};

fn main() -> ExitCode {
    program::main(&PROGRAM, Config::read, run)
}
