//! Comparisons of calculations: their values, and what accesses require of the frame.

use super::{IP, IP6, IP6_HEADER, Lower, Lowering, all, not};
use crate::Link;
use crate::ast::{Calculation, Comparison, Join, Operator, Protocol, Span, Step};
use crate::error::{Error, Problem};
use crate::lower::Condition;
use crate::values::{Compare, Id, Right, Test, Value};

impl Lowering {
    /// A comparison with a constant, as few jumps without calculations if possible.
    pub(super) fn compare(&self, left: Id, comparison: Comparison, number: u32) -> Condition {
        let test = |left, compare, number| {
            Condition::Test(Test {
                left,
                compare,
                right: Right::Constant(number),
            })
        };
        let masked = match self.values.get(left) {
            Value::Binary(Operator::And, value, mask) => {
                self.values.constant_of(mask).map(|mask| (value, mask))
            }
            _ => None,
        };
        let equal = match masked {
            Some((value, mask)) if number == 0 => not(test(value, Compare::AnyBit, mask)),
            Some((value, mask)) if number == mask && mask.is_power_of_two() => {
                test(value, Compare::AnyBit, mask)
            }
            Some((value, mask)) if number & !mask == 0 && self.is_prefix(value, mask) => {
                let max = self.values.max(value);
                let (low, high) = (number, (number | !mask) & max);
                let at_least = test(value, Compare::AtLeast, low);
                if high == max {
                    at_least
                } else {
                    all([at_least, not(test(value, Compare::Greater, high))])
                }
            }
            _ => test(left, Compare::Equal, number),
        };
        match comparison {
            Comparison::Equal => equal,
            Comparison::NotEqual => not(equal),
            Comparison::Greater if number == 0 && masked.is_some() => not(equal),
            Comparison::Greater => test(left, Compare::Greater, number),
            Comparison::AtMost => not(test(left, Compare::Greater, number)),
            Comparison::AtLeast => test(left, Compare::AtLeast, number),
            Comparison::Less => not(test(left, Compare::AtLeast, number)),
        }
    }

    /// Whether a mask keeps the first bits of a value.
    fn is_prefix(&self, value: Id, mask: u32) -> bool {
        let max = self.values.max(value);
        let mask = mask | !max;
        let is_ones = max.checked_add(1).is_none_or(u32::is_power_of_two);
        is_ones && mask.leading_ones() == mask.count_ones()
    }

    pub(super) fn relation(
        &mut self,
        left: &Calculation,
        comparison: Comparison,
        right: &Calculation,
        span: &Span,
    ) -> Result<Condition, Error> {
        let mut checks = Vec::new();
        let left = self.calculation(left, span, &mut checks)?;
        let right = self.calculation(right, span, &mut checks)?;
        let relation = self.related(left, comparison, right);
        checks.push((Join::And, relation));
        Ok(Condition::Chain(checks))
    }

    fn related(&self, left: Id, comparison: Comparison, right: Id) -> Condition {
        match (
            self.values.constant_of(left),
            self.values.constant_of(right),
        ) {
            (Some(left), Some(right)) => Condition::Constant(match comparison {
                Comparison::Equal => left == right,
                Comparison::NotEqual => left != right,
                Comparison::Less => left < right,
                Comparison::AtMost => left <= right,
                Comparison::Greater => left > right,
                Comparison::AtLeast => left >= right,
            }),
            (_, Some(number)) => self.compare(left, comparison, number),
            (Some(number), _) => self.compare(right, mirrored(comparison), number),
            (None, None) => {
                let test = |compare| {
                    Condition::Test(Test {
                        left,
                        compare,
                        right: Right::Value(right),
                    })
                };
                match comparison {
                    Comparison::Equal => test(Compare::Equal),
                    Comparison::NotEqual => not(test(Compare::Equal)),
                    Comparison::Greater => test(Compare::Greater),
                    Comparison::AtMost => not(test(Compare::Greater)),
                    Comparison::AtLeast => test(Compare::AtLeast),
                    Comparison::Less => not(test(Compare::AtLeast)),
                }
            }
        }
    }

    /// The value of a calculation. What an access requires of the frame is added to `checks`.
    fn calculation(
        &mut self,
        steps: &Calculation,
        whole: &Span,
        checks: &mut Vec<(Join, Condition)>,
    ) -> Result<Id, Error> {
        let mut stack = Vec::new();
        for step in steps {
            let (result, span) = match step {
                Step::Number(number) => (self.values.constant(*number), whole),
                Step::Length => (self.values.length(), whole),
                Step::Negate => {
                    let of = stack.pop().ok_or(Problem::MissingValue);
                    (of.and_then(|of| self.values.negate(of)), whole)
                }
                Step::Binary(operator, span) => {
                    let (right, left) = (stack.pop(), stack.pop());
                    let both = left.zip(right).ok_or(Problem::MissingValue);
                    (
                        both.and_then(|(left, right)| self.values.binary(*operator, left, right)),
                        span,
                    )
                }
                Step::Access {
                    protocol,
                    size,
                    span,
                } => {
                    let offset = stack.pop().ok_or(Problem::MissingValue);
                    let access = |offset| self.access(*protocol, *size, offset, checks);
                    (offset.and_then(access), span)
                }
            };
            stack.push(result.map_err(|problem| Error::new(span.offset, &span.word, problem))?);
        }
        let missing = Error::new(whole.offset, &whole.word, Problem::MissingValue);
        stack.pop().ok_or(missing)
    }

    fn access(
        &mut self,
        protocol: Protocol,
        size: u8,
        offset: Id,
        checks: &mut Vec<(Join, Condition)>,
    ) -> Lower<Id> {
        let network = self.network();
        let mut require = |condition| checks.push((Join::And, condition));
        match protocol {
            Protocol::Ether => {
                require(Condition::Constant(self.options.link == Link::Ethernet));
                self.values.load_at(size, offset, 0)
            }
            Protocol::Ip | Protocol::Ip6 | Protocol::Arp | Protocol::Rarp => {
                require(self.protocol(protocol)?);
                self.values.load_at(size, offset, network)
            }
            Protocol::Icmp6 => {
                require(self.link_type(IP6)?);
                require(self.field(1, 6, 0xff, 58)?);
                self.values.load_at(size, offset, network + IP6_HEADER)
            }
            other => {
                let number = other.number().ok_or(Problem::NoAccess(other.word()))?;
                require(self.link_type(IP)?);
                require(self.field(1, 9, 0xff, u32::from(number))?);
                require(self.first_fragment()?);
                let header = self.values.header_length(network)?;
                let at = match self.values.constant_of(offset) {
                    Some(offset) => {
                        return self
                            .values
                            .load_at(size, header, network.wrapping_add(offset));
                    }
                    None => self.values.binary(Operator::Add, offset, header)?,
                };
                self.values.load_at(size, at, network)
            }
        }
    }
}

const fn mirrored(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Less => Comparison::Greater,
        Comparison::AtMost => Comparison::AtLeast,
        Comparison::Greater => Comparison::Less,
        Comparison::AtLeast => Comparison::AtMost,
        same => same,
    }
}
