//! The newest timestamp of each static key that has no confirmed session, so that an old initiation cannot be
//! played again. Those of peers with a confirmed session are in the table of peers, from which nobody without
//! the pre-shared key can push them.
//!
//! Bounded: the oldest entries are forgotten. An initiation that is played again after that costs the work of
//! an answer, within the budgets, and gives a session that nobody can confirm.

use std::collections::{HashMap, VecDeque};

use crate::initiation::Timestamp;
use crate::keys::PublicKey;

#[derive(Debug, Default)]
pub(super) struct Recent {
    timestamps: HashMap<PublicKey, Timestamp>,
    /// In the order in which they came.
    keys: VecDeque<PublicKey>,
}

impl Recent {
    /// So many static keys are remembered: 2 MB.
    pub(super) const MAX: usize = 16_384;

    /// Whether an initiation with this timestamp may be a new one.
    pub(super) fn is_newer(&self, initiator: &PublicKey, timestamp: Timestamp) -> bool {
        let last = self.timestamps.get(initiator);
        last.is_none_or(|last| timestamp > *last)
    }

    /// Remembers a timestamp.
    pub(super) fn remember(&mut self, initiator: PublicKey, timestamp: Timestamp) {
        if let Some(last) = self.timestamps.get_mut(&initiator) {
            *last = timestamp.max(*last);
            return;
        }
        if self.keys.len() >= Self::MAX
            && let Some(oldest) = self.keys.pop_front()
        {
            self.timestamps.remove(&oldest);
        }
        self.timestamps.insert(initiator, timestamp);
        self.keys.push_back(initiator);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> PublicKey {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        PublicKey::new(bytes)
    }

    #[test]
    fn an_older_timestamp_of_the_same_key_is_not_newer() {
        let [old, new, newer] = [1, 2, 3].map(Timestamp::of_seconds);
        let mut recent = Recent::default();
        recent.remember(key(1), new);
        assert!(!recent.is_newer(&key(1), old));
        assert!(!recent.is_newer(&key(1), new));
        assert!(recent.is_newer(&key(1), newer));
        assert!(recent.is_newer(&key(2), old));
        recent.remember(key(1), old);
        assert!(!recent.is_newer(&key(1), new));
    }

    #[test]
    fn the_oldest_keys_are_forgotten() {
        let mut recent = Recent::default();
        let now = Timestamp::of_seconds(1);
        let count = u32::try_from(Recent::MAX).unwrap() + 10;
        for number in 0..count {
            recent.remember(key(number), now);
        }
        assert_eq!(recent.keys.len(), Recent::MAX);
        assert_eq!(recent.timestamps.len(), Recent::MAX);
        assert!(recent.is_newer(&key(9), now));
        assert!(!recent.is_newer(&key(10), now));
    }
}
