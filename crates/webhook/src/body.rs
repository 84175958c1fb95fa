//! Reading the body of a request within bounds.
//!
//! In: a body as it arrives. Out: its bytes, or the [`Problem`]. A body is at most [`BODY_MAX`] long and
//! arrives within [`BODY_TIME`]. All bodies together take at most the bytes of one [`Budget`]. A byte counts when
//! it arrives, not when it is announced, so a slow client holds only what it has sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes};

/// The longest body. An object is at most 3 MiB long in a request to an API server; a review has a few fields
/// more.
pub(crate) const BODY_MAX: usize = (3 << 20) + (64 << 10);

/// How long a body may take: an API server waits no longer for its answer.
pub(crate) const BODY_TIME: Duration = Duration::from_secs(2);

/// The memory of all bodies together.
pub(crate) const ALL_BODIES_MAX: usize = 16 << 20;

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    TooLarge,
    TooSlow,
    NoMemory,
    Broken,
}

/// Memory that is left for bodies.
#[derive(Debug)]
pub(crate) struct Budget(AtomicUsize);

impl Budget {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(bytes)))
    }

    fn take(&self, bytes: usize) -> bool {
        let less = |left: usize| left.checked_sub(bytes);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }
}

/// The bytes of a body, which count until this value is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) bytes: Vec<u8>,
    budget: Arc<Budget>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.bytes.len(), Ordering::Relaxed);
    }
}

/// Reads a body.
pub(crate) async fn read<B>(body: B, budget: &Arc<Budget>) -> Result<Held, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let announced = body.size_hint().lower();
    if announced > BODY_MAX as u64 {
        return Err(Problem::TooLarge);
    }
    tokio::time::timeout(BODY_TIME, read_all(body, budget))
        .await
        .unwrap_or(Err(Problem::TooSlow))
}

async fn read_all<B>(mut body: B, budget: &Arc<Budget>) -> Result<Held, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut held = Held {
        bytes: Vec::new(),
        budget: Arc::clone(budget),
    };
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Problem::Broken)?.into_data() else {
            continue;
        };
        if held.bytes.len() + data.len() > BODY_MAX {
            return Err(Problem::TooLarge);
        }
        if !budget.take(data.len()) {
            return Err(Problem::NoMemory);
        }
        held.bytes.extend_from_slice(&data);
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    async fn read_bytes(length: usize, budget: &Arc<Budget>) -> Result<Held, Problem> {
        read(Full::new(Bytes::from(vec![0; length])), budget).await
    }

    #[tokio::test]
    async fn bytes_count_from_their_arrival_until_the_body_is_dropped() {
        let budget = Budget::new(100);
        let first = read_bytes(60, &budget).await.unwrap();
        assert_eq!(first.bytes.len(), 60);
        assert_eq!(
            read_bytes(60, &budget).await.unwrap_err(),
            Problem::NoMemory
        );
        drop(first);
        let second = read_bytes(100, &budget).await;
        assert!(second.is_ok());
        drop(second);
        assert_eq!(budget.0.load(Ordering::Relaxed), 100);
    }

    #[tokio::test]
    async fn a_body_above_the_limit_is_refused_before_it_is_read() {
        let budget = Budget::new(usize::MAX);
        assert!(read_bytes(BODY_MAX, &budget).await.is_ok());
        assert_eq!(
            read_bytes(BODY_MAX + 1, &budget).await.unwrap_err(),
            Problem::TooLarge
        );
    }
}
