//! What a test compares, as values: each different value exists once and has a number.
//!
//! Two tests that need the same bytes have the same value, so what one of them loaded or found out
//! serves the other. Building a value folds constants.

use std::collections::HashMap;

use crate::ast::Operator;
use crate::error::Problem;

/// How deep a value may be. It bounds recursion over values.
const MAX_DEPTH: u8 = 120;

/// The number of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id(u32);

/// A value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    Constant(u32),
    /// The length of the frame.
    Length,
    /// A property of the packet in the kernel: the offset of its load.
    Beside(u32),
    /// This many bytes at `base` + `k`.
    Load {
        size: u8,
        base: Option<Id>,
        k: u32,
    },
    /// The length of the IPv4 header at `k`.
    HeaderLength(u32),
    Binary(Operator, Id, Id),
    Negate(Id),
    /// 1 if the chain of headers of the packet at `at` has this protocol.
    Chain {
        is_v6: bool,
        at: u32,
        number: u8,
    },
}

/// A comparison with an unsigned number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Compare {
    Equal,
    Greater,
    AtLeast,
    /// The two have a common bit.
    AnyBit,
}

/// What a value is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Right {
    Constant(u32),
    Value(Id),
}

/// A test: one conditional jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Test {
    pub(crate) left: Id,
    pub(crate) compare: Compare,
    pub(crate) right: Right,
}

/// All values of an expression. A value has a larger number than its parts.
#[derive(Debug, Default)]
pub(crate) struct Values {
    all: Vec<(Value, u8)>,
    ids: HashMap<Value, Id>,
}

impl Values {
    pub(crate) fn get(&self, id: Id) -> Value {
        let found = self.all.get(id.0 as usize);
        found.map_or(Value::Constant(0), |(value, _)| *value)
    }

    fn depth(&self, id: Id) -> u8 {
        self.all.get(id.0 as usize).map_or(0, |(_, depth)| *depth)
    }

    pub(crate) fn constant_of(&self, id: Id) -> Option<u32> {
        match self.get(id) {
            Value::Constant(constant) => Some(constant),
            _ => None,
        }
    }

    fn add(&mut self, value: Value) -> Result<Id, Problem> {
        if let Some(id) = self.ids.get(&value) {
            return Ok(*id);
        }
        let below = match value {
            Value::Binary(_, left, right) => self.depth(left).max(self.depth(right)),
            Value::Negate(of) => self.depth(of),
            Value::Load {
                base: Some(base), ..
            } => self.depth(base),
            _ => 0,
        };
        if below == MAX_DEPTH {
            return Err(Problem::TooManyIntermediate);
        }
        let id = u32::try_from(self.all.len()).map_err(|_| Problem::TooManyIntermediate)?;
        self.all.push((value, below + 1));
        self.ids.insert(value, Id(id));
        Ok(Id(id))
    }

    pub(crate) fn constant(&mut self, constant: u32) -> Result<Id, Problem> {
        self.add(Value::Constant(constant))
    }

    pub(crate) fn length(&mut self) -> Result<Id, Problem> {
        self.add(Value::Length)
    }

    pub(crate) fn beside(&mut self, offset: u32) -> Result<Id, Problem> {
        self.add(Value::Beside(offset))
    }

    pub(crate) fn header_length(&mut self, k: u32) -> Result<Id, Problem> {
        self.add(Value::HeaderLength(k))
    }

    pub(crate) fn chain(&mut self, is_v6: bool, at: u32, number: u8) -> Result<Id, Problem> {
        self.add(Value::Chain { is_v6, at, number })
    }

    /// The bytes at a fixed place.
    pub(crate) fn load(&mut self, size: u8, k: u32) -> Result<Id, Problem> {
        // The kernel gives larger offsets another meaning.
        if k > i32::MAX.cast_unsigned() {
            return Err(Problem::OffsetTooLarge);
        }
        self.add(Value::Load {
            size,
            base: None,
            k,
        })
    }

    /// The bytes at `base` + `k`. The sum wraps, as the kernel's does.
    pub(crate) fn load_at(&mut self, size: u8, base: Id, k: u32) -> Result<Id, Problem> {
        match self.get(base) {
            Value::Constant(base) => self.load(size, base.wrapping_add(k)),
            Value::Binary(Operator::Add, base, more) if self.constant_of(more).is_some() => {
                let more = self.constant_of(more).unwrap_or(0);
                self.load_at(size, base, k.wrapping_add(more))
            }
            _ => self.add(Value::Load {
                size,
                base: Some(base),
                k,
            }),
        }
    }

    pub(crate) fn negate(&mut self, of: Id) -> Result<Id, Problem> {
        match self.constant_of(of) {
            Some(constant) => self.constant(constant.wrapping_neg()),
            None => self.add(Value::Negate(of)),
        }
    }

    pub(crate) fn binary(
        &mut self,
        operator: Operator,
        left: Id,
        right: Id,
    ) -> Result<Id, Problem> {
        use Operator::{
            Add, And, Divide, Multiply, Or, Remainder, ShiftLeft, ShiftRight, Subtract, Xor,
        };
        let (mut left, mut right) = (left, right);
        let commutes = matches!(operator, Add | Multiply | And | Or | Xor);
        if commutes && self.constant_of(left).is_some() {
            (left, right) = (right, left);
        }
        let constant = self.constant_of(right);
        match (operator, constant) {
            (Divide | Remainder, Some(0)) => return Err(Problem::DivisionByZero),
            (ShiftLeft | ShiftRight, Some(32..)) => return Err(Problem::BadShift),
            (Add | Subtract | Or | Xor | ShiftLeft | ShiftRight, Some(0))
            | (Multiply | Divide, Some(1)) => return Ok(left),
            (And, Some(mask)) if mask & self.max(left) == self.max(left) && self.is_ones(left) => {
                return Ok(left);
            }
            _ => {}
        }
        if let (Some(left), Some(right)) = (self.constant_of(left), constant) {
            return self.constant(calculate(operator, left, right).unwrap_or(0));
        }
        // (x + 1) + 2 is x + 3, and a - 1 is a + (-1), so that accesses can use it as their offset.
        if let (Subtract, Some(constant)) = (operator, constant) {
            let negative = self.constant(constant.wrapping_neg())?;
            return self.binary(Add, left, negative);
        }
        if let (Value::Binary(inner, base, more), Some(constant)) = (self.get(left), constant) {
            let more = self.constant_of(more);
            if let (true, Some(more)) = (inner == operator && matches!(operator, Add | And), more) {
                let both = calculate(operator, more, constant).unwrap_or(0);
                let both = self.constant(both)?;
                return self.binary(operator, base, both);
            }
        }
        self.add(Value::Binary(operator, left, right))
    }

    /// An upper bound of a value.
    pub(crate) fn max(&self, id: Id) -> u32 {
        match self.get(id) {
            Value::Constant(constant) => constant,
            Value::Load { size: 1, .. } => 0xff,
            Value::Load { size: 2, .. } => 0xffff,
            Value::HeaderLength(_) => 60,
            Value::Chain { .. } => 1,
            Value::Binary(Operator::And, _, mask) => self.constant_of(mask).unwrap_or(u32::MAX),
            _ => u32::MAX,
        }
    }

    /// Whether every number up to the bound is possible, so that the bound has only ones.
    fn is_ones(&self, id: Id) -> bool {
        self.max(id).checked_add(1).is_none_or(u32::is_power_of_two)
    }
}

/// The result of an operator, as the kernel calculates it; `None` for a division by 0.
pub(crate) fn calculate(operator: Operator, left: u32, right: u32) -> Option<u32> {
    Some(match operator {
        Operator::Add => left.wrapping_add(right),
        Operator::Subtract => left.wrapping_sub(right),
        Operator::Multiply => left.wrapping_mul(right),
        Operator::Divide => left.checked_div(right)?,
        Operator::Remainder => left.checked_rem(right)?,
        Operator::And => left & right,
        Operator::Or => left | right,
        Operator::Xor => left ^ right,
        Operator::ShiftLeft => left.wrapping_shl(right),
        Operator::ShiftRight => left.wrapping_shr(right),
    })
}
