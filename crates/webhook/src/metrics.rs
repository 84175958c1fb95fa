//! What the webhook counts, and its text for Prometheus.
//!
//! In: outcomes of requests and the state of connections. Out: the text of `/metrics`, in the exposition format
//! 0.0.4. All names and labels are fixed, so no client can make the text longer.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Result {
    Injected,
    Unchanged,
    Refused,
    NotOptedIn,
    Unexpected,
    /// Not a review, or not at `/mutate`.
    Malformed,
    TooLarge,
    TooSlow,
    /// No memory was left for its body.
    Busy,
}

const RESULTS: [(Result, &str); 9] = [
    (Result::Injected, "injected"),
    (Result::Unchanged, "unchanged"),
    (Result::Refused, "refused"),
    (Result::NotOptedIn, "not_opted_in"),
    (Result::Unexpected, "unexpected"),
    (Result::Malformed, "malformed"),
    (Result::TooLarge, "too_large"),
    (Result::TooSlow, "too_slow"),
    (Result::Busy, "busy"),
];

/// Why a connection ended before its client ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    Handshake,
    NoRequest,
    Evicted,
}

const REASONS: [(Closed, &str); 3] = [
    (Closed::Handshake, "handshake"),
    (Closed::NoRequest, "no_request"),
    (Closed::Evicted, "evicted"),
];

/// The counters of the process.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: [AtomicU64; RESULTS.len()],
    connections: AtomicU64,
    closed: [AtomicU64; REASONS.len()],
}

impl Metrics {
    pub(crate) fn count(&self, result: Result) {
        increment(
            &self.requests,
            RESULTS.iter().position(|(one, _)| *one == result),
        );
    }

    pub(crate) fn count_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_closed(&self, reason: Closed) {
        increment(
            &self.closed,
            REASONS.iter().position(|(one, _)| *one == reason),
        );
    }

    /// The text; `expiry` is the end of the certificate in seconds since 1970, `open` the number of connections.
    pub(crate) fn text(&self, expiry: Option<i64>, open: usize) -> String {
        let mut text = String::new();
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed).to_string();
        let requests = RESULTS.iter().zip(&self.requests);
        let requests = requests.map(|((_, name), count)| (label("result", name), value(count)));
        let closed = REASONS.iter().zip(&self.closed);
        let closed = closed.map(|((_, name), count)| (label("reason", name), value(count)));
        let plain = |value: String| vec![(String::new(), value)];
        let families = [
            (
                "requests_total",
                "counter",
                "Requests of API servers, by what became of them.",
                requests.collect(),
            ),
            (
                "connections_total",
                "counter",
                "Connections to the HTTPS port.",
                plain(value(&self.connections)),
            ),
            (
                "connections_closed_total",
                "counter",
                "Connections that the webhook closed: the TLS handshake failed, no request came in time, or \
                 there were too many.",
                closed.collect(),
            ),
            (
                "connections",
                "gauge",
                "Open connections to the HTTPS port.",
                plain(open.to_string()),
            ),
            (
                "certificate_expiry_timestamp_seconds",
                "gauge",
                "When the certificate expires; absent without one.",
                expiry
                    .map(|time| (String::new(), time.to_string()))
                    .into_iter()
                    .collect(),
            ),
            (
                "info",
                "gauge",
                "The version.",
                vec![(label("version", env!("CARGO_PKG_VERSION")), "1".to_owned())],
            ),
        ];
        for (name, kind, help, samples) in families {
            let samples: Vec<_> = samples;
            if samples.is_empty() {
                continue;
            }
            // Writing to a `String` cannot fail.
            let _ = writeln!(
                text,
                "# HELP podspan_webhook_{name} {help}\n# TYPE podspan_webhook_{name} {kind}"
            );
            for (labels, value) in samples {
                let _ = writeln!(text, "podspan_webhook_{name}{labels} {value}");
            }
        }
        text
    }
}

fn increment(counters: &[AtomicU64], place: Option<usize>) {
    if let Some(counter) = place.and_then(|place| counters.get(place)) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn label(name: &str, value: &str) -> String {
    format!("{{{name}=\"{value}\"}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sample_follows_its_help_and_type_and_has_a_number() {
        let metrics = Metrics::default();
        metrics.count(Result::Busy);
        metrics.count(Result::Busy);
        metrics.count_closed(Closed::Evicted);
        let text = metrics.text(Some(1_800_000_000), 3);
        let mut family = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split(' ').next().unwrap();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, family);
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            } else {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert_eq!(name.split('{').next().unwrap(), family);
                value.parse::<u64>().unwrap();
            }
        }
        for line in [
            "podspan_webhook_requests_total{result=\"busy\"} 2",
            "podspan_webhook_requests_total{result=\"injected\"} 0",
            "podspan_webhook_connections_closed_total{reason=\"evicted\"} 1",
            "podspan_webhook_connections 3",
            "podspan_webhook_certificate_expiry_timestamp_seconds 1800000000",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(!metrics.text(None, 0).contains("expiry"));
    }
}
