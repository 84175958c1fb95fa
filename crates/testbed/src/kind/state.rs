//! What is known of a cluster between two commands: one small file in its folder.
//!
//! It is written before the first thing is made, so that whoever comes after a killed `up` knows what
//! to take away.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::error::{Error, Result};
use super::run::{remove, write};

const FILE: &str = "state.json";

/// Where the nodes run, and whose image they have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A node image made here, in a private Docker daemon.
    Own,
    /// The published node image, in the user's Docker.
    Published,
    /// Any cluster that somebody else made: a kubeconfig is all that is there of it.
    Given,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Published => "published",
            Self::Given => "given",
        }
    }
}

/// A cluster that is there, or was being made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) source: Source,
    pub(super) nodes: Vec<String>,
    /// Whether `up` came to its end.
    pub(super) ready: bool,
    /// When `up` began, in seconds since 1970.
    pub(super) since: u64,
}

impl State {
    /// A cluster that is about to be made.
    pub(super) fn new(source: Source, nodes: Vec<String>) -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs());
        Self {
            source,
            nodes,
            ready: false,
            since,
        }
    }

    /// Reads it. A file that cannot be understood counts as a cluster that was being made in the
    /// private daemon: taking that away is always possible.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>> {
        match fs::read_to_string(folder.join(FILE)) {
            Ok(text) => Ok(Some(Self::parse(&text))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("reading {FILE} in {}", folder.display()))(error)),
        }
    }

    /// Writes it in one step.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let partial = folder.join("state.partial");
        write(&partial, self.render(), 0o644)?;
        fs::rename(&partial, folder.join(FILE))
            .map_err(Error::io(format!("writing {FILE} in {}", folder.display())))
    }

    /// Forgets it: nothing is there any more.
    pub(super) fn forget(folder: &Path) -> Result<()> {
        remove(&folder.join(FILE))
    }

    fn render(&self) -> String {
        json!({
            "source": self.source.name(),
            "nodes": self.nodes,
            "ready": self.ready,
            "since": self.since,
        })
        .to_string()
    }

    fn parse(text: &str) -> Self {
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        let published = value.get("source").and_then(Value::as_str) == Some("published");
        let nodes = value.get("nodes").and_then(Value::as_array);
        Self {
            source: if published {
                Source::Published
            } else {
                Source::Own
            },
            nodes: nodes
                .into_iter()
                .flatten()
                .filter_map(|node| Some(node.as_str()?.to_owned()))
                .collect(),
            ready: value.get("ready").and_then(Value::as_bool) == Some(true),
            since: value.get("since").and_then(Value::as_u64).unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(State::read(folder.path()).unwrap(), None);
        for source in [Source::Own, Source::Published] {
            let mut state = State::new(source, vec!["a".to_owned(), "b".to_owned()]);
            state.ready = source == Source::Own;
            state.write(folder.path()).unwrap();
            assert_eq!(State::read(folder.path()).unwrap(), Some(state));
        }
        State::forget(folder.path()).unwrap();
        assert_eq!(State::read(folder.path()).unwrap(), None);
    }

    #[test]
    fn a_damaged_file_is_an_unfinished_cluster() {
        let state = State::parse("{\"source\":");
        assert_eq!(state.source, Source::Own);
        assert!(!state.ready);
        assert!(state.nodes.is_empty());
    }
}
