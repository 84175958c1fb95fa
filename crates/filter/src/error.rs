//! The errors of an expression, as texts for the operator.

use std::fmt;

use thiserror::Error as ThisError;

/// An expression that was not compiled: the place in the text, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Where the word begins, in bytes from the start of the text.
    pub offset: usize,
    /// The word; empty at the end of the text.
    pub word: String,
    /// What is wrong with it.
    pub problem: Problem,
}

impl std::error::Error for Error {}

/// How much of a word an error shows.
const SHOWN: usize = 40;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (expected, example) = self.problem.advice();
        let wrong = self.place_and_problem();
        write!(f, "{wrong}; expected: {expected}; for example: {example}")
    }
}

impl Error {
    /// The place, the word, and what is wrong with it.
    #[must_use]
    pub fn place_and_problem(&self) -> String {
        let Self {
            offset,
            word,
            problem,
        } = self;
        if word.is_empty() {
            return format!("at the end: {problem}");
        }
        let shown: String = word.chars().take(SHOWN).collect();
        format!("at byte {offset}, {shown:?}: {problem}")
    }

    /// What was expected in its place.
    #[must_use]
    pub const fn expected(&self) -> &'static str {
        self.problem.advice().0
    }

    pub(crate) fn new(offset: usize, word: &str, problem: Problem) -> Self {
        Self {
            offset,
            word: word.to_owned(),
            problem,
        }
    }

    pub(crate) fn too_long(text: &str, length: usize, limit: usize) -> Self {
        Self::new(0, text, Problem::ProgramTooLong { length, limit })
    }

    pub(crate) fn too_complex(text: &str) -> Self {
        Self::new(0, text, Problem::TooManyIntermediate)
    }
}

/// What is wrong with a word of an expression.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[expect(missing_docs, reason = "the error texts describe the variants")]
pub enum Problem {
    #[error("the expression has {0} bytes, which is too long")]
    TextTooLong(usize),
    #[error("this character has no meaning")]
    UnknownCharacter,
    #[error("the number is not valid")]
    BadNumber,
    #[error("the IPv4 address is not valid")]
    BadAddress,
    #[error("a primitive is missing")]
    MissingPrimitive,
    #[error("this word does not begin a primitive")]
    NotAPrimitive,
    #[error("a value is missing")]
    MissingValue,
    #[error("this is not a value of \"{0}\"")]
    WrongValue(&'static str),
    #[error("it does not follow \"and\" or \"or\"")]
    MissingJoin,
    #[error("this parenthesis is not closed")]
    NotClosed,
    #[error("this parenthesis was not opened")]
    NotOpened,
    #[error("parentheses are nested more than {0} deep")]
    TooDeep(usize),
    #[error(
        "names of hosts are not looked up: podspan reads its filter before the network is up, and an \
         answer can change later"
    )]
    HostName,
    #[error("names of networks are not looked up")]
    NetName,
    #[error("the name of the port is unknown")]
    PortName,
    #[error("the name of the protocol is unknown")]
    ProtocolName,
    #[error("the port is used with {0} only")]
    PortOfOther(&'static str),
    #[error("bits outside of the mask are set")]
    HostBits,
    #[error("the length of the prefix is at most {0}")]
    PrefixTooLong(u32),
    #[error("\"{qualifier}\" does not go together with \"{with}\"")]
    Combination {
        qualifier: &'static str,
        with: &'static str,
    },
    #[error("a netmask is for IPv4 only")]
    MaskOfIpv6,
    #[error("the number is too large: the largest {what} is {max}")]
    TooLarge { what: &'static str, max: u32 },
    #[error("below 1536 the field is a length (IEEE 802.3), and pods do not send such frames")]
    NotAnEtherType,
    #[error("a comparison is missing")]
    MissingComparison,
    #[error("\"{0}\" has no bytes to access")]
    NoAccess(&'static str),
    #[error("a field has 1, 2 or 4 bytes")]
    BadSize,
    #[error("this bracket is not closed")]
    BracketNotClosed,
    #[error("the divisor is 0")]
    DivisionByZero,
    #[error("a shift is at most 31")]
    BadShift,
    #[error("no frame is that long")]
    OffsetTooLarge,
    #[error("the netmask of the interface is not known here")]
    IpBroadcast,
    #[error("the direction of a frame is not in a file")]
    NoDirection,
    #[error("within MPLS only IPv4 and IPv6 can be told apart")]
    InsideMpls,
    #[error("podspan leaves this primitive out: {0}")]
    LeftOut(&'static str),
    #[error("the program has {length} instructions; the kernel accepts {limit} here")]
    ProgramTooLong { length: usize, limit: usize },
    #[error("the calculation is too long")]
    TooManyIntermediate,
}

impl Problem {
    /// What was expected instead, and an example.
    const fn advice(&self) -> (&'static str, &'static str) {
        match self {
            Self::TextTooLong(_) | Self::ProgramTooLong { .. } => (
                "a shorter expression; a net instead of many hosts, a portrange instead of many ports",
                "net 10.0.0.0/8 and not portrange 8000-8100",
            ),
            Self::UnknownCharacter | Self::NotAPrimitive | Self::MissingPrimitive => (
                "a primitive: a protocol, host, net, port, portrange, proto, vlan, len or a comparison",
                "tcp port 80 or icmp",
            ),
            Self::BadNumber => (
                "a number of at most 32 bits: decimal, octal with 0, hexadecimal with 0x",
                "port 8080",
            ),
            Self::BadAddress | Self::HostName => ("an IPv4 or IPv6 address", "host 10.1.2.3"),
            Self::MissingValue | Self::WrongValue(_) => (
                "an address, a net, a port or a number, as the words before it say",
                "src net 10.0.0.0/8 and dst port 443",
            ),
            Self::MissingJoin => ("and, or, or the end", "tcp and port 80"),
            Self::NotClosed | Self::NotOpened => {
                ("as many ( as )", "tcp and (port 80 or port 443)")
            }
            Self::TooDeep(_) => ("fewer parentheses", "port 80 or port 443 or port 8080"),
            Self::NetName | Self::HostBits => ("a net without bits of hosts", "net 10.1.0.0/16"),
            Self::PrefixTooLong(_) => (
                "a length of 0 to 32 for IPv4, 0 to 128 for IPv6",
                "net fd00::/8",
            ),
            Self::PortName => (
                "a number from 0 to 65535, or a known name",
                "port 443 or port domain",
            ),
            Self::ProtocolName => (
                "a number, or a name; names that are also words of the language follow a backslash",
                "ip proto \\tcp",
            ),
            Self::PortOfOther(_) => ("the protocol of this port, or its number", "tcp port 80"),
            Self::Combination { .. } => (
                "ether with a MAC address; ip, ip6, arp or rarp with host and net; tcp, udp or sctp with \
                 port and portrange; ip, ip6 or ether with proto",
                "tcp dst port 80 or ether src 02:00:00:00:00:01",
            ),
            Self::MaskOfIpv6 => ("a prefix", "net fd00::/8"),
            Self::TooLarge { .. } => ("a smaller number", "port 443 or vlan 100"),
            Self::NotAnEtherType => ("an EtherType from 1536 to 65535", "ether proto 0x88cc"),
            Self::MissingComparison => ("<, <=, >, >=, = or !=", "tcp[tcpflags] & tcp-syn != 0"),
            Self::NoAccess(_) => (
                "ether, ip, ip6, arp, rarp, tcp, udp, sctp, icmp, icmp6, igmp, igrp, pim, vrrp or carp",
                "ip[8] < 5",
            ),
            Self::BadSize => ("1, 2 or 4 after the colon", "ip[2:2] > 576"),
            Self::BracketNotClosed => ("] after the offset", "tcp[13] = 2"),
            Self::DivisionByZero => ("a divisor from 1", "len / 2 > 100"),
            Self::BadShift => ("a shift from 0 to 31", "(ip[0] & 0xf) << 2 > 20"),
            Self::OffsetTooLarge => ("an offset within a frame", "ether[0] & 1 != 0"),
            Self::IpBroadcast => ("the address itself", "dst host 10.1.255.255"),
            Self::NoDirection => (
                "an expression without inbound and outbound",
                "src host 10.1.2.3",
            ),
            Self::InsideMpls => (
                "ip, ip6 or what is inside them after mpls",
                "mpls and ip and tcp",
            ),
            Self::LeftOut(_) => ("the language of docs/filter.md", "tcp port 80"),
            Self::TooManyIntermediate => (
                "a calculation with fewer parentheses and operators",
                "ip[2:2] - ((ip[0] & 0xf) << 2) > 100",
            ),
        }
    }
}
