//! Ctrl-C as a value.
//!
//! The first SIGINT, SIGTERM or SIGHUP sets a flag, at which the command winds up; the second ends
//! the program at once. Whatever is left then is the kernel's to clean up: children die with us,
//! namespaces have no name. Handlers rather than a blocked mask, because children inherit the mask
//! and could not be asked to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_shutdown};

use crate::failure::{Failure, INTERRUPTED, Result};

/// Whether somebody wants the program to end.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Begins to listen.
    pub(crate) fn listen() -> Result<Self> {
        let requested = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: at the first signal the flag is not yet set when the first looks.
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
