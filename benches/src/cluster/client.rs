//! The load: one program in the client's pod for each case, and what it reports.
//!
//! Comes in: an [`Offered`] load and the address of an application's pod. Goes out: the words to run in the
//! client's pod, which is bounded in time and rate, and a [`Client`] from what it printed. vegeta reports
//! JSON of its own, iperf3 with `-J`.

use serde_json::Value;

use super::error::{Error, Result};
use super::results::{Client, Offered};

/// nginx in the tools image.
pub(super) const HTTP_PORT: u16 = 8080;
/// iperf3's usual port.
pub(super) const IPERF3_PORT: u16 = 5201;
/// How much longer than the load its program may run, in seconds.
const MORE: u32 = 15;

/// The script that makes the load.
pub(super) fn script(offered: Offered, address: &str, seconds: u32) -> String {
    let limit = seconds + MORE;
    match offered {
        Offered::Http { per_second } => format!(
            "echo 'GET http://{}:{HTTP_PORT}/' | timeout {limit} vegeta attack -rate={per_second}/s \
             -duration={seconds}s -timeout=5s -keepalive=false | vegeta report -type=json",
            in_url(address)
        ),
        Offered::Bulk { bits_per_second } => format!(
            "timeout {limit} iperf3 -J -c {address} -p {IPERF3_PORT} -t {seconds} -b {bits_per_second}"
        ),
        Offered::Packets { per_second, bytes } => {
            let bits = u64::from(per_second) * u64::from(bytes) * 8;
            format!(
                "timeout {limit} iperf3 -J -c {address} -p {IPERF3_PORT} -t {seconds} -u -l {bytes} \
                 -b {bits}"
            )
        }
    }
}

fn in_url(address: &str) -> String {
    if address.contains(':') {
        return format!("[{address}]");
    }
    address.to_owned()
}

/// Reads what the script printed.
pub(super) fn read(offered: Offered, printed: &str) -> Result<Client> {
    let report = serde_json::from_str(printed.trim()).unwrap_or(Value::Null);
    let client = match offered {
        Offered::Http { .. } => http(&report),
        Offered::Bulk { .. } => bulk(&report["end"]),
        Offered::Packets { .. } => packets(&report["end"]["sum"]),
    };
    client.ok_or_else(|| Error::unexpected("the report of the load client", printed))
}

fn http(report: &Value) -> Option<Client> {
    let sent = report["requests"].as_u64()?;
    let answered = report["status_codes"]["200"].as_u64().unwrap_or(0);
    let latency = |name: &str| report["latencies"][name].as_f64().map(|ns| ns / 1000.0);
    Some(Client {
        sent,
        failed: sent.saturating_sub(answered),
        rate: report["throughput"].as_f64()?,
        p50_us: latency("50th"),
        p99_us: latency("99th"),
    })
}

fn bulk(end: &Value) -> Option<Client> {
    Some(Client {
        sent: end["sum_sent"]["bytes"].as_u64()?,
        failed: end["sum_sent"]["retransmits"].as_u64().unwrap_or(0),
        rate: end["sum_received"]["bits_per_second"].as_f64()?,
        p50_us: None,
        p99_us: None,
    })
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 datagrams")]
fn packets(sum: &Value) -> Option<Client> {
    let sent = sum["packets"].as_u64()?;
    let failed = sum["lost_packets"].as_u64()?;
    let seconds = sum["seconds"].as_f64().filter(|seconds| *seconds > 0.0)?;
    Some(Client {
        sent,
        failed,
        rate: sent.saturating_sub(failed) as f64 / seconds,
        p50_us: None,
        p99_us: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTP: Offered = Offered::Http { per_second: 100 };
    const BULK: Offered = Offered::Bulk {
        bits_per_second: 1_000_000,
    };
    const PACKETS: Offered = Offered::Packets {
        per_second: 1000,
        bytes: 128,
    };

    #[test]
    fn each_load_is_bounded_in_rate_and_time() {
        let http = script(HTTP, "fd00::1", 3);
        for text in [
            "http://[fd00::1]:8080/",
            "-rate=100/s",
            "-duration=3s",
            "timeout 18",
        ] {
            assert!(http.contains(text), "{http}");
        }
        assert!(
            script(BULK, "10.0.0.1", 3)
                .contains("timeout 18 iperf3 -J -c 10.0.0.1 -p 5201 -t 3 -b 1000000")
        );
        assert!(script(PACKETS, "10.0.0.1", 3).ends_with("-t 3 -u -l 128 -b 1024000"));
    }

    #[test]
    fn what_vegeta_reports_is_read() {
        let text = r#"{"latencies":{"50th":1500000,"99th":9000000},"requests":300,"throughput":99.5,
            "status_codes":{"0":2,"200":298}}"#;
        let client = read(HTTP, text).unwrap();
        assert_eq!((client.sent, client.failed), (300, 2));
        assert_eq!((client.p50_us, client.p99_us), (Some(1500.0), Some(9000.0)));
    }

    #[test]
    fn what_iperf3_reports_is_read() {
        let text = r#"{"end":{"sum_sent":{"bytes":400,"retransmits":3},"sum_received":{"bits_per_second":7.5}}}"#;
        let client = read(BULK, text).unwrap();
        assert_eq!(
            (client.sent, client.failed, client.rate.to_bits()),
            (400, 3, 7.5_f64.to_bits())
        );
        let text = r#"{"end":{"sum":{"packets":1000,"lost_packets":10,"seconds":2.0}}}"#;
        let client = read(PACKETS, text).unwrap();
        assert_eq!(
            (client.sent, client.failed, client.rate.to_bits()),
            (1000, 10, 495.0_f64.to_bits())
        );
    }

    #[test]
    fn an_error_of_the_client_is_shown() {
        let text = r#"{"error":"unable to connect to server"}"#;
        let error = read(PACKETS, text).unwrap_err().to_string();
        assert!(error.contains("unable to connect to server"), "{error}");
    }
}
