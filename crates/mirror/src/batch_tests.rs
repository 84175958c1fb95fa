//! What a batch holds, and what is left of a frame that is given up.

use super::*;

const ROUTE: Route = Route {
    lane: Lane::ALL[0],
    sensor: SensorIndex(3),
    port: PortIndex(5),
};

fn frame_at(at: u32, headroom: u32) -> Frame<'static> {
    Frame {
        bytes: &[0; 20],
        at,
        headroom,
        wire_len: 20,
        timestamp: wire::Timestamp::default(),
        direction: wire::Direction::Incoming,
        link: wire::Link::Ethernet,
        vlan: None,
        offload: wire::Offload::default(),
    }
}

#[test]
fn a_frame_that_stays_in_its_place_gets_its_header_in_front_and_its_checksum() {
    let mut batch = Batch::new();
    let mut block = [1; 100];
    for (at, checksum) in [(10, None), (40, Some((4, [7, 7])))] {
        let mut frame = batch.frame([8; 8], ROUTE, &frame_at(at, 8), true);
        assert!(frame.has_headroom());
        frame.in_place(20, checksum);
        frame.commit();
    }
    let bodies = batch
        .datagrams()
        .iter()
        .map(|datagram| datagram.body.clone());
    assert_eq!(bodies.collect::<Vec<_>>(), [2..30, 32..60]);
    assert!(batch.heads().is_empty() && batch.datagrams().iter().all(|one| one.head.is_empty()));
    batch.write_into(&mut block[..]);
    let mut expected = [1; 100];
    expected[2..10].fill(8);
    expected[32..40].fill(8);
    expected[44..46].fill(7);
    assert_eq!(block, expected);
    // Once.
    block.fill(1);
    batch.write_into(&mut block[..]);
    assert_eq!(block, [1; 100]);
    let frame = batch.frame([8; 8], ROUTE, &frame_at(70, 7), true);
    assert!(!frame.has_headroom());
}

fn three_frames() -> Batch {
    let mut batch = Batch::new();
    for (at, datagrams) in [(100, 1), (200, 3), (300, 2)] {
        let mut frame = batch.frame([8; 8], ROUTE, &frame_at(at, 0), true);
        for _ in 0..datagrams {
            frame.start();
            frame.write(&[1, 2]);
            frame.end(0..10);
        }
        frame.commit();
    }
    batch
}

#[test]
fn a_datagram_is_a_range_of_the_arena_and_a_range_of_the_block() {
    let batch = three_frames();
    let second = &batch.datagrams()[1];
    assert_eq!(
        (second.head.clone(), second.body.clone()),
        (10..20, 200..210)
    );
    assert_eq!(second.length(), 20);
    assert_eq!(&batch.heads()[10..20], [8, 8, 8, 8, 8, 8, 8, 8, 1, 2]);
}

#[test]
fn a_frame_counts_as_mirrored_only_when_all_of_it_was_sent() {
    let mut batch = three_frames();
    for datagram in [0, 1, 3] {
        batch.parts().outcomes[datagram] = Outcome::Sent;
    }
    batch.parts().outcomes[2] = Outcome::Dropped(DropReason::QueueFull);
    let mut totals = Totals::default();
    batch.count_outcomes(&mut totals);
    assert!(totals.check(), "{totals:?}");
    assert_eq!((totals.frames_seen, totals.frames_mirrored), (3, 1));
    assert_eq!(totals.frames_dropped.of(DropReason::QueueFull), 1);
    assert_eq!(
        totals.frames_dropped.of(DropReason::SendError),
        1,
        "never sent"
    );
    assert_eq!((totals.datagrams_built, totals.datagrams_sent), (6, 3));
    assert_eq!(totals.bytes_sent, 60);
    assert!(batch.is_empty() && batch.heads().is_empty());
}

#[test]
fn a_batch_is_larger_with_more_sensors_that_are_sockets() {
    let sizes = [0, 1, 8, 9, 64, 65, usize::MAX].map(full);
    assert_eq!(sizes, [512, 512, 512, 576, 4096, 4096, 4096]);
}

#[test]
fn an_abandoned_frame_leaves_nothing_in_the_batch() {
    let mut batch = three_frames();
    let (heads, datagrams) = (batch.heads().len(), batch.datagrams().len());
    let mut frame = batch.frame([8; 8], ROUTE, &frame_at(400, 0), true);
    for _ in 0..2 {
        frame.start();
        frame.end(0..1);
    }
    frame.start();
    frame.abandon();
    assert_eq!(
        (batch.heads().len(), batch.datagrams().len()),
        (heads, datagrams)
    );
    let frame = batch.frame([8; 8], ROUTE, &frame_at(400, 0), true);
    frame.abandon();
    assert_eq!(batch.heads().len(), heads);
}

#[test]
fn an_abandoned_frame_writes_nothing_into_the_block() {
    let mut batch = three_frames();
    let mut frame = batch.frame([8; 8], ROUTE, &frame_at(400, 8), true);
    frame.in_place(20, Some((4, [9, 9])));
    frame.abandon();
    let mut block = [0; 500];
    batch.write_into(&mut block[..]);
    assert_eq!(block[300..], [0; 200]);
}
