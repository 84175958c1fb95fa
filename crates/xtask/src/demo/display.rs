//! The live display: some lines that are drawn over, or plain lines where there is no terminal.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use benches::grouped;
use testbed::Statistics;

use super::tap::Gauge;

/// How often plain lines are printed.
const PLAIN_PAUSE: Duration = Duration::from_secs(2);
/// How often the lines are drawn over.
const LIVE_PAUSE: Duration = Duration::from_millis(200);

/// Whether colours may be used: on a terminal, unless `NO_COLOR` says otherwise.
pub(super) fn coloured() -> bool {
    let forbidden = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    cursor_moves() && !forbidden
}

fn cursor_moves() -> bool {
    io::stdout().is_terminal() && env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// What is known at one moment.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) elapsed: Duration,
    /// The counters of the pod's interface.
    pub(super) eth0: Statistics,
    pub(super) crossed: Gauge,
    /// What the next one is called.
    pub(super) decoded: &'static str,
    pub(super) arrived: Gauge,
    /// CPU time of podspan since the start.
    pub(super) cpu: Duration,
    /// Further lines, each a name and a value.
    pub(super) more: Vec<(String, String)>,
}

/// Shows samples as they come, not more often than one can read.
#[derive(Debug)]
pub(super) struct Display {
    length: Duration,
    live: bool,
    /// The lines to be drawn over.
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
        let passed = passed.saturating_sub(sample.crossed.own);
        let before = *self
            .before
            .get_or_insert(passed.saturating_sub(sample.crossed.frames));
        let since = sample.elapsed.saturating_sub(self.last);
        if since < if self.live { LIVE_PAUSE } else { PLAIN_PAUSE } {
            return;
        }
        let cpu = percent(sample.cpu.saturating_sub(self.last_cpu), since);
        self.last = sample.elapsed;
        self.last_cpu = sample.cpu;
        let usual = [
            (
                "frames on the pod's eth0",
                grouped(passed.saturating_sub(before)),
            ),
            (sample.decoded, grouped(sample.arrived.frames)),
            ("of them wrong", grouped(sample.arrived.wrong())),
            ("podspan's CPU", format!("{cpu:.1} % of a core")),
        ];
        let more = sample.more.iter();
        let more = more.map(|(name, value)| (name.as_str(), value.clone()));
        let lines: Vec<_> = usual.into_iter().chain(more).collect();
        let time = format!(
            "{:.1} of {} s",
            sample.elapsed.as_secs_f64(),
            self.length.as_secs()
        );
        // Nothing to be done about a terminal that went away; the report will meet it too.
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

    /// Prints lines that stay, above those that are drawn over.
    pub(super) fn say(&mut self, lines: &[String]) {
        if !lines.is_empty() {
            let again = self.drawn.clone();
            // As above.
            let _ = self.draw(lines, again);
        }
    }

    /// Leaves the last numbers where they are and goes on below them.
    pub(super) fn finish(&mut self) {
        self.drawn.clear();
    }

    /// Draws over what was drawn last: first lines that stay, then those for the next time.
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
