//! Datagrams of sensors with a tunnel, sealed by a reversible transformation.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroU16;
use std::time::Duration;

use common::{Block, Fixture, built};
use mirror::{DropReason, Outcome, PortIndex, Seal, Sensor, SensorIndex, SensorTable};
use socket2::SockRef;
use transmit::SocketConfig;
use wire::Mtu;

const ADDED: NonZeroU16 = NonZeroU16::new(60).unwrap();
const FRAMES: usize = 300;

/// Inverts all bits; has no session with sensors from this number on.
struct Invert {
    sessions: u16,
}

impl Seal for Invert {
    fn seal(
        &mut self,
        sensor: SensorIndex,
        _: PortIndex,
        head: &[u8],
        body: &[u8],
        out: &mut [u8],
    ) -> bool {
        let (added, rest) = out.split_at_mut(ADDED.get().into());
        added.fill(0xff);
        for (to, from) in rest.iter_mut().zip(head.iter().chain(body)) {
            *to = !from;
        }
        sensor.0 < self.sessions
    }
}

fn receiver() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    SockRef::from(&socket)
        .set_recv_buffer_size(1 << 20)
        .unwrap();
    let timeout = Some(Duration::from_secs(5));
    socket.set_read_timeout(timeout).unwrap();
    socket
}

fn fixture() -> Fixture {
    Fixture::new(SocketConfig {
        has_tunnel: true,
        ..SocketConfig::new(0)
    })
}

fn table(sensors: &[&UdpSocket]) -> SensorTable {
    let sensor = |socket: &&UdpSocket| {
        Sensor::new(socket.local_addr().unwrap(), Mtu::ETHERNET).with_tunnel(ADDED)
    };
    SensorTable::new(sensors.iter().map(sensor).collect())
}

/// Frames of several hosts, of one length.
fn block() -> Block {
    Block::of_udp(FRAMES, 7, 500)
}

fn is_waiting(socket: &UdpSocket) -> bool {
    socket.set_nonblocking(true).unwrap();
    socket.peek(&mut [0]).is_ok()
}

#[test]
fn sealed_datagrams_arrive_in_order_from_the_port_of_the_tunnel() {
    let (sensor, mut fixture, block) = (receiver(), fixture(), block());
    let table = table(&[&sensor]);
    let mut bytes = block.bytes.clone();
    fixture.push(&block, &table);
    fixture.batch.write_into(&mut bytes[..]);
    // So that there are outcomes.
    fixture.batch.parts();
    let plain = built(&fixture.batch, &bytes);
    fixture
        .batch
        .seal(&mut bytes[..], &table, &mut Invert { sessions: 1 });
    let sent = fixture
        .transmitter
        .send(&mut fixture.batch, &mut bytes[..], &table);
    assert_eq!(sent.trailer_bytes, 0);
    assert!(sent.messages < FRAMES as u64, "neighbours are one message");
    fixture.batch.count_outcomes(&mut fixture.totals);
    assert!(fixture.totals.check());
    assert_eq!(fixture.totals.datagrams_sent, FRAMES as u64);

    let mut buffer = [0; 2048];
    assert_eq!(plain.len(), FRAMES);
    for plain in &plain {
        let (length, from) = sensor.recv_from(&mut buffer).unwrap();
        assert_eq!(Some(from.port()), fixture.transmitter.tunnel_port());
        let (added, rest) = buffer[..length].split_at(ADDED.get().into());
        assert!(added.iter().all(|byte| *byte == 0xff));
        let opened: Vec<u8> = rest.iter().map(|byte| !byte).collect();
        assert_eq!(opened, plain.bytes);
    }
    assert!(!is_waiting(&sensor));
}

#[test]
fn without_a_session_or_without_the_pass_nothing_is_sent() {
    let [with, without] = [receiver(), receiver()];
    let (mut fixture, block) = (fixture(), block());
    let table = table(&[&with, &without]);
    let index = |socket: &UdpSocket| {
        let address: SocketAddr = socket.local_addr().unwrap();
        table
            .sensors()
            .iter()
            .position(|one| one.address() == address)
            .unwrap()
    };
    assert_eq!((index(&with), index(&without)), (0, 1));
    let mut bytes = block.bytes.clone();
    fixture.push(&block, &table);
    fixture
        .batch
        .seal(&mut bytes[..], &table, &mut Invert { sessions: 1 });
    fixture
        .transmitter
        .send(&mut fixture.batch, &mut bytes[..], &table);
    let mut sent = 0;
    for (datagram, outcome) in fixture
        .batch
        .datagrams()
        .iter()
        .zip(fixture.batch.outcomes())
    {
        let expected = match datagram.sensor {
            SensorIndex(0) => Outcome::Sent,
            _ => Outcome::Dropped(DropReason::NoSession),
        };
        assert_eq!(*outcome, expected);
        sent += u32::from(*outcome == Outcome::Sent);
    }
    assert!(sent > 0 && sent < u32::try_from(FRAMES).unwrap());
    assert!(is_waiting(&with) && !is_waiting(&without));
    fixture.batch.count_outcomes(&mut fixture.totals);
    assert!(fixture.totals.check());

    // A caller that leaves out the pass: no plain byte can be reached.
    let [sensor] = [receiver()];
    let table = self::table(&[&sensor]);
    fixture.push(&block, &table);
    fixture
        .transmitter
        .send(&mut fixture.batch, &mut bytes[..], &table);
    assert!(!is_waiting(&sensor));
    let refused = Outcome::Dropped(DropReason::SendError);
    assert!(
        fixture
            .batch
            .outcomes()
            .iter()
            .all(|outcome| *outcome == refused)
    );
}
