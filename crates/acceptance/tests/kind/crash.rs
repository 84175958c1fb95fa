//! The sidecar is killed, runs out of memory, has a wrong setting, gets another image: the application in its
//! pod does not notice.
//!
//! Two loads run meanwhile: one on the pod with that sidecar, and one on the service of both pods. A pod is
//! Ready only if its sidecars run, so the tests measure for how long it was not. Frames that pass while no
//! podspan runs are not mirrored, and nobody counts them.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use acceptance::objects::until;
use acceptance::scenario::text;
use acceptance::{Error, Load, Scenario, Totals, images};
use serde_json::Value;
use testbed::kind::Cluster;

use crate::disturbed::{
    ReadyWatch, address, assert_server_untouched, at_sidecar, copies, finish, is_ready, name, pod,
    restarted, restarts, start, web,
};
use crate::fixture::{LIMIT, mirrors, status, workers};
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_killed_sidecar_is_restarted_and_mirrors_and_no_request_fails",
        killed,
    ),
    (
        "a_sidecar_out_of_memory_is_restarted_and_mirrors_and_no_request_fails",
        out_of_memory,
    ),
    (
        "a_wrong_setting_with_idle_lets_the_application_run_and_no_request_fails",
        wrong_setting,
    ),
    (
        "an_image_changed_in_a_running_pod_restarts_the_sidecar_only",
        upgraded_in_place,
    ),
];

/// The time in which the sidecar is killed as often as the kubelet starts it.
const KILLING: Duration = Duration::from_mins(2);
/// The kubelet's delays before a restart: none, and then 10 s, doubled each time.
const BACKOFF: [u64; 6] = [0, 10, 20, 40, 80, 160];
/// Longer than a kubelet on a busy machine needs to see an end, and to start a container.
const SLOW_KUBELET: Duration = Duration::from_mins(1);

/// Requests to one pod, and to the service of both.
fn two_loads(pod: &Value, seconds: u32) -> [Load; 2] {
    let direct = format!("http://{}:8080/", address(pod));
    [
        Load::new("load-pod", &direct, 20, seconds),
        Load::new("load-service", "http://web/", 20, seconds),
    ]
}

fn now() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs_f64()
}

/// When podspan started, in seconds since 1970, from the first line of its log. The log has the time of
/// day; the day is that of `after`, or the next one.
fn started(log: &str, after: f64) -> f64 {
    const DAY: f64 = 86_400.0;
    let time = log.split_once('T').unwrap().1;
    let time = time.split_once('Z').unwrap().0;
    let seconds = time
        .split(':')
        .fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap());
    // The clocks are one, so `after` is less than a day before.
    after + (seconds - after % DAY).rem_euclid(DAY)
}

/// The time from each start of podspan to the first copy after it. `ends` are the ends before the starts.
fn report_gaps(copies: &[f64], ends: &[f64], starts: &[f64]) {
    for (end, start) in ends.iter().zip(starts) {
        let first = copies.iter().find(|time| **time >= *start);
        let first = first.unwrap_or_else(|| panic!("no copy after the start at {start}"));
        let last = copies.iter().rev().find(|time| **time < *start);
        println!(
            "the first copy is {:.0} ms after the start of podspan, {:.1} s after its end; the last before \
             came {:.0} ms after the end",
            (first - start) * 1000.0,
            first - end,
            (last.unwrap_or(end) - end) * 1000.0,
        );
        assert!(first - start < 30.0, "podspan mirrors too late");
    }
}

fn killed(cluster: &Cluster) -> Outcome {
    let scenario = Scenario::new(cluster, "killed", &[])?;
    let pods = web(&scenario)?;
    let victim = pods.first().ok_or("no pod")?.clone();
    let name = name(&victim);
    let watch = ReadyWatch::start(&scenario, &name);
    let loads = two_loads(&victim, 130);
    start(&scenario, &loads)?;
    let begin = Instant::now();
    let (mut ends, mut starts) = (Vec::new(), Vec::new());
    let mut current = victim.clone();
    while begin.elapsed() < KILLING {
        ends.push(now());
        at_sidecar(cluster, &current, "kill -9 $1")?;
        let count = ends.len().try_into()?;
        let left = KILLING.saturating_sub(begin.elapsed());
        current = match restarted(&scenario, &name, count, left) {
            Ok(pod) => pod,
            // The kubelet waits longer than the time that is left.
            Err(Error::Timeout { .. }) => break,
            Err(error) => return Err(error.into()),
        };
        mirrors(&scenario, &name)?;
        let log = scenario.logs(&name, "podspan")?;
        starts.push(started(&log, *ends.last().unwrap()));
        // The log is a little earlier than the copies.
        thread::sleep(Duration::from_secs(1));
    }
    finish(&scenario, &loads)?;
    let unready = watch.finish();
    println!(
        "{} kills and {} restarts in {:?}; not Ready for {unready:?}",
        ends.len(),
        starts.len(),
        begin.elapsed()
    );
    assert!(starts.len() >= 2, "the kubelet restarts it");
    assert!(unready.len() <= ends.len(), "not Ready for another reason");
    for (time, backoff) in unready.iter().zip(BACKOFF) {
        let allowed = Duration::from_secs(backoff) + SLOW_KUBELET;
        assert!(*time < allowed, "not Ready for {time:?}");
    }
    assert_server_untouched(&victim, &pod(&scenario, &name)?);
    report_gaps(&copies(&scenario, &[address(&victim)])?, &ends, &starts);
    Ok(())
}

/// A process in the sidecar's control group takes memory until the kernel kills: podspan first, because
/// the kubelet gave it a much higher `oom_score_adj`, and then the process itself.
const FILL_MEMORY: &str = r#"
f=$(find /sys/fs/cgroup -path "*$id*" -name cgroup.procs | grep -E '/memory/|^/sys/fs/cgroup/kube' | head -n 1)
sh -c 'echo $$ >"$1"; exec timeout 20 tail -n 1 /dev/zero >/dev/null' sh "$f" || true
"#;

fn out_of_memory(cluster: &Cluster) -> Outcome {
    let scenario = Scenario::new(cluster, "out-of-memory", &[])?;
    let pods = web(&scenario)?;
    let victim = pods.first().ok_or("no pod")?.clone();
    let name = name(&victim);
    let watch = ReadyWatch::start(&scenario, &name);
    let loads = two_loads(&victim, 30);
    start(&scenario, &loads)?;
    let mut current = victim.clone();
    let (mut ends, mut starts) = (Vec::new(), Vec::new());
    // containerd reports a container that the kernel has killed as `Error` in one of thirty cases.
    for count in 1..=3 {
        ends.push(now());
        let id = text(&status(&current, "podspan")["containerID"]);
        let id = id.rsplit('/').next().unwrap_or_default();
        at_sidecar(cluster, &current, &format!("id={id}{FILL_MEMORY}"))?;
        current = restarted(&scenario, &name, count, LIMIT)?;
        mirrors(&scenario, &name)?;
        let log = scenario.logs(&name, "podspan")?;
        starts.push(started(&log, *ends.last().unwrap()));
        let last = &status(&current, "podspan")["lastState"]["terminated"];
        println!("last state: {last}");
        assert_eq!(last["exitCode"], 137, "{last}");
        if last["reason"] == "OOMKilled" {
            break;
        }
    }
    let last = &status(&current, "podspan")["lastState"]["terminated"];
    assert_eq!(last["reason"], "OOMKilled", "{last}");
    finish(&scenario, &loads)?;
    let unready = watch.finish();
    println!("not Ready for {unready:?}");
    assert!(unready.len() <= ends.len(), "not Ready for another reason");
    assert_server_untouched(&victim, &pod(&scenario, &name)?);
    report_gaps(&copies(&scenario, &[address(&victim)])?, &ends, &starts);
    Ok(())
}

/// The text of podspan about the setting: its name, its value and what to write instead.
const WRONG: [&str; 2] = [r#"VNI="abc""#, "VNI=0xabc"];

fn patch(on_failure: &str) -> String {
    serde_json::json!({"spec": {"template": {"spec": {"initContainers": [{
        "name": "podspan",
        "env": [
            {"name": "VNI", "value": "abc"},
            {"name": "ON_FAILURE", "value": on_failure},
        ],
    }]}}}})
    .to_string()
}

fn wrong_setting(cluster: &Cluster) -> Outcome {
    let scenario = Scenario::new(cluster, "wrong-setting", &[])?;
    web(&scenario)?;
    let loads = [Load::new("load", "http://web/", 20, 25)];
    start(&scenario, &loads)?;

    // With `idle`, the application runs and nothing is mirrored.
    scenario.kubectl(&["patch", "deployment", "web", "--patch", &patch("idle")])?;
    scenario.rolled_out(&["deployment/web"], LIMIT)?;
    let idle = scenario.pods("app=web")?;
    for pod in &idle {
        assert!(is_ready(pod) && restarts(pod) == 0, "{pod}");
        let line = "ON_FAILURE=idle: nothing is mirrored";
        let log = scenario.logged(&name(pod), "podspan", line, LIMIT)?;
        assert!(WRONG.iter().all(|part| log.contains(part)), "{log}");
    }
    finish(&scenario, &loads)?;

    // With the default, podspan ends each time, and the pod is not Ready until the next start. The
    // application may run: the kubelet starts it when it has seen podspan running before its end.
    scenario.kubectl(&["patch", "deployment", "web", "--patch", &patch("exit")])?;
    let is_new = |pod: &Value| idle.iter().all(|old| name(old) != name(pod));
    let crashing = until("a pod that waits with the wrong setting", LIMIT, || {
        let pods = scenario.pods("app=web")?;
        let Some(pod) = pods.into_iter().find(is_new) else {
            return Ok(Err("no new pod".to_owned()));
        };
        let waits = pod["status"]["initContainerStatuses"].is_array()
            && status(&pod, "podspan")["state"]["waiting"]["reason"] == "CrashLoopBackOff";
        Ok(if waits {
            Ok(pod)
        } else {
            Err(pod["status"].to_string())
        })
    })?;
    let ended = &status(&crashing, "podspan")["lastState"]["terminated"];
    assert_eq!(ended["exitCode"], 64, "{ended}");
    assert!(!is_ready(&crashing), "{crashing}");
    let log = scenario.logs(&name(&crashing), "podspan")?;
    assert!(WRONG.iter().all(|part| log.contains(part)), "{log}");
    println!(
        "the application's state: {}",
        status(&crashing, "web")["state"]
    );
    Ok(())
}

fn upgraded_in_place(cluster: &Cluster) -> Outcome {
    const UPGRADED: &str = "podspan.local/podspan:upgraded";
    for node in workers(cluster) {
        let tag = ["ctr", "-n", "k8s.io", "images", "tag", "--force"];
        cluster.exec_in_node(&node, &[&tag[..], &[images::PODSPAN, UPGRADED]].concat())?;
    }
    let scenario = Scenario::new(cluster, "upgraded", &[])?;
    let pods = web(&scenario)?;
    let before = pods.first().ok_or("no pod")?.clone();
    let name = name(&before);
    let watch = ReadyWatch::start(&scenario, &name);
    let loads = two_loads(&before, 20);
    start(&scenario, &loads)?;
    let end = now();
    let image = format!("podspan={UPGRADED}");
    scenario.kubectl(&["set", "image", &format!("pod/{name}"), &image])?;
    let after = restarted(&scenario, &name, 1, LIMIT)?;
    let ended = &status(&after, "podspan")["lastState"]["terminated"];
    assert_eq!(ended["exitCode"], 0, "{ended}");
    mirrors(&scenario, &name)?;
    let started = started(&scenario.logs(&name, "podspan")?, end);
    // The old one was stopped, not killed: it has sent what it had seen.
    let old = scenario.kubectl(&["logs", "--previous", &name, "-c", "podspan"])?;
    let totals = Totals::read(&old)?;
    assert_eq!(totals.get("ring_drops")?, 0, "{}", totals.line());
    assert!(!totals.line().contains("not_drained"), "{}", totals.line());
    finish(&scenario, &loads)?;
    let unready = watch.finish();
    println!("not Ready for {unready:?}");
    assert!(unready.len() <= 1, "not Ready for another reason");
    assert_server_untouched(&before, &pod(&scenario, &name)?);
    report_gaps(&copies(&scenario, &[address(&before)])?, &[end], &[started]);
    Ok(())
}
