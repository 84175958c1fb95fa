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
//! `worker` is the thread that does it, `keys` reads and follows the files of keys, and `report` logs the counts. What
//! comes from the network is decided in the crate `tunnel`, without I/O; docs/encryption.md has the protocol and what
//! it protects from.

#![forbid(unsafe_code)]

mod config;
mod forward;
mod keys;
mod report;
mod socket;
mod variable;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use capture::privilege::{PrivilegeError, drop_all};
use program::{Failure, OS_ERROR, USAGE};
use signal_hook::consts::{SIGINT, SIGTERM};
use thiserror::Error;
use tracing::info;
use tunnel::PresharedKeys;
use tunnel::responder::{Responder, ResponderConfig};

pub use config::{Config, Receiver};
pub use keys::KeyError;
pub use variable::{PROGRAM, SETTINGS};

use forward::{Forward, keep_open};
use keys::PresharedFile;
use worker::{Published, Snapshot, Worker};

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
    let (mut file, preshared) = PresharedFile::open(config.preshared_keys.clone())?;
    let count = preshared.count();
    let responder = ResponderConfig {
        private,
        preshared,
        limits: config.limits,
    };
    let (workers, senders, published) = workers(config, &responder, &stop)?;
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
    info!(
        listen = %address, forward = %config.forward, public_key = %public, preshared_keys = count,
        threads = config.threads, "podspan-receive {} receives", env!("CARGO_PKG_VERSION")
    );
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
        follow(&mut file, &senders, &published, &stop);
        Ok(())
    })?;
    report::log("ended", &report::sum(&published));
    Ok(())
}

fn forwarding(address: SocketAddr) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::Forward { address, error }
}

/// What each thread works with.
type Workers = (Vec<Worker>, Vec<Sender<PresharedKeys>>, Vec<Published>);

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
        let published: Published = Arc::new(Mutex::new(Snapshot::default()));
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
fn follow(
    file: &mut PresharedFile,
    senders: &[Sender<PresharedKeys>],
    published: &[Published],
    stop: &AtomicBool,
) {
    let mut reported = Snapshot::default();
    let mut next_report = Instant::now() + REPORT_EVERY;
    while !stop.load(Ordering::Relaxed) {
        // Not longer: a signal only sets the flag.
        thread::park_timeout(LOOK_EVERY);
        if let Some(keys) = file.changed() {
            for sender in senders {
                // A thread that has ended needs none.
                let _ = sender.send(keys.clone());
            }
        }
        let now = Instant::now();
        if now >= next_report {
            next_report = now + REPORT_EVERY;
            let sum = report::sum(published);
            if sum != reported {
                report::log("received", &sum);
                reported = sum;
            }
        }
    }
}
