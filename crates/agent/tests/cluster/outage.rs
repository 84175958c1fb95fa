//! The API server is killed for a minute under traffic. In this time the token expires and is renewed,
//! and the sensors change.

use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::Value;
use testbed::Process;
use testbed::kubernetes::Component;

use crate::endpoint::get;
use crate::fixture::{Cluster, TIMEOUT, sensor};
use crate::stream::{Stream, Tap, missing};
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[(
    "a_minute_without_the_api_server_loses_nothing",
    a_minute_without_api,
)];

/// How long podspan cannot reach the API server.
const AWAY: Duration = Duration::from_mins(1);
/// The part of this time before the API server starts again. It answers about five seconds later.
const DOWN: Duration = Duration::from_secs(35);

fn a_minute_without_api(cluster: &mut Cluster) -> Outcome {
    cluster.add_namespace("outage")?;
    let folder = cluster.credentials("outage");
    // Valid only at the beginning.
    let short = cluster.plane.sign_token("outage", "default", AWAY / 2)?;
    cluster
        .plane
        .write_pod_credentials(&folder, "outage", &short)?;
    cluster.add_sensor("outage", &sensor("a", &cluster.lab.sensor))?;
    let agent = cluster.podspan("outage", &[])?;
    agent.until_in_use(&[&cluster.lab.sensor]);
    let taps = [
        Tap::start(&cluster.lab.sensor)?,
        Tap::start(&cluster.second)?,
    ];
    let stream = Stream::start(&cluster.lab, 64, 2000)?;

    let begun = Instant::now();
    cluster.plane.kill(Component::ApiServer)?;
    agent.until_logged(&["WARN", "the last known sensors stay"]);
    thread::sleep(DOWN.saturating_sub(begun.elapsed()));
    // The API server starts again, but podspan cannot reach it yet: the sensors change in this time.
    route(cluster, "add")?;
    cluster.plane.launch(Component::ApiServer)?;
    let renewed = cluster
        .plane
        .request_token("outage", "default", Duration::from_mins(10))?;
    cluster
        .plane
        .write_pod_credentials(&folder, "outage", &renewed)?;
    cluster.administer("outage", async |pods| {
        pods.create(&sensor("b", &cluster.second)).await?;
        pods.delete("a").await
    })?;
    thread::sleep(AWAY.saturating_sub(begun.elapsed()));
    let away = begun.elapsed();
    let status = status(cluster)?;
    let api = &status["api"]["sensors"];
    assert_eq!(api["connected"], false, "{status}");
    assert!(api["view_age_seconds"].as_f64() > Some(30.0), "{status}");
    assert_eq!(status["sensors"]["by_state"]["in_use"], 1, "{status}");
    let [at_a, at_b] = [taps[0].count(), taps[1].count()];
    route(cluster, "del")?;
    let time = agent.until_in_use(&[&cluster.second]);
    thread::sleep(Duration::from_millis(300));
    let sent = stream.stop();
    let status = self::status(cluster)?;
    let api = &status["api"]["sensors"];
    assert_eq!(api["connected"], true, "{status}");
    assert!(api["view_age_seconds"].as_f64() < Some(30.0), "{status}");
    let errors = api["errors"].as_object().unwrap();
    assert!(!errors.is_empty(), "{status}");
    let (totals, log) = agent.end()?;
    let [a, b] = taps.map(Tap::stop);
    let (a, b) = (a?.0, b?.0);
    println!(
        "the API server was away for {away:?}: of {sent} datagrams none was lost, and {time:?} after \
         its return the sensors were right"
    );
    assert!(
        at_a > 100_000 && at_b == 0,
        "{at_a} and {at_b} in this time"
    );
    let missing = missing(sent, a.iter().chain(&b));
    assert!(missing.is_empty(), "{missing:?}:\n{log}");
    totals.assert_lossless_but(&["no_sensor"]);
    assert!(!b.is_empty());
    assert!(time < Duration::from_millis(2500), "{time:?}:\n{log}");
    Ok(())
}

/// What podspan says about itself.
fn status(cluster: &Cluster) -> Result<Value, Failed> {
    let (_, text) = get(&cluster.lab.pod, "/status");
    Ok(serde_json::from_str(&text)?)
}

/// Adds or removes a route that makes the API server unreachable for the pod.
fn route(cluster: &Cluster, verb: &str) -> Outcome {
    let mut command = cluster.lab.pod.namespace.command("ip");
    let api = cluster.api.ipv4.to_string();
    command.args(["route", verb, "unreachable", &api]);
    let status = Process::spawn(command)?.wait(TIMEOUT)?;
    assert!(status.success(), "ip route {verb}: {status}");
    Ok(())
}
