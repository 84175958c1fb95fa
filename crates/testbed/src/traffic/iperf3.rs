//! Bulk TCP with iperf3, whose JSON has the bytes sent and received.

use std::time::Duration;

use serde_json::Value;

use super::Family;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::process::Process;

const PROGRAM: &str = "iperf3";
/// The port of the server; nothing else runs in the namespace, so it is free.
const PORT: &str = "5201";
const START: Duration = Duration::from_secs(10);

/// The settings of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Iperf3 {
    /// Bytes to send.
    pub bytes: u64,
    /// From server to client instead of client to server.
    pub reverse: bool,
    /// Upper bound in bits a second; 0 is none.
    pub bits_per_second: u64,
    /// The longest time of the run.
    pub limit: Duration,
}

/// What iperf3 reports.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Iperf3Outcome {
    /// Bytes that the sender sent.
    pub sent: u64,
    /// Bytes that the receiver had received when the sender ended; the rest was on its way.
    pub received: u64,
    /// Segments that the sender sent again.
    pub retransmits: u64,
    /// The receiver's rate.
    pub bits_per_second: f64,
}

/// Runs iperf3 between two hosts.
///
/// # Errors
/// [`Error::MissingProgram`], [`Error::Program`] with what iperf3 printed, [`Error::Timeout`].
pub fn iperf3(client: &Host, server: &Host, family: Family, what: Iperf3) -> Result<Iperf3Outcome> {
    let mut listening = server.namespace.command(PROGRAM);
    listening.args(["--server", "--one-off", "--forceflush", "--port", PORT]);
    let missing = |error| Error::start(PROGRAM, PROGRAM, error);
    let mut listening = Process::spawn(listening).map_err(missing)?;
    listening.wait_for_output("Server listening", START)?;
    let mut sending = client.namespace.command(PROGRAM);
    sending.args([
        "--client",
        &family.address(server).to_string(),
        "--port",
        PORT,
        "--json",
    ]);
    sending.args(["--bytes", &what.bytes.to_string()]);
    if what.bits_per_second > 0 {
        sending.args(["--bitrate", &what.bits_per_second.to_string()]);
    }
    if what.reverse {
        sending.arg("--reverse");
    }
    let mut sending = Process::spawn(sending).map_err(missing)?;
    let status = sending.wait(what.limit)?;
    let report: Value = serde_json::from_str(&sending.stdout()).unwrap_or_default();
    if !status.success() || report.get("error").is_some() {
        return Err(sending.failure(&status.to_string()));
    }
    let number = |end: &str, field: &str| report.pointer(&format!("/end/{end}/{field}"));
    let count = |end: &str, field: &str| number(end, field).and_then(Value::as_u64);
    let unreadable = || sending.failure("a report without totals");
    Ok(Iperf3Outcome {
        sent: count("sum_sent", "bytes").ok_or_else(unreadable)?,
        received: count("sum_received", "bytes").ok_or_else(unreadable)?,
        retransmits: count("sum_sent", "retransmits").unwrap_or_default(),
        bits_per_second: number("sum_received", "bits_per_second")
            .and_then(Value::as_f64)
            .unwrap_or_default(),
    })
}
