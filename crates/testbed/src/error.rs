//! The errors of the lab, as texts for the person at the terminal.
//!
//! Each text names the action that failed, the error of the kernel or the program, and the setting or
//! the package that fixes it, if there is one.

use std::io;
use std::time::Duration;

/// A failure of the lab itself, not of what is tested in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel, or a policy, forbids this user to make a user namespace.
    #[error(
        "cannot make a user namespace: {source}. The lab needs one to run without root. {hint} \
         Running the same command as root works without any of this"
    )]
    UserNamespace {
        /// The setting of this machine that forbids it.
        hint: String,
        /// What the kernel answered.
        source: io::Error,
    },

    /// A system call or a file operation failed.
    #[error("{doing}: {source}")]
    System {
        /// The action, with its operands.
        doing: String,
        /// What the kernel answered.
        source: io::Error,
    },

    /// The kernel refused a request over rtnetlink.
    #[error("{doing}: {reason}")]
    Netlink {
        /// The action, with the names of the links.
        doing: String,
        /// The kernel's answer.
        reason: String,
    },

    /// There is no link of this name in the namespace.
    #[error("no link {name:?} in this namespace")]
    NoSuchLink {
        /// The name that was asked for.
        name: String,
    },

    /// A device cannot change a feature.
    #[error(
        "feature {feature:?} of {link:?} cannot be turned {}: the driver fixes it",
        if *.wanted { "on" } else { "off" }
    )]
    FixedFeature {
        /// The link.
        link: String,
        /// The feature by its name in `ethtool --show-features`.
        feature: String,
        /// The state that was asked for.
        wanted: bool,
    },

    /// A program that a test needs is not installed.
    #[error("{program} is not installed: install the package {package:?} of the distribution")]
    MissingProgram {
        /// The program's name.
        program: &'static str,
        /// The package that holds it in Debian and Ubuntu.
        package: &'static str,
    },

    /// A program ended with an error, or its output cannot be parsed.
    #[error("{program} failed: {reason}")]
    Program {
        /// The program's name.
        program: String,
        /// Its exit status and what it printed.
        reason: String,
    },

    /// Something did not happen within its time limit.
    #[error("{waiting_for} did not happen within {limit:?}")]
    Timeout {
        /// What was waited for.
        waiting_for: String,
        /// How long.
        limit: Duration,
    },

    /// A capture file could not be written or read.
    #[error("capture file {path}: {reason}")]
    CaptureFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },

    /// Traffic arrived, but not as it was sent.
    #[error("traffic damaged: {what}")]
    Damaged {
        /// What was expected and what arrived.
        what: String,
    },
}

impl Error {
    /// Adds the action that failed to an error of the operating system.
    pub(crate) fn system(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System {
            doing: doing.into(),
            source: source.into(),
        }
    }

    /// Returns "not installed" for a failed start of `program`, if that is the cause.
    pub(crate) fn start(program: &'static str, package: &'static str, source: Self) -> Self {
        match source {
            Self::System { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Self::MissingProgram { program, package }
            }
            other => other,
        }
    }
}

/// Results of the lab.
pub type Result<T, E = Error> = std::result::Result<T, E>;
