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

/// A counter for each [`DropReason`].
const fn by_reason(
    name: &'static str,
    help: &'static str,
    numbers: fn(&Status) -> Vec<u64>,
) -> Metric<Status> {
    let reasons: fn() -> Vec<&'static str> = || DropReason::ALL.map(DropReason::label).to_vec();
    Metric::each(Counter, name, ("reason", reasons), help, numbers)
}

/// All metrics.
pub(crate) const CATALOG: Catalog<Status> = Catalog {
    prefix: "podspan",
    metrics: &[
        Metric::many(
            Gauge,
            "info",
            &["version", "vni", "node", "pod", "namespace"],
            "Always 1; the labels say which podspan this is, empty where it is not known.",
            info,
        ),
        Metric::one(
            Gauge,
            "idle",
            "1 after a start that failed, with ON_FAILURE=idle: nothing is mirrored.",
            |status| status.idle.is_some().into(),
        ),
        Metric::one(
            Gauge,
            "problems",
            "How many reasons /readyz gives why nothing, or not everything, can be mirrored.",
            |status| (status.problems().len() as u64).into(),
        ),
        Metric::many(
            Counter,
            "ring_packets",
            &["interface"],
            "Frames that passed the filter, with those that were dropped.",
            |status| by_interface(status, |interface| interface.ring.totals.packets.into()),
        ),
        Metric::many(
            Counter,
            "ring_drops",
            &["interface"],
            "Frames for which the ring had no room.",
            |status| by_interface(status, |interface| interface.ring.totals.drops.into()),
        ),
        Metric::maybe(
            Gauge,
            "ring_size_bytes",
            "The size of the ring of each interface.",
            |status| status.ring_size.map(Number::from),
        ),
        Metric::maybe(
            Gauge,
            "ring_blocks",
            "The number of blocks of the ring of each interface.",
            |status| status.ring_blocks.map(Number::from),
        ),
        Metric::many(
            Gauge,
            "ring_closed_blocks_max",
            &["interface"],
            "The most blocks that waited to be read in the last one to two minutes; scrapes do not reset it. Frames are \
             lost when it reaches ring_blocks.",
            |status| by_interface(status, |interface| interface.ring.most_blocks.into()),
        ),
        Metric::many(
            Gauge,
            "interface_state",
            &["interface", "state"],
            "1 for the state of each interface: captured, down, missing, unsupported or unknown.",
            interface_states,
        ),
        Metric::one(
            Counter,
            "frames_seen",
            "Frames read from the rings.",
            |status| totals(status).frames_seen.into(),
        ),
        Metric::one(
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
        Metric::one(Counter, "datagrams_built", "Datagrams made.", |status| {
            totals(status).datagrams_built.into()
        }),
        Metric::one(
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
        Metric::one(
            Counter,
            "sent_bytes",
            "Bytes of the datagrams sent, from the VXLAN header or that of the tunnel on, without trailers.",
            |status| totals(status).bytes_sent.into(),
        ),
        Metric::one(
            Counter,
            "trailer_bytes",
            "Bytes of the trailers that were added to datagrams of one message.",
            |status| totals(status).trailer_bytes.into(),
        ),
        Metric::one(
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
        Metric::one(
            Gauge,
            "worker_late_seconds",
            "For how long the thread that mirrors has made no progress beyond what it had planned. Above 10, /livez fails.",
            |status| status.worker_late.as_secs_f64().into(),
        ),
        Metric::each(
            Gauge,
            "sensors",
            ("state", || {
                SensorState::ALL.map(SensorState::label).to_vec()
            }),
            "Listed sensors, by their state.",
            |status| status.sensors.by_state.to_vec(),
        ),
        Metric::many(
            Gauge,
            "sensor_state",
            &["sensor", "tunnel", "state"],
            "1 for the state of each sensor, by its address; of at most 64 sensors.",
            sensor_states,
        ),
        Metric::many(
            Gauge,
            "sensor_path_mtu_bytes",
            &["sensor"],
            "The MTU of the path to each sensor in use; of at most 64 sensors.",
            sensor_mtus,
        ),
        Metric::one(
            Counter,
            "sensor_changes",
            "How often the sensors in use have changed.",
            |status| status.sensors.changes.into(),
        ),
        Metric::many(
            Gauge,
            "filter",
            &["origin"],
            "1 for where the filter in force comes from: none, setting or annotation.",
            |status| {
                let origin = status.filter.origin.label().to_owned();
                vec![(vec![origin], true.into())]
            },
        ),
        Metric::one(
            Gauge,
            "mirroring_switched_off",
            "1 while podspan.dev/mirror is off.",
            |status| status.filter.is_off.into(),
        ),
        Metric::many(
            Gauge,
            "api_connected",
            &["watch"],
            "1 while the API server answers a watch: that on the sensors, or on podspan's own pod. Absent without one.",
            |status| by_watch(status, |contact| Some(contact.is_connected.into())),
        ),
        Metric::many(
            Gauge,
            "api_view_age_seconds",
            &["watch"],
            "How long ago the API server last said something about the pods. While it answers, about a minute at most.",
            |status| by_watch(status, |contact| Some(contact.age?.as_secs_f64().into())),
        ),
        Metric::many(
            Counter,
            "api_errors",
            &["watch", "kind"],
            "Failures of the API server, of the path to it, or of the credentials.",
            api_errors,
        ),
        Metric::maybe(
            Counter,
            "cpu_quota_periods",
            "Periods of the CPU quota in which the container ran; absent if it is not known.",
            |status| Some(status.throttling?.periods.into()),
        ),
        Metric::maybe(
            Counter,
            "cpu_quota_throttled_periods",
            "Those in which the quota was used up, so that podspan was stopped.",
            |status| Some(status.throttling?.throttled_periods.into()),
        ),
        Metric::maybe(
            Counter,
            "cpu_quota_throttled_seconds",
            "For how long, the sum of all processors.",
            |status| Some(status.throttling?.throttled.as_secs_f64().into()),
        ),
        Metric::maybe(
            Counter,
            "cpu_seconds",
            "CPU time of the process.",
            |status| status.usage.cpu.map(|cpu| cpu.as_secs_f64().into()),
        ),
        Metric::maybe(
            Gauge,
            "resident_memory_bytes",
            "Resident memory, with the rings, which are the kernel's memory, and the program's file.",
            |status| status.usage.resident.map(Number::from),
        ),
        Metric::maybe(
            Gauge,
            "anonymous_memory_bytes",
            "Resident memory without the rings and the program's file: most of what counts toward the container's memory limit.",
            |status| status.usage.anonymous.map(Number::from),
        ),
        Metric::one(
            Counter,
            "events_lost",
            "Events of the mirroring thread that were not read in time, so lines of the log are missing.",
            |status| status.events_lost.into(),
        ),
        Metric::one(
            Counter,
            "log_lines_dropped",
            "Lines of the log that were dropped because nobody reads standard error fast enough.",
            |status| status.log_lines_dropped.into(),
        ),
        Metric::one(
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
#[path = "catalog_tests.rs"]
mod tests;
