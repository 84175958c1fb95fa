//! Sensors that fail in every way, on a simulated clock.

use std::time::Duration;

use super::Failure::{Prohibited, Refused, Unreachable};
use super::health::{EJECTION_MAX, EJECTION_MIN, HEALTHY_AFTER, PROBE_TIME, QUIET};
use super::*;

const SECOND: Duration = Duration::from_secs(1);
fn sensor(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 4789))
}

fn two(now: Instant) -> Ejections {
    let mut ejections = Ejections::default();
    ejections.update_list([sensor(1), sensor(2)].into_iter(), now);
    ejections
}

fn ejected(ejections: &Ejections) -> Vec<SocketAddr> {
    let all = ejections.sensors.keys();
    all.filter(|address| ejections.is_ejected(**address))
        .copied()
        .collect()
}

/// How long, to a second, the sensor 1 is ejected from now on.
fn lasts(ejections: &mut Ejections, now: &mut Instant) -> u64 {
    let start = *now;
    while ejections.is_ejected(sensor(1)) {
        *now += SECOND;
        ejections.tick(*now);
    }
    (*now - start).as_secs()
}

#[test]
fn an_unreachable_sensor_is_used_again_with_the_first_answer() {
    let now = Instant::now();
    let mut ejections = two(now);
    let failed = Observation::Failed(Unreachable);
    let change = ejections.observe(sensor(1), failed, now);
    assert_eq!(change, Some(HealthChange::Ejected(Unreachable)));
    assert_eq!(ejections.observe(sensor(1), failed, now), None, "no change");
    assert_eq!(ejected(&ejections), [sensor(1)]);
    assert_eq!(ejections.probed().collect::<Vec<_>>(), [sensor(1)]);
    ejections.observe(sensor(2), Observation::Answered, now);
    assert_eq!(ejections.tick(now), []);
    ejections.observe(sensor(1), Observation::Answered, now);
    assert_eq!(ejections.tick(now), [(sensor(1), Return::Answered)]);
    assert_eq!(ejected(&ejections), []);
}

#[test]
fn silence_ends_an_ejection_and_evidence_extends_it_up_to_the_bound() {
    let start = Instant::now();
    let mut ejections = two(start);
    ejections.observe(sensor(1), Observation::Failed(Unreachable), start);
    let mut now = start + QUIET / 2;
    ejections.observe(sensor(1), Observation::MayFail(Unreachable), now);
    assert_eq!(lasts(&mut ejections, &mut now), QUIET.as_secs());

    // This one fails permanently: it is tried, and ejected again.
    let ends = (0..200).find(|seconds| {
        let now = now + SECOND * *seconds;
        ejections.observe(sensor(1), Observation::Failed(Unreachable), now);
        !ejections.tick(now).is_empty()
    });
    assert_eq!(ends.map(|seconds| SECOND * seconds), Some(EJECTION_MAX));
}

#[test]
fn a_port_that_refuses_again_and_again_is_tried_less_and_less_often() {
    let mut now = Instant::now();
    let mut ejections = two(now);
    let mut waits = Vec::new();
    for _ in 0..7 {
        ejections.observe(sensor(1), Observation::Failed(Refused), now);
        // The host answers, but this is no answer of the port.
        ejections.observe(sensor(1), Observation::Answered, now);
        waits.push(lasts(&mut ejections, &mut now));
        now += Duration::from_millis(250);
    }
    assert_eq!(waits, [4, 8, 16, 32, 60, 60, 60]);
    // It was used for long enough in between.
    now += RESET;
    ejections.observe(sensor(1), Observation::Failed(Refused), now);
    assert_eq!(lasts(&mut ejections, &mut now), 4);
}

#[test]
fn a_sensor_that_fails_and_answers_again_and_again_returns_later_each_time() {
    let mut now = Instant::now();
    let mut ejections = two(now);
    let mut waits = Vec::new();
    for _ in 0..7 {
        ejections.observe(sensor(1), Observation::Failed(Unreachable), now);
        ejections.observe(sensor(1), Observation::Answered, now);
        ejections.tick(now);
        waits.push(lasts(&mut ejections, &mut now));
    }
    assert_eq!(waits, [0, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn evidence_that_can_be_forged_ejects_only_if_nothing_answers() {
    let may_fail = Observation::MayFail(Unreachable);
    let start = Instant::now();
    // The answer one second later, if any, and what the same evidence then changes.
    for (answer, change) in [
        (None, Some(HealthChange::Ejected(Unreachable))),
        (Some(Observation::Answered), Some(HealthChange::Unhealthy)),
        (Some(Observation::Arrived), Some(HealthChange::Unhealthy)),
    ] {
        let mut ejections = two(start);
        let first = ejections.observe(sensor(1), may_fail, start);
        assert_eq!(first, Some(HealthChange::Unhealthy));
        assert_eq!(ejections.probed().collect::<Vec<_>>(), [sensor(1)]);
        assert_eq!(ejections.observe(sensor(1), may_fail, start + SECOND), None);
        if let Some(answer) = answer {
            ejections.observe(sensor(1), answer, start + SECOND);
        }
        let second = ejections.observe(sensor(1), may_fail, start + PROBE_TIME);
        assert_eq!(second, change, "{answer:?}");
    }
    // Two pieces of evidence that are too far apart.
    let mut ejections = two(start);
    ejections.observe(sensor(1), may_fail, start);
    let later = ejections.observe(sensor(1), may_fail, start + HEALTHY_AFTER);
    assert_eq!(later, Some(HealthChange::Unhealthy));
    ejections.tick(start + HEALTHY_AFTER * 2);
    assert_eq!(ejections.probed().count(), 0);
}

#[test]
fn an_answer_from_another_port_does_not_clear_a_firewall_on_the_path() {
    let may_fail = Observation::MayFail(Prohibited);
    let start = Instant::now();
    for (answer, change) in [
        (Observation::Answered, HealthChange::Ejected(Prohibited)),
        (Observation::Arrived, HealthChange::Unhealthy),
    ] {
        let mut ejections = two(start);
        ejections.observe(sensor(1), may_fail, start);
        ejections.observe(sensor(1), answer, start + SECOND);
        let second = ejections.observe(sensor(1), may_fail, start + PROBE_TIME);
        assert_eq!(second, Some(change));
    }
}

#[test]
fn the_last_sensor_is_never_ejected_and_if_all_fail_all_are_used() {
    let start = Instant::now();
    let mut ejections = two(start);
    let failed = Observation::Failed(Refused);
    ejections.observe(sensor(1), failed, start);
    let change = ejections.observe(sensor(2), failed, start);
    assert_eq!(change, Some(HealthChange::Kept(Refused)));
    assert_eq!(ejected(&ejections), [], "all are used");
    // Both still fail.
    let soon = start + QUIET / 2;
    for number in [1, 2] {
        let change = ejections.observe(sensor(number), failed, soon);
        assert_eq!(change, Some(HealthChange::Kept(Refused)));
    }
    // The other one has no recent evidence.
    let later = soon + QUIET;
    let change = ejections.observe(sensor(1), failed, later);
    assert_eq!(change, Some(HealthChange::Ejected(Refused)));
    // It does not return early twice in a minute; but without the other it is the last one.
    let change = ejections.observe(sensor(2), failed, later);
    assert_eq!(change, Some(HealthChange::Kept(Refused)));
    assert_eq!(ejected(&ejections), [sensor(1)]);
    ejections.update_list([sensor(1)].into_iter(), later);
    assert_eq!(ejected(&ejections), []);
    let change = ejections.observe(sensor(1), failed, later);
    assert_eq!(change, Some(HealthChange::Kept(Refused)));
    // It had to be used again so early that it is held for 8 s.
    ejections.update_list([sensor(1), sensor(3)].into_iter(), later);
    assert_eq!(ejections.observe(sensor(1), failed, later), None);
    let end = later + EJECTION_MIN * 2;
    let change = ejections.observe(sensor(1), failed, end);
    assert_eq!(change, Some(HealthChange::Ejected(Refused)));
}

#[test]
fn a_dead_sensor_returns_early_only_if_the_last_one_is_dead_too() {
    let start = Instant::now();
    let mut ejections = two(start);
    let dead = Observation::Failed(Unreachable);
    ejections.observe(sensor(1), dead, start);
    for forged in [
        Observation::Failed(Refused),
        Observation::Failed(Prohibited),
    ] {
        let change = ejections.observe(sensor(2), forged, start);
        assert!(matches!(change, Some(HealthChange::Kept(_))), "{change:?}");
        assert_eq!(ejected(&ejections), [sensor(1)], "{forged:?}");
    }
    let change = ejections.observe(sensor(2), dead, start);
    assert_eq!(change, Some(HealthChange::Kept(Unreachable)));
    assert_eq!(ejected(&ejections), [], "all are dead");
    // The second one answers, and then the first one fails again.
    ejections.observe(sensor(2), Observation::Answered, start);
    let change = ejections.observe(sensor(1), dead, start);
    assert_eq!(change, Some(HealthChange::Ejected(Unreachable)));
}

#[test]
fn a_working_sensor_returns_at_once_if_the_last_one_is_dead() {
    let mut now = Instant::now();
    let mut ejections = two(now);
    // It is ejected because of forged evidence, and the other one fails and answers, again and again.
    for _ in 0..100 {
        ejections.observe(sensor(1), Observation::Failed(Refused), now);
        ejections.observe(sensor(2), Observation::Failed(Unreachable), now);
        assert!(!ejections.is_ejected(sensor(1)));
        ejections.observe(sensor(2), Observation::Answered, now);
        now += SECOND;
        ejections.tick(now);
    }
}

#[test]
fn a_new_list_keeps_the_state_of_the_sensors_that_stay() {
    let now = Instant::now();
    let mut ejections = two(now);
    ejections.observe(sensor(1), Observation::Failed(Refused), now);
    ejections.update_list([sensor(1), sensor(3)].into_iter(), now);
    assert_eq!(ejected(&ejections), [sensor(1)]);
    ejections.observe(sensor(2), Observation::Failed(Refused), now);
    ejections.update_list([sensor(2), sensor(3)].into_iter(), now);
    assert_eq!(ejected(&ejections), []);
    assert_eq!(ejections.of_host(sensor(2).ip()), [sensor(2)]);
}

#[test]
fn a_sensor_that_leaves_the_list_keeps_its_backoff() {
    let mut now = Instant::now();
    let mut ejections = two(now);
    let mut waits = Vec::new();
    for _ in 0..4 {
        ejections.observe(sensor(1), Observation::Failed(Refused), now);
        ejections.update_list([sensor(2)].into_iter(), now);
        assert!(!ejections.is_ejected(sensor(1)), "it is not in the list");
        now += SECOND;
        ejections.update_list([sensor(1), sensor(2)].into_iter(), now);
        waits.push(1 + lasts(&mut ejections, &mut now));
    }
    assert_eq!(waits, [4, 8, 16, 32]);
    // It is kept for a limited time, and for a limited number of sensors.
    ejections.update_list([sensor(2)].into_iter(), now);
    now += RESET;
    ejections.update_list([sensor(1), sensor(2)].into_iter(), now);
    ejections.observe(sensor(1), Observation::Failed(Refused), now);
    assert_eq!(lasts(&mut ejections, &mut now), 4);
    for port in 1..2000 {
        let address = SocketAddr::from(([10, 0, 1, 0], port));
        ejections.update_list([address, sensor(2)].into_iter(), now);
        ejections.observe(address, Observation::Failed(Refused), now);
    }
    assert_eq!(ejections.removed.len(), REMOVED_MAX);
}

#[path = "ejection_model.rs"]
mod model;
