//! A run in a cluster: makes the objects, sends each load in turns, and reads what came of it.
//!
//! Comes in: a [`Plan`] and a cluster. Goes out: [`Results`]. In each round each load runs once without and
//! once with the sidecar, one directly after the other; which one is first changes from load to load and
//! from round to round. Nothing else of the bench runs at that time: all pods of a round are started
//! before, and podspan's end and the sensor's last line are waited for after each load.
//!
//! Invariants: all traffic is between pods of the one namespace, by their addresses. The namespace is
//! deleted at the end, also after an error or Ctrl-C. If the program is killed, the Jobs end by their
//! deadlines.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use acceptance::objects::{get, until};
use acceptance::scenario::text;
use acceptance::{Images, Received, Scenario, Totals};
use serde_json::{Value, json};
use testbed::kind::Cluster;

use super::arguments::SensorForm;
use super::client;
use super::error::{Error, Result};
use super::manifests::{self, APP, END};
use super::nodes;
use super::plan::Plan;
use super::print;
use super::results::{Case, Client, Environment, FORMAT, Offered, Results, Round, Sidecar};
use super::usage::Usage;

/// Long enough for a slow machine to start or end pods, and to pull images.
const LIMIT: Duration = Duration::from_mins(3);
/// A sensor prints a line a second, and its ring closes a block after milliseconds.
const QUIET: Duration = Duration::from_secs(3);

/// Where and with what a run is made.
pub(super) struct Setup<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) namespace: &'a str,
    pub(super) images: Images,
    pub(super) sensor: SensorForm,
    /// Set by Ctrl-C.
    pub(super) stop: &'a AtomicBool,
    /// Gets a line for each step.
    pub(super) report: &'a dyn Fn(&str),
}

/// Measures what `plan` says.
pub(super) fn run(setup: &Setup<'_>, plan: &Plan) -> Result<Results> {
    let measured = measure(setup, plan);
    if setup.stop.load(Ordering::Relaxed) {
        // What failed, failed because of it: kubectl gets the signal too.
        return Err(Error::Interrupted);
    }
    measured
}

fn measure(setup: &Setup<'_>, plan: &Plan) -> Result<Results> {
    let began = SystemTime::now().duration_since(UNIX_EPOCH);
    let (application, load) = nodes::choose(setup.cluster)?;
    let exists = setup.cluster.kubectl(&[
        "get",
        "namespace",
        setup.namespace,
        "--ignore-not-found",
        "-o",
        "name",
    ])?;
    if !exists.trim().is_empty() {
        return Err(Error::NamespaceExists {
            namespace: setup.namespace.to_owned(),
        });
    }
    (setup.report)(&format!(
        "namespace {}: application on {}, load and sensors on {}",
        setup.namespace, application.name, load.name
    ));
    let privileged = [("pod-security.kubernetes.io/enforce", "privileged")];
    let images = setup.images.clone();
    let scenario = Scenario::with_images(setup.cluster, setup.namespace, &privileged, images)?;
    let bench = Bench::new(
        &scenario,
        setup,
        plan,
        &application.hostname,
        &load.hostname,
    )?;
    let limit = |name: &str| {
        let limits = &bench.with["spec"]["initContainers"][0]["resources"]["limits"];
        text(&limits[name])
    };
    let environment = Environment {
        began: began.map_or(0, |time| time.as_secs()),
        cluster: setup.cluster.name().to_owned(),
        application,
        client: load,
        podspan: setup.images.podspan.clone(),
        tools: setup.images.tools.clone(),
        cpu_limit: limit("cpu"),
        memory_limit: limit("memory"),
    };
    let mut cases: Vec<Case> = plan
        .cases()
        .into_iter()
        .map(|offered| Case {
            offered,
            rounds: Vec::new(),
        })
        .collect();
    for round in 0..plan.rounds {
        bench.round(round, &mut cases)?;
    }
    Ok(Results {
        format: FORMAT,
        environment,
        plan: plan.clone(),
        cases,
    })
}

/// What all rounds share.
struct Bench<'a> {
    scenario: &'a Scenario<'a>,
    plan: &'a Plan,
    stop: &'a AtomicBool,
    report: &'a dyn Fn(&str),
    begin: Instant,
    with: Value,
    without: Value,
    client: String,
    /// The sensors' pods, in the order of the loads.
    sensors: Vec<String>,
}

/// A pod of the application.
struct Target {
    pod: String,
    address: String,
    node: String,
    /// The sidecar's container, where there is one.
    sidecar: String,
}

/// A pod of the application with its sensor.
struct Mirrored<'a> {
    target: &'a Target,
    sensor: &'a str,
    /// What the sensor had counted before the pod started.
    earlier: &'a Received,
}

impl<'a> Bench<'a> {
    /// Makes what all rounds share.
    fn new(
        scenario: &'a Scenario<'a>,
        setup: &Setup<'a>,
        plan: &'a Plan,
        application: &str,
        load: &str,
    ) -> Result<Self> {
        let count = plan.cases().len();
        manifests::sensors(scenario, setup.sensor, count, load)?;
        let client = manifests::client(&scenario.images().tools, load, plan.deadline(plan.rounds));
        scenario.apply(&client.to_string())?;
        let mut bench = Self {
            scenario,
            plan,
            stop: setup.stop,
            report: setup.report,
            begin: Instant::now(),
            with: manifests::template(scenario, application, true)?,
            without: manifests::template(scenario, application, false)?,
            client: String::new(),
            sensors: Vec::new(),
        };
        for number in 0..count {
            let name = manifests::sensor_name(number);
            let pod = bench.ready(&format!("run={name}"))?;
            let pod = text(&pod["metadata"]["name"]);
            // A receiver is Ready before it captures.
            scenario.logged(&pod, "sensor", "reading ", LIMIT)?;
            bench.sensors.push(pod);
        }
        bench.client = text(&bench.ready("bench=client")?["metadata"]["name"]);
        Ok(bench)
    }

    /// Runs each load once with and once without the sidecar.
    fn round(&self, round: u32, cases: &mut [Case]) -> Result<()> {
        let earlier = self
            .sensors
            .iter()
            .map(|sensor| self.counted(sensor))
            .collect::<Result<Vec<_>>>()?;
        let (names, jobs) = self.jobs(round);
        self.scenario.apply(&jobs.to_string())?;
        let mut targets = Vec::new();
        for name in &names {
            targets.push(self.target(name)?);
        }
        let Some((without, with)) = targets.split_first() else {
            return Ok(());
        };
        for target in with {
            self.scenario.mirrors(&target.pod, LIMIT)?;
        }
        let numbered = (0_u32..).zip(cases);
        let each = numbered.zip(with).zip(self.sensors.iter().zip(&earlier));
        for (((number, case), target), (sensor, earlier)) in each {
            self.report(&format!(
                "round {}: {}",
                round + 1,
                print::name(&case.offered)
            ));
            let mirrored = Mirrored {
                target,
                sensor,
                earlier,
            };
            let with_first = (round + number) % 2 == 1;
            let pair = self.pair(case.offered, without, &mirrored, with_first)?;
            case.rounds.push(pair);
        }
        let mut arguments = vec!["delete", "jobs", "--wait=false"];
        arguments.extend(names.iter().map(String::as_str));
        self.scenario.kubectl(&arguments)?;
        Ok(())
    }

    /// The Jobs of a round: the application without the sidecar, then with it for each load.
    fn jobs(&self, round: u32) -> (Vec<String>, Value) {
        let deadline = self.plan.deadline(1);
        let plain = format!("without-{round}");
        let mut jobs = vec![manifests::job(&plain, &self.without, "", deadline)];
        let mut names = vec![plain];
        for number in 0..self.sensors.len() {
            let name = format!("with-{round}-{number}");
            let sensor = manifests::sensor_name(number);
            jobs.push(manifests::job(&name, &self.with, &sensor, deadline));
            names.push(name);
        }
        (
            names,
            json!({"apiVersion": "v1", "kind": "List", "items": jobs}),
        )
    }

    fn pair(
        &self,
        offered: Offered,
        without: &Target,
        mirrored: &Mirrored<'_>,
        with_first: bool,
    ) -> Result<Round> {
        let plain = || self.load(offered, without);
        let with = || self.load_with_sidecar(offered, mirrored);
        let (without, (with, sidecar)) = if with_first {
            let with = with()?;
            (plain()?, with)
        } else {
            (plain()?, with()?)
        };
        Ok(Round {
            with_first,
            without,
            with,
            sidecar,
        })
    }

    /// Sends one load.
    fn load(&self, offered: Offered, target: &Target) -> Result<Client> {
        self.check_stop()?;
        let script = client::script(offered, &target.address, self.plan.seconds);
        let arguments = [
            "exec",
            &self.client,
            "-c",
            APP,
            "--",
            "/bin/sh",
            "-c",
            &script,
        ];
        client::read(offered, &self.scenario.kubectl(&arguments)?)
    }

    /// Sends one load to a pod with the sidecar, ends the pod, and reads what podspan and its sensor counted.
    fn load_with_sidecar(
        &self,
        offered: Offered,
        mirrored: &Mirrored<'_>,
    ) -> Result<(Client, Sidecar)> {
        let target = mirrored.target;
        let usage = || Usage::read(self.scenario, &target.pod, &target.node, &target.sidecar);
        let before = usage()?;
        let client = self.load(offered, target)?;
        let after = usage()?;
        let end = format!("echo >{END}");
        // The container may end before the shell in it does; whether it ends is waited for.
        let _ =
            self.scenario
                .kubectl(&["exec", &target.pod, "-c", APP, "--", "/bin/sh", "-c", &end]);
        self.ended(&target.pod)?;
        let totals = Totals::read(&self.scenario.logs(&target.pod, "podspan")?)?;
        let copies = mirrored.earlier.frames + totals.get("datagrams_sent")?;
        let received = self.received(mirrored.sensor, copies)?;
        let sidecar = sidecar(&before, &after, &totals, mirrored.earlier, &received)?;
        Ok((client, sidecar))
    }

    /// What a sensor has counted since it started.
    fn counted(&self, sensor: &str) -> Result<Received> {
        Ok(Received::read(&self.scenario.logs(sensor, "sensor")?))
    }

    /// The same when `copies` are there, or no more come.
    fn received(&self, sensor: &str, copies: u64) -> Result<Received> {
        let mut last = (0, Instant::now());
        loop {
            let received = self.counted(sensor)?;
            if received.frames != last.0 {
                last = (received.frames, Instant::now());
            }
            if received.frames >= copies || last.1.elapsed() > QUIET {
                return Ok(received);
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn target(&self, job: &str) -> Result<Target> {
        let pod = self.ready(&format!("bench={job}"))?;
        let containers = pod["status"]["initContainerStatuses"].as_array();
        let sidecar = containers
            .into_iter()
            .flatten()
            .find(|status| status["name"] == "podspan");
        Ok(Target {
            pod: text(&pod["metadata"]["name"]),
            address: text(&pod["status"]["podIP"]),
            node: text(&pod["spec"]["nodeName"]),
            sidecar: sidecar.map_or_else(String::new, |status| text(&status["containerID"])),
        })
    }

    /// The pod with a label, when it is Ready.
    fn ready(&self, label: &str) -> Result<Value> {
        let ready = until(&format!("a pod {label} that is Ready"), LIMIT, || {
            if self.stop.load(Ordering::Relaxed) {
                return Err(acceptance::Error::Timeout {
                    what: "Ctrl-C".to_owned(),
                    seconds: 0,
                    state: String::new(),
                });
            }
            let pods = self.scenario.pods(label)?;
            let Some(pod) = pods.into_iter().next() else {
                return Ok(Err("there is no pod".to_owned()));
            };
            let conditions = pod["status"]["conditions"].as_array();
            let is_ready = conditions
                .into_iter()
                .flatten()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
            Ok(if is_ready {
                Ok(pod)
            } else {
                Err(pod["status"].to_string())
            })
        });
        Ok(ready?)
    }

    /// Waits until a pod's containers have ended.
    fn ended(&self, pod: &str) -> Result<()> {
        let path = ["-n", self.scenario.namespace(), "pod", pod];
        until(&format!("the end of {pod}"), LIMIT, || {
            let phase = text(&get(self.scenario.cluster(), &path)?["status"]["phase"]);
            Ok(match phase.as_str() {
                "Succeeded" | "Failed" => Ok(()),
                _ => Err(phase),
            })
        })?;
        Ok(())
    }

    fn report(&self, step: &str) {
        (self.report)(&format!("{:>4} s  {step}", self.begin.elapsed().as_secs()));
    }

    fn check_stop(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        Ok(())
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds in nanoseconds are below 2^52"
)]
fn sidecar(
    before: &Usage,
    after: &Usage,
    totals: &Totals,
    earlier: &Received,
    received: &Received,
) -> Result<Sidecar> {
    let cpu = after.cpu_ns.zip(before.cpu_ns);
    let quota = after.quota.zip(before.quota);
    let quota = quota.map(|(after, before)| after.since(&before));
    let wrong =
        |received: &Received| received.bad_checksums + received.faults.values().sum::<u64>();
    Ok(Sidecar {
        cpu_us: cpu.map(|(after, before)| after.saturating_sub(before) as f64 / 1000.0),
        periods: quota.map(|quota| quota.periods),
        throttled: quota.map(|quota| quota.throttled),
        resident_bytes: after.resident_bytes,
        ring_packets: totals.get("ring_packets")?,
        ring_drops: totals.get("ring_drops")?,
        frames_mirrored: totals.get("frames_mirrored")?,
        frames_dropped: totals.get("frames_dropped")?,
        copies_sent: totals.get("datagrams_sent")?,
        copies_dropped: totals.get("datagrams_dropped")?,
        copies_received: received.frames.saturating_sub(earlier.frames),
        copies_wrong: wrong(received).saturating_sub(wrong(earlier)),
        lost_in_sensor: received.lost.saturating_sub(earlier.lost),
    })
}
