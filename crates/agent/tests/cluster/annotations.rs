//! The annotations of podspan's own pod change under traffic.
//!
//! Two streams flow. One is accepted by every filter, and must be complete; the other shows when a filter
//! takes effect.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use libtest_mimic::Failed;
use testbed::kubernetes::PodDraft;

use crate::fixture::{Agent, Cluster, TIMEOUT, sensor};
use crate::stream::{Copied, OTHER, Stream, TO, Tap, missing};
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_changed_filter_takes_effect_and_a_stream_that_it_accepts_is_complete",
        filters,
    ),
    (
        "mirror_off_stops_all_copies_and_on_starts_them_again",
        switching,
    ),
    (
        "without_a_role_the_annotations_are_one_line_of_the_log_and_all_is_mirrored",
        no_role,
    ),
];

const FILTER: &str = "podspan.dev/filter";
const MIRROR: &str = "podspan.dev/mirror";
const POD: &str = "app";
const PER_SECOND: u32 = 2000;
/// Far more than the time between two datagrams, also on a busy machine.
const QUIET: Duration = Duration::from_millis(500);
/// The time after which a change must have taken effect, on a busy machine.
const LIMIT: Duration = Duration::from_secs(5);

/// A namespace with podspan's own pod, a sensor and a running podspan.
struct Scene<'c> {
    cluster: &'c Cluster,
    namespace: &'static str,
    tap: Tap,
    agent: Agent,
}

impl<'c> Scene<'c> {
    fn start(cluster: &'c Cluster, namespace: &'static str, filter: &str) -> Result<Self, Failed> {
        cluster.add_namespace(namespace)?;
        cluster.add_sensor(namespace, &sensor("a", &cluster.lab.sensor))?;
        let draft = PodDraft::new(POD);
        let own = cluster.administer(namespace, async |pods| pods.create(&draft).await)?;
        let uid = own.metadata.uid.unwrap_or_default();
        let environment = [
            ("POD_NAME", POD),
            ("POD_UID", uid.as_str()),
            ("FILTER", filter),
        ];
        let agent = cluster.podspan(namespace, &environment)?;
        agent.until_in_use(&[&cluster.lab.sensor]);
        agent.until_logged(&["INFO", "following the annotations", POD]);
        Ok(Self {
            cluster,
            namespace,
            tap: Tap::start(&cluster.lab.sensor)?,
            agent,
        })
    }

    /// Sets or removes an annotation; returns the time before the request.
    fn annotate(&self, key: &str, value: Option<&str>) -> Result<Duration, Failed> {
        let now = now();
        let annotate = async |pods: &testbed::kubernetes::Pods| {
            pods.set_annotation(POD, key, value).await.map(drop)
        };
        self.cluster.administer(self.namespace, annotate)?;
        Ok(now)
    }

    /// Waits until the other stream has stopped, and returns how long after `since` its last copy came.
    #[track_caller]
    fn until_stopped(&self, since: Duration) -> Duration {
        self.wait_for("the end of the stream", || {
            let last = self.tap.times_since(OTHER, since).into_iter().max();
            let last = last.unwrap_or(since);
            (now().saturating_sub(last) > QUIET).then(|| last.saturating_sub(since))
        })
    }

    /// Waits until the other stream has started, and returns how long after `since` its first copy came.
    #[track_caller]
    fn until_started(&self, since: Duration) -> Duration {
        self.wait_for("the start of the stream", || {
            let first = self.tap.times_since(OTHER, since).into_iter().min();
            first.map(|first| first.saturating_sub(since))
        })
    }

    #[track_caller]
    fn wait_for<T>(&self, what: &str, mut get: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(got) = get() {
                return got;
            }
            assert!(
                begun.elapsed() < TIMEOUT,
                "{what}:\n{}",
                self.agent.0.stderr()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

fn of_stream(copies: &[Copied], to: u16) -> impl Iterator<Item = &Copied> {
    copies.iter().filter(move |copy| copy.to == to)
}

fn filters(cluster: &mut Cluster) -> Outcome {
    const ROUNDS: usize = 10;
    let scene = Scene::start(cluster, "annotations", "udp portrange 7700-7799")?;
    let accepted = Stream::start(&cluster.lab, 64, PER_SECOND)?;
    let other = Stream::to_port(OTHER, &cluster.lab, 1, PER_SECOND)?;
    scene.until_started(now());
    let (narrow, wide) = (
        format!("udp port {TO}"),
        format!("udp port {TO} or port {OTHER}"),
    );
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        times.push(scene.until_stopped(scene.annotate(FILTER, Some(&narrow))?));
        times.push(scene.until_started(scene.annotate(FILTER, Some(&wide))?));
    }
    scene.until_stopped(scene.annotate(FILTER, Some(&narrow))?);
    let wrong = scene.annotate(FILTER, Some("udp prot 7777"))?;
    let words = [
        "WARN",
        FILTER,
        "at byte 4",
        "prot",
        "expected: ",
        "for example: ",
    ];
    scene.agent.until_logged(&words);
    thread::sleep(QUIET);
    assert!(
        scene.tap.times_since(OTHER, wrong).is_empty(),
        "the last valid filter stays"
    );
    // Without the annotation it is FILTER again, which accepts both.
    times.push(scene.until_started(scene.annotate(FILTER, None)?));
    scene
        .agent
        .until_logged(&["INFO", FILTER, "removed", "7700-7799"]);
    let sent = accepted.stop();
    other.stop();
    let (totals, log) = scene.agent.end()?;
    let (copies, _) = scene.tap.stop()?;
    times.sort();
    println!(
        "{} changes of the filter took effect after {:?} in the median, {:?} at most, from the request on; \
         none of {sent} datagrams that all filters accept was lost",
        times.len(),
        times[times.len() / 2],
        times[times.len() - 1],
    );
    let missing = missing(sent, of_stream(&copies, TO));
    assert!(missing.is_empty(), "{missing:?}:\n{log}");
    assert!(sent > PER_SECOND, "{sent}");
    totals.assert_lossless_but(&["no_sensor"]);
    assert!(times[times.len() - 1] < LIMIT, "{times:?}");
    assert_eq!(
        log.matches("prot").count(),
        1,
        "a wrong filter is reported once:\n{log}"
    );
    Ok(())
}

fn switching(cluster: &mut Cluster) -> Outcome {
    const WINDOW: Duration = Duration::from_secs(1);
    let scene = Scene::start(cluster, "mirror", "udp")?;
    let other = Stream::to_port(OTHER, &cluster.lab, 1, PER_SECOND)?;
    scene.until_started(now());
    let used = || {
        let before = scene.agent.time();
        thread::sleep(WINDOW);
        scene.agent.time().saturating_sub(before)
    };
    let on = used();
    let stopped = scene.until_stopped(scene.annotate(MIRROR, Some("off"))?);
    scene.agent.until_logged(&["INFO", MIRROR, "off"]);
    // The control side may still log the end of the traffic.
    thread::sleep(Duration::from_secs(2));
    let since = now();
    let off = used();
    scene.annotate(MIRROR, Some("maybe"))?;
    scene
        .agent
        .until_logged(&["WARN", MIRROR, "maybe", "\"on\" or \"off\""]);
    assert!(
        scene.tap.times_since(OTHER, since).is_empty(),
        "the last valid value stays"
    );
    let started = scene.until_started(scene.annotate(MIRROR, Some("on"))?);
    scene.agent.until_logged(&["INFO", "switched on again"]);
    scene.until_stopped(scene.annotate(MIRROR, Some("off"))?);
    scene.until_started(scene.annotate(MIRROR, None)?);
    other.stop();
    let (totals, log) = scene.agent.end()?;
    totals.assert_lossless_but(&["no_sensor"]);
    println!(
        "mirror: off took effect after {stopped:?} and on after {started:?}; CPU time in {WINDOW:?}: {on:?} on, \
         {off:?} off"
    );
    assert!(stopped < LIMIT && started < LIMIT, "{log}");
    assert!(off * 5 < on, "{off:?} off, {on:?} on");
    Ok(())
}

/// podspan tries again, and logs it once. When the Role is there, it follows the annotations.
fn no_role(cluster: &mut Cluster) -> Outcome {
    cluster.add_namespace_without_role("no-role")?;
    let sensor = cluster.lab.sensor.ipv4.to_string();
    let tap = Tap::start(&cluster.lab.sensor)?;
    let agent = cluster.podspan("no-role", &[("SENSOR", &sensor), ("POD_NAME", POD)])?;
    let refused = format!("pod {POD} in namespace no-role (403)");
    agent.until_logged(&["INFO", FILTER, MIRROR, &refused, "own-namespace"]);
    let stream = Stream::start(&cluster.lab, 64, PER_SECOND)?;
    // Two further attempts.
    let begun = Instant::now();
    while agent.0.stderr().matches(&refused).count() < 3 {
        assert!(begun.elapsed() < TIMEOUT, "{}", agent.0.stderr());
        thread::sleep(Duration::from_millis(50));
    }
    let sent = stream.stop();
    // With the Role, a later attempt succeeds.
    let draft = PodDraft::new(POD).annotation(FILTER, "udp");
    cluster.add_sensor("no-role", &draft)?;
    cluster.bind_role("no-role")?;
    agent.until_logged(&["INFO", "following the annotations", POD]);
    agent.until_logged(&["INFO", "the filter is now", "udp"]);
    let (totals, log) = agent.end()?;
    totals.assert_lossless_but(&[]);
    let (copies, _) = tap.stop()?;
    let missing = missing(sent, &copies);
    assert!(missing.is_empty(), "{missing:?} of {sent}");
    let shown = |line: &&str| line.contains(&refused) && !line.contains("DEBUG");
    assert_eq!(log.lines().filter(shown).count(), 1, "{log}");
    assert!(!log.contains("WARN"), "{log}");
    Ok(())
}
