//! The figures, each declared once: its name in the log and as a metric, and where it is in a [`Status`]. The log line,
//! the metrics and the table of docs/encryption.md come from the declaration.
//!
//! The sums are exact, in the log and on each scrape:
//! - received = opened + keepalives + handshakes + refused;
//! - opened = forwarded + dropped.

use std::time::SystemTime;

use metrics::{Catalog, Kind, Metric, Samples};
use tracing::info;
use tunnel::refusal::{Refusal, Refused};

use crate::status::Status;

/// Figures with one name are neighbours.
macro_rules! figures {
    (
        log_and_metric { $($key:ident $kind:ident $name:literal $({$label:ident: $text:literal})? $help:literal = $get:expr;)+ }
        by_reason { $each:ident $each_name:literal $each_help:literal = $each_get:expr; }
        metric_only { $($only_kind:ident $only_name:literal $only_help:literal = $only_get:expr;)+ }
    ) => {
        /// All figures as metrics.
        pub(crate) const CATALOG: Catalog<Status> = Catalog {
            prefix: "podspan_receive",
            metrics: &[
                $(Metric {
                    name: $name,
                    kind: Kind::$kind,
                    help: $help,
                    samples: Samples::One(
                        &[$((stringify!($label), $text))?],
                        |status| {
                            let get: fn(&Status) -> u64 = $get;
                            get(status).into()
                        },
                    ),
                },)+
                Metric::each(
                    Kind::Counter,
                    $each_name,
                    ("reason", || Refusal::ALL.iter().map(|reason| reason.label()).collect()),
                    $each_help,
                    |status| {
                        let get: fn(&Status) -> &Refused = $each_get;
                        let count = |reason: &Refusal| get(status).of(*reason);
                        Refusal::ALL.iter().map(count).collect()
                    },
                ),
                $(Metric::one(Kind::$only_kind, $only_name, $only_help, |status| {
                    let get: fn(&Status) -> u64 = $only_get;
                    get(status).into()
                }),)+
                Metric::many(
                    Kind::Gauge,
                    "build_info",
                    &["version"],
                    "Always 1; the label is the version.",
                    |_| vec![(vec![env!("CARGO_PKG_VERSION").to_owned()], true.into())],
                ),
            ],
        };

        /// Logs the figures.
        pub(crate) fn log(what: &'static str, status: &Status) {
            $(let $key: fn(&Status) -> u64 = $get;)+
            let $each: fn(&Status) -> &Refused = $each_get;
            info!($($key = $key(status),)+ $each = %reasons($each(status)), "{what}");
        }
    };
}

figures! {
    log_and_metric {
    peers Gauge "peers" "Podspans with a session." = |status| status.work.peers;
    sessions Gauge "sessions" "Sessions, with those that are half-open: a podspan has up to two." = |status| status.work.sessions;
    half_open Gauge "half_open_sessions" "Sessions that no datagram has confirmed yet." = |status| status.work.half_open;
    received Counter "received_datagrams" "Datagrams from the network." = |status| status.work.received.datagrams;
    received_bytes Counter "received_bytes" "Bytes of these datagrams." = |status| status.work.received.bytes;
    opened Counter "opened_datagrams" "Copies that were decrypted." = |status| status.work.totals.opened;
    opened_bytes Counter "opened_bytes" "Bytes of these copies, from the VXLAN header on." = |status| status.work.opened_bytes;
    forwarded Counter "forwarded_datagrams" "Copies that were given to the sensor." = |status| status.work.forward.forwarded;
    queue_full Counter "dropped_datagrams" {reason: "queue_full"} "Copies that were decrypted and not given to the sensor." = |status| status.work.forward.queue_full;
    send_error Counter "dropped_datagrams" {reason: "send_error"} "Copies that were decrypted and not given to the sensor." = |status| status.work.forward.send_error;
    overflowed Counter "overflowed_messages" "Messages that found a full receive buffer. One has up to 64 datagrams; they are in no other figure." = |status| status.work.overflowed;
    keepalives Counter "keepalives" "Datagrams of podspans without a copy." = |status| status.work.totals.keepalives;
    handshakes Counter "handshakes" "Initiations that were answered." = |status| status.work.totals.answered;
    peers_new Counter "sessions_confirmed" {of: "new_peer"} "Sessions that a podspan has confirmed, by whether it had one before." = |status| status.work.totals.peers_new;
    rekeyed Counter "sessions_confirmed" {of: "known_peer"} "Sessions that a podspan has confirmed, by whether it had one before." = |status| status.work.totals.rekeyed;
    older_key Counter "sessions_confirmed_with_older_key" "Those of them with the older one of two pre-shared keys. A podspan makes a session each two minutes: when this has not grown for five, all podspans have the newer key." = |status| status.work.totals.with_older_key;
    evicted Counter "half_open_sessions_evicted" "Half-open sessions that were removed early, to make room." = |status| status.work.totals.half_open_evicted;
    replies_failed Counter "replies_failed" "Answers and keepalives that the kernel refused. Podspans ask again." = |status| status.work.replies_failed;
    key_failures Counter "preshared_keys_read_failures" "How often the file of pre-shared keys could not be read, or was wrong; it is read twice a second." = |status| status.keys.failures;
    }

    by_reason {
    refused "refused_datagrams" "Datagrams that were not taken." = |status| &status.work.totals.refused;
    }

    metric_only {
    Gauge "peers_limit" "How many podspans there can be: PEERS on each of the THREADS." = |status| status.peers_limit;
    Gauge "preshared_keys" "Pre-shared keys in use; two during a rotation." = |status| status.keys.keys as u64;
    Gauge "preshared_keys_read_timestamp_seconds" "When the file of pre-shared keys was last read without an error." = |status| seconds(status.keys.read_at);
    Counter "http_connections_evicted" "Connections to METRICS that were closed because there were too many." = |status| status.connections_evicted;
    }
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// The table of the metrics in docs/encryption.md.
#[must_use]
pub fn metrics_markdown() -> String {
    CATALOG.markdown()
}

/// The reasons that occurred, such as `mac1=3 replayed=1`.
fn reasons(refused: &Refused) -> String {
    let reasons: Vec<_> = refused
        .iter()
        .map(|(reason, count)| format!("{reason}={count}"))
        .collect();
    if reasons.is_empty() {
        "0".to_owned()
    } else {
        reasons.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use testbed::Exposition;

    use super::*;
    use crate::keys::FileState;
    use crate::worker::Snapshot;

    #[test]
    fn refusals_are_shown_by_reason() {
        let mut refused = Refused::default();
        assert_eq!(reasons(&refused), "0");
        refused.count(Refusal::Mac1);
        refused.count(Refusal::Replayed);
        refused.count(Refusal::Replayed);
        assert_eq!(reasons(&refused), "replayed=2 mac1=1");
    }

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
        let text = CATALOG.text(&status()).unwrap();
        Exposition::read(&text).assert_whole();
    }

    #[test]
    fn the_values_are_those_of_the_status() {
        let text = CATALOG.text(&status()).unwrap();
        Exposition::read(&text).assert_has(&[
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
        ]);
    }
}
