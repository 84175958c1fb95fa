//! The words as primitives, and how they are joined.
//!
//! `and` and `or` bind equally, from the left; `not` binds to the next primitive. A value without
//! qualifiers has those of the last primitive that had some: `tcp port 80 or 443`. `%` and `^` have no
//! precedence in libpcap's grammar: everything that follows belongs to their right side. Source: the
//! grammar of libpcap, which pcap-filter(7) describes.

use crate::ast::{
    Calculation, Chain, Comparison, Direction, Join, Operand, OperandKind, Operator,
    PROTOCOL_WORDS, Primitive, Protocol, Span, Step,
};
use crate::error::{Error, Problem};
use crate::lexer::{Token, Word};
use crate::names;
use crate::primitive::{self, Kind, Qualifiers};

/// How deep parentheses are nested at most. It bounds every recursion of this crate.
pub(crate) const MAX_DEPTH: usize = 64;

/// Parses the words of `text`.
pub(crate) fn parse(text: &str, words: &[Token<'_>]) -> Result<Chain, Error> {
    let mut parser = Parser {
        words,
        at: 0,
        end: text.len(),
        depth: 0,
    };
    if words.is_empty() {
        return Ok(Chain::default());
    }
    let chain = parser.chain(&mut None)?;
    match parser.peek() {
        None => Ok(chain),
        Some(token) if token.word == Word::Symbol(")") => Err(fault(token, Problem::NotOpened)),
        Some(token) => Err(fault(token, Problem::MissingJoin)),
    }
}

fn fault(token: &Token<'_>, problem: Problem) -> Error {
    Error::new(token.offset, token.text, problem)
}

struct Parser<'a> {
    words: &'a [Token<'a>],
    at: usize,
    end: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token<'a>> {
        self.words.get(self.at)
    }

    /// Whether the next word is this word of the language.
    fn is(&self, text: &str) -> bool {
        self.is_at(self.at, text)
    }

    fn is_at(&self, at: usize, text: &str) -> bool {
        let word = self.words.get(at).map(|token| token.word);
        word == Some(Word::Name(text))
            || matches!(word, Some(Word::Symbol(symbol)) if symbol == text)
    }

    /// Takes the next word if it is this one.
    fn take(&mut self, text: &str) -> bool {
        let is = self.is(text);
        self.at += usize::from(is);
        is
    }

    /// An error at the next word, or at the end.
    fn error<T>(&self, problem: Problem, at_end: Problem) -> Result<T, Error> {
        Err(match self.peek() {
            Some(token) => fault(token, problem),
            None => Error::new(self.end, "", at_end),
        })
    }

    fn span(&self) -> Span {
        let token = self.peek();
        Span {
            offset: token.map_or(self.end, |token| token.offset),
            word: token.map_or("", |token| token.text).to_owned(),
        }
    }

    fn enter(&mut self) -> Result<(), Error> {
        if self.depth == MAX_DEPTH {
            return self.error(Problem::TooDeep(MAX_DEPTH), Problem::TooDeep(MAX_DEPTH));
        }
        self.depth += 1;
        Ok(())
    }

    /// A chain up to the end or a parenthesis that closes. `last` are the qualifiers that a value
    /// without its own has.
    fn chain(&mut self, last: &mut Option<Qualifiers>) -> Result<Chain, Error> {
        let mut chain = vec![(Join::And, self.operand(last)?)];
        loop {
            let join = match () {
                () if self.take("and") => Join::And,
                () if self.take("or") => Join::Or,
                () => return Ok(Chain(chain)),
            };
            chain.push((join, self.operand(last)?));
        }
    }

    fn operand(&mut self, last: &mut Option<Qualifiers>) -> Result<Operand, Error> {
        let mut negated = false;
        while self.take("not") {
            negated = !negated;
        }
        let kind = if self.is("(") && !self.is_calculation() {
            let open = self.at;
            self.enter()?;
            self.at += 1;
            let mut inner = *last;
            let chain = self.chain(&mut inner)?;
            if !self.take(")") {
                let Some(open) = self.words.get(open) else {
                    return self.error(Problem::NotClosed, Problem::NotClosed);
                };
                return match self.peek() {
                    Some(token) => Err(fault(token, Problem::MissingJoin)),
                    None => Err(fault(open, Problem::NotClosed)),
                };
            }
            self.depth -= 1;
            OperandKind::Group(chain)
        } else {
            let span = self.span();
            OperandKind::Primitive(self.primitive(last)?, span)
        };
        Ok(Operand { negated, kind })
    }

    /// Whether the parenthesis here belongs to a calculation: an operator of calculations or of
    /// comparisons follows the one that closes it.
    fn is_calculation(&self) -> bool {
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

    fn primitive(&mut self, last: &mut Option<Qualifiers>) -> Result<Primitive, Error> {
        let Some(token) = self.peek() else {
            return self.error(Problem::MissingPrimitive, Problem::MissingPrimitive);
        };
        if matches!(token.word, Word::Name("and" | "or")) {
            return Err(fault(token, Problem::MissingPrimitive));
        }
        if self.begins_calculation() {
            *last = None;
            return self.relation();
        }
        if let Word::Name(name) = token.word {
            if let Some(found) = self.special(name)? {
                *last = None;
                return Ok(found);
            }
            if let Some(reason) = left_out(token) {
                return Err(fault(token, Problem::LeftOut(reason)));
            }
        }
        let (protocol, begins) = self.qualifiers()?;
        match (protocol, begins) {
            (Some(protocol), None) => {
                *last = None;
                self.protocol_alone(protocol, token)
            }
            (_, Some(qualifiers)) => {
                *last = Some(qualifiers);
                self.identifier(qualifiers)
            }
            (None, None) => match (*last, token.word) {
                (_, Word::Symbol(_)) => Err(fault(token, Problem::MissingPrimitive)),
                (None, _) => Err(fault(token, Problem::NotAPrimitive)),
                (Some(qualifiers), _) => self.identifier(qualifiers),
            },
        }
    }

    /// A protocol's word without qualifiers after it.
    fn protocol_alone(
        &mut self,
        protocol: Protocol,
        token: &Token<'_>,
    ) -> Result<Primitive, Error> {
        if self.take("broadcast") {
            return match protocol {
                Protocol::Ether => Ok(Primitive::Broadcast),
                Protocol::Ip => Err(fault(token, Problem::IpBroadcast)),
                other => Err(combination(token, other.word(), "broadcast")),
            };
        }
        if self.take("multicast") {
            return match protocol {
                Protocol::Ether | Protocol::Ip | Protocol::Ip6 => {
                    Ok(Primitive::Multicast(Some(protocol)))
                }
                other => Err(combination(token, other.word(), "multicast")),
            };
        }
        if protocol == Protocol::Ether {
            let left_out = self
                .peek()
                .and_then(|token| Some((token, left_out(token)?)));
            if let Some((token, reason)) = left_out {
                return Err(fault(token, Problem::LeftOut(reason)));
            }
            return self.error(Problem::WrongValue("ether"), Problem::MissingValue);
        }
        Ok(Primitive::Protocol(protocol))
    }

    /// Primitives that are one word, or a word and a number.
    fn special(&mut self, name: &str) -> Result<Option<Primitive>, Error> {
        let before = self.at;
        self.at += 1;
        Ok(Some(match name {
            "broadcast" => Primitive::Broadcast,
            "multicast" => Primitive::Multicast(None),
            "inbound" => Primitive::Outgoing(false),
            "outbound" => Primitive::Outgoing(true),
            "less" => Primitive::AtMost(self.required_number("less")?),
            "greater" => Primitive::AtLeast(self.required_number("greater")?),
            "vlan" => Primitive::Vlan(
                self.small_number("VLAN", 0xfff)?
                    .map(|number| u16::try_from(number).unwrap_or(u16::MAX)),
            ),
            "mpls" => Primitive::Mpls(self.small_number("MPLS label", 0xf_ffff)?),
            _ => {
                self.at = before;
                return Ok(None);
            }
        }))
    }

    fn required_number(&mut self, word: &'static str) -> Result<u32, Error> {
        match self.optional_number() {
            Some(number) => Ok(number),
            None => self.error(Problem::WrongValue(word), Problem::MissingValue),
        }
    }

    fn small_number(&mut self, what: &'static str, max: u32) -> Result<Option<u32>, Error> {
        let span = self.span();
        match self.optional_number() {
            Some(number) if number > max => Err(Error::new(
                span.offset,
                &span.word,
                Problem::TooLarge { what, max },
            )),
            number => Ok(number),
        }
    }

    fn optional_number(&mut self) -> Option<u32> {
        let Some(Word::Number(number)) = self.peek().map(|token| token.word) else {
            return None;
        };
        self.at += 1;
        Some(number)
    }

    /// The protocol, the direction and the type before a value. Without direction and type, the
    /// protocol may stand alone.
    fn qualifiers(&mut self) -> Result<(Option<Protocol>, Option<Qualifiers>), Error> {
        let protocol = self.peek().and_then(protocol_of);
        self.at += usize::from(protocol.is_some());
        let direction = self.direction()?;
        let kind = match () {
            () if self.take("host") => Some(Kind::Host),
            () if self.take("net") => Some(Kind::Net),
            () if self.take("port") => Some(Kind::Port),
            () if self.take("portrange") => Some(Kind::PortRange),
            () if direction.is_none() && self.take("proto") => Some(Kind::Proto),
            () if direction.is_none() && self.take("protochain") => Some(Kind::ProtoChain),
            () => None,
        };
        let some = direction.is_some() || kind.is_some();
        let qualifiers = Qualifiers {
            protocol,
            direction: direction.unwrap_or(Direction::Either),
            kind: kind.unwrap_or(Kind::Host),
        };
        Ok((protocol, some.then_some(qualifiers)))
    }

    fn direction(&mut self) -> Result<Option<Direction>, Error> {
        let (first, second) = match () {
            () if self.take("src") => (Direction::Source, "dst"),
            () if self.take("dst") => (Direction::Destination, "src"),
            () => return Ok(None),
        };
        let both = match () {
            () if self.is("or") => Direction::Either,
            () if self.is("and") => Direction::Both,
            () => return Ok(Some(first)),
        };
        self.at += 1;
        if self.take(second) {
            return Ok(Some(both));
        }
        self.error(Problem::MissingValue, Problem::MissingValue)
    }

    /// A value with these qualifiers.
    fn identifier(&mut self, qualifiers: Qualifiers) -> Result<Primitive, Error> {
        let Some(token) = self.peek() else {
            return self.error(Problem::MissingValue, Problem::MissingValue);
        };
        self.at += 1;
        let mut rest = None;
        if matches!(token.word, Word::V4(_) | Word::V6(_)) {
            let has_mask = self.is("mask");
            if self.is("/") || has_mask {
                self.at += 1;
                rest = self.peek();
                if rest.is_none() {
                    return self.error(Problem::MissingValue, Problem::MissingValue);
                }
                self.at += 1;
            }
        }
        primitive::of(qualifiers, token, rest)
    }

    /// Whether a comparison of calculations begins here.
    fn begins_calculation(&self) -> bool {
        let word = self.peek().map(|token| token.word);
        match word {
            Some(Word::Symbol("(" | "-") | Word::Name("len" | "length")) => true,
            Some(Word::Name(_)) => self.is_at(self.at + 1, "["),
            Some(Word::Number(_)) => self.is_operator(self.at + 1),
            _ => false,
        }
    }

    fn relation(&mut self) -> Result<Primitive, Error> {
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

fn combination(token: &Token<'_>, qualifier: &'static str, with: &'static str) -> Error {
    fault(token, Problem::Combination { qualifier, with })
}

/// Why this word is left out, if it is.
fn left_out(token: &Token<'_>) -> Option<&'static str> {
    let Word::Name(name) = token.word else {
        return None;
    };
    names::left_out(name)
}

fn protocol_of(token: &Token<'_>) -> Option<Protocol> {
    let Word::Name(name) = token.word else {
        return None;
    };
    let found = PROTOCOL_WORDS.iter().find(|(word, _)| *word == name);
    found.map(|(_, protocol)| *protocol)
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
