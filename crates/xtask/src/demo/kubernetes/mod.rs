//! `cargo xtask demo --kubernetes`: the sensors are found by name, and change while traffic crosses.
//!
//! ```text
//!   client ---- bridge ---- pod ---- podspan, SENSOR=sensor, no address
//!                |  |  |
//!                |  |  '--- sensor-1    goes after two thirds of the time
//!                |  '------ sensor-2    comes after one third
//!                '--------- etcd, kube-apiserver with RBAC on, and podspan may only what the
//!                           shipped Role says
//! ```
//! A sensor goes as a pod does that is deleted: its pod begins to terminate, and some moments later
//! its cable is pulled and the pod is gone. podspan has stopped sending by then, so nothing is
//! lost. A machine that dies without a word would lose what was sent to it until the API server
//! knew.
//!
//! podspan's talk with the API server is ordinary traffic of the pod's eth0: it is mirrored and
//! counted on both sides like any other. The markers are sent when it pauses.

mod cluster;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use benches::grouped;
use testbed::Lab;

use super::sensors::Tally;
use super::stage::{Ending, Play, Stage, sensor};
use super::{Options, VNI};
use crate::failure::{Failure, Result};
use cluster::{Cluster, NAME, NAMESPACE, ROLE, SensorPod};

/// The hosts' numbers in the lab.
const SECOND_SENSOR: u8 = 4;
const API_SERVER: u8 = 10;
/// At most so long a terminating sensor stays.
const GRACE: Duration = Duration::from_secs(1);
/// A token must outlive the demo, and the API server gives none for less than ten minutes.
const TOKEN_MARGIN: Duration = Duration::from_hours(1);

/// Starts the control plane with the first sensor in it.
pub(super) fn stage(lab: &Lab, options: &Options) -> Result<Stage> {
    println!("starting etcd and kube-apiserver");
    let length = Duration::from_secs(options.seconds);
    let first = SensorPod {
        name: "sensor-1",
        sensor: sensor(&lab.sensor, options),
    };
    let second = SensorPod {
        name: "sensor-2",
        sensor: sensor(&lab.add_host(SECOND_SENSOR)?, options),
    };
    let host = lab.add_host(API_SERVER)?;
    let cluster = Cluster::start(&host)?;
    let kubeconfig = cluster.credentials(length + TOKEN_MARGIN)?;
    for pod in [&first, &second] {
        cluster.create(pod)?;
    }
    cluster.make_ready(&first)?;
    let introduction = format!(
        "client {}, pod {}, sensors {} and {}, API server {}: each in its own network namespace, \
         on one bridge\n\
         podspan runs in the pod with SENSOR={NAME} and no address; {ROLE} is all that it may",
        lab.client.ipv4,
        lab.pod.ipv4,
        first.sensor.host.ipv4,
        second.sensor.host.ipv4,
        cluster.url()
    );
    let settings = vec![
        ("SENSOR", NAME.to_owned()),
        ("KUBECONFIG", kubeconfig.display().to_string()),
        ("POD_NAMESPACE", NAMESPACE.to_owned()),
        ("VNI", VNI.to_string()),
        // One client and one pod, whose flows shall reach both sensors.
        ("SPREAD", "flows".to_owned()),
    ];
    let sensors = vec![first.sensor.clone(), second.sensor.clone()];
    let story = Story {
        cluster,
        first,
        second,
        schedule: Schedule::new(length),
        told: 0,
        came: None,
        ending: None,
        gone: None,
    };
    Ok(Stage::with_play(introduction, sensors, settings, story))
}

/// What is to be done when, counted from the beginning of the traffic.
#[derive(Debug)]
struct Schedule {
    comes: Duration,
    ends: Duration,
    /// How long it stays after it began to end.
    grace: Duration,
}

impl Schedule {
    fn new(length: Duration) -> Self {
        Self {
            comes: length / 3,
            ends: length * 2 / 3,
            grace: GRACE.min(length / 6),
        }
    }
}

/// The sensors' coming and going. Times are since 1970, as captures have them.
struct Story {
    cluster: Cluster,
    first: SensorPod,
    second: SensorPod,
    schedule: Schedule,
    /// How many bytes of podspan's log have been told.
    told: usize,
    /// When the second sensor was made Ready, just before the API server was asked.
    came: Option<Duration>,
    /// When the first one was to end, likewise.
    ending: Option<Duration>,
    /// When its cable was pulled.
    gone: Option<Duration>,
}

impl Story {
    /// Does the next thing if it is due, and says what it did.
    fn act(&mut self, elapsed: Duration) -> Result<Option<String>> {
        let (first, second) = (&self.first, &self.second);
        if self.came.is_none() {
            if elapsed < self.schedule.comes {
                return Ok(None);
            }
            self.came = Some(now());
            self.cluster.make_ready(second)?;
            return Ok(Some(format!("{} is Ready now", second.name)));
        }
        let Some(ending) = self.ending else {
            if elapsed < self.schedule.ends {
                return Ok(None);
            }
            self.ending = Some(now());
            self.cluster.begin_end(first)?;
            return Ok(Some(format!("{} begins to terminate", first.name)));
        };
        if self.gone.is_some() || now() < ending + self.schedule.grace {
            return Ok(None);
        }
        self.gone = Some(now());
        first.sensor.host.port.down()?;
        self.cluster.remove(first)?;
        Ok(Some(format!("{} is gone, its cable pulled", first.name)))
    }

    /// The lines that podspan has logged about sensors since the last time.
    fn news(&mut self, log: &str) -> Vec<String> {
        let new = log.get(self.told..).unwrap_or_default();
        // The last line may not be complete yet.
        let new = new.rfind('\n').map_or("", |end| &new[..=end]);
        self.told += new.len();
        let lines = new.lines().filter(|line| line.contains("sensor"));
        lines.map(|line| format!("podspan: {line}")).collect()
    }

    fn came_line(&self, tally: Tally) -> String {
        let first = tally.times.map(|(first, _)| first);
        let times = self.came.zip(first);
        let more = times.map_or_else(String::new, |(came, first)| {
            let after = milliseconds(first.saturating_sub(came));
            format!("; the first {after} after its pod was made Ready")
        });
        received_line(&self.second, tally, &more)
    }

    fn gone_line(&self, tally: Tally) -> String {
        let last = tally.times.map(|(_, last)| last);
        let more = match (self.ending.zip(last), self.gone) {
            (Some((ending, last)), Some(gone)) => {
                let word = last.checked_sub(ending).map_or_else(
                    || "none after its pod was deleted".to_owned(),
                    |after| format!("the last {} after its pod was deleted", milliseconds(after)),
                );
                let grace = milliseconds(gone.saturating_sub(ending));
                format!("; {word}, its cable was pulled after {grace}")
            }
            _ => String::new(),
        };
        received_line(&self.first, tally, &more)
    }

    /// Both sensors had their part, and the second one alone had it at the end.
    fn verdict(&self, tallies: &[Tally]) -> Result<()> {
        let wrong = |text: &str| Err(Failure::Wrong(text.to_owned()));
        let Some(gone) = self.gone else {
            return wrong(
                "this machine is too busy for the sensors to come and go in time. Try --seconds 30",
            );
        };
        let [first, second] = tallies else {
            return wrong("there are not two sensors");
        };
        let after = |tally: &Tally| tally.times.is_some_and(|(_, last)| last > gone);
        match (first.frames, second.frames) {
            (0, _) => wrong("the first sensor got nothing"),
            (_, 0) => wrong("the second sensor got nothing"),
            _ if !after(second) => wrong("nothing arrived after the first sensor was gone"),
            _ => Ok(()),
        }
    }
}

impl Play for Story {
    fn advance(&mut self, elapsed: Duration, log: &str) -> Result<Vec<String>> {
        let mut lines = self.news(log);
        let done = self.act(elapsed)?;
        lines.extend(done.map(|done| format!("cluster: {done}")));
        Ok(lines)
    }

    fn rows(&self, tallies: &[Tally], log: &str) -> Vec<(String, String)> {
        let pods = [&self.first, &self.second];
        let fed = fed(log);
        let row = |(pod, tally): (&SensorPod, &Tally)| {
            let address = pod.sensor.address.to_string();
            let is_fed = fed.split([',', ' ']).any(|word| word == address);
            let mark = if is_fed { "fed" } else { "not fed" };
            (format!("at {}, {mark}", pod.name), grouped(tally.frames))
        };
        pods.into_iter().zip(tallies).map(row).collect()
    }

    fn ending(&self, tallies: &[Tally]) -> Ending {
        let tally = |at: usize| tallies.get(at).copied().unwrap_or_default();
        Ending {
            lines: vec![
                self.gone_line(tally(0)),
                self.came_line(tally(1)),
                "tcp       holds podspan's talk with the API server too: it crosses the pod's eth0"
                    .to_owned(),
            ],
            verdict: self.verdict(tallies),
        }
    }
}

/// The sensors that podspan feeds, by its own words: the end of the last line that lists them.
fn fed(log: &str) -> &str {
    let lists = log.lines().rev().find_map(|line| {
        let none = line.contains(" no sensor: ").then_some("");
        none.or_else(|| Some(line.split_once(" sensors in use: ")?.1))
    });
    lists.unwrap_or_default()
}

fn received_line(pod: &SensorPod, tally: Tally, more: &str) -> String {
    let frames = grouped(tally.frames);
    format!(
        "{:<10}{} got {frames} frames{more}",
        pod.name, pod.sensor.address
    )
}

fn now() -> Duration {
    // A clock before 1970 shows times of no meaning, and nothing else.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
2026-11-23T10:00:00Z  INFO podspan starts sensor=sensor
2026-11-23T10:00:01Z  WARN no sensor: there are no usable pods unusable=2
2026-11-23T10:00:02Z  INFO usable sensors: 10.77.0.3:4789 (shop/sensor-1, sniffer) count=1
2026-11-23T10:00:02Z  INFO sensors in use: 10.77.0.3:4789 known=1 ejected=0 on_other_nodes=0
2026-11-23T10:00:03Z  INFO mirroring interface=eth0
";

    #[test]
    fn the_last_list_of_sensors_counts() {
        assert!(fed(LOG).starts_with("10.77.0.3:4789 known=1"));
        let later = format!("{LOG}2026-11-23T10:00:04Z  WARN no sensor: there are none");
        assert_eq!(fed(&later), "");
        assert_eq!(fed(""), "");
    }

    #[test]
    fn everything_happens_within_the_time() {
        for seconds in [super::super::SHORTEST_STORY, 10, 3_600] {
            let length = Duration::from_secs(seconds);
            let schedule = Schedule::new(length);
            assert!(schedule.comes < schedule.ends);
            assert!(schedule.ends + schedule.grace < length);
            assert!(schedule.grace <= GRACE);
        }
    }
}
