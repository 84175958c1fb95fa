//! The open connections of a port, and which one ends when there are too many.
//!
//! In: new connections and their requests. Out: a [`Place`] for each, which is told when it must close. There
//! are never more places than the limit: a new connection takes the place of the one whose last request, or
//! start, is the longest ago. So clients that connect and then say nothing evict each other, and an API
//! server, which asks, keeps its connection or makes a new one at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The connections of one port.
#[derive(Debug)]
pub(crate) struct Connections {
    limit: usize,
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    clock: u64,
    /// By the time of the last request.
    open: BTreeMap<u64, Arc<Notify>>,
}

/// The place of one connection; it is free when this value is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    all: Arc<Connections>,
    time: Mutex<u64>,
    evicted: Arc<Notify>,
}

impl Connections {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            list: Mutex::default(),
        })
    }

    /// A place for a new connection, and whether another one lost its own.
    pub(crate) fn admit(self: &Arc<Self>) -> (Place, bool) {
        let mut list = self.list();
        let mut full = false;
        if list.open.len() >= self.limit
            && let Some((_, oldest)) = list.open.pop_first()
        {
            oldest.notify_one();
            full = true;
        }
        let evicted = Arc::new(Notify::new());
        let time = list.insert(Arc::clone(&evicted));
        let place = Place {
            all: Arc::clone(self),
            time: Mutex::new(time),
            evicted,
        };
        (place, full)
    }

    /// How many there are.
    pub(crate) fn open(&self) -> usize {
        self.list().open.len()
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn insert(&mut self, evicted: Arc<Notify>) -> u64 {
        self.clock += 1;
        self.open.insert(self.clock, evicted);
        self.clock
    }
}

impl Place {
    /// The connection has a request.
    pub(crate) fn touch(&self) {
        let mut time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = self.all.list();
        if let Some(evicted) = list.open.remove(&time) {
            *time = list.insert(evicted);
        }
    }

    /// Waits until the connection must close.
    pub(crate) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        self.all.list().open.remove(&time);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn is_evicted(place: &Place) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        pin!(place.evicted()).poll(&mut context).is_ready()
    }

    #[test]
    fn the_connection_without_a_request_for_the_longest_time_is_evicted() {
        let connections = Connections::new(3);
        let [first, second, third] = [(); 3].map(|()| connections.admit().0);
        first.touch();
        let (fourth, full) = connections.admit();
        assert!(full && is_evicted(&second));
        assert!(![&first, &third, &fourth].into_iter().any(is_evicted));
        // It has no place, so it takes none when it ends or asks.
        second.touch();
        drop(second);
        assert_eq!(connections.open(), 3);
        drop(third);
        assert_eq!(connections.open(), 2);
        let (_fifth, full) = connections.admit();
        assert!(!full);
        assert_eq!(connections.open(), 3);
        drop((first, fourth));
        assert_eq!(connections.open(), 1);
    }
}
