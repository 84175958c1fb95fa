//! The text of `/metrics`, and the table of the documents.
//!
//! In: a [`Status`]. Out: all [`FIGURES`] in the text format of Prometheus, 0.0.4. All names and labels are fixed, so
//! nothing from the network makes the text longer.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tunnel::Refusal;

use crate::figures::{FIGURES, Figure, Kind, REASON, Value, values};
use crate::status::Status;

/// In front of all names.
const PREFIX: &str = "podspan_receive";
/// What the text is.
pub(crate) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// The text.
pub(crate) fn text(status: &Status) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Scrape(*status)));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Scrape(Status);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in families() {
            let Some(first) = family.first() else {
                continue;
            };
            let kind = match first.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let mut metric = encoder.encode_descriptor(first.name, first.help, None, kind)?;
            for (labels, value) in family.iter().flat_map(|figure| values(figure, &self.0)) {
                let sample = metric.encode_family(&labels)?;
                match first.kind {
                    Kind::Counter => ConstCounter::new(value).encode(sample)?,
                    Kind::Gauge => ConstGauge::new(value).encode(sample)?,
                }
            }
        }
        Ok(())
    }
}

/// Figures with one name.
fn families() -> impl Iterator<Item = &'static [Figure]> {
    FIGURES.chunk_by(|one, other| one.name == other.name)
}

/// The table of the metrics in docs/encryption.md.
#[must_use]
pub fn metrics_markdown() -> String {
    let mut table = "| metric | labels | what it is |\n|-|-|-|\n".to_owned();
    for family in families() {
        let Some(first) = family.first() else {
            continue;
        };
        let suffix = match first.kind {
            Kind::Counter => "_total",
            Kind::Gauge => "",
        };
        let labels = labels(family);
        table.extend([
            "| `", PREFIX, "_", first.name, suffix, "` | ", &labels, " | ", first.help, " |\n",
        ]);
    }
    table
}

fn labels(family: &[Figure]) -> String {
    let all = family.iter().flat_map(|figure| match figure.value {
        Value::One(_) => figure.labels.to_vec(),
        Value::Refused(_) => {
            let one = |reason: &Refusal| (REASON, reason.label());
            Refusal::ALL.iter().map(one).collect()
        }
    });
    let all: Vec<_> = all.collect();
    let Some((name, _)) = all.first() else {
        return String::new();
    };
    if *name == "version" {
        return format!("`{name}`");
    }
    let values: Vec<_> = all.iter().map(|(_, value)| format!("`{value}`")).collect();
    format!("`{name}`: {}", values.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::{Duration, SystemTime};

    use tunnel::Refusal;

    use super::*;
    use crate::keys::FileState;
    use crate::worker::Snapshot;

    fn status() -> Status {
        let mut work = Snapshot::default();
        work.totals.opened = 7;
        work.totals.refused.count(Refusal::Mac1);
        work.forward.send_error = 2;
        Status {
            work,
            peers_limit: 9,
            keys: FileState {
                keys: 2,
                read_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_001),
                failures: 3,
            },
            connections_evicted: 4,
        }
    }

    #[test]
    fn each_sample_follows_its_help_and_type_once_and_has_a_number() {
        let text = text(&status()).unwrap();
        let (mut family, mut families, mut samples) = ("", HashSet::new(), HashSet::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split(' ').next().unwrap();
                assert!(families.insert(family), "{family} is there twice");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, family);
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            } else {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(samples.insert(name), "{name} is there twice");
                assert_eq!(name.split('{').next().unwrap(), family);
                value.parse::<u64>().unwrap();
            }
        }
    }

    #[test]
    fn the_values_are_those_of_the_status() {
        let text = text(&status()).unwrap();
        for line in [
            "podspan_receive_opened_datagrams_total 7",
            "podspan_receive_dropped_datagrams_total{reason=\"queue_full\"} 0",
            "podspan_receive_dropped_datagrams_total{reason=\"send_error\"} 2",
            "podspan_receive_refused_datagrams_total{reason=\"mac1\"} 1",
            "podspan_receive_refused_datagrams_total{reason=\"replayed\"} 0",
            "podspan_receive_peers_limit 9",
            "podspan_receive_preshared_keys 2",
            "podspan_receive_preshared_keys_read_failures_total 3",
            "podspan_receive_preshared_keys_read_timestamp_seconds 1800000001",
            "podspan_receive_http_connections_evicted_total 4",
            concat!(
                "podspan_receive_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            ),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
