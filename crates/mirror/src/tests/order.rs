//! Each sensor gets any traffic in the order of the wire.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};

use etherparse::{IpNumber, PacketBuilder};
use proptest::prelude::*;
use wire::{GsoKind, vxlan};

use super::{TestFrame, config};
use crate::plan::Plan;
use crate::{Batch, Mirror, MirrorConfig, Sensor, SensorIndex, SensorTable, SourcePorts, Spread};
use crate::{PortIndex, Totals};

/// A frame between two of a few hosts.
#[derive(Debug, Clone)]
struct Sent {
    from: u8,
    to: u8,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Tcp(u8),
    Udp(u8),
    /// A later fragment, of this identification.
    Fragment(u16),
    /// An ICMP error to `to` about what it sent to `from` by UDP.
    Error(u8),
    Ping,
    /// Neither TCP nor IP.
    Other,
    /// UDP that does not fit and becomes fragments.
    Long(u8),
    /// A frame that represents several.
    Segmented(u8),
    /// Malformed after its addresses.
    Malformed,
}

impl Sent {
    fn test_frame(&self) -> TestFrame {
        let ip = || {
            PacketBuilder::ethernet2([2, 0, 0, 0, 0, self.from], [2, 0, 0, 0, 0, self.to]).ipv4(
                [10, 0, 0, self.from],
                [10, 0, 0, self.to],
                64,
            )
        };
        let mut bytes = Vec::new();
        match self.kind {
            Kind::Tcp(port) => ip().tcp(port.into(), 80, 1, 1).write(&mut bytes, &[7; 20]),
            Kind::Udp(port) => ip().udp(port.into(), 53).write(&mut bytes, &[7; 20]),
            Kind::Long(port) => ip().udp(port.into(), 53).write(&mut bytes, &[7; 1460]),
            Kind::Segmented(port) => {
                ip().udp(port.into(), 53)
                    .write(&mut bytes, &[7; 3000])
                    .unwrap();
                return TestFrame::new(bytes).gso(GsoKind::UdpL4, 1000);
            }
            Kind::Ping => ip().icmpv4_echo_request(1, 1).write(&mut bytes, &[7; 20]),
            Kind::Error(port) => {
                let mut quoted = Vec::new();
                PacketBuilder::ipv4([10, 0, 0, self.to], [10, 0, 0, self.from], 64)
                    .udp(port.into(), 53)
                    .write(&mut quoted, &[7; 20])
                    .unwrap();
                // A router with another address sends the error.
                PacketBuilder::ethernet2([2; 6], [2, 0, 0, 0, 0, self.to])
                    .ipv4([10, 9, 9, 9], [10, 0, 0, self.to], 64)
                    .icmpv4_raw(3, 1, [0; 4])
                    .write(&mut bytes, &quoted[..28])
            }
            Kind::Fragment(_) | Kind::Malformed | Kind::Other => {
                ip().write(&mut bytes, IpNumber(17), &[7; 40])
            }
        }
        .unwrap();
        match self.kind {
            Kind::Fragment(id) => {
                bytes[18..20].copy_from_slice(&id.to_be_bytes());
                bytes[20..22].copy_from_slice(&[0, 9]);
            }
            Kind::Malformed => bytes[14] = 0x4f,
            Kind::Other => bytes[12..14].copy_from_slice(&[0x08, 0x06]),
            _ => {}
        }
        TestFrame::new(bytes)
    }

    /// The two hosts that the frame belongs to.
    fn hosts(&self) -> (bool, u8, u8) {
        let is_ip = !matches!(self.kind, Kind::Other);
        (is_ip, self.from.min(self.to), self.from.max(self.to))
    }
}

fn any_sent() -> impl Strategy<Value = Sent> {
    let port = 1_u8..5;
    let kind = prop_oneof![
        port.clone().prop_map(Kind::Tcp),
        port.clone().prop_map(Kind::Udp),
        (0_u16..5).prop_map(Kind::Fragment),
        port.clone().prop_map(Kind::Error),
        Just(Kind::Ping),
        Just(Kind::Other),
        port.clone().prop_map(Kind::Long),
        port.prop_map(Kind::Segmented),
        Just(Kind::Malformed),
    ];
    (1_u8..12, 1_u8..12, kind).prop_map(|(from, to, kind)| Sent { from, to, kind })
}

/// For each datagram of a batch in the order of sending: its frame, its sensor and its port.
fn send_order(
    sent: &[Sent],
    sensors: u8,
    config: MirrorConfig,
) -> Vec<(usize, SensorIndex, PortIndex)> {
    let sensor = |number: u8| {
        let address = SocketAddr::from(([10, 1, 0, number], vxlan::PORT));
        // Both kinds of sensors in one table.
        Sensor::new(address, wire::Mtu::ETHERNET).with_socket(!number.is_multiple_of(3))
    };
    let table = SensorTable::new((0..sensors).map(sensor).collect());
    let mut mirror = Mirror::new(config);
    let (mut batch, mut totals) = (Batch::new(), Totals::default());
    let mut frame_of = Vec::new();
    for (number, sent) in sent.iter().enumerate() {
        mirror.push(&sent.test_frame().frame(), &table, &mut batch, &mut totals);
        frame_of.resize(batch.datagrams().len(), number);
    }
    let mut plan = Plan::default();
    plan.make(batch.datagrams(), batch.slots(), &table);
    let mut order = Vec::new();
    for group in plan.groups() {
        let port = group.port;
        for datagram in group.datagrams {
            let number = *datagram as usize;
            let planned = &batch.datagrams()[number];
            assert_eq!(planned.port, port);
            order.push((number, frame_of[number], planned.sensor, port));
        }
    }
    let mut numbers: Vec<usize> = order.iter().map(|(number, ..)| *number).collect();
    numbers.sort_unstable();
    assert!(
        numbers.into_iter().eq(0..batch.datagrams().len()),
        "each is sent once"
    );
    order
        .into_iter()
        .map(|(_, frame, sensor, port)| (frame, sensor, port))
        .collect()
}

proptest! {
    #[test]
    fn each_sensor_gets_its_datagrams_in_the_order_of_the_wire(
        sent in proptest::collection::vec(any_sent(), 0..150),
        sensors in 1_u8..6,
        flows: bool,
    ) {
        let spread = if flows { Spread::Flows } else { Spread::Hosts };
        let mut last: BTreeMap<SensorIndex, usize> = BTreeMap::new();
        for (frame, sensor, _) in send_order(&sent, sensors, MirrorConfig { spread, ..config() }) {
            let before = last.insert(sensor, frame).unwrap_or_default();
            prop_assert!(before <= frame, "frame {frame} is sent after {before}");
        }
    }

    #[test]
    fn two_hosts_keep_their_order_with_any_number_of_ports(
        sent in proptest::collection::vec(any_sent(), 0..150),
        sensors in 1_u8..6,
        ports in prop::sample::select(vec![1_u8, 2, 4, 8, 16]),
        flows: bool,
    ) {
        let source_ports = SourcePorts::new(ports).unwrap();
        let spread = if flows { Spread::Flows } else { Spread::Hosts };
        let config = MirrorConfig { spread, source_ports, ..config() };
        let mut last = BTreeMap::new();
        let mut ports_of: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (frame, sensor, port) in send_order(&sent, sensors, config) {
            let hosts = sent[frame].hosts();
            prop_assert!(port.0 < ports);
            // With `Spread::Flows`, another conversation of the two may go to another sensor.
            let before = last.insert((hosts, sensor), frame).unwrap_or_default();
            prop_assert!(before <= frame, "{hosts:?}: frame {frame} is sent after {before}");
            ports_of.entry(hosts).or_default().insert(port);
        }
        for (hosts, ports) in ports_of {
            prop_assert_eq!(ports.len(), 1, "{:?}", hosts);
        }
    }

    #[test]
    fn all_traffic_of_two_hosts_goes_to_one_sensor(sent in proptest::collection::vec(any_sent(), 0..150), sensors in 1_u8..6) {
        let mut sensor_of = BTreeMap::new();
        for (frame, sensor, _) in send_order(&sent, sensors, config()) {
            let hosts = sent[frame].hosts();
            let before = *sensor_of.entry(hosts).or_insert(sensor);
            prop_assert_eq!(before, sensor, "{:?}", hosts);
        }
    }
}
