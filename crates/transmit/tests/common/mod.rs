//! Test frames, and batches that are made from them as in the worker.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

use std::net::SocketAddr;

use mirror::{
    Batch, DropReason, Mirror, MirrorConfig, Outcome, Sensor, SensorTable, Spread, Totals,
};
use transmit::{SocketConfig, Transmitter};
use wire::{ChecksumState, Direction, Frame, Link, Mtu, Offload, Timestamp, Unfinished, Vni};

/// Everything that is needed to mirror blocks of frames.
pub(crate) struct Fixture {
    pub(crate) transmitter: Transmitter,
    pub(crate) mirror: Mirror,
    pub(crate) batch: Batch,
    pub(crate) totals: Totals,
}

impl Fixture {
    pub(crate) fn new(config: SocketConfig) -> Self {
        let transmitter = Transmitter::open(&config).expect("the sockets open");
        let mirror = Mirror::new(MirrorConfig {
            vni: Vni::new(42).unwrap(),
            spread: Spread::Flows,
            source_ports: config.source_ports,
            own_ports: transmitter.source_ports().to_vec(),
            tunnel_port: transmitter.tunnel_port(),
            first_identification: 0,
        });
        Self {
            transmitter,
            mirror,
            batch: Batch::new(),
            totals: Totals::default(),
        }
    }

    /// Mirrors a block. Returns the datagrams of the batch, in its order, with their outcomes, and counts
    /// the outcomes in the totals.
    pub(crate) fn mirror(&mut self, block: &Block, table: &SensorTable) -> Vec<Built> {
        self.push(block, table);
        let mut bytes = block.bytes.clone();
        let sent = self
            .transmitter
            .send(&mut self.batch, &mut bytes[..], table);
        self.totals.messages_sent += sent.messages;
        self.totals.trailer_bytes += sent.trailer_bytes;
        let built = built(&self.batch, &bytes);
        self.batch.count_outcomes(&mut self.totals);
        assert!(self.totals.check(), "{:?}", self.totals);
        built
    }

    pub(crate) fn push(&mut self, block: &Block, table: &SensorTable) {
        for frame in block.frames() {
            self.mirror
                .push(&frame, table, &mut self.batch, &mut self.totals);
        }
    }
}

/// A datagram as it was built.
pub(crate) struct Built {
    pub(crate) bytes: Vec<u8>,
    pub(crate) sensor: usize,
    pub(crate) port: usize,
    pub(crate) outcome: Outcome,
}

pub(crate) fn built(batch: &Batch, block: &[u8]) -> Vec<Built> {
    let datagrams = batch.datagrams().iter().zip(batch.outcomes());
    datagrams
        .map(|(datagram, outcome)| {
            let head = datagram.head.start as usize..datagram.head.end as usize;
            let body = datagram.body.start as usize..datagram.body.end as usize;
            Built {
                bytes: [&batch.heads()[head], &block[body]].concat(),
                sensor: datagram.sensor.0.into(),
                port: datagram.port.0.into(),
                outcome: *outcome,
            }
        })
        .collect()
}

pub(crate) fn count(built: &[Built], outcome: Outcome) -> usize {
    built
        .iter()
        .filter(|datagram| datagram.outcome == outcome)
        .count()
}

pub(crate) fn dropped(reason: DropReason) -> Outcome {
    Outcome::Dropped(reason)
}

pub(crate) fn table(sensors: &[SocketAddr]) -> SensorTable {
    let sensor = |address: &SocketAddr| Sensor::new(*address, Mtu::ETHERNET);
    SensorTable::new(sensors.iter().map(sensor).collect())
}

/// The same sensors as sockets.
pub(crate) fn sockets(sensors: &[SocketAddr]) -> SensorTable {
    let sensor = |address: &SocketAddr| Sensor::new(*address, Mtu::ETHERNET).with_socket(true);
    SensorTable::new(sensors.iter().map(sensor).collect())
}

/// The length of a `virtio_net_hdr`.
const HEADROOM: u32 = 10;

/// Frames one after the other, as in a block of the ring.
#[derive(Default)]
pub(crate) struct Block {
    pub(crate) bytes: Vec<u8>,
    frames: Vec<(usize, usize, bool)>,
}

impl Block {
    /// `count` frames of UDP over IPv4, from `flows` flows in turn, each from another host, with the number
    /// in the payload. Every other flow has an unfinished checksum, so that its headers are rewritten.
    pub(crate) fn of_udp(count: usize, flows: u16, payload: usize) -> Self {
        let mut block = Self::default();
        for (number, flow) in (0..count).zip((0..flows).cycle()) {
            block.push_udp(flow, number, payload);
        }
        block
    }

    /// Frames of one flow, with payloads of these lengths.
    pub(crate) fn of_lengths(payloads: &[usize]) -> Self {
        let mut block = Self::default();
        for (number, payload) in payloads.iter().enumerate() {
            block.push_udp(1, number, *payload);
        }
        block
    }

    /// Adds an ARP request, whose length no header gives.
    pub(crate) fn push_arp(&mut self) {
        let at = self.frame();
        self.bytes.extend([0xff; 6]);
        self.bytes
            .extend([2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        self.bytes.extend([2, 0, 0, 0, 0, 1, 10, 1, 0, 1]);
        self.bytes.extend([0, 0, 0, 0, 0, 0, 10, 1, 0, 2]);
        self.frames.push((at, self.bytes.len(), false));
    }

    /// Where the next frame starts: the ring has the `virtio_net_hdr` in front of it.
    fn frame(&mut self) -> usize {
        self.bytes.extend([0xee; HEADROOM as usize]);
        self.bytes.len()
    }

    pub(crate) fn push_udp(&mut self, flow: u16, number: usize, payload: usize) {
        let at = self.frame();
        let udp_length = u16::try_from(8 + payload).unwrap();
        self.bytes
            .extend_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
        let total = (20 + udp_length).to_be_bytes();
        let header = [0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, 17, 0, 0];
        self.bytes.extend_from_slice(&header);
        let [high, low] = flow.to_be_bytes();
        self.bytes
            .extend_from_slice(&[10, 1, high, low, 10, 2, 0, 2]);
        for word in [10_000 + flow, 53, udp_length, 0] {
            self.bytes.extend_from_slice(&word.to_be_bytes());
        }
        let start = self.bytes.len();
        self.bytes.resize(start + payload, 0x5a);
        let number = (number as u64).to_be_bytes();
        self.bytes[start..start + number.len()].copy_from_slice(&number);
        self.frames.push((at, self.bytes.len(), flow % 2 == 1));
    }

    pub(crate) fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        self.frames.iter().map(|&(start, end, unfinished)| Frame {
            bytes: &self.bytes[start..end],
            at: u32::try_from(start).unwrap(),
            headroom: HEADROOM,
            wire_len: u32::try_from(end - start).unwrap(),
            timestamp: Timestamp::default(),
            direction: Direction::Outgoing,
            link: Link::Ethernet,
            vlan: None,
            offload: Offload {
                checksum: if unfinished {
                    ChecksumState::Unfinished(Unfinished {
                        start: 34,
                        offset: 6,
                    })
                } else {
                    ChecksumState::AsOnWire
                },
                gso: None,
            },
        })
    }
}
