//! What tshark finds in the captures that a sensor made of its own interface.
//!
//! A sniffing sensor's capture holds the outer datagrams; tshark decodes VXLAN on UDP port 4789. Of a
//! kernel's vxlan device the capture holds the inner frames only.

use std::collections::BTreeSet;
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

/// A TCP segment, by what makes it different from others. Of a copy, the inner one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    fields: Vec<String>,
}

const SEGMENT: [&str; 8] = [
    "ip.src",
    "tcp.srcport",
    "ip.dst",
    "tcp.dstport",
    "tcp.seq_raw",
    "tcp.ack_raw",
    "tcp.flags",
    "tcp.len",
];

/// A filter of tshark for copies of TCP segments, without the few ICMP errors that quote one.
pub const TCP_COPIES: &str = "vxlan && tcp && !icmp";

/// The TCP segments that match a filter of tshark.
///
/// # Errors
/// When tshark fails.
pub fn segments(file: &Path, filter: &str) -> Result<BTreeSet<Segment>> {
    let lines = fields(file, filter, &SEGMENT)?;
    Ok(lines.iter().map(|line| Segment::parse(line)).collect())
}

impl Segment {
    fn parse(line: &str) -> Self {
        // The outer header comes first.
        let inner = |field: &str| field.rsplit(',').next().unwrap_or_default().to_owned();
        Self {
            fields: line.split('\t').map(inner).collect(),
        }
    }

    fn field(&self, index: usize) -> &str {
        self.fields.get(index).map_or("", String::as_str)
    }

    /// The sender's address.
    #[must_use]
    pub fn source(&self) -> &str {
        self.field(0)
    }

    /// The receiver's address.
    #[must_use]
    pub fn destination(&self) -> &str {
        self.field(2)
    }

    /// The sender's port.
    #[must_use]
    pub fn source_port(&self) -> &str {
        self.field(1)
    }

    /// Whether this is the sender's or the receiver's port.
    #[must_use]
    pub fn has_port(&self, port: &str) -> bool {
        self.field(1) == port || self.field(3) == port
    }

    /// Whether it has the flag FIN.
    #[must_use]
    pub fn closes(&self) -> bool {
        let flags = self.field(6).trim_start_matches("0x");
        u16::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1)
    }

    /// Whether it has no payload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.field(7) == "0"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_inner_segment() {
        let outer = "10.0.0.1,10.0.0.1\t4000\t10.0.0.9,10.0.0.2\t80\t1\t2\t0x0011\t0";
        let copy = Segment::parse(outer);
        let segment = Segment::parse("10.0.0.1\t4000\t10.0.0.2\t80\t1\t2\t0x0011\t0");
        assert_eq!(copy, segment);
        assert_eq!(
            (copy.source(), copy.destination()),
            ("10.0.0.1", "10.0.0.2")
        );
        assert!(copy.closes() && copy.is_empty() && copy.has_port("80") && !copy.has_port("81"));
    }
}
