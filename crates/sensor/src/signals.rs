//! SIGTERM, which the kubelet sends, and SIGINT, which Ctrl-C does: both ask for the end. As process 1 of
//! a container a program without a handler would get neither.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::Error;

/// The request to end.
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Handles both signals from now on.
    pub(crate) fn on_signals() -> Result<Self, Error> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            flag::register(signal, Arc::clone(&flag))
                .map_err(|error| Error::system("handle SIGTERM and SIGINT", &error))?;
        }
        Ok(Self(flag))
    }

    /// Whether one of them has come.
    pub(crate) fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
