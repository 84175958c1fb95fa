//! `podspan-sensor`: see the library.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    sensor::main(std::env::args_os().skip(1))
}
