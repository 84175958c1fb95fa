//! Sending allocates no memory after the first batch of a size.
//!
//! This is a separate binary, because the allocator is for the whole process. It counts for each thread.

mod common;

use std::net::UdpSocket;

use common::{Block, Fixture, sockets, table};
use mirror::SensorTable;
use testbed::{CountingAllocator, allocations};
use transmit::SocketConfig;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn sending_allocates_nothing_after_the_first_batch() {
    let sensors = [UdpSocket::bind("127.0.0.1:0"), UdpSocket::bind("[::1]:0")].map(Result::unwrap);
    // A third sensor refuses, so that errors are handled too.
    let closed = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let [v4, v6] = sensors
        .each_ref()
        .map(|sensor| sensor.local_addr().unwrap());
    for table in [table(&[v4, v6, closed]), sockets(&[v4, v6, closed])] {
        ten_batches(&table);
    }
}

fn ten_batches(table: &SensorTable) {
    let mut fixture = Fixture::new(SocketConfig::new(0));
    let mut block = Block::of_udp(500, 100, 128);
    for round in 0..10 {
        fixture.push(&block, table);
        let before = allocations();
        fixture
            .transmitter
            .send(&mut fixture.batch, &mut block.bytes[..], table);
        let allocated = allocations() - before;
        fixture.batch.count_outcomes(&mut fixture.totals);
        assert!(
            round == 0 || allocated == 0,
            "round {round}: {allocated} allocations"
        );
    }
    assert_eq!(fixture.totals.datagrams_sent, 5000);
}
