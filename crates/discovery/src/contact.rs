//! What a watch has seen of the API server, for who reports it.
//!
//! In: answers and failures of one watch. Out: a [`Contact`]: whether the API server answers, when it last did, and how
//! often each kind of failure has occurred. It is shared with the thread that reports it, and locked only for moves in
//! memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::failure::Failure;

/// What is known of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Contact {
    /// Whether the watch works.
    pub is_connected: bool,
    /// When the API server last said something about the pods, also that nothing has changed; until then, the view is
    /// current.
    pub answered: Option<Instant>,
    /// How often each kind of failure has occurred, in the order of [`Contact::KINDS`].
    pub failures: [u64; Failure::KINDS.len()],
}

impl Contact {
    /// The names of the kinds of failures.
    pub const KINDS: [&'static str; Failure::KINDS.len()] = Failure::KINDS;
}

/// A contact that a watch updates.
#[derive(Clone, Debug, Default)]
pub struct SharedContact(Arc<Mutex<Contact>>);

impl SharedContact {
    /// What is known now.
    #[must_use]
    pub fn get(&self) -> Contact {
        *self.lock()
    }

    /// The API server has said something about the pods.
    pub(crate) fn answered(&self) {
        self.lock().answered = Some(Instant::now());
    }

    /// The watch works.
    pub(crate) fn connected(&self) {
        self.lock().is_connected = true;
    }

    /// It has failed.
    pub(crate) fn failed(&self, failure: &Failure) {
        let mut contact = self.lock();
        contact.is_connected = false;
        if let Some(count) = contact.failures.get_mut(failure.kind()) {
            *count += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Contact> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_kind_and_end_the_contact() {
        let shared = SharedContact::default();
        shared.answered();
        shared.connected();
        let before = shared.get();
        assert!(before.is_connected && before.answered.is_some());
        shared.failed(&Failure::Unauthorized);
        shared.failed(&Failure::TimedOut { waiting_for: "x" });
        shared.failed(&Failure::TimedOut { waiting_for: "y" });
        let contact = shared.get();
        assert!(!contact.is_connected);
        assert_eq!(contact.answered, before.answered);
        let counts: Vec<_> = Contact::KINDS
            .into_iter()
            .zip(contact.failures)
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(counts, [("unauthorized", 1), ("timed_out", 2)]);
    }
}
