//! 5,000 podspans at one sensor that has just restarted.

use std::collections::BTreeSet;

use super::*;

const CROWD: u32 = 5_000;

#[test]
fn five_thousand_podspans_at_once_all_come_up_within_bounds() {
    let mut fixture = Fixture::new();
    let limits = Limits::default();
    let start = fixture.now;
    let mut crowd: Vec<_> = (0..CROWD).map(|number| fixture.podspan(number)).collect();
    // Who is due, in the order of time.
    let mut due: BTreeSet<(Instant, u32)> = (0..CROWD).map(|number| (start, number)).collect();
    let mut tick = start;
    let mut initiations = 0_u64;
    while let Some((at, number)) = due.pop_first() {
        while tick + Duration::from_secs(1) <= at {
            tick += Duration::from_secs(1);
            fixture.responder.tick(tick, |_, _| {});
        }
        fixture.now = fixture.now.max(at);
        let podspan = &mut crowd[number as usize];
        initiations += 1;
        if !podspan.handshake(&mut fixture) {
            due.insert((podspan.initiator.due(), number));
        }
        assert!(fixture.responder.half_open() <= limits.half_open);
    }
    let took = fixture.now - start;
    let totals = *fixture.responder.totals();
    println!(
        "{CROWD} podspans had sessions after {took:?}, with {initiations} initiations and {:?}",
        totals.refused.iter().collect::<Vec<_>>()
    );
    assert_eq!(fixture.responder.peers(), CROWD as usize);
    assert_eq!(
        totals.answered,
        u64::from(CROWD),
        "no handshake was made twice"
    );
    // 500 a second, and half a second of them at once.
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert!(fixture.responder.is_consistent());
    for (number, podspan) in (0..).zip(&mut crowd) {
        let sealed = podspan.seal(fixture.now, &payload(number)).unwrap();
        assert_eq!(fixture.open(podspan.address, &sealed), Ok(payload(number)));
    }
}
