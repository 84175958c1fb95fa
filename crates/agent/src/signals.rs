//! The signals that end podspan.
//!
//! They are taken from the start on, so one that comes while the start is tried again is not lost. To
//! take them starts no thread, which may not exist before the capabilities are dropped.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM, which the kubelet sends, and SIGINT, which Ctrl-C does.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes them from now on. To be called within the runtime.
    ///
    /// # Errors
    /// When the system does not let them be taken.
    pub(crate) fn take() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one, and gives its name. One that comes while nobody waits is kept.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
