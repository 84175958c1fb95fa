//! Why a command failed, in words for the person at the terminal.

use std::io;
use std::process::{ExitCode, ExitStatus};

/// The exit code after Ctrl-C, as shells have it: 128 and the number of SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;

/// All that can stop a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line has an error.
    #[error("{0}; see cargo xtask help")]
    Usage(String),

    /// A program could not be started.
    #[error("cannot run `{command}`: {source}")]
    Start {
        /// The program with its arguments.
        command: String,
        /// What the kernel answered.
        source: io::Error,
    },

    /// A program failed. What it printed is above.
    #[error("`{command}` failed: {status}")]
    Command {
        /// The program with its arguments.
        command: String,
        /// How it ended.
        status: ExitStatus,
    },

    /// A file could not be read, or something of the kind.
    #[error("{doing}: {source}")]
    System {
        /// What was tried.
        doing: String,
        /// What the kernel answered.
        source: io::Error,
    },

    /// Something else is wrong; the text has all of it.
    #[error("{0}")]
    Wrong(String),

    /// The lab failed.
    #[error(transparent)]
    Lab(#[from] testbed::Error),

    /// podspan, or a measurement of it, failed.
    #[error(transparent)]
    Bench(#[from] benches::Error),

    /// The kind cluster failed.
    #[error(transparent)]
    Kind(#[from] testbed::kind::Error),

    /// A program in Go could not be built.
    #[error(transparent)]
    Program(#[from] testbed::ProgramError),

    /// The control plane failed.
    #[cfg(feature = "kubernetes")]
    #[error(transparent)]
    Kubernetes(#[from] testbed::kubernetes::Error),

    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    /// 2 for a mistake in the command line, [`INTERRUPTED`] after Ctrl-C, else 1.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) => 2,
            Self::Interrupted => INTERRUPTED,
            _ => 1,
        })
    }

    pub(crate) fn system(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System {
            doing: doing.into(),
            source: source.into(),
        }
    }
}

/// Results of commands.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;
