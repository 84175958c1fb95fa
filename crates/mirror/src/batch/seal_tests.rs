//! What a batch holds after its datagrams were sealed, by a reversible transformation as the cipher.

use core::net::SocketAddr;
use core::num::NonZeroU16;

use proptest::prelude::*;
use wire::Mtu;

use super::*;
use crate::batch::Route;
use crate::plan::{Group, Kind, Plan};
use crate::table::Sensor;
use crate::totals::Totals;

const ADDED: u16 = 60;
const BLOCK: usize = 4000;

/// Writes the sensor, the port, and the datagram with all bits inverted; refuses some sensors.
struct Invert {
    /// For each sensor, whether it has a session.
    sessions: Vec<bool>,
}

impl Seal for Invert {
    fn seal(
        &mut self,
        sensor: SensorIndex,
        port: PortIndex,
        head: &[u8],
        body: &[u8],
        out: &mut [u8],
    ) -> bool {
        assert_eq!(out.len(), head.len() + body.len() + usize::from(ADDED));
        let (added, rest) = out.split_at_mut(ADDED.into());
        added.fill(0xaa);
        added[..2].copy_from_slice(&sensor.0.to_be_bytes());
        added[2] = port.0;
        for (to, from) in rest.iter_mut().zip(head.iter().chain(body)) {
            *to = !from;
        }
        self.sessions[usize::from(sensor.0)]
    }
}

fn table(kinds: &[Kind]) -> SensorTable {
    let sensor = |(number, kind): (u8, &Kind)| {
        let sensor = Sensor::new(SocketAddr::from(([10, 0, 0, number], 1)), Mtu::ETHERNET);
        match kind {
            Kind::Sniffer => sensor,
            Kind::Socket => sensor.with_socket(true),
            Kind::Tunnel => sensor.with_tunnel(NonZeroU16::new(ADDED).unwrap()),
        }
    };
    SensorTable::new((1..).zip(kinds).map(sensor).collect())
}

/// A frame of the batch: its place in the block, its datagrams, its sensor and port.
#[derive(Debug, Clone)]
struct Made {
    at: u32,
    datagrams: u32,
    sensor: u16,
    port: u8,
    in_place: bool,
}

fn made() -> impl Strategy<Value = Made> {
    (8_u32..3000, 1_u32..4, 0_u16..4, 0_u8..4, any::<bool>()).prop_map(
        |(at, datagrams, sensor, port, in_place)| Made {
            at,
            datagrams,
            sensor,
            port,
            in_place,
        },
    )
}

fn batch(frames: &[Made], table: &SensorTable) -> Batch {
    let mut batch = Batch::new();
    for made in frames {
        let sensor = SensorIndex(made.sensor);
        let route = Route {
            sensor,
            lane: table.sensor(sensor).unwrap().lane(),
            port: PortIndex(made.port),
        };
        let frame = wire::Frame {
            bytes: &[0; 400],
            at: made.at,
            headroom: 8,
            wire_len: 400,
            timestamp: wire::Timestamp::default(),
            direction: wire::Direction::Incoming,
            link: wire::Link::Ethernet,
            vlan: None,
            offload: wire::Offload::default(),
        };
        let mut out = batch.frame([8, 0, 0, 0, 1, 2, 3, 0], route, &frame, true);
        if made.in_place {
            out.in_place(400, Some((40, [5, 5])));
        } else {
            for number in 0..made.datagrams as usize {
                out.start();
                out.write(&[6; 20]);
                out.end(number * 100..(number + 1) * 100);
            }
        }
        out.commit();
    }
    batch
}

fn bytes_of(datagram: &Datagram, heads: &[u8], block: &[u8]) -> Vec<u8> {
    let (head, body) = parts(datagram, heads, block).unwrap();
    [head, body].concat()
}

const KINDS: [Kind; 4] = [Kind::Tunnel, Kind::Sniffer, Kind::Tunnel, Kind::Socket];

proptest! {
    #[test]
    fn what_was_sealed_is_each_datagram_as_it_would_have_been_sent(
        frames in proptest::collection::vec(made(), 0..40),
        sessions in any::<[bool; 4]>(),
    ) {
        let table = table(&KINDS);
        let mut block: Vec<u8> = (0..=250).cycle().take(BLOCK).collect();
        let mut before = batch(&frames, &table);
        let mut after = batch(&frames, &table);
        after.seal(&mut block[..], &table, &mut Invert { sessions: sessions.to_vec() });
        before.write_into(&mut block[..]);
        after.write_into(&mut block[..]);

        let (plain, parts) = (before.parts(), after.parts());
        prop_assert_eq!(plain.datagrams.len(), parts.datagrams.len());
        for (number, (plain_one, one)) in plain.datagrams.iter().zip(parts.datagrams).enumerate() {
            prop_assert_eq!((plain_one.sensor, plain_one.lane), (one.sensor, one.lane));
            if !one.lane.is_tunnel() {
                prop_assert_eq!(plain_one, one);
                continue;
            }
            prop_assert!(one.body.is_empty() && one.port == PortIndex(0) && !one.shows_end);
            if !sessions[usize::from(one.sensor.0)] {
                prop_assert!(one.head.is_empty());
                prop_assert_eq!(parts.outcomes[number], Outcome::Dropped(DropReason::NoSession));
                continue;
            }
            prop_assert_eq!(parts.outcomes[number], Outcome::Pending);
            let sealed = bytes_of(one, parts.sealed, &[]);
            let (added, rest) = sealed.split_at(ADDED.into());
            prop_assert_eq!(&added[..2], &one.sensor.0.to_be_bytes());
            prop_assert_eq!(added[2], plain_one.port.0);
            let opened: Vec<u8> = rest.iter().map(|byte| !byte).collect();
            prop_assert_eq!(opened, bytes_of(plain_one, plain.heads, &block));
        }
        // The plan asserts that the sockets of the batch are right.
        let mut plan = Plan::default();
        plan.make(after.datagrams(), after.slots(), &table);
        let planned = plan.groups().map(|group: Group<'_>| group.datagrams.len());
        prop_assert_eq!(planned.sum::<usize>(), after.datagrams().len());
        let mut totals = Totals::default();
        after.count_outcomes(&mut totals);
        prop_assert!(totals.check());
        prop_assert_eq!(totals.frames_seen, frames.len() as u64);
    }
}

#[test]
fn without_a_tunnel_nothing_is_written_or_changed() {
    let table = table(&[Kind::Sniffer]);
    let frames = [Made {
        at: 100,
        datagrams: 1,
        sensor: 0,
        port: 3,
        in_place: true,
    }];
    let mut batch = batch(&frames, &table);
    let (datagrams, mut block) = (batch.datagrams().to_vec(), vec![1; BLOCK]);
    batch.seal(
        &mut block[..],
        &table,
        &mut Invert {
            sessions: vec![true],
        },
    );
    assert_eq!(batch.datagrams(), datagrams);
    assert!(batch.parts().sealed.is_empty());
    assert_eq!(block, vec![1; BLOCK], "the headers are not written yet");
}

#[test]
fn the_arena_keeps_its_memory_up_to_a_bound() {
    let table = table(&KINDS);
    let frame = Made {
        at: 100,
        datagrams: 3,
        sensor: 0,
        port: 0,
        in_place: false,
    };
    let mut totals = Totals::default();
    let mut one = batch(&vec![frame.clone(); 10], &table);
    let mut block = vec![1; BLOCK];
    let mut invert = Invert {
        sessions: vec![true; 4],
    };
    one.seal(&mut block[..], &table, &mut invert);
    one.count_outcomes(&mut totals);
    assert_eq!(one.sealed.len(), 10 * 3 * (28 + 100 + usize::from(ADDED)));
    let mut large = batch(&vec![frame; 3000], &table);
    large.seal(&mut block[..], &table, &mut invert);
    assert!(large.sealed.len() > SEALED_KEPT);
    large.count_outcomes(&mut totals);
    assert_eq!(large.sealed.len(), SEALED_KEPT);
}
