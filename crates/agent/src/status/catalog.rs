//! The metrics of podspan, each declared once. The text of `/metrics` and the table of docs/observability.md come from
//! the declaration.
//!
//! The sums are exact at each scrape while there is no traffic, and else but for a block:
//! - ring packets = frames seen + ring drops;
//! - frames seen = mirrored + dropped;
//! - datagrams built = sent + dropped.
//!
//! How many samples there are is bounded: reasons and states are fixed, interfaces and sensors are limited, and no label
//! has a text from the network.

use discovery::Contact;
use metrics::Kind::{Counter, Gauge, Histogram};
use metrics::{Catalog, Labelled, Metric, Number, Samples};
use mirror::totals::{DropReason, Dropped, Totals};

use super::{ContactStatus, InterfaceStatus, Status, seconds};
use crate::sensors::status::SensorState;
use crate::work::{DATAGRAMS, Distribution, LATENCIES};

/// How many interfaces are described one by one.
const INTERFACES_MAX: usize = 64;
/// The most characters of a label's value.
const LABEL_MAX: usize = 253;

/// A metric with one value.
const fn one(
    kind: metrics::Kind,
    name: &'static str,
    help: &'static str,
    get: fn(&Status) -> Number,
) -> Metric<Status> {
    Metric {
        name,
        kind,
        help,
        samples: Samples::One(&[], get),
    }
}

/// A metric with one value that may be unknown.
const fn maybe(
    kind: metrics::Kind,
    name: &'static str,
    help: &'static str,
    get: fn(&Status) -> Option<Number>,
) -> Metric<Status> {
    Metric {
        name,
        kind,
        help,
        samples: Samples::Maybe(get),
    }
}

/// A metric with a value for each of some labels.
const fn many(
    kind: metrics::Kind,
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    get: fn(&Status) -> Vec<Labelled>,
) -> Metric<Status> {
    Metric {
        name,
        kind,
        help,
        samples: Samples::Many(labels, get),
    }
}

/// A counter for each [`DropReason`].
const fn by_reason(
    name: &'static str,
    help: &'static str,
    numbers: fn(&Status) -> Vec<u64>,
) -> Metric<Status> {
    let samples = Samples::Each {
        label: "reason",
        values: || DropReason::ALL.map(DropReason::label).to_vec(),
        numbers,
    };
    Metric {
        name,
        kind: Counter,
        help,
        samples,
    }
}

/// All metrics.
pub(crate) const CATALOG: Catalog<Status> = Catalog {
    prefix: "podspan",
    metrics: &[
        many(
            Gauge,
            "info",
            &["version", "vni", "node", "pod", "namespace"],
            "Always 1; the labels say which podspan this is, empty where it is not known.",
            info,
        ),
        one(
            Gauge,
            "idle",
            "1 after a start that failed, with ON_FAILURE=idle: nothing is mirrored.",
            |status| status.idle.is_some().into(),
        ),
        one(
            Gauge,
            "problems",
            "How many reasons /readyz gives why nothing, or not everything, can be mirrored.",
            |status| (status.problems().len() as u64).into(),
        ),
        many(
            Counter,
            "ring_packets",
            &["interface"],
            "Frames that passed the filter, with those that were dropped.",
            |status| by_interface(status, |interface| interface.ring.totals.packets.into()),
        ),
        many(
            Counter,
            "ring_drops",
            &["interface"],
            "Frames for which the ring had no room.",
            |status| by_interface(status, |interface| interface.ring.totals.drops.into()),
        ),
        maybe(
            Gauge,
            "ring_size_bytes",
            "The size of the ring of each interface.",
            |status| status.ring_size.map(Number::from),
        ),
        maybe(
            Gauge,
            "ring_blocks",
            "The number of blocks of the ring of each interface.",
            |status| status.ring_blocks.map(Number::from),
        ),
        many(
            Gauge,
            "ring_closed_blocks_max",
            &["interface"],
            "The most blocks that waited to be read in the last one to two minutes; scrapes do not reset it. Frames are \
             lost when it reaches ring_blocks.",
            |status| by_interface(status, |interface| interface.ring.most_blocks.into()),
        ),
        many(
            Gauge,
            "interface_state",
            &["interface", "state"],
            "1 for the state of each interface: captured, down, missing, unsupported or unknown.",
            interface_states,
        ),
        one(
            Counter,
            "frames_seen",
            "Frames read from the rings.",
            |status| totals(status).frames_seen.into(),
        ),
        one(
            Counter,
            "frames_mirrored",
            "Frames whose datagrams the kernel accepted, all of them.",
            |status| totals(status).frames_mirrored.into(),
        ),
        by_reason(
            "frames_dropped",
            "Frames that were not mirrored.",
            |status| reasons(&totals(status).frames_dropped),
        ),
        one(Counter, "datagrams_built", "Datagrams made.", |status| {
            totals(status).datagrams_built.into()
        }),
        one(
            Counter,
            "datagrams_sent",
            "Datagrams that the kernel accepted.",
            |status| totals(status).datagrams_sent.into(),
        ),
        by_reason(
            "datagrams_dropped",
            "Datagrams that were not sent.",
            |status| reasons(&totals(status).datagrams_dropped),
        ),
        one(
            Counter,
            "sent_bytes",
            "Bytes of the datagrams sent, from the VXLAN header or that of the tunnel on, without trailers.",
            |status| totals(status).bytes_sent.into(),
        ),
        one(
            Counter,
            "trailer_bytes",
            "Bytes of the trailers that were added to datagrams of one message.",
            |status| totals(status).trailer_bytes.into(),
        ),
        one(
            Counter,
            "messages_sent",
            "Messages in which the datagrams were sent: arguments of a system call, with one or more datagrams.",
            |status| totals(status).messages_sent.into(),
        ),
        Metric {
            name: "batch_datagrams",
            kind: Histogram,
            help: "Datagrams of each batch, which is sent at once.",
            samples: Samples::Distribution(|status| {
                let Distribution { counts, above, sum } = status.snapshot.work.datagrams;
                let bounds = DATAGRAMS.into_iter().map(f64::from);
                metrics::Histogram {
                    buckets: bounds.zip(counts).collect(),
                    above,
                    sum: real(sum),
                }
            }),
        },
        Metric {
            name: "latency_seconds",
            kind: Histogram,
            help: "From the kernel's time of the oldest frame of a batch to the end of sending it; by the node's clock.",
            samples: Samples::Distribution(|status| {
                let Distribution { counts, above, sum } = status.snapshot.work.latency;
                let bounds = LATENCIES.into_iter().map(|micros| seconds(micros.into()));
                metrics::Histogram {
                    buckets: bounds.zip(counts).collect(),
                    above,
                    sum: seconds(sum),
                }
            }),
        },
        one(
            Gauge,
            "worker_late_seconds",
            "For how long the thread that mirrors has made no progress beyond what it had planned. Above 10, /livez fails.",
            |status| status.worker_late.as_secs_f64().into(),
        ),
        Metric {
            name: "sensors",
            kind: Gauge,
            help: "Listed sensors, by their state.",
            samples: Samples::Each {
                label: "state",
                values: || SensorState::ALL.map(SensorState::label).to_vec(),
                numbers: |status| status.sensors.by_state.to_vec(),
            },
        },
        many(
            Gauge,
            "sensor_state",
            &["sensor", "tunnel", "state"],
            "1 for the state of each sensor, by its address; of at most 64 sensors.",
            sensor_states,
        ),
        many(
            Gauge,
            "sensor_path_mtu_bytes",
            &["sensor"],
            "The MTU of the path to each sensor in use; of at most 64 sensors.",
            sensor_mtus,
        ),
        one(
            Counter,
            "sensor_changes",
            "How often the sensors in use have changed.",
            |status| status.sensors.changes.into(),
        ),
        many(
            Gauge,
            "filter",
            &["origin"],
            "1 for where the filter in force comes from: none, setting or annotation.",
            |status| {
                let origin = status.filter.origin.label().to_owned();
                vec![(vec![origin], true.into())]
            },
        ),
        one(
            Gauge,
            "mirroring_switched_off",
            "1 while podspan.dev/mirror is off.",
            |status| status.filter.is_off.into(),
        ),
        many(
            Gauge,
            "api_connected",
            &["watch"],
            "1 while the API server answers a watch: that on the sensors, or on podspan's own pod. Absent without one.",
            |status| by_watch(status, |contact| Some(contact.is_connected.into())),
        ),
        many(
            Gauge,
            "api_view_age_seconds",
            &["watch"],
            "How long ago the API server last said something about the pods. While it answers, about a minute at most.",
            |status| by_watch(status, |contact| Some(contact.age?.as_secs_f64().into())),
        ),
        many(
            Counter,
            "api_errors",
            &["watch", "kind"],
            "Failures of the API server, of the path to it, or of the credentials.",
            api_errors,
        ),
        maybe(
            Counter,
            "cpu_quota_periods",
            "Periods of the CPU quota in which the container ran; absent if it is not known.",
            |status| Some(status.throttling?.periods.into()),
        ),
        maybe(
            Counter,
            "cpu_quota_throttled_periods",
            "Those in which the quota was used up, so that podspan was stopped.",
            |status| Some(status.throttling?.throttled_periods.into()),
        ),
        maybe(
            Counter,
            "cpu_quota_throttled_seconds",
            "For how long, the sum of all processors.",
            |status| Some(status.throttling?.throttled.as_secs_f64().into()),
        ),
        maybe(
            Counter,
            "cpu_seconds",
            "CPU time of the process.",
            |status| status.usage.cpu.map(|cpu| cpu.as_secs_f64().into()),
        ),
        maybe(
            Gauge,
            "resident_memory_bytes",
            "Resident memory, with the rings, which are the kernel's memory, and the program's file.",
            |status| status.usage.resident.map(Number::from),
        ),
        maybe(
            Gauge,
            "anonymous_memory_bytes",
            "Resident memory without the rings and the program's file: most of what counts toward the container's memory limit.",
            |status| status.usage.anonymous.map(Number::from),
        ),
        one(
            Counter,
            "events_lost",
            "Events of the mirroring thread that were not read in time, so lines of the log are missing.",
            |status| status.events_lost.into(),
        ),
        one(
            Counter,
            "log_lines_dropped",
            "Lines of the log that were dropped because nobody reads standard error fast enough.",
            |status| status.log_lines_dropped.into(),
        ),
        one(
            Counter,
            "http_connections_evicted",
            "Connections to METRICS that were closed because there were too many.",
            |status| status.connections_evicted.into(),
        ),
    ],
};

const fn totals(status: &Status) -> &Totals {
    &status.snapshot.totals
}

fn reasons(dropped: &Dropped) -> Vec<u64> {
    DropReason::ALL.map(|reason| dropped.of(reason)).to_vec()
}

fn info(status: &Status) -> Vec<Labelled> {
    let text = |text: &Option<String>| -> String {
        let text = text.as_deref().unwrap_or_default();
        text.chars().take(LABEL_MAX).collect()
    };
    let identity = &status.identity;
    let labels = vec![
        env!("CARGO_PKG_VERSION").to_owned(),
        identity.vni.map(|vni| vni.to_string()).unwrap_or_default(),
        text(&identity.node),
        text(&identity.pod),
        text(&identity.namespace),
    ];
    vec![(labels, true.into())]
}

fn by_interface(status: &Status, get: fn(&InterfaceStatus) -> Number) -> Vec<Labelled> {
    let interfaces = status.interfaces.iter().take(INTERFACES_MAX);
    interfaces
        .map(|interface| (vec![interface.name.clone()], get(interface)))
        .collect()
}

/// The watches that there are, by their names.
fn watches(status: &Status) -> impl Iterator<Item = (&'static str, &ContactStatus)> {
    let all = [
        ("sensors", &status.sensors_api),
        ("own_pod", &status.own_pod_api),
    ];
    all.into_iter()
        .filter_map(|(watch, contact)| Some((watch, contact.as_ref()?)))
}

fn by_watch(status: &Status, get: fn(&ContactStatus) -> Option<Number>) -> Vec<Labelled> {
    watches(status)
        .filter_map(|(watch, contact)| Some((vec![watch.to_owned()], get(contact)?)))
        .collect()
}

fn api_errors(status: &Status) -> Vec<Labelled> {
    let of_watch = |(watch, contact): (&'static str, &ContactStatus)| {
        let failures = Contact::KINDS.into_iter().zip(contact.failures);
        failures.map(move |(kind, count)| (vec![watch.to_owned(), kind.to_owned()], count.into()))
    };
    watches(status).flat_map(of_watch).collect()
}

/// Sums are far below 2^53 here, where this is exact.
#[expect(
    clippy::cast_precision_loss,
    reason = "a sum above 2^53 may lose its last digits"
)]
const fn real(sum: u64) -> f64 {
    sum as f64
}

fn interface_states(status: &Status) -> Vec<Labelled> {
    let interfaces = status.interfaces.iter().take(INTERFACES_MAX);
    interfaces
        .map(|interface| {
            let state = interface.state.label().to_owned();
            (vec![interface.name.clone(), state], true.into())
        })
        .collect()
}

fn sensor_states(status: &Status) -> Vec<Labelled> {
    let sensors = status.sensors.named.iter();
    sensors
        .map(|sensor| {
            let labels = vec![
                sensor.address.to_string(),
                sensor.has_tunnel.to_string(),
                sensor.state.label().to_owned(),
            ];
            (labels, true.into())
        })
        .collect()
}

fn sensor_mtus(status: &Status) -> Vec<Labelled> {
    let sensors = status.sensors.named.iter();
    sensors
        .filter_map(|sensor| {
            let mtu = u64::from(sensor.path_mtu?.get());
            Some((vec![sensor.address.to_string()], mtu.into()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::cpu_quota::Throttling;
    use crate::interfaces::InterfaceState;
    use crate::published::{RingNumbers, RingTotals};
    use crate::sensors::status::SensorStatus;
    use crate::status::process::Usage;
    use crate::status::{Identity, Status};

    /// Everything is known, and there is much of it.
    fn status() -> Status {
        let mut status = Status {
            identity: Identity {
                vni: Some(7),
                node: Some("worker\"1\n".into()),
                pod: Some("p".repeat(10_000)),
                namespace: Some("shop".into()),
            },
            ring_size: Some(24 << 20),
            usage: Usage {
                cpu: Some(Duration::from_millis(1500)),
                resident: Some(3),
                anonymous: Some(2),
            },
            ring_blocks: Some(24),
            throttling: Some(Throttling {
                periods: 12,
                throttled_periods: 3,
                throttled: Duration::from_millis(500),
            }),
            sensors_api: Some(ContactStatus {
                is_connected: true,
                age: Some(Duration::from_millis(1250)),
                failures: [8; Contact::KINDS.len()],
            }),
            worker_late: Duration::from_millis(250),
            events_lost: 5,
            log_lines_dropped: 6,
            connections_evicted: 7,
            ..Status::default()
        };
        status.snapshot.totals.drop_frame(DropReason::Oversize);
        status.snapshot.totals.datagrams_sent = 9;
        status.snapshot.work.datagrams.counts = [1, 0, 2, 0, 0, 0];
        status.snapshot.work.latency.above = 1;
        status.snapshot.work.latency.sum = 2_500_000;
        status.interfaces = (0..1000)
            .map(|number| InterfaceStatus {
                name: format!("eth{number}"),
                state: InterfaceState::Down,
                ring: RingNumbers {
                    totals: RingTotals {
                        packets: 4,
                        drops: 3,
                    },
                    most_blocks: 11,
                },
            })
            .collect();
        status.sensors.by_state[SensorState::Ejected as usize] = 2;
        status.sensors.named = vec![SensorStatus {
            address: SocketAddr::from(([10, 0, 0, 1], 4789)),
            state: SensorState::Ejected,
            has_tunnel: false,
            path_mtu: Some(wire::Mtu::ETHERNET),
        }];
        status
    }

    #[test]
    fn each_sample_follows_its_help_and_type_once_and_all_metrics_are_there() {
        let text = CATALOG.text(&status()).unwrap();
        let (mut family, mut families, mut samples) =
            (String::new(), HashSet::new(), HashSet::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split(' ').next().unwrap().to_owned();
                assert!(families.insert(family.clone()), "{family} is there twice");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, family);
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            } else {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(samples.insert(name), "{name} is there twice");
                let suffixes = ["_bucket", "_sum", "_count", ""];
                let is_of = |suffix| format!("{family}{suffix}") == name.split('{').next().unwrap();
                assert!(suffixes.into_iter().any(is_of), "{line} in {family}");
                value.parse::<f64>().unwrap();
            }
        }
        for metric in CATALOG.metrics {
            let name = format!("podspan_{}", metric.name);
            let is_there =
                families.contains(&name) || families.contains(&(name.clone() + "_total"));
            assert!(is_there, "{name}");
        }
    }

    #[test]
    fn the_values_are_those_of_the_status() {
        let text = CATALOG.text(&status()).unwrap();
        for line in [
            "podspan_ring_packets_total{interface=\"eth63\"} 4",
            "podspan_ring_drops_total{interface=\"eth0\"} 3",
            "podspan_ring_size_bytes 25165824",
            "podspan_ring_blocks 24",
            "podspan_ring_closed_blocks_max{interface=\"eth0\"} 11",
            "podspan_batch_datagrams_bucket{le=\"4\"} 1",
            "podspan_batch_datagrams_bucket{le=\"16\"} 3",
            "podspan_latency_seconds_bucket{le=\"0.00025\"} 0",
            "podspan_latency_seconds_bucket{le=\"1\"} 0",
            "podspan_latency_seconds_bucket{le=\"+Inf\"} 1",
            "podspan_latency_seconds_sum 2.5",
            "podspan_latency_seconds_count 1",
            "podspan_api_connected{watch=\"sensors\"} 1",
            "podspan_api_view_age_seconds{watch=\"sensors\"} 1.25",
            "podspan_api_errors_total{watch=\"sensors\",kind=\"forbidden\"} 8",
            "podspan_cpu_quota_periods_total 12",
            "podspan_cpu_quota_throttled_periods_total 3",
            "podspan_cpu_quota_throttled_seconds_total 0.5",
            "podspan_interface_state{interface=\"eth0\",state=\"down\"} 1",
            "podspan_frames_seen_total 1",
            "podspan_frames_mirrored_total 0",
            "podspan_frames_dropped_total{reason=\"oversize\"} 1",
            "podspan_frames_dropped_total{reason=\"malformed\"} 0",
            "podspan_datagrams_sent_total 9",
            "podspan_worker_late_seconds 0.25",
            "podspan_sensors{state=\"ejected\"} 2",
            "podspan_sensors{state=\"in_use\"} 0",
            "podspan_sensor_state{sensor=\"10.0.0.1:4789\",tunnel=\"false\",state=\"ejected\"} 1",
            "podspan_sensor_path_mtu_bytes{sensor=\"10.0.0.1:4789\"} 1500",
            "podspan_filter{origin=\"none\"} 1",
            "podspan_cpu_seconds_total 1.5",
            "podspan_events_lost_total 5",
            "podspan_log_lines_dropped_total 6",
            "podspan_http_connections_evicted_total 7",
            "podspan_idle 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn the_text_is_bounded_and_no_foreign_text_adds_a_line() {
        let text = CATALOG.text(&status()).unwrap();
        assert!(text.len() < 64 << 10, "{}", text.len());
        assert!(!text.contains("eth64"));
        let info = text
            .lines()
            .find(|line| line.starts_with("podspan_info"))
            .unwrap();
        assert!(info.contains("node=\"worker\\\"1\\n\""), "{info}");
        assert!(info.len() < 1000);
    }
}
