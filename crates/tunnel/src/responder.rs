//! The sensor's side of the tunnel: any number of podspans, and nothing of them known before.
//!
//! In: datagrams with the addresses they came from, and the time. Out: VXLAN datagrams, replies, and a count
//! for everything that is refused. A [`Responder`] belongs to one thread. Data take no lock that is shared and
//! allocate nothing.
//!
//! # Admission
//! Who has the pre-shared key is a peer; the first authentic transport datagram shows it. Until then an
//! initiator is a stranger, and what it may cost is bounded, the cheapest check first:
//!
//! 1. `mac1`: made with the responder's public key, one hash ([`Refusal::Mac1`]);
//! 2. under load, with more than [`Limits::without_cookie`] initiations a second, `mac2`: the address can
//!    receive what is sent to it, two hashes. Else it is sent a cookie ([`Refusal::CookieSent`]);
//! 3. the budget of the address ([`Refusal::SourceRate`]);
//! 4. the budget of all, a handshake for each pre-shared key ([`Refusal::TotalRate`]). Addresses with a confirmed session have one of their own, so
//!    that strangers cannot keep them from making the next session;
//! 5. static key and timestamp, two scalar multiplications: the initiation is newer than the last one of its
//!    static key ([`Refusal::ReplayedInitiation`]), and there is room for a peer ([`Refusal::Full`]);
//! 6. the answer, six scalar multiplications for each pre-shared key.
//!
//! # Two pre-shared keys
//! During a rotation an initiation has one answer for each valid key, each with an index of its own. The
//! initiator drops the one that it cannot authenticate and waits on. Both sessions are half-open until one of
//! them is confirmed; then the other one goes. A key that is no longer valid makes no new session; those it
//! has made end after [`REJECT_AFTER`](crate::protocol::REJECT_AFTER).
//!
//! # Threads
//! With several sockets (`SO_REUSEPORT`), the datagrams of a session must reach the thread that made it, from
//! whatever port they come. So the second byte of a receiver's index says the thread: [`steer`] is the rule for
//! a classic BPF program of `SO_ATTACH_REUSEPORT_CBPF`. An initiation is steered by the same byte, the second
//! one of the initiator's random index; played again, it meets the same thread. Cookies are valid at all
//! threads of a [group](Responder::group).
//!
//! # Memory
//! A session takes 11 KB, because a `Tunn` has room for eight. 5,000 peers with a current and a previous
//! session each take 110 MB; previous ones are there for half of the time. The tables of addresses, static
//! keys and half-open sessions are bounded: 1, 2 and 11 MB.

mod admission;
mod budget;
mod recent;
mod replies;
mod sessions;
mod totals;

use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::{Duration, Instant};

use core::ops::Range;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};

use crate::initiation::{Initiation, Reader};
use crate::inner::{self, Located};
use crate::keys::{PresharedKey, PresharedKeys, PrivateKey, PublicKey, random};
use crate::protocol::{
    KEEPALIVE, KEEPALIVE_LEN, Kind, REJECT_AFTER_MESSAGES, RESPONSE_LEN, TAG_LEN,
    TRANSPORT_HEADER_LEN, transport_header, word,
};
use crate::refusal::Refusal;

pub use admission::Limits;
pub use replies::Replies;
pub use totals::Totals;

use admission::{Admission, HALF_OPEN_MAX, cookies};
use budget::Source;
use recent::Recent;
use sessions::{Bounds, Confirmed, Role, Session, Sessions, Thread};

/// How often [`Responder::tick`] is to be called.
pub const TICK: Duration = Duration::from_secs(1);

/// What a [`Responder`] needs to know.
#[derive(Debug, Clone)]
pub struct ResponderConfig {
    /// The sensor's static key.
    pub private: PrivateKey,
    /// The keys of the group.
    pub preshared: PresharedKeys,
    /// What it may cost.
    pub limits: Limits,
}

/// A datagram that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// A VXLAN datagram.
    Vxlan {
        /// Where it is in the caller's buffer, from the VXLAN header on.
        bytes: Range<usize>,
        /// The source port of its inner UDP header.
        source_port: u16,
        /// The index of its session: the same for all datagrams of one podspan between two handshakes.
        session: u32,
    },
    /// A datagram without a packet: it confirms a session, or keeps it.
    Keepalive,
    /// An initiation. The answer is in the [`Replies`].
    Answered,
}

/// Which of so many threads a datagram is for: the one that made its session, or, for an initiation, any one
/// that is always the same.
#[must_use]
pub fn steer(datagram: &[u8], threads: NonZeroU8) -> u8 {
    datagram.get(5).copied().unwrap_or(0) % threads
}

/// The sensor's side of the tunnel, for one thread.
pub struct Responder {
    private: PrivateKey,
    reader: Reader,
    preshared: PresharedKeys,
    admission: Admission,
    sessions: Sessions,
    recent: Recent,
    totals: Totals,
}

impl core::fmt::Debug for Responder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Responder")
            .field("public_key", &self.private.public())
            .field("peers", &self.peers())
            .field("totals", &self.totals)
            .finish_non_exhaustive()
    }
}

impl Responder {
    /// A responder for one thread.
    #[must_use]
    pub fn new(config: ResponderConfig, now: Instant) -> Self {
        let cookies = cookies(&config.private);
        let thread = Thread {
            number: 0,
            of: NonZeroU8::MIN,
        };
        Self::of_thread(config, cookies, thread, now)
    }

    /// A responder for each of so many threads; the first one is for the thread that [`steer`] calls 0.
    #[must_use]
    pub fn group(config: &ResponderConfig, threads: NonZeroU8, now: Instant) -> Vec<Self> {
        let cookies = cookies(&config.private);
        let thread = |number| Thread {
            number,
            of: threads,
        };
        (0..threads.get())
            .map(|number| {
                let cookies = Arc::clone(&cookies);
                Self::of_thread(config.clone(), cookies, thread(number), now)
            })
            .collect()
    }

    fn of_thread(
        config: ResponderConfig,
        cookies: Arc<RateLimiter>,
        thread: Thread,
        now: Instant,
    ) -> Self {
        let ResponderConfig {
            private,
            preshared,
            limits,
        } = config;
        let bounds = Bounds {
            peers: limits.peers.min(Limits::PEERS_MAX),
            half_open: limits.half_open.clamp(PresharedKeys::MAX, HALF_OPEN_MAX),
        };
        Self {
            reader: Reader::new(private.clone()),
            admission: Admission::new(&private, &limits, cookies, now),
            private,
            preshared,
            sessions: Sessions::new(bounds, thread, u64::from_ne_bytes(random())),
            recent: Recent::default(),
            totals: Totals::default(),
        }
    }

    /// What it has done.
    #[must_use]
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Peers with a confirmed session.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.sessions.peers()
    }

    /// Sessions that are not confirmed yet.
    #[must_use]
    pub fn half_open(&self) -> usize {
        self.sessions.half_open()
    }

    /// All sessions.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.count()
    }

    #[cfg(test)]
    pub(crate) fn is_consistent(&self) -> bool {
        self.sessions.is_consistent()
    }

    /// Changes the keys of the group. Sessions stay.
    pub fn set_preshared(&mut self, keys: PresharedKeys) {
        self.preshared = keys;
    }

    /// Takes a datagram. `now` may be as old as the caller's batch. `out` needs as many bytes as the datagram
    /// has. The replies are to be sent to `from`, also where the datagram is refused.
    ///
    /// # Errors
    /// A [`Refusal`], which is counted in [`Totals::refused`].
    pub fn receive(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
        out: &mut [u8],
        replies: &mut Replies,
    ) -> Result<Opened, Refusal> {
        replies.clear();
        let received = match Kind::of(datagram) {
            Some(Kind::Transport) => self.transport(datagram, from, now, out),
            Some(Kind::Initiation) => self.initiation(datagram, from, now, replies),
            Some(Kind::Response | Kind::Cookie) => Err(Refusal::UnexpectedType),
            None if datagram.len() < KEEPALIVE_LEN => Err(Refusal::TooShort),
            None => Err(Refusal::UnknownType),
        };
        match &received {
            Ok(Opened::Vxlan { .. }) => self.totals.opened += 1,
            Ok(Opened::Keepalive) => self.totals.keepalives += 1,
            Ok(Opened::Answered) => self.totals.answered += 1,
            Err(reason) => self.totals.refused.count(*reason),
        }
        received
    }

    /// Removes what is too old, and sends the keepalives that are due. To be called once in [`TICK`].
    pub fn tick(&mut self, now: Instant, mut send: impl FnMut(SocketAddr, &[u8])) {
        self.admission.tick(now);
        let recent = &mut self.recent;
        self.sessions.tick(
            now,
            |session| {
                let mut out = [0; KEEPALIVE_LEN];
                if let Some(keepalive) = keepalive(session, now, &mut out) {
                    send(session.endpoint, keepalive);
                }
            },
            |gone| recent.remember(gone.peer, gone.timestamp),
        );
    }

    /// Opens a transport datagram.
    fn transport(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
        out: &mut [u8],
    ) -> Result<Opened, Refusal> {
        let (index, counter) = transport_header(datagram).ok_or(Refusal::TooShort)?;
        let session = self.sessions.get_mut(index).ok_or(Refusal::UnknownIndex)?;
        // boringtun would count from zero again after the last counter.
        if session.is_over(now) || counter >= REJECT_AFTER_MESSAGES {
            return Err(Refusal::Expired);
        }
        let room = out.get_mut(..datagram.len() - TRANSPORT_HEADER_LEN);
        let room = room.ok_or(Refusal::TooLong)?;
        match session.tunn.decapsulate(None, datagram, room) {
            TunnResult::Done
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..)
            // Authentic, and no IP packet: `locate` says why.
            | TunnResult::Err(boringtun::noise::errors::WireGuardError::InvalidPacket) => {}
            TunnResult::Err(error) => return Err(Refusal::of(&error)),
            TunnResult::WriteToNetwork(_) => return Err(Refusal::UnexpectedType),
        }
        let packet = room.get(..room.len() - TAG_LEN).unwrap_or_default();
        let (peer, was) = (session.peer, session.endpoint);
        session.endpoint = from;
        if session.is_half_open() {
            self.confirm(index)?;
        } else if was.ip() != from.ip() {
            self.sessions.move_peer(&peer, Source::of(from.ip()));
        }
        if packet.is_empty() {
            return Ok(Opened::Keepalive);
        }
        if let Some(session) = self.sessions.get_mut(index) {
            session.owes_keepalive = true;
        }
        let Located {
            payload: bytes,
            source_port,
        } = inner::locate(packet)?;
        Ok(Opened::Vxlan {
            bytes,
            source_port,
            session: index,
        })
    }

    fn confirm(&mut self, index: u32) -> Result<(), Refusal> {
        let has_older_key = self
            .sessions
            .get_mut(index)
            .is_some_and(|session| session.has_older_key);
        let confirmed = self.sessions.confirm(index).ok_or(Refusal::Full)?;
        self.totals.with_older_key += u64::from(has_older_key);
        match confirmed {
            Confirmed::New => self.totals.peers_new += 1,
            Confirmed::Rekeyed => self.totals.rekeyed += 1,
        }
        Ok(())
    }

    /// Answers an initiation, or refuses it.
    fn initiation(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
        replies: &mut Replies,
    ) -> Result<Opened, Refusal> {
        let source = Source::of(from.ip());
        let (is_peer, answers) = (self.sessions.has_source(source), self.preshared.count());
        self.admission
            .check_macs(datagram, from.ip(), now, replies)?;
        self.admission
            .check_budgets(source, is_peer, answers, now)?;
        let initiation = self.reader.read(datagram).ok_or(Refusal::NotAuthentic)?;
        self.check_initiator(&initiation)?;
        let mut last = None;
        for key in self.preshared.clone().iter() {
            let index = self.answer(datagram, from, now, &initiation, key, replies)?;
            if let Some(last) = last.replace(index) {
                self.sessions.make_siblings(last, index);
            }
        }
        let Initiation {
            initiator,
            timestamp,
        } = initiation;
        if !self.sessions.set_timestamp(&initiator, timestamp) {
            self.recent.remember(initiator, timestamp);
        }
        Ok(Opened::Answered)
    }

    fn check_initiator(&self, initiation: &Initiation) -> Result<(), Refusal> {
        let Initiation {
            initiator,
            timestamp,
        } = initiation;
        let is_newer = match self.sessions.timestamp(initiator) {
            Some(last) => *timestamp > last,
            None => self.recent.is_newer(initiator, *timestamp),
        };
        if !is_newer {
            return Err(Refusal::ReplayedInitiation);
        }
        let has_room = self.sessions.has_room_for(initiator);
        has_room.then_some(()).ok_or(Refusal::Full)
    }

    /// Makes a half-open session and its response. Returns the session's index.
    fn answer(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
        initiation: &Initiation,
        key: &PresharedKey,
        replies: &mut Replies,
    ) -> Result<u32, Refusal> {
        let (vacancy, evicted) = self.sessions.vacancy().ok_or(Refusal::Full)?;
        self.totals.half_open_evicted += evicted;
        let Initiation {
            initiator,
            timestamp,
        } = *initiation;
        let mut tunn = self.tunn(initiator, key, vacancy.index);
        let mut response = [0; RESPONSE_LEN];
        let index = match tunn.decapsulate(None, datagram, &mut response) {
            TunnResult::WriteToNetwork(response) => word(response, 4),
            _ => None,
        };
        let Some(index) = index else {
            self.sessions.give_back(&vacancy);
            return Err(Refusal::NotAuthentic);
        };
        replies.push(&response);
        let session = Session {
            tunn,
            index,
            peer: initiator,
            role: Role::HalfOpen {
                sibling: None,
                timestamp,
            },
            has_older_key: key != self.preshared.newest(),
            born: now,
            endpoint: from,
            owes_keepalive: false,
            last_keepalive: now,
        };
        self.sessions.insert(&vacancy, session);
        Ok(index)
    }

    fn tunn(&self, initiator: PublicKey, key: &PresharedKey, index: u32) -> Box<Tunn> {
        Box::new(Tunn::new(
            self.private.secret().clone(),
            initiator.point(),
            Some(key.bytes()),
            None,
            index,
            Some(self.admission.mac1()),
        ))
    }
}

/// The keepalive of a session, if one is due.
fn keepalive<'o>(
    session: &mut Session,
    now: Instant,
    out: &'o mut [u8; KEEPALIVE_LEN],
) -> Option<&'o [u8]> {
    let waited = now.saturating_duration_since(session.last_keepalive);
    if !session.owes_keepalive || waited < KEEPALIVE {
        return None;
    }
    session.owes_keepalive = false;
    session.last_keepalive = now;
    match session.tunn.encapsulate(&[], out) {
        TunnResult::WriteToNetwork(keepalive) => Some(keepalive),
        _ => None,
    }
}
