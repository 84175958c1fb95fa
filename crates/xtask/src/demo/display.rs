//! The live display: five lines that are drawn over, or plain lines where there is no terminal.

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
    pub(super) arrived: Gauge,
    /// CPU time of podspan since the start.
    pub(super) cpu: Duration,
}

/// Shows samples as they come, not more often than one can read.
#[derive(Debug)]
pub(super) struct Display {
    length: Duration,
    live: bool,
    /// Lines to go up before drawing again.
    drawn: usize,
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
            drawn: 0,
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
        let lines = [
            (
                "frames on the pod's eth0",
                grouped(passed.saturating_sub(before)),
            ),
            ("decoded at the sensor", grouped(sample.arrived.frames)),
            ("of them wrong", grouped(sample.arrived.wrong())),
            ("podspan's CPU", format!("{cpu:.1} % of a core")),
        ];
        let time = format!(
            "{:.1} of {} s",
            sample.elapsed.as_secs_f64(),
            self.length.as_secs()
        );
        // Nothing to be done about a terminal that went away; the report will meet it too.
        let _ = if self.live {
            self.draw(&time, &lines)
        } else {
            let parts = lines.map(|(name, value)| format!("{name} {value}"));
            writeln!(io::stdout(), "{time}: {}", parts.join(", "))
        };
    }

    /// Leaves the last numbers where they are and goes on below them.
    pub(super) fn finish(&mut self) {
        self.drawn = 0;
    }

    fn draw(&mut self, time: &str, lines: &[(&str, String)]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.drawn > 0 {
            write!(out, "\x1b[{}A", self.drawn)?;
        }
        writeln!(out, "\r\x1b[K  {time}")?;
        for (name, value) in lines {
            writeln!(out, "\r\x1b[K    {name:<26}{value:>12}")?;
        }
        self.drawn = lines.len() + 1;
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
