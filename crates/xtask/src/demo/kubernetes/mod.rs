//! `cargo xtask demo --kubernetes`: the sensors are found by name, and change during the traffic.
//!
//! ```text
//!   client ---- bridge ---- pod ---- podspan, SENSOR=sensor, no address
//!                |  |  |
//!                |  |  '--- sensor-1    removed after two thirds of the time
//!                |  '------ sensor-2    Ready after one third
//!                '--------- etcd, kube-apiserver with RBAC on; podspan has only the rights of the
//!                           shipped Role
//! ```
//! sensor-1 is removed as a deleted pod is: its pod begins to terminate, and up to a second later its
//! link goes down and the pod is removed. podspan has stopped sending to it by then, so nothing is
//! lost. When a machine fails without notice, the copies to it are lost until the API server reports
//! the failure.
//!
//! podspan's requests to the API server are ordinary traffic of the pod's eth0: they are mirrored and
//! counted on both sides. The markers are sent while they pause.

mod cluster;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use benches::grouped;
use testbed::Lab;

use super::scenario::{Events, Scenario, Summary, sensor_host};
use super::sensors::Arrivals;
use super::{Options, VNI};
use crate::failure::{Failure, Result};
use cluster::{Cluster, NAME, NAMESPACE, ROLE, SensorPod};

/// The hosts' numbers in the lab.
const SECOND_SENSOR: u8 = 4;
const API_SERVER: u8 = 10;
/// The longest time between the request to delete a sensor and its removal.
const GRACE: Duration = Duration::from_secs(1);
/// A token must outlive the demo, and the API server gives none for less than ten minutes.
const TOKEN_MARGIN: Duration = Duration::from_hours(1);

/// Starts the control plane with the first sensor in it.
pub(super) fn scenario(lab: &Lab, options: &Options) -> Result<Scenario> {
    println!("starting etcd and kube-apiserver");
    let length = Duration::from_secs(options.seconds);
    let first = SensorPod {
        name: "sensor-1",
        sensor: sensor_host(&lab.sensor, options),
    };
    let second = SensorPod {
        name: "sensor-2",
        sensor: sensor_host(&lab.add_host(SECOND_SENSOR)?, options),
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
         podspan runs in the pod with SENSOR={NAME} and no address; its only rights are those of {ROLE}",
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
        // There is only one pair of hosts: its flows must reach both sensors.
        ("SPREAD", "flows".to_owned()),
    ];
    let sensors = vec![first.sensor.clone(), second.sensor.clone()];
    let replacement = Replacement {
        cluster,
        first,
        second,
        schedule: Schedule::new(length),
        log_read: 0,
        ready: None,
        deletion: None,
        down: None,
    };
    Ok(Scenario::with_events(
        introduction,
        sensors,
        settings,
        replacement,
    ))
}

/// When each event happens, from the start of the traffic.
#[derive(Debug)]
struct Schedule {
    /// The second sensor becomes Ready.
    ready: Duration,
    /// The deletion of the first sensor is requested.
    deletion: Duration,
    /// How long the first sensor stays after that.
    grace: Duration,
}

impl Schedule {
    fn new(length: Duration) -> Self {
        Self {
            ready: length / 3,
            deletion: length * 2 / 3,
            grace: GRACE.min(length / 6),
        }
    }
}

/// The second sensor replaces the first one. Times are since 1970, as in captures.
struct Replacement {
    cluster: Cluster,
    first: SensorPod,
    second: SensorPod,
    schedule: Schedule,
    /// How many bytes of podspan's log have been read.
    log_read: usize,
    /// The time just before the request that makes the second sensor Ready.
    ready: Option<Duration>,
    /// The time just before the request that deletes the first sensor.
    deletion: Option<Duration>,
    /// When the first sensor's link went down.
    down: Option<Duration>,
}

impl Replacement {
    /// Performs the next event if it is due, and returns what was done.
    fn act(&mut self, elapsed: Duration) -> Result<Option<String>> {
        let (first, second) = (&self.first, &self.second);
        if self.ready.is_none() {
            if elapsed < self.schedule.ready {
                return Ok(None);
            }
            self.ready = Some(now());
            self.cluster.make_ready(second)?;
            return Ok(Some(format!("{} is Ready now", second.name)));
        }
        let Some(deletion) = self.deletion else {
            if elapsed < self.schedule.deletion {
                return Ok(None);
            }
            self.deletion = Some(now());
            self.cluster.begin_deletion(first)?;
            return Ok(Some(format!("{} begins to terminate", first.name)));
        };
        if self.down.is_some() || now() < deletion + self.schedule.grace {
            return Ok(None);
        }
        self.down = Some(now());
        first.sensor.host.port.down()?;
        self.cluster.remove(first)?;
        Ok(Some(format!("{} is removed, its link is down", first.name)))
    }

    /// The lines that podspan has logged about sensors since the last time.
    fn new_lines(&mut self, log: &str) -> Vec<String> {
        let new = log.get(self.log_read..).unwrap_or_default();
        // The last line may not be complete yet.
        let new = new.rfind('\n').map_or("", |end| &new[..=end]);
        self.log_read += new.len();
        let lines = new.lines().filter(|line| line.contains("sensor"));
        lines.map(|line| format!("podspan: {line}")).collect()
    }

    fn first_sensor_line(&self, arrivals: Arrivals) -> String {
        let last = arrivals.times.map(|(_, last)| last);
        let more = match (self.deletion.zip(last), self.down) {
            (Some((deletion, last)), Some(down)) => {
                let last = last.checked_sub(deletion).map_or_else(
                    || "none after its pod was deleted".to_owned(),
                    |after| format!("the last {} after its pod was deleted", milliseconds(after)),
                );
                let grace = milliseconds(down.saturating_sub(deletion));
                format!("; {last}, its link went down after {grace}")
            }
            _ => String::new(),
        };
        received_line(&self.first, arrivals, &more)
    }

    fn second_sensor_line(&self, arrivals: Arrivals) -> String {
        let first = arrivals.times.map(|(first, _)| first);
        let times = self.ready.zip(first);
        let more = times.map_or_else(String::new, |(ready, first)| {
            let after = milliseconds(first.saturating_sub(ready));
            format!("; the first {after} after its pod became Ready")
        });
        received_line(&self.second, arrivals, &more)
    }

    /// Both sensors must have received frames, and only the second one at the end.
    fn verdict(&self, arrivals: &[Arrivals]) -> Result<()> {
        let wrong = |text: &str| Err(Failure::Wrong(text.to_owned()));
        let Some(down) = self.down else {
            return wrong(
                "this machine is too busy to change the sensors in time. Try --seconds 30",
            );
        };
        let [first, second] = arrivals else {
            return wrong("there are not two sensors");
        };
        let after = |arrivals: &Arrivals| arrivals.times.is_some_and(|(_, last)| last > down);
        match (first.frames, second.frames) {
            (0, _) => wrong("the first sensor received nothing"),
            (_, 0) => wrong("the second sensor received nothing"),
            _ if !after(second) => wrong("nothing arrived after the first sensor was removed"),
            _ => Ok(()),
        }
    }
}

impl Events for Replacement {
    fn advance(&mut self, elapsed: Duration, log: &str) -> Result<Vec<String>> {
        let mut lines = self.new_lines(log);
        let done = self.act(elapsed)?;
        lines.extend(done.map(|done| format!("cluster: {done}")));
        Ok(lines)
    }

    fn rows(&self, arrivals: &[Arrivals], log: &str) -> Vec<(String, String)> {
        let pods = [&self.first, &self.second];
        let list = sensors_in_use(log);
        let row = |(pod, arrivals): (&SensorPod, &Arrivals)| {
            let address = pod.sensor.address.to_string();
            let in_use = list.split([',', ' ']).any(|word| word == address);
            let state = if in_use { "in use" } else { "not in use" };
            (
                format!("at {}, {state}", pod.name),
                grouped(arrivals.frames),
            )
        };
        pods.into_iter().zip(arrivals).map(row).collect()
    }

    fn summary(&self, arrivals: &[Arrivals]) -> Summary {
        let of = |sensor: usize| arrivals.get(sensor).copied().unwrap_or_default();
        Summary {
            lines: vec![
                self.first_sensor_line(of(0)),
                self.second_sensor_line(of(1)),
                "tcp       includes podspan's own requests to the API server: they pass the pod's eth0"
                    .to_owned(),
            ],
            verdict: self.verdict(arrivals),
        }
    }
}

/// The list of sensors in the last log line that has one: those that podspan sends copies to.
fn sensors_in_use(log: &str) -> &str {
    let lists = log.lines().rev().find_map(|line| {
        let none = line.contains(" no sensor: ").then_some("");
        none.or_else(|| Some(line.split_once(" sensors in use: ")?.1))
    });
    lists.unwrap_or_default()
}

fn received_line(pod: &SensorPod, arrivals: Arrivals, more: &str) -> String {
    let frames = grouped(arrivals.frames);
    format!(
        "{:<10}{} received {frames} frames{more}",
        pod.name, pod.sensor.address
    )
}

fn now() -> Duration {
    // With a clock before 1970 only the printed times are wrong.
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
        assert!(sensors_in_use(LOG).starts_with("10.77.0.3:4789 known=1"));
        let later = format!("{LOG}2026-11-23T10:00:04Z  WARN no sensor: there are none");
        assert_eq!(sensors_in_use(&later), "");
        assert_eq!(sensors_in_use(""), "");
    }

    #[test]
    fn all_events_are_within_the_time() {
        for seconds in [super::super::SHORTEST_KUBERNETES, 10, 3_600] {
            let length = Duration::from_secs(seconds);
            let schedule = Schedule::new(length);
            assert!(schedule.ready < schedule.deletion);
            assert!(schedule.deletion + schedule.grace < length);
            assert!(schedule.grace <= GRACE);
        }
    }
}
