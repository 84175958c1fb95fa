//! The packet that an ICMP message quotes.
//!
//! In: an ICMP message. Out: the kind of the message, and the quoted part of the packet, with offsets
//! counted from its start. Errors (RFC 792, RFC 4443) quote the packet that caused them. Redirects
//! (RFC 792, RFC 4861 section 4.5), which report a better route, do too.

use core::net::IpAddr;

use wire::ip::{self, Packet, Version};
use wire::ipv4::{HEADER_LEN_MIN, Ipv4};
use wire::ipv6::{self, Ipv6};

/// Type, code, checksum, and four bytes that depend on the type.
const HEADER_LEN: usize = 8;

const REDIRECT: u8 = 5;
const REDIRECT_V6: u8 = 137;
/// The header of an `ICMPv6` redirect, with its two addresses.
const REDIRECT_V6_LEN: usize = HEADER_LEN + 2 * 16;
/// The option of neighbour discovery that quotes a packet. Before the packet are the type, the length in
/// units of eight bytes, and six reserved bytes (RFC 4861 section 4.6.3).
const REDIRECTED_HEADER: u8 = 4;
const OPTION_UNIT: usize = 8;

/// The kind of a message that quotes a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// An error: the packet did not arrive.
    Error,
    /// A redirect: the packet was forwarded, but there is a better route.
    Redirect,
}

/// A packet within an ICMP message. Its end may be missing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quoted<'f> {
    pub(crate) message: Message,
    pub(crate) bytes: &'f [u8],
    pub(crate) packet: Packet,
}

/// The packet that an ICMP message quotes; `None` if it quotes none.
pub(crate) fn quoted(protocol: u8, icmp: &[u8]) -> Option<Quoted<'_>> {
    let (message, bytes) = match (protocol, *icmp.first()?) {
        (ip::ICMP, 3 | 4 | 11 | 12) | (ip::ICMPV6, ..128) => {
            (Message::Error, icmp.get(HEADER_LEN..)?)
        }
        (ip::ICMP, REDIRECT) => (Message::Redirect, icmp.get(HEADER_LEN..)?),
        (ip::ICMPV6, REDIRECT_V6) => (Message::Redirect, redirected(icmp)?),
        _ => return None,
    };
    let packet = if protocol == ip::ICMP {
        in_v4(bytes)?
    } else {
        in_v6(bytes)?
    };
    Some(Quoted {
        message,
        bytes,
        packet,
    })
}

/// The packet that an `ICMPv6` redirect quotes in one of its options.
fn redirected(icmp: &[u8]) -> Option<&[u8]> {
    let mut options = icmp.get(REDIRECT_V6_LEN..)?;
    loop {
        let (kind, units) = (*options.first()?, *options.get(1)?);
        if kind == REDIRECTED_HEADER {
            // The packet may be shorter than the option's length says.
            return options.get(OPTION_UNIT..);
        }
        if units == 0 {
            return None;
        }
        options = options.get(usize::from(units) * OPTION_UNIT..)?;
    }
}

fn in_v4(bytes: &[u8]) -> Option<Packet> {
    let ip = Ipv4::parse(bytes)?;
    Some(Packet {
        version: Version::V4,
        start: 0,
        transport: ip.header().len(),
        end: bytes.len(),
        protocol: ip.protocol(),
        is_fragment: ip.is_fragment(),
    })
}

fn in_v6(bytes: &[u8]) -> Option<Packet> {
    let chain = ipv6::chain(bytes)?;
    Some(Packet {
        version: Version::V6(chain),
        start: 0,
        transport: chain.transport,
        end: bytes.len(),
        protocol: chain.protocol,
        is_fragment: chain.fragment.is_some(),
    })
}

/// Source and destination of an IP packet. Only the version and these are read, so this also works for
/// malformed packets.
pub(crate) fn addresses(bytes: &[u8]) -> Option<(IpAddr, IpAddr)> {
    if let Some(ip) = Ipv6::parse(bytes) {
        return Some((ip.source().into(), ip.destination().into()));
    }
    let header = bytes.first_chunk::<HEADER_LEN_MIN>()?;
    let address = |at: usize| Some(IpAddr::from(*header.get(at..)?.first_chunk::<4>()?));
    (header[0] >> 4 == 4).then_some((address(12)?, address(16)?))
}
