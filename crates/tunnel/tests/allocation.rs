//! Sealing and opening allocate nothing, from the first datagram on.
//!
//! This is a separate binary, because the allocator is for the whole process. It counts for each thread.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests too"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Instant;

use tunnel::initiator::{Answer, Identity, Initiator, InitiatorConfig};
use tunnel::protocol::INITIATION_LEN;
use tunnel::responder::{Limits, Opened, Replies, Responder, ResponderConfig};
use tunnel::sealer::{Scratch, Sealer};
use tunnel::{Inner, PresharedKey, PresharedKeys, PrivateKey};

/// The system's allocator, with a count of allocations.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

// SAFETY: each call goes to the system's allocator; counting does not change the result.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`; the memory is the system's.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`; the memory is the system's.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FROM: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(
    std::net::Ipv4Addr::LOCALHOST,
    50_000,
));

/// Both ends of a session.
fn session(now: Instant) -> (Sealer, Responder) {
    let sensor = PrivateKey::generate();
    let preshared = PresharedKey::generate();
    let config = InitiatorConfig {
        identity: Identity::Fresh,
        sensor: sensor.public(),
        preshared: preshared.clone(),
        inner: Inner::DEFAULT,
    };
    let mut initiator = Initiator::new(config, 1, now);
    let config = ResponderConfig {
        private: sensor,
        preshared: PresharedKeys::one(preshared),
        limits: Limits::default(),
    };
    let mut responder = Responder::new(config, now);
    let mut initiation = [0; INITIATION_LEN];
    let initiation = initiator.poll(now, &mut initiation).unwrap();
    let (mut out, mut replies) = ([0; 200], Replies::new());
    let answered = responder.receive(initiation, FROM, now, &mut out, &mut replies);
    assert_eq!(answered, Ok(Opened::Answered));
    let answer = initiator.receive(replies.iter().next().unwrap(), now);
    let Ok(Answer::Established(established)) = answer else {
        panic!("{answer:?}");
    };
    let confirmed = responder.receive(&established.confirm, FROM, now, &mut out, &mut replies);
    assert_eq!(confirmed, Ok(Opened::Keepalive));
    (established.sealer, responder)
}

#[test]
fn sealing_and_opening_allocate_nothing() {
    let now = Instant::now();
    let (mut worker, mut responder) = session(now);
    let (mut scratch, mut replies) = (Scratch::new(), Replies::new());
    let (mut sealed, mut opened) = (vec![0; 2_000], vec![0; 2_000]);
    let body = vec![7; 1_400];
    let before = ALLOCATIONS.get();
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
    assert_eq!(ALLOCATIONS.get() - before, 0);
    // The count works.
    drop(vec![0_u8; 10]);
    assert_eq!(ALLOCATIONS.get() - before, 1);
}
