//! Bulk TCP between client and pod by iperf3, as fast as it goes for some time. The client is pinned to a
//! processor, and the server in the pod to another one.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use testbed::Process;

use super::plan::Direction;
use super::stand::{CLIENT, POD, Stand};
use crate::matrix::{Error, Result};

const PROGRAM: &str = "iperf3";
const START: Duration = Duration::from_secs(10);
/// For the start of the connection and the answers about it.
const MORE: Duration = Duration::from_secs(30);
/// Seconds at the start that do not count: the congestion window grows.
const OMIT: &str = "0.3";

/// What iperf3 reports.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bulk {
    /// The receiver's rate.
    pub bits_per_second: f64,
    /// All bytes that were received, also at the start.
    pub bytes: f64,
    /// The client's part of its processor.
    pub client_cpu: f64,
    /// The part of its processor that the server in the pod used.
    pub pod_cpu: f64,
    /// Segments that were sent again.
    pub retransmits: u64,
}

/// Runs iperf3 for this time.
///
/// # Errors
/// [`Error::Program`] with what it printed.
pub fn bulk(stand: &Stand, direction: Direction, time: Duration) -> Result<Bulk> {
    let mut server = stand.lab.pod.namespace.command(PROGRAM);
    server.args(["--server", "--one-off", "--forceflush"]);
    let mut server = Process::spawn(server)?;
    server.wait_for_output("Server listening", START)?;
    let mut client = stand.lab.client.namespace.command(PROGRAM);
    client
        .args(["--client", &stand.lab.pod.ipv4.to_string(), "--json"])
        .args(["--time", &time.as_secs_f64().round().to_string()])
        .args(["--omit", OMIT, "--affinity", &format!("{CLIENT},{POD}")]);
    if direction == Direction::Out {
        client.arg("--reverse");
    }
    let mut client = Process::spawn(client)?;
    let status = client.wait(time + MORE)?;
    let text = client.stdout();
    read(&text)
        .filter(|_| status.success())
        .ok_or_else(|| Error::Program {
            command: format!("{PROGRAM} --client"),
            text: format!("{status}\n{text}{}", client.stderr()),
        })
}

/// Reads iperf3's JSON.
fn read(text: &str) -> Option<Bulk> {
    let report: Value = serde_json::from_str(text).ok()?;
    let end = report.get("end")?;
    let number = |path: &str| end.pointer(path).and_then(Value::as_f64);
    Some(Bulk {
        bits_per_second: number("/sum_received/bits_per_second")?,
        bytes: number("/sum_received/bytes")?,
        client_cpu: number("/cpu_utilization_percent/host_total")? / 100.0,
        pod_cpu: number("/cpu_utilization_percent/remote_total")? / 100.0,
        retransmits: end
            .pointer("/sum_sent/retransmits")
            .and_then(Value::as_u64)
            .unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read() {
        let text = r#"{"end": {"sum_sent": {"retransmits": 3}, "sum_received": {"bytes": 1e9, "bits_per_second":
            4e9}, "cpu_utilization_percent": {"host_total": 50.0, "remote_total": 25.0}}}"#;
        let expected = Bulk {
            bits_per_second: 4e9,
            bytes: 1e9,
            client_cpu: 0.5,
            pod_cpu: 0.25,
            retransmits: 3,
        };
        assert_eq!(read(text), Some(expected));
        assert_eq!(read(r#"{"error": "no route"}"#), None);
        assert_eq!(read(""), None);
    }
}
