//! Verifies a capture file with tshark, in two passes and with all checksums.
//!
//! With two passes (`-2`), tshark has read the whole stream before it reports a segment as lost or out
//! of order. An empty configuration folder keeps the user's own preferences out.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::process::Process;

const PROGRAM: &str = "tshark";
const PREFERENCES: [&str; 6] = [
    "ip.check_checksum:TRUE",
    "tcp.check_checksum:TRUE",
    "udp.check_checksum:TRUE",
    "ip.defragment:TRUE",
    "ipv6.defragment:TRUE",
    "tcp.analyze_sequence_numbers:TRUE",
];

/// What tshark found, in numbers of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Findings {
    /// Frames in the file.
    pub frames: u64,
    /// Wrong IPv4 header checksums.
    pub bad_ip: u64,
    /// Wrong TCP checksums.
    pub bad_tcp: u64,
    /// Wrong UDP checksums.
    pub bad_udp: u64,
    /// Wrong ICMP and ICMPv6 checksums.
    pub bad_icmp: u64,
    /// Frames that a dissector could not read.
    pub malformed: u64,
    /// `tcp.analysis.lost_segment`: a gap before this segment.
    pub lost_segment: u64,
    /// `tcp.analysis.ack_lost_segment`: an acknowledgement of a segment that is not in the file.
    pub ack_lost_segment: u64,
    /// `tcp.analysis.retransmission`: a segment that was sent before, including spurious and fast
    /// retransmissions.
    pub retransmission: u64,
    /// `tcp.analysis.out_of_order`.
    pub out_of_order: u64,
    /// `tcp.analysis.duplicate_ack`.
    pub duplicate_ack: u64,
}

impl Findings {
    /// Frames with a wrong checksum, and malformed ones.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        self.bad_ip + self.bad_tcp + self.bad_udp + self.bad_icmp + self.malformed
    }

    /// The fields to print, each with its counter. A checksum's status is 0 when it is bad; the other
    /// fields are present or not.
    fn columns(&mut self) -> [(&'static str, &mut u64); 11] {
        [
            ("ip.checksum.status", &mut self.bad_ip),
            ("tcp.checksum.status", &mut self.bad_tcp),
            ("udp.checksum.status", &mut self.bad_udp),
            ("icmp.checksum.status", &mut self.bad_icmp),
            ("_ws.malformed", &mut self.malformed),
            ("tcp.analysis.lost_segment", &mut self.lost_segment),
            ("tcp.analysis.ack_lost_segment", &mut self.ack_lost_segment),
            ("tcp.analysis.retransmission", &mut self.retransmission),
            ("tcp.analysis.out_of_order", &mut self.out_of_order),
            ("tcp.analysis.duplicate_ack", &mut self.duplicate_ack),
            ("frame.number", &mut self.frames),
        ]
    }

    fn count(&mut self, line: &str, icmpv6: &str) {
        for ((field, count), value) in self.columns().into_iter().zip(line.split('\t')) {
            let bad = |value: &str| {
                value
                    .split(',')
                    .any(|status| ["0", "Bad"].contains(&status))
            };
            let hit = match field {
                "icmp.checksum.status" => bad(value) || bad(icmpv6),
                _ if field.ends_with(".status") => bad(value),
                _ => !value.is_empty(),
            };
            *count += u64::from(hit);
        }
    }
}

/// Runs tshark over `file` and counts. `limit` bounds its time.
///
/// # Errors
/// [`Error::MissingProgram`], [`Error::Program`] with what tshark printed, [`Error::Timeout`].
pub fn examine(file: &Path, limit: Duration) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut columns = findings.columns().map(|(field, _)| field).to_vec();
    columns.push("icmpv6.checksum.status");
    for line in fields(file, &PREFERENCES, "", &columns, limit)? {
        let icmpv6 = line.rsplit('\t').next().unwrap_or_default();
        findings.count(&line, icmpv6);
    }
    Ok(findings)
}

/// The values of `columns` in every frame that passes the display filter, a line for each frame, with a tab
/// between two columns. An empty filter passes all. `limit` bounds tshark's time.
///
/// # Errors
/// As [`examine`].
pub fn fields(
    file: &Path,
    preferences: &[&str],
    filter: &str,
    columns: &[&str],
    limit: Duration,
) -> Result<Vec<String>> {
    let configuration = tempfile::tempdir()
        .map_err(|source| Error::system("making a folder for tshark", source))?;
    let mut command = Command::new(PROGRAM);
    command.env("WIRESHARK_CONFIG_DIR", configuration.path());
    command
        .args(["-n", "-2", "-T", "fields", "-E", "separator=/t", "-r"])
        .arg(file);
    if !filter.is_empty() {
        command.args(["-Y", filter]);
    }
    for preference in preferences {
        command.args(["-o", preference]);
    }
    for column in columns {
        command.args(["-e", column]);
    }
    let mut process =
        Process::spawn(command).map_err(|error| Error::start(PROGRAM, PROGRAM, error))?;
    let status = process.wait(limit)?;
    if !status.success() {
        return Err(process.failure(&status.to_string()));
    }
    Ok(process.stdout().lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted() {
        let mut findings = Findings::default();
        findings.count("1,0\t\t\t\t\t\t\t\t\t\t1\t", "");
        findings.count("1\t0\t\t\t\t1\t\t\t\t\t2\t", "");
        findings.count("1\t1\t\t\tMalformed\t\t\t\t\t\t3\t0", "0");
        assert_eq!(
            findings,
            Findings {
                frames: 3,
                bad_ip: 1,
                bad_tcp: 1,
                bad_icmp: 1,
                malformed: 1,
                lost_segment: 1,
                ..Findings::default()
            }
        );
        assert_eq!(findings.wrong(), 4);
    }
}
