//! The text of `/metrics`.
//!
//! In: a [`Catalog`], and what is known. Out: the text format of Prometheus, 0.0.4, by the crate `prometheus-client`, which
//! escapes the values of labels. A family without a sample is left out.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric as _, MetricEncoder, NoLabelSet, prometheus_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::catalog::{Catalog, Histogram, Kind, Metric, Number, Samples};

/// What the text is.
pub(crate) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

impl<S> Catalog<S> {
    /// The text of `/metrics`.
    ///
    /// # Errors
    /// None is known; the format's library has one in its signature.
    pub fn text(&self, known: &S) -> Result<String, fmt::Error> {
        let families = self.families().map(|(first, family)| Family {
            name: first.name,
            help: first.help,
            kind: first.kind,
            samples: family
                .iter()
                .flat_map(|metric| samples(metric, known))
                .collect(),
        });
        let mut registry = Registry::with_prefix(self.prefix);
        registry.register_collector(Box::new(Scrape(families.collect())));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// Numbers of one time.
#[derive(Debug)]
struct Scrape(Vec<Family>);

#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    samples: Vec<(Labels, Value)>,
}

type Labels = Vec<(&'static str, String)>;

#[derive(Debug)]
enum Value {
    Number(Number),
    Distribution(Histogram),
}

fn samples<S>(metric: &Metric<S>, known: &S) -> Vec<(Labels, Value)> {
    match metric.samples {
        Samples::One(labels, get) => {
            let labels = labels.iter().map(|(name, value)| (*name, (*value).into()));
            vec![(labels.collect(), Value::Number(get(known)))]
        }
        Samples::Maybe(get) => {
            let number = get(known).map(|number| (Labels::new(), Value::Number(number)));
            number.into_iter().collect()
        }
        Samples::Each {
            label,
            values,
            numbers,
        } => {
            let all = values().into_iter().zip(numbers(known));
            all.map(|(value, number)| (vec![(label, value.into())], Value::Number(number.into())))
                .collect()
        }
        Samples::Many(names, get) => {
            let all = get(known).into_iter();
            all.map(|(values, number)| {
                let labels = names.iter().copied().zip(values);
                (labels.collect(), Value::Number(number))
            })
            .collect()
        }
        Samples::Distribution(get) => vec![(Labels::new(), Value::Distribution(get(known)))],
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.0 {
            if family.samples.is_empty() {
                continue;
            }
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for (labels, value) in &family.samples {
                encode(family.kind, value, metric.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}

fn encode(kind: Kind, value: &Value, mut sample: MetricEncoder<'_>) -> fmt::Result {
    match (kind, value) {
        (Kind::Counter, Value::Number(Number::Whole(number))) => {
            ConstCounter::new(*number).encode(sample)
        }
        (Kind::Counter, Value::Number(Number::Real(number))) => {
            ConstCounter::new(*number).encode(sample)
        }
        (_, Value::Number(Number::Whole(number))) => ConstGauge::new(*number).encode(sample),
        (_, Value::Number(Number::Real(number))) => ConstGauge::new(*number).encode(sample),
        (_, Value::Distribution(histogram)) => sample.encode_histogram::<NoLabelSet>(
            histogram.sum,
            histogram.count(),
            &histogram.buckets,
            None,
        ),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Known {
        count: u64,
        unknown: Option<u64>,
        name: String,
    }

    const CATALOG: Catalog<Known> = Catalog {
        prefix: "podspan_test",
        metrics: &[
            Metric {
                name: "frames",
                kind: Kind::Counter,
                help: "Frames, by \\ what \"became\" of them.",
                samples: Samples::One(&[("of", "sent")], |known| known.count.into()),
            },
            Metric {
                name: "frames",
                kind: Kind::Counter,
                help: "Frames, by \\ what \"became\" of them.",
                samples: Samples::One(&[("of", "kept")], |_| Number::Real(0.5)),
            },
            Metric {
                name: "drops",
                kind: Kind::Counter,
                help: "Drops.",
                samples: Samples::Each {
                    label: "reason",
                    values: || vec!["one", "two"],
                    numbers: |known| vec![known.count, 2],
                },
            },
            Metric {
                name: "age_seconds",
                kind: Kind::Gauge,
                help: "An age, if it is known.",
                samples: Samples::Maybe(|known| known.unknown.map(Number::from)),
            },
            Metric {
                name: "up",
                kind: Kind::Gauge,
                help: "Whether it is up.",
                samples: Samples::Many(&["name", "kind"], |known| {
                    vec![(vec![known.name.clone(), "a".into()], true.into())]
                }),
            },
            Metric {
                name: "wait_seconds",
                kind: Kind::Histogram,
                help: "Waits.",
                samples: Samples::Distribution(|_| Histogram {
                    buckets: vec![(0.001, 3), (0.5, 4)],
                    above: 2,
                    sum: 1.25,
                }),
            },
        ],
    };

    fn text(name: &str) -> String {
        let known = Known {
            count: u64::MAX,
            unknown: None,
            name: name.into(),
        };
        CATALOG.text(&known).unwrap()
    }

    #[test]
    fn all_kinds_are_in_the_text_and_what_is_unknown_is_not() {
        assert_eq!(
            text("eth0"),
            "# HELP podspan_test_frames_total Frames, by \\\\ what \"became\" of them.\n\
             # TYPE podspan_test_frames_total counter\n\
             podspan_test_frames_total{of=\"sent\"} 18446744073709551615\n\
             podspan_test_frames_total{of=\"kept\"} 0.5\n\
             # HELP podspan_test_drops_total Drops.\n\
             # TYPE podspan_test_drops_total counter\n\
             podspan_test_drops_total{reason=\"one\"} 18446744073709551615\n\
             podspan_test_drops_total{reason=\"two\"} 2\n\
             # HELP podspan_test_up Whether it is up.\n\
             # TYPE podspan_test_up gauge\n\
             podspan_test_up{name=\"eth0\",kind=\"a\"} 1\n\
             # HELP podspan_test_wait_seconds Waits.\n\
             # TYPE podspan_test_wait_seconds histogram\n\
             podspan_test_wait_seconds_bucket{le=\"0.001\"} 3\n\
             podspan_test_wait_seconds_bucket{le=\"0.5\"} 7\n\
             podspan_test_wait_seconds_bucket{le=\"+Inf\"} 9\n\
             podspan_test_wait_seconds_sum 1.25\n\
             podspan_test_wait_seconds_count 9\n"
        );
    }

    proptest! {
        /// Read back as the format says: a label's value ends at the first quote without a backslash.
        #[test]
        fn any_text_in_a_label_stays_within_its_quotes(name in "(\\PC|[\n\r\t\"\\\\{},=])*") {
            let text = text(&name);
            let start = "podspan_test_up{name=\"";
            let line = text.split('\n').find_map(|line| line.strip_prefix(start)).unwrap();
            let (mut value, mut rest) = (String::new(), line.chars());
            while let Some(c) = rest.next().filter(|c| *c != '"') {
                value.push(match c {
                    '\\' => match rest.next().unwrap() {
                        'n' => '\n',
                        other => other,
                    },
                    other => other,
                });
            }
            prop_assert_eq!(value, name);
            prop_assert_eq!(rest.as_str(), ",kind=\"a\"} 1");
        }
    }
}
