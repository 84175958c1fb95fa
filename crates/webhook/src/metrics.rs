//! What the webhook counts, and its text for Prometheus.
//!
//! In: outcomes of requests and the state of connections. Out: the text of `/metrics`, in the exposition format
//! 0.0.4. All names and labels are fixed, so no client can make the text longer.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::Kind::{Counter, Gauge};
use metrics::{Catalog, Metric, Number};

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

    /// The text of `/metrics`; `expiry` is the end of the certificate in seconds since 1970, `open` the number of
    /// connections.
    pub(crate) fn text(
        &self,
        expiry: Option<i64>,
        open: usize,
    ) -> std::result::Result<String, fmt::Error> {
        let read = |counters: &[AtomicU64]| -> Vec<u64> {
            let counters = counters.iter();
            counters
                .map(|counter| counter.load(Ordering::Relaxed))
                .collect()
        };
        CATALOG.text(&Scrape {
            requests: read(&self.requests),
            connections: self.connections.load(Ordering::Relaxed),
            closed: read(&self.closed),
            open: open as u64,
            expiry: expiry.and_then(|time| u64::try_from(time).ok()),
        })
    }
}

/// The numbers at one time.
struct Scrape {
    requests: Vec<u64>,
    connections: u64,
    closed: Vec<u64>,
    open: u64,
    expiry: Option<u64>,
}

const CATALOG: Catalog<Scrape> = Catalog {
    prefix: "podspan_webhook",
    metrics: &[
        Metric::each(
            Counter,
            "requests",
            ("result", || RESULTS.map(|(_, name)| name).to_vec()),
            "Requests of API servers, by what became of them.",
            |scrape| scrape.requests.clone(),
        ),
        Metric::one(
            Counter,
            "connections",
            "Connections to the HTTPS port.",
            |scrape| scrape.connections.into(),
        ),
        Metric::each(
            Counter,
            "connections_closed",
            ("reason", || REASONS.map(|(_, name)| name).to_vec()),
            "Connections that the webhook closed: the TLS handshake failed, no request came in time, or there were too \
             many.",
            |scrape| scrape.closed.clone(),
        ),
        Metric::one(
            Gauge,
            "connections",
            "Open connections to the HTTPS port.",
            |scrape| scrape.open.into(),
        ),
        Metric::maybe(
            Gauge,
            "certificate_expiry_timestamp_seconds",
            "When the certificate expires; absent without one.",
            |scrape| scrape.expiry.map(Number::from),
        ),
        Metric::many(Gauge, "info", &["version"], "The version.", |_| {
            vec![(vec![env!("CARGO_PKG_VERSION").to_owned()], true.into())]
        }),
    ],
};

fn increment(counters: &[AtomicU64], place: Option<usize>) {
    if let Some(counter) = place.and_then(|place| counters.get(place)) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use testbed::Exposition;

    use super::*;

    #[test]
    fn each_sample_follows_its_help_and_type_and_has_a_number() {
        let metrics = Metrics::default();
        metrics.count(Result::Busy);
        metrics.count(Result::Busy);
        metrics.count_closed(Closed::Evicted);
        let text = metrics.text(Some(1_800_000_000), 3).unwrap();
        let read = Exposition::read(&text);
        read.assert_whole();
        read.assert_has(&[
            "podspan_webhook_requests_total{result=\"busy\"} 2",
            "podspan_webhook_requests_total{result=\"injected\"} 0",
            "podspan_webhook_connections_closed_total{reason=\"evicted\"} 1",
            "podspan_webhook_connections 3",
            "podspan_webhook_certificate_expiry_timestamp_seconds 1800000000",
        ]);
        assert!(!metrics.text(None, 0).unwrap().contains("expiry"));
    }
}
