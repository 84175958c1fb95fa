//! One thread: datagrams in, copies to the sensor and replies to podspans out.
//!
//! A batch is read, each datagram is opened, the copies are sent, and then the next batch is read. Nothing is shared
//! with other threads: each has its socket and its part of the sessions. Once a second it removes old sessions, sends
//! keepalives, takes new keys and publishes its counts, also while nothing arrives: so it shows that it is not stuck.
//!
//! Invariant: the counts are published between two batches, where each datagram that was received is counted as what
//! became of it too.

use std::net::SocketAddr;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use socket2::Socket;
use tunnel::PresharedKeys;
use tunnel::responder::{Opened, Replies, Responder, TICK, Totals};

use crate::forward::{Counts, Forward};
use crate::socket::{Received, reachable, wait};

/// How long datagrams are still read after the request to stop.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// The numbers of a thread, or the sum of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Snapshot {
    /// Datagrams from the network, and their bytes.
    pub(crate) received: Sum,
    pub(crate) totals: Totals,
    /// Bytes of the VXLAN datagrams that were opened.
    pub(crate) opened_bytes: u64,
    pub(crate) forward: Counts,
    /// Datagrams, or messages of several, that found a full receive buffer.
    pub(crate) overflowed: u64,
    /// Replies that the kernel refused.
    pub(crate) replies_failed: u64,
    /// Podspans with a session.
    pub(crate) peers: u64,
    /// Sessions, and those of them that are not confirmed yet.
    pub(crate) sessions: u64,
    pub(crate) half_open: u64,
}

impl AddAssign for Snapshot {
    fn add_assign(&mut self, other: Self) {
        self.received.datagrams += other.received.datagrams;
        self.received.bytes += other.received.bytes;
        self.totals += other.totals;
        self.opened_bytes += other.opened_bytes;
        self.forward.forwarded += other.forward.forwarded;
        self.forward.queue_full += other.forward.queue_full;
        self.forward.send_error += other.forward.send_error;
        self.overflowed += other.overflowed;
        self.replies_failed += other.replies_failed;
        self.peers += other.peers;
        self.sessions += other.sessions;
        self.half_open += other.half_open;
    }
}

/// Datagrams and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sum {
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
}

/// What a thread publishes.
#[derive(Debug, Default)]
pub(crate) struct Published {
    pub(crate) snapshot: Snapshot,
    /// When; `None` before the thread has begun.
    pub(crate) at: Option<Instant>,
}

/// What a thread publishes, for who reads it.
pub(crate) type Shared = Arc<Mutex<Published>>;

/// What a thread works with.
pub(crate) struct Worker {
    pub(crate) socket: Socket,
    pub(crate) responder: Responder,
    pub(crate) forward: Forward,
    pub(crate) keys: Receiver<PresharedKeys>,
    pub(crate) published: Shared,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Worker {
    /// Works until the request to stop, and then reads what is left.
    pub(crate) fn run(self) {
        let is_ipv6 = self
            .socket
            .local_addr()
            .is_ok_and(|address| address.is_ipv6());
        let mut running = Running {
            is_ipv6,
            received: Received::new(),
            replies: Replies::new(),
            replies_failed: 0,
            sum: Sum::default(),
            opened_bytes: 0,
            worker: self,
        };
        running.publish();
        let mut next_tick = Instant::now() + TICK;
        let mut ends = None;
        loop {
            let now = Instant::now();
            if running.worker.stop.load(Ordering::Relaxed) {
                ends = ends.or(Some(now + DRAIN_MAX));
            }
            if now >= next_tick {
                running.tick(now);
                next_tick = now + TICK;
            }
            let is_over = ends.is_some_and(|ends| now >= ends);
            let read = running.received.read(&running.worker.socket);
            match read {
                Ok(()) => running.process(now),
                Err(Errno::EAGAIN) if ends.is_some() => break,
                Err(Errno::EAGAIN) => wait(&running.worker.socket, next_tick - now),
                // An error of an earlier reply, which the kernel keeps for the next call.
                Err(_) => {}
            }
            if is_over {
                break;
            }
        }
        running.publish();
    }
}

struct Running {
    worker: Worker,
    is_ipv6: bool,
    received: Received,
    replies: Replies,
    replies_failed: u64,
    sum: Sum,
    opened_bytes: u64,
}

impl Running {
    fn process(&mut self, now: Instant) {
        let Worker {
            socket,
            responder,
            forward,
            ..
        } = &mut self.worker;
        for (datagram, from) in self.received.datagrams() {
            self.sum.datagrams += 1;
            self.sum.bytes += datagram.len() as u64;
            let replies = &mut self.replies;
            let opened = responder.receive(datagram, from, now, forward.room(), replies);
            if let Ok(Opened::Vxlan { bytes, .. }) = opened {
                self.opened_bytes += bytes.len() as u64;
                forward.push(&bytes);
            } else {
                for reply in replies.iter() {
                    let failed = send(socket, self.is_ipv6, from, reply);
                    self.replies_failed += u64::from(failed);
                }
            }
        }
        forward.send();
    }

    fn tick(&mut self, now: Instant) {
        while let Ok(keys) = self.worker.keys.try_recv() {
            self.worker.responder.set_preshared(keys);
        }
        let Worker {
            socket, responder, ..
        } = &mut self.worker;
        let (is_ipv6, failed) = (self.is_ipv6, &mut self.replies_failed);
        responder.tick(now, |to, keepalive| {
            *failed += u64::from(send(socket, is_ipv6, to, keepalive));
        });
        self.publish();
    }

    fn publish(&self) {
        let responder = &self.worker.responder;
        let snapshot = Snapshot {
            received: self.sum,
            totals: *responder.totals(),
            opened_bytes: self.opened_bytes,
            forward: self.worker.forward.counts(),
            overflowed: self.received.overflowed.into(),
            replies_failed: self.replies_failed,
            peers: responder.peers() as u64,
            sessions: responder.sessions() as u64,
            half_open: responder.half_open() as u64,
        };
        let published = self.worker.published.lock();
        *published.unwrap_or_else(PoisonError::into_inner) = Published {
            snapshot,
            at: Some(Instant::now()),
        };
    }
}

/// Sends a reply; returns whether the kernel refused it. A podspan asks again.
fn send(socket: &Socket, is_ipv6: bool, to: SocketAddr, reply: &[u8]) -> bool {
    socket.send_to(reply, &reachable(to, is_ipv6)).is_err()
}
