//! Sensors are removed and return under traffic: how soon the flows move, and what is lost.

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
    (
        "without_a_sensor_frames_are_counted_until_one_is_added",
        none,
    ),
    (
        "a_socket_that_refuses_loses_its_flows_within_a_second",
        refuses,
    ),
    ("a_sensor_without_an_answer_loses_its_flows", unreachable),
    ("the_path_mtu_is_read_before_a_path_is_used", narrow),
];

/// The pause after each change of the sensors.
const PAUSE: Duration = Duration::from_millis(120);

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
    agent.until_in_use(&[&cluster.lab.sensor, &cluster.second]);
    let stream = Stream::start(&cluster.lab, 64, 4000)?;

    // The time of each request, which is before the event, and the sensor of the flows after it.
    let toggle = async |pods: &Pods| {
        let mut changes = Vec::new();
        for round in 0..ROUNDS {
            tokio::time::sleep(PAUSE).await;
            changes.push((now(), 1));
            if round % 4 == 0 {
                pods.delete("a").await?;
            } else {
                pods.set_ready("a", false).await?;
            }
            tokio::time::sleep(PAUSE).await;
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
    thread::sleep(PAUSE);
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

/// Prints and checks the time from a change to the first copy of the flows of `a` at their new sensor.
fn report(changes: &[(Duration, usize)], copies: &[Vec<Copied>; 2]) {
    let moving: BTreeSet<u16> = copies[0].iter().map(|copy| copy.flow).collect();
    let after = |(requested, to): &(Duration, usize)| {
        let moved = |copy: &&Copied| copy.time > *requested && moving.contains(&copy.flow);
        let first = copies[*to].iter().find(moved).expect("flows that moved");
        first.time.saturating_sub(*requested)
    };
    let mut delays: Vec<Duration> = changes.iter().map(after).collect();
    delays.sort();
    let at = |share: usize| delays[(delays.len() * share).div_ceil(100) - 1];
    println!(
        "from the request of a change to the first datagram at another sensor, {} changes: median \
         {:?}, p99 {:?}, longest {:?}",
        delays.len(),
        at(50),
        at(99),
        at(100)
    );
    assert!(at(50) < Duration::from_millis(100), "{delays:?}");
    // A busy machine delays some of them, and all of them somewhat.
    assert!(
        at(99) < Duration::from_millis(100) + 10 * at(50),
        "{delays:?}"
    );
}

/// A sensor's machine fails, and its pod is deleted 100 ms later.
fn dies(cluster: &mut Cluster) -> Outcome {
    cluster.add_namespace("dies")?;
    cluster.add_sensor("dies", &sensor("a", &cluster.lab.sensor))?;
    cluster.add_sensor("dies", &sensor("b", &cluster.second))?;
    let taps = [
        Tap::start(&cluster.lab.sensor)?,
        Tap::start(&cluster.second)?,
    ];
    let agent = cluster.podspan("dies", &[])?;
    agent.until_in_use(&[&cluster.lab.sensor, &cluster.second]);
    let stream = Stream::start(&cluster.lab, 64, 4000)?;
    thread::sleep(Duration::from_millis(300));
    let died = now();
    cluster.lab.sensor.port.down()?;
    thread::sleep(Duration::from_millis(100));
    cluster.administer("dies", async |pods| pods.delete("a").await)?;
    agent.until_in_use(&[&cluster.second]);
    thread::sleep(Duration::from_millis(300));
    let sent = stream.stop();
    cluster.lab.sensor.port.up()?;
    let (totals, _) = agent.end()?;
    let [a, b] = taps.map(Tap::stop);
    let ((a, at_a), (b, at_b)) = (a?, b?);
    // podspan lost nothing: the missing datagrams were sent, to the dead sensor.
    totals.assert_lossless_but(&["no_sensor"]);
    let missing = missing(sent, a.iter().chain(&b));
    let unseen = totals.get("datagrams_sent") - at_a - at_b;
    assert!(missing.len() as u64 <= unseen, "{missing:?}");
    assert!(!missing.is_empty() && missing.len() < 1000, "{missing:?}");
    let flows: BTreeSet<u16> = a.iter().map(|copy| copy.flow).collect();
    let of_b = b.iter().filter(|copy| copy.time < died);
    assert!(of_b.clone().count() > 0 && of_b.clone().all(|copy| !flows.contains(&copy.flow)));
    println!(
        "a dead sensor: of {sent} datagrams {} were sent to it and lost before the event",
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
                assert!(
                    begun.elapsed() < Duration::from_secs(5),
                    "mirroring does not resume"
                );
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            delays.push(begun.elapsed());
            pods.delete("a").await.unwrap();
            tokio::time::sleep(PAUSE * 2).await;
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
    println!("mirroring resumed after {delays:?} with the first new sensor");
    assert!(delays.iter().all(|delay| *delay < Duration::from_secs(1)));
    Ok(())
}

/// A sensor whose annotation says `socket`, but nothing listens there.
fn refuses(cluster: &mut Cluster) -> Outcome {
    cluster.add_namespace("refuses")?;
    let a = sensor("a", &cluster.lab.sensor).annotation("podspan.dev/receiver", "socket");
    cluster.add_sensor("refuses", &a)?;
    cluster.add_sensor("refuses", &sensor("b", &cluster.second))?;
    let agent = cluster.podspan("refuses", &[])?;
    agent.until_in_use(&[&cluster.lab.sensor, &cluster.second]);
    let tap = Tap::start(&cluster.second)?;
    let stream = Stream::start(&cluster.lab, 64, 1000)?;
    let begun = Instant::now();
    agent.until_logged(&["WARN", "the other sensor gets its flows", "10.77.0.3"]);
    let time = begun.elapsed();
    thread::sleep(Duration::from_millis(500));
    let sent = stream.stop();
    let (totals, _) = agent.end()?;
    let (copies, _) = tap.stop()?;
    println!("a socket that refuses lost its flows after {time:?}");
    assert!(time < Duration::from_secs(1), "{time:?}");
    let last = copies.iter().filter(|copy| copy.number + 100 >= sent);
    assert_eq!(
        last.count(),
        100,
        "at the end all copies go to the other sensor"
    );
    assert_eq!(totals.get("ring_drops"), 0);
    Ok(())
}

/// A Ready pod with an address where no host answers; later a host has the address.
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

/// The path MTU to a sensor that is added later is smaller than the interface's MTU.
fn narrow(cluster: &mut Cluster) -> Outcome {
    const PATH_MTU: u32 = 1380;
    cluster.add_namespace("narrow")?;
    let far = cluster.lab.add_host(20)?;
    let to = far.ipv4.into();
    cluster.lab.pod.eth0.add_route_with_mtu(to, PATH_MTU)?;
    cluster.add_sensor("narrow", &sensor("a", &cluster.lab.sensor))?;
    let agent = cluster.podspan("narrow", &[])?;
    agent.until_in_use(&[&cluster.lab.sensor]);
    // This tap counts an outer packet above the path MTU as a fault.
    let tap = Tap::with_mtu(&far, PATH_MTU as usize)?;
    cluster.administer("narrow", async |pods| {
        pods.create(&sensor("b", &far)).await?;
        pods.delete("a").await
    })?;
    agent.until_in_use(&[&far]);
    tcp_bulk(&cluster.lab.client, &cluster.lab.pod, Family::V4, 1 << 20)?;
    let (totals, _) = agent.end()?;
    totals.assert_lossless_but(&["no_sensor"]);
    let (_, datagrams) = tap.stop()?;
    assert!(datagrams > 700, "{datagrams} datagrams");
    Ok(())
}
