//! kubectl on a kind cluster that this repository brought up, or by a kubeconfig on any other one.
//!
//! Only a kind cluster gives access to its nodes. What needs a node asks [`Access::kind`] for it.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use testbed::kind::Cluster;

use crate::error::{Error, Result};

/// How a cluster is reached.
#[derive(Debug)]
pub enum Access {
    /// A kind cluster of this repository.
    Kind(Box<Cluster>),
    /// Any cluster, by the kubectl on `PATH`. `None` takes kubectl's own default.
    Kubeconfig(Option<PathBuf>),
}

impl Access {
    /// The kind cluster, where it is one.
    #[must_use]
    pub fn kind(&self) -> Option<&Cluster> {
        match self {
            Self::Kind(cluster) => Some(cluster),
            Self::Kubeconfig(_) => None,
        }
    }

    /// A kubectl command as administrator.
    #[must_use]
    pub fn command(&self) -> Command {
        match self {
            Self::Kind(cluster) => cluster.kubectl_command(),
            Self::Kubeconfig(path) => {
                let mut command = Command::new("kubectl");
                if let Some(path) = path {
                    command.arg("--kubeconfig").arg(path);
                }
                command
            }
        }
    }

    /// Runs kubectl and returns its standard output as text.
    ///
    /// # Errors
    /// [`Error::Command`] with its standard error when it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_with_input(arguments, "")
    }

    /// As [`Self::kubectl`], with `input` as its standard input.
    ///
    /// # Errors
    /// As [`Self::kubectl`].
    pub fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.output(arguments, input)?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    /// Runs kubectl and returns the bytes of its standard output.
    ///
    /// # Errors
    /// As [`Self::kubectl`].
    pub fn output(&self, arguments: &[&str], input: &str) -> Result<Vec<u8>> {
        let what = format!("kubectl {}", arguments.join(" "));
        let mut command = self.command();
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(Error::system(&what))?;
        let stdin = child.stdin.take();
        let output = thread::scope(|scope| {
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
            child.wait_with_output()
        })
        .map_err(Error::system(&what))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(Error::Command {
            what,
            status: output.status,
            output: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Reads objects as JSON: `kubectl get ... -o json`.
    ///
    /// # Errors
    /// As [`Self::kubectl`], and when the answer is not JSON.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let arguments = [&["get", "-o", "json"], arguments].concat();
        let text = self.kubectl(&arguments)?;
        serde_json::from_str(&text).map_err(|_| Error::unexpected(arguments.join(" "), text))
    }
}

/// Calls `check` until it returns a value; `check` returns the state that it saw otherwise.
///
/// # Errors
/// [`Error::Timeout`] with the last state, and what `check` fails with.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut check: impl FnMut() -> Result<std::result::Result<T, String>>,
) -> Result<T> {
    let begin = Instant::now();
    loop {
        match check()? {
            Ok(value) => return Ok(value),
            Err(state) if begin.elapsed() > limit => {
                return Err(Error::Timeout {
                    what: what.to_owned(),
                    seconds: limit.as_secs(),
                    state,
                });
            }
            Err(_) => thread::sleep(Duration::from_millis(200)),
        }
    }
}
