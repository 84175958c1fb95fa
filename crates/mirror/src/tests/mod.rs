//! Frames in, inner frames out. etherparse, which others wrote, checks them.

mod docs;
mod fragment;
mod hostile;
mod order;
mod own;
mod segment;
mod trailer;
mod whole;

use core::net::SocketAddr;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use wire::{
    ChecksumState, Direction, Frame, Gso, Link, Mtu, Offload, Timestamp, Unfinished, VlanTag, Vni,
    vxlan,
};

use crate::{Batch, Mirror, MirrorConfig, Sensor, SensorTable, SourcePorts, Spread, Totals};

/// The length of a `virtio_net_hdr`.
const HEADROOM: u32 = 10;
/// The offset of frames in the simulated block: not zero, so that a missing offset is noticed.
const AT: u32 = 1000;
pub(crate) const OWN_PORTS: [u16; 2] = [49_152, 49_153];
pub(crate) const TUNNEL_PORT: u16 = 49_160;
pub(crate) const SENSOR: [u8; 4] = [10, 0, 0, 99];

/// The fields of a frame to mirror.
#[derive(Clone)]
pub(crate) struct TestFrame {
    pub(crate) bytes: Vec<u8>,
    pub(crate) link: Link,
    pub(crate) vlan: Option<VlanTag>,
    pub(crate) offload: Offload,
    pub(crate) direction: Direction,
}

impl TestFrame {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            link: Link::Ethernet,
            vlan: None,
            offload: Offload::default(),
            direction: Direction::Outgoing,
        }
    }

    pub(crate) fn unfinished(mut self, start: usize, offset: usize) -> Self {
        let unfinished = Unfinished {
            start: u16::try_from(start).unwrap(),
            offset: u16::try_from(offset).unwrap(),
        };
        self.offload.checksum = ChecksumState::Unfinished(unfinished);
        self
    }

    pub(crate) fn gso(mut self, kind: wire::GsoKind, size: u16) -> Self {
        self.offload.gso = Some(Gso { kind, size });
        self
    }

    pub(crate) fn frame(&self) -> Frame<'_> {
        Frame {
            bytes: &self.bytes,
            at: AT,
            headroom: 0,
            wire_len: u32::try_from(self.bytes.len()).unwrap(),
            timestamp: Timestamp::default(),
            direction: self.direction,
            link: self.link,
            vlan: self.vlan,
            offload: self.offload,
        }
    }

    /// The inner frames that a sensor decodes if the path has this MTU, and the counts.
    pub(crate) fn mirror(&self, mtu: u32) -> (Vec<Vec<u8>>, Totals) {
        self.mirror_with(&config(), mtu)
    }

    /// The same with another configuration. A header in front of the frame must change nothing.
    pub(crate) fn mirror_with(&self, config: &MirrorConfig, mtu: u32) -> (Vec<Vec<u8>>, Totals) {
        let table = table(mtu);
        let [without, with] = [0, HEADROOM].map(|headroom| {
            let mut mirror = Mirror::new(config.clone());
            let (mut batch, mut totals) = (Batch::new(), Totals::default());
            let frame = Frame {
                headroom,
                ..self.frame()
            };
            mirror.push(&frame, &table, &mut batch, &mut totals);
            let inner = inner_frames(&mut batch, &self.bytes, mtu);
            batch.parts().outcomes.fill(crate::Outcome::Sent);
            batch.count_outcomes(&mut totals);
            assert!(totals.check(), "{totals:?}");
            assert_eq!(totals.frames_seen, 1);
            (inner, totals)
        });
        assert_eq!(without, with);
        with
    }

    /// The inner frames of a frame that must not be dropped.
    pub(crate) fn mirrored(&self, mtu: u32) -> Vec<Vec<u8>> {
        let (inner, totals) = self.mirror(mtu);
        assert_eq!(totals.frames_mirrored, 1, "{totals:?}");
        inner
    }

    /// The reason for a frame that must be dropped.
    pub(crate) fn dropped(&self, mtu: u32) -> crate::DropReason {
        let (inner, totals) = self.mirror(mtu);
        assert!(inner.is_empty());
        crate::DropReason::ALL
            .into_iter()
            .find(|r| totals.frames_dropped.of(*r) == 1)
            .unwrap()
    }
}

/// A mirror with podspan's defaults, and with the VNI and ports of the tests.
pub(crate) fn mirror() -> Mirror {
    Mirror::new(config())
}

pub(crate) fn config() -> MirrorConfig {
    MirrorConfig {
        vni: Vni::MAX,
        spread: Spread::Hosts,
        source_ports: SourcePorts::ONE,
        own_ports: OWN_PORTS.to_vec(),
        tunnel_port: Some(TUNNEL_PORT),
        first_identification: 1,
    }
}

pub(crate) fn table(mtu: u32) -> SensorTable {
    let address = SocketAddr::from((SENSOR, vxlan::PORT));
    SensorTable::new(vec![Sensor::new(address, Mtu::new(mtu).unwrap())])
}

/// The inner frames of the datagrams; each datagram is checked against the MTU.
fn inner_frames(batch: &mut Batch, bytes: &[u8], mtu: u32) -> Vec<Vec<u8>> {
    let mut block = vec![0; AT as usize];
    block.extend_from_slice(bytes);
    batch.write_into(&mut block[..]);
    let part = |bytes: &[u8], range: core::ops::Range<u32>| {
        bytes[range.start as usize..range.end as usize].to_vec()
    };
    let mut frames = Vec::new();
    for datagram in batch.datagrams() {
        let mut datagram_bytes = part(batch.heads(), datagram.head.clone());
        datagram_bytes.extend(part(&block, datagram.body.clone()));
        assert!(
            datagram_bytes.len() + 28 <= mtu as usize,
            "the outer packet fits"
        );
        let inner = datagram_bytes.split_off(8);
        assert_eq!(datagram_bytes, vxlan::header(Vni::MAX));
        frames.push(inner);
    }
    frames
}

/// Whether IP and transport checksums of a frame are correct, according to etherparse.
pub(crate) fn checksums_are_right(frame: &[u8]) -> bool {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let network_is_right = match packet.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            header.header_checksum() == header.to_header().calc_header_checksum()
        }
        _ => true,
    };
    network_is_right && transport_checksum(frame).is_none_or(|(found, right)| found == right)
}

/// The transport checksum of a frame, and the correct one.
pub(crate) fn transport_checksum(frame: &[u8]) -> Option<(u16, u16)> {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    match (packet.net?, packet.transport?) {
        (NetSlice::Ipv4(ip), TransportSlice::Tcp(tcp)) => {
            let (s, d) = (ip.header().source(), ip.header().destination());
            Some((tcp.checksum(), tcp.calc_checksum_ipv4(s, d).unwrap()))
        }
        (NetSlice::Ipv6(ip), TransportSlice::Tcp(tcp)) => {
            let (s, d) = (ip.header().source(), ip.header().destination());
            Some((tcp.checksum(), tcp.calc_checksum_ipv6(s, d).unwrap()))
        }
        (NetSlice::Ipv4(ip), TransportSlice::Udp(udp)) => {
            let header = udp.to_header();
            let ip = ip.header().to_header();
            Some((
                udp.checksum(),
                header.calc_checksum_ipv4(&ip, udp.payload()).unwrap(),
            ))
        }
        (NetSlice::Ipv6(ip), TransportSlice::Udp(udp)) => {
            let header = udp.to_header();
            let ip = ip.header().to_header();
            Some((
                udp.checksum(),
                header.calc_checksum_ipv6(&ip, udp.payload()).unwrap(),
            ))
        }
        _ => None,
    }
}
