//! Sensors that fail in every way, in time that does not pass.

use super::Failure::{Prohibited, Refused, Unreachable};
use super::*;

const SECOND: Duration = Duration::from_secs(1);
fn sensor(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 4789))
}

fn two(now: Instant) -> Ejections {
    let mut ejections = Ejections::default();
    ejections.update([sensor(1), sensor(2)].into_iter(), now);
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
    let failed = Evidence::Failed(Unreachable);
    let change = ejections.take(sensor(1), failed, now);
    assert_eq!(change, Some(Change::Ejected(Unreachable)));
    assert_eq!(ejections.take(sensor(1), failed, now), None, "no news");
    assert_eq!(ejected(&ejections), [sensor(1)]);
    assert_eq!(ejections.probed().collect::<Vec<_>>(), [sensor(1)]);
    ejections.take(sensor(2), Evidence::Answered, now);
    assert_eq!(ejections.tick(now), []);
    ejections.take(sensor(1), Evidence::Answered, now);
    assert_eq!(ejections.tick(now), [(sensor(1), Return::Answered)]);
    assert_eq!(ejected(&ejections), []);
}

#[test]
fn silence_ends_an_ejection_and_evidence_prolongs_it_up_to_the_bound() {
    let start = Instant::now();
    let mut ejections = two(start);
    ejections.take(sensor(1), Evidence::Failed(Unreachable), start);
    let mut now = start + QUIET / 2;
    ejections.take(sensor(1), Evidence::MayFail(Unreachable), now);
    assert_eq!(lasts(&mut ejections, &mut now), QUIET.as_secs());

    // This one fails for good: it is tried, and ejected again.
    let ends = (0..200).find(|seconds| {
        let now = now + SECOND * *seconds;
        ejections.take(sensor(1), Evidence::Failed(Unreachable), now);
        !ejections.tick(now).is_empty()
    });
    assert_eq!(ends.map(|seconds| SECOND * seconds), Some(EJECTION_MAX));
}

#[test]
fn a_port_that_refuses_again_and_again_is_tried_ever_less_often() {
    let mut now = Instant::now();
    let mut ejections = two(now);
    let mut waits = Vec::new();
    for _ in 0..7 {
        ejections.take(sensor(1), Evidence::Failed(Refused), now);
        // The host is there, which says nothing of the port.
        ejections.take(sensor(1), Evidence::Answered, now);
        waits.push(lasts(&mut ejections, &mut now));
        now += Duration::from_millis(250);
    }
    assert_eq!(waits, [4, 8, 16, 32, 60, 60, 60]);
    // It was used for a while in between.
    now += RESET;
    ejections.take(sensor(1), Evidence::Failed(Refused), now);
    assert_eq!(lasts(&mut ejections, &mut now), 4);
}

#[test]
fn a_sensor_that_comes_and_goes_returns_ever_later() {
    let mut now = Instant::now();
    let mut ejections = two(now);
    let mut waits = Vec::new();
    for _ in 0..7 {
        ejections.take(sensor(1), Evidence::Failed(Unreachable), now);
        ejections.take(sensor(1), Evidence::Answered, now);
        ejections.tick(now);
        waits.push(lasts(&mut ejections, &mut now));
    }
    assert_eq!(waits, [0, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn what_can_be_forged_ejects_only_where_nothing_answers() {
    let hint = Evidence::MayFail(Unreachable);
    let start = Instant::now();
    // What answers a second later, if anything; and whether the same evidence then ejects.
    for (answer, change) in [
        (None, Some(Change::Ejected(Unreachable))),
        (Some(Evidence::Answered), Some(Change::Unhealthy)),
        (Some(Evidence::Arrived), Some(Change::Unhealthy)),
    ] {
        let mut ejections = two(start);
        let first = ejections.take(sensor(1), hint, start);
        assert_eq!(first, Some(Change::Unhealthy));
        assert_eq!(ejections.probed().collect::<Vec<_>>(), [sensor(1)]);
        assert_eq!(ejections.take(sensor(1), hint, start + SECOND), None);
        if let Some(answer) = answer {
            ejections.take(sensor(1), answer, start + SECOND);
        }
        let second = ejections.take(sensor(1), hint, start + PROBE_TIME);
        assert_eq!(second, change, "{answer:?}");
    }
    // Two that have nothing to do with each other.
    let mut ejections = two(start);
    ejections.take(sensor(1), hint, start);
    let later = ejections.take(sensor(1), hint, start + FORGET);
    assert_eq!(later, Some(Change::Unhealthy));
    ejections.tick(start + FORGET * 2);
    assert_eq!(ejections.probed().count(), 0);
}

#[test]
fn a_firewall_on_the_way_is_not_cleared_by_another_port() {
    let hint = Evidence::MayFail(Prohibited);
    let start = Instant::now();
    for (answer, change) in [
        (Evidence::Answered, Change::Ejected(Prohibited)),
        (Evidence::Arrived, Change::Unhealthy),
    ] {
        let mut ejections = two(start);
        ejections.take(sensor(1), hint, start);
        ejections.take(sensor(1), answer, start + SECOND);
        let second = ejections.take(sensor(1), hint, start + PROBE_TIME);
        assert_eq!(second, Some(change));
    }
}

#[test]
fn the_last_sensor_is_never_ejected_and_where_all_fail_all_are_forgiven() {
    let start = Instant::now();
    let mut ejections = two(start);
    let failed = Evidence::Failed(Refused);
    ejections.take(sensor(1), failed, start);
    let change = ejections.take(sensor(2), failed, start);
    assert_eq!(change, Some(Change::Kept(Refused)));
    assert_eq!(ejected(&ejections), [], "forgiven");
    // Both still fail.
    let soon = start + QUIET / 2;
    for number in [1, 2] {
        let change = ejections.take(sensor(number), failed, soon);
        assert_eq!(change, Some(Change::Kept(Refused)));
    }
    // The other one has had no evidence lately.
    let later = soon + QUIET;
    let change = ejections.take(sensor(1), failed, later);
    assert_eq!(change, Some(Change::Ejected(Refused)));
    // Not forgiven twice in a minute; but without the other it is the last one.
    let change = ejections.take(sensor(2), failed, later);
    assert_eq!(change, Some(Change::Kept(Refused)));
    assert_eq!(ejected(&ejections), [sensor(1)]);
    ejections.update([sensor(1)].into_iter(), later);
    assert_eq!(ejected(&ejections), []);
    let change = ejections.take(sensor(1), failed, later);
    assert_eq!(change, Some(Change::Kept(Refused)));
    // It had to be used so early that it is held for 8 s.
    ejections.update([sensor(1), sensor(3)].into_iter(), later);
    assert_eq!(ejections.take(sensor(1), failed, later), None);
    let end = later + EJECTION_LEAST * 2;
    let change = ejections.take(sensor(1), failed, end);
    assert_eq!(change, Some(Change::Ejected(Refused)));
}

#[test]
fn a_dead_sensor_is_forgiven_only_for_another_dead_one() {
    let start = Instant::now();
    let mut ejections = two(start);
    let dead = Evidence::Failed(Unreachable);
    ejections.take(sensor(1), dead, start);
    for forged in [Evidence::Failed(Refused), Evidence::Failed(Prohibited)] {
        let change = ejections.take(sensor(2), forged, start);
        assert!(matches!(change, Some(Change::Kept(_))), "{change:?}");
        assert_eq!(ejected(&ejections), [sensor(1)], "{forged:?}");
    }
    let change = ejections.take(sensor(2), dead, start);
    assert_eq!(change, Some(Change::Kept(Unreachable)));
    assert_eq!(ejected(&ejections), [], "all are dead");
    // The second one lives, and then the first one is dead again.
    ejections.take(sensor(2), Evidence::Answered, start);
    let change = ejections.take(sensor(1), dead, start);
    assert_eq!(change, Some(Change::Ejected(Unreachable)));
}

#[test]
fn one_that_works_returns_at_once_where_the_last_one_is_dead() {
    let mut now = Instant::now();
    let mut ejections = two(now);
    // It is ejected for what was forged, and the other one dies and lives, again and again.
    for _ in 0..100 {
        ejections.take(sensor(1), Evidence::Failed(Refused), now);
        ejections.take(sensor(2), Evidence::Failed(Unreachable), now);
        assert!(!ejections.is_ejected(sensor(1)));
        ejections.take(sensor(2), Evidence::Answered, now);
        now += SECOND;
        ejections.tick(now);
    }
}

#[test]
fn the_list_of_sensors_keeps_what_is_known_of_those_that_stay() {
    let now = Instant::now();
    let mut ejections = two(now);
    ejections.take(sensor(1), Evidence::Failed(Refused), now);
    ejections.update([sensor(1), sensor(3)].into_iter(), now);
    assert_eq!(ejected(&ejections), [sensor(1)]);
    ejections.take(sensor(2), Evidence::Failed(Refused), now);
    ejections.update([sensor(2), sensor(3)].into_iter(), now);
    assert_eq!(ejected(&ejections), []);
    assert_eq!(ejections.of_host(sensor(2).ip()), [sensor(2)]);
}

#[test]
fn a_sensor_that_leaves_the_list_keeps_its_backoff() {
    let mut now = Instant::now();
    let mut ejections = two(now);
    let mut waits = Vec::new();
    for _ in 0..4 {
        ejections.take(sensor(1), Evidence::Failed(Refused), now);
        ejections.update([sensor(2)].into_iter(), now);
        assert!(!ejections.is_ejected(sensor(1)), "it is not in the list");
        now += SECOND;
        ejections.update([sensor(1), sensor(2)].into_iter(), now);
        waits.push(1 + lasts(&mut ejections, &mut now));
    }
    assert_eq!(waits, [4, 8, 16, 32]);
    // Not for ever, and not of all that there ever were.
    ejections.update([sensor(2)].into_iter(), now);
    now += RESET;
    ejections.update([sensor(1), sensor(2)].into_iter(), now);
    ejections.take(sensor(1), Evidence::Failed(Refused), now);
    assert_eq!(lasts(&mut ejections, &mut now), 4);
    for port in 1..2000 {
        let address = SocketAddr::from(([10, 0, 1, 0], port));
        ejections.update([address, sensor(2)].into_iter(), now);
        ejections.take(address, Evidence::Failed(Refused), now);
    }
    assert_eq!(ejections.gone.len(), GONE_MAX);
}

#[path = "ejection_model.rs"]
mod model;
