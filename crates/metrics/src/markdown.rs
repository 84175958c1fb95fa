//! The table of the metrics for the documents.
//!
//! In: a [`Catalog`]. Out: a table in Markdown with the names, labels and helps of all metrics. Labels with known
//! values have them.

use crate::catalog::{Catalog, Kind, Metric, Samples};

impl<S> Catalog<S> {
    /// The table.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut table = "| metric | labels | what it is |\n|-|-|-|\n".to_owned();
        for (first, family) in self.families() {
            let suffix = match first.kind {
                Kind::Counter => "_total",
                Kind::Gauge | Kind::Histogram => "",
            };
            let labels = labels(family);
            table.extend([
                "| `",
                self.prefix,
                "_",
                first.name,
                suffix,
                "` | ",
                &labels,
                " | ",
                first.help,
                " |\n",
            ]);
        }
        table
    }
}

fn labels<S>(family: &[Metric<S>]) -> String {
    let mut known = Vec::new();
    for metric in family {
        match metric.samples {
            Samples::One(labels, _) => known.extend(labels.iter().copied()),
            Samples::Each { label, values, .. } => {
                known.extend(values().into_iter().map(|value| (label, value)));
            }
            Samples::Many(names, _) => return code(names.iter().copied()),
            Samples::Maybe(_) | Samples::Distribution(_) => {}
        }
    }
    let Some((name, _)) = known.first() else {
        return String::new();
    };
    format!("`{name}`: {}", code(known.iter().map(|(_, value)| *value)))
}

fn code<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    let texts: Vec<_> = texts.map(|text| format!("`{text}`")).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOG: Catalog<()> = Catalog {
        prefix: "p",
        metrics: &[
            Metric {
                name: "frames",
                kind: Kind::Counter,
                help: "Frames.",
                samples: Samples::One(&[("of", "sent")], |()| 1.0.into()),
            },
            Metric {
                name: "frames",
                kind: Kind::Counter,
                help: "Frames.",
                samples: Samples::Each {
                    label: "of",
                    values: || vec!["one", "two"],
                    numbers: |()| vec![1, 2],
                },
            },
            Metric {
                name: "info",
                kind: Kind::Gauge,
                help: "Info.",
                samples: Samples::Many(&["version", "node"], |()| Vec::new()),
            },
            Metric {
                name: "age_seconds",
                kind: Kind::Gauge,
                help: "Age.",
                samples: Samples::Maybe(|()| None),
            },
        ],
    };

    #[test]
    fn known_values_of_labels_are_in_the_table() {
        assert_eq!(
            CATALOG.markdown(),
            "| metric | labels | what it is |\n\
             |-|-|-|\n\
             | `p_frames_total` | `of`: `sent`, `one`, `two` | Frames. |\n\
             | `p_info` | `version`, `node` | Info. |\n\
             | `p_age_seconds` |  | Age. |\n"
        );
    }
}
