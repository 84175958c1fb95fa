//! Primitives as tests of values at fixed places: the typed form between the language and the code.
//!
//! `vlan` and `mpls` move the places for everything that follows in the text, as in libpcap, so the
//! primitives are lowered in their order. If the kernel keeps the outermost VLAN tag beside the frame,
//! an expression with `vlan` is lowered twice: for frames with a tag beside them and for the others.

mod calculation;

use crate::ast::{
    Address, Chain, Comparison, Direction, Join, Operand, OperandKind, Operator, Primitive,
    Protocol, Span, Transport,
};
use crate::error::{Error, Problem};
use crate::program::code;
use crate::values::{Compare, Id, Right, Test, Values};
use crate::{Link, Options, Tags};

/// A condition: tests, and how they are joined.
#[derive(Debug, Clone)]
pub(crate) enum Condition {
    Constant(bool),
    Test(Test),
    Not(Box<Condition>),
    /// Joined from the left; the join of the first has no meaning.
    Chain(Vec<(Join, Condition)>),
}

/// A lowered expression.
#[derive(Debug)]
pub(crate) struct Lowered {
    pub(crate) values: Values,
    /// For frames that have no tag beside them.
    pub(crate) plain: Condition,
    /// The test for a tag beside the frame, and the condition for such frames.
    pub(crate) tagged: Option<(Test, Condition)>,
}

const IP: u32 = 0x0800;
const ARP: u32 = 0x0806;
const RARP: u32 = 0x8035;
const IP6: u32 = 0x86dd;
const MPLS: u32 = 0x8847;
const VLANS: [u32; 3] = [0x8100, 0x88a8, 0x9100];
const FRAGMENT: u32 = 44;
const SCTP: u8 = 132;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// The length of an IPv6 header.
const IP6_HEADER: u32 = 40;
/// The offset of a fragment in the second half of an IPv4 header's third half word.
const FRAGMENT_OFFSET: u32 = 0x1fff;

/// Lowers an expression.
pub(crate) fn lower(chain: &Chain, options: Options) -> Result<Lowered, Error> {
    let mut lowering = Lowering::new(Values::default(), options, false);
    let plain = lowering.chain(chain)?;
    let twice = lowering.vlans > 0 && options.tags == Tags::Beside;
    let mut values = lowering.values;
    let mut tagged = None;
    if twice {
        let mut lowering = Lowering::new(values, options, true);
        let condition = lowering.chain(chain)?;
        let present = lowering.values.beside(code::AD_VLAN_TAG_PRESENT);
        let left = present.map_err(|problem| Error::new(0, "", problem))?;
        values = lowering.values;
        let test = Test {
            left,
            compare: Compare::Equal,
            right: Right::Constant(1),
        };
        tagged = Some((test, condition));
    }
    Ok(Lowered {
        values,
        plain,
        tagged,
    })
}

struct Lowering {
    values: Values,
    options: Options,
    /// Whether the outermost tag is beside the frame.
    is_beside: bool,
    /// The place of the EtherType.
    type_at: u32,
    /// The place of what follows the link header and the tags.
    payload: u32,
    vlans: u32,
    labels: u32,
}

type Lower<T = Condition> = Result<T, Problem>;

impl Lowering {
    const fn new(values: Values, options: Options, is_beside: bool) -> Self {
        let payload = match options.link {
            Link::Ethernet => 14,
            Link::Ip => 0,
        };
        Self {
            values,
            options,
            is_beside,
            type_at: 12,
            payload,
            vlans: 0,
            labels: 0,
        }
    }

    fn chain(&mut self, chain: &Chain) -> Result<Condition, Error> {
        let parts = chain
            .0
            .iter()
            .map(|(join, operand)| Ok((*join, self.operand(operand)?)));
        match parts.collect::<Result<Vec<_>, _>>()? {
            parts if parts.is_empty() => Ok(Condition::Constant(true)),
            parts => Ok(Condition::Chain(parts)),
        }
    }

    fn operand(&mut self, operand: &Operand) -> Result<Condition, Error> {
        let condition = match &operand.kind {
            OperandKind::Group(chain) => self.chain(chain)?,
            OperandKind::Primitive(primitive, span) => self.primitive(primitive, span)?,
        };
        Ok(if operand.negated {
            not(condition)
        } else {
            condition
        })
    }

    fn primitive(&mut self, primitive: &Primitive, span: &Span) -> Result<Condition, Error> {
        let condition = match primitive {
            Primitive::Relation {
                left,
                comparison,
                right,
            } => {
                return self.relation(left, *comparison, right, span);
            }
            Primitive::Protocol(protocol) => self.protocol(*protocol),
            Primitive::Address {
                protocol,
                direction,
                address,
            } => self.address(*protocol, *direction, *address),
            Primitive::Port {
                transport,
                direction,
                low,
                high,
            } => self.port(*transport, *direction, (u32::from(*low), u32::from(*high))),
            Primitive::Number { protocol, number } => self.number(*protocol, *number),
            Primitive::Chain { protocol, number } => self.header_chain(*protocol, *number),
            Primitive::EtherType(number) => self.link_type(u32::from(*number)),
            Primitive::Broadcast => self.mac([0xff; 6], Direction::Destination),
            Primitive::Multicast(protocol) => self.multicast(*protocol),
            Primitive::AtMost(length) => self.frame_length(Comparison::AtMost, *length),
            Primitive::AtLeast(length) => self.frame_length(Comparison::AtLeast, *length),
            Primitive::Outgoing(is_outgoing) => self.outgoing(*is_outgoing),
            Primitive::Vlan(number) => self.vlan(*number),
            Primitive::Mpls(label) => self.mpls(*label),
        };
        condition.map_err(|problem| Error::new(span.offset, &span.word, problem))
    }

    /// The place of the network header.
    const fn network(&self) -> u32 {
        self.payload + 4 * self.labels
    }

    /// Whether this many bytes of the network header at `offset`, masked, are `number`.
    fn field(&mut self, size: u8, offset: u32, mask: u32, number: u32) -> Lower {
        let left = self.values.load(size, self.network() + offset)?;
        self.masked(left, mask, number)
    }

    fn masked(&mut self, left: Id, mask: u32, number: u32) -> Lower {
        let left = {
            let mask = self.values.constant(mask)?;
            self.values.binary(Operator::And, left, mask)?
        };
        Ok(self.compare(left, Comparison::Equal, number))
    }

    fn link_type(&mut self, number: u32) -> Lower {
        if self.labels > 0 {
            let version = match number {
                IP => 0x40,
                IP6 => 0x60,
                _ => return Err(Problem::InsideMpls),
            };
            let bottom = self.values.load(1, self.network() - 2)?;
            let bottom = self.masked(bottom, 1, 1)?;
            return Ok(all([bottom, self.field(1, 0, 0xf0, version)?]));
        }
        match (self.options.link, number) {
            (Link::Ethernet, number) => {
                let left = self.values.load(2, self.type_at)?;
                Ok(self.compare(left, Comparison::Equal, number))
            }
            (Link::Ip, IP) => self.field(1, 0, 0xf0, 0x40),
            (Link::Ip, IP6) => self.field(1, 0, 0xf0, 0x60),
            (Link::Ip, _) => Ok(Condition::Constant(false)),
        }
    }

    fn protocol(&mut self, protocol: Protocol) -> Lower {
        match (protocol, protocol.number()) {
            (Protocol::Ip, _) => self.link_type(IP),
            (Protocol::Ip6, _) => self.link_type(IP6),
            (Protocol::Arp, _) => self.link_type(ARP),
            (Protocol::Rarp, _) => self.link_type(RARP),
            (Protocol::Icmp6, Some(number)) => self.number(Some(Protocol::Ip6), number),
            (
                Protocol::Icmp | Protocol::Igmp | Protocol::Igrp | Protocol::Vrrp | Protocol::Carp,
                Some(number),
            ) => self.number(Some(Protocol::Ip), number),
            (_, Some(number)) => self.number(None, number),
            (_, None) => Ok(Condition::Constant(self.options.link == Link::Ethernet)),
        }
    }

    fn number(&mut self, protocol: Option<Protocol>, number: u8) -> Lower {
        let number_of = u32::from(number);
        match protocol {
            Some(Protocol::Ip) => Ok(all([
                self.link_type(IP)?,
                self.field(1, 9, 0xff, number_of)?,
            ])),
            Some(_) => {
                let link = self.link_type(IP6)?;
                let fragment = all([
                    self.field(1, 6, 0xff, FRAGMENT)?,
                    self.field(1, IP6_HEADER, 0xff, number_of)?,
                ]);
                Ok(all([
                    link,
                    any([self.field(1, 6, 0xff, number_of)?, fragment]),
                ]))
            }
            None => Ok(any([
                self.number(Some(Protocol::Ip), number)?,
                self.number(Some(Protocol::Ip6), number)?,
            ])),
        }
    }

    fn header_chain(&mut self, protocol: Option<Protocol>, number: u8) -> Lower {
        let (is_v6, link) = match protocol {
            Some(Protocol::Ip) => (false, self.link_type(IP)?),
            Some(_) => (true, self.link_type(IP6)?),
            None => {
                return Ok(any([
                    self.header_chain(Some(Protocol::Ip), number)?,
                    self.header_chain(Some(Protocol::Ip6), number)?,
                ]));
            }
        };
        let left = self.values.chain(is_v6, self.network(), number)?;
        let chain = Condition::Test(Test {
            left,
            compare: Compare::Equal,
            right: Right::Constant(1),
        });
        Ok(all([link, chain]))
    }

    fn address(
        &mut self,
        protocol: Option<Protocol>,
        direction: Direction,
        address: Address,
    ) -> Lower {
        let (address, mask) = match address {
            Address::Mac(mac) => return self.mac(mac, direction),
            Address::V6 { address, prefix } => return self.v6(address.into(), prefix, direction),
            Address::V4 { address, mask } => (address, mask),
        };
        let is_outside = self.labels == 0;
        let mut of = |number, source, destination| {
            let link = self.link_type(number)?;
            if mask == 0 {
                return Ok(link);
            }
            let source = self.field(4, source, mask, address)?;
            let destination = self.field(4, destination, mask, address)?;
            Ok(all([link, directed(direction, source, destination)]))
        };
        match protocol {
            Some(Protocol::Arp) => of(ARP, 14, 24),
            Some(Protocol::Rarp) => of(RARP, 14, 24),
            None if is_outside => Ok(any([of(IP, 12, 16)?, of(ARP, 14, 24)?, of(RARP, 14, 24)?])),
            _ => of(IP, 12, 16),
        }
    }

    fn v6(&mut self, address: u128, prefix: u32, direction: Direction) -> Lower {
        let link = self.link_type(IP6)?;
        let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
        let mut of = |offset: u32| {
            let mut words = Vec::new();
            for word in 0..4 {
                let of = |number: u128| {
                    u32::try_from((number >> (96 - 32 * word)) & u128::from(u32::MAX)).unwrap_or(0)
                };
                if of(mask) != 0 {
                    words.push((
                        Join::And,
                        self.field(4, offset + 4 * word, of(mask), of(address))?,
                    ));
                }
            }
            Ok(if words.is_empty() {
                Condition::Constant(true)
            } else {
                Condition::Chain(words)
            })
        };
        let (source, destination) = (of(8)?, of(24)?);
        Ok(all([link, directed(direction, source, destination)]))
    }

    /// Whether a MAC address is in the link header: first its last four bytes, as in libpcap.
    fn mac(&mut self, mac: [u8; 6], direction: Direction) -> Lower {
        if self.options.link == Link::Ip {
            return Ok(Condition::Constant(false));
        }
        let [a, b, tail @ ..] = mac;
        let (head, tail) = (
            u32::from(u16::from_be_bytes([a, b])),
            u32::from_be_bytes(tail),
        );
        let mut of = |offset| {
            let last = self.values.load(4, offset + 2)?;
            let first = self.values.load(2, offset)?;
            let last = self.compare(last, Comparison::Equal, tail);
            Ok(all([last, self.compare(first, Comparison::Equal, head)]))
        };
        let (source, destination) = (of(6)?, of(0)?);
        Ok(directed(direction, source, destination))
    }

    fn multicast(&mut self, protocol: Option<Protocol>) -> Lower {
        match protocol {
            Some(Protocol::Ip) => Ok(all([self.link_type(IP)?, self.field(1, 16, 0xf0, 0xe0)?])),
            Some(Protocol::Ip6) => Ok(all([self.link_type(IP6)?, self.field(1, 24, 0xff, 0xff)?])),
            _ if self.options.link == Link::Ip => Ok(Condition::Constant(false)),
            _ => {
                let first = self.values.load(1, 0)?;
                self.masked(first, 1, 1)
            }
        }
    }

    fn frame_length(&mut self, comparison: Comparison, length: u32) -> Lower {
        let left = self.values.length()?;
        Ok(self.compare(left, comparison, length))
    }

    fn outgoing(&mut self, is_outgoing: bool) -> Lower {
        /// `PACKET_OUTGOING`.
        const OUTGOING: u32 = 4;
        if self.options.tags == Tags::Inside {
            return Err(Problem::NoDirection);
        }
        let left = self.values.beside(code::AD_PKTTYPE)?;
        let comparison = if is_outgoing {
            Comparison::Equal
        } else {
            Comparison::NotEqual
        };
        Ok(self.compare(left, comparison, OUTGOING))
    }

    fn port(&mut self, transport: Transport, direction: Direction, range: (u32, u32)) -> Lower {
        let network = self.network();
        let v6 = {
            let link = self.link_type(IP6)?;
            let transport = self.transport(transport, 6)?;
            let source = self.values.load(2, network + IP6_HEADER)?;
            let destination = self.values.load(2, network + IP6_HEADER + 2)?;
            let (source, destination) =
                (self.within(source, range), self.within(destination, range));
            all([link, transport, directed(direction, source, destination)])
        };
        let link = self.link_type(IP)?;
        let transport = self.transport(transport, 9)?;
        let first = self.first_fragment()?;
        let header = self.values.header_length(network)?;
        let source = self.values.load_at(2, header, network)?;
        let destination = self.values.load_at(2, header, network + 2)?;
        let (source, destination) = (self.within(source, range), self.within(destination, range));
        let v4 = all([
            link,
            transport,
            first,
            directed(direction, source, destination),
        ]);
        Ok(any([v6, v4]))
    }

    fn within(&self, value: Id, (low, high): (u32, u32)) -> Condition {
        if low == high {
            return self.compare(value, Comparison::Equal, low);
        }
        let at_least = self.compare(value, Comparison::AtLeast, low);
        all([at_least, self.compare(value, Comparison::AtMost, high)])
    }

    fn transport(&mut self, transport: Transport, offset: u32) -> Lower {
        match transport {
            Transport::One(number) => self.field(1, offset, 0xff, u32::from(number)),
            Transport::Any => Ok(any([
                self.field(1, offset, 0xff, u32::from(SCTP))?,
                self.field(1, offset, 0xff, u32::from(TCP))?,
                self.field(1, offset, 0xff, u32::from(UDP))?,
            ])),
        }
    }

    /// Whether an IPv4 packet is whole, or the first of its fragments.
    fn first_fragment(&mut self) -> Lower {
        self.field(2, 6, FRAGMENT_OFFSET, 0)
    }

    fn vlan(&mut self, number: Option<u16>) -> Lower {
        if self.labels > 0 {
            return Err(Problem::InsideMpls);
        }
        if self.options.link == Link::Ip {
            return Ok(Condition::Constant(false));
        }
        let is_first = self.vlans == 0;
        self.vlans += 1;
        if is_first && self.is_beside {
            return match number {
                None => Ok(Condition::Constant(true)),
                Some(number) => {
                    let tag = self.values.beside(code::AD_VLAN_TAG)?;
                    self.masked(tag, 0xfff, u32::from(number))
                }
            };
        }
        let [a, b, c] = VLANS;
        let mut condition = any([self.link_type(a)?, self.link_type(b)?, self.link_type(c)?]);
        if let Some(number) = number {
            let tag = self.values.load(2, self.payload)?;
            condition = all([condition, self.masked(tag, 0xfff, u32::from(number))?]);
        }
        self.type_at += 4;
        self.payload += 4;
        Ok(condition)
    }

    fn mpls(&mut self, label: Option<u32>) -> Lower {
        if self.options.link == Link::Ip {
            return Ok(Condition::Constant(false));
        }
        let mut condition = if self.labels == 0 {
            self.link_type(MPLS)?
        } else {
            let bottom = self.values.load(1, self.network() - 2)?;
            not(self.masked(bottom, 1, 1)?)
        };
        if let Some(label) = label {
            let entry = self.values.load(4, self.network())?;
            condition = all([condition, self.masked(entry, 0xffff_f000, label << 12)?]);
        }
        self.labels += 1;
        Ok(condition)
    }
}

fn not(condition: Condition) -> Condition {
    Condition::Not(Box::new(condition))
}

fn all<const N: usize>(conditions: [Condition; N]) -> Condition {
    Condition::Chain(conditions.map(|condition| (Join::And, condition)).into())
}

fn any<const N: usize>(conditions: [Condition; N]) -> Condition {
    Condition::Chain(conditions.map(|condition| (Join::Or, condition)).into())
}

fn directed(direction: Direction, source: Condition, destination: Condition) -> Condition {
    match direction {
        Direction::Source => source,
        Direction::Destination => destination,
        Direction::Either => any([source, destination]),
        Direction::Both => all([source, destination]),
    }
}
