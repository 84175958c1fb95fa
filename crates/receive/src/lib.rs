//! `podspan-receive`: ends the encrypted tunnels of podspans beside a sensor, without any privilege.
//!
//! In: WireGuard datagrams of any number of podspans. Out: the VXLAN datagrams in them, to the sensor's address,
//! usually over the loopback interface. In the order of a datagram:
//!
//! ```text
//!   podspans --UDP--> socket (batches, one socket a thread) --> tunnel::Responder (sessions, keys) --> forward --> sensor
//!                                  ^ replies: handshakes, cookies, keepalives  |
//!                                  '-------------------------------------------'
//! ```
//! `worker` is the thread that does it, and `keys` reads and follows the files of keys. What is known about the work is a
//! `status`; `figures` declares each number of it once, for the log and for metrics, which `http` gives to the server of the crate
//! `metrics` on the main thread. What comes from the network is decided in the crate `tunnel`, without I/O; docs/encryption.md has the protocol and what
//! it protects from.

#![forbid(unsafe_code)]

mod config;
mod figures;
mod forward;
mod http;
mod keys;
mod socket;
mod status;
mod variable;
mod worker;

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use capture::privilege::{PrivilegeError, drop_all};
use program::{Failure, OS_ERROR, USAGE};
use signal_hook::consts::{SIGINT, SIGTERM};
use thiserror::Error;
use tokio::time::sleep;
use tracing::info;
use tunnel::PresharedKeys;
use tunnel::responder::{Responder, ResponderConfig};

pub use ::keys::KeyError;
pub use config::{Config, Receiver};
pub use figures::metrics_markdown;
pub use variable::{PROGRAM, SETTINGS};

use forward::{Forward, keep_open};
use keys::PresharedFile;
use status::State;
use worker::{Shared, Snapshot, Worker};

/// How often the request to stop and the file of keys are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often the counts are logged, if they have changed.
const REPORT_EVERY: Duration = Duration::from_mins(1);

/// Why the process ends by itself.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the error texts describe the variants")]
pub enum Error {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("LISTEN={address}: cannot listen there: {error}; set another LISTEN")]
    Listen {
        address: SocketAddr,
        error: io::Error,
    },
    #[error("FORWARD={address}: nothing can be sent there: {error}; set another FORWARD")]
    Forward {
        address: SocketAddr,
        error: io::Error,
    },
    #[error("METRICS={address}: cannot listen there: {error}; set another METRICS, or off")]
    Metrics {
        address: SocketAddr,
        error: io::Error,
    },
    #[error("metrics cannot be served: {0}; METRICS=off does without them")]
    Runtime(io::Error),
    #[error("signals cannot be handled: {0}")]
    Signals(io::Error),
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    #[error("a thread cannot be started: {0}")]
    Thread(io::Error),
}

impl Failure for Error {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Key(_) => USAGE,
            _ => OS_ERROR,
        }
    }
}

/// Receives until SIGTERM or SIGINT.
///
/// # Errors
/// When a file of keys cannot be used, or the system refuses a socket, a signal's handler or a thread.
pub fn run(config: &Config) -> Result<(), Error> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(Error::Signals)?;
    }
    let private = keys::private(&config.private_key)?;
    let public = private.public();
    let (mut file, preshared) = PresharedFile::open(&config.preshared_keys)?;
    let responder = ResponderConfig {
        private,
        preshared,
        limits: config.limits,
    };
    let (workers, senders, shared) = workers(config, &responder, &stop)?;
    let listener = config.metrics.map(listen).transpose()?;
    let _kept_open = match config.receiver {
        Receiver::Sniffer => keep_open(config.forward).map_err(forwarding(config.forward))?,
        Receiver::Socket => None,
    };
    // Before the first thread, which would keep them.
    drop_all()?;
    let address = workers
        .first()
        .and_then(|worker| worker.socket.local_addr().ok());
    let address = address
        .and_then(|address| address.as_socket())
        .unwrap_or(config.listen);
    let metrics = listener
        .as_ref()
        .and_then(|listener| listener.local_addr().ok());
    info!(
        listen = %address, forward = %config.forward, public_key = %public, preshared_keys = file.state().keys,
        threads = config.threads, metrics = %metrics.map_or_else(|| "off".to_owned(), |address| address.to_string()),
        "podspan-receive {} receives", env!("CARGO_PKG_VERSION")
    );
    let peers_limit = u64::from(config.threads.get()) * config.limits.peers as u64;
    let state = Arc::new(State::new(
        shared,
        peers_limit,
        file.state(),
        Instant::now(),
    ));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    thread::scope(|scope| {
        let mut running = Vec::new();
        for worker in workers {
            let name = "worker".to_owned();
            let builder = thread::Builder::new().name(name);
            match builder.spawn_scoped(scope, || worker.run()) {
                Ok(thread) => running.push(thread),
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    return Err(Error::Thread(error));
                }
            }
        }
        let served = runtime.block_on(async {
            tokio::select! {
                served = serve(listener, Arc::clone(&state)) => served.map(|never| match never {}),
                () = follow(&mut file, &senders, &state, &stop) => Ok(()),
            }
        });
        stop.store(true, Ordering::Relaxed);
        served.map_err(Error::Runtime)
    })?;
    figures::log("ended", &state.status());
    Ok(())
}

fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    metrics::http::listen(address).map_err(|error| Error::Metrics { address, error })
}

/// Serves metrics, or nothing.
async fn serve(listener: Option<TcpListener>, state: Arc<State>) -> io::Result<Infallible> {
    match listener {
        Some(listener) => metrics::http::serve(listener, state).await,
        None => pending().await,
    }
}

fn forwarding(address: SocketAddr) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::Forward { address, error }
}

/// What each thread works with.
type Workers = (Vec<Worker>, Vec<Sender<PresharedKeys>>, Vec<Shared>);

fn workers(
    config: &Config,
    responder: &ResponderConfig,
    stop: &Arc<AtomicBool>,
) -> Result<Workers, Error> {
    let address = config.listen;
    let sockets = socket::listen(address, config.threads)
        .map_err(|error| Error::Listen { address, error })?;
    let responders = Responder::group(responder, config.threads, Instant::now());
    let (mut workers, mut senders, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for (socket, responder) in sockets.into_iter().zip(responders) {
        let forward = Forward::open(config.forward, config.receiver);
        let (sender, keys) = mpsc::channel();
        let published = Shared::default();
        senders.push(sender);
        all.push(Arc::clone(&published));
        workers.push(Worker {
            socket,
            responder,
            forward: forward.map_err(forwarding(config.forward))?,
            keys,
            published,
            stop: Arc::clone(stop),
        });
    }
    Ok((workers, senders, all))
}

/// Follows the file of keys and logs the counts, until the request to stop.
async fn follow(
    file: &mut PresharedFile,
    senders: &[Sender<PresharedKeys>],
    state: &State,
    stop: &AtomicBool,
) {
    let mut reported = Snapshot::default();
    let mut next_report = Instant::now() + REPORT_EVERY;
    while !stop.load(Ordering::Relaxed) {
        // Not longer: a signal only sets the flag.
        sleep(LOOK_EVERY).await;
        if let Some(keys) = file.changed() {
            for sender in senders {
                // A thread that has ended needs none.
                let _ = sender.send(keys.clone());
            }
        }
        state.set_keys(file.state());
        let now = Instant::now();
        if now >= next_report {
            next_report = now + REPORT_EVERY;
            let status = state.status();
            if status.work != reported {
                figures::log("received", &status);
                reported = status.work;
            }
        }
    }
}
