//! Reading objects of the cluster, and waiting for a state of them.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use testbed::kind::Cluster;

use crate::error::{Error, Result};

/// Reads objects as JSON: `kubectl get -o json` with these arguments.
///
/// # Errors
/// When kubectl fails, and when the answer is not JSON.
pub fn get(cluster: &Cluster, arguments: &[&str]) -> Result<Value> {
    let arguments = [&["get", "-o", "json"], arguments].concat();
    from_json(&arguments.join(" "), &cluster.kubectl(&arguments)?)
}

/// Reads JSON that kubectl has printed.
///
/// # Errors
/// When it is not JSON; `what` names it.
pub fn from_json(what: &str, text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|_| Error::unexpected(what, text))
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
