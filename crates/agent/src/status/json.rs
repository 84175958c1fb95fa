//! The JSON of `/status`.
//!
//! In: a [`Status`]. Out: one object; the names are those of the line of totals and of the metrics. What is unknown is
//! `null`.

use discovery::Contact;
use mirror::totals::{DropReason, Dropped};
use serde_json::{Map, Value, json};

use super::{ContactStatus, InterfaceStatus, Status, seconds};
use wire::Mtu;

use crate::sensors::status::{SensorState, SensorStatus};

impl Status {
    /// The object, as a text with a line feed at its end.
    pub(crate) fn json(&self) -> String {
        let totals = &self.snapshot.totals;
        let object = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "vni": self.identity.vni,
            "node": self.identity.node,
            "pod": self.identity.pod,
            "namespace": self.identity.namespace,
            "idle": self.idle,
            "problems": self.problems(),
            "totals": {
                "ring_packets": self.snapshot.ring.packets,
                "ring_drops": self.snapshot.ring.drops,
                "frames_seen": totals.frames_seen,
                "frames_mirrored": totals.frames_mirrored,
                "frames_dropped": totals.frames_dropped.sum(),
                "frames_dropped_by": by_reason(&totals.frames_dropped),
                "datagrams_built": totals.datagrams_built,
                "datagrams_sent": totals.datagrams_sent,
                "datagrams_dropped": totals.datagrams_dropped.sum(),
                "datagrams_dropped_by": by_reason(&totals.datagrams_dropped),
                "bytes_sent": totals.bytes_sent,
                "messages_sent": totals.messages_sent,
                "trailer_bytes": totals.trailer_bytes,
            },
            "interfaces": self.interfaces.iter().map(interface).collect::<Value>(),
            "ring_size_bytes": self.ring_size,
            "ring_blocks": self.ring_blocks,
            "batches": self.snapshot.work.latency.count(),
            "latency_seconds_sum": seconds(self.snapshot.work.latency.sum),
            "worker_late_seconds": self.worker_late.as_secs_f64(),
            "sensors": {
                "by_state": SensorState::ALL
                    .map(|state| (state.label().to_owned(), self.sensors.count(state).into()))
                    .into_iter()
                    .collect::<Map<String, Value>>(),
                "changes": self.sensors.changes,
                "named": self.sensors.named.iter().map(sensor).collect::<Value>(),
            },
            "filter": {
                "origin": self.filter.origin.label(),
                "text": self.filter.text,
                "mirrors": !self.filter.is_off,
            },
            "api": {
                "sensors": self.sensors_api.as_ref().map(contact),
                "own_pod": self.own_pod_api.as_ref().map(contact),
            },
            "cpu_quota": self.throttling.map(|throttling| json!({
                "periods": throttling.periods,
                "throttled_periods": throttling.throttled_periods,
                "throttled_seconds": throttling.throttled.as_secs_f64(),
            })),
            "cpu_seconds": self.usage.cpu.map(|cpu| cpu.as_secs_f64()),
            "resident_memory_bytes": self.usage.resident,
            "anonymous_memory_bytes": self.usage.anonymous,
            "events_lost": self.events_lost,
            "log_lines_dropped": self.log_lines_dropped,
            "http_connections_evicted": self.connections_evicted,
        });
        format!("{object}\n")
    }
}

fn by_reason(dropped: &Dropped) -> Map<String, Value> {
    let counts = DropReason::ALL
        .into_iter()
        .map(|reason| (reason, dropped.of(reason)));
    counts
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| (reason.label().to_owned(), count.into()))
        .collect()
}

fn contact(contact: &ContactStatus) -> Value {
    let failures = Contact::KINDS.into_iter().zip(contact.failures);
    let failures = failures.filter(|(_, count)| *count > 0);
    json!({
        "connected": contact.is_connected,
        "view_age_seconds": contact.age.map(|age| age.as_secs_f64()),
        "errors": failures
            .map(|(kind, count)| (kind.to_owned(), count.into()))
            .collect::<Map<String, Value>>(),
    })
}

fn interface(interface: &InterfaceStatus) -> Value {
    json!({
        "name": interface.name,
        "state": interface.state.label(),
        "ring_packets": interface.ring.totals.packets,
        "ring_drops": interface.ring.totals.drops,
        "ring_closed_blocks_max": interface.ring.most_blocks,
    })
}

fn sensor(sensor: &SensorStatus) -> Value {
    json!({
        "address": sensor.address.to_string(),
        "state": sensor.state.label(),
        "has_tunnel": sensor.has_tunnel,
        "path_mtu_bytes": sensor.path_mtu.map(Mtu::get),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_texts_are_strings_of_the_object_and_reasons_are_named() {
        let mut status = Status::idle(super::super::Identity::default(), "a\"b\n".into());
        status.snapshot.totals.drop_frame(DropReason::Oversize);
        let text = status.json();
        assert_eq!(text.matches('\n').count(), 1);
        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["idle"], "a\"b\n");
        assert_eq!(object["node"], Value::Null);
        assert_eq!(object["totals"]["frames_seen"], 1);
        let reasons = &object["totals"]["frames_dropped_by"];
        assert_eq!(*reasons, json!({"oversize": 1}));
    }
}
