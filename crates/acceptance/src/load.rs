//! A bounded load of HTTP requests, made by vegeta in a pod of the scenario.
//!
//! Comes in: an address, a rate and a time. Goes out: how many requests were sent and how many of them
//! got a complete answer of status 200. A lost or reset connection is a request without answer.

use std::time::Duration;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::objects::{get, until};
use crate::scenario::{Scenario, text};

/// What the client is to do.
#[derive(Debug, Clone)]
pub struct Load {
    /// The pod's name.
    pub name: String,
    /// The address, such as `http://web:8080/`.
    pub url: String,
    /// Requests in a second.
    pub rate: u32,
    /// How long, in seconds.
    pub seconds: u32,
}

/// What the client reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Requests sent.
    pub requests: u64,
    /// Of these, those with an answer of status 200.
    pub answered: u64,
    /// What the client says about the others.
    pub errors: String,
}

impl Report {
    /// All requests were answered, and as many were sent as the time allows; the client sends a few less
    /// on a busy machine.
    ///
    /// # Errors
    /// With the numbers and what the client says.
    pub fn complete(&self, load: &Load) -> Result<()> {
        let asked_for = u64::from(load.rate) * u64::from(load.seconds);
        if self.answered == self.requests && self.requests * 2 > asked_for {
            return Ok(());
        }
        let what = format!("the answers to {asked_for} requests");
        Err(Error::unexpected(what, format!("{self:?}")))
    }
}

impl Load {
    /// A load that opens a connection for each request.
    #[must_use]
    pub fn new(name: &str, url: &str, rate: u32, seconds: u32) -> Self {
        Self {
            name: name.to_owned(),
            url: url.to_owned(),
            rate,
            seconds,
        }
    }

    /// A load that ends when it is stopped.
    #[must_use]
    pub fn endless(name: &str, url: &str, rate: u32) -> Self {
        Self::new(name, url, rate, 600)
    }

    /// Starts the client.
    ///
    /// # Errors
    /// When the API server refuses the pod.
    pub fn start(&self, scenario: &Scenario<'_>) -> Result<()> {
        scenario.apply(&self.pod(&scenario.images().tools).to_string())
    }

    /// Waits until the client sends requests.
    ///
    /// # Errors
    /// When it does not.
    pub fn runs(&self, scenario: &Scenario<'_>, limit: Duration) -> Result<()> {
        let script = "read process </tmp/attack && kill -0 $process";
        until(&format!("the requests of {}", self.name), limit, || {
            let run = scenario.kubectl(&["exec", &self.name, "--", "sh", "-c", script]);
            Ok(run.map(drop).map_err(|error| error.to_string()))
        })
    }

    /// Ends a client before its time, and reads its report of the requests until then.
    ///
    /// # Errors
    /// When the client cannot be reached, and as [`Self::finish`].
    pub fn stop(&self, scenario: &Scenario<'_>) -> Result<Report> {
        let script = "read process </tmp/attack && kill -INT $process";
        scenario.kubectl(&["exec", &self.name, "--", "sh", "-c", script])?;
        self.finish(scenario)
    }

    /// Waits for the end of the client, and reads its report.
    ///
    /// # Errors
    /// When the client does not end, or does not report.
    pub fn finish(&self, scenario: &Scenario<'_>) -> Result<Report> {
        let limit = Duration::from_secs(u64::from(self.seconds) + 90);
        let path = ["-n", scenario.namespace(), "pod", &self.name];
        let phase = until(&format!("the end of {}", self.name), limit, || {
            let phase = text(&get(scenario.cluster(), &path)?["status"]["phase"]);
            Ok(match phase.as_str() {
                "Succeeded" | "Failed" => Ok(phase),
                _ => Err(phase),
            })
        })?;
        let log = scenario.logs(&self.name, "load")?;
        if phase == "Failed" {
            return Err(Error::unexpected("the load client", log));
        }
        read(&log)
    }

    /// Starts the client and waits for its end.
    ///
    /// # Errors
    /// As [`Self::start`] and [`Self::finish`].
    pub fn run(&self, scenario: &Scenario<'_>) -> Result<Report> {
        self.start(scenario)?;
        self.finish(scenario)
    }

    fn pod(&self, image: &str) -> Value {
        // The service's rules come to the node some time after its endpoints.
        let host = self.url.trim_start_matches("http://").trim_end_matches('/');
        let (host, port) = host.split_once(':').unwrap_or((host, "80"));
        let script = format!(
            "while timeout 1 nc {host} {port} </dev/null >/dev/null 2>&1; [ $? = 1 ]; do sleep 0.2; done; \
             echo 'GET {}' | vegeta attack -rate={}/s -duration={}s -timeout=10s -keepalive=false >/tmp/results & \
             echo $! >/tmp/attack; wait $!; vegeta report -type=json </tmp/results",
            self.url, self.rate, self.seconds
        );
        serde_json::json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "labels": {"app": "load"}},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 0,
                "automountServiceAccountToken": false,
                "containers": [{
                    "name": "load",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["/bin/sh", "-ec", script],
                    "securityContext": {
                        "runAsUser": 65534,
                        "allowPrivilegeEscalation": false,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }],
            },
        })
    }
}

/// Reads the report of `vegeta report -type=json`.
fn read(log: &str) -> Result<Report> {
    let parsed = log
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str::<Value>(line).ok());
    let unexpected = || Error::unexpected("the report of the load client", log);
    let report = parsed.ok_or_else(unexpected)?;
    let requests = report["requests"].as_u64().ok_or_else(unexpected)?;
    let answered = report["status_codes"]["200"].as_u64().unwrap_or(0);
    Ok(Report {
        requests,
        answered,
        errors: report["errors"].to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_requests_without_answer() {
        let log = r#"{"latencies":{"total":1},"requests":300,"status_codes":{"0":2,"200":298},"errors":["EOF"]}"#;
        let report = read(log).unwrap();
        assert_eq!((report.requests, report.answered), (300, 298));
        assert_eq!(report.errors, r#"["EOF"]"#);
    }

    #[test]
    fn a_log_without_report_is_an_error() {
        assert!(read("vegeta: not found\n").is_err());
    }
}
