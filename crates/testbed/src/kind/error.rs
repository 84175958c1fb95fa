//! What can go wrong with a cluster, as texts for the person at the terminal.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

/// A failure of the kind cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node image that we make and its Docker daemon need root.
    #[error(
        "{why}. Making a cluster without them needs root: run the same command as root, or install \
         Docker and kind and make sure that the node image can be pulled"
    )]
    NotRoot {
        /// Why the published node image is not used.
        why: String,
    },
    /// A program that is needed is not installed.
    #[error(
        "{program} is needed and not installed: install the package {package} of Debian or Ubuntu"
    )]
    Missing {
        /// The program.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// Docker cannot be used, although it was asked for.
    #[error("--published needs a Docker daemon: {reason}. Start it, or use --own as root")]
    NoDocker {
        /// What `docker info` said.
        reason: String,
    },
    /// A program could not be built.
    #[error(transparent)]
    Program(#[from] crate::programs::Error),
    /// The lab failed.
    #[error(transparent)]
    Lab(#[from] crate::Error),
    /// A program failed.
    #[error("{what} failed ({status}):\n{output}")]
    Command {
        /// What it was to do.
        what: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        output: String,
    },
    /// A file, folder, mount or process could not be made or used.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted, with the path.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
    /// Something did not happen in time.
    #[error("waited {seconds} s for {what}. {last}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long was waited.
        seconds: u64,
        /// What was seen last, or where to look.
        last: String,
    },
    /// A cluster of this name is there that podspan did not make.
    #[error(
        "kind has a cluster {name:?} that was not made from this target folder: use another --name, \
         or remove it with `kind delete cluster --name {name}`"
    )]
    Foreign {
        /// The cluster's name.
        name: String,
    },
    /// The name cannot be that of a cluster.
    #[error(
        "a cluster cannot be named {name:?}: use 1 to 30 of a-z, 0-9 and -, and begin with a letter"
    )]
    Name {
        /// What was given.
        name: String,
    },
    /// There is no cluster.
    #[error("there is no cluster {name:?}: `cargo xtask cluster up` makes it")]
    Down {
        /// The cluster's name.
        name: String,
    },
    /// There is no access to the nodes.
    #[error(
        "no access to nodes: this cluster is given by a kubeconfig, so images come from a registry and \
         nothing runs on a node itself. `cargo xtask cluster up` makes a cluster with access to its nodes"
    )]
    NoNodes,
    /// There is no kubeconfig.
    #[error("the kubeconfig {} cannot be read: {reason}", path.display())]
    NoKubeconfig {
        /// What was given.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// The kernel's limit leaves too little for the nodes: their kubelets would not become Ready.
    #[error(
        "the nodes need about {wanted} inotify instances and the kernel has only {free} left for this \
         user: take another cluster down, or raise the limit with \
         `sysctl fs.inotify.max_user_instances=512`"
    )]
    Inotify {
        /// How many are needed.
        wanted: usize,
        /// How many could be had.
        free: usize,
    },
    /// A file that is to be loaded is not there.
    #[error("{path:?} is no image archive: {reason}")]
    Archive {
        /// What was given.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Something was left after the end of a cluster.
    #[error("not everything could be removed: {what}")]
    Left {
        /// What is left.
        what: String,
    },
    /// A kubeconfig could not be used.
    #[cfg(feature = "kubernetes")]
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// The client of the API server could not be made.
    #[cfg(feature = "kubernetes")]
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
}

impl Error {
    /// For `map_err`: names what was attempted.
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Results of this module.
pub(super) type Result<T, E = Error> = std::result::Result<T, E>;
