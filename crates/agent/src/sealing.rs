//! The worker's sessions with sensors that have a tunnel.
//!
//! In: sessions and keepalives from the control side, through a bounded channel each; the table of sensors; and
//! datagrams to seal ([`mirror::Seal`]). Out: sealed datagrams, and for the control side what each session has
//! sealed and heard ([`Progress`]).
//!
//! The control side makes sessions ([`crate::tunnels`]); each belongs to the worker alone from then on, so sealing
//! takes no lock. An eventfd wakes the worker for what is in the channels, so an idle worker takes a new session
//! too, and the channels do not fill. A busy worker looks at them several times a second. Anybody can send what looks
//! like a keepalive, so keepalives have a channel of their own: they take no room of a session.
//!
//! Invariant: a datagram for a sensor is sealed by the newest session with this sensor, or not at all.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use mirror::{PortIndex, Seal, SensorIndex, SensorTable};
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use tunnel::protocol::KEEPALIVE_LEN;
use tunnel::sealer::{Counts, Scratch, Sealer};

/// How many messages a channel holds: more than arrive while the worker is busy: one of each of a hundred sensors.
const MESSAGES_MAX: usize = 256;

/// An established session.
pub(crate) struct Session {
    /// The sensor's address.
    pub(crate) sensor: SocketAddr,
    /// What seals.
    pub(crate) sealer: Sealer,
    /// Where the worker stores what it has done.
    pub(crate) progress: Arc<Progress>,
}

/// What the worker has done in a session. Only the worker writes.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    sealed: AtomicU64,
    heard: AtomicU64,
}

impl Progress {
    /// The counts.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            sealed: self.sealed.load(Ordering::Relaxed),
            heard: self.heard.load(Ordering::Relaxed),
        }
    }

    fn store(&self, counts: Counts) {
        self.sealed.store(counts.sealed, Ordering::Relaxed);
        self.heard.store(counts.heard, Ordering::Relaxed);
    }
}

/// What happens to the session with a sensor, in this order.
enum Change {
    Established(Box<Session>),
    Ended(SocketAddr),
}

/// A datagram as long as a keepalive, and the sensor that it comes from.
type Keepalive = (SocketAddr, [u8; KEEPALIVE_LEN]);

/// The control side's end of the channels.
pub(crate) struct ToWorker {
    changes: SyncSender<Change>,
    keepalives: SyncSender<Keepalive>,
    wakes: Arc<EventFd>,
}

impl ToWorker {
    /// Gives the worker a session, which replaces an earlier one with this sensor; returns whether there was room.
    pub(crate) fn establish(&self, session: Session) -> bool {
        self.give(&self.changes, Change::Established(Box::new(session)))
    }

    /// Ends the session with a sensor that is no longer listed: if it comes back, it may be another process.
    pub(crate) fn end(&self, sensor: SocketAddr) -> bool {
        self.give(&self.changes, Change::Ended(sensor))
    }

    /// Gives the worker a datagram as long as a keepalive, from a sensor; returns whether there was room.
    pub(crate) fn keepalive(&self, sensor: SocketAddr, datagram: [u8; KEEPALIVE_LEN]) -> bool {
        self.give(&self.keepalives, (sensor, datagram))
    }

    fn give<T>(&self, channel: &SyncSender<T>, message: T) -> bool {
        let has_room = channel.try_send(message).is_ok();
        // A write to an eventfd fails only if its counter overflows.
        let _ = self.wakes.write(1);
        has_room
    }
}

/// The worker's sessions.
pub(crate) struct Sessions {
    changes: Receiver<Change>,
    keepalives: Receiver<Keepalive>,
    wakes: Arc<EventFd>,
    established: Vec<Session>,
    /// The table that `of_sensor` was made for.
    table: Option<Arc<SensorTable>>,
    /// For each sensor of the table the place of its session.
    of_sensor: Vec<Option<usize>>,
    /// The source ports inside the tunnel, by [`PortIndex`].
    ports: Vec<u16>,
    /// The time of the batch.
    now: Instant,
    scratch: Scratch,
}

impl Sessions {
    /// No sessions, and the channels that they and keepalives come through. `ports`: the source ports that the
    /// datagrams would have without a tunnel.
    ///
    /// # Errors
    /// When the kernel cannot create a descriptor.
    pub(crate) fn channel(ports: &[u16]) -> Result<(ToWorker, Self), Errno> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let wakes = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let (change_sender, changes) = sync_channel(MESSAGES_MAX);
        let (keepalive_sender, keepalives) = sync_channel(MESSAGES_MAX);
        let to_worker = ToWorker {
            changes: change_sender,
            keepalives: keepalive_sender,
            wakes: Arc::clone(&wakes),
        };
        let sessions = Self {
            changes,
            keepalives,
            wakes,
            established: Vec::new(),
            table: None,
            of_sensor: Vec::new(),
            ports: ports.to_vec(),
            now: Instant::now(),
            scratch: Scratch::new(),
        };
        Ok((to_worker, sessions))
    }

    /// Takes what is in the channels. Call it when the descriptor is readable.
    pub(crate) fn receive(&mut self, now: Instant) {
        // Before the messages: one that comes in between is read now or wakes the worker again.
        let _ = self.wakes.read();
        while let Ok(change) = self.changes.try_recv() {
            match change {
                Change::Established(session) => self.insert(*session, now),
                Change::Ended(sensor) => self.remove(sensor),
            }
        }
        while let Ok((sensor, datagram)) = self.keepalives.try_recv() {
            self.hear(sensor, &datagram);
        }
    }

    /// Replaces the session with this sensor, and drops those that are over.
    fn insert(&mut self, session: Session, now: Instant) {
        let sensor = session.sensor;
        self.established
            .retain(|other| other.sensor != sensor && now < other.sealer.ends());
        self.established.push(session);
        // The places have changed.
        self.table = None;
    }

    fn remove(&mut self, sensor: SocketAddr) {
        self.established.retain(|session| session.sensor != sensor);
        self.table = None;
    }

    fn hear(&mut self, sensor: SocketAddr, datagram: &[u8]) {
        let session = self
            .established
            .iter_mut()
            .find(|session| session.sensor == sensor);
        // A keepalive of an earlier session, or of somebody else, is refused, and there is nothing to do about it.
        if let Some(session) = session
            && session.sealer.hear(datagram).is_ok()
        {
            session.progress.store(session.sealer.counts());
        }
    }

    /// Starts to seal a batch that was made with this table.
    pub(crate) fn begin(&mut self, table: &Arc<SensorTable>, now: Instant) {
        self.now = now;
        if self
            .table
            .as_ref()
            .is_some_and(|last| Arc::ptr_eq(last, table))
        {
            return;
        }
        // The session of a sensor that is new in the table was given before the table.
        self.receive(now);
        let place = |sensor: &mirror::Sensor| {
            let mut all = self.established.iter();
            all.position(|session| session.sensor == sensor.address())
        };
        self.of_sensor.clear();
        self.of_sensor.extend(table.sensors().iter().map(place));
        self.table = Some(Arc::clone(table));
    }

    /// Publishes what was sealed.
    pub(crate) fn publish(&self) {
        for session in &self.established {
            session.progress.store(session.sealer.counts());
        }
    }
}

impl Seal for Sessions {
    fn seal(
        &mut self,
        sensor: SensorIndex,
        port: PortIndex,
        head: &[u8],
        body: &[u8],
        out: &mut [u8],
    ) -> bool {
        let place = self.of_sensor.get(usize::from(sensor.0)).copied().flatten();
        let session = place.and_then(|place| self.established.get_mut(place));
        let port = self.ports.get(usize::from(port.0)).copied();
        let Some((session, port)) = session.zip(port) else {
            return false;
        };
        let Ok(mut sealing) = session.sealer.begin(self.now, &mut self.scratch) else {
            return false;
        };
        sealing
            .seal(port, head, body, out)
            .is_ok_and(|length| length == out.len())
    }
}

impl AsFd for Sessions {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wakes.as_fd()
    }
}

#[cfg(test)]
#[path = "sealing_tests.rs"]
mod tests;
