//! `cargo xtask build`: podspan as it is shipped, one static file.
//!
//! The C library is linked in (`crt-static`), so the image needs nothing else. The flag must not
//! reach procedural macros, which are shared libraries: with an explicit `--target` cargo keeps
//! `RUSTFLAGS` away from everything that runs on the building machine, even where both are the
//! same.
//!
//! The same source gives the same file, byte for byte, in any folder: the paths of this checkout
//! and of cargo's registry, which the texts of panics name, are replaced by fixed ones.

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
    println!("{}", static_binary(PODSPAN, target)?.display());
    Ok(())
}

/// A binary of the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Binary {
    pub(crate) package: &'static str,
    pub(crate) name: &'static str,
}

pub(crate) const PODSPAN: Binary = Binary {
    package: "agent",
    name: "podspan",
};

pub(crate) const SENSOR: Binary = Binary {
    package: "sensor",
    name: "podspan-sensor",
};

pub(crate) const RECEIVE: Binary = Binary {
    package: "receive",
    name: "podspan-receive",
};

pub(crate) const WEBHOOK: Binary = Binary {
    package: "webhook",
    name: "podspan-webhook",
};

/// Builds `binary` for `target`, or for this machine, and checks that the result is static.
pub(crate) fn static_binary(binary: Binary, target: Option<String>) -> Result<PathBuf> {
    let binary = for_target(binary, &target.unwrap_or_else(host))?;
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

/// Builds `binary` for `target` as it is shipped.
pub(crate) fn for_target(binary: Binary, target: &str) -> Result<PathBuf> {
    let mut command = release_build(binary);
    command
        .args(["--target", target])
        // Encoded, because paths may hold spaces.
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            release_flags(cargo::root(), &cargo_home()),
        );
    if target != host() {
        prepare_cross_build(&mut command, target)?;
    }
    executable(binary, &cargo::build(command)?)
}

/// The target of this machine.
fn host() -> String {
    format!("{}-unknown-linux-gnu", env::consts::ARCH)
}

/// The compiler's flags for what is shipped, as `CARGO_ENCODED_RUSTFLAGS` has them.
fn release_flags(root: &Path, cargo_home: &Path) -> String {
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    [
        "-Ctarget-feature=+crt-static".to_owned(),
        remap(root, "/podspan"),
        remap(cargo_home, "/cargo"),
    ]
    .join("\x1f")
}

/// Where cargo keeps the source of dependencies.
fn cargo_home() -> PathBuf {
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo");
    env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from)
}

/// The command that builds `binary` in release mode.
fn release_build(binary: Binary) -> Command {
    let mut command = cargo();
    command.args(["build", "--release"]);
    command.args(["--package", binary.package, "--bin", binary.name]);
    command
}

/// Builds `binary` in release mode for this machine, as `cargo build` does: for demo and bench.
pub(crate) fn release_binary(binary: Binary) -> Result<PathBuf> {
    executable(binary, &cargo::build(release_build(binary))?)
}

fn executable(binary: Binary, executables: &[PathBuf]) -> Result<PathBuf> {
    let Binary { package, name } = binary;
    let named = |path: &&PathBuf| path.file_stem().is_some_and(|file| file == name);
    let missing = || Failure::Wrong(format!("cargo built {package} without the binary {name}"));
    executables.iter().find(named).cloned().ok_or_else(missing)
}

/// Whether the toolchain of this workspace can build for `target`.
pub(crate) fn has_standard_library(target: &str) -> Result<bool> {
    let mut libdir = Command::new("rustc");
    libdir
        .args(["--print", "target-libdir", "--target", target])
        .current_dir(cargo::root());
    Ok(Path::new(cargo::output(libdir)?.trim()).is_dir())
}

/// Checks that the target's standard library is installed, and sets a linker where the caller sets none.
fn prepare_cross_build(command: &mut Command, target: &str) -> Result<()> {
    if !has_standard_library(target)? {
        return Err(Failure::Wrong(format!(
            "this toolchain has no standard library for {target}: run `rustup target add {target}`"
        )));
    }
    if let Some(linker) = linker(target).map_err(Failure::Wrong)? {
        command.env(linker_variable(target), linker);
    }
    Ok(())
}

/// The linker to set for `target`: none where the caller sets one, or where rustc's own choice is right. The error
/// says what is missing.
pub(crate) fn linker(target: &str) -> Result<Option<String>, String> {
    let variable = linker_variable(target);
    if target == host() || env::var_os(&variable).is_some() {
        return Ok(None);
    }
    if target.ends_with("-apple-darwin") {
        return Err(format!(
            "Apple's linker runs on macOS only: build it there, or set {variable}"
        ));
    }
    let (linker, packages) = if target.ends_with("-windows-gnu") {
        let linker = target.replace("-pc-windows-gnu", "-w64-mingw32-gcc");
        (linker, "gcc-mingw-w64".to_owned())
    } else {
        let machine = target.replace("-unknown", "");
        let packages = format!(
            "gcc-{} and the libc6-dev-*-cross for it",
            machine.replace('_', "-")
        );
        (format!("{machine}-gcc"), packages)
    };
    let mut version = Command::new(&linker);
    version.arg("--version");
    if succeeds(version) {
        return Ok(Some(linker));
    }
    Err(format!(
        "{linker} is not installed: install a C compiler for {target} (in Debian and Ubuntu {packages}), or set \
         {variable}"
    ))
}

fn linker_variable(target: &str) -> String {
    let target = target.replace('-', "_").to_uppercase();
    format!("CARGO_TARGET_{target}_LINKER")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_hide_where_the_source_is() {
        let flags = release_flags(Path::new("/my checkout"), Path::new("/home/me/.cargo"));
        assert_eq!(
            flags.split('\x1f').collect::<Vec<_>>(),
            [
                "-Ctarget-feature=+crt-static",
                "--remap-path-prefix=/my checkout=/podspan",
                "--remap-path-prefix=/home/me/.cargo=/cargo",
            ]
        );
    }
}
