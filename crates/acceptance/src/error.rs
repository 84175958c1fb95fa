//! What can go wrong on the way to a result.

use std::io;
use std::path::PathBuf;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a scenario could not be made or measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] testbed::kind::Error),
    /// A program of this machine.
    #[error(transparent)]
    Testbed(#[from] testbed::Error),
    /// A program could not be started, or a file not be used.
    #[error("{what}: {source}")]
    System {
        /// What was done.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A program printed something else than expected.
    #[error("{what} is not as expected: {text}")]
    Unexpected {
        /// What was read.
        what: String,
        /// The text.
        text: String,
    },
    /// Something did not happen in time.
    #[error("{what}: not within {seconds} s; the last state: {state}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// What was seen last.
        state: String,
    },
    /// A file of the repository is missing.
    #[error("{} is missing", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
}

impl Error {
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }

    pub(crate) fn unexpected(what: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Unexpected {
            what: what.into(),
            text: text.into(),
        }
    }
}
