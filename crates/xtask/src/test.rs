//! `cargo xtask test`: every check that a change must pass, step by step, up to the first failure.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use acceptance::Images;
use testbed::Release;

use crate::arguments::Arguments;
use crate::bench::{absolute, images_missing};
use crate::build::{PODSPAN, static_binary};
use crate::cargo::{self, cargo, nightly_cargo, run as run_command, target_dir};
use crate::cluster_test;
use crate::elf;
use crate::failure::{Failure, Result};
use crate::image;
use crate::instructions;
use crate::plugin;
use crate::tools;
use crate::workspace_tests;

/// What is fuzzed: the manifests of the targets.
const FUZZED: [&str; 2] = [
    "crates/capture/fuzz/Cargo.toml",
    "crates/tunnel/fuzz/Cargo.toml",
];
/// How long each fuzz target runs.
const FUZZ_SECONDS: u32 = 15;
/// What cargo-fuzz gives to rustc: coverage counters and comparisons for libFuzzer, and the address
/// sanitizer to find reads of memory that is not allowed. An explicit target keeps it away from
/// build scripts.
const FUZZ_FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Zsanitizer=address -Cdebug-assertions";

/// `demo --kubernetes`, `image --push` and `bench --cluster` are checked with everything else.
const ALL_FEATURES: &str =
    "--features=xtask/kubernetes,xtask/registry,benches/cluster,benches/matrix";

/// The largest program, in bytes loaded. All of it may be resident, and the tests of the agent
/// bound all other resident memory to 2.8 MB: together 10 MiB.
const PROGRAM_MAX: u64 = (10 << 20) - 2_800_000;

/// What clippy reads: also the tests on a kind cluster, which the step `test` does not run.
const LINTED_FEATURES: &str = "--features=xtask/kubernetes,xtask/registry,testbed/cluster-tests,acceptance/kind,benches/cluster,benches/matrix,benches/opening,benches/seal";

/// A name for `--only`, what it is, and what runs.
type Step = (&'static str, &'static str, Checks);

/// What a step runs.
enum Checks {
    /// All of it, on every machine.
    All(fn() -> Result<()>),
    /// What this machine allows.
    Allowed(fn() -> Result<Outcome>),
}

/// How a step ended that found no mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// Some of it could not be run here: the reason says what, and what it needs.
    NotRun(String),
}

use Checks::{All, Allowed};

const STEPS: [Step; 14] = [
    ("tools", "programs that the tests use", All(tools::programs)),
    ("fmt", "format", All(fmt)),
    ("clippy", "clippy, all warnings are errors", All(clippy)),
    (
        "deny",
        "licenses, bans and sources of dependencies",
        All(deny),
    ),
    ("docs", "documentation without warnings", All(docs)),
    (
        "test",
        "unit, property and namespace tests, and those against a real API server",
        All(test),
    ),
    (
        "targets",
        "clippy for the plugin of kubectl on Linux, macOS and Windows",
        All(plugin::check_targets),
    ),
    (
        "plugin",
        "the archives of the plugin, installed by krew",
        Allowed(plugin::check::run),
    ),
    ("miri", "the ring's walk under Miri", All(miri)),
    ("fuzz", "fuzzing for some seconds", All(fuzz)),
    ("static", "the static release binary", All(release)),
    (
        "counts",
        "instruction counts against the baseline",
        All(instructions::check),
    ),
    (
        "image",
        "the image for both architectures, in an archive and from the Containerfile",
        Allowed(image::check::run),
    ),
    (
        "cluster",
        "podspan on a kind cluster, which is made for it and taken down",
        Allowed(cluster_test::run),
    ),
];

/// Steps that run only by their names: they build what nothing else needs.
const NAMED: [Step; 1] = [(
    "versions",
    "the injection's policies on API servers of Kubernetes 1.34 and 1.35; only by its name",
    All(versions),
)];

pub(crate) fn run(mut arguments: Arguments) -> Result<()> {
    let list = arguments.flag("--list");
    let only: Option<String> = arguments.option("--only")?;
    if let Some(kubeconfig) = arguments.option::<PathBuf>("--kubeconfig")? {
        if only.as_deref() != Some("cluster") {
            let message = "--kubeconfig belongs to --only cluster";
            return Err(Failure::Usage(message.to_owned()));
        }
        return on_given_cluster(&kubeconfig, arguments);
    }
    arguments.finish()?;
    if list {
        for (name, what, _) in STEPS.iter().chain(&NAMED) {
            println!("{name:<9}{what}");
        }
        return Ok(());
    }
    let is_chosen = |step: &&Step| only.as_deref() == Some(step.0);
    let chosen: Vec<&Step> = match &only {
        None => STEPS.iter().collect(),
        Some(_) => STEPS.iter().chain(&NAMED).filter(is_chosen).collect(),
    };
    if chosen.is_empty() {
        let message = format!(
            "there is no step {:?}; --list lists them",
            only.unwrap_or_default()
        );
        return Err(Failure::Usage(message));
    }
    let start = Instant::now();
    let mut not_run = Vec::new();
    for (name, what, checks) in chosen {
        println!("== {name}: {what}");
        let begin = Instant::now();
        let outcome = match checks {
            All(run) => run().map(|()| Outcome::Done),
            Allowed(run) => run(),
        };
        let verdict = match &outcome {
            Ok(Outcome::Done) => "done".to_owned(),
            Ok(Outcome::NotRun(reason)) => format!("NOT ALL OF IT WAS RUN: {reason};"),
            Err(_) => "FAILED".to_owned(),
        };
        println!("== {name}: {verdict} after {}\n", shown(begin.elapsed()));
        if let Outcome::NotRun(reason) = outcome? {
            not_run.push((*name, reason));
        }
    }
    println!("{}", last_line(&shown(start.elapsed()), &not_run));
    Ok(())
}

/// The step `cluster` on a cluster that somebody else made.
fn on_given_cluster(kubeconfig: &Path, mut arguments: Arguments) -> Result<()> {
    let context = arguments.option("--context")?;
    let image = arguments.option("--image")?;
    let tools = arguments.option("--tools")?;
    arguments.finish()?;
    let (Some(podspan), Some(tools)) = (image, tools) else {
        return Err(images_missing());
    };
    cluster_test::run_on(&cluster_test::Given {
        kubeconfig: absolute(kubeconfig)?,
        context,
        images: Images { podspan, tools },
    })
}

/// Counts what could not be run, so that no one takes a green end for more than it is.
fn last_line(time: &str, not_run: &[(&str, String)]) -> String {
    let mut line = format!("== all done after {time}");
    if !not_run.is_empty() {
        let reasons = not_run
            .iter()
            .map(|(name, reason)| format!("{name} ({reason})"));
        let reasons: Vec<_> = reasons.collect();
        line = format!("{line}; {} not run: {}", reasons.len(), reasons.join(", "));
    }
    line
}

fn shown(time: Duration) -> String {
    format!("{}:{:02} min", time.as_secs() / 60, time.as_secs() % 60)
}

fn cargo_with(arguments: &[&str]) -> Result<()> {
    let mut command = cargo();
    command.args(arguments);
    run_command(command)
}

fn fmt() -> Result<()> {
    cargo_with(&["fmt", "--all", "--check"])
}

fn clippy() -> Result<()> {
    cargo_with(&[
        "clippy",
        "--workspace",
        LINTED_FEATURES,
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ])
}

/// Advisories are left out: their database is a git repository, and a test must not need more of
/// the network than the package registry. `cargo deny check` by hand checks them too.
fn deny() -> Result<()> {
    let mut command = std::process::Command::new(tools::cargo_deny()?);
    command.current_dir(cargo::root());
    command.args(["--locked", "check", "bans", "licenses", "sources"]);
    run_command(command)
}

fn docs() -> Result<()> {
    let mut command = cargo();
    command.args([
        "doc",
        "--workspace",
        ALL_FEATURES,
        "--no-deps",
        "--document-private-items",
    ]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    run_command(command)
}

fn test() -> Result<()> {
    workspace_tests::run_all(ALL_FEATURES)
}

/// The suite `injection` with the API servers of other releases.
fn versions() -> Result<()> {
    tools::control_plane()?;
    for release in Release::ALL {
        if release != Release::default() {
            println!("Kubernetes {}", release.name());
            let mut command = cargo();
            command.args(["test", "--package", "acceptance", "--test", "injection"]);
            command.env("INJECTION_RELEASE", release.name());
            run_command(command)?;
        }
    }
    Ok(())
}

fn miri() -> Result<()> {
    tools::nightly()?;
    let mut command = nightly_cargo();
    command.args(["miri", "test", "--package", "capture", "--lib"]);
    run_command(command)
}

/// Runs every fuzz target. cargo-fuzz is left out: all it does for us is these flags, and building
/// it takes longer than fuzzing.
fn fuzz() -> Result<()> {
    tools::nightly()?;
    for manifest in FUZZED {
        let targets = cargo::build(fuzz_build(manifest))?;
        if targets.is_empty() {
            let message = format!("there is no fuzz target in {manifest}");
            return Err(Failure::Wrong(message));
        }
        for target in targets {
            fuzz_one(&target)?;
        }
    }
    Ok(())
}

fn fuzz_build(manifest: &str) -> Command {
    let target = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let mut command = nightly_cargo();
    command
        .args(["build", "--release", "--manifest-path", manifest])
        .args(["--target", &target, "--target-dir"])
        .arg(target_dir().join("fuzz"))
        .env("RUSTFLAGS", FUZZ_FLAGS);
    command
}

fn fuzz_one(target: &Path) -> Result<()> {
    println!("fuzzing {} for {FUZZ_SECONDS} s", target.display());
    let mut command = Command::new(target);
    command.arg(format!("-max_total_time={FUZZ_SECONDS}"));
    // The folder that cargo-fuzz uses too; the default is the checkout's root.
    let artifacts = target_dir().join("fuzz/artifacts/");
    fs::create_dir_all(&artifacts)
        .map_err(|source| Failure::system("making a folder for fuzzing", source))?;
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.args(["-print_final_stats=1", "-verbosity=0"]);
    run_command(command)
}

fn release() -> Result<()> {
    let binary = static_binary(PODSPAN, None)?;
    let bytes = fs::read(&binary)
        .map_err(|source| Failure::system(format!("reading {}", binary.display()), source))?;
    let loaded = elf::loaded_bytes(&bytes).unwrap_or(u64::MAX);
    println!("{}: loads {loaded} bytes", binary.display());
    if loaded > PROGRAM_MAX {
        let message = format!("the program loads {loaded} bytes; the limit is {PROGRAM_MAX}");
        return Err(Failure::Wrong(message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::last_line;

    #[test]
    fn the_last_line_counts_what_was_not_run() {
        assert_eq!(last_line("1:02 min", &[]), "== all done after 1:02 min");
        assert_eq!(
            last_line(
                "1:02 min",
                &[
                    ("image", "root is missing".to_owned()),
                    ("cluster", "no kind".to_owned())
                ]
            ),
            "== all done after 1:02 min; 2 not run: image (root is missing), cluster (no kind)"
        );
    }
}
