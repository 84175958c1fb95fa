//! New pods under load: of the application, and of a Deployment of three sensors. Each copy is counted.
//!
//! A pod that ends is counted too: its log is followed to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use acceptance::objects::until;
use acceptance::scenario::text;
use acceptance::{Error, Findings, Load, Received, Scenario, TCP_COPIES, Totals, segments};
use testbed::kind::Cluster;

use crate::fixture::{
    Followed, LIMIT, apply_sensors_first, capture, capturing_sensor, delete_and_read_totals,
    send_for_some_time, sum, web_mirrors,
};
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_rollout_of_the_application_fails_no_request_and_loses_no_copy",
        a_rollout_of_the_application_fails_no_request_and_loses_no_copy,
    ),
    (
        "all_that_two_hosts_send_each_other_is_at_one_of_three_sensors",
        all_that_two_hosts_send_each_other_is_at_one_of_three_sensors,
    ),
    (
        "a_restart_of_three_sensors_loses_little_and_all_of_it_is_counted",
        a_restart_of_three_sensors_loses_little_and_all_of_it_is_counted,
    ),
];

/// What an application needs to lose no request in a rollout, with or without a sidecar: it is Ready when
/// it listens, and continues to serve until no node sends it new connections.
const GRACEFUL: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      containers:
      - name: web
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
        lifecycle: {preStop: {sleep: {seconds: 5}}}
";

/// The application's service.
const URL: &str = "http://web/";

fn follow(
    scenario: &Scenario<'_>,
    selector: &str,
    container: &str,
) -> Result<Vec<Followed>, Error> {
    let pods = scenario.pod_names(selector)?;
    let follow = |pod: &String| Followed::start(scenario, pod, container);
    Ok(pods.iter().map(follow).collect())
}

/// The application with its sidecars, which have sensors.
fn apply(scenario: &Scenario<'_>, manifests: &acceptance::Manifests) -> Result<(), Error> {
    apply_sensors_first(scenario, manifests, "app=web")?;
    web_mirrors(scenario)
}

/// Ends the sensors and sums up what they received, with what those received that have ended before.
fn received(scenario: &Scenario<'_>, before: Vec<Followed>) -> Result<Received, Error> {
    let last = follow(scenario, "run=sensor", "sensor")?;
    scenario.kubectl(&["delete", "deployment", "sensor", "--wait=false"])?;
    let mut sum = Received::default();
    for log in before.into_iter().chain(last) {
        sum.add(&Received::read(&log.finish()));
    }
    Ok(sum)
}

fn a_rollout_of_the_application_fails_no_request_and_loses_no_copy(cluster: &Cluster) -> Outcome {
    let scenario = Scenario::new(cluster, "rollout", &[])?;
    let manifests = scenario
        .manifests()
        .resource("examples/central/vxlan-device")
        .patch(GRACEFUL);
    apply(&scenario, &manifests)?;
    let load = Load::endless("load", URL, 50);
    send_for_some_time(&scenario, std::slice::from_ref(&load))?;
    let before = scenario.pod_names("app=web")?;
    let old = follow(&scenario, "app=web", "podspan")?;
    scenario.kubectl(&["rollout", "restart", "deployment/web"])?;
    scenario.rolled_out(&["deployment/web"], LIMIT)?;
    let old: Vec<_> = old
        .into_iter()
        .map(|log| Totals::read(&log.finish()))
        .collect::<Result<_, _>>()?;
    let report = load.stop(&scenario)?;
    let after = scenario.pod_names("app=web")?;
    assert!(
        before.iter().all(|pod| !after.contains(pod)),
        "{before:?}, {after:?}"
    );
    assert_eq!((old.len(), after.len()), (2, 2), "all pods are new");
    let new = delete_and_read_totals(&scenario, "web", "app=web")?;
    let totals = [old, new].concat();
    let received = received(&scenario, Vec::new())?;
    let sent = sum(&totals, "datagrams_sent")?;
    println!(
        "{} requests, {} answered; four podspans sent {sent} copies, {} were received",
        report.requests, report.answered, received.frames
    );
    assert_eq!(report.answered, report.requests, "{}", report.errors);
    for total in &totals {
        let sent = total.get("datagrams_sent")?;
        assert!(sent > 50, "each pod had load: {}", total.line());
    }
    for name in ["ring_drops", "frames_dropped", "datagrams_dropped"] {
        assert_eq!(sum(&totals, name)?, 0, "{name}: {totals:?}");
    }
    let expected = Received {
        frames: sent,
        ..Received::default()
    };
    assert_eq!(
        received, expected,
        "each copy arrives once, and nothing is wrong with it"
    );
    Ok(())
}

/// The sensors of all nodes, as in the central examples.
const ANY: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      initContainers:
      - name: podspan
        env: [{name: SENSOR_PREFER, value: any}]
";

fn all_that_two_hosts_send_each_other_is_at_one_of_three_sensors(cluster: &Cluster) -> Outcome {
    let scenario = Scenario::new(cluster, "pairs", &[])?;
    scenario.apply(&capturing_sensor("sensor", 3, "eth0"))?;
    scenario.rolled_out(&["deployment/sensor"], LIMIT)?;
    let manifests = scenario
        .manifests()
        .resource("examples/base/web")
        .resource("rbac/own-namespace")
        .patch(ANY);
    scenario.apply_manifests(&manifests)?;
    web_mirrors(&scenario)?;
    let loads: Vec<_> = (0..4)
        .map(|number| Load::new(&format!("load-{number}"), "http://web/", 20, 2))
        .collect();
    for load in &loads {
        load.start(&scenario)?;
    }
    for load in &loads {
        load.finish(&scenario)?.complete(load)?;
    }
    let address = |pod: &serde_json::Value| text(&pod["status"]["podIP"]);
    let clients: BTreeSet<_> = scenario.pods("app=load")?.iter().map(address).collect();
    let servers: BTreeSet<_> = scenario.pods("app=web")?.iter().map(address).collect();
    let totals = delete_and_read_totals(&scenario, "web", "app=web")?;
    let sent = sum(&totals, "datagrams_sent")?;
    let folder = tempfile::tempdir()?;
    let sensors = scenario.pod_names("run=sensor")?;
    // tcpdump writes a packet up to a second after it has come.
    let files = until("all copies in the captures", LIMIT, || {
        let files: Vec<_> = sensors
            .iter()
            .map(|pod| capture(&scenario, pod, &folder))
            .collect();
        let mut copies = 0;
        for file in &files {
            copies += Findings::read(file)?.vxlan;
        }
        Ok(if copies == sent {
            Ok(files)
        } else {
            Err(format!("{copies} of {sent}"))
        })
    })?;
    // For each pair (client, server) the sensors that have something of it, and the directions seen there.
    let mut pairs: BTreeMap<(String, String), BTreeMap<usize, BTreeSet<String>>> = BTreeMap::new();
    for (sensor, file) in files.iter().enumerate() {
        for segment in segments(file, TCP_COPIES)? {
            let ends = [
                segment.source().to_owned(),
                segment.destination().to_owned(),
            ];
            let of =
                |hosts: &BTreeSet<String>| ends.iter().find(|end| hosts.contains(*end)).cloned();
            if let (Some(client), Some(server)) = (of(&clients), of(&servers)) {
                let at = pairs.entry((client, server)).or_default();
                at.entry(sensor)
                    .or_default()
                    .insert(segment.source().to_owned());
            }
        }
    }
    println!("pairs, and at which sensor each source was: {pairs:?}");
    assert_eq!(
        pairs.len(),
        clients.len() * servers.len(),
        "each client has used each server"
    );
    for ((client, server), at) in &pairs {
        let directions: Vec<_> = at.values().collect();
        let both = BTreeSet::from([client.clone(), server.clone()]);
        assert_eq!(
            directions,
            [&both],
            "{client} and {server}: both directions at one sensor"
        );
    }
    let used: BTreeSet<_> = pairs.values().flat_map(BTreeMap::keys).collect();
    assert!(used.len() > 1, "the pairs are spread: {pairs:?}");
    Ok(())
}

fn a_restart_of_three_sensors_loses_little_and_all_of_it_is_counted(cluster: &Cluster) -> Outcome {
    let scenario = Scenario::new(cluster, "restart", &[])?;
    let manifests = scenario
        .manifests()
        .resource("examples/central/vxlan-device");
    apply(&scenario, &manifests)?;
    let load = Load::endless("load", URL, 80);
    let begin = Instant::now();
    send_for_some_time(&scenario, std::slice::from_ref(&load))?;
    let old = follow(&scenario, "run=sensor", "sensor")?;
    assert_eq!(old.len(), 3, "three sensors");
    scenario.kubectl(&["rollout", "restart", "deployment/sensor"])?;
    scenario.rolled_out(&["deployment/sensor"], LIMIT)?;
    let report = load.stop(&scenario)?;
    let duration = begin.elapsed();
    assert_eq!(report.answered, report.requests, "{}", report.errors);
    let totals = delete_and_read_totals(&scenario, "web", "app=web")?;
    let received = received(&scenario, old)?;
    for total in &totals {
        println!("{}", total.line());
    }
    // Totals::read has checked that each frame is sent or in a counter of each podspan.
    let sent = sum(&totals, "datagrams_sent")?;
    let counted = sum(&totals, "frames_dropped")? + sum(&totals, "datagrams_dropped")?;
    let lost = sent.checked_sub(received.frames);
    let lost = lost.ok_or_else(|| format!("{sent} sent, more received: {received:?}"))?;
    println!(
        "{sent} copies sent in {} ms, {lost} of them not received; podspan counted {counted} drops",
        duration.as_millis()
    );
    let expected = Received {
        frames: sent - lost,
        ..Received::default()
    };
    assert_eq!(received, expected, "nothing is wrong with a copy");
    // Three sensors are replaced. For each, at most what all podspans send in a second.
    let limit = u64::try_from(u128::from(3 * sent) * 1000 / duration.as_millis())?;
    assert!(
        lost <= limit && counted <= limit,
        "{lost} copies were lost and {counted} counted as drops, the limit is {limit}"
    );
    Ok(())
}
