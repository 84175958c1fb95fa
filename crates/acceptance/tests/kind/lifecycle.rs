//! The sidecar's part in a pod's life: the start, the end of a Job, and the end of a deleted pod.
//!
//! Each figure is a difference between pods of one run on one node: without a sidecar, with podspan, and
//! with [`TRIVIAL`]. The last one shows what the kubelet needs for any native sidecar.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use acceptance::objects::{get, until};
use acceptance::scenario::text;
use acceptance::{Exits, Findings, Scenario, Segment, TCP_COPIES, Times, Totals, images, segments};
use serde_json::{Value, json};
use testbed::kind::Cluster;

use crate::fixture::{
    Followed, LIMIT, capture, capturing_sensor, mirrors, sidecar, status, workers,
};
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[(
    "the_last_packet_of_a_deleted_pod_is_at_the_sensor",
    the_last_packet_of_a_deleted_pod_is_at_the_sensor,
)];

/// They measure times that other pods would make longer.
pub(crate) const ALONE: &[Test] = &[
    (
        "the_sidecar_delays_the_start_of_a_pod_by_less_than_300_ms",
        the_sidecar_delays_the_start_of_a_pod_by_less_than_300_ms,
    ),
    (
        "the_sidecar_delays_the_end_of_a_job_by_less_than_a_second",
        the_sidecar_delays_the_end_of_a_job_by_less_than_a_second,
    ),
];

/// What podspan is compared with: it does nothing, and ends at once on SIGTERM.
const TRIVIAL: &str = "trap 'exit 0' TERM; sleep 1000 & wait";

/// The pods that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Plain,
    Trivial,
    Podspan,
}

const KINDS: [Kind; 3] = [Kind::Plain, Kind::Trivial, Kind::Podspan];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Trivial => "trivial",
            Self::Podspan => "podspan",
        }
    }

    /// A pod's spec on `node`, with an application that runs `script`.
    fn spec(self, node: &str, podspan: &Value, script: &str) -> Value {
        let tools = |name: &str, script: &str| {
            json!({
                "name": name, "image": images::TOOLS, "imagePullPolicy": "IfNotPresent",
                "command": ["/bin/sh", "-c", script],
            })
        };
        let mut spec = json!({
            "nodeName": node,
            "restartPolicy": "Never",
            "containers": [tools("app", script)],
        });
        match self {
            Self::Plain => {}
            Self::Trivial => {
                let mut sidecar = tools("podspan", TRIVIAL);
                // The same work for the container runtime.
                for field in ["restartPolicy", "resources", "securityContext"] {
                    sidecar[field] = podspan[field].clone();
                }
                spec["initContainers"] = json!([sidecar]);
            }
            Self::Podspan => spec["initContainers"] = json!([podspan]),
        }
        spec
    }
}

/// For each kind the least of a time, and `what` it is, printed with all values. What else the machine does
/// only makes a time longer.
fn least(what: &str, times: &BTreeMap<Kind, Vec<Duration>>) -> BTreeMap<Kind, Duration> {
    let ms = |time: &Duration| time.as_millis();
    times
        .iter()
        .map(|(kind, values)| {
            let least = values.iter().min().copied().unwrap_or_default();
            let all: Vec<_> = values.iter().map(ms).collect();
            println!(
                "{what}, {}: {} ms, the least of {all:?}",
                kind.name(),
                ms(&least)
            );
            (*kind, least)
        })
        .collect()
}

/// The times of one container; the pod must be on the node.
fn times_of(times: &BTreeMap<(String, String), Times>, pod: &str, container: &str) -> Times {
    let key = (pod.to_owned(), container.to_owned());
    *times
        .get(&key)
        .unwrap_or_else(|| panic!("no {key:?} in {times:?}"))
}

/// How often each kind of pod is started, and how often again at most, while the least times are too long.
const STARTS: usize = 5;
const SERIES: usize = 4;

fn the_sidecar_delays_the_start_of_a_pod_by_less_than_300_ms(cluster: &Cluster) -> Outcome {
    let scenario = Scenario::new(cluster, "start", &[])?;
    let nodes = workers(cluster);
    let node = nodes.first().ok_or("no worker")?;
    let podspan = sidecar(&scenario)?;
    scenario.apply_manifests(&scenario.manifests().resource("rbac/own-namespace"))?;
    let version = &get(cluster, &["node", node])?["status"]["nodeInfo"]["kubeletVersion"];
    for series in 1..=SERIES {
        for number in (series - 1) * STARTS..series * STARTS {
            for kind in KINDS {
                start_pod(&scenario, kind, number, &kind.spec(node, &podspan, TRIVIAL))?;
            }
        }
        let times = Times::read(cluster, node, scenario.namespace())?;
        let Delay { total, own, limit } = delay(&times, series * STARTS);
        println!(
            "the start is delayed by {} ms; podspan's own part is {} ms",
            total.as_millis(),
            own.as_millis()
        );
        if total < limit && own < limit {
            return Ok(());
        }
        assert!(
            series < SERIES,
            "the start is delayed by {total:?}, podspan's own part is {own:?}, the limit is {limit:?}; before 1.36 \
             the kubelet polls once a second, this is {version}"
        );
    }
    Ok(())
}

fn start_pod(scenario: &Scenario<'_>, kind: Kind, number: usize, spec: &Value) -> Outcome {
    let name = format!("{}-{number}", kind.name());
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec,
    });
    pod["spec"]["terminationGracePeriodSeconds"] = json!(1);
    scenario.apply(&pod.to_string())?;
    let object = format!("pod/{name}");
    let ready = ["-n", scenario.namespace(), &object];
    scenario.cluster().wait("condition=Ready", &ready, LIMIT)?;
    Ok(())
}

/// By how much the start of an application is delayed.
struct Delay {
    total: Duration,
    /// What a sidecar that does nothing would not delay.
    own: Duration,
    limit: Duration,
}

fn delay(times: &BTreeMap<(String, String), Times>, pods: usize) -> Delay {
    let mut starts: BTreeMap<Kind, Vec<Duration>> = BTreeMap::new();
    let mut sidecars: BTreeMap<Kind, Vec<Duration>> = BTreeMap::new();
    for number in 0..pods {
        for kind in KINDS {
            let pod = format!("{}-{number}", kind.name());
            let sandbox = times_of(times, &pod, "sandbox").created;
            let started = times_of(times, &pod, "app").started.unwrap();
            starts
                .entry(kind)
                .or_default()
                .push(started.abs_diff(sandbox));
            if kind != Kind::Plain {
                let side = times_of(times, &pod, "podspan").started.unwrap();
                sidecars
                    .entry(kind)
                    .or_default()
                    .push(side.abs_diff(sandbox));
            }
        }
    }
    least("from the sandbox to the sidecar's start", &sidecars);
    let start = least("from the sandbox to the application's start", &starts);
    let trivial = start[&Kind::Trivial].saturating_sub(start[&Kind::Plain]);
    Delay {
        total: start[&Kind::Podspan].saturating_sub(start[&Kind::Plain]),
        own: start[&Kind::Podspan].saturating_sub(start[&Kind::Trivial]),
        // On a busy machine each container takes longer to start, also a sidecar that does nothing.
        limit: Duration::from_millis(300).max(trivial * 3 / 2),
    }
}

/// How often each kind of Job runs.
const JOBS: usize = 3;

fn the_sidecar_delays_the_end_of_a_job_by_less_than_a_second(cluster: &Cluster) -> Outcome {
    let scenario = Scenario::new(cluster, "jobs", &[])?;
    let nodes = workers(cluster);
    let node = nodes.last().ok_or("no worker")?;
    let podspan = sidecar(&scenario)?;
    scenario.apply_manifests(&scenario.manifests().resource("rbac/own-namespace"))?;
    let run = |kind: Kind| -> Result<Vec<Duration>, acceptance::Error> {
        (0..JOBS)
            .map(|number| {
                let job = format!("{}-{number}", kind.name());
                run_job(&scenario, &job, &kind.spec(node, &podspan, "sleep 2"))
            })
            .collect()
    };
    // Side by side, so that all kinds meet the same load of the node.
    let jobs: BTreeMap<Kind, Vec<Duration>> = thread::scope(|scope| {
        let threads = KINDS.map(|kind| (kind, scope.spawn(move || run(kind))));
        threads
            .into_iter()
            .map(|(kind, thread)| Ok((kind, thread.join().unwrap()?)))
            .collect::<Result<_, acceptance::Error>>()
    })?;
    let mut ends: BTreeMap<Kind, Vec<Duration>> = BTreeMap::new();
    let times = Times::read(cluster, node, scenario.namespace())?;
    for ((pod, container), of_app) in &times {
        let kind = KINDS.into_iter().find(|kind| pod.starts_with(kind.name()));
        let (Some(kind), "app", true) = (kind, container.as_str(), !pod.starts_with("plain"))
        else {
            continue;
        };
        let side = times_of(&times, pod, "podspan").finished.unwrap();
        let end = side.saturating_sub(of_app.finished.unwrap());
        ends.entry(kind).or_default().push(end);
    }
    let end = least("from the application's end to the sidecar's", &ends);
    let job = least("from the Job's creation to its completion", &jobs);
    let own = job[&Kind::Podspan].saturating_sub(job[&Kind::Trivial]);
    let total = job[&Kind::Podspan].saturating_sub(job[&Kind::Plain]);
    println!(
        "the Job takes {} ms longer; podspan's own part is {} ms",
        total.as_millis(),
        own.as_millis()
    );
    let trivial = job[&Kind::Trivial].saturating_sub(job[&Kind::Plain]);
    let limit = Duration::from_secs(1).max(trivial * 3 / 2);
    assert!(
        total < limit,
        "the Job takes {total:?} longer, the limit is {limit:?}"
    );
    let late = end[&Kind::Podspan].saturating_sub(end[&Kind::Trivial]);
    assert!(
        late < limit,
        "podspan ends {late:?} after a trivial sidecar"
    );
    Ok(())
}

/// Runs a Job, and returns the time from its creation to its completion.
fn run_job(
    scenario: &Scenario<'_>,
    name: &str,
    spec: &Value,
) -> Result<Duration, acceptance::Error> {
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"spec": spec}},
    });
    let begin = Instant::now();
    scenario.apply(&job.to_string())?;
    let object = format!("job/{name}");
    let complete = ["-n", scenario.namespace(), &object];
    let cluster = scenario.cluster();
    cluster.wait("condition=Complete", &complete, LIMIT)?;
    Ok(begin.elapsed())
}

type Segments = BTreeSet<Segment>;

/// nginx, and a capture of what comes and goes at its interface.
const PEER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: peer, labels: {app: peer}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  containers:
  - name: tcpdump
    image: "@tools@"
    imagePullPolicy: IfNotPresent
    command: [tcpdump, -n, -U, -B, "16384", -Z, root, -i, eth0, -w, /tmp/capture.pcap, "tcp port 8080"]
    readinessProbe: {exec: {command: [test, -s, /tmp/capture.pcap]}, periodSeconds: 1}
    securityContext: {runAsUser: 0, capabilities: {drop: [ALL], add: [NET_RAW, DAC_OVERRIDE, SETGID, SETUID]}}
  - {name: web, image: "@tools@", imagePullPolicy: IfNotPresent}
"#;

/// An application with two connections. On SIGTERM it sends a last request on one and closes it; that is
/// its last act. The kernel closes the other one when the application has ended.
const APPLICATION: &str = r"
mkfifo /tmp/one /tmp/two
nc @peer@ 8080 </tmp/one >/tmp/answer & one=$!
nc @peer@ 8080 </tmp/two >/dev/null &
exec 3>/tmp/one 4>/tmp/two
printf 'GET /?first HTTP/1.1\r\nHost: peer\r\n\r\n' | tee /tmp/two >&3
last() {
  printf 'GET /?last HTTP/1.1\r\nHost: peer\r\nConnection: close\r\n\r\n' >&3
  wait $one
  echo ended
  exit 0
}
trap last TERM
echo started
while :; do sleep 1 & wait $!; done
";

fn the_last_packet_of_a_deleted_pod_is_at_the_sensor(cluster: &Cluster) -> Outcome {
    let scenario = Scenario::new(cluster, "drain", &[])?;
    let script = script_to_a_mirrored_peer(&scenario)?;
    let node = &workers(cluster)[0];
    let application = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "application"},
        "spec": Kind::Podspan.spec(node, &sidecar(&scenario)?, &script),
    });
    scenario.apply(&application.to_string())?;
    from_its_first_packet_to_its_last(&scenario, "application", "pod/application")
}

/// A Deployment of the application without podspan, whose pods have these labels.
pub(crate) fn application_without_podspan(
    scenario: &Scenario<'_>,
    script: &str,
    labels: &Value,
) -> Value {
    let node = &workers(scenario.cluster())[0];
    let mut spec = Kind::Plain.spec(node, &Value::Null, script);
    spec["restartPolicy"] = "Always".into();
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "application"},
        "spec": {
            "selector": {"matchLabels": {"app": "application"}},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    })
}

/// Deletes the object of a pod that runs the script of [`script_to_a_mirrored_peer`]. All that the pod has sent and
/// received must be at the sensor, from the first packet of its first connection on.
pub(crate) fn from_its_first_packet_to_its_last(
    scenario: &Scenario<'_>,
    name: &str,
    object: &str,
) -> Outcome {
    scenario.logged(name, "app", "started", LIMIT)?;
    mirrors(scenario, name)?;
    let pod = get(
        scenario.cluster(),
        &["-n", scenario.namespace(), "pod", name],
    )?;
    let (delay, totals) = delete(scenario, &pod, object)?;
    println!(
        "the sidecar ends {} ms after the application",
        delay.as_millis()
    );
    assert!(delay < Duration::from_secs(2), "{delay:?}");
    for name in ["ring_drops", "frames_dropped", "datagrams_dropped"] {
        assert_eq!(totals.get(name)?, 0, "{}", totals.line());
    }
    let sent = totals.get("datagrams_sent")?;
    let address = text(&pod["status"]["podIP"]);
    let (exchanged, copied, last) = captures(scenario, &address, sent)?;
    let missing: Vec<_> = exchanged.difference(&copied).collect();
    println!(
        "{} segments at the other end, {} copies at the sensor, missing: {missing:?}",
        exchanged.len(),
        copied.len()
    );
    let last = last.first().ok_or("no last request")?;
    assert!(copied.contains(last), "the last request: {copied:?}");
    // The application's last act is complete, with the end of its connection. The peer may answer the close
    // of the other connection when the sidecar has ended too.
    let may_be_late =
        |segment: &&Segment| !segment.has_port(last.source_port()) && segment.is_empty();
    assert!(
        missing.len() <= 2 && missing.iter().all(may_be_late),
        "{missing:?}"
    );
    let closes = |segment: &&Segment| segment.closes() && segment.source() == address;
    assert_eq!(
        copied.iter().filter(closes).count(),
        2,
        "both connections are closed: {copied:?}"
    );
    Ok(())
}

/// Starts a sensor and the peer. Returns the script of an application that connects to the peer at once.
pub(crate) fn script_to_a_mirrored_peer(
    scenario: &Scenario<'_>,
) -> Result<String, acceptance::Error> {
    let cluster = scenario.cluster();
    scenario.apply(&capturing_sensor("sensor", 1, "eth0"))?;
    scenario.apply(&PEER.replace("@tools@", images::TOOLS))?;
    scenario.apply_manifests(&scenario.manifests().resource("rbac/own-namespace"))?;
    scenario.rolled_out(&["deployment/sensor"], LIMIT)?;
    let peer = ["-n", scenario.namespace(), "pod/peer"];
    cluster.wait("condition=Ready", &peer, LIMIT)?;
    let address = text(&get(cluster, &peer)?["status"]["podIP"]);
    Ok(APPLICATION.replace("@peer@", &address))
}

/// Deletes the application. Returns how much later its sidecar ended, and the sidecar's totals.
fn delete(
    scenario: &Scenario<'_>,
    pod: &Value,
    object: &str,
) -> Result<(Duration, Totals), acceptance::Error> {
    let name = text(&pod["metadata"]["name"]);
    let node = text(&pod["spec"]["nodeName"]);
    let exits = Exits::record(scenario.cluster(), &node, scenario.namespace())?;
    let logs = ["app", "podspan"].map(|container| Followed::start(scenario, &name, container));
    scenario.kubectl(&["delete", object, "--wait=false"])?;
    let [application, podspan] = logs.map(Followed::finish);
    assert!(application.contains("ended"), "{application}");
    let [application, sidecar] =
        ["app", "podspan"].map(|name| text(&status(pod, name)["containerID"]));
    let delay = until("the ends of both containers", LIMIT, || {
        let ends = (exits.of(&application)?, exits.of(&sidecar)?);
        Ok(match ends {
            (Some(application), Some(sidecar)) => Ok(sidecar.saturating_sub(application)),
            _ => Err(format!("{ends:?}")),
        })
    })?;
    Ok((delay, Totals::read(&podspan)?))
}

/// The segments that the peer exchanged with the application, those that the sensor has of them, and the
/// application's last request.
fn captures(
    scenario: &Scenario<'_>,
    application: &str,
    sent: u64,
) -> Result<(Segments, Segments, Segments), acceptance::Error> {
    let folder = tempfile::tempdir().unwrap();
    let sensor = &scenario.pod_names("run=sensor")?[0];
    // tcpdump writes a packet up to a second after it has come.
    let copied = until("all copies in the capture", LIMIT, || {
        let file = capture(scenario, sensor, &folder);
        let copies = Findings::read(&file)?.vxlan;
        if copies != sent {
            return Ok(Err(format!("{copies} of {sent}")));
        }
        segments(&file, &format!("{TCP_COPIES} && tcp.port == 8080")).map(Ok)
    })?;
    let (exchanged, last) = until("all segments in the peer's capture", LIMIT, || {
        let file = capture(scenario, "peer", &folder);
        let exchanged = segments(&file, &format!("ip.addr == {application}"))?;
        if !exchanged.is_superset(&copied) {
            return Ok(Err(format!("{exchanged:?} without some of {copied:?}")));
        }
        let last = segments(&file, "http.request.uri contains \"last\"")?;
        Ok(Ok((exchanged, last)))
    })?;
    Ok((exchanged, copied, last))
}
