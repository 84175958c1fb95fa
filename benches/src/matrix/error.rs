//! Why the matrix could not be measured.

/// A failure of the lab, of a contender, or of the command line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line.
    #[error("{0}")]
    Usage(String),
    /// A contender, or a measurement that others share.
    #[error(transparent)]
    Bench(#[from] crate::Error),
    /// The lab.
    #[error(transparent)]
    Lab(#[from] testbed::Error),
    /// wireguard-go.
    #[error("{0}; --only with other parts than tunnel runs without wireguard-go")]
    Wireguard(#[from] testbed::ProgramError),
    /// The files of results.
    #[error(transparent)]
    Files(#[from] crate::files::Error),
    /// A program that configures the lab.
    #[error("`{command}` failed: {text}")]
    Program {
        /// Its command line.
        command: String,
        /// What it printed.
        text: String,
    },
    /// A contender that mirrors nothing.
    #[error("{contender} mirrored nothing within {seconds} s{text}")]
    Silent {
        /// Which one.
        contender: String,
        /// How long it had.
        seconds: u64,
        /// What it printed.
        text: String,
    },
    /// No quota.
    #[error(
        "this user may not make a control group with a CPU quota: run it as root, or leave the quota out \
         with --only cost,scale,idle"
    )]
    NoQuota,
    /// The kernel's counters.
    #[error("/proc/net/udp of the sensor's namespace does not count what a full socket drops")]
    NoCounters,
    /// podspan's totals and the receiver disagree.
    #[error(
        "{contender}, {case}: podspan counted {sent} datagrams sent, and {arrived} arrived at the receiver"
    )]
    Disagree {
        /// Which contender.
        contender: String,
        /// Which case.
        case: String,
        /// By podspan's totals.
        sent: u64,
        /// By the receiver's counters.
        arrived: u64,
    },
}

impl From<crate::options::Usage> for Error {
    fn from(usage: crate::options::Usage) -> Self {
        Self::Usage(usage.0)
    }
}

/// Results of the matrix.
pub type Result<T, E = Error> = std::result::Result<T, E>;
