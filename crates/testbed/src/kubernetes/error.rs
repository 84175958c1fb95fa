//! The errors when a control plane is built, started or used, as texts for the person who runs the
//! tests.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

/// A failure of the test control plane.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A binary could not be built, and none was given.
    #[error(transparent)]
    Program(#[from] crate::programs::Error),
    /// `KUBEBUILDER_ASSETS` is set, but a binary is missing there.
    #[error(
        "KUBEBUILDER_ASSETS={folder:?} holds no {binary}: put it there, or unset the variable to \
         build it with Go"
    )]
    MissingAsset {
        /// The folder named by the variable.
        folder: PathBuf,
        /// The binary that is not in it.
        binary: &'static str,
    },
    /// A file, folder, socket or process could not be made or used.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted, with the path.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A certificate, key or token could not be made.
    #[error("making {what}: {reason}")]
    Crypto {
        /// What was to be made.
        what: &'static str,
        /// The library's reason.
        reason: String,
    },
    /// A server ended by itself.
    #[error("{component} ended by itself ({status}). The end of its log:\n{log}")]
    Ended {
        /// Which server.
        component: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// A server runs but did not become ready, or did not end, in time.
    #[error("waited {seconds} s for {component}: {last}. The end of its log:\n{log}")]
    Late {
        /// Which server.
        component: &'static str,
        /// How long was waited.
        seconds: u64,
        /// Its last answer, or what it did not do.
        last: String,
        /// The last lines of its log.
        log: String,
    },
    /// A server that does not run was asked to stop, or one that runs to start.
    #[error("{component} {state}")]
    WrongState {
        /// Which server.
        component: &'static str,
        /// What state it is in.
        state: &'static str,
    },
    /// kubectl ended with an error.
    #[error("kubectl {arguments} failed ({status}):\n{stderr}")]
    Kubectl {
        /// Its arguments, separated by blanks.
        arguments: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// etcd refused a request, or its answer was not understood.
    #[error("etcd's {path}: {answer}")]
    Etcd {
        /// The path of the request.
        path: &'static str,
        /// Its answer.
        answer: String,
    },
    /// The API server refused a request of the kube client.
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    /// A kubeconfig that we wrote could not be used.
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
}

impl Error {
    /// For `map_err`: names what was attempted.
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
