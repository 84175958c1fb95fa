//! The declaration of metrics: each once, with its name, its kind, its help, its labels, and where its value is.
//!
//! In: constants of a program. Out: what [`Catalog::text`] and [`Catalog::markdown`] are made of. `S` is the value that is
//! known at a request; a metric has only functions from it to numbers, so all numbers of an answer belong together.
//!
//! Neighbours with one name are one family, and have the same kind and help.

use std::ops::Add;

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows. Its full name ends with `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
    /// The distribution of a quantity.
    Histogram,
}

/// The value of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A count.
    Whole(u64),
    /// A quantity in a base unit, such as seconds.
    Real(f64),
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

impl From<bool> for Number {
    fn from(is_true: bool) -> Self {
        Self::Whole(is_true.into())
    }
}

/// A distribution: how many observations are at most each bound, and above all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Upper bounds, growing, and how many observations are in each, not in those below it.
    pub buckets: Vec<(f64, u64)>,
    /// How many observations are above all bounds.
    pub above: u64,
    /// The sum of all observations.
    pub sum: f64,
}

impl Histogram {
    /// How many observations there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        let within = self.buckets.iter().map(|(_, count)| *count);
        within.fold(self.above, u64::add)
    }
}

/// The values of labels, in the order of their names, and a number.
pub type Labelled = (Vec<String>, Number);

/// Where the samples of a metric are.
#[derive(Debug)]
pub enum Samples<S: 'static> {
    /// One, with fixed labels.
    One(&'static [(&'static str, &'static str)], fn(&S) -> Number),
    /// One, if it is known.
    Maybe(fn(&S) -> Option<Number>),
    /// One for each value of a label. There are as many numbers as values.
    Each {
        /// The label.
        label: &'static str,
        /// Its values.
        values: fn() -> Vec<&'static str>,
        /// The numbers, in the order of the values.
        numbers: fn(&S) -> Vec<u64>,
    },
    /// Any, with the values of labels that are known only now. Who declares it bounds their number and their length.
    Many(&'static [&'static str], fn(&S) -> Vec<Labelled>),
    /// A distribution.
    Distribution(fn(&S) -> Histogram),
}

/// One metric, or one of several with the same name and other labels.
#[derive(Debug)]
pub struct Metric<S: 'static> {
    /// Its name, without the prefix and without `_total`.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// What it is, as a sentence.
    pub help: &'static str,
    /// Its samples.
    pub samples: Samples<S>,
}

impl<S> Metric<S> {
    const fn new(kind: Kind, name: &'static str, help: &'static str, samples: Samples<S>) -> Self {
        Self {
            name,
            kind,
            help,
            samples,
        }
    }

    /// A metric with one value.
    #[must_use]
    pub const fn one(
        kind: Kind,
        name: &'static str,
        help: &'static str,
        get: fn(&S) -> Number,
    ) -> Self {
        Self::new(kind, name, help, Samples::One(&[], get))
    }

    /// A metric with one value that may be unknown.
    #[must_use]
    pub const fn maybe(
        kind: Kind,
        name: &'static str,
        help: &'static str,
        get: fn(&S) -> Option<Number>,
    ) -> Self {
        Self::new(kind, name, help, Samples::Maybe(get))
    }

    /// A metric with a value for each value of a label, which are as many as the numbers.
    #[must_use]
    pub const fn each(
        kind: Kind,
        name: &'static str,
        (label, values): (&'static str, fn() -> Vec<&'static str>),
        help: &'static str,
        numbers: fn(&S) -> Vec<u64>,
    ) -> Self {
        Self::new(
            kind,
            name,
            help,
            Samples::Each {
                label,
                values,
                numbers,
            },
        )
    }

    /// A metric with a value for each of some labels.
    #[must_use]
    pub const fn many(
        kind: Kind,
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        get: fn(&S) -> Vec<Labelled>,
    ) -> Self {
        Self::new(kind, name, help, Samples::Many(labels, get))
    }
}

/// All metrics of a program.
#[derive(Debug)]
pub struct Catalog<S: 'static> {
    /// In front of all names.
    pub prefix: &'static str,
    /// The metrics; those with one name are neighbours.
    pub metrics: &'static [Metric<S>],
}

impl<S> Catalog<S> {
    /// Metrics with one name.
    pub(crate) fn families(&self) -> impl Iterator<Item = (&Metric<S>, &[Metric<S>])> {
        let families = self.metrics.chunk_by(|one, other| one.name == other.name);
        families.filter_map(|family| Some((family.first()?, family)))
    }
}
