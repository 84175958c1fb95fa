//! What strangers may cost: the checks of an initiation before anything is computed for it. See
//! [`responder`](super).
//!
//! In: an initiation with its address, and whether this address has a confirmed session. Out: whether it is to be
//! answered; else the reason, and under load a cookie.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use boringtun::noise::TunnResult;
use boringtun::noise::rate_limiter::RateLimiter;

use crate::keys::PrivateKey;
use crate::protocol::COOKIE_LEN;
use crate::refusal::Refusal;

use super::budget::{Budget, Rate, Source, Sources};
use super::replies::Replies;

/// What a [`Responder`](super::Responder) may cost. All numbers are for one thread.
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
    pub const PEERS_MAX: usize = (super::sessions::SLOTS_MAX - HALF_OPEN_MAX) / 2;
}

/// Half-open sessions that there can be.
pub(super) const HALF_OPEN_MAX: usize = 4_096;

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

/// What makes cookies and checks them: the same for all threads.
pub(super) fn cookies(private: &PrivateKey) -> Arc<RateLimiter> {
    Arc::new(RateLimiter::new(&private.public().point(), 0))
}

/// The state of the checks.
pub(super) struct Admission {
    /// Checks `mac1`, and never asks for a cookie.
    mac1: Arc<RateLimiter>,
    /// Checks `mac1` and `mac2`, and always asks for a cookie.
    mac2: Arc<RateLimiter>,
    without_cookie: (Rate, Budget),
    sources: Sources,
    handshakes: Rate,
    of_strangers: Budget,
    of_peers: Budget,
}

impl Admission {
    pub(super) fn new(
        private: &PrivateKey,
        limits: &Limits,
        cookies: Arc<RateLimiter>,
        now: Instant,
    ) -> Self {
        let rate = |per_second: u32| Rate::new(per_second, per_second);
        let per_source = Rate::new(limits.per_source, limits.per_source.saturating_mul(2));
        Self {
            mac1: Arc::new(RateLimiter::new(&private.public().point(), u64::MAX)),
            mac2: cookies,
            without_cookie: (rate(limits.without_cookie), Budget::whole(now)),
            sources: Sources::new(per_source),
            handshakes: rate(limits.handshakes),
            of_strangers: Budget::whole(now),
            of_peers: Budget::whole(now),
        }
    }

    /// For a `Tunn` that checks `mac1` once more.
    pub(super) fn mac1(&self) -> Arc<RateLimiter> {
        Arc::clone(&self.mac1)
    }

    /// Forgets addresses that have not sent for some time.
    pub(super) fn tick(&mut self, now: Instant) {
        self.sources.tick(now);
    }

    /// `mac1`, and `mac2` under load.
    pub(super) fn check_macs(
        &mut self,
        datagram: &[u8],
        from: IpAddr,
        now: Instant,
        replies: &mut Replies,
    ) -> Result<(), Refusal> {
        let mut cookie = [0; COOKIE_LEN];
        let mac1 = self.mac1.verify_packet(None, datagram, &mut cookie);
        if mac1.is_err() {
            return Err(Refusal::Mac1);
        }
        let (rate, budget) = &mut self.without_cookie;
        if budget.take(*rate, now) {
            return Ok(());
        }
        let mac2 = self.mac2.verify_packet(Some(from), datagram, &mut cookie);
        match mac2 {
            Ok(_) => Ok(()),
            Err(TunnResult::WriteToNetwork(cookie)) => {
                replies.push(cookie);
                Err(Refusal::CookieSent)
            }
            Err(_) => Err(Refusal::Mac1),
        }
    }

    /// The budgets, for as many answers as there are pre-shared keys: each takes as long as the first one.
    pub(super) fn check_budgets(
        &mut self,
        from: Source,
        is_peer: bool,
        answers: usize,
        now: Instant,
    ) -> Result<(), Refusal> {
        if !self.sources.take(from, now) {
            return Err(Refusal::SourceRate);
        }
        let budget = if is_peer {
            &mut self.of_peers
        } else {
            &mut self.of_strangers
        };
        let has = (0..answers).all(|_| budget.take(self.handshakes, now));
        has.then_some(()).ok_or(Refusal::TotalRate)
    }
}
