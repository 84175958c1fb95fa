//! What a responder has done, in numbers.

use crate::refusal::Refused;

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
    /// Those of both that were made with a pre-shared key that was not the newest: podspans that a rotation has not
    /// reached yet.
    pub with_older_key: u64,
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
        self.with_older_key += other.with_older_key;
        self.half_open_evicted += other.half_open_evicted;
        self.refused += other.refused;
    }
}
