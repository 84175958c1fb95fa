//! Traffic of every kind between client and pod, again and again until it is stopped.
//!
//! Five threads: requests over kept connections, bulk transfers, datagrams, pings, and rare traffic
//! (resets, refusals, tagged and other unusual frames). Each thread finishes its work and then reads
//! the stop flag. The pauses bound the rate to about ten megabytes a second: the demo shows that the
//! copies are right, not how fast podspan is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use testbed::traffic::{
    Family, RawSocket, TIMEOUT, ping, refused_connection, reset_connection, samples, tcp_bulk,
    tcp_requests, udp_datagrams,
};
use testbed::verify::Verifier;
use testbed::{Host, Lab};

use crate::failure::{Failure, Result};

/// Request and response bodies of one kept connection, in bytes.
const BODIES: [(usize, usize); 8] = [
    (0, 120),
    (0, 4_000),
    (300, 90),
    (0, 60_000),
    (20_000, 10),
    (0, 0),
    (1, 1_448),
    (64, 200_000),
];
/// Payloads of UDP datagrams: up to five fragments and more.
const DATAGRAMS: [usize; 10] = [1, 17, 86, 512, 1_200, 1_423, 1_472, 1_473, 4_000, 8_900];
const PINGS: [usize; 5] = [64, 500, 1_472, 3_000, 8_000];
/// Bytes of one bulk transfer.
const BULK: usize = 1 << 20;

/// One run of a part.
type Work = fn(&Host, &Host) -> testbed::Result<()>;

/// Each part, and the pause after it.
const PARTS: [(Work, Duration); 5] = [
    (requests, Duration::from_millis(150)),
    (bulk, Duration::from_millis(600)),
    (datagrams, Duration::from_millis(40)),
    (pings, Duration::from_millis(100)),
    (rare, Duration::from_millis(250)),
];

/// Running traffic.
#[derive(Debug)]
pub(super) struct Traffic {
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<testbed::Result<()>>>,
}

impl Traffic {
    pub(super) fn start(lab: &Lab) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let threads = PARTS.map(|(work, pause)| {
            let (client, pod) = (lab.client.clone(), lab.pod.clone());
            let stopping = Arc::clone(&stopping);
            thread::spawn(move || {
                while !stopping.load(Ordering::Relaxed) {
                    work(&client, &pod)?;
                    thread::sleep(pause);
                }
                Ok(())
            })
        });
        Self {
            stopping,
            threads: threads.into(),
        }
    }

    /// Whether a thread has stopped on an error.
    pub(super) fn failed(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Stops the traffic. Returns its first error, if there is one.
    pub(super) fn stop(self) -> Result<()> {
        self.stopping.store(true, Ordering::Relaxed);
        let mut outcome = Ok(());
        for thread in self.threads {
            let ended = match thread.join() {
                Ok(ended) => ended.map_err(Failure::from),
                Err(_) => Err(Failure::Wrong(
                    "a thread of the traffic panicked".to_owned(),
                )),
            };
            outcome = outcome.and(ended);
        }
        outcome
    }
}

fn requests(client: &Host, pod: &Host) -> testbed::Result<()> {
    for family in Family::BOTH {
        tcp_requests(client, pod, family, &BODIES)?;
    }
    Ok(())
}

fn bulk(client: &Host, pod: &Host) -> testbed::Result<()> {
    for family in Family::BOTH {
        tcp_bulk(client, pod, family, BULK)?;
        tcp_bulk(pod, client, family, BULK)?;
    }
    Ok(())
}

fn datagrams(client: &Host, pod: &Host) -> testbed::Result<()> {
    for family in Family::BOTH {
        udp_datagrams(client, pod, family, &DATAGRAMS)?;
    }
    Ok(())
}

fn pings(client: &Host, pod: &Host) -> testbed::Result<()> {
    for family in Family::BOTH {
        for size in PINGS {
            ping(&client.namespace, family.address(pod), size, TIMEOUT)?;
        }
    }
    Ok(())
}

fn rare(client: &Host, pod: &Host) -> testbed::Result<()> {
    for family in Family::BOTH {
        reset_connection(client, pod, family)?;
        refused_connection(client, pod, family)?;
    }
    let socket = RawSocket::open(&client.eth0)?;
    for frame in valid_samples(client, pod) {
        socket.send(&frame)?;
    }
    Ok(())
}

/// The unusual frames that are valid. The malformed ones arrive unchanged and would count as
/// wrong.
fn valid_samples(client: &Host, pod: &Host) -> impl Iterator<Item = Vec<u8>> + use<> {
    let frames = samples(client.mac, pod.mac).into_iter();
    let frames = frames.map(|(_, frame)| frame);
    frames.filter(|frame| Verifier::new().verify(frame).is_right())
}
