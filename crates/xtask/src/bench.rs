//! `cargo xtask bench`: builds podspan and the measurements in release mode and runs them.

use crate::arguments::Arguments;
use crate::build::release_binary;
use crate::cargo::{cargo, run as run_command};
use crate::failure::Result;

pub(crate) fn run(arguments: Arguments) -> Result<()> {
    arguments.finish()?;
    let podspan = release_binary()?;
    let mut command = cargo();
    command
        .args(["run", "--quiet", "--release", "--package", "benches", "--"])
        .arg(podspan);
    run_command(command)
}
