//! Running programs, most of all cargo, from the workspace's root.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::failure::{Failure, Result};

/// The workspace's root: two above this package.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// Where cargo puts what it builds, and where xtask puts the tools that it builds.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The cargo that runs this program, at the workspace's root.
pub(crate) fn cargo() -> Command {
    let mut command = this_cargo();
    command.current_dir(root());
    command
}

/// The cargo that runs this program, as if started from a terminal.
///
/// cargo has set variables about this package. Its child must not get them: build scripts watch the
/// same variables (ring's does), so ring and all that depends on it would be built again after each
/// build from a terminal.
fn this_cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (variable, _) in env::vars_os() {
        let name = variable.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&variable);
        }
    }
    command
}

/// Replaces this process by an xtask that is built with `feature`, with the same arguments. Returns
/// only if this fails.
///
/// The folder stays, because arguments can name files. The process stays the same, so that
/// signals and the exit code need no relay.
#[cfg(not(all(feature = "kubernetes", feature = "registry")))]
pub(crate) fn run_again_with(feature: &str) -> Failure {
    use std::os::unix::process::CommandExt;
    let mut command = this_cargo();
    command
        .args(["run", "--package", "xtask", "--features", feature])
        .arg("--manifest-path")
        .arg(root().join("Cargo.toml"))
        .arg("--")
        .args(env::args_os().skip(1));
    let source = command.exec();
    Failure::Start {
        command: shown(&command),
        source,
    }
}

/// Cargo of the nightly toolchain. The variables that the current toolchain's cargo and rustup set for
/// their children would make it use the wrong toolchain.
pub(crate) fn nightly_cargo() -> Command {
    let mut command = Command::new("rustup");
    command
        .args(["run", "nightly", "cargo"])
        .current_dir(root());
    for variable in [
        "CARGO",
        "RUSTC",
        "RUSTDOC",
        "RUSTUP_TOOLCHAIN",
        "LD_LIBRARY_PATH",
    ] {
        command.env_remove(variable);
    }
    command
}

/// Runs `command` to its end; its output goes to the output of this program.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let status = command.status().map_err(|source| Failure::Start {
        command: shown(&command),
        source,
    })?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::Command {
            command: shown(&command),
            status,
        })
    }
}

/// Runs `command` to its end, and then prints its output.
pub(crate) fn run_and_print_later(mut command: Command) -> Result<()> {
    let name = shown(&command);
    let output = command.output().map_err(|source| Failure::Start {
        command: name.clone(),
        source,
    })?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::Command {
        command: name,
        status: output.status,
    })
}

/// Runs `command` to its end and returns what it printed; its errors go to ours.
pub(crate) fn output(mut command: Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| Failure::Start {
            command: shown(&command),
            source,
        })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Failure::Command {
        command: shown(&command),
        status: output.status,
    })
}

/// Whether `command` runs and succeeds; its output is discarded.
pub(crate) fn succeeds(mut command: Command) -> bool {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// An executable that cargo has built, or found up to date.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Executable {
    pub(crate) path: PathBuf,
    /// The name of its target.
    pub(crate) target: String,
    /// Whether the target is one of `tests`; the tests inside a library or a binary are not.
    pub(crate) is_test_target: bool,
}

/// Runs a `cargo build` and returns the executables' paths.
pub(crate) fn build(command: Command) -> Result<Vec<PathBuf>> {
    let built = executables(command)?;
    Ok(built.into_iter().map(|built| built.path).collect())
}

/// Runs a command of cargo that builds, and returns the executables.
pub(crate) fn executables(mut command: Command) -> Result<Vec<Executable>> {
    command
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped());
    let name = shown(&command);
    let failed = |source| Failure::system(format!("reading what `{name}` prints"), source);
    let mut child = command.spawn().map_err(|source| Failure::Start {
        command: name.clone(),
        source,
    })?;
    let mut executables = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            executables.extend(executable(&line.map_err(failed)?));
        }
    }
    let status = child.wait().map_err(failed)?;
    if status.success() {
        Ok(executables)
    } else {
        Err(Failure::Command {
            command: name,
            status,
        })
    }
}

/// The executable that one of cargo's JSON messages names.
fn executable(message: &str) -> Option<Executable> {
    let message: Value = serde_json::from_str(message).ok()?;
    let path = message.get("executable")?.as_str()?.into();
    let target = message.get("target")?;
    Some(Executable {
        path,
        target: target.get("name")?.as_str()?.to_owned(),
        is_test_target: target.get("kind")?.as_array()?.contains(&"test".into()),
    })
}

/// A command as a person types it.
fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_in_cargos_messages() {
        let message = r#"{"reason":"compiler-artifact","executable":"/a/podspan-1",
            "target":{"name":"podspan","kind":["bin"]}}"#;
        let podspan = Executable {
            path: "/a/podspan-1".into(),
            target: "podspan".to_owned(),
            is_test_target: false,
        };
        assert_eq!(executable(message), Some(podspan));
        let message = r#"{"executable":"/a/cli-1","target":{"name":"cli","kind":["test"]}}"#;
        assert!(executable(message).unwrap().is_test_target);
        assert_eq!(executable(r#"{"executable":null}"#), None);
        assert_eq!(executable("no JSON"), None);
    }

    #[test]
    fn the_root_holds_the_workspace() {
        assert!(root().join("deny.toml").exists());
    }
}
