//! The webhook that adds podspan's sidecar to new pods, for clusters without `MutatingAdmissionPolicy`.
//!
//! In: an `AdmissionReview` for each new pod that opted in. Out: the patch that the crate `inject` makes, or a warning
//! with the reasons; every pod is admitted. In the order of a request:
//!
//! ```text
//!   API server --> server (TLS, bounds) --> http --> body (bytes, bounds) --> review (no I/O) --> inject
//!                    ^ identity                        |
//!   authority (Secret, CA in the configuration; order by rotation, no I/O) or files     metrics <-'
//! ```
//! Invariant: nothing here keeps a pod from being created. The manifest says `failurePolicy: Ignore` and a time-out
//! of 2 s; the program says `allowed: true`.

#![forbid(unsafe_code)]

mod authority;
mod body;
mod config;
mod connections;
mod files;
mod http;
mod identity;
mod metrics;
pub mod review;
mod rotation;
mod server;
mod state;
mod variable;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::info;

pub use config::{Certificates, Config};
pub use variable::{PROGRAM, SETTINGS};

use authority::Subject;
use server::Port;
use state::State;

/// How long requests in progress may take when the process ends: as long as API servers wait.
const LAST_REQUESTS: Duration = Duration::from_secs(3);

/// Why the process ends by itself.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the error texts describe the variants")]
pub enum Error {
    #[error("the runtime cannot be started: {0}")]
    Runtime(io::Error),
    #[error("signals cannot be handled: {0}")]
    Signals(io::Error),
    #[error("{setting}={address}: cannot listen there: {error}; set another {setting}")]
    Listen {
        setting: &'static str,
        address: std::net::SocketAddr,
        error: io::Error,
    },
    #[error("TLS cannot be used: {0}; this is a defect, please report it")]
    Tls(rustls::Error),
}

impl program::Failure for Error {}

/// Answers API servers until SIGTERM or SIGINT.
///
/// # Errors
/// When a port or a signal's handler is refused.
pub fn run(config: Config) -> Result<(), Error> {
    // One thread is enough: an answer takes less than a millisecond.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    runtime.block_on(answer_until_signal(config))
}

async fn answer_until_signal(config: Config) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let bind = async |setting, address| {
        let failed = |error| Error::Listen {
            setting,
            address,
            error,
        };
        let listener = server::listen(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok::<_, Error>((listener, address))
    };
    let (reviews, reviews_at) = bind("LISTEN", config.listen).await?;
    let (status, status_at) = bind("STATUS", config.status).await?;
    // Files come from somebody who publishes the CA too.
    let published = config.certificates != Certificates::Own;
    let state = State::new(config.options, published);
    let tls = identity::server_config(Arc::clone(&state.identity)).map_err(Error::Tls)?;
    let tls = Port::Reviews(TlsAcceptor::from(Arc::new(tls)));
    info!(reviews = %reviews_at, status = %status_at, "podspan-webhook {} listens", env!("CARGO_PKG_VERSION"));

    let (stop, stopped) = watch::channel(false);
    let ports = [(reviews, tls), (status, Port::Status)].map(|(listener, port)| {
        let serving = server::serve(listener, port, Arc::clone(&state), stopped.clone());
        tokio::spawn(serving)
    });
    match config.certificates {
        Certificates::Own => {
            let subject = Subject {
                namespace: config.namespace,
                service: config.service,
                names: config.names,
                validity: config.validity,
            };
            tokio::spawn(authority::keep(subject, Arc::clone(&state)));
        }
        Certificates::Folder(folder) => {
            let state = Arc::clone(&state);
            tokio::spawn(async move { files::follow(&folder, &state).await });
        }
    }

    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    state.draining.store(true, Ordering::Relaxed);
    info!(
        "{name}: not ready; requests are answered for {:?}",
        config.drain
    );
    sleep(config.drain).await;
    // No receiver is left only if both ports have ended already.
    let _ = stop.send(true);
    let [first, second] = ports;
    let _ = timeout(LAST_REQUESTS, async { tokio::join!(first, second) }).await;
    info!("ended");
    Ok(())
}
