//! podspan's control side of the tunnel to one sensor: handshakes, retries and rekeying.
//!
//! In: the time, datagrams from the control side's socket, and the worker's [`Counts`]. Out: datagrams to send
//! from this socket, and a [`Sealer`] for each session that was established. Nothing here waits: the caller
//! sleeps until [`Initiator::due`] and calls [`Initiator::poll`].
//!
//! ```text
//!          poll                    receive
//! due ──> initiation ──> sensor ──> response ──> Sealer to the worker, first keepalive to the sensor
//!   ^        | 1, 2, 4, 5, 5 s and jitter |
//!   '--------'                            '──> the next handshake after 100 to 120 s, or when the sensor is silent
//! ```
//! - **Each handshake has a boringtun `Tunn` of its own**, with a random index, and the `Tunn` with the
//!   established session becomes the `Sealer`. So a rekey does not touch the session in use: its `Sealer`
//!   is valid at the receiver until it ends, and nothing is lost or doubled when the worker takes the next
//!   one.
//! - **First keepalive**: [`Established::confirm`] proves to the receiver that this end has the pre-shared key.
//!   It must be sent before, or with, the first data; then the receiver has confirmed the session.
//! - **Age**: a session counts from the time its initiation was sent, which is before the receiver's time. So
//!   this end never uses a session that the receiver has dropped for its age.
//! - **Rekey** between 100 and 120 s, at random: podspans that got their sessions at the same time do not
//!   all make the next one at the same time. Also without data: then a frame never waits for a handshake.
//! - **Retries** come after 1, 2, 4 and then 5 s, each with up to a third more; the paper has 5 s only. A lost
//!   initiation costs one second so, and receivers accept it (Linux refuses two within 20 ms). After a
//!   cookie reply the next initiation, with the cookie, comes within 0.1 to 1 s. [`Initiator::restart`]
//!   starts at once, for a sensor that has just become ready. It never gives up.
//! - **Identity**: after [`REKEY_ATTEMPT`] without an answer the handshake starts anew, with a new static key
//!   unless that was given. So a clock that was set back, and with it the timestamp that makes the receiver
//!   refuse initiations as replayed, stops a podspan with a fresh key for 90 s at most.
//! - **Silence**: if data were sealed for [`SILENCE`] (15 s) and no keepalive was heard, the sensor may have
//!   lost the session: the next handshake starts, and [`Initiator::is_silent`] is true until a keepalive or a
//!   response. Keepalives arrive on the worker's sockets, because the receiver answers to where data come
//!   from; [`Sealer::hear`] authenticates them. A response is a proof of life too.
//! - **Two pre-shared keys**: during a rotation the receiver answers once for each. The response with another key
//!   is refused as not authentic and changes nothing; boringtun, wireguard-go (`ConsumeMessageResponse`)
//!   and Linux (`wg_noise_handshake_consume_response`) all keep the handshake then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};

use crate::inner::Inner;
use crate::jitter::Jitter;
use crate::keys::{PresharedKey, PrivateKey, PublicKey, random};
use crate::protocol::{
    INITIATION_LEN, KEEPALIVE_LEN, Kind, REJECT_AFTER, REKEY_AFTER, REKEY_ATTEMPT, REKEY_TIMEOUT,
    SILENCE, word,
};
use crate::refusal::Refusal;
use crate::sealer::{Counts, Sealer};

/// How much earlier than [`REKEY_AFTER`] the next handshake may start.
const REKEY_SPREAD: Duration = Duration::from_secs(20);
/// How long an initiator waits after a cookie reply, at least, and at most this much more.
const COOKIE_WAIT: Duration = Duration::from_millis(100);
const COOKIE_SPREAD: Duration = Duration::from_millis(900);

/// The static key of a podspan.
#[derive(Debug, Clone)]
pub enum Identity {
    /// A new one at each start, and after a handshake without an answer.
    Fresh,
    /// One that the sensor lists.
    Fixed(PrivateKey),
}

/// What an [`Initiator`] needs to know.
#[derive(Debug, Clone)]
pub struct InitiatorConfig {
    /// podspan's static key.
    pub identity: Identity,
    /// The sensor's static key.
    pub sensor: PublicKey,
    /// The key of the group.
    pub preshared: PresharedKey,
    /// The addresses inside the tunnel.
    pub inner: Inner,
}

/// Handshakes with one sensor.
pub struct Initiator {
    config: InitiatorConfig,
    private: PrivateKey,
    /// Checks `mac1` of responses, and never asks for a cookie.
    limiter: Arc<RateLimiter>,
    jitter: Jitter,
    /// When the next handshake starts; not used during one.
    start: Instant,
    handshake: Option<Handshake>,
    session: Option<Session>,
}

/// A handshake that waits for its response.
struct Handshake {
    tunn: Box<Tunn>,
    started: Instant,
    next: Instant,
    initiations: u32,
    /// The last two initiations: boringtun takes a response to either.
    sent: [Option<Sent>; 2],
}

/// An initiation that was sent.
#[derive(Clone, Copy)]
struct Sent {
    index: u32,
    at: Instant,
}

/// What is known about the newest session.
struct Session {
    ends: Instant,
    counts: Counts,
    /// When data were sealed for the first time since something was heard.
    unheard_since: Option<Instant>,
    silent: bool,
}

/// What a datagram from the sensor meant.
#[derive(Debug)]
pub enum Answer {
    /// A session is established.
    Established(Established),
    /// The sensor is under load; the next initiation has its cookie.
    Cookie,
}

/// A session that was just established.
#[derive(Debug)]
pub struct Established {
    /// For the worker.
    pub sealer: Sealer,
    /// The first keepalive, to be sent to the sensor at once.
    pub confirm: [u8; KEEPALIVE_LEN],
}

impl core::fmt::Debug for Initiator {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Initiator")
            .field("sensor", &self.config.sensor)
            .field("due", &self.due())
            .finish_non_exhaustive()
    }
}

fn identity(identity: &Identity) -> (PrivateKey, Arc<RateLimiter>) {
    let private = match identity {
        Identity::Fresh => PrivateKey::generate(),
        Identity::Fixed(private) => private.clone(),
    };
    let limiter = Arc::new(RateLimiter::new(&private.public().point(), u64::MAX));
    (private, limiter)
}

impl Initiator {
    /// An initiator whose first handshake is due now. `seed` decides times and indexes, and need not be
    /// secret, but differ between podspans.
    #[must_use]
    pub fn new(config: InitiatorConfig, seed: u64, now: Instant) -> Self {
        let (private, limiter) = identity(&config.identity);
        Self {
            config,
            private,
            limiter,
            jitter: Jitter::new(seed),
            start: now,
            handshake: None,
            session: None,
        }
    }

    /// A seed from the kernel's random numbers.
    #[must_use]
    pub fn random_seed() -> u64 {
        u64::from_ne_bytes(random())
    }

    /// podspan's public key at this time.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.private.public()
    }

    /// When [`Self::poll`] has something to send.
    #[must_use]
    pub const fn due(&self) -> Instant {
        match &self.handshake {
            Some(handshake) => handshake.next,
            None => self.start,
        }
    }

    /// Whether the newest session may be used.
    #[must_use]
    pub fn has_session(&self, now: Instant) -> bool {
        self.session
            .as_ref()
            .is_some_and(|session| now < session.ends)
    }

    /// Whether data are sent and the sensor gives no sign of life.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.silent)
    }

    /// Changes the keys. The session in use stays; the next handshake starts now. A fresh static key of podspan
    /// stays too.
    pub fn set_config(&mut self, config: InitiatorConfig, now: Instant) {
        if !matches!(
            (&self.config.identity, &config.identity),
            (Identity::Fresh, Identity::Fresh)
        ) {
            (self.private, self.limiter) = identity(&config.identity);
        }
        self.config = config;
        self.restart(now);
    }

    /// Starts a handshake now: the sensor has just become ready, or is another one behind the same address.
    pub fn restart(&mut self, now: Instant) {
        self.handshake = None;
        self.start = now;
    }

    /// Starts a handshake at this time at the latest; returns whether this changes anything. It does not if a handshake
    /// is under way or starts before.
    pub fn start_by(&mut self, time: Instant) -> bool {
        let is_earlier = self.handshake.is_none() && time < self.start;
        if is_earlier {
            self.start = time;
        }
        is_earlier
    }

    /// Takes what the worker publishes about the [`Sealer`] of the newest session; nothing, if it has not
    /// taken it yet. To be called about once a second.
    pub fn observe(&mut self, counts: Counts, now: Instant) {
        let Some(session) = &mut self.session else {
            return;
        };
        if counts.heard != session.counts.heard {
            session.unheard_since = None;
            session.silent = false;
        } else if counts.sealed != session.counts.sealed {
            session.unheard_since.get_or_insert(now);
        }
        session.counts = counts;
        let silent = session
            .unheard_since
            .is_some_and(|since| now.saturating_duration_since(since) >= SILENCE);
        if silent && !session.silent {
            session.silent = true;
            if self.handshake.is_none() {
                self.start = now;
            }
        }
    }

    /// The initiation to send to the sensor, if one is due.
    pub fn poll<'o>(
        &mut self,
        now: Instant,
        out: &'o mut [u8; INITIATION_LEN],
    ) -> Option<&'o [u8]> {
        if now < self.due() {
            return None;
        }
        let is_over = |handshake: &Handshake| {
            now.saturating_duration_since(handshake.started) >= REKEY_ATTEMPT
        };
        if self.handshake.as_ref().is_some_and(is_over) {
            self.handshake = None;
            if matches!(self.config.identity, Identity::Fresh) {
                (self.private, self.limiter) = identity(&self.config.identity);
            }
        }
        let mut handshake = self.handshake.take().unwrap_or_else(|| self.handshake(now));
        let step = match handshake.initiations {
            0 => Duration::from_secs(1),
            1 => Duration::from_secs(2),
            2 => Duration::from_secs(4),
            _ => REKEY_TIMEOUT,
        };
        handshake.next = now + step + self.jitter.up_to(step / 3);
        let initiation = handshake.initiation(now, out);
        self.handshake = Some(handshake);
        initiation
    }

    /// A handshake that has sent nothing yet.
    fn handshake(&mut self, now: Instant) -> Handshake {
        // boringtun takes 24 bits and makes the others.
        let index = (self.jitter.next() >> 40) as u32;
        Handshake {
            tunn: Box::new(Tunn::new(
                self.private.secret().clone(),
                self.config.sensor.point(),
                Some(self.config.preshared.bytes()),
                None,
                index,
                Some(Arc::clone(&self.limiter)),
            )),
            started: now,
            next: now,
            initiations: 0,
            sent: [None; 2],
        }
    }

    /// Takes a datagram from the sensor's address.
    ///
    /// # Errors
    /// A [`Refusal`]; the handshake goes on.
    pub fn receive(&mut self, datagram: &[u8], now: Instant) -> Result<Answer, Refusal> {
        let kind = Kind::of(datagram).ok_or(Refusal::UnknownType)?;
        if !matches!(kind, Kind::Response | Kind::Cookie) {
            return Err(Refusal::UnexpectedType);
        }
        let handshake = self.handshake.as_mut().ok_or(Refusal::UnknownIndex)?;
        let mut confirm = [0; KEEPALIVE_LEN];
        match handshake.tunn.decapsulate(None, datagram, &mut confirm) {
            TunnResult::Done if kind == Kind::Cookie => {
                let wait = COOKIE_WAIT + self.jitter.up_to(COOKIE_SPREAD);
                handshake.next = handshake.next.min(now + wait);
                Ok(Answer::Cookie)
            }
            TunnResult::WriteToNetwork(_) if kind == Kind::Response => {
                let sent = handshake.sent_at(datagram);
                let established = self.establish(sent.unwrap_or(now), now);
                let sealer = established.ok_or(Refusal::UnknownIndex)?;
                Ok(Answer::Established(Established { sealer, confirm }))
            }
            TunnResult::Err(error) => Err(Refusal::of(&error)),
            _ => Err(Refusal::UnexpectedType),
        }
    }

    /// The session of the handshake, whose initiation was sent at `sent`.
    fn establish(&mut self, sent: Instant, now: Instant) -> Option<Sealer> {
        let handshake = self.handshake.take()?;
        let ends = sent + REJECT_AFTER;
        let rekey = REKEY_AFTER.saturating_sub(self.jitter.up_to(REKEY_SPREAD));
        self.start = now.max(sent + rekey);
        self.session = Some(Session {
            ends,
            counts: Counts::default(),
            unheard_since: None,
            silent: false,
        });
        Some(Sealer::new(handshake.tunn, self.config.inner, ends))
    }
}

impl Handshake {
    fn initiation<'o>(
        &mut self,
        now: Instant,
        out: &'o mut [u8; INITIATION_LEN],
    ) -> Option<&'o [u8]> {
        self.initiations = self.initiations.saturating_add(1);
        match self.tunn.format_handshake_initiation(out, true) {
            TunnResult::WriteToNetwork(initiation) => {
                let index = word(initiation, 4)?;
                let [last, _] = self.sent;
                self.sent = [Some(Sent { index, at: now }), last];
                Some(initiation)
            }
            // Only if there is no room.
            _ => None,
        }
    }

    /// When the initiation was sent that a response answers.
    fn sent_at(&self, response: &[u8]) -> Option<Instant> {
        let index = word(response, 8)?;
        let mut sent = self.sent.iter().flatten();
        Some(sent.find(|sent| sent.index == index)?.at)
    }
}
