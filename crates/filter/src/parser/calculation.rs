//! Comparisons of calculations, such as `tcp[13] & 2 != 0`.
//!
//! Calculations become steps of a stack machine. `%` and `^` have no precedence in libpcap's grammar: everything
//! that follows belongs to their right side. Source: the grammar of libpcap.

use super::{Parser, fault, left_out, protocol_of};
use crate::ast::{Calculation, Comparison, Operator, Primitive, Protocol, Span, Step};
use crate::error::{Error, Problem};
use crate::lexer::{Token, Word};

impl Parser<'_> {
    /// Whether the parenthesis here belongs to a calculation: an operator of calculations or of
    /// comparisons follows the one that closes it.
    pub(super) fn is_calculation(&self) -> bool {
        let mut open = 0_usize;
        for at in self.at..self.words.len() {
            if self.is_at(at, "(") {
                open += 1;
            } else if self.is_at(at, ")") {
                open -= 1;
            }
            if open == 0 {
                return self.is_operator(at + 1);
            }
        }
        false
    }

    fn is_operator(&self, at: usize) -> bool {
        let word = self.words.get(at).map(|token| token.word);
        matches!(word, Some(Word::Symbol(symbol))
            if binary(symbol).is_some() || comparison(symbol).is_some())
    }

    /// Whether a comparison of calculations begins here.
    pub(super) fn begins_calculation(&self) -> bool {
        let word = self.peek().map(|token| token.word);
        match word {
            Some(Word::Symbol("(" | "-") | Word::Name("len" | "length")) => true,
            Some(Word::Name(_)) => self.is_at(self.at + 1, "["),
            Some(Word::Number(_)) => self.is_operator(self.at + 1),
            _ => false,
        }
    }

    pub(super) fn relation(&mut self) -> Result<Primitive, Error> {
        let mut left = Calculation::new();
        self.calculation(0, &mut left)?;
        let symbol = match self.peek().map(|token| token.word) {
            Some(Word::Symbol(symbol)) => comparison(symbol),
            _ => None,
        };
        let Some(comparison) = symbol else {
            return self.error(Problem::MissingComparison, Problem::MissingComparison);
        };
        self.at += 1;
        let mut right = Calculation::new();
        self.calculation(0, &mut right)?;
        Ok(Primitive::Relation {
            left,
            comparison,
            right,
        })
    }

    /// A calculation whose operators bind at least as strongly as `binding`.
    fn calculation(&mut self, binding: u8, steps: &mut Calculation) -> Result<(), Error> {
        self.enter()?;
        self.value(steps)?;
        while let Some(Word::Symbol(symbol)) = self.peek().map(|token| token.word) {
            let Some((operator, strength)) = binary(symbol) else {
                break;
            };
            if strength != NO_PRECEDENCE && strength < binding {
                break;
            }
            let span = self.span();
            self.at += 1;
            let right = if strength == NO_PRECEDENCE {
                0
            } else {
                strength + 1
            };
            self.calculation(right, steps)?;
            steps.push(Step::Binary(operator, span));
        }
        self.depth -= 1;
        Ok(())
    }

    /// A number, the length, an access, a negation, or a calculation in parentheses.
    fn value(&mut self, steps: &mut Calculation) -> Result<(), Error> {
        let Some(token) = self.peek() else {
            return self.error(Problem::MissingValue, Problem::MissingValue);
        };
        self.at += 1;
        match token.word {
            Word::Number(number) => steps.push(Step::Number(number)),
            Word::Name("len" | "length") => steps.push(Step::Length),
            Word::Symbol("-") => {
                self.calculation(STRONGEST, steps)?;
                steps.push(Step::Negate);
            }
            Word::Symbol("(") => {
                self.calculation(0, steps)?;
                if !self.take(")") {
                    return Err(fault(token, Problem::NotClosed));
                }
            }
            Word::Name(_) if self.is("[") => self.access(token, steps)?,
            _ => return Err(fault(token, Problem::WrongValue("calculation"))),
        }
        Ok(())
    }

    fn access(&mut self, token: &Token<'_>, steps: &mut Calculation) -> Result<(), Error> {
        let Some(protocol) = protocol_of(token) else {
            let reason = left_out(token).map_or(Problem::NotAPrimitive, Problem::LeftOut);
            return Err(fault(token, reason));
        };
        if matches!(protocol, Protocol::Ah | Protocol::Esp) {
            return Err(fault(token, Problem::NoAccess(protocol.word())));
        }
        let span = Span {
            offset: token.offset,
            word: token.text.to_owned(),
        };
        self.at += 1;
        self.calculation(0, steps)?;
        let size = if self.take(":") {
            match self.peek().map(|token| token.word) {
                Some(Word::Number(size @ (1 | 2 | 4))) => {
                    self.at += 1;
                    u8::try_from(size).unwrap_or(1)
                }
                _ => return self.error(Problem::BadSize, Problem::BadSize),
            }
        } else {
            1
        };
        if !self.take("]") {
            return self.error(Problem::BracketNotClosed, Problem::BracketNotClosed);
        }
        steps.push(Step::Access {
            protocol,
            size,
            span,
        });
        Ok(())
    }
}

/// Stronger than every operator.
const STRONGEST: u8 = 6;
/// Of an operator without a precedence.
const NO_PRECEDENCE: u8 = u8::MAX;

/// An operator of calculations, and how strongly it binds.
fn binary(symbol: &str) -> Option<(Operator, u8)> {
    Some(match symbol {
        "|" => (Operator::Or, 1),
        "&" => (Operator::And, 2),
        "<<" => (Operator::ShiftLeft, 3),
        ">>" => (Operator::ShiftRight, 3),
        "+" => (Operator::Add, 4),
        "-" => (Operator::Subtract, 4),
        "*" => (Operator::Multiply, 5),
        "/" => (Operator::Divide, 5),
        "%" => (Operator::Remainder, NO_PRECEDENCE),
        "^" => (Operator::Xor, NO_PRECEDENCE),
        _ => return None,
    })
}

fn comparison(symbol: &str) -> Option<Comparison> {
    Some(match symbol {
        "=" => Comparison::Equal,
        "!=" => Comparison::NotEqual,
        "<" => Comparison::Less,
        "<=" => Comparison::AtMost,
        ">" => Comparison::Greater,
        ">=" => Comparison::AtLeast,
        _ => return None,
    })
}
