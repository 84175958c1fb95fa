//! `cargo xtask build`: podspan as it is shipped, one static file.
//!
//! The C library is linked in (`crt-static`), so the image needs nothing else. The flag must not
//! reach procedural macros, which are shared libraries: with an explicit `--target` cargo keeps
//! `RUSTFLAGS` away from everything that runs on the building machine, even where both are the
//! same.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arguments::Arguments;
use crate::cargo::{self, cargo, succeeds};
use crate::elf;
use crate::failure::{Failure, Result};

pub(crate) fn run(mut arguments: Arguments) -> Result<()> {
    let target = arguments.option("--target")?;
    arguments.finish()?;
    println!("{}", static_binary(target)?.display());
    Ok(())
}

/// Builds for `target`, or for this machine, and checks that the result is static.
pub(crate) fn static_binary(target: Option<String>) -> Result<PathBuf> {
    let host = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let target = target.unwrap_or_else(|| host.clone());
    let mut command = release_build();
    command
        .args(["--target", &target])
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    if target != host {
        prepare_cross_build(&mut command, &target)?;
    }
    let binary = podspan(&cargo::build(command)?)?;
    let bytes = fs::read(&binary)
        .map_err(|source| Failure::system(format!("reading {}", binary.display()), source))?;
    match elf::is_static(&bytes) {
        Some(true) => Ok(binary),
        _ => Err(Failure::Wrong(format!(
            "{} is not a static executable",
            binary.display()
        ))),
    }
}

/// The command that builds podspan in release mode.
fn release_build() -> Command {
    let mut command = cargo();
    command.args([
        "build",
        "--release",
        "--package",
        "agent",
        "--bin",
        "podspan",
    ]);
    command
}

/// Builds podspan in release mode for this machine, as `cargo build` does: for demo and bench.
pub(crate) fn release_binary() -> Result<PathBuf> {
    podspan(&cargo::build(release_build())?)
}

fn podspan(executables: &[PathBuf]) -> Result<PathBuf> {
    let named = |path: &&PathBuf| path.file_name().is_some_and(|name| name == "podspan");
    let missing = || Failure::Wrong("cargo built the agent without a podspan binary".to_owned());
    executables.iter().find(named).cloned().ok_or_else(missing)
}

/// Checks that the target's standard library is installed, and sets a linker where the caller sets
/// none.
fn prepare_cross_build(command: &mut Command, target: &str) -> Result<()> {
    let mut libdir = Command::new("rustc");
    libdir
        .args(["--print", "target-libdir", "--target", target])
        .current_dir(cargo::root());
    let libdir = libdir.output().map_err(|source| Failure::Start {
        command: "rustc --print target-libdir".to_owned(),
        source,
    })?;
    if !Path::new(String::from_utf8_lossy(&libdir.stdout).trim()).is_dir() {
        return Err(Failure::Wrong(format!(
            "this toolchain has no standard library for {target}: run `rustup target add {target}`"
        )));
    }
    let variable = format!(
        "CARGO_TARGET_{}_LINKER",
        target.replace('-', "_").to_uppercase()
    );
    if env::var_os(&variable).is_none() {
        let linker = format!("{}-gcc", target.replace("-unknown", ""));
        let mut version = Command::new(&linker);
        version.arg("--version");
        if !succeeds(version) {
            return Err(Failure::Wrong(format!(
                "{linker} is not installed: install a C compiler for {target} (in Debian and \
                 Ubuntu gcc-{}), or set {variable}",
                target.replace("-unknown", "").replace('_', "-")
            )));
        }
        command.env(variable, linker);
    }
    Ok(())
}
