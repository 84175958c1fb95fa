//! Which frames enter the ring, and with which metadata.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use capture::{BLOCK_LEN_MIN, DESCRIPTOR_LEN, Ring, RingConfig, slot_len};
use libc::ETH_P_ALL;
use socket2::{Domain, Socket, Type};
use testbed::SegmentationLimits;
use wire::{ChecksumState, Direction, GsoKind, Link, VlanTag};

use crate::support::{
    CapturedFrame, HERE, MARK, PORT, Pair, THERE, Test, bound, drain, finish, number, numbered,
    numbers, read_closed, receiver, sender, wait,
};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("no_marked_frame_enters_the_ring_while_it_opens", opening),
        ("fragments_of_a_marked_datagram_are_not_captured", fragments),
        ("frames_have_their_direction_and_length", directions),
        ("a_loopback_frame_is_captured_once", loopback),
        ("a_large_tcp_frame_has_its_segment_size", segmentation),
        ("a_removed_vlan_tag_is_in_the_metadata", vlan),
        ("the_counters_agree_when_the_ring_overflows", overflow),
        ("a_block_holds_as_many_frames_as_computed", capacity),
        ("small_blocks_lose_nothing_and_keep_the_order", small_blocks),
        ("a_frame_larger_than_a_block_is_shortened", shortened),
        (
            "nothing_is_lost_or_added_when_stopped_under_traffic",
            stopping,
        ),
    ]
}

/// Datagrams with and without the mark are sent while rings are opened. The marked ones have odd
/// numbers. None of them is captured.
fn opening() {
    let pair = Pair::new();
    let _receiver = receiver(&pair.there);
    let (plain, marked) = (
        sender(&pair.here, THERE, false),
        sender(&pair.here, THERE, true),
    );
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                let socket = if number % 2 == 0 { &plain } else { &marked };
                socket.send(&numbered(number, 64)).unwrap();
                if over.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let rings = || {
            let mut all = 0;
            for _ in 0..10 {
                let mut ring = bound(&pair.here, "eth0", 8);
                let before = wait(&mut ring);
                let (seen, _) = finish(ring, before);
                let numbers = numbers(&seen);
                assert!(numbers.iter().all(|number| number % 2 == 0));
                assert!(numbers.is_sorted());
                all += numbers.len();
            }
            all
        };
        let all = std::panic::catch_unwind(std::panic::AssertUnwindSafe(rings));
        over.store(true, Ordering::Relaxed);
        assert!(all.unwrap() > 100, "too little traffic to prove anything");
    });
}

/// A ring with blocks of the smallest length, bound to `eth0`.
fn ring_of_small_blocks(pair: &Pair, blocks: usize, retire_after_ms: u32) -> Ring {
    let config = RingConfig {
        block_len: BLOCK_LEN_MIN,
        retire_after_ms,
        ..RingConfig::new(blocks * BLOCK_LEN_MIN, MARK)
    };
    let open = || Ring::open("eth0".parse().unwrap(), &config);
    let mut ring = pair.here.run(open).unwrap();
    ring.refresh().unwrap();
    ring
}

/// The kernel closes the first block when the next frame does not fit, and not by time.
fn capacity() {
    const HEADERS: usize = 14 + 20 + 8;
    let pair = Pair::new();
    let _receiver = receiver(&pair.there);
    let sender = sender(&pair.here, THERE, false);
    for payload in [18, 19, 100, 1000, 1472] {
        let mut ring = ring_of_small_blocks(&pair, 4, 60_000);
        let slot = slot_len(HEADERS + payload);
        let fits = (BLOCK_LEN_MIN - DESCRIPTOR_LEN) / slot;
        for number in 0..=u32::try_from(fits).unwrap() {
            sender.send(&numbered(number, payload)).unwrap();
        }
        let block = ring.next_block().unwrap();
        assert_eq!(block.len() as usize, fits, "payloads of {payload} bytes");
        let used = DESCRIPTOR_LEN + fits * slot;
        assert!((used - 8..=used).contains(&block.used().len()));
    }
}

/// Several times the ring's size passes, and it is read often enough.
fn small_blocks() {
    const FRAMES: u32 = 20_000;
    let pair = Pair::new();
    let _receiver = receiver(&pair.there);
    let sender = sender(&pair.here, THERE, false);
    let mut ring = ring_of_small_blocks(&pair, 4, 16);
    let mut seen = Vec::new();
    for number in 0..FRAMES {
        sender.send(&numbered(number, 100)).unwrap();
        if number % 100 == 0 {
            read_closed(&mut ring, &mut seen);
        }
    }
    let (seen, statistics) = finish(ring, seen);
    assert_eq!(statistics.drops, 0);
    assert_eq!(numbers(&seen), (0..FRAMES).collect::<Vec<_>>());
}

/// BIG TCP frames that fit in a usual block, and not in the smallest.
fn shortened() {
    const LIMIT: Duration = Duration::from_secs(10);
    let pair = Pair::new();
    let large = SegmentationLimits {
        ipv6: 400_000,
        ipv4: 400_000,
    };
    for link in [&pair.eth0, &pair.far] {
        link.set_segmentation_limits(large).unwrap();
    }
    let listener = pair.there.run(|| TcpListener::bind((THERE, PORT)).unwrap());
    let mut ring = ring_of_small_blocks(&pair, 128, 16);
    let mut client = pair.here.run(|| TcpStream::connect((THERE, PORT)).unwrap());
    let start = Instant::now();
    let mut seen = Vec::new();
    let is_larger = |frame: &CapturedFrame| frame.wire_len as usize > BLOCK_LEN_MIN;
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut server, _) = listener.accept().unwrap();
            std::io::copy(&mut server, &mut std::io::sink()).unwrap();
        });
        while !seen.iter().any(is_larger) && start.elapsed() < LIMIT {
            client.write_all(&vec![7; 4 << 20]).unwrap();
            read_closed(&mut ring, &mut seen);
        }
        drop(client);
    });
    let (seen, _) = finish(ring, seen);
    assert!(
        seen.iter().any(is_larger),
        "no frame was larger than a block"
    );
    for frame in &seen {
        let is_whole = frame.bytes.len() == frame.wire_len as usize;
        assert_eq!(is_whole, !is_larger(frame), "{} bytes", frame.wire_len);
    }
}

/// A later IP fragment has no port, but it has the mark.
fn fragments() {
    let pair = Pair::new();
    let _receiver = receiver(&pair.there);
    let ring = bound(&pair.here, "eth0", 2);
    sender(&pair.here, THERE, true)
        .send(&numbered(1, 8000))
        .unwrap();
    sender(&pair.here, THERE, false)
        .send(&numbered(2, 8000))
        .unwrap();
    let (seen, statistics) = finish(ring, Vec::new());
    assert_eq!(numbers(&seen), [2]);
    let fragments = seen
        .iter()
        .filter(|frame| frame.bytes[12..14] == [8, 0])
        .count();
    assert_eq!(fragments, 6, "8,008 bytes in fragments of 1,480");
    assert_eq!(statistics.drops, 0);
}

fn directions() {
    let pair = Pair::new();
    let (_here, _there) = (receiver(&pair.here), receiver(&pair.there));
    let ring = bound(&pair.here, "eth0", 2);
    sender(&pair.here, THERE, false)
        .send(&numbered(1, 100))
        .unwrap();
    sender(&pair.there, HERE, false)
        .send(&numbered(2, 200))
        .unwrap();
    let (seen, _) = finish(ring, Vec::new());
    let find = |wanted| seen.iter().find(|f| number(f) == Some(wanted)).unwrap();
    for (wanted, len, direction) in [(1, 142, Direction::Outgoing), (2, 242, Direction::Incoming)] {
        let frame = find(wanted);
        assert_eq!(
            (frame.bytes.len(), frame.wire_len),
            (len, 14 + 20 + 8 + wanted * 100)
        );
        assert_eq!((frame.direction, frame.link), (direction, Link::Ethernet));
        // veth leaves the UDP checksum to a network card, and there is none.
        let ChecksumState::Unfinished(unfinished) = frame.offload.checksum else {
            panic!("{:?}", frame.offload);
        };
        assert_eq!((unfinished.start, unfinished.offset), (34, 6));
    }
}

fn loopback() {
    let pair = Pair::new();
    let _receiver = receiver(&pair.here);
    let localhost = "127.0.0.1".parse().unwrap();
    let (plain, marked) = (
        sender(&pair.here, localhost, false),
        sender(&pair.here, localhost, true),
    );
    let ring = bound(&pair.here, "lo", 2);
    for number in 0..100 {
        plain.send(&numbered(number, 64)).unwrap();
        marked.send(&numbered(1000 + number, 64)).unwrap();
    }
    let (seen, statistics) = finish(ring, Vec::new());
    assert_eq!(numbers(&seen), (0..100).collect::<Vec<_>>());
    assert!(seen.iter().all(|frame| frame.link == Link::Loopback));
    assert_eq!((statistics.packets, statistics.drops), (100, 0));
}

fn segmentation() {
    const TOTAL: usize = 4 << 20;
    let pair = Pair::new();
    let listener = pair.there.run(|| TcpListener::bind((THERE, PORT)).unwrap());
    let ring = bound(&pair.here, "eth0", 16);
    let mut client = pair.here.run(|| TcpStream::connect((THERE, PORT)).unwrap());
    thread::scope(|scope| {
        scope.spawn(move || client.write_all(&vec![7; TOTAL]).unwrap());
        let (mut server, _) = listener.accept().unwrap();
        assert_eq!(server.read_to_end(&mut Vec::new()).unwrap(), TOTAL);
    });
    let (seen, statistics) = finish(ring, Vec::new());
    assert_eq!(statistics.drops, 0);
    let large: Vec<_> = seen
        .iter()
        .filter(|frame| frame.bytes.len() > 1514)
        .collect();
    assert!(!large.is_empty(), "no frame was left for a device to split");
    for frame in large {
        let gso = frame.offload.gso.unwrap();
        assert_eq!((gso.kind, gso.size), (GsoKind::TcpV4, 1448));
        assert_eq!(frame.wire_len as usize, frame.bytes.len());
        assert!(matches!(
            frame.offload.checksum,
            ChecksumState::Unfinished(_)
        ));
    }
}

/// A frame that is sent with a tag is captured without it: the kernel removes it on receipt.
fn vlan() {
    let pair = Pair::new();
    let ring = bound(&pair.here, "eth0", 2);
    let mut frame = [0xff; 12].to_vec();
    frame.extend([0x81, 0x00, 0x60, 0x64, 0x88, 0xb5]);
    frame.extend(numbered(9, 46));
    send_frame(&pair.there, pair.far.index(), &frame);
    let (seen, _) = finish(ring, Vec::new());
    let got = seen.iter().find(|frame| number(frame) == Some(9)).unwrap();
    let tag = VlanTag {
        tpid: 0x8100,
        tci: 0x6064,
    };
    assert_eq!(got.vlan, Some(tag));
    assert_eq!(got.bytes[12..14], [0x88, 0xb5]);
    assert_eq!(got.bytes.len(), frame.len() - 4);
}

/// Sends bytes as they are, link header included.
fn send_frame(namespace: &testbed::Namespace, index: u32, frame: &[u8]) {
    use nix::sys::socket::{MsgFlags, SockaddrLike, SockaddrStorage, sendto};
    use std::os::fd::AsRawFd;

    let mut address = [0u8; size_of::<libc::sockaddr_ll>()];
    address[..2].copy_from_slice(&u16::try_from(libc::AF_PACKET).unwrap().to_ne_bytes());
    address[2..4].copy_from_slice(&u16::try_from(ETH_P_ALL).unwrap().to_be_bytes());
    address[4..8].copy_from_slice(&index.to_ne_bytes());
    let len = u32::try_from(address.len()).unwrap();
    // SAFETY: the bytes are a `sockaddr_ll` of that length.
    let address = unsafe { SockaddrStorage::from_raw(address.as_ptr().cast(), Some(len)) };
    namespace.run(|| {
        let socket = Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
        let sent = sendto(
            socket.as_raw_fd(),
            frame,
            &address.unwrap(),
            MsgFlags::empty(),
        );
        assert_eq!(sent, Ok(frame.len()));
    });
}

/// A small ring overflows when it is not read; dropped and captured frames together are all frames.
fn overflow() {
    const SENT: u32 = 4000;
    let pair = Pair::new();
    let _receiver = receiver(&pair.there);
    let socket = sender(&pair.here, THERE, false);
    let mut ring = bound(&pair.here, "eth0", 2);
    for number in 1..=SENT {
        socket.send(&numbered(number, 1400)).unwrap();
    }
    let mut seen = Vec::new();
    read_closed(&mut ring, &mut seen);
    for number in SENT + 1..=SENT + 10 {
        socket.send(&numbered(number, 1400)).unwrap();
    }
    let end = Instant::now() + Duration::from_secs(2);
    while seen.iter().filter_map(number).max() < Some(SENT + 10) {
        assert!(Instant::now() < end, "the last datagrams did not arrive");
        if let Some(block) = ring.next_block() {
            seen.extend(block.frames().map(CapturedFrame::from));
        }
    }
    let (seen, statistics) = finish(ring, seen);
    let numbers = numbers(&seen);
    assert!(numbers.is_sorted());
    assert_eq!(numbers[0], 1);
    assert_eq!(
        numbers[numbers.len() - 10..],
        (SENT + 1..=SENT + 10).collect::<Vec<_>>()
    );
    assert!(statistics.drops > 0, "{statistics:?}");
    assert!(statistics.packets >= u64::from(SENT) + 10);
}

/// Datagrams are sent while the ring is stopped: the captured ones have no gap, and the counters match
/// the number of frames (see `finish`).
fn stopping() {
    let pair = Pair::new();
    let _receiver = receiver(&pair.there);
    let socket = sender(&pair.here, THERE, false);
    for _ in 0..10 {
        let over = AtomicBool::new(false);
        let mut ring = bound(&pair.here, "eth0", 16);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0.. {
                    socket.send(&numbered(number, 64)).unwrap();
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            let before = wait(&mut ring);
            ring.stop().unwrap();
            thread::sleep(Duration::from_millis(20));
            over.store(true, Ordering::Relaxed);
            assert_eq!(ring.refresh().unwrap(), None, "a stopped ring binds again");
            let (seen, statistics) = drain(ring, before);
            let numbers = numbers(&seen);
            assert_eq!(statistics.drops, 0);
            assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
        });
    }
}
