//! Sensors go and come back under traffic: how soon the flows move, and what that costs.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use testbed::kubernetes::{Error, PodDraft, Pods};
use testbed::traffic::{Family, tcp_bulk};

use crate::fixture::{Cluster, sensor};
use crate::stream::{Copied, Stream, Tap, missing};
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    ("flows_move_within_100_ms_and_none_is_lost", moves),
    (
        "what_is_lost_went_to_the_dead_sensor_before_the_event",
        dies,
    ),
    ("without_a_sensor_frames_are_counted_until_one_comes", none),
    (
        "a_socket_that_refuses_loses_its_flows_within_a_second",
        refuses,
    ),
    ("a_sensor_without_an_answer_loses_its_flows", unreachable),
    ("a_narrow_path_is_learned_before_it_is_used", narrow),
];

/// How long the sensors stay as they are after each change.
const STILL: Duration = Duration::from_millis(120);

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// One of two sensors turns un-Ready and Ready again, or is deleted and made again, many times.
fn moves(cluster: &mut Cluster) -> Outcome {
    const ROUNDS: usize = 60;
    cluster.add_namespace("moves")?;
    let first = sensor("a", &cluster.lab.sensor);
    cluster.add_sensor("moves", &first)?;
    cluster.add_sensor("moves", &sensor("b", &cluster.second))?;
    let taps = [
        Tap::start(&cluster.lab.sensor)?,
        Tap::start(&cluster.second)?,
    ];
    let agent = cluster.podspan("moves", &[])?;
    agent.until_fed(&[&cluster.lab.sensor, &cluster.second]);
    let stream = Stream::start(&cluster.lab, 64, 4000)?;

    // When each change was asked for, which is before the event, and where flows then go.
    let toggle = async |pods: &Pods| {
        let mut changes = Vec::new();
        for round in 0..ROUNDS {
            tokio::time::sleep(STILL).await;
            changes.push((now(), 1));
            if round % 4 == 0 {
                pods.delete("a").await?;
            } else {
                pods.set_ready("a", false).await?;
            }
            tokio::time::sleep(STILL).await;
            changes.push((now(), 0));
            if round % 4 == 0 {
                pods.create(&first).await?;
            } else {
                pods.set_ready("a", true).await?;
            }
        }
        Ok::<_, Error>(changes)
    };
    let changes = cluster.administer("moves", toggle)?;
    thread::sleep(STILL);
    let sent = stream.stop();
    let (totals, _) = agent.end()?;
    totals.assert_lossless_but(&["no_sensor"]);
    let [a, b] = taps.map(Tap::stop);
    let ((a, at_a), (b, at_b)) = (a?, b?);

    let missing = missing(sent, a.iter().chain(&b));
    assert!(missing.is_empty(), "{missing:?} of {sent}");
    assert_eq!(at_a + at_b, totals.get("datagrams_sent"));
    report(&changes, &[a, b]);
    Ok(())
}

/// Prints and checks how long after a change the flows of `a` were first seen where they go then.
fn report(changes: &[(Duration, usize)], copies: &[Vec<Copied>; 2]) {
    let moving: BTreeSet<u16> = copies[0].iter().map(|copy| copy.flow).collect();
    let after = |(asked, to): &(Duration, usize)| {
        let moved = |copy: &&Copied| copy.time > *asked && moving.contains(&copy.flow);
        let first = copies[*to].iter().find(moved).expect("flows that moved");
        first.time.saturating_sub(*asked)
    };
    let mut delays: Vec<Duration> = changes.iter().map(after).collect();
    delays.sort();
    let at = |share: usize| delays[(delays.len() * share).div_ceil(100) - 1];
    println!(
        "from asking for a change to the first datagram at another sensor, {} changes: median \
         {:?}, p99 {:?}, longest {:?}",
        delays.len(),
        at(50),
        at(99),
        at(100)
    );
    assert!(at(99) < Duration::from_millis(100), "{delays:?}");
}

/// A sensor's machine goes away, and a moment later its pod.
fn dies(cluster: &mut Cluster) -> Outcome {
    cluster.add_namespace("dies")?;
    cluster.add_sensor("dies", &sensor("a", &cluster.lab.sensor))?;
    cluster.add_sensor("dies", &sensor("b", &cluster.second))?;
    let taps = [
        Tap::start(&cluster.lab.sensor)?,
        Tap::start(&cluster.second)?,
    ];
    let agent = cluster.podspan("dies", &[])?;
    agent.until_fed(&[&cluster.lab.sensor, &cluster.second]);
    let stream = Stream::start(&cluster.lab, 64, 4000)?;
    thread::sleep(Duration::from_millis(300));
    let died = now();
    cluster.lab.sensor.port.down()?;
    thread::sleep(Duration::from_millis(100));
    cluster.administer("dies", async |pods| pods.delete("a").await)?;
    agent.until_fed(&[&cluster.second]);
    thread::sleep(Duration::from_millis(300));
    let sent = stream.stop();
    cluster.lab.sensor.port.up()?;
    let (totals, _) = agent.end()?;
    let [a, b] = taps.map(Tap::stop);
    let ((a, at_a), (b, at_b)) = (a?, b?);
    // podspan lost nothing: what is missing had been sent, and to the dead one.
    totals.assert_lossless_but(&["no_sensor"]);
    let missing = missing(sent, a.iter().chain(&b));
    let unseen = totals.get("datagrams_sent") - at_a - at_b;
    assert!(missing.len() as u64 <= unseen, "{missing:?}");
    assert!(!missing.is_empty() && missing.len() < 1000, "{missing:?}");
    let flows: BTreeSet<u16> = a.iter().map(|copy| copy.flow).collect();
    let of_b = b.iter().filter(|copy| copy.time < died);
    assert!(of_b.clone().count() > 0 && of_b.clone().all(|copy| !flows.contains(&copy.flow)));
    println!(
        "a dead sensor: of {sent} datagrams {} were sent to it in vain before the event",
        missing.len()
    );
    Ok(())
}

fn none(cluster: &mut Cluster) -> Outcome {
    cluster.add_namespace("none")?;
    let agent = cluster.podspan("none", &[])?;
    agent.until_logged(&["WARN", "no sensor", "run=zeek", "namespace none"]);
    let tap = Tap::start(&cluster.lab.sensor)?;
    let stream = Stream::start(&cluster.lab, 16, 1000)?;
    agent.until_logged(&["WARN", "frames are not mirrored", "no_sensor"]);
    assert_eq!(tap.count(), 0);
    let a = sensor("a", &cluster.lab.sensor);
    let delays = cluster.administer("none", async |pods| {
        let mut delays = Vec::new();
        for _ in 0..5 {
            pods.create(&a).await.unwrap();
            let begun = Instant::now();
            let before = tap.count();
            while tap.count() == before {
                assert!(begun.elapsed() < Duration::from_secs(5), "nothing resumes");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            delays.push(begun.elapsed());
            pods.delete("a").await.unwrap();
            tokio::time::sleep(STILL * 2).await;
        }
        delays
    });
    let sent = stream.stop();
    let (totals, _) = agent.end()?;
    let (copies, _) = tap.stop()?;
    let missing = missing(sent, &copies).len() as u64;
    let uncopied = totals.frames_dropped["no_sensor"];
    assert!(
        missing > 0 && missing <= uncopied,
        "{missing} of {uncopied}"
    );
    totals.assert_lossless_but(&["no_sensor"]);
    println!("mirroring resumed after {delays:?} with the first sensor that came");
    assert!(delays.iter().all(|delay| *delay < Duration::from_secs(1)));
    Ok(())
}

/// A sensor that says it is a socket, and whose socket is not there.
fn refuses(cluster: &mut Cluster) -> Outcome {
    cluster.add_namespace("refuses")?;
    let a = sensor("a", &cluster.lab.sensor).annotation("podspan.dev/receiver", "socket");
    cluster.add_sensor("refuses", &a)?;
    cluster.add_sensor("refuses", &sensor("b", &cluster.second))?;
    let agent = cluster.podspan("refuses", &[])?;
    agent.until_fed(&[&cluster.lab.sensor, &cluster.second]);
    let tap = Tap::start(&cluster.second)?;
    let stream = Stream::start(&cluster.lab, 64, 1000)?;
    let begun = Instant::now();
    agent.until_logged(&["WARN", "the other sensor gets its flows", "10.77.0.3"]);
    let took = begun.elapsed();
    thread::sleep(Duration::from_millis(500));
    let sent = stream.stop();
    let (totals, _) = agent.end()?;
    let (copies, _) = tap.stop()?;
    println!("a socket that refuses lost its flows after {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    let last = copies.iter().filter(|copy| copy.number + 100 >= sent);
    assert_eq!(last.count(), 100, "in the end all are copied to the other");
    assert_eq!(totals.get("ring_drops"), 0);
    Ok(())
}

/// A pod that is said to be Ready at an address where nobody answers; then somebody does.
fn unreachable(cluster: &mut Cluster) -> Outcome {
    let address = Ipv4Addr::new(10, 77, 0, 99);
    cluster.add_namespace("unreachable")?;
    let a = PodDraft::new("a").label("run", "zeek").address(address);
    cluster.add_sensor("unreachable", &a.ready())?;
    cluster.add_sensor("unreachable", &sensor("b", &cluster.second))?;
    let agent = cluster.podspan("unreachable", &[])?;
    let stream = Stream::start(&cluster.lab, 64, 1000)?;
    agent.until_logged(&["WARN", "the other sensor gets its flows", "10.77.0.99"]);
    let eth0 = &cluster.lab.sensor.eth0;
    eth0.add_address(address.into(), 24)?;
    agent.until_logged(&["INFO", "gets its flows back", "10.77.0.99"]);
    let tap = Tap::start(&cluster.lab.sensor)?;
    thread::sleep(Duration::from_millis(500));
    stream.stop();
    agent.end()?;
    eth0.remove_address(address.into(), 24)?;
    let (copies, _) = tap.stop()?;
    assert!(copies.len() > 50, "{} copies", copies.len());
    Ok(())
}

/// The way to a sensor that comes later takes less than the interface.
fn narrow(cluster: &mut Cluster) -> Outcome {
    const PATH_MTU: u32 = 1380;
    cluster.add_namespace("narrow")?;
    let far = cluster.lab.add_host(20)?;
    let to = far.ipv4.into();
    cluster.lab.pod.eth0.add_route_with_mtu(to, PATH_MTU)?;
    cluster.add_sensor("narrow", &sensor("a", &cluster.lab.sensor))?;
    let agent = cluster.podspan("narrow", &[])?;
    agent.until_fed(&[&cluster.lab.sensor]);
    // An outer packet above the path's MTU is a fault to this tap.
    let tap = Tap::with_mtu(&far, PATH_MTU as usize)?;
    cluster.administer("narrow", async |pods| {
        pods.create(&sensor("b", &far)).await?;
        pods.delete("a").await
    })?;
    agent.until_fed(&[&far]);
    tcp_bulk(&cluster.lab.client, &cluster.lab.pod, Family::V4, 1 << 20)?;
    let (totals, _) = agent.end()?;
    totals.assert_lossless_but(&["no_sensor"]);
    let (_, datagrams) = tap.stop()?;
    assert!(datagrams > 700, "{datagrams} datagrams");
    Ok(())
}
