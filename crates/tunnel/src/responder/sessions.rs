//! The table of sessions, and the table of peers.
//!
//! ```text
//! receiver's index  | slot, 16 bits | random, 8 bits: also the thread | boringtun's, 8 bits |
//!                         |
//! slots                   '--> Session { Tunn, Role, ... }
//! peers    static key --> { current, previous }
//! ```
//! A session starts half-open: its initiator has not shown yet that it has the pre-shared key. The first
//! authentic datagram confirms it; then it is its peer's current session, and the one before becomes the
//! previous one, which stays valid for what is under way. So a peer has at most two confirmed sessions.
//!
//! Half-open sessions have a bound of their own: where it is reached, the oldest one goes. They are gone after
//! [`HALF_OPEN_MAX`]. Confirmed ones go for their age only, so nobody without the pre-shared key can push
//! one out.
//!
//! Invariant: each index in `peers` is that of a session in `slots`, and each session that is not half-open is
//! in `peers` with its role.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use boringtun::noise::Tunn;

use crate::initiation::Timestamp;
use crate::jitter::Jitter;
use crate::keys::PublicKey;
use crate::protocol::REJECT_AFTER;
use crate::responder::budget::Source;

/// How long a session stays half-open. An initiator confirms it as soon as it has the response.
pub(super) const HALF_OPEN_MAX: Duration = Duration::from_secs(5);

/// The most slots that an index has bits for.
pub(super) const SLOTS_MAX: usize = 1 << 16;

/// What a session is to its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Not confirmed yet. The answer to the same initiation with another pre-shared key has index `sibling`.
    HalfOpen {
        sibling: Option<u32>,
        timestamp: Timestamp,
    },
    Current,
    Previous,
}

/// One session.
pub(super) struct Session {
    pub(super) tunn: Box<Tunn>,
    /// The receiver's index in its datagrams.
    pub(super) index: u32,
    pub(super) peer: PublicKey,
    pub(super) role: Role,
    /// Whether a newer pre-shared key was there when it was made.
    pub(super) has_older_key: bool,
    pub(super) born: Instant,
    /// Where its last authentic datagram came from.
    pub(super) endpoint: SocketAddr,
    /// Whether data arrived since the last keepalive.
    pub(super) owes_keepalive: bool,
    pub(super) last_keepalive: Instant,
}

impl Session {
    pub(super) fn is_half_open(&self) -> bool {
        matches!(self.role, Role::HalfOpen { .. })
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        let most = if self.is_half_open() {
            HALF_OPEN_MAX
        } else {
            REJECT_AFTER
        };
        now.saturating_duration_since(self.born) >= most
    }
}

/// A peer: who has confirmed a session.
#[derive(Debug)]
struct Peer {
    current: u32,
    previous: Option<u32>,
    /// Of the newest initiation that was answered.
    timestamp: Timestamp,
    source: Source,
}

/// How a session became confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Confirmed {
    /// The first one of its peer.
    New,
    /// The next one of its peer.
    Rekeyed,
}

/// A peer that has no session any more.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) peer: PublicKey,
    pub(super) timestamp: Timestamp,
}

/// Room for one more session.
pub(super) struct Vacancy {
    slot: u16,
    /// For boringtun, which takes 24 bits.
    pub(super) index: u32,
}

/// The bounds of the tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) peers: usize,
    pub(super) half_open: usize,
}

/// Which of the threads this is, so that its indexes lead to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Thread {
    pub(super) number: u8,
    pub(super) of: NonZeroU8,
}

pub(super) struct Sessions {
    bounds: Bounds,
    thread: Thread,
    jitter: Jitter,
    slots: Vec<Option<Session>>,
    /// The slot that was free for the longest time is used first.
    free: VecDeque<u16>,
    peers: HashMap<PublicKey, Peer>,
    /// The peers at each address.
    sources: HashMap<Source, usize>,
    half_open: usize,
    /// In the order of their birth, also such that are not half-open any more.
    born_half_open: VecDeque<u32>,
}

impl Sessions {
    pub(super) fn new(bounds: Bounds, thread: Thread, seed: u64) -> Self {
        Self {
            bounds,
            thread,
            jitter: Jitter::new(seed),
            slots: Vec::new(),
            free: VecDeque::new(),
            peers: HashMap::new(),
            sources: HashMap::new(),
            half_open: 0,
            born_half_open: VecDeque::new(),
        }
    }

    pub(super) fn peers(&self) -> usize {
        self.peers.len()
    }

    pub(super) fn half_open(&self) -> usize {
        self.half_open
    }

    /// The number of all sessions.
    pub(super) fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether a peer at this address has a confirmed session.
    pub(super) fn has_source(&self, source: Source) -> bool {
        self.sources.contains_key(&source)
    }

    /// Whether this static key may have one more session.
    pub(super) fn has_room_for(&self, peer: &PublicKey) -> bool {
        self.peers.len() < self.bounds.peers || self.peers.contains_key(peer)
    }

    /// The newest timestamp of a peer.
    pub(super) fn timestamp(&self, peer: &PublicKey) -> Option<Timestamp> {
        Some(self.peers.get(peer)?.timestamp)
    }

    /// Sets the newest timestamp of a peer, if it is one. Returns whether it is.
    pub(super) fn set_timestamp(&mut self, peer: &PublicKey, timestamp: Timestamp) -> bool {
        let peer = self.peers.get_mut(peer);
        peer.map(|peer| peer.timestamp = timestamp).is_some()
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Session> {
        let session = self.slots.get_mut((index >> 16) as usize)?.as_mut()?;
        (session.index == index).then_some(session)
    }

    /// Room for one more half-open session. The oldest ones go if there are too many; returns how many went.
    pub(super) fn vacancy(&mut self) -> Option<(Vacancy, u64)> {
        let mut evicted = 0;
        while self.half_open >= self.bounds.half_open {
            let oldest = self.born_half_open.pop_front()?;
            if self
                .get_mut(oldest)
                .is_some_and(|session| session.is_half_open())
            {
                self.remove(oldest);
                evicted += 1;
            }
        }
        let slot = if let Some(slot) = self.free.pop_front() {
            slot
        } else {
            let slot = u16::try_from(self.slots.len()).ok()?;
            self.slots.push(None);
            slot
        };
        let low = self.random_of_thread();
        let index = u32::from(slot) << 8 | u32::from(low);
        Some((Vacancy { slot, index }, evicted))
    }

    /// A random number that leads to this thread: see [`steer`](crate::responder::steer).
    fn random_of_thread(&mut self) -> u8 {
        let [random, ..] = self.jitter.next().to_le_bytes();
        let Thread { number, of } = self.thread;
        // Rounds down to a multiple of the number of threads, and stays below 256.
        let multiple = random - random % of;
        multiple.checked_add(number).unwrap_or(number)
    }

    /// Adds a half-open session.
    pub(super) fn insert(&mut self, vacancy: &Vacancy, session: Session) {
        if let Some(slot) = self.slots.get_mut(usize::from(vacancy.slot)) {
            self.born_half_open.push_back(session.index);
            self.half_open += 1;
            *slot = Some(session);
        }
    }

    /// Returns room that was not needed.
    pub(super) fn give_back(&mut self, vacancy: &Vacancy) {
        self.free.push_front(vacancy.slot);
    }

    /// Tells two sessions of one initiation about each other.
    pub(super) fn make_siblings(&mut self, one: u32, two: u32) {
        for (index, other) in [(one, two), (two, one)] {
            if let Some(Session {
                role: Role::HalfOpen { sibling, .. },
                ..
            }) = self.get_mut(index)
            {
                *sibling = Some(other);
            }
        }
    }

    /// Makes a half-open session its peer's current one. None if there are too many peers; the session is gone
    /// then.
    pub(super) fn confirm(&mut self, index: u32) -> Option<Confirmed> {
        let session = self.get_mut(index)?;
        let (peer, source) = (session.peer, Source::of(session.endpoint.ip()));
        let Role::HalfOpen { sibling, timestamp } = session.role else {
            return None;
        };
        if !self.has_room_for(&peer) {
            self.remove(index);
            return None;
        }
        if let Some(sibling) = sibling
            && self
                .get_mut(sibling)
                .is_some_and(|other| other.is_half_open())
        {
            self.remove(sibling);
        }
        self.half_open -= 1;
        self.set_role(index, Role::Current);
        let Some(known) = self.peers.get_mut(&peer) else {
            let known = Peer {
                current: index,
                previous: None,
                timestamp,
                source,
            };
            self.peers.insert(peer, known);
            *self.sources.entry(source).or_default() += 1;
            return Some(Confirmed::New);
        };
        known.timestamp = known.timestamp.max(timestamp);
        let before = core::mem::replace(&mut known.current, index);
        let oldest = known.previous.replace(before);
        self.set_role(before, Role::Previous);
        if let Some(oldest) = oldest {
            self.take(oldest);
        }
        self.move_peer(&peer, source);
        Some(Confirmed::Rekeyed)
    }

    /// Notes that a peer is at another address now.
    pub(super) fn move_peer(&mut self, peer: &PublicKey, source: Source) {
        let Some(peer) = self.peers.get_mut(peer) else {
            return;
        };
        let before = core::mem::replace(&mut peer.source, source);
        if before != source {
            *self.sources.entry(source).or_default() += 1;
            self.leave(before);
        }
    }

    fn leave(&mut self, source: Source) {
        if let Some(count) = self.sources.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
    }

    fn set_role(&mut self, index: u32, role: Role) {
        if let Some(session) = self.get_mut(index) {
            session.role = role;
        }
    }

    /// Frees the slot of a session.
    fn take(&mut self, index: u32) -> Option<Session> {
        let at = u16::try_from(index >> 16).ok()?;
        let slot = self.slots.get_mut(usize::from(at))?;
        let session = slot.take_if(|session| session.index == index)?;
        self.free.push_back(at);
        Some(session)
    }

    /// Removes a session, and its peer if this was the last one.
    fn remove(&mut self, index: u32) -> Option<Gone> {
        let session = self.take(index)?;
        match session.role {
            Role::HalfOpen { .. } => {
                self.half_open -= 1;
                None
            }
            Role::Previous => {
                self.peers.get_mut(&session.peer)?.previous = None;
                None
            }
            Role::Current => {
                let peer = self.peers.remove(&session.peer)?;
                if let Some(previous) = peer.previous {
                    self.take(previous);
                }
                self.leave(peer.source);
                Some(Gone {
                    peer: session.peer,
                    timestamp: peer.timestamp,
                })
            }
        }
    }

    /// Removes what is too old, and calls `each` with every session that stays, and `gone` with every peer that
    /// does not.
    pub(super) fn tick(
        &mut self,
        now: Instant,
        mut each: impl FnMut(&mut Session),
        mut gone: impl FnMut(Gone),
    ) {
        for at in 0..self.slots.len() {
            let Some(Some(session)) = self.slots.get_mut(at) else {
                continue;
            };
            if session.is_over(now) {
                let index = session.index;
                if let Some(peer) = self.remove(index) {
                    gone(peer);
                }
            } else {
                each(session);
            }
        }
        while let Some(oldest) = self.born_half_open.front().copied()
            && !self
                .get_mut(oldest)
                .is_some_and(|session| session.is_half_open())
        {
            self.born_half_open.pop_front();
        }
    }

    /// Whether the invariant of the tables is true.
    #[cfg(test)]
    pub(super) fn is_consistent(&self) -> bool {
        let of = |index: u32| self.slots[(index >> 16) as usize].as_ref();
        let sessions = self.slots.iter().flatten();
        let half_open = sessions.clone().filter(|session| session.is_half_open());
        let roles = self.peers.iter().all(|(key, peer)| {
            let has = |index, role| {
                of(index).is_some_and(|session| {
                    session.index == index && session.role == role && session.peer == *key
                })
            };
            has(peer.current, Role::Current)
                && peer.previous.is_none_or(|index| has(index, Role::Previous))
        });
        let in_peers: usize = self
            .peers
            .values()
            .map(|peer| 1 + usize::from(peer.previous.is_some()))
            .sum();
        roles
            && half_open.count() == self.half_open
            && sessions.count() == in_peers + self.half_open
            && self.count() == in_peers + self.half_open
            && self.sources.values().sum::<usize>() == self.peers.len()
    }
}
