//! The API server is killed for a minute under traffic; meanwhile the token expires and is renewed,
//! and the sensors change.

use std::thread;
use std::time::{Duration, Instant};

use testbed::Process;
use testbed::kubernetes::Component;

use crate::fixture::{Cluster, PATIENCE, sensor};
use crate::stream::{Stream, Tap, missing};
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[(
    "a_minute_without_the_api_server_loses_nothing",
    a_minute_without_api,
)];

/// How long the API server is away for podspan.
const AWAY: Duration = Duration::from_mins(1);
/// After which part of it the API server starts again: about five seconds later it answers.
const DOWN: Duration = Duration::from_secs(35);

fn a_minute_without_api(cluster: &mut Cluster) -> Outcome {
    cluster.add_namespace("outage")?;
    let folder = cluster.credentials("outage");
    // Good for the beginning only.
    let short = cluster.plane.sign_token("outage", "default", AWAY / 2)?;
    cluster
        .plane
        .write_pod_credentials(&folder, "outage", &short)?;
    cluster.add_sensor("outage", &sensor("a", &cluster.lab.sensor))?;
    let agent = cluster.podspan("outage", &[])?;
    agent.until_fed(&[&cluster.lab.sensor]);
    let taps = [
        Tap::start(&cluster.lab.sensor)?,
        Tap::start(&cluster.second)?,
    ];
    let stream = Stream::start(&cluster.lab, 64, 2000)?;

    let begun = Instant::now();
    cluster.plane.kill(Component::ApiServer)?;
    agent.until_logged(&["WARN", "the last known sensors stay"]);
    thread::sleep(DOWN.saturating_sub(begun.elapsed()));
    // It comes back, but not yet for podspan: so the sensors can change meanwhile.
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
    let [at_a, at_b] = [taps[0].count(), taps[1].count()];
    route(cluster, "del")?;
    let took = agent.until_fed(&[&cluster.second]);
    thread::sleep(Duration::from_millis(300));
    let sent = stream.stop();
    let (totals, log) = agent.end()?;
    let [a, b] = taps.map(Tap::stop);
    let (a, b) = (a?.0, b?.0);
    println!(
        "the API server was away for {away:?}: of {sent} datagrams none was lost, and {took:?} after \
         its return the sensors were right"
    );
    assert!(at_a > 100_000 && at_b == 0, "{at_a} and {at_b} meanwhile");
    let missing = missing(sent, a.iter().chain(&b));
    assert!(missing.is_empty(), "{missing:?}:\n{log}");
    totals.assert_lossless_but(&["no_sensor"]);
    assert!(!b.is_empty());
    assert!(took < Duration::from_millis(2500), "{took:?}:\n{log}");
    Ok(())
}

/// Adds or removes a route by which the API server is out of the pod's reach.
fn route(cluster: &Cluster, verb: &str) -> Outcome {
    let mut command = cluster.lab.pod.namespace.command("ip");
    let api = cluster.api.ipv4.to_string();
    command.args(["route", verb, "unreachable", &api]);
    let status = Process::spawn(command)?.wait(PATIENCE)?;
    assert!(status.success(), "ip route {verb}: {status}");
    Ok(())
}
