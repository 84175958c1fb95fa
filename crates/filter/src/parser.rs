//! The words as primitives, and how they are joined.
//!
//! `and` and `or` bind equally, from the left; `not` binds to the next primitive. A value without
//! qualifiers has those of the last primitive that had some: `tcp port 80 or 443`. Qualifiers can also stand before
//! several values in parentheses, and before `not`: `port (80 or 443)`. Source: the grammar of libpcap, which
//! pcap-filter(7) describes.

mod calculation;

use crate::ast::{
    Chain, Direction, Join, Operand, OperandKind, PROTOCOL_WORDS, Primitive, Protocol, Span,
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
        while let Some(join) = self.join() {
            chain.push((join, self.operand(last)?));
        }
        Ok(Chain(chain))
    }

    fn join(&mut self) -> Option<Join> {
        match () {
            () if self.take("and") => Some(Join::And),
            () if self.take("or") => Some(Join::Or),
            () => None,
        }
    }

    fn operand(&mut self, last: &mut Option<Qualifiers>) -> Result<Operand, Error> {
        let negated = self.negations();
        let mut operand = if self.is("(") && !self.is_calculation() {
            let open = self.open()?;
            let mut inner = *last;
            let chain = self.chain(&mut inner)?;
            self.close(open)?;
            group(chain)
        } else {
            self.primitive(last)?
        };
        operand.negated ^= negated;
        Ok(operand)
    }

    /// Takes a parenthesis that opens.
    fn open(&mut self) -> Result<Option<&'a Token<'a>>, Error> {
        self.enter()?;
        self.at += 1;
        Ok(self.words.get(self.at - 1))
    }

    /// Takes the one that closes it.
    fn close(&mut self, open: Option<&Token<'_>>) -> Result<(), Error> {
        if self.take(")") {
            self.depth -= 1;
            return Ok(());
        }
        Err(match (self.peek(), open) {
            (Some(token), _) => fault(token, Problem::MissingJoin),
            (None, Some(open)) => fault(open, Problem::NotClosed),
            (None, None) => Error::new(self.end, "", Problem::NotClosed),
        })
    }

    /// Whether an odd number of `not` is next.
    fn negations(&mut self) -> bool {
        let mut negated = false;
        while self.take("not") {
            negated = !negated;
        }
        negated
    }

    fn primitive(&mut self, last: &mut Option<Qualifiers>) -> Result<Operand, Error> {
        let Some(token) = self.peek() else {
            return self.error(Problem::MissingPrimitive, Problem::MissingPrimitive);
        };
        if matches!(token.word, Word::Name("and" | "or")) {
            return Err(fault(token, Problem::MissingPrimitive));
        }
        let span = self.span();
        if self.begins_calculation() {
            *last = None;
            return self.relation().map(|found| single(found, span));
        }
        if let Word::Name(name) = token.word {
            if let Some(found) = self.special(name)? {
                *last = None;
                return Ok(single(found, span));
            }
            if let Some(reason) = left_out(token) {
                return Err(fault(token, Problem::LeftOut(reason)));
            }
        }
        let found = match (self.qualifiers()?, *last, token.word) {
            ((_, Some(qualifiers)), ..) => {
                *last = Some(qualifiers);
                return self.values(qualifiers, span);
            }
            ((Some(protocol), None), ..) => {
                *last = None;
                self.protocol_alone(protocol, token)
            }
            ((None, None), _, Word::Symbol(_)) => Err(fault(token, Problem::MissingPrimitive)),
            ((None, None), None, _) => Err(fault(token, Problem::NotAPrimitive)),
            ((None, None), Some(qualifiers), _) => self.identifier(qualifiers),
        };
        found.map(|found| single(found, span))
    }

    /// What follows qualifiers: a value, or values in parentheses, each perhaps negated. `span` is where the
    /// primitive begins.
    fn values(&mut self, qualifiers: Qualifiers, span: Span) -> Result<Operand, Error> {
        let negated = self.negations();
        let mut operand = if self.is("(") {
            let open = self.open()?;
            let mut chain = vec![(Join::And, self.values(qualifiers, span.clone())?)];
            while let Some(join) = self.join() {
                chain.push((join, self.values(qualifiers, span.clone())?));
            }
            self.close(open)?;
            group(Chain(chain))
        } else {
            single(self.identifier(qualifiers)?, span)
        };
        operand.negated ^= negated;
        Ok(operand)
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
}

const fn single(primitive: Primitive, span: Span) -> Operand {
    Operand {
        negated: false,
        kind: OperandKind::Primitive(primitive, span),
    }
}

const fn group(chain: Chain) -> Operand {
    Operand {
        negated: false,
        kind: OperandKind::Group(chain),
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
