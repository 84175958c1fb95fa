//! The encrypted tunnels to sensors: the control side.
//!
//! In: the addresses of the sensors that have a tunnel; their answers; the keys; what the worker has sealed and
//! heard. Out: handshakes, sessions for the worker ([`crate::sealing`]), and which of these sensors can be used
//! now ([`Tunnels::is_ready`]).
//!
//! One [`Initiator`] for each sensor decides what to send and when; nothing here waits for an answer. The answers
//! come to the port that the worker's sealed datagrams are sent from, so they are sent and read on duplicates of
//! these sockets. A datagram as long as a keepalive belongs to the session and goes to the worker.
//!
//! A sensor is *ready* while there is a session with it that is not over and the sensor gives a sign of life while
//! data are sent. Sensors that are not ready are not used as long as another one is. Without keys, which may come
//! later, no sensor is ready and nothing is sent.
//!
//! Anybody can send to the port. So the kernel passes only what looks like an answer and comes from a sensor's host
//! ([`transmit::receive_answers`]). An attacker can pretend to be one, so at most [`READ_AT_ONCE`] datagrams of each
//! address family are read per [`READ_PAUSE`]; what does not fit the small buffer is dropped by the kernel, and the
//! handshake is tried again.

pub(crate) mod keys;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::Socket;
use tokio::time::sleep_until;
use transmit::Answers;
use tunnel::initiator::{Answer, Initiator, InitiatorConfig};
use tunnel::protocol::{INITIATION_LEN, KEEPALIVE_LEN, RESPONSE_LEN};
use tunnel::{Inner, Refusal, overhead};

use self::keys::KeyFiles;
use crate::reminders::Reminders;
use crate::sealing::{Progress, Session, ToWorker};

/// How many datagrams are read before a pause.
const READ_AT_ONCE: usize = 64;
/// The pause.
const READ_PAUSE: Duration = Duration::from_millis(20);
/// How long a sensor can take to answer before a line of the log says that it does not.
const UNANSWERED: Duration = Duration::from_secs(5);
/// How long a sensor that has answered a handshake refutes evidence of a failure that anybody can forge. More than a
/// second, after which the next handshake starts, and than the second initiation of that.
const REFUTES: Duration = Duration::from_secs(3);
/// A message that the worker had no room for is made again after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// All tunnels.
pub(crate) struct Tunnels {
    /// One for each address family, IPv4 first.
    sockets: [Option<UdpSocket>; 2],
    files: KeyFiles,
    inner: Inner,
    by_sensor: BTreeMap<SocketAddr, Tunnel>,
    to_worker: ToWorker,
    /// After the pause, if answers were read a short time ago.
    read_again: Option<Instant>,
    reminders: Reminders,
}

/// The tunnel to one sensor.
struct Tunnel {
    /// None without keys.
    initiator: Option<Initiator>,
    /// What the worker has done in the newest session.
    progress: Arc<Progress>,
    /// Whether the sensor was ready when this was last asked.
    was_ready: bool,
    /// Since when it is not.
    unready_since: Instant,
    /// When evidence of a failure last started a handshake, or is going to.
    suspected: Option<Instant>,
    /// When the sensor last answered a handshake.
    answered: Option<Instant>,
}

impl Tunnels {
    /// No tunnels. `sockets`: those that sealed datagrams are sent from, IPv4 first.
    pub(crate) fn new(
        sockets: [Option<Socket>; 2],
        files: KeyFiles,
        inner: Inner,
        to_worker: ToWorker,
    ) -> Self {
        Self {
            sockets: sockets.map(|socket| socket.map(UdpSocket::from)),
            files,
            inner,
            by_sensor: BTreeMap::new(),
            to_worker,
            read_again: None,
            reminders: Reminders::default(),
        }
    }

    /// Prepares to wait for answers. Must be called within the runtime.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn answers(&self) -> io::Result<Answers> {
        Answers::of(&self.sockets)
    }

    /// How many bytes a tunnel adds to each datagram.
    pub(crate) const fn added(&self) -> NonZeroU16 {
        overhead::added(self.inner.family())
    }

    /// Sets the addresses of all sensors with a tunnel. Handshakes with new ones are due at once.
    pub(crate) fn set_sensors(&mut self, sensors: impl Iterator<Item = SocketAddr>, now: Instant) {
        let mut before = std::mem::take(&mut self.by_sensor);
        for address in sensors {
            let tunnel = before.remove(&address);
            let tunnel = tunnel.unwrap_or_else(|| self.tunnel(now));
            self.by_sensor.insert(address, tunnel);
        }
        for removed in before.into_keys() {
            self.to_worker.end(removed);
        }
        self.set_sources();
    }

    /// Lets the kernel pass the answers of these sensors.
    fn set_sources(&self) {
        for socket in self.sockets.iter().flatten() {
            let hosts = self.by_sensor.keys().map(SocketAddr::ip);
            if let Err(error) = transmit::receive_answers(socket, hosts) {
                tracing::warn!(
                    %error,
                    "the kernel refuses the filter for the answers of the tunnels, so new ones may not come up; raise \
                     net.core.optmem_max of the node"
                );
            }
        }
    }

    /// `None` without keys.
    fn config(&self) -> Option<InitiatorConfig> {
        let keys = self.files.keys()?;
        Some(InitiatorConfig {
            identity: keys.identity.clone(),
            sensor: keys.sensor,
            preshared: keys.preshared.clone(),
            inner: self.inner,
        })
    }

    fn tunnel(&self, now: Instant) -> Tunnel {
        Tunnel {
            initiator: self.config().map(|config| initiator(config, now)),
            progress: Arc::default(),
            was_ready: false,
            unready_since: now,
            suspected: None,
            answered: None,
        }
    }

    /// Whether a sensor can be used.
    pub(crate) fn is_ready(&self, sensor: SocketAddr, now: Instant) -> bool {
        let tunnel = self.by_sensor.get(&sensor);
        tunnel.is_some_and(|tunnel| tunnel.is_ready(now))
    }

    /// Handles evidence that a sensor fails, which anybody can forge. Returns whether the sensor has shown a moment ago
    /// that it does not, which nobody else can.
    ///
    /// It starts a handshake: a sensor that works answers it, and one that was restarted has no session.
    pub(crate) fn refutes_failure(&mut self, sensor: SocketAddr, now: Instant) -> bool {
        let Some(tunnel) = self.by_sensor.get_mut(&sensor) else {
            return false;
        };
        let Some(initiator) = &mut tunnel.initiator else {
            return false;
        };
        // One a second at most, also if each is answered.
        let next = tunnel.suspected.map_or(now, |at| now.max(at + AGAIN));
        if next == now {
            tunnel.suspected = Some(now);
            initiator.restart(now);
        } else if initiator.start_by(next) {
            tunnel.suspected = Some(next);
        }
        tunnel
            .answered
            .is_some_and(|at| now.saturating_duration_since(at) < REFUTES)
    }

    /// Reads the files of keys again, and what the worker has done. Call it about once a second while there is
    /// traffic.
    pub(crate) fn check(&mut self, now: Instant) {
        for tunnel in self.by_sensor.values_mut() {
            if let Some(initiator) = &mut tunnel.initiator {
                initiator.observe(tunnel.progress.counts(), now);
            }
        }
        let are_first = self.files.keys().is_none();
        if !self.files.read_again() {
            return;
        }
        let Some(config) = self.config() else {
            return;
        };
        if are_first {
            tracing::info!("the keys of the tunnels are there");
        } else {
            tracing::info!(
                "the keys of the tunnels have changed; sessions stay until the next one is made"
            );
        }
        for tunnel in self.by_sensor.values_mut() {
            match &mut tunnel.initiator {
                Some(initiator) => initiator.set_config(config.clone(), now),
                none => {
                    *none = Some(initiator(config.clone(), now));
                    tunnel.unready_since = now;
                }
            }
        }
    }

    /// Exchanges handshakes until a sensor becomes ready, or is no longer ready.
    pub(crate) async fn changed(&mut self, answers: &Answers) {
        loop {
            if self.update(Instant::now()) {
                return;
            }
            let answer = async {
                match self.read_again {
                    Some(time) => sleep_until(time.into()).await,
                    None => answers.wait().await,
                }
            };
            tokio::select! {
                () = sleep_until(self.due().into()) => self.poll(Instant::now()),
                () = answer => self.read(Instant::now()),
            }
        }
    }

    /// When a handshake is due.
    fn due(&self) -> Instant {
        let initiators = self
            .by_sensor
            .values()
            .filter_map(|tunnel| tunnel.initiator.as_ref());
        let due = initiators.map(Initiator::due);
        // An hour, because there is nothing to do.
        due.min()
            .unwrap_or_else(|| Instant::now() + Duration::from_hours(1))
    }

    /// Sends the initiations that are due.
    fn poll(&mut self, now: Instant) {
        for (sensor, tunnel) in &mut self.by_sensor {
            let mut out = [0; INITIATION_LEN];
            let initiator = tunnel.initiator.as_mut();
            let initiation = initiator.and_then(|initiator| initiator.poll(now, &mut out));
            if let Some(initiation) = initiation {
                send(&self.sockets, *sensor, initiation);
            }
        }
    }

    /// Reads the answers that have arrived, and again after the pause if there were any.
    fn read(&mut self, now: Instant) {
        self.read_again = None;
        for number in 0..self.sockets.len() {
            // One byte more than the longest answer: what is longer is none.
            let mut buffer = [0; RESPONSE_LEN + 1];
            for _ in 0..READ_AT_ONCE {
                let Some(socket) = self.sockets.get(number).and_then(Option::as_ref) else {
                    break;
                };
                let received = socket.recv_from(&mut buffer);
                if !received.as_ref().is_err_and(is_nothing) {
                    self.read_again = Some(now + READ_PAUSE);
                }
                match received {
                    Ok((length, from)) => {
                        let datagram = buffer.get(..length).unwrap_or_default();
                        self.receive(from, datagram, now);
                    }
                    Err(error) if is_nothing(&error) => break,
                    // An ICMP message about an earlier datagram; the worker reads it from the error queue.
                    Err(_) => {}
                }
            }
        }
    }

    /// Takes an answer of a sensor. Anybody can send one.
    fn receive(&mut self, from: SocketAddr, datagram: &[u8], now: Instant) {
        let Some(tunnel) = self.by_sensor.get_mut(&from) else {
            tracing::debug!(%from, "a datagram to the port of the tunnels, and not from a sensor");
            return;
        };
        if let Ok(keepalive) = <[u8; KEEPALIVE_LEN]>::try_from(datagram) {
            self.to_worker.keepalive(from, keepalive);
            return;
        }
        let Some(initiator) = &mut tunnel.initiator else {
            return;
        };
        match initiator.receive(datagram, now) {
            Ok(Answer::Established(established)) => {
                tracing::debug!(sensor = %from, "a session of the tunnel is established");
                let progress = Arc::<Progress>::default();
                let session = Session {
                    sensor: from,
                    sealer: established.sealer,
                    progress: Arc::clone(&progress),
                };
                tunnel.progress = progress;
                tunnel.answered = Some(now);
                // Before the first data, so that the sensor has confirmed the session.
                send(&self.sockets, from, &established.confirm);
                if !self.to_worker.establish(session) {
                    initiator.restart(now + AGAIN);
                }
            }
            Ok(Answer::Cookie) => {
                tracing::debug!(sensor = %from, "the sensor's end of the tunnel is under load; the handshake is repeated");
            }
            // With two pre-shared keys the sensor answers twice, and after a repeated initiation too.
            Err(Refusal::UnknownIndex) => {
                tracing::debug!(sensor = %from, "an answer to a handshake that is done");
            }
            Err(refusal) => {
                if self.reminders.is_due(format!("answer of {from}"), now) {
                    tracing::warn!(
                        sensor = %from, %refusal,
                        "an answer of a sensor's end of the tunnel is refused; if this repeats, compare the pre-shared \
                         key and the sensor's public key here with those of the sensor"
                    );
                }
            }
        }
    }

    /// Logs which sensors have become ready or are no longer; returns whether there is one.
    fn update(&mut self, now: Instant) -> bool {
        let mut any = false;
        for (sensor, tunnel) in &mut self.by_sensor {
            let is_ready = tunnel.is_ready(now);
            if is_ready != tunnel.was_ready {
                any = true;
                tunnel.was_ready = is_ready;
                tunnel.unready_since = now;
                if is_ready {
                    tracing::info!(%sensor, "the tunnel to a sensor is up");
                } else {
                    tracing::warn!(%sensor, "the tunnel to a sensor is down: the sensor gives no sign of life");
                }
            }
            let unready = now.saturating_duration_since(tunnel.unready_since);
            // Without keys, nobody has been asked.
            if tunnel.initiator.is_some()
                && !is_ready
                && unready >= UNANSWERED
                && self.reminders.is_due(format!("no answer of {sensor}"), now)
            {
                tracing::warn!(
                    %sensor, ?unready,
                    "a sensor's end of the tunnel does not answer; check that podspan-receive runs there, that UDP to \
                     this port is allowed, and that both ends have the same pre-shared key and the sensor's key pair"
                );
            }
        }
        any
    }
}

/// Whether nothing has arrived.
fn is_nothing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

impl Tunnel {
    fn is_ready(&self, now: Instant) -> bool {
        let initiator = self.initiator.as_ref();
        initiator.is_some_and(|initiator| initiator.has_session(now) && !initiator.is_silent())
    }
}

fn initiator(config: InitiatorConfig, now: Instant) -> Initiator {
    Initiator::new(config, Initiator::random_seed(), now)
}

/// Sends a message of a handshake. If it is lost, it is sent again.
fn send([v4, v6]: &[Option<UdpSocket>; 2], sensor: SocketAddr, message: &[u8]) {
    let socket = if sensor.is_ipv4() { v4 } else { v6 };
    let Some(socket) = socket else {
        return;
    };
    // The first try may return the error of an earlier datagram.
    if socket.send_to(message, sensor).is_err()
        && let Err(error) = socket.send_to(message, sensor)
    {
        tracing::debug!(%sensor, %error, "a message of a handshake was not sent");
    }
}

#[cfg(test)]
#[path = "tunnels/tests.rs"]
mod tests;
