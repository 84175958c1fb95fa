//! `cargo xtask bench --instructions`: how many instructions each part of the path of a frame executes,
//! compared with the baseline in the repository.
//!
//! Times on a shared machine differ by more than a change of some percent; counts of instructions do not.
//! The program `benches/instructions` runs one part on recorded frames, and callgrind counts between the
//! call and the return of one function. The counts depend on the compiler, the architecture and the frames,
//! so the baseline names all three and is not compared if one of them is another.
//!
//! They must not depend on the processor: valgrind shows a program most features of the processor that it
//! runs on, and glibc's memcpy has a variant for each of them. So the program is linked statically with
//! musl, which comes with the Rust toolchain and has one memcpy for each architecture, and no other part of
//! the measured code asks for features. The environment is empty, because its size moves the stack.
//!
//! gungraun, the usual library for this, is not used: it adds 40 packages, needs a second program of the
//! same version with 210, and what it does beyond these files is not needed here.

mod baseline;
mod callgrind;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use benches::{Align, Table, grouped};

use crate::arguments::Arguments;
use crate::cargo::{self, cargo, output, root, run as run_command, target_dir};
use crate::failure::{Failure, Result};
use crate::image::sha256;
use crate::tools;

use baseline::{Baseline, Compared, Difference, LIMIT_PERCENT};

/// The recorded frames and the baselines.
const FOLDER: &str = "benches/instructions";
const FRAMES: &str = "web.pcapng";
/// The function of `benches/instructions/src/measures.rs` in which callgrind counts. The compiler puts the
/// crate's name before it, in a form that depends on its version.
const COUNTED: &str = "*measures::counted*";
/// How to make a new baseline, for errors.
const SAVE: &str = "`cargo xtask bench --instructions --save` writes a new one";

pub(crate) fn run(mut arguments: Arguments) -> Result<()> {
    let save = arguments.flag("--save");
    arguments.finish()?;
    if save {
        return store(&count()?);
    }
    check()
}

/// Compares with the baseline. Nothing is skipped: without a baseline that can be compared it fails.
pub(crate) fn check() -> Result<()> {
    let path = baseline_path();
    if !path.exists() {
        return Err(Failure::Wrong(format!(
            "there is no baseline for {}; {SAVE}",
            target()
        )));
    }
    let text = fs::read_to_string(&path)
        .map_err(|source| Failure::system(format!("reading {}", path.display()), source))?;
    let baseline = Baseline::parse(&text)
        .map_err(|error| Failure::Wrong(format!("{}: {error}; {SAVE}", path.display())))?;
    // First: to build and count takes a minute on a new machine.
    let like = Baseline::without_counts(target(), compiler()?, frames()?);
    baseline
        .is_comparable(&like)
        .map_err(|difference| unlike(&difference))?;
    let compared = baseline
        .compare(&count()?.counts)
        .map_err(|difference| unlike(&difference))?;
    print!("{}", table(&compared));
    let more: Vec<&str> = compared
        .iter()
        .filter(|row| row.is_too_many())
        .map(|row| row.name.as_str())
        .collect();
    if !more.is_empty() {
        return Err(Failure::Wrong(format!(
            "at least {LIMIT_PERCENT} % more instructions than the baseline: {}; if that is intended, {SAVE}",
            more.join(", ")
        )));
    }
    if compared.iter().any(Compared::is_far_fewer) {
        println!(
            "some counts are {LIMIT_PERCENT} % below the baseline: {SAVE}, so that they stay there"
        );
    }
    Ok(())
}

fn unlike(difference: &Difference) -> Failure {
    Failure::Wrong(format!("{difference}; {SAVE}"))
}

fn store(counts: &Baseline) -> Result<()> {
    let path = baseline_path();
    fs::write(&path, counts.to_string())
        .map_err(|source| Failure::system(format!("writing {}", path.display()), source))?;
    println!("wrote {}", path.display());
    Ok(())
}

/// Counts all measures.
fn count() -> Result<Baseline> {
    tools::for_instructions(&target())?;
    let program = program()?;
    let folder = target_dir().join("instructions");
    fs::create_dir_all(&folder)
        .map_err(|source| Failure::system(format!("making {}", folder.display()), source))?;
    let names = output(Command::new(&program))?;
    let counts: BTreeMap<String, u64> = names
        .lines()
        .map(|name| Ok((name.to_owned(), count_one(&program, name, &folder)?)))
        .collect::<Result<_>>()?;
    Ok(Baseline {
        counts,
        ..Baseline::without_counts(target(), compiler()?, frames()?)
    })
}

fn count_one(program: &Path, name: &str, folder: &Path) -> Result<u64> {
    let file = folder.join(format!("{name}.callgrind"));
    let mut command = Command::new("valgrind");
    command
        .args(["--quiet", "--tool=callgrind"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", file.display()))
        .args([program.as_os_str(), name.as_ref()])
        .arg(frames_path())
        .env_clear()
        .envs(env::var_os("PATH").map(|path| ("PATH", path)));
    run_command(command)?;
    let text = fs::read_to_string(&file)
        .map_err(|source| Failure::system(format!("reading {}", file.display()), source))?;
    callgrind::instructions(&text)
        .map_err(|error| Failure::Wrong(format!("{name}: {error}: {}", file.display())))
}

/// Builds the program as podspan is built for release, with its symbols.
fn program() -> Result<PathBuf> {
    let mut build = cargo();
    build
        .args(["build", "--release", "--package", "instructions"])
        .args(["--target", &target()])
        .args(["--config", "profile.release.strip=\"none\""])
        // Nobody's flags count: not those of the environment, and not those of a configuration.
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    let executables = cargo::build(build)?;
    let missing = || Failure::Wrong("cargo built no program for instructions".to_owned());
    executables.into_iter().next().ok_or_else(missing)
}

fn target() -> String {
    format!("{}-unknown-linux-musl", env::consts::ARCH)
}

/// Version, commit and LLVM of the compiler: a distribution can build the same version with another LLVM.
fn compiler() -> Result<String> {
    let mut rustc = Command::new("rustc");
    rustc.arg("-vV").current_dir(root());
    let text = output(rustc)?;
    Ok(compiler_of(&text))
}

fn compiler_of(text: &str) -> String {
    let version = text.lines().next().unwrap_or_default();
    let llvm = text.lines().find(|line| line.starts_with("LLVM version"));
    format!("{version}, {}", llvm.unwrap_or("no LLVM"))
}

/// The recorded frames.
pub(crate) fn frames_path() -> PathBuf {
    root().join(FOLDER).join(FRAMES)
}

/// Their digest.
fn frames() -> Result<String> {
    let path = frames_path();
    let bytes = fs::read(&path)
        .map_err(|source| Failure::system(format!("reading {}", path.display()), source))?;
    Ok(sha256(&bytes))
}

fn baseline_path() -> PathBuf {
    root().join(FOLDER).join(format!("{}.json", target()))
}

fn table(compared: &[Compared]) -> Table {
    let mut table = Table::new(&[
        ("measure", Align::Left),
        ("baseline", Align::Right),
        ("instructions", Align::Right),
        ("change", Align::Right),
    ]);
    for row in compared {
        table.row([
            row.name.clone(),
            grouped(row.before),
            grouped(row.now),
            row.change(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_is_named_with_its_llvm() {
        let text = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\nLLVM version: 22.1.2\n";
        assert_eq!(
            compiler_of(text),
            "rustc 1.95.0 (59807616e 2026-04-14), LLVM version: 22.1.2"
        );
    }

    #[test]
    fn the_baseline_in_the_repository_is_of_its_frames() {
        let text = fs::read_to_string(root().join(FOLDER).join("x86_64-unknown-linux-musl.json"));
        let baseline = Baseline::parse(&text.unwrap()).unwrap();
        assert_eq!(baseline.frames, frames().unwrap());
        let names: Vec<&str> = baseline.counts.keys().map(String::as_str).collect();
        let parts = "batch checksum hash locate plan runs runs_bulk runs_equal segment send whole";
        assert_eq!(names.join(" "), parts);
    }
}
