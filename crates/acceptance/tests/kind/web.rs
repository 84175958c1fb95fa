//! An unmodified web server with the sidecar under load: what the sensors see, and what it costs.

use std::collections::BTreeSet;
use std::time::Instant;

use acceptance::scenario::text;
use acceptance::{Access, Findings, Http, Load, Manifests, Scenario};

use crate::fixture::{LIMIT, capture, capturing_sensor, delete_and_read_totals, quota, workers};
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

fn every_request_and_response_is_complete_at_the_sensors(access: &Access) -> Outcome {
    let scenario = Scenario::new(access, "web", &[])?;
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
        workers(access),
        "one pod on each worker"
    );
    for pod in &pods {
        let name = text(&pod["metadata"]["name"]);
        scenario.logged(&name, "podspan", "usable sensors: ", LIMIT)?;
    }
    let before: Vec<_> = pods
        .iter()
        .map(|pod| quota(access, pod))
        .collect::<Result<_, _>>()?;
    let begin = Instant::now();
    let report = Load::new("load", "http://web/", 100, 6).run(&scenario)?;
    let wall = begin.elapsed();
    assert_eq!(
        (report.requests, report.answered),
        (600, 600),
        "{}",
        report.errors
    );
    for (pod, before) in pods.iter().zip(&before) {
        let used = quota(access, pod)?.since(before);
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
    let folder = tempfile::tempdir()?;
    let mut http = Http::default();
    let mut copies = 0;
    for sensor in scenario.pod_names("run=sensor")? {
        let file = capture(&scenario, &sensor, &folder);
        let found = Findings::read(&file)?;
        println!("{sensor}: {found:?}");
        assert_eq!(found.bad_checksums, 0, "bad checksums");
        assert_eq!(found.outer_fragments, 0, "outer fragments");
        assert_eq!(found.own, 0, "copies of podspan's own datagrams");
        assert_eq!(
            (found.malformed, found.gaps),
            (0, 0),
            "malformed frames, gaps"
        );
        let part = Http::read(&file)?;
        http.requests += part.requests;
        http.responses += part.responses;
        copies += found.vxlan;
    }
    // The kubelet's probes are requests too; the load's are those with the service's name.
    assert_eq!(
        http,
        Http {
            requests: 600,
            responses: 600
        }
    );
    let mut sent = 0;
    for total in &totals {
        assert_eq!(total.get("ring_drops")?, 0, "{}", total.line());
        sent += total.get("datagrams_sent")?;
    }
    assert_eq!(
        copies, sent,
        "each datagram that podspan sent is in a capture"
    );
    Ok(())
}

/// The part of the pod template that is the application's stays byte for byte what it was.
fn the_sidecar_leaves_the_applications_container_as_it_was(access: &Access) -> Outcome {
    let scenario = Scenario::new(access, "web-as-it-was", &[])?;
    let container = || -> Result<String, acceptance::Error> {
        let path = ["-n", scenario.namespace(), "deployment", "web"];
        let deployment = access.get(&path)?;
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
