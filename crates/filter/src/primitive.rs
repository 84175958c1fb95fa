//! A value with its qualifiers as a primitive: `src net` and `10.0.0.0/8`.
//!
//! Everything that is wrong with a value is found here, so that later steps cannot fail because of it.

use crate::ast::{Address, Direction, Primitive, Protocol, Transport};
use crate::error::{Error, Problem};
use crate::lexer::{Token, Word, number};
use crate::names::{ETHERTYPES, PORTS, PROTOCOLS, PortOf};

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Host,
    Net,
    Port,
    PortRange,
    Proto,
    ProtoChain,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Net => "net",
            Self::Port => "port",
            Self::PortRange => "portrange",
            Self::Proto => "proto",
            Self::ProtoChain => "protochain",
        }
    }
}

/// The words before a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Qualifiers {
    pub(crate) protocol: Option<Protocol>,
    pub(crate) direction: Direction,
    pub(crate) kind: Kind,
}

/// The smallest EtherType; smaller numbers are lengths.
const MIN_ETHERTYPE: u32 = 0x600;

/// The primitive for a value. `rest` is the word after `/` or `mask`.
pub(crate) fn of(
    qualifiers: Qualifiers,
    token: &Token<'_>,
    rest: Option<&Token<'_>>,
) -> Result<Primitive, Error> {
    match qualifiers.kind {
        Kind::Host | Kind::Net => {
            let address = address(qualifiers, token, rest)?;
            let Qualifiers {
                protocol,
                direction,
                ..
            } = qualifiers;
            Ok(Primitive::Address {
                protocol,
                direction,
                address,
            })
        }
        _ if rest.is_some() => Err(wrong(token, Problem::WrongValue(qualifiers.kind.word()))),
        Kind::Port | Kind::PortRange => port(qualifiers, token),
        Kind::Proto => proto(qualifiers.protocol, token),
        Kind::ProtoChain => chain(qualifiers.protocol, token),
    }
}

fn wrong(token: &Token<'_>, problem: Problem) -> Error {
    Error::new(token.offset, token.text, problem)
}

fn combination(token: &Token<'_>, qualifiers: Qualifiers) -> Error {
    let qualifier = qualifiers.protocol.map_or("ether", Protocol::word);
    wrong(
        token,
        Problem::Combination {
            qualifier,
            with: qualifiers.kind.word(),
        },
    )
}

fn address(
    qualifiers: Qualifiers,
    token: &Token<'_>,
    rest: Option<&Token<'_>>,
) -> Result<Address, Error> {
    let is_net = qualifiers.kind == Kind::Net;
    let protocol = qualifiers.protocol;
    let address = match token.word {
        Word::Mac(mac) if protocol == Some(Protocol::Ether) && !is_net => {
            return Ok(Address::Mac(mac));
        }
        Word::Mac(_) => return Err(combination(token, qualifiers)),
        Word::V4(text) => v4(text, token, rest)?,
        Word::V6(address) => v6(address, token, rest)?,
        Word::Number(address) if is_net => short_net(address),
        Word::Number(address) => Address::V4 {
            address,
            mask: u32::MAX,
        },
        Word::Name(_) | Word::Escaped(_) if is_net => return Err(wrong(token, Problem::NetName)),
        Word::Name(_) | Word::Escaped(_) => return Err(wrong(token, Problem::HostName)),
        Word::Symbol(_) => return Err(wrong(token, Problem::WrongValue(qualifiers.kind.word()))),
    };
    if rest.is_some() && !is_net {
        let problem = Problem::Combination {
            qualifier: "a mask",
            with: "host",
        };
        return Err(wrong(token, problem));
    }
    match (address, protocol) {
        (_, None)
        | (Address::V4 { .. }, Some(Protocol::Ip | Protocol::Arp | Protocol::Rarp))
        | (Address::V6 { .. }, Some(Protocol::Ip6)) => Ok(address),
        _ => Err(combination(token, qualifiers)),
    }
}

/// A net that is one number: its first byte is the first byte of the address.
fn short_net(number: u32) -> Address {
    let shift = match number {
        0 => 0,
        number => number.leading_zeros() / 8 * 8,
    };
    Address::V4 {
        address: number << shift,
        mask: u32::MAX << shift,
    }
}

fn v4(text: &str, token: &Token<'_>, rest: Option<&Token<'_>>) -> Result<Address, Error> {
    let (address, own_mask) = dotted(text).ok_or_else(|| wrong(token, Problem::BadAddress))?;
    let mask = match rest {
        None => own_mask,
        Some(rest) => match rest.word {
            Word::Number(length @ 0..=32) => u32::MAX.checked_shl(32 - length).unwrap_or(0),
            Word::Number(_) => return Err(wrong(rest, Problem::PrefixTooLong(32))),
            Word::V4(mask) => {
                dotted(mask)
                    .ok_or_else(|| wrong(rest, Problem::BadAddress))?
                    .0
            }
            _ => return Err(wrong(rest, Problem::WrongValue("mask"))),
        },
    };
    if address & !mask != 0 {
        return Err(wrong(token, Problem::HostBits));
    }
    Ok(Address::V4 { address, mask })
}

/// Two to four bytes with dots, from the left, and the mask of these bytes.
fn dotted(text: &str) -> Option<(u32, u32)> {
    let mut bytes = [0; 4];
    let mut mask = 0;
    for (at, part) in text.split('.').enumerate() {
        *bytes.get_mut(at)? = part.parse().ok()?;
        mask = (mask >> 8) | 0xff00_0000;
    }
    Some((u32::from_be_bytes(bytes), mask))
}

fn v6(
    address: std::net::Ipv6Addr,
    token: &Token<'_>,
    rest: Option<&Token<'_>>,
) -> Result<Address, Error> {
    let prefix = match rest.map(|rest| (rest, rest.word)) {
        None => 128,
        Some((_, Word::Number(length @ 0..=128))) => length,
        Some((rest, Word::Number(_))) => return Err(wrong(rest, Problem::PrefixTooLong(128))),
        Some((rest, _)) => return Err(wrong(rest, Problem::MaskOfIpv6)),
    };
    let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
    if u128::from(address) & !mask != 0 {
        return Err(wrong(token, Problem::HostBits));
    }
    Ok(Address::V6 { address, prefix })
}

fn port(qualifiers: Qualifiers, token: &Token<'_>) -> Result<Primitive, Error> {
    let asked = match qualifiers.protocol {
        None => Transport::Any,
        Some(protocol @ (Protocol::Tcp | Protocol::Udp | Protocol::Sctp)) => {
            protocol.number().map_or(Transport::Any, Transport::One)
        }
        Some(_) => return Err(combination(token, qualifiers)),
    };
    let is_range = qualifiers.kind == Kind::PortRange;
    let ((low, of_low), (high, of_high)) = match token.word {
        Word::Number(port) => (numbered(port, token)?, numbered(port, token)?),
        Word::Name(name) | Word::Escaped(name) if is_range => {
            let (low, high) = name
                .split_once('-')
                .ok_or_else(|| wrong(token, Problem::WrongValue("portrange")))?;
            (
                named_or_numbered(low, token)?,
                named_or_numbered(high, token)?,
            )
        }
        Word::Name(name) | Word::Escaped(name) => (named(name, token)?, named(name, token)?),
        _ => return Err(wrong(token, Problem::WrongValue(qualifiers.kind.word()))),
    };
    let named_for = if of_low == of_high {
        of_low
    } else {
        PortOf::Both
    };
    let transport = match (asked, named_for) {
        (asked, PortOf::Both) => asked,
        (Transport::Any | Transport::One(6), PortOf::Tcp) => Transport::One(6),
        (Transport::Any | Transport::One(17), PortOf::Udp) => Transport::One(17),
        (_, PortOf::Tcp) => return Err(wrong(token, Problem::PortOfOther("tcp"))),
        (_, PortOf::Udp) => return Err(wrong(token, Problem::PortOfOther("udp"))),
    };
    let (low, high) = (low.min(high), low.max(high));
    Ok(Primitive::Port {
        transport,
        direction: qualifiers.direction,
        low,
        high,
    })
}

fn numbered(port: u32, token: &Token<'_>) -> Result<(u16, PortOf), Error> {
    let problem = Problem::TooLarge {
        what: "port",
        max: u32::from(u16::MAX),
    };
    let port = u16::try_from(port).map_err(|_| wrong(token, problem))?;
    Ok((port, PortOf::Both))
}

fn named(name: &str, token: &Token<'_>) -> Result<(u16, PortOf), Error> {
    let found = PORTS.iter().find(|(port, ..)| *port == name);
    found
        .map(|(_, port, of)| (*port, *of))
        .ok_or_else(|| wrong(token, Problem::PortName))
}

fn named_or_numbered(text: &str, token: &Token<'_>) -> Result<(u16, PortOf), Error> {
    match number(text) {
        Some(port) => numbered(port, token),
        None => named(text, token),
    }
}

fn proto(protocol: Option<Protocol>, token: &Token<'_>) -> Result<Primitive, Error> {
    match protocol {
        Some(Protocol::Ether) => ethertype(token).map(Primitive::EtherType),
        None | Some(Protocol::Ip | Protocol::Ip6) => {
            let number = protocol_number(token)?;
            Ok(Primitive::Number { protocol, number })
        }
        Some(other) => Err(wrong(
            token,
            Problem::Combination {
                qualifier: other.word(),
                with: "proto",
            },
        )),
    }
}

fn chain(protocol: Option<Protocol>, token: &Token<'_>) -> Result<Primitive, Error> {
    match protocol {
        None | Some(Protocol::Ip | Protocol::Ip6) => {
            let number = protocol_number(token)?;
            Ok(Primitive::Chain { protocol, number })
        }
        Some(other) => Err(wrong(
            token,
            Problem::Combination {
                qualifier: other.word(),
                with: "protochain",
            },
        )),
    }
}

fn protocol_number(token: &Token<'_>) -> Result<u8, Error> {
    match token.word {
        Word::Number(number) => u8::try_from(number).map_err(|_| {
            wrong(
                token,
                Problem::TooLarge {
                    what: "IP protocol",
                    max: 255,
                },
            )
        }),
        Word::Name(name) | Word::Escaped(name) => {
            let found = PROTOCOLS.iter().find(|(protocol, _)| *protocol == name);
            found
                .map(|(_, number)| *number)
                .ok_or_else(|| wrong(token, Problem::ProtocolName))
        }
        _ => Err(wrong(token, Problem::WrongValue("proto"))),
    }
}

fn ethertype(token: &Token<'_>) -> Result<u16, Error> {
    match token.word {
        Word::Number(0..MIN_ETHERTYPE) => Err(wrong(token, Problem::NotAnEtherType)),
        Word::Number(number) => u16::try_from(number).map_err(|_| {
            wrong(
                token,
                Problem::TooLarge {
                    what: "EtherType",
                    max: 0xffff,
                },
            )
        }),
        Word::Name(name) | Word::Escaped(name) => {
            let found = ETHERTYPES.iter().find(|(ethertype, _)| *ethertype == name);
            found
                .map(|(_, number)| *number)
                .ok_or_else(|| wrong(token, Problem::ProtocolName))
        }
        _ => Err(wrong(token, Problem::WrongValue("ether proto"))),
    }
}
