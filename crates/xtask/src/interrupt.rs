//! Ctrl-C as a value.
//!
//! The first SIGINT, SIGTERM or SIGHUP sets a flag, and the command cleans up and ends. The second one
//! ends the program at once; the kernel then cleans up: it kills the children, and it removes the
//! namespaces because they have no name. Signal handlers are used and not a blocked mask: children
//! inherit a mask, and then SIGTERM could not end them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_shutdown};

use crate::failure::{Failure, INTERRUPTED, Result};

/// Whether a signal has asked the program to end.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Installs the handlers.
    pub(crate) fn install() -> Result<Self> {
        let requested = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: at the first signal, the first handler must find the flag not yet set.
            register_conditional_shutdown(signal, INTERRUPTED.into(), Arc::clone(&requested))
                .and_then(|_| register(signal, Arc::clone(&requested)))
                .map_err(|source| Failure::system("handling Ctrl-C", source))?;
        }
        Ok(Self(requested))
    }

    pub(crate) fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
