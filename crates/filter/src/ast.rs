//! An expression after parsing: primitives, and how they are joined.

use std::net::Ipv6Addr;

/// How two expressions are joined. Both joins bind equally, from the left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    And,
    Or,
}

/// Expressions joined from the left. Without any, every frame is accepted.
#[derive(Debug, Default)]
pub(crate) struct Chain(pub(crate) Vec<(Join, Operand)>);

/// One part of a chain. The join of the first part has no meaning.
#[derive(Debug)]
pub(crate) struct Operand {
    pub(crate) negated: bool,
    pub(crate) kind: OperandKind,
}

#[derive(Debug)]
pub(crate) enum OperandKind {
    Group(Chain),
    Primitive(Primitive, Span),
}

/// A place in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) offset: usize,
    pub(crate) word: String,
}

/// A protocol that is a word of the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Ether,
    Ip,
    Ip6,
    Arp,
    Rarp,
    Tcp,
    Udp,
    Sctp,
    Icmp,
    Icmp6,
    Igmp,
    Igrp,
    Pim,
    Vrrp,
    Carp,
    Ah,
    Esp,
}

/// The words for protocols.
pub(crate) const PROTOCOL_WORDS: &[(&str, Protocol)] = &[
    ("ether", Protocol::Ether),
    ("link", Protocol::Ether),
    ("fddi", Protocol::Ether),
    ("tr", Protocol::Ether),
    ("wlan", Protocol::Ether),
    ("ip", Protocol::Ip),
    ("ip6", Protocol::Ip6),
    ("arp", Protocol::Arp),
    ("rarp", Protocol::Rarp),
    ("tcp", Protocol::Tcp),
    ("udp", Protocol::Udp),
    ("sctp", Protocol::Sctp),
    ("icmp", Protocol::Icmp),
    ("icmp6", Protocol::Icmp6),
    ("igmp", Protocol::Igmp),
    ("igrp", Protocol::Igrp),
    ("pim", Protocol::Pim),
    ("vrrp", Protocol::Vrrp),
    ("carp", Protocol::Carp),
    ("ah", Protocol::Ah),
    ("esp", Protocol::Esp),
];

impl Protocol {
    /// Its word.
    pub(crate) fn word(self) -> &'static str {
        let found = PROTOCOL_WORDS
            .iter()
            .find(|(_, protocol)| *protocol == self);
        found.map_or("", |(word, _)| word)
    }

    /// Its number in IP headers.
    pub(crate) const fn number(self) -> Option<u8> {
        Some(match self {
            Self::Icmp => 1,
            Self::Igmp => 2,
            Self::Tcp => 6,
            Self::Igrp => 9,
            Self::Udp => 17,
            Self::Esp => 50,
            Self::Ah => 51,
            Self::Icmp6 => 58,
            Self::Pim => 103,
            Self::Vrrp | Self::Carp => 112,
            Self::Sctp => 132,
            Self::Ether | Self::Ip | Self::Ip6 | Self::Arp | Self::Rarp => return None,
        })
    }
}

/// Which of two fields a primitive tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Source,
    Destination,
    Either,
    Both,
}

/// An address with the bits that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Address {
    Mac([u8; 6]),
    V4 { address: u32, mask: u32 },
    V6 { address: Ipv6Addr, prefix: u32 },
}

/// The protocols whose ports are tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Any,
    One(u8),
}

/// A test that the language has a word for.
#[derive(Debug)]
pub(crate) enum Primitive {
    Protocol(Protocol),
    Address {
        protocol: Option<Protocol>,
        direction: Direction,
        address: Address,
    },
    Port {
        transport: Transport,
        direction: Direction,
        low: u16,
        high: u16,
    },
    /// `proto`, with `None` for IPv4 and IPv6.
    Number {
        protocol: Option<Protocol>,
        number: u8,
    },
    Chain {
        protocol: Option<Protocol>,
        number: u8,
    },
    EtherType(u16),
    Broadcast,
    Multicast(Option<Protocol>),
    AtMost(u32),
    AtLeast(u32),
    Outgoing(bool),
    Vlan(Option<u16>),
    Mpls(Option<u32>),
    Relation {
        left: Calculation,
        comparison: Comparison,
        right: Calculation,
    },
}

/// `None` of the operators of C is missing; comparisons are of unsigned numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// An operator of calculations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    And,
    Or,
    Xor,
    ShiftLeft,
    ShiftRight,
}

/// A calculation: operands come before their operators, so no tree is needed.
pub(crate) type Calculation = Vec<Step>;

/// One step of a calculation, which takes its operands from a stack.
#[derive(Debug)]
pub(crate) enum Step {
    Number(u32),
    Length,
    /// Takes the offset.
    Access {
        protocol: Protocol,
        size: u8,
        span: Span,
    },
    Negate,
    Binary(Operator, Span),
}
