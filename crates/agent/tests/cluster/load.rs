//! The cost of many events, of many other pods, and of idle time.

use std::thread;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use kube::api::ListParams;
use testbed::kubernetes::{Error, PodDraft, Pods};

use crate::fixture::{Agent, Cluster, sensor};
use crate::memory;
use crate::stream::{Stream, Tap};
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "idle_with_a_quiet_api_server_it_uses_little_cpu_and_memory",
        idle,
    ),
    ("events_by_the_thousand_do_not_slow_the_worker", events),
    ("other_pods_by_the_thousand_cost_nothing", others),
];

fn idle(cluster: &mut Cluster) -> Outcome {
    const QUIET: Duration = Duration::from_secs(20);
    cluster.add_namespace("idle")?;
    cluster.add_sensor("idle", &sensor("a", &cluster.lab.sensor))?;
    cluster.add_sensor("idle", &PodDraft::new("app"))?;
    // With a file of annotations, podspan has no second watch.
    let file = [("ANNOTATIONS", "/nonexistent/annotations")];
    let agent = cluster.podspan("idle", &file)?;
    agent.until_in_use(&[&cluster.lab.sensor]);
    thread::sleep(Duration::from_secs(1));
    let with_one_watch = agent.working_kib();
    agent.end()?;
    let agent = cluster.podspan("idle", &[("POD_NAME", "app")])?;
    agent.until_in_use(&[&cluster.lab.sensor]);
    agent.until_logged(&["following the annotations", "pod app"]);
    thread::sleep(Duration::from_secs(1));
    let before = agent.time();
    thread::sleep(QUIET);
    let used = agent.time().saturating_sub(before);
    let share = used.as_secs_f64() / QUIET.as_secs_f64();
    let working = agent.working_kib();
    agent.end()?;
    println!(
        "idle with a quiet API server: {:.3} % of a core, {working} KiB resident apart from the \
         ring and the program, {with_one_watch} KiB without the watch on its own pod",
        share * 100.0
    );
    assert!(share < 0.002, "{share}");
    assert!(working < memory::BOUND_KIB, "{working} KiB");
    Ok(())
}

/// Two sensors stay, two more get and lose the label, a little more often than 5,000 times a minute.
fn events(cluster: &mut Cluster) -> Outcome {
    const PER_SECOND: u32 = 88;
    const FRAMES_PER_SECOND: u32 = 20_000;
    const WINDOW: Duration = Duration::from_millis(500);
    const BATCH: usize = 40;
    const BATCHES: usize = 4;
    const WANTED: f64 = 1.05;
    const LIMIT: f64 = 1.1;
    cluster.add_namespace("events")?;
    let more = [cluster.lab.add_host(31)?, cluster.lab.add_host(32)?];
    let stay = [&cluster.lab.sensor, &cluster.second];
    for (name, host) in ["a", "b", "c", "d"]
        .into_iter()
        .zip(stay.into_iter().chain(&more))
    {
        cluster.add_sensor("events", &sensor(name, host))?;
    }
    let agent = cluster.podspan("events", &[])?;
    agent.until_in_use(&[stay[0], stay[1], &more[0], &more[1]]);
    let stream = Stream::start(&cluster.lab, 64, FRAMES_PER_SECOND)?;
    // On a shared machine, two windows without events differ by a tenth, and the difference grows with
    // time. So each window is compared with the one next to it, and more pairs are measured if the
    // ratio is too high.
    let (mut ratios, mut count) = (Vec::new(), 0);
    for _ in 0..BATCHES {
        for _ in 0..BATCH {
            let quiet = cost(&agent, &stream, || thread::sleep(WINDOW));
            let busy = cost(&agent, &stream, || {
                let work = async |pods: &Pods| change_labels(pods, PER_SECOND, WINDOW).await;
                count += cluster.administer("events", work).unwrap();
            });
            ratios.push(busy / quiet);
        }
        if median(&mut ratios) < WANTED {
            break;
        }
    }
    agent.until_in_use(&[stay[0], stay[1], &more[0], &more[1]]);
    let taps = [
        Tap::start(stay[0])?,
        Tap::start(stay[1])?,
        Tap::start(&more[0])?,
        Tap::start(&more[1])?,
    ];
    thread::sleep(Duration::from_millis(300));
    stream.stop();
    let delay = agent.worker_delay();
    let (totals, log) = agent.end()?;
    // On a busy machine the worker waits for a processor while the ring fills. What it loses then is no more
    // than what arrived meanwhile.
    let unavoidable = delay.as_secs_f64() * f64::from(FRAMES_PER_SECOND);
    totals.assert_lossless_but_ring_and(&["no_sensor"]);
    let lost = totals.get("ring_drops");
    assert!(
        f64::from(u32::try_from(lost)?) <= unavoidable,
        "{lost} frames found no room in the ring, and the worker waited {delay:?} for a processor"
    );
    for tap in taps {
        let (copies, _) = tap.stop()?;
        assert!(copies.len() > 300, "each gets a part: {}", copies.len());
    }
    let ratio = median(&mut ratios);
    println!(
        "{count} label events in {:?}, {} tables: the worker's CPU per packet is {ratio:.3} times \
         that without events (median of {} pairs of windows of {WINDOW:?}; quartiles {:.3} and {:.3})",
        WINDOW * u32::try_from(ratios.len())?,
        log.matches("sensors in use: ").count(),
        ratios.len(),
        ratios[ratios.len() / 4],
        ratios[ratios.len() * 3 / 4],
    );
    // The API server runs on the same two cores and slows the worker's caches.
    assert!(ratio < LIMIT, "{ratios:?}");
    Ok(())
}

/// The worker's CPU time per datagram of the stream during `work`, in seconds.
fn cost(agent: &Agent, stream: &Stream, work: impl FnOnce()) -> f64 {
    let (time, sent) = (agent.worker_time(), stream.sent());
    work();
    let time = agent.worker_time().saturating_sub(time);
    time.as_secs_f64() / f64::from(stream.sent() - sent)
}

fn median(ratios: &mut [f64]) -> f64 {
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

/// Removes the label from two pods and adds it again, at a constant rate. Returns the number of
/// events.
async fn change_labels(pods: &Pods, per_second: u32, lasting: Duration) -> Result<u32, Error> {
    let events = per_second * u32::try_from(lasting.as_millis()).unwrap_or(0) / 1000;
    let rounds = events / 4;
    let start = Instant::now();
    let toggle = async |pod| {
        for round in 0..rounds {
            let due = lasting * round / rounds;
            tokio::time::sleep(due.saturating_sub(start.elapsed())).await;
            pods.set_label(pod, "run", Some("other")).await?;
            pods.set_label(pod, "run", Some("zeek")).await?;
        }
        Ok::<_, Error>(())
    };
    tokio::try_join!(toggle("c"), toggle("d"))?;
    Ok(4 * rounds)
}

fn others(cluster: &mut Cluster) -> Outcome {
    const OTHERS: usize = 5000;
    cluster.add_namespace("others")?;
    cluster.add_sensor("others", &sensor("a", &cluster.lab.sensor))?;
    // The API server sends only to podspan over this interface.
    let served = || {
        cluster
            .api
            .eth0
            .statistics()
            .map(|counters| counters.tx_bytes)
    };
    let start = || -> Result<(Agent, u64), libtest_mimic::Failed> {
        let before = served()?;
        let agent = cluster.podspan("others", &[])?;
        agent.until_in_use(&[&cluster.lab.sensor]);
        thread::sleep(Duration::from_millis(500));
        Ok((agent, served()? - before))
    };
    let (agent, without) = start()?;
    let resident = agent.working_kib();
    let begun = (Instant::now(), served()?);
    cluster.administer("others", async |pods| {
        let create = async |number: usize| {
            let draft = PodDraft::new(format!("other-{number}")).label("run", "other");
            pods.create(&draft).await.map(drop)
        };
        let creations = stream::iter((0..OTHERS).map(create)).buffer_unordered(16);
        creations.try_collect::<()>().await
    })?;
    let (time, watching) = (begun.0.elapsed(), served()? - begun.1);
    let grown = agent.working_kib() - resident.min(agent.working_kib());
    agent.end()?;
    let (agent, among) = start()?;
    let resident_among = agent.working_kib();
    agent.end()?;
    let (bytes, kib) = unselective(cluster)?;
    println!(
        "{OTHERS} other pods: {without} bytes received by a start without them and {among} with \
         them, {watching} while they were created for {time:?}; an unselective list is {bytes} bytes. \
         Resident {resident} KiB without them and {resident_among} with them, {grown} more while they \
         were created; an unselective list needs {kib} KiB"
    );
    assert!(
        among < without + 4096,
        "{without} without, {among} among others"
    );
    assert!(watching < 32 << 10, "{watching}");
    assert!(grown < 512 && resident_among < resident + 512);
    assert!(bytes > 100 * among && kib > 8 * 1024);
    Ok(())
}

/// The cost of a list of all pods: bytes of the answer, and KiB of this process for the list.
fn unselective(cluster: &Cluster) -> Result<(u64, u64), libtest_mimic::Failed> {
    let resident = || -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok())
            .unwrap()
    };
    let before = resident();
    let kib = cluster.administer("others", async |pods| {
        let list = pods.api().list(&ListParams::default()).await.unwrap();
        let kib = resident().saturating_sub(before);
        drop(list);
        kib
    });
    let answer = cluster
        .plane
        .kubectl(["get", "--raw=/api/v1/namespaces/others/pods"])?;
    Ok((answer.len() as u64, kib))
}
