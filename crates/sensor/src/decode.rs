//! Takes the inner frame out of a captured VXLAN datagram.
//!
//! In: a frame as the ring gave it, and the tunnel's UDP port. Out: nothing where the frame is no
//! datagram to that port; else the datagram, or what is wrong with it. The rules are those of the
//! kernel's `vxlan_rcv` and of RFC 7348 section 5: the flags byte is exactly `08`, and all reserved
//! bits are zero. No byte is read beyond the lengths that the headers state and the frame has.

use core::net::IpAddr;

use wire::Frame;
use wire::ethernet::HEADER_LEN;
use wire::ip::{self, Network, UDP, Version};
use wire::ipv4::{self, Ipv4};
use wire::ipv6::Ipv6;

/// The length of a UDP header.
const UDP_HEADER_LEN: usize = 8;

/// A datagram of the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Datagram<'a> {
    /// The address that it came from.
    pub(crate) sender: IpAddr,
    /// The VXLAN network identifier.
    pub(crate) vni: u32,
    /// The inner frame.
    pub(crate) inner: &'a [u8],
}

/// What is wrong with a datagram to the tunnel's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The first fragment of an outer packet. The other fragments have no port, so they are not seen.
    Fragment,
    /// Several datagrams in one, which a packet socket gets unsplit from a sender on the same machine.
    Unsplit,
    /// The UDP length is not that of the packet.
    Length,
    /// A VXLAN header that is too short, without the flag for the VNI, or with reserved bits set.
    Header,
    /// Less than an Ethernet header inside.
    Inner,
}

impl Fault {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 5] = [
        Self::Fragment,
        Self::Unsplit,
        Self::Length,
        Self::Header,
        Self::Inner,
    ];

    /// The name in a line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Fragment => "outer_fragments",
            Self::Unsplit => "unsplit",
            Self::Length => "bad_lengths",
            Self::Header => "bad_vxlan_headers",
            Self::Inner => "short_inner_frames",
        }
    }
}

/// Decodes one frame.
pub(crate) fn decode<'a>(frame: &Frame<'a>, port: u16) -> Option<Result<Datagram<'a>, Fault>> {
    let Network::Ip(packet) = ip::locate(frame) else {
        return None;
    };
    if packet.protocol != UDP {
        return None;
    }
    let bytes = frame.bytes.get(packet.start..packet.end)?;
    let udp = frame.bytes.get(packet.transport..packet.end)?;
    if packet.is_fragment && !is_first_fragment(bytes, packet.version) {
        return None;
    }
    if u16::from_be_bytes([*udp.get(2)?, *udp.get(3)?]) != port {
        return None;
    }
    let sender = match packet.version {
        Version::V4 => Ipv4::parse(bytes)?.source().into(),
        Version::V6(_) => Ipv6::parse(bytes)?.source().into(),
    };
    Some(if packet.is_fragment {
        Err(Fault::Fragment)
    } else if frame.offload.gso.is_some() {
        Err(Fault::Unsplit)
    } else {
        payload(udp).map(|(vni, inner)| Datagram { sender, vni, inner })
    })
}

/// Whether the fragment `packet` begins with the transport header.
fn is_first_fragment(packet: &[u8], version: Version) -> bool {
    match version {
        Version::V4 => {
            Ipv4::parse(packet).is_some_and(|ip| ip.fragment_field() & ipv4::OFFSET_MASK == 0)
        }
        // The offset is the upper 13 bits (RFC 8200 section 4.5).
        Version::V6(chain) => chain
            .fragment
            .and_then(|at| packet.get(at + 2..at + 4))
            .is_some_and(|field| field[0] == 0 && field[1] < 8),
    }
}

/// The VNI and the inner frame of a UDP datagram.
fn payload(udp: &[u8]) -> Result<(u32, &[u8]), Fault> {
    let length = match udp.get(4..6) {
        Some(&[a, b]) => usize::from(u16::from_be_bytes([a, b])),
        _ => return Err(Fault::Length),
    };
    if length != udp.len() {
        return Err(Fault::Length);
    }
    let payload = udp.get(UDP_HEADER_LEN..).ok_or(Fault::Length)?;
    let Some((&[0x08, 0, 0, 0, a, b, c, 0], inner)) = payload.split_first_chunk() else {
        return Err(Fault::Header);
    };
    if inner.len() < HEADER_LEN {
        return Err(Fault::Inner);
    }
    Ok((u32::from_be_bytes([0, a, b, c]), inner))
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use etherparse::{IpNumber, Ipv6FragmentHeader, PacketBuilder};
    use proptest::prelude::*;
    use wire::offload::{Gso, GsoKind};

    use super::*;
    use crate::test_frame::frame;

    const PORT: u16 = 4789;

    fn vxlan(vni: u32, inner: &[u8]) -> Vec<u8> {
        let [_, a, b, c] = vni.to_be_bytes();
        [&[8, 0, 0, 0, a, b, c, 0], inner].concat()
    }

    fn outer(sender: IpAddr, port: u16, payload: &[u8]) -> Vec<u8> {
        let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let ip = match sender {
            IpAddr::V4(sender) => link.ipv4(sender.octets(), [10, 0, 0, 2], 64),
            IpAddr::V6(sender) => link.ipv6(sender.octets(), [9; 16], 64),
        };
        let mut frame = Vec::new();
        ip.udp(61_000, port).write(&mut frame, payload).unwrap();
        frame
    }

    fn v4() -> Vec<u8> {
        let sender = Ipv4Addr::new(10, 0, 0, 1).into();
        outer(sender, PORT, &vxlan(5, &[7; 60]))
    }

    fn fault(bytes: &[u8]) -> Option<Fault> {
        decode(&frame(bytes), PORT)?.err()
    }

    proptest! {
        #[test]
        fn what_etherparse_wraps_comes_out(
            v6: bool,
            address: u128,
            vni in 0_u32..1 << 24,
            inner in proptest::collection::vec(any::<u8>(), 14..200),
            trailer in 0_usize..20,
        ) {
            let sender = if v6 {
                Ipv6Addr::from(address).into()
            } else {
                Ipv4Addr::from(u32::try_from(address >> 96).unwrap()).into()
            };
            let mut bytes = outer(sender, PORT, &vxlan(vni, &inner));
            bytes.extend(vec![0; trailer]);
            let inner = inner.as_slice();
            prop_assert_eq!(decode(&frame(&bytes), PORT), Some(Ok(Datagram { sender, vni, inner })));
            prop_assert_eq!(decode(&frame(&bytes), PORT + 1), None);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), gso: bool) {
            let mut frame = frame(&bytes);
            frame.offload.gso = gso.then_some(Gso { kind: GsoKind::UdpL4, size: 9 });
            let _ = decode(&frame, PORT);
        }

        #[test]
        fn no_damage_makes_it_panic(
            at in 0_usize..110,
            value: u8,
            end in 0_usize..111,
        ) {
            let mut bytes = v4();
            bytes[at] = value;
            bytes.truncate(end);
            let whole = frame(&bytes);
            if let Some(Ok(datagram)) = decode(&whole, PORT) {
                prop_assert!(datagram.inner.len() <= 60);
            }
        }
    }

    #[test]
    fn each_fault_is_named() {
        assert_eq!(fault(&v4()), None);
        for (at, value, expected) in [
            (42, 0x0c, Fault::Header),
            (42, 0x00, Fault::Header),
            (45, 1, Fault::Header),
            (49, 1, Fault::Header),
            (39, 0, Fault::Length),
            (20, 0x20, Fault::Fragment),
        ] {
            let mut bytes = v4();
            bytes[at] = value;
            assert_eq!(fault(&bytes), Some(expected), "byte {at}");
        }
        let sender = Ipv4Addr::LOCALHOST.into();
        assert_eq!(fault(&outer(sender, PORT, &[8, 0, 0])), Some(Fault::Header));
        assert_eq!(
            fault(&outer(sender, PORT, &vxlan(1, &[0; 13]))),
            Some(Fault::Inner)
        );
        let bytes = v4();
        let mut unsplit = frame(&bytes);
        unsplit.offload.gso = Some(Gso {
            kind: GsoKind::UdpL4,
            size: 9,
        });
        assert_eq!(decode(&unsplit, PORT), Some(Err(Fault::Unsplit)));
    }

    #[test]
    fn of_a_fragmented_packet_only_the_first_fragment_is_counted() {
        let mut later = v4();
        later[21] = 1;
        assert_eq!(decode(&frame(&later), PORT), None);
        for (offset, expected) in [(0, Some(Err(Fault::Fragment))), (8, None)] {
            let offset = (offset / 8_u16).try_into().unwrap();
            let header = Ipv6FragmentHeader::new(IpNumber::UDP, offset, true, 1).to_bytes();
            let mut bytes = outer(Ipv6Addr::LOCALHOST.into(), PORT, &vxlan(1, &[0; 60]));
            bytes.splice(54..54, header);
            bytes[20] = IpNumber::IPV6_FRAGMENTATION_HEADER.0;
            bytes[19] += 8;
            assert_eq!(decode(&frame(&bytes), PORT), expected);
        }
    }
}
