//! A view over an IPv6 header and a walk along its extension headers (RFC 8200).
//!
//! In: bytes that should start with an IPv6 header. Out: the upper-layer protocol and where it
//! starts, where a Fragment header belongs (RFC 8200 section 4.5), and whether there is a jumbo
//! payload option (RFC 2675), which BIG TCP frames have. The walk is bounded: a chain of more than
//! [`CHAIN_MAX`] headers, or one that leaves the packet, is malformed.

use core::net::Ipv6Addr;

/// Length of the fixed header.
pub const HEADER_LEN: usize = 40;
/// Offset of the payload length.
pub const AT_PAYLOAD_LEN: usize = 4;
/// Offset of the next header's number.
pub const AT_NEXT_HEADER: usize = 6;
/// Length of a Fragment header.
pub const FRAGMENT_HEADER_LEN: usize = 8;
/// Length of a hop-by-hop header that contains only a jumbo payload option.
pub const JUMBO_HEADER_LEN: usize = 8;
/// More extension headers than any real packet has.
pub const CHAIN_MAX: usize = 16;

/// Hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Routing header.
pub const ROUTING: u8 = 43;
/// Fragment header.
pub const FRAGMENT: u8 = 44;
/// Authentication header.
const AUTHENTICATION: u8 = 51;
/// Destination options.
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;

/// Type and length of the jumbo payload option (RFC 2675 section 2).
const JUMBO_OPTION: [u8; 2] = [0xc2, 4];

/// The fixed header.
#[derive(Debug, Clone, Copy)]
pub struct Ipv6<'a> {
    header: &'a [u8; HEADER_LEN],
}

/// The result of the walk. All offsets count from the start of the IPv6 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// The number of the last header: the upper-layer protocol, or a header of unknown length.
    pub protocol: u8,
    /// Where that protocol starts, after a Fragment header if there is one.
    pub transport: usize,
    /// The end of the unfragmentable part, where a Fragment header belongs.
    pub unfragmentable: usize,
    /// The offset of the "next header" field of the unfragmentable part's last header.
    pub unfragmentable_next: usize,
    /// Where the Fragment header starts, if there is one.
    pub fragment: Option<usize>,
    /// Whether the first extension header contains only a jumbo payload option.
    pub jumbo: bool,
    /// Whether there is an Authentication header: it makes every change of the packet visible.
    pub authenticated: bool,
}

impl<'a> Ipv6<'a> {
    /// Checks version and length.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER_LEN>()?;
        if header[0] >> 4 != 6 {
            return None;
        }
        Some(Self { header })
    }

    /// The payload's length, from the header; zero with a jumbo payload option.
    #[must_use]
    pub const fn payload_len(&self) -> u16 {
        u16::from_be_bytes([self.header[4], self.header[5]])
    }

    /// The number of the first header after this one.
    #[must_use]
    pub const fn next_header(&self) -> u8 {
        self.header[AT_NEXT_HEADER]
    }

    /// The source address.
    #[must_use]
    pub fn source(&self) -> Ipv6Addr {
        address(self.header, 8)
    }

    /// The destination address.
    #[must_use]
    pub fn destination(&self) -> Ipv6Addr {
        address(self.header, 24)
    }
}

fn address(header: &[u8; HEADER_LEN], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[at..at + 16]);
    Ipv6Addr::from(octets)
}

/// Walks along the extension headers of `packet`, which starts with an IPv6 header.
///
/// Stops after the first Fragment header with an offset other than zero, because no header follows
/// there. `None` if a header leaves the packet or the chain is too long.
#[must_use]
pub fn chain(packet: &[u8]) -> Option<Chain> {
    let ip = Ipv6::parse(packet)?;
    let mut chain = Chain {
        protocol: ip.next_header(),
        transport: HEADER_LEN,
        unfragmentable: HEADER_LEN,
        unfragmentable_next: AT_NEXT_HEADER,
        fragment: None,
        jumbo: false,
        authenticated: false,
    };
    // The offset of the number of the header at `chain.transport`.
    let mut named_at = AT_NEXT_HEADER;
    for _ in 0..=CHAIN_MAX {
        let (at, number) = (chain.transport, chain.protocol);
        if !is_extension(number) {
            return Some(chain);
        }
        let length = extension_len(packet, number, at)?;
        let end = at + length;
        match number {
            HOP_BY_HOP => {
                let option = packet.get(at + 2..at + 4)?;
                chain.jumbo =
                    at == HEADER_LEN && length == JUMBO_HEADER_LEN && option == JUMBO_OPTION;
            }
            FRAGMENT if chain.fragment.is_none() => {
                // The headers before it are repeated in each fragment, also in new ones.
                chain.fragment = Some(at);
                chain.unfragmentable = at;
                chain.unfragmentable_next = named_at;
            }
            AUTHENTICATION => chain.authenticated = true,
            _ => {}
        }
        if matches!(number, HOP_BY_HOP | ROUTING) && chain.fragment.is_none() {
            chain.unfragmentable = end;
            chain.unfragmentable_next = at;
        }
        named_at = at;
        chain.protocol = *packet.get(at)?;
        chain.transport = end;
        if number == FRAGMENT && fragment_offset(packet, at)? != 0 {
            return Some(chain);
        }
    }
    None
}

/// Whether this is the number of an extension header of known length.
const fn is_extension(number: u8) -> bool {
    matches!(
        number,
        HOP_BY_HOP
            | ROUTING
            | FRAGMENT
            | AUTHENTICATION
            | DESTINATION
            | MOBILITY
            | HOST_IDENTITY
            | SHIM6
    )
}

/// The length of the extension header at `at`; `None` if it leaves the packet.
fn extension_len(packet: &[u8], number: u8, at: usize) -> Option<usize> {
    let units = usize::from(*packet.get(at + 1)?);
    let length = match number {
        FRAGMENT => FRAGMENT_HEADER_LEN,
        // Unlike the others it counts in units of four bytes (RFC 4302 section 2.2).
        AUTHENTICATION => units * 4 + 8,
        _ => units * 8 + 8,
    };
    (at + length <= packet.len()).then_some(length)
}

/// The fragment offset in bytes, of a Fragment header at `at`.
fn fragment_offset(packet: &[u8], at: usize) -> Option<u16> {
    let field = packet.get(at + 2..at + 4)?;
    Some(u16::from_be_bytes([field[0], field[1]]) & 0xfff8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0_u8; HEADER_LEN];
        bytes[0] = 0x60;
        bytes[AT_NEXT_HEADER] = first;
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn a_packet_without_extension_headers_is_its_own_chain() {
        let chain = chain(&packet(6, &[])).unwrap();
        assert_eq!(
            (chain.protocol, chain.transport, chain.unfragmentable),
            (6, 40, 40)
        );
        assert_eq!(chain.unfragmentable_next, AT_NEXT_HEADER);
    }

    #[test]
    fn a_fragment_header_belongs_behind_the_routing_header() {
        let hop = [ROUTING, 0, 1, 4, 0, 0, 0, 0];
        let routing = [DESTINATION, 0, 0, 0, 0, 0, 0, 0];
        let destination = [17, 0, 1, 4, 0, 0, 0, 0];
        let chain = chain(&packet(HOP_BY_HOP, &[hop, routing, destination].concat())).unwrap();
        assert_eq!((chain.protocol, chain.transport), (17, 64));
        assert_eq!((chain.unfragmentable, chain.unfragmentable_next), (56, 48));
        assert!(!chain.jumbo);
    }

    #[test]
    fn the_middle_of_a_packet_is_not_read_as_headers() {
        let first = [17, 0, 0, 1, 0, 0, 0, 9];
        let found = chain(&packet(FRAGMENT, &first)).unwrap();
        assert_eq!(
            (found.fragment, found.protocol, found.transport),
            (Some(40), 17, 48)
        );
        let later = [HOP_BY_HOP, 0, 0, 8, 0, 0, 0, 9, 0xff, 0xff];
        let found = chain(&packet(FRAGMENT, &later)).unwrap();
        assert_eq!((found.protocol, found.transport), (HOP_BY_HOP, 48));
    }

    #[test]
    fn a_jumbo_option_is_recognised() {
        assert!(
            chain(&packet(HOP_BY_HOP, &[6, 0, 0xc2, 4, 0, 2, 0, 0]))
                .unwrap()
                .jumbo
        );
    }

    #[test]
    fn chains_that_leave_the_packet_or_never_end_are_malformed() {
        assert_eq!(chain(&packet(HOP_BY_HOP, &[6, 1, 0, 0, 0, 0, 0, 0])), None);
        assert_eq!(chain(&packet(FRAGMENT, &[6, 0, 0])), None);
        assert_eq!(
            chain(&packet(
                DESTINATION,
                &[DESTINATION, 0, 1, 4, 0, 0, 0, 0].repeat(40)
            )),
            None
        );
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic_or_an_offset_outside(bytes in proptest::collection::vec(any::<u8>(), 0..200), first in prop::sample::select(vec![0_u8, 43, 44, 51, 60, 6, 17, 135])) {
            let packet = packet(first, &bytes);
            if let Some(chain) = chain(&packet) {
                prop_assert!(chain.transport <= packet.len());
                prop_assert!(chain.unfragmentable <= chain.transport);
            }
        }

        #[test]
        fn etherparse_finds_the_same_transport_header(bytes in proptest::collection::vec(0_u8..8, 0..100), first in prop::sample::select(vec![0_u8, 43, 60, 6, 17])) {
            let packet = packet(first, &bytes);
            // etherparse accepts only the order that RFC 8200 recommends.
            let Ok((_, protocol, rest)) = etherparse::Ipv6Extensions::from_slice(etherparse::IpNumber(first), &packet[HEADER_LEN..]) else {
                return Ok(());
            };
            let Some(chain) = chain(&packet) else { return Ok(()) };
            if chain.fragment.is_none() && etherparse::IpNumber(chain.protocol) == protocol {
                prop_assert_eq!(chain.transport, packet.len() - rest.len());
            }
        }
    }
}
