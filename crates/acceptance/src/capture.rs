//! What tshark finds in the captures that a sensor made of its own interface.
//!
//! A sniffing sensor's capture holds the outer datagrams; tshark decodes VXLAN on UDP port 4789. Of a
//! kernel's vxlan device the capture holds the inner frames only.

use std::path::Path;
use std::time::Duration;

use testbed::tshark;

use crate::error::Result;

/// A capture of some thousand frames takes a second.
const LIMIT: Duration = Duration::from_mins(1);

/// HTTP messages in a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Http {
    /// Complete requests.
    pub requests: u64,
    /// Complete responses of status 200.
    pub responses: u64,
}

/// What is wrong in a capture, in frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Findings {
    /// Frames in the capture.
    pub frames: u64,
    /// Frames with VXLAN in them.
    pub vxlan: u64,
    /// A wrong checksum of IP, TCP or UDP, outer or inner.
    pub bad_checksums: u64,
    /// Fragments of an outer packet.
    pub outer_fragments: u64,
    /// VXLAN in VXLAN: copies of podspan's own datagrams.
    pub own: u64,
    /// ICMP errors that quote a datagram of podspan.
    pub quotations: u64,
    /// Frames that tshark could not read.
    pub malformed: u64,
    /// Segments after a gap, and acknowledgements of segments that are not there.
    pub gaps: u64,
}

/// Preferences of tshark: checksums are verified, streams and fragments are put together.
const PREFERENCES: [&str; 5] = [
    "ip.check_checksum:TRUE",
    "tcp.check_checksum:TRUE",
    "udp.check_checksum:TRUE",
    "tcp.desegment_tcp_streams:TRUE",
    "tcp.reassemble_out_of_order:TRUE",
];

impl Http {
    /// Counts them in a capture file.
    ///
    /// # Errors
    /// When tshark fails.
    pub fn read(file: &Path) -> Result<Self> {
        let requests = fields(file, "http.request && !icmp", &["frame.number"])?.len();
        let responses = fields(
            file,
            "http.response.code == 200 && !icmp",
            &["frame.number"],
        )?
        .len();
        Ok(Self {
            requests: requests.try_into().unwrap_or(u64::MAX),
            responses: responses.try_into().unwrap_or(u64::MAX),
        })
    }
}

impl Findings {
    /// Examines a capture file.
    ///
    /// # Errors
    /// When tshark fails.
    pub fn read(file: &Path) -> Result<Self> {
        let columns = [
            "frame.protocols",
            "ip.checksum.status",
            "tcp.checksum.status",
            "udp.checksum.status",
            "ip.flags.mf",
            "ip.frag_offset",
            "_ws.malformed",
            "tcp.analysis.lost_segment",
            "tcp.analysis.ack_lost_segment",
        ];
        let mut findings = Self::default();
        for line in fields(file, "", &columns)? {
            let value = |index: usize| line.split('\t').nth(index).unwrap_or_default();
            let bad = |index| {
                value(index)
                    .split(',')
                    .any(|status| status == "0" || status == "Bad")
            };
            let first = |index| {
                value(index)
                    .split(',')
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            };
            let tunnels = value(0).matches("vxlan").count();
            let count = |condition: bool| u64::from(condition);
            findings.frames += 1;
            findings.vxlan += count(tunnels > 0);
            // The host of a sniffing sensor answers with ICMP errors, and podspan mirrors a few of them.
            // They quote the beginning of a datagram, so the checksums in there cannot be verified.
            if tunnels > 1 && value(0).contains("icmp") {
                findings.quotations += 1;
                continue;
            }
            findings.own += count(tunnels > 1);
            findings.bad_checksums += count(bad(1) || bad(2) || bad(3));
            let is_fragment =
                matches!(first(4).as_str(), "1" | "True") || !matches!(first(5).as_str(), "" | "0");
            findings.outer_fragments += count(is_fragment);
            findings.malformed += count(!value(6).is_empty());
            findings.gaps += count(!value(7).is_empty() || !value(8).is_empty());
        }
        Ok(findings)
    }
}

/// When the copies from a pod arrived at the sensor, in seconds since 1970, by the pod's address.
///
/// # Errors
/// When tshark fails.
pub fn arrivals(file: &Path, pod: &str) -> Result<Vec<f64>> {
    let lines = fields(file, "vxlan", &["frame.time_epoch", "ip.src"])?;
    let time = |line: &String| {
        let (time, sources) = line.split_once('\t')?;
        // The outer source comes first.
        (sources.split(',').next()? == pod).then(|| time.parse().ok())?
    };
    Ok(lines.iter().filter_map(time).collect())
}

fn fields(file: &Path, filter: &str, columns: &[&str]) -> Result<Vec<String>> {
    Ok(tshark::fields(file, &PREFERENCES, filter, columns, LIMIT)?)
}
