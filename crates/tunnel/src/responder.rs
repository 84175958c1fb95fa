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

mod budget;
mod recent;
mod sessions;

use std::net::{IpAddr, SocketAddr};
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
    COOKIE_LEN, KEEPALIVE, KEEPALIVE_LEN, Kind, REJECT_AFTER_MESSAGES, RESPONSE_LEN, TAG_LEN,
    TRANSPORT_HEADER_LEN, transport_header, word,
};
use crate::refusal::{Refusal, Refused};

use budget::{Budget, Rate, Source, Sources};
use recent::Recent;
use sessions::{Bounds, Confirmed, Role, SLOTS_MAX, Session, Sessions, Thread};

/// How often [`Responder::tick`] is to be called.
pub const TICK: Duration = Duration::from_secs(1);

/// What a [`Responder`] may cost. All numbers are for one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Peers with a confirmed session; at most [`Limits::PEERS_MAX`].
    pub peers: usize,
    /// Half-open sessions, from 2 to 4,096.
    pub half_open: usize,
    /// Handshakes a second of addresses without a confirmed session, and as many of those with one; half as
    /// many with two pre-shared keys. One takes about 0.5 ms (`cargo xtask bench --seal`): strangers can take a
    /// quarter of a core with the default.
    pub handshakes: u32,
    /// Initiations a second above which cookies are asked for.
    pub without_cookie: u32,
    /// Initiations a second of one address, twice as many at once.
    pub per_source: u32,
}

impl Limits {
    /// More peers have no indexes.
    pub const PEERS_MAX: usize = (SLOTS_MAX - HALF_OPEN_MAX) / 2;
}

/// Half-open sessions that there can be.
const HALF_OPEN_MAX: usize = 4_096;

impl Default for Limits {
    fn default() -> Self {
        Self {
            peers: 8_192,
            half_open: 1_024,
            handshakes: 500,
            without_cookie: 250,
            per_source: 50,
        }
    }
}

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

/// What a responder has done. The counts only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// VXLAN datagrams opened.
    pub opened: u64,
    /// Keepalives of peers.
    pub keepalives: u64,
    /// Initiations answered, with one or two responses.
    pub answered: u64,
    /// Peers that confirmed a first session.
    pub peers_new: u64,
    /// Sessions confirmed by peers that had one.
    pub rekeyed: u64,
    /// Half-open sessions removed before their time, to make room.
    pub half_open_evicted: u64,
    /// Datagrams refused, by reason.
    pub refused: Refused,
}

impl core::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.opened += other.opened;
        self.keepalives += other.keepalives;
        self.answered += other.answered;
        self.peers_new += other.peers_new;
        self.rekeyed += other.rekeyed;
        self.half_open_evicted += other.half_open_evicted;
        self.refused += other.refused;
    }
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

/// What is to be sent to where a datagram came from.
#[derive(Debug, Clone, Copy)]
pub struct Replies {
    bytes: [[u8; RESPONSE_LEN]; PresharedKeys::MAX],
    lengths: [usize; PresharedKeys::MAX],
}

impl Replies {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: [[0; RESPONSE_LEN]; PresharedKeys::MAX],
            lengths: [0; PresharedKeys::MAX],
        }
    }

    /// The datagrams, each to be sent by itself.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let all = self.bytes.iter().zip(self.lengths);
        all.filter_map(|(bytes, length)| bytes.get(..length))
            .filter(|bytes| !bytes.is_empty())
    }

    fn push(&mut self, reply: &[u8]) {
        let free = self.lengths.iter().position(|length| *length == 0);
        if let Some(at) = free
            && let Some(bytes) = self.bytes[at].get_mut(..reply.len())
        {
            bytes.copy_from_slice(reply);
            self.lengths[at] = reply.len();
        }
    }
}

impl Default for Replies {
    fn default() -> Self {
        Self::new()
    }
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
    /// Checks `mac1`, and never asks for a cookie.
    calm: Arc<RateLimiter>,
    /// Checks `mac1` and `mac2`, and always asks for a cookie. The same for all threads.
    loaded: Arc<RateLimiter>,
    sessions: Sessions,
    recent: Recent,
    without_cookie: (Rate, Budget),
    sources: Sources,
    handshakes: Rate,
    of_strangers: Budget,
    of_peers: Budget,
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
        let cookies = cookies(&config);
        let thread = Thread {
            number: 0,
            of: NonZeroU8::MIN,
        };
        Self::of_thread(config, cookies, thread, now)
    }

    /// A responder for each of so many threads; the first one is for the thread that [`steer`] calls 0.
    #[must_use]
    pub fn group(config: &ResponderConfig, threads: NonZeroU8, now: Instant) -> Vec<Self> {
        let cookies = cookies(config);
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
        let rate = |per_second: u32| Rate::new(per_second, per_second);
        let per_source = Rate::new(limits.per_source, limits.per_source.saturating_mul(2));
        Self {
            reader: Reader::new(private.clone()),
            calm: Arc::new(RateLimiter::new(&private.public().point(), u64::MAX)),
            loaded: cookies,
            private,
            preshared,
            sessions: Sessions::new(bounds, thread, u64::from_ne_bytes(random())),
            recent: Recent::default(),
            without_cookie: (rate(limits.without_cookie), Budget::whole(now)),
            sources: Sources::new(per_source),
            handshakes: rate(limits.handshakes),
            of_strangers: Budget::whole(now),
            of_peers: Budget::whole(now),
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
        replies.lengths = [0; PresharedKeys::MAX];
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
        self.sources.tick(now);
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
        match self.sessions.confirm(index).ok_or(Refusal::Full)? {
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
        self.check_macs(datagram, from.ip(), now, replies)?;
        self.check_budgets(Source::of(from.ip()), now)?;
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

    fn check_macs(
        &mut self,
        datagram: &[u8],
        from: IpAddr,
        now: Instant,
        replies: &mut Replies,
    ) -> Result<(), Refusal> {
        let mut cookie = [0; COOKIE_LEN];
        let mac1 = self.calm.verify_packet(None, datagram, &mut cookie);
        if mac1.is_err() {
            return Err(Refusal::Mac1);
        }
        let (rate, budget) = &mut self.without_cookie;
        if budget.take(*rate, now) {
            return Ok(());
        }
        let mac2 = self.loaded.verify_packet(Some(from), datagram, &mut cookie);
        match mac2 {
            Ok(_) => Ok(()),
            Err(TunnResult::WriteToNetwork(cookie)) => {
                replies.push(cookie);
                Err(Refusal::CookieSent)
            }
            Err(_) => Err(Refusal::Mac1),
        }
    }

    fn check_budgets(&mut self, from: Source, now: Instant) -> Result<(), Refusal> {
        if !self.sources.take(from, now) {
            return Err(Refusal::SourceRate);
        }
        let budget = if self.sessions.has_source(from) {
            &mut self.of_peers
        } else {
            &mut self.of_strangers
        };
        // An answer for each key takes as long as the first one.
        let mut keys = self.preshared.iter();
        let has = keys.all(|_| budget.take(self.handshakes, now));
        has.then_some(()).ok_or(Refusal::TotalRate)
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
            Some(Arc::clone(&self.calm)),
        ))
    }
}

/// What makes cookies and checks them.
fn cookies(config: &ResponderConfig) -> Arc<RateLimiter> {
    Arc::new(RateLimiter::new(&config.private.public().point(), 0))
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
