//! Why a run in a cluster has no result.

use crate::files;

/// A failure of the bench in a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line.
    #[error("{0}; see cargo xtask help")]
    Usage(String),
    /// The cluster, or something in it.
    #[error(transparent)]
    Acceptance(#[from] acceptance::Error),
    /// A file.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// No node takes pods.
    #[error(
        "no node is Ready and takes pods: `kubectl get nodes` lists them; nodes with a taint of the effect \
         NoSchedule or NoExecute are not used"
    )]
    NoNode,
    /// The namespace is there already.
    #[error(
        "the namespace {namespace} is there already: another run uses it, or one that was killed has left \
         it. If no other run uses it: kubectl delete namespace {namespace}"
    )]
    NamespaceExists {
        /// Its name.
        namespace: String,
    },
    /// A program in the cluster printed something else than expected.
    #[error("{what} is not as expected: {text}")]
    Unexpected {
        /// What was read.
        what: String,
        /// The text.
        text: String,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl From<testbed::kind::Error> for Error {
    fn from(error: testbed::kind::Error) -> Self {
        Self::Acceptance(error.into())
    }
}

impl From<crate::options::Usage> for Error {
    fn from(usage: crate::options::Usage) -> Self {
        Self::Usage(usage.0)
    }
}

impl Error {
    /// 2 for a mistake in the command line, 130 after Ctrl-C as shells have it, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Interrupted => 130,
            _ => 1,
        }
    }

    pub(super) fn unexpected(what: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Unexpected {
            what: what.into(),
            text: text.into(),
        }
    }
}

/// Results of this module.
pub type Result<T> = std::result::Result<T, Error>;
impl From<testbed::Error> for Error {
    fn from(error: testbed::Error) -> Self {
        Self::Acceptance(error.into())
    }
}
