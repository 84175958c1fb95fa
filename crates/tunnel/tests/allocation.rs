//! Sealing and opening allocate nothing, from the first datagram on.
//!
//! This is a separate binary, because the allocator is for the whole process. It counts for each thread.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests too"
)]

mod session;

use std::time::Instant;

use testbed::{CountingAllocator, allocations};
use tunnel::responder::{Opened, Replies};
use tunnel::sealer::Scratch;

use session::{FROM, session};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn sealing_and_opening_allocate_nothing() {
    let now = Instant::now();
    let (mut worker, mut responder) = session(now);
    let (mut scratch, mut replies) = (Scratch::new(), Replies::new());
    let (mut sealed, mut opened) = (vec![0; 2_000], vec![0; 2_000]);
    let body = vec![7; 1_400];
    let before = allocations();
    for number in 0..10_000_usize {
        let body = &body[..number % 1_400];
        let mut sealing = worker.begin(now, &mut scratch).unwrap();
        let length = sealing.seal(1, &[8; 8], body, &mut sealed).unwrap();
        let datagram = &sealed[..length];
        let received = responder.receive(datagram, FROM, now, &mut opened, &mut replies);
        let Ok(Opened::Vxlan { bytes, .. }) = received else {
            panic!("{received:?}");
        };
        assert_eq!(bytes.len(), 8 + body.len());
        // Nor does a refusal.
        let again = responder.receive(datagram, FROM, now, &mut opened, &mut replies);
        assert!(again.is_err());
    }
    assert_eq!(allocations() - before, 0);
    // The count works.
    drop(vec![0_u8; 10]);
    assert_eq!(allocations() - before, 1);
}
