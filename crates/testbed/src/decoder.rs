//! Decodes VXLAN datagrams as a strict sensor does.
//!
//! In: the outer Ethernet frames that a sniffer captures on the sensor's interface. Out: the inner
//! frames. The decoder requires what RFC 7348 and the strictest receivers (Suricata, Arkime, the
//! kernel) require: no
//! outer fragment, don't-fragment set over IPv4, lengths that agree with each other and with the
//! underlay's MTU, a VXLAN header of exactly `08 00 00 00 | VNI | 00`, no outer UDP checksum over
//! IPv4 and a correct one over IPv6. Only datagrams without a fault give an inner frame; the others
//! are counted by their first fault.

use std::collections::BTreeMap;
use std::net::IpAddr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice, ip_number};

use crate::frame::{Direction, FrameRef, Sink};
use crate::verify::udp_checksum_is_right;

const ETHERNET_HEADER: usize = 14;
const VXLAN_HEADER: usize = 8;

/// A fault of an outer datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Anomaly {
    /// The outer packet is a fragment.
    OuterFragment,
    /// Over IPv4, the outer packet may be fragmented on its way.
    FragmentationAllowed,
    /// The outer packet is larger than the underlay's MTU: a GSO datagram that was never split.
    Oversize,
    /// The frame, IP and UDP lengths contradict each other.
    Length,
    /// The outer IPv4 header's checksum is wrong.
    IpChecksum,
    /// The outer UDP checksum is not zero over IPv4, or missing or wrong over IPv6.
    UdpChecksum,
    /// The VXLAN header is truncated, or has reserved bits set, or no VNI.
    VxlanHeader,
    /// It has another VNI.
    ForeignVni,
    /// The inner frame is too short for Ethernet.
    InnerTooShort,
}

/// One datagram without a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Address that it came from.
    pub source: IpAddr,
    /// Address that it went to.
    pub destination: IpAddr,
    /// UDP port that it came from: the flow's.
    pub source_port: u16,
    /// VXLAN network identifier.
    pub vni: u32,
    /// The inner frame from its Ethernet header on.
    pub inner: &'a [u8],
}

/// Decodes the datagrams of one tunnel and counts the faulty ones.
#[derive(Debug, Clone)]
pub struct Decoder {
    vni: u32,
    port: u16,
    mtu: usize,
    decoded: u64,
    anomalies: BTreeMap<Anomaly, u64>,
}

impl Decoder {
    /// A decoder for the tunnel `vni` at UDP port `port`, over an underlay of `mtu` bytes.
    #[must_use]
    pub fn new(vni: u32, port: u16, mtu: usize) -> Self {
        Self {
            vni,
            port,
            mtu,
            decoded: 0,
            anomalies: BTreeMap::new(),
        }
    }

    /// How many datagrams without a fault there were.
    #[must_use]
    pub fn decoded(&self) -> u64 {
        self.decoded
    }

    /// How many datagrams had which fault.
    #[must_use]
    pub fn anomalies(&self) -> &BTreeMap<Anomaly, u64> {
        &self.anomalies
    }

    /// Decodes one outer frame. `None` for a frame that is no tunnel datagram for this host (ARP, ND,
    /// other ports, outgoing or flooded frames), and for a faulty datagram, which is counted.
    pub fn decode<'a>(&mut self, frame: FrameRef<'a>) -> Option<Datagram<'a>> {
        if matches!(frame.direction, Direction::Outgoing | Direction::OtherHost) {
            return None;
        }
        match self.examine(frame) {
            Ok(datagram) => {
                self.decoded += u64::from(datagram.is_some());
                datagram
            }
            Err(anomaly) => {
                *self.anomalies.entry(anomaly).or_default() += 1;
                None
            }
        }
    }

    fn examine<'a>(&self, frame: FrameRef<'a>) -> Result<Option<Datagram<'a>>, Anomaly> {
        let Ok(packet) = SlicedPacket::from_ethernet(frame.bytes) else {
            return if may_be_udp(frame.bytes) {
                Err(Anomaly::Length)
            } else {
                Ok(None)
            };
        };
        let Some(net) = &packet.net else {
            return Ok(None);
        };
        check_fragment(net)?;
        let Some(TransportSlice::Udp(udp)) = &packet.transport else {
            return Ok(None);
        };
        if udp.destination_port() != self.port {
            return Ok(None);
        }
        let (source, destination, ip_length) = check_ip(net)?;
        if ip_length > self.mtu {
            return Err(Anomaly::Oversize);
        }
        if frame.bytes.len() != ETHERNET_HEADER + ip_length || udp.slice().len() != payload_len(net)
        {
            return Err(Anomaly::Length);
        }
        let checksum_right = match destination {
            IpAddr::V4(_) => udp.checksum() == 0,
            IpAddr::V6(_) => {
                udp.checksum() != 0
                    && (!frame.checksum_complete
                        || udp_checksum_is_right(source, destination, udp.slice()))
            }
        };
        if !checksum_right {
            return Err(Anomaly::UdpChecksum);
        }
        let vni = vxlan_vni(udp.payload()).ok_or(Anomaly::VxlanHeader)?;
        if vni != self.vni {
            return Err(Anomaly::ForeignVni);
        }
        let inner = udp.payload().get(VXLAN_HEADER..).unwrap_or_default();
        if inner.len() < ETHERNET_HEADER {
            return Err(Anomaly::InnerTooShort);
        }
        let source_port = udp.source_port();
        Ok(Some(Datagram {
            source,
            destination,
            source_port,
            vni,
            inner,
        }))
    }
}

/// A [`Sink`] for outer frames that passes the inner frames to another sink.
#[derive(Debug, Clone)]
pub struct Decoded<S> {
    /// Decodes and counts.
    pub decoder: Decoder,
    /// Receives the inner frames, with the time and direction of the outer ones.
    pub sink: S,
}

impl<S: Sink> Sink for Decoded<S> {
    fn receive(&mut self, frame: FrameRef<'_>) {
        if let Some(datagram) = self.decoder.decode(frame) {
            self.sink.receive(FrameRef {
                checksum_complete: true,
                wire_len: datagram.inner.len(),
                bytes: datagram.inner,
                ..frame
            });
        }
    }
}

/// The VNI of a VXLAN header that has the I flag and nothing else set.
fn vxlan_vni(payload: &[u8]) -> Option<u32> {
    match *payload.first_chunk::<VXLAN_HEADER>()? {
        [0x08, 0, 0, 0, a, b, c, 0] => Some(u32::from_be_bytes([0, a, b, c])),
        _ => None,
    }
}

/// A damaged frame counts only where it may have been one of the tunnel's.
fn may_be_udp(frame: &[u8]) -> bool {
    let protocol = match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.get(23),
        Some([0x86, 0xdd]) => frame.get(20),
        _ => None,
    };
    protocol == Some(&ip_number::UDP.0)
}

fn check_fragment(net: &NetSlice<'_>) -> Result<(), Anomaly> {
    let (fragment, protocol) = match net {
        NetSlice::Ipv4(ip) => (ip.is_payload_fragmented(), ip.payload().ip_number),
        NetSlice::Ipv6(ip) => (ip.is_payload_fragmented(), ip.payload().ip_number),
        NetSlice::Arp(_) => return Ok(()),
    };
    if fragment && protocol == ip_number::UDP {
        Err(Anomaly::OuterFragment)
    } else {
        Ok(())
    }
}

/// Addresses and total length of the outer IP packet.
fn check_ip(net: &NetSlice<'_>) -> Result<(IpAddr, IpAddr, usize), Anomaly> {
    match net {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            if !header.dont_fragment() {
                return Err(Anomaly::FragmentationAllowed);
            }
            if header.to_header().calc_header_checksum() != header.header_checksum() {
                return Err(Anomaly::IpChecksum);
            }
            let addresses = (
                header.source_addr().into(),
                header.destination_addr().into(),
            );
            Ok((addresses.0, addresses.1, usize::from(header.total_len())))
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            let addresses = (
                header.source_addr().into(),
                header.destination_addr().into(),
            );
            Ok((
                addresses.0,
                addresses.1,
                40 + usize::from(header.payload_length()),
            ))
        }
        NetSlice::Arp(_) => Err(Anomaly::Length),
    }
}

fn payload_len(net: &NetSlice<'_>) -> usize {
    match net {
        NetSlice::Ipv4(ip) => ip.payload().payload.len(),
        NetSlice::Ipv6(ip) => ip.payload().payload.len(),
        NetSlice::Arp(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    const VNI: u32 = 0x00ab_cdef;

    /// A datagram as podspan must send it, with an inner frame of 60 bytes.
    fn datagram() -> Vec<u8> {
        let mut payload = vec![8, 0, 0, 0, 0xab, 0xcd, 0xef, 0];
        payload.extend([0x55; 60]);
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(50_000, 4789);
        let mut frame = Vec::new();
        builder.write(&mut frame, &payload).unwrap();
        frame[20] = 0x40;
        frame[40..42].fill(0);
        mend_ip(&mut frame);
        frame
    }

    fn mend_ip(frame: &mut [u8]) {
        frame[24..26].fill(0);
        let sum = etherparse::checksum::Sum16BitWords::new().add_slice(&frame[14..34]);
        // The sum is of bytes in memory order.
        frame[24..26].copy_from_slice(&sum.ones_complement().to_ne_bytes());
    }

    fn decode(frame: &[u8], mtu: usize) -> (Option<usize>, Vec<Anomaly>) {
        let mut decoder = Decoder::new(VNI, 4789, mtu);
        let frame = FrameRef {
            time: std::time::Duration::ZERO,
            direction: Direction::Host,
            checksum_complete: true,
            wire_len: frame.len(),
            bytes: frame,
        };
        let inner = decoder.decode(frame).map(|datagram| datagram.inner.len());
        (inner, decoder.anomalies().keys().copied().collect())
    }

    #[test]
    fn a_valid_datagram_gives_its_inner_frame() {
        assert_eq!(decode(&datagram(), 1500), (Some(60), vec![]));
    }

    #[test]
    fn each_fault_is_found() {
        type Damage = fn(&mut Vec<u8>);
        let cases: [(Damage, Anomaly); 9] = [
            (|frame| frame[20] = 0x20, Anomaly::OuterFragment),
            (|frame| frame[20] = 0x00, Anomaly::FragmentationAllowed),
            (|frame| frame[40] = 1, Anomaly::UdpChecksum),
            (|frame| frame[42] = 0x0c, Anomaly::VxlanHeader),
            (|frame| frame[49] = 1, Anomaly::VxlanHeader),
            (|frame| frame[46] = 0xaa, Anomaly::ForeignVni),
            (|frame| frame.push(0), Anomaly::Length),
            (|frame| frame.truncate(100), Anomaly::Length),
            (|frame| frame.resize(14 + 1501, 0), Anomaly::Oversize),
        ];
        for (damage, anomaly) in cases {
            let mut frame = datagram();
            damage(&mut frame);
            if anomaly == Anomaly::Oversize {
                frame[16..18].copy_from_slice(&1501_u16.to_be_bytes());
                frame[38..40].copy_from_slice(&1481_u16.to_be_bytes());
            }
            mend_ip(&mut frame);
            assert_eq!(decode(&frame, 1500), (None, vec![anomaly]));
        }
        let mut frame = datagram();
        frame[24] ^= 1;
        assert_eq!(decode(&frame, 1500), (None, vec![Anomaly::IpChecksum]));
    }

    #[test]
    fn other_traffic_is_no_anomaly() {
        let mut frame = datagram();
        frame[36..38].copy_from_slice(&53_u16.to_be_bytes());
        assert_eq!(decode(&frame, 1500), (None, vec![]));
        assert_eq!(decode(&[0xff; 60], 1500), (None, vec![]));
    }
}
