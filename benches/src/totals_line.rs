//! Reads the line of totals that podspan logs when it stops.
//!
//! In: the log as text, with `key=value` pairs after the word `totals`. Out: the numbers of its last
//! such line. The keys are part of podspan's public log format, so a missing key is an error and not
//! a zero.

/// podspan's counters, from its start to its end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TotalsLine {
    /// Frames that passed the ring's filter, including dropped ones.
    pub ring_packets: u64,
    /// Frames for which the ring had no room.
    pub ring_drops: u64,
    /// Frames read from the ring.
    pub frames_seen: u64,
    /// Frames whose datagrams were all sent.
    pub frames_mirrored: u64,
    /// Frames that were not mirrored.
    pub frames_dropped: u64,
    /// The same per reason, as `reason:count,reason:count`, or `none`.
    pub frames_dropped_by: String,
    /// Datagrams built.
    pub datagrams_built: u64,
    /// Datagrams that the kernel accepted.
    pub datagrams_sent: u64,
    /// Datagrams that it did not accept.
    pub datagrams_dropped: u64,
    /// The same per reason.
    pub datagrams_dropped_by: String,
    /// Bytes of the datagrams sent, from the VXLAN header on, without trailers.
    pub bytes_sent: u64,
    /// Bytes of the trailers sent.
    pub trailer_bytes: u64,
    /// Messages in which they were sent.
    pub messages_sent: u64,
}

impl TotalsLine {
    /// The last line of totals in `log`; `None` where there is none, or one with a key missing.
    #[must_use]
    pub fn find(log: &str) -> Option<Self> {
        let line = log.lines().rev().find_map(|line| {
            let (_, fields) = line.split_once(" totals ")?;
            Some(fields)
        })?;
        let text = |key: &str| {
            line.split_whitespace()
                .find_map(|field| field.strip_prefix(key)?.strip_prefix('='))
        };
        let number = |key: &str| text(key)?.parse().ok();
        Some(Self {
            ring_packets: number("ring_packets")?,
            ring_drops: number("ring_drops")?,
            frames_seen: number("frames_seen")?,
            frames_mirrored: number("frames_mirrored")?,
            frames_dropped: number("frames_dropped")?,
            frames_dropped_by: text("frames_dropped_by")?.to_owned(),
            datagrams_built: number("datagrams_built")?,
            datagrams_sent: number("datagrams_sent")?,
            datagrams_dropped: number("datagrams_dropped")?,
            datagrams_dropped_by: text("datagrams_dropped_by")?.to_owned(),
            bytes_sent: number("bytes_sent")?,
            trailer_bytes: number("trailer_bytes")?,
            messages_sent: number("messages_sent")?,
        })
    }

    /// Frames dropped for this reason.
    #[must_use]
    pub fn frames_dropped_for(&self, reason: &str) -> u64 {
        self.frames_dropped_by
            .split(',')
            .find_map(|entry| entry.strip_prefix(reason)?.strip_prefix(':')?.parse().ok())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
2026-11-23T10:00:00Z  INFO mirroring interface=eth0
2026-11-23T10:00:01Z  INFO totals ring_packets=1 ring_drops=0 frames_seen=1
2026-11-23T10:00:02Z  INFO totals ring_packets=130 ring_drops=2 frames_seen=128 \
frames_mirrored=124 frames_dropped=4 frames_dropped_by=no_sensor:3,oversize:1 datagrams_built=200 \
datagrams_sent=199 datagrams_dropped=1 datagrams_dropped_by=path_mtu:1 bytes_sent=12345 messages_sent=150 trailer_bytes=67
2026-11-23T10:00:02Z  INFO stopped
";

    #[test]
    fn the_last_line_is_read() {
        let totals = TotalsLine::find(LOG).unwrap();
        assert_eq!(
            totals,
            TotalsLine {
                ring_packets: 130,
                ring_drops: 2,
                frames_seen: 128,
                frames_mirrored: 124,
                frames_dropped: 4,
                frames_dropped_by: "no_sensor:3,oversize:1".to_owned(),
                datagrams_built: 200,
                datagrams_sent: 199,
                datagrams_dropped: 1,
                datagrams_dropped_by: "path_mtu:1".to_owned(),
                bytes_sent: 12345,
                trailer_bytes: 67,
                messages_sent: 150,
            }
        );
        assert_eq!(totals.frames_dropped_for("no_sensor"), 3);
        assert_eq!(totals.frames_dropped_for("oversize"), 1);
        assert_eq!(totals.frames_dropped_for("own_error"), 0);
    }

    #[test]
    fn an_incomplete_line_is_no_line() {
        assert_eq!(TotalsLine::find("INFO totals ring_packets=1"), None);
        assert_eq!(TotalsLine::find("nothing of the kind"), None);
        let negative = LOG.replace("ring_drops=2", "ring_drops=-2");
        assert_eq!(TotalsLine::find(&negative), None);
    }
}
