//! `podspan-receive`: the end of encrypted tunnels from podspans, beside a sensor.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use receive::{Config, PROGRAM, run};

fn main() -> ExitCode {
    program::main(&PROGRAM, Config::read, |config| run(&config))
}
