//! What is known about the work: one value, which the log, `/metrics` and the health checks read.
//!
//! In: what each thread has published, and the state of the file of keys. Out: a [`Status`], at most a second old, and
//! which thread is stuck. Nobody here waits for a thread: each publishes under a lock that it holds for a copy of some
//! hundred bytes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::keys::FileState;
use crate::worker::{Shared, Snapshot};

/// A thread that has published nothing for so long is stuck: each publishes once a second. A CPU quota stops a thread
/// for less.
const STUCK: Duration = Duration::from_secs(15);

/// All that is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Status {
    /// The sum over all threads.
    pub(crate) work: Snapshot,
    /// How many podspans there can be.
    pub(crate) peers_limit: u64,
    pub(crate) keys: FileState,
    /// Connections for metrics that were closed because there were too many.
    pub(crate) connections_evicted: u64,
}

/// Where the parts of a [`Status`] are.
#[derive(Debug)]
pub(crate) struct State {
    threads: Vec<Shared>,
    peers_limit: u64,
    keys: Mutex<FileState>,
    connections_evicted: AtomicU64,
    begun: Instant,
}

impl State {
    pub(crate) fn new(
        threads: Vec<Shared>,
        peers_limit: u64,
        keys: FileState,
        now: Instant,
    ) -> Self {
        Self {
            threads,
            peers_limit,
            keys: Mutex::new(keys),
            connections_evicted: AtomicU64::new(0),
            begun: now,
        }
    }

    pub(crate) fn status(&self) -> Status {
        let mut work = Snapshot::default();
        for thread in &self.threads {
            work += lock(thread).snapshot;
        }
        Status {
            work,
            peers_limit: self.peers_limit,
            keys: *lock(&self.keys),
            connections_evicted: self.connections_evicted.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn set_keys(&self, state: FileState) {
        *lock(&self.keys) = state;
    }

    pub(crate) fn count_evicted(&self) {
        self.connections_evicted.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of a thread that is stuck, from 1 on, and for how long.
    pub(crate) fn stuck(&self, now: Instant) -> Option<(usize, Duration)> {
        let idle = self.threads.iter().map(|thread| {
            let at = lock(thread).at.unwrap_or(self.begun);
            now.saturating_duration_since(at)
        });
        (1..).zip(idle).find(|(_, idle)| *idle > STUCK)
    }

    /// Whether each thread reads its socket.
    pub(crate) fn has_begun(&self) -> bool {
        self.threads.iter().all(|thread| lock(thread).at.is_some())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::worker::Published;

    fn state(begun: Instant) -> (State, [Shared; 2]) {
        let threads = [(); 2].map(|()| Shared::default());
        let keys = FileState {
            keys: 1,
            read_at: SystemTime::UNIX_EPOCH,
            failures: 0,
        };
        (State::new(threads.to_vec(), 5, keys, begun), threads)
    }

    fn publish(thread: &Shared, forwarded: u64, at: Instant) {
        let mut snapshot = Snapshot::default();
        snapshot.forward.forwarded = forwarded;
        let at = Some(at);
        *lock(thread) = Published { snapshot, at };
    }

    #[test]
    fn a_thread_that_publishes_nothing_is_stuck_after_a_while_and_not_before() {
        let begun = Instant::now();
        let (state, [first, second]) = state(begun);
        assert!(!state.has_begun());
        assert_eq!(state.stuck(begun + STUCK), None);
        let later = begun + STUCK + Duration::from_millis(1);
        assert_eq!(
            state.stuck(later),
            Some((1, later - begun)),
            "it has not begun"
        );
        publish(&first, 0, later);
        assert_eq!(state.stuck(later), Some((2, later - begun)));
        assert!(!state.has_begun());
        publish(&second, 0, later);
        assert_eq!(state.stuck(later + STUCK), None);
        assert!(state.has_begun());
        publish(&first, 0, later + STUCK);
        let much_later = later + STUCK * 2;
        assert_eq!(state.stuck(much_later), Some((2, STUCK * 2)));
    }

    #[test]
    fn the_work_of_all_threads_is_summed() {
        let now = Instant::now();
        let (state, [first, second]) = state(now);
        publish(&first, 3, now);
        publish(&second, 4, now);
        assert_eq!(state.status().work.forward.forwarded, 7);
    }
}
