//! Each metric is there once, has the value of the status, and is bounded.

use std::net::SocketAddr;
use std::time::Duration;

use testbed::Exposition;

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
    let families = Exposition::read(&text).families;
    for metric in CATALOG.metrics {
        let name = format!("podspan_{}", metric.name);
        let is_there =
            families.contains(&name[..]) || families.contains(&(name.clone() + "_total")[..]);
        assert!(is_there, "{name}");
    }
}

#[test]
fn the_values_are_those_of_the_status() {
    let text = CATALOG.text(&status()).unwrap();
    Exposition::read(&text).assert_has(&[
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
    ]);
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
