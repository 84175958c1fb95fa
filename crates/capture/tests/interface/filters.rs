//! The filter of a ring is replaced while frames arrive and another thread reads the ring.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use caps::{CapSet, Capability};
use capture::{BLOCK_LEN, FilterHandle, Ring, RingConfig};
use filter::Filter;

use crate::support::{
    CapturedFrame, HERE, MARK, Pair, THERE, Test, bound, drain, finish, numbered, numbers,
    read_closed, receiver, sender, wait,
};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        (
            "no_frame_that_both_filters_accept_is_lost_while_they_are_replaced",
            replacing,
        ),
        ("a_ring_that_rejects_all_accepts_frames_again", switching),
        (
            "a_filter_that_is_replaced_after_the_stop_accepts_no_frame",
            after_the_stop,
        ),
        (
            "the_old_filter_stays_if_the_kernel_refuses_the_new_one",
            refused,
        ),
    ]
}

/// A long datagram is accepted by one of the filters only, a short one by both.
const SHORT: usize = 64;
const LONG: usize = 600;

/// Every other datagram is long. The short ones arrive without a gap, and some of the long ones do.
/// Replacing needs no capability.
fn replacing() {
    const REPLACEMENTS: usize = 400;
    let pair = Pair::new();
    let _receiver = receiver(&pair.there);
    let [plain, marked] = [false, true].map(|marked| sender(&pair.here, THERE, marked));
    let mut ring = bound(&pair.here, "eth0", 64);
    let handle = ring.filter_handle().unwrap();
    let (narrow, wide) = (
        Filter::new("udp and less 300").unwrap(),
        Filter::new("udp or arp").unwrap(),
    );
    let (replaced, sent) = (AtomicBool::new(false), AtomicBool::new(false));
    let (count, seen) = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            for number in 0.. {
                let length = if number % 2 == 0 { SHORT } else { LONG };
                plain.send(&numbered(number, length)).unwrap();
                marked.send(&numbered(u32::MAX, SHORT)).unwrap();
                if replaced.load(Ordering::Relaxed) {
                    sent.store(true, Ordering::Relaxed);
                    return number + 1;
                }
            }
            0
        });
        scope.spawn(|| {
            caps::clear(None, CapSet::Effective).unwrap();
            assert!(!caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_ADMIN).unwrap());
            for filter in [Some(&narrow), Some(&wide), None]
                .into_iter()
                .cycle()
                .take(REPLACEMENTS)
            {
                handle.replace(filter).unwrap();
                thread::sleep(Duration::from_micros(500));
            }
            replaced.store(true, Ordering::Relaxed);
        });
        let mut seen = Vec::new();
        while !sent.load(Ordering::Relaxed) {
            read_closed(&mut ring, &mut seen);
            thread::sleep(Duration::from_millis(1));
        }
        (sending.join().unwrap(), seen)
    });
    let (seen, statistics) = finish(ring, seen);
    assert_eq!(statistics.drops, 0);
    let (short, long): (Vec<u32>, Vec<u32>) = numbers(&seen)
        .into_iter()
        .partition(|number| number % 2 == 0);
    let expected: Vec<u32> = (0..count).filter(|number| number % 2 == 0).collect();
    assert!(short == expected, "{} of {}", short.len(), expected.len());
    // The mark stays in every program: its datagrams have the largest number, which is odd.
    assert!(!long.contains(&u32::MAX), "a frame with the mark");
    let all = expected.len();
    assert!(
        (all / 20..all * 19 / 20).contains(&long.len()),
        "{} of {all}",
        long.len()
    );
    println!("{count} datagrams during {REPLACEMENTS} replacements: no short one was lost");
}

/// Reads the ring until this datagram is in it.
fn until(ring: &mut Ring, number: u32) -> Vec<CapturedFrame> {
    let mut seen = wait(ring);
    while !numbers(&seen).contains(&number) {
        seen.extend(wait(ring));
    }
    seen
}

/// Sends a numbered datagram to the ring's interface.
fn send(pair: &Pair, number: u32) {
    let socket = sender(&pair.there, HERE, false);
    socket.send(&numbered(number, SHORT)).unwrap();
}

fn switching() {
    let pair = Pair::new();
    let _receiver = receiver(&pair.here);
    let mut ring = bound(&pair.here, "eth0", 2);
    let handle = ring.filter_handle().unwrap();
    let before = ring.statistics().unwrap();
    handle.reject_all().unwrap();
    send(&pair, 1);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(
        ring.statistics().unwrap(),
        before,
        "a rejected frame is in no counter"
    );
    // Checking the interface does not attach another program.
    assert_eq!(ring.refresh().unwrap(), None);
    send(&pair, 2);
    handle.replace(None).unwrap();
    send(&pair, 3);
    let seen = until(&mut ring, 3);
    let (seen, _) = finish(ring, seen);
    assert_eq!(numbers(&seen), [3]);
}

fn after_the_stop() {
    let pair = Pair::new();
    let _receiver = receiver(&pair.here);
    let mut ring = bound(&pair.here, "eth0", 2);
    let handle = ring.filter_handle().unwrap();
    send(&pair, 1);
    let before = until(&mut ring, 1);
    ring.stop().unwrap();
    handle.replace(None).unwrap();
    send(&pair, 2);
    let (seen, _) = drain(ring, before);
    assert_eq!(numbers(&seen), [1]);
}

/// `net.core.optmem_max` of the network namespace: since Linux 6.8 each has its own.
fn refused() {
    let pair = Pair::new();
    let _receiver = receiver(&pair.here);
    let config = RingConfig::new(2 * BLOCK_LEN, MARK);
    let open = || Ring::open("eth0".parse().unwrap(), &config).unwrap();
    let mut ring = pair.here.run(open);
    ring.refresh().unwrap();
    let handle: FilterHandle = ring.filter_handle().unwrap();
    handle
        .replace(Some(&Filter::new("udp and less 300").unwrap()))
        .unwrap();
    pair.here.set_sysctl("core/optmem_max", "2048").unwrap();
    let hosts: Vec<String> = (1..200).map(|host| format!("host 10.1.2.{host}")).collect();
    let error = handle
        .replace(Some(&Filter::new(&hosts.join(" or ")).unwrap()))
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("net.core.optmem_max"), "{text}");
    let socket = sender(&pair.there, HERE, false);
    socket.send(&numbered(1, LONG)).unwrap();
    socket.send(&numbered(2, SHORT)).unwrap();
    let before = until(&mut ring, 2);
    let (seen, _) = finish(ring, before);
    assert_eq!(numbers(&seen), [2], "{text}");
}
