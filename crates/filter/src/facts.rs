//! What is known about values on a path through the graph.
//!
//! A test that came out one way says something about its value: a range, numbers that it is or is not,
//! bits that are 0. Where paths meet, only what all of them know is kept.

use crate::values::{Compare, Id, Right, Test, Value, Values, calculate};

/// A few numbers, without order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Few {
    numbers: [u32; Self::MAX],
    count: usize,
}

impl Few {
    const MAX: usize = 8;

    fn one(number: u32) -> Self {
        let mut few = Self::default();
        few.add(number);
        few
    }

    fn all(&self) -> &[u32] {
        self.numbers.get(..self.count).unwrap_or(&[])
    }

    /// Adds a number; whether it is there now.
    fn add(&mut self, number: u32) -> bool {
        if self.all().contains(&number) {
            return true;
        }
        let Some(free) = self.numbers.get_mut(self.count) else {
            return false;
        };
        *free = number;
        self.count += 1;
        true
    }

    /// Adds a number, in the place of the oldest if there is none.
    fn add_latest(&mut self, number: u32) {
        if !self.add(number) {
            self.numbers.rotate_left(1);
            self.count -= 1;
            self.add(number);
        }
    }

    fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        let all = *self;
        *self = Self::default();
        for number in all.all().iter().filter(|number| keep(**number)) {
            self.add(*number);
        }
    }
}

/// What is known about one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fact {
    id: Id,
    low: u32,
    high: u32,
    /// Bits that are 0.
    zeros: u32,
    /// Numbers that it is not.
    not: Few,
    /// The numbers that it can be, if they are few.
    only: Option<Few>,
}

impl Fact {
    fn new(id: Id, values: &Values) -> Self {
        Self {
            id,
            low: 0,
            high: values.max(id),
            zeros: 0,
            not: Few::default(),
            only: None,
        }
    }

    /// What this and `other` both say.
    fn meet(&self, other: &Self) -> Self {
        let mut not = Few::default();
        for number in self.not.all() {
            if other.excludes(*number) {
                not.add_latest(*number);
            }
        }
        for number in other.not.all() {
            if self.excludes(*number) {
                not.add_latest(*number);
            }
        }
        let only = self.only.zip(other.only).and_then(|(mut only, more)| {
            more.all()
                .iter()
                .all(|number| only.add(*number))
                .then_some(only)
        });
        Self {
            id: self.id,
            low: self.low.min(other.low),
            high: self.high.max(other.high),
            zeros: self.zeros & other.zeros,
            not,
            only,
        }
    }

    fn excludes(&self, number: u32) -> bool {
        number < self.low
            || number > self.high
            || number & self.zeros != 0
            || self.not.all().contains(&number)
            || self.only.is_some_and(|only| !only.all().contains(&number))
    }

    /// Takes out of `only` what the rest excludes, and makes the range small.
    fn tighten(&mut self) {
        let rest = Self {
            only: None,
            ..*self
        };
        let Some(only) = &mut self.only else { return };
        only.retain(|number| !rest.excludes(number));
        let numbers = only.all();
        if let (Some(low), Some(high)) = (numbers.iter().min(), numbers.iter().max()) {
            (self.low, self.high) = (*low, *high);
        }
    }
}

/// What is known on a path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Sorted by value.
    facts: Vec<Fact>,
    /// Tests with results that a fact about one value cannot say.
    tests: Vec<(Test, bool)>,
}

impl Facts {
    /// About how many values facts are kept.
    const MAX: usize = 48;
    /// The facts about so many of the first values of the text are never dropped.
    const FIRST: usize = 16;

    fn find(&self, id: Id) -> Option<&Fact> {
        let at = self.facts.binary_search_by_key(&id, |fact| fact.id).ok()?;
        self.facts.get(at)
    }

    /// Adds what the result of a test says.
    pub(crate) fn learn(&mut self, test: Test, result: bool, values: &Values) {
        let Right::Constant(number) = test.right else {
            return self.remember(test, result);
        };
        let at = match self.facts.binary_search_by_key(&test.left, |fact| fact.id) {
            Ok(at) => at,
            Err(at) => {
                self.facts.insert(at, Fact::new(test.left, values));
                self.forget_beyond(at)
            }
        };
        let Some(fact) = self.facts.get_mut(at) else {
            return;
        };
        match (test.compare, result) {
            (Compare::Equal, true) => {
                (fact.low, fact.high) = (number, number);
                fact.only = Some(Few::one(number));
            }
            (Compare::Equal, false) if number == fact.low && fact.low < fact.high => fact.low += 1,
            (Compare::Equal, false) if number == fact.high && fact.low < fact.high => {
                fact.high -= 1;
            }
            (Compare::Equal, false) => fact.not.add_latest(number),
            (Compare::Greater, true) => fact.low = fact.low.max(number.saturating_add(1)),
            (Compare::Greater, false) => fact.high = fact.high.min(number),
            (Compare::AtLeast, true) => fact.low = fact.low.max(number),
            (Compare::AtLeast, false) => fact.high = fact.high.min(number.saturating_sub(1)),
            (Compare::AnyBit, true) => {
                fact.not.add_latest(0);
                self.remember(test, result);
                return;
            }
            (Compare::AnyBit, false) => fact.zeros |= number,
        }
        // A path that cannot be is no reason to calculate with a range that is not one.
        if fact.low > fact.high {
            (fact.low, fact.high) = (fact.high, fact.low);
        }
        fact.tighten();
    }

    /// Keeps the facts few. That at `at` stays, and its place is returned. The first values of a text are
    /// those that it comes back to: the frame's type and protocol.
    fn forget_beyond(&mut self, at: usize) -> usize {
        if self.facts.len() <= Self::MAX {
            return at;
        }
        let forgotten = if at == Self::FIRST {
            Self::FIRST + 1
        } else {
            Self::FIRST
        };
        self.facts.remove(forgotten);
        at - usize::from(forgotten < at)
    }

    fn remember(&mut self, test: Test, result: bool) {
        if !self.tests.iter().any(|(known, _)| *known == test) {
            self.tests.push((test, result));
        }
    }

    /// Keeps what `other` knows too.
    pub(crate) fn meet(&mut self, other: &Self) {
        let mut facts = Vec::with_capacity(self.facts.len().min(other.facts.len()));
        for fact in &self.facts {
            if let Some(same) = other.find(fact.id) {
                facts.push(fact.meet(same));
            }
        }
        self.facts = facts;
        self.tests.retain(|known| other.tests.contains(known));
    }

    /// The result of a test, if it is known.
    pub(crate) fn decide(&self, test: Test, values: &Values) -> Option<bool> {
        let known = self.tests.iter().find(|(known, _)| *known == test);
        match (known, test.right) {
            (Some((_, result)), _) => Some(*result),
            (None, Right::Constant(number)) => self.decide_constant(test, number, values),
            (None, Right::Value(_)) => None,
        }
    }

    fn decide_constant(&self, test: Test, number: u32, values: &Values) -> Option<bool> {
        let known = self.find(test.left).copied();
        let mut fact = known.unwrap_or_else(|| Fact::new(test.left, values));
        if let Some(exact) = self.exact(test.left, values) {
            (fact.low, fact.high) = (exact, exact);
        }
        let exact = (fact.low == fact.high).then_some(fact.low);
        match test.compare {
            Compare::Equal if fact.excludes(number) => Some(false),
            Compare::Equal => exact.map(|exact| exact == number),
            Compare::Greater if fact.low > number => Some(true),
            Compare::Greater if fact.high <= number => Some(false),
            Compare::AtLeast if fact.low >= number => Some(true),
            Compare::AtLeast if fact.high < number => Some(false),
            Compare::AnyBit if number & !fact.zeros == 0 => Some(false),
            Compare::AnyBit => exact.map(|exact| exact & number != 0),
            _ => None,
        }
    }

    /// The value as a number, if it is known.
    fn exact(&self, id: Id, values: &Values) -> Option<u32> {
        if let Some(fact) = self.find(id)
            && fact.low == fact.high
        {
            return Some(fact.low);
        }
        match values.get(id) {
            Value::Constant(number) => Some(number),
            Value::Negate(of) => self.exact(of, values).map(u32::wrapping_neg),
            Value::Binary(operator, left, right) => calculate(
                operator,
                self.exact(left, values)?,
                self.exact(right, values)?,
            ),
            _ => None,
        }
    }
}
