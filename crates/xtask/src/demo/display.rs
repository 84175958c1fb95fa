//! The live display: lines that are overwritten on a terminal, or plain lines without one.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use benches::grouped;
use testbed::Statistics;

use super::counters::Counts;

/// How often plain lines are printed.
const PLAIN_PAUSE: Duration = Duration::from_secs(2);
/// How often the lines are overwritten.
const LIVE_PAUSE: Duration = Duration::from_millis(200);

/// Whether colours may be used: on a terminal, unless `NO_COLOR` is set.
pub(super) fn coloured() -> bool {
    let forbidden = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    cursor_moves() && !forbidden
}

fn cursor_moves() -> bool {
    io::stdout().is_terminal() && env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// All values at one time.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) elapsed: Duration,
    /// The counters of the pod's interface.
    pub(super) eth0: Statistics,
    pub(super) at_pod: Counts,
    /// The name of the next one.
    pub(super) decoded_label: &'static str,
    pub(super) at_sensors: Counts,
    /// CPU time of podspan since the start.
    pub(super) cpu: Duration,
    /// Further lines, each a name and a value.
    pub(super) more: Vec<(String, String)>,
}

/// Shows samples, not more often than a person can read them.
#[derive(Debug)]
pub(super) struct Display {
    length: Duration,
    live: bool,
    /// The lines that the next ones overwrite.
    drawn: Vec<String>,
    last: Duration,
    last_cpu: Duration,
    /// Counters of the interface before the traffic.
    before: Option<u64>,
}

impl Display {
    pub(super) fn new(length: Duration) -> Self {
        Self {
            length,
            live: cursor_moves(),
            drawn: Vec::new(),
            last: Duration::ZERO,
            last_cpu: Duration::ZERO,
            before: None,
        }
    }

    pub(super) fn show(&mut self, sample: &Sample) {
        let passed = sample.eth0.rx_packets + sample.eth0.tx_packets;
        let passed = passed.saturating_sub(sample.at_pod.own);
        let before = *self
            .before
            .get_or_insert(passed.saturating_sub(sample.at_pod.frames));
        let since = sample.elapsed.saturating_sub(self.last);
        if since < if self.live { LIVE_PAUSE } else { PLAIN_PAUSE } {
            return;
        }
        let cpu = percent(sample.cpu.saturating_sub(self.last_cpu), since);
        self.last = sample.elapsed;
        self.last_cpu = sample.cpu;
        let standard = [
            (
                "frames on the pod's eth0",
                grouped(passed.saturating_sub(before)),
            ),
            (sample.decoded_label, grouped(sample.at_sensors.frames)),
            ("of them wrong", grouped(sample.at_sensors.wrong())),
            ("podspan's CPU", format!("{cpu:.1} % of a core")),
        ];
        let more = sample.more.iter();
        let more = more.map(|(name, value)| (name.as_str(), value.clone()));
        let lines: Vec<_> = standard.into_iter().chain(more).collect();
        let time = format!(
            "{:.1} of {} s",
            sample.elapsed.as_secs_f64(),
            self.length.as_secs()
        );
        // A terminal that is gone is no error here: the report fails on it later.
        let _ = if self.live {
            let lines = lines.iter();
            let lines = lines.map(|(name, value)| format!("    {name:<26}{value:>12}"));
            let drawn = [format!("  {time}")].into_iter().chain(lines).collect();
            self.draw(&[], drawn)
        } else {
            let parts: Vec<_> = lines
                .iter()
                .map(|(name, value)| format!("{name} {value}"))
                .collect();
            writeln!(io::stdout(), "{time}: {}", parts.join(", "))
        };
    }

    /// Prints lines that stay, above those that are overwritten.
    pub(super) fn print_lines(&mut self, lines: &[String]) {
        if !lines.is_empty() {
            let again = self.drawn.clone();
            // As above.
            let _ = self.draw(lines, again);
        }
    }

    /// Keeps the last numbers on the screen; the next output is below them.
    pub(super) fn finish(&mut self) {
        self.drawn.clear();
    }

    /// Overwrites the last lines: first lines that stay, then those that the next call overwrites.
    fn draw(&mut self, staying: &[String], drawn: Vec<String>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if !self.drawn.is_empty() {
            write!(out, "\x1b[{}A", self.drawn.len())?;
        }
        let clear = if self.live { "\r\x1b[K" } else { "" };
        for line in staying.iter().chain(&drawn) {
            writeln!(out, "{clear}{line}")?;
        }
        self.drawn = drawn;
        out.flush()
    }
}

/// `part` of `whole`, in percent.
pub(super) fn percent(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() {
        return 0.0;
    }
    100.0 * part.as_secs_f64() / whole.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_of_the_whole() {
        let share = percent(Duration::from_millis(30), Duration::from_secs(1));
        assert!((share - 3.0).abs() < 1e-9);
        assert!(percent(Duration::from_secs(1), Duration::ZERO).abs() < 1e-9);
    }
}
