//! Why a measurement could not be made.

use std::process::ExitStatus;
use std::time::Duration;

use nix::errno::Errno;

/// A failure of the lab, of podspan, or of the measurement itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lab could not be made, or traffic in it failed.
    #[error(transparent)]
    Lab(#[from] testbed::Error),

    /// A system call of the measurement failed.
    #[error("{doing}: {source}")]
    System {
        /// The action that failed.
        doing: &'static str,
        /// What the kernel answered.
        source: Errno,
    },

    /// The ring of a recording could not be made.
    #[error(transparent)]
    Ring(capture::OpenError),

    /// The ring of a recording is not on the pod's interface.
    #[error("the pod of the lab has no eth0 to record")]
    NotBound,

    /// The ring did not have all frames of a recording.
    #[error("the ring lost frames, so there is no recording: try again on a quiet machine")]
    IncompleteRecording,

    /// A system call of a recording failed.
    #[error("{doing}: {source}")]
    Io {
        /// The action that failed.
        doing: &'static str,
        /// What the kernel answered.
        source: std::io::Error,
    },

    /// A process of a measurement printed something else than a number.
    #[error("a process of the measurement printed {text:?} instead of a number")]
    Unreadable {
        /// What it printed.
        text: String,
    },

    /// A program that changes the lab's network failed.
    #[error("changing the network of the lab: {text}")]
    Change {
        /// What it printed.
        text: String,
    },

    /// A tunnel could not be made.
    #[error("the tunnel of the measurement: {0}")]
    Tunnel(String),

    /// There is no CPU quota.
    #[error(
        "this user may not make a control group with a CPU quota: run the bench as root, with cgroup v1 or v2"
    )]
    NoQuota,

    /// Copies of a load that was to be mirrored without loss are missing.
    #[error("{missing} of {sent} copies did not arrive: try again on a quiet machine")]
    CopiesLost {
        /// How many.
        missing: usize,
        /// How many frames were sent to the pod.
        sent: usize,
    },

    /// The highest rate without loss was not found.
    #[error(
        "podspan loses frames even at {per_second} frames a second: try again on a quiet machine"
    )]
    TooSlow {
        /// The lowest rate that was tried.
        per_second: u32,
    },

    /// The results could not be written.
    #[cfg(feature = "report")]
    #[error(transparent)]
    Files(#[from] crate::files::Error),

    /// A file of frames.
    #[error(transparent)]
    Recording(#[from] instructions::recording::Error),

    /// podspan mirrored nothing that was sent to the pod.
    #[error("podspan mirrored nothing within {limit:?}; it printed:\n{log}")]
    Silent {
        /// How long the test waited.
        limit: Duration,
        /// What podspan had printed.
        log: String,
    },

    /// podspan ended by itself, or with an error after SIGTERM.
    #[error("podspan ended with {status}; it printed:\n{log}")]
    Ended {
        /// Its exit status.
        status: ExitStatus,
        /// What it printed.
        log: String,
    },

    /// podspan ended without an error but did not print its totals.
    #[error("podspan printed no complete line of totals when it was stopped:\n{log}")]
    NoTotals {
        /// What it printed.
        log: String,
    },

    /// The thread that sends the load to the pod panicked.
    #[error("the client's load ended by a panic")]
    LoadFailed,

    /// podspan mirrored too little of the load for a useful number.
    #[error("podspan sent {sent} datagrams for a load of {load} packets; it dropped {dropped}")]
    LoadLost {
        /// Datagrams that it sent.
        sent: u64,
        /// Packets that were sent to the pod.
        load: u64,
        /// Frames that it, or its ring, dropped.
        dropped: u64,
    },
}

/// Results of measurements.
pub type Result<T, E = Error> = std::result::Result<T, E>;
