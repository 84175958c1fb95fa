//! `docs/observability.md`.
//!
//! In: the declarations of the metrics. Out: the document, with the table of all; a test compares the file on disk.

use crate::status::CATALOG;

/// The text of `docs/observability.md`.
#[must_use]
pub fn markdown() -> String {
    [INTRODUCTION, &CATALOG.markdown(), SUMS].concat()
}

const INTRODUCTION: &str = "\
# Observability

<!-- Generated from crates/agent/src/observability.rs and crates/agent/src/status/catalog.rs. After a change there:
     cargo run -p agent -- --metrics-markdown > docs/observability.md -->

podspan serves four pages by HTTP at the address in [`METRICS`](configuration.md), by default at port 9469 of all of
the pod's addresses:

| page | what it is |
|-|-|
| `/metrics` | the metrics below, in the text format of Prometheus |
| `/status` | the same and more as one JSON object: the filter's text, why nothing is mirrored, each sensor |
| `/livez` | 200 while the thread that mirrors makes progress. 503 if it has made none for 10 s although it has work; a restart can help then |
| `/readyz` | `ok`, or a line for each reason why nothing, or not everything, can be mirrored. With `READY=strict` the code is 503 then, with `READY=lenient`, the default, 200 |

The reasons are: `idle after a failure: ...` (with `ON_FAILURE=idle`), `not bound: eth0 does not exist` or another state
of an interface, `no sensor is usable: ...`, and a stuck thread. A sensor that fails and is the only one counts as
usable, because podspan goes on sending to it.

After a start that failed with `ON_FAILURE=idle`, the pages are there too: `podspan_idle` is 1 then. If `METRICS` itself
is wrong, there are no pages.

If the application has the port, podspan mirrors all the same. The log names `METRICS`, the address and the error once,
and podspan tries again once a minute. Injection does not look at the ports of the application: choose another port by
the annotation `podspan.dev/metrics`.

Anybody who reaches the pod's address can read the pages. They have no packet and no key: addresses of sensors, names of
interfaces, node and pod, the filter's text, and numbers. `METRICS=127.0.0.1:9469` keeps them in the pod, and
`METRICS=off` switches them off. What a client can take is bounded: 32 connections at a time, of which a new one ends the
oldest, 5 s and one request for each, 8 KiB of head, and 1,000 new connections a second. All of it runs on the control
side's thread, so mirroring does not wait for it. Frames of scrapes on a captured interface are mirrored like all others,
unless [`FILTER`](filter.md) rejects them: `not tcp port 9469`.

## Scraping

podspan's container declares no port. Prometheus finds a container without ports all the same, so a PodMonitor of the
Prometheus operator selects the container by its name, and adds the port to the pod's address:

```yaml
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata:
  name: podspan
spec:
  selector: {}
  podMetricsEndpoints:
    - path: /metrics
      relabelings:
        - action: keep
          sourceLabels: [__meta_kubernetes_pod_container_name]
          regex: podspan
        - action: replace
          sourceLabels: [__meta_kubernetes_pod_ip]
          regex: (.+)
          targetLabel: __address__
          replacement: $1:9469
```

The address of an IPv6 pod needs brackets: `replacement: \"[$1]:9469\"`.

## Metrics

Names, labels and reasons are stable. The number of samples is bounded: at most 64 interfaces and 64 sensors are named,
and `podspan_sensors` counts all. A metric that is not known is absent.

";

const SUMS: &str = "
The sums are exact, while there is no traffic on each scrape, and under traffic but for the block that is being
processed:

- `podspan_ring_packets_total` = `podspan_frames_seen_total` + `podspan_ring_drops_total`, over all interfaces; the kernel's
  counters are read four times a second;
- `podspan_frames_seen_total` = `podspan_frames_mirrored_total` + `podspan_frames_dropped_total`, over all reasons;
- `podspan_datagrams_built_total` = `podspan_datagrams_sent_total` + `podspan_datagrams_dropped_total`, over all reasons.

The reasons are in [wire-truth.md](wire-truth.md#reasons-for-a-drop). The last line of the log has the same numbers
(`the_scraped_metrics_are_those_of_the_last_line_of_totals`).
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_on_disk_is_current() {
        let on_disk = include_str!("../../../docs/observability.md");
        assert!(
            on_disk == markdown(),
            "docs/observability.md is not current; run:\n\
             cargo run -p agent -- --metrics-markdown > docs/observability.md"
        );
    }
}
