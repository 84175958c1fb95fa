//! An unmodified web server with the sidecar under load: what the sensors see, and what it costs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use acceptance::objects::{get, until};
use acceptance::scenario::text;
use acceptance::{Findings, Http, Load, Manifests, Scenario};

use testbed::kind::Cluster;

use crate::fixture::{
    LIMIT, capture, capturing_sensor, delete_and_read_totals, mirrors, quota, sum, workers,
};
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "every_request_and_response_is_complete_at_the_sensors",
        every_request_and_response_is_complete_at_the_sensors,
    ),
    (
        "the_sidecar_leaves_the_applications_container_as_it_was",
        the_sidecar_leaves_the_applications_container_as_it_was,
    ),
];

fn web(scenario: &Scenario<'_>) -> Manifests {
    scenario
        .manifests()
        .resource("examples/base/web")
        .resource("rbac/own-namespace")
}

/// The limits are those in the manifest, as the kubelet has set them.
fn ring_is_computed_from_the_limits(log: &str) {
    for part in [
        "(RING_SIZE=auto)",
        "cpu_quota=\"25ms of each 100ms\"",
        "memory_limit=\"256MiB\"",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
}

fn every_request_and_response_is_complete_at_the_sensors(cluster: &Cluster) -> Outcome {
    let scenario = Scenario::new(cluster, "web", &[])?;
    scenario.apply(&capturing_sensor("sensor", 2, "eth0"))?;
    scenario.rolled_out(&["deployment/sensor"], LIMIT)?;
    scenario.apply_manifests(&web(&scenario))?;
    scenario.rolled_out(&["deployment/web"], LIMIT)?;
    let pods = scenario.pods("app=web")?;
    let nodes: BTreeSet<String> = pods
        .iter()
        .map(|pod| text(&pod["spec"]["nodeName"]))
        .collect();
    assert_eq!(
        nodes.into_iter().collect::<Vec<_>>(),
        workers(cluster),
        "one pod on each worker"
    );
    for pod in &pods {
        let name = text(&pod["metadata"]["name"]);
        mirrors(&scenario, &name)?;
        ring_is_computed_from_the_limits(&scenario.logs(&name, "podspan")?);
    }
    let before: Vec<_> = pods
        .iter()
        .map(|pod| quota(cluster, pod))
        .collect::<Result<_, _>>()?;
    let begin = Instant::now();
    let load = Load::new("load", "http://web/", 100, 6);
    let report = load.run(&scenario)?;
    let wall = begin.elapsed();
    report.complete(&load)?;
    for (pod, before) in pods.iter().zip(&before) {
        let used = quota(cluster, pod)?.since(before);
        assert_eq!(
            (used.quota_us, used.period_us),
            (25_000, 100_000),
            "the limit of 250m"
        );
        println!(
            "{}: the sidecar used {} us of CPU in {} ms; throttled in {} of {} periods",
            text(&pod["metadata"]["name"]),
            used.used_us,
            wall.as_millis(),
            used.throttled,
            used.periods
        );
        // In thousandths of a CPU; the kernel enforces 250 in each period.
        let share = u128::from(used.used_us) * 1000 / wall.as_micros();
        assert!(
            share <= 260,
            "the quota is 250 thousandths of a CPU, used were {share}"
        );
    }
    let totals = delete_and_read_totals(&scenario, "web", "app=web")?;
    for total in &totals {
        assert_eq!(total.get("ring_drops")?, 0, "{}", total.line());
    }
    let sent = sum(&totals, "datagrams_sent")?;
    let folder = tempfile::tempdir()?;
    let sensors = scenario.pod_names("run=sensor")?;
    // tcpdump writes a packet up to a second after it has come.
    let files = until(
        "all copies in the captures",
        Duration::from_secs(20),
        || {
            let mut copies = 0;
            let mut files = Vec::new();
            for sensor in &sensors {
                let file = capture(&scenario, sensor, &folder);
                copies += Findings::read(&file)?.vxlan;
                files.push(file);
            }
            Ok(if copies == sent {
                Ok(files)
            } else {
                Err(format!("{copies} of {sent}"))
            })
        },
    )?;
    let mut http = Http::default();
    for file in &files {
        let found = Findings::read(file)?;
        println!("{found:?}");
        assert_eq!(found.bad_checksums, 0, "bad checksums");
        assert_eq!(found.outer_fragments, 0, "outer fragments");
        assert_eq!(found.own, 0, "copies of podspan's own datagrams");
        assert_eq!(
            (found.malformed, found.gaps),
            (0, 0),
            "malformed frames, gaps"
        );
        let part = Http::read(file)?;
        http.requests += part.requests;
        http.responses += part.responses;
    }
    println!(
        "{} requests, {} answered; at the sensors {http:?}",
        report.requests, report.answered
    );
    assert_eq!(
        (http.requests, http.responses),
        (report.requests, report.answered)
    );
    Ok(())
}

/// The part of the pod template that is the application's stays byte for byte what it was.
fn the_sidecar_leaves_the_applications_container_as_it_was(cluster: &Cluster) -> Outcome {
    let scenario = Scenario::new(cluster, "web-as-it-was", &[])?;
    let container = || -> Result<String, acceptance::Error> {
        let path = ["-n", scenario.namespace(), "deployment", "web"];
        let deployment = get(cluster, &path)?;
        Ok(deployment["spec"]["template"]["spec"]["containers"].to_string())
    };
    let plain = Manifests::file("examples/base/web/web.yaml")?;
    // The images of the test replace those of both.
    scenario.apply_manifests(&scenario.manifests().yaml(&plain))?;
    let before = container()?;
    scenario.apply_manifests(&web(&scenario))?;
    let after = container()?;
    assert!(before.contains("\"name\":\"web\""), "{before}");
    assert_eq!(before, after);
    Ok(())
}
