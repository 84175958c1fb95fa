//! The log: lines on standard error, as text for people or as JSON for collectors.
//!
//! What comes in are `tracing` events with fields; what goes out is one line each:
//! `2026-11-23T10:00:00.000000Z  INFO message key=value`, or one flat JSON object. The log belongs
//! to the control side. The worker does not log per frame or per block: it counts, and a line is
//! written about the counters.
//!
//! Some texts of our own are several lines in the text format: wrong settings, the YAML that a missing
//! capability or Role needs. A text of others never is ([`discovery::Foreign`]).
//!
//! Lines wait in a bounded queue, and a thread of their own writes them. [`start`] comes first, and
//! events may follow; [`start_writer`] starts that thread once capabilities are dropped, since a
//! thread keeps those that it was started with. [`flush`] comes before an end, with or without that
//! thread.
//!
//! Invariants:
//! - No event waits for a reader of standard error. What does not fit the queue is dropped and
//!   counted, and the next line stands behind one that says how many and why.
//! - Each [`flush`] and [`print()`] takes half a second at most, so a stuck reader delays the end of the
//!   process by a second: one flush comes before the totals are logged, one after.
//! - A standard error that is full or closed loses lines, and never ends the process.
//!
//! `tracing-appender` does not fit: its thread starts when it is made, its queue is bounded in lines
//! but not in bytes, and it counts the lines that it drops but does not log the count.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Display;
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::SetGlobalDefaultError;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::SubscriberExt as _;

use self::queue::{Notice, Queue, write_until};
use crate::config::{LogFormat, LogLevel};

mod queue;

/// How long the process waits for standard error when it has to.
const GRACE: Duration = Duration::from_millis(500);

/// Why lines were dropped, and what to do.
const DROPPED: &str = "log lines were dropped: standard error is not read, or too slowly; see what \
                       collects this log";

/// The client of the API server, which logs by itself, and what carries its requests.
const CLIENT: [&str; 2] = ["kube", "kube_client"];
const TRANSPORT: [&str; 4] = ["hyper", "hyper_util", "rustls", "tower"];

/// The log could not be started.
#[derive(Debug, Error)]
pub enum LogError {
    /// Something else in this process already writes the log.
    #[error("the log was started twice; this is a defect in podspan, please report it")]
    StartedTwice(#[from] SetGlobalDefaultError),
}

/// The lines of the whole process.
static LINES: OnceLock<Queue> = OnceLock::new();

/// Starts the log on standard error for the whole process: from now on events become lines, which
/// wait for [`start_writer`] or [`flush`].
///
/// # Errors
/// When it was started before.
pub fn start(level: LogLevel, format: LogFormat) -> Result<(), LogError> {
    let notice: Notice = match format {
        LogFormat::Text => dropped_as_text,
        LogFormat::Json => dropped_as_json,
    };
    let lines = LINES.get_or_init(|| Queue::new(notice));
    tracing::subscriber::set_global_default(subscriber(level, format, || Line(lines)))?;
    Ok(())
}

/// Starts the thread that writes the lines, unless it is there. To be called when all capabilities
/// are dropped.
///
/// # Errors
/// When there can be no such thread.
pub fn start_writer() -> io::Result<()> {
    LINES
        .get()
        .map_or(Ok(()), |lines| lines.start_writer(io::stderr()))
}

/// Waits until all lines are written, half a second at most.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(&io::stderr(), Instant::now() + GRACE);
    }
}

/// Writes what cannot be an event, as before the log is started, and gives up after half a second.
pub fn print(text: &dyn Display) {
    let text = format!("podspan: {text}\n");
    // The standard library's lock of standard error is not taken: its holder may wait for a reader.
    write_until(&io::stderr(), text.as_bytes(), Instant::now() + GRACE);
}

/// Writes each panic of the process by [`print()`]: the standard library would wait for a reader.
pub fn report_panics() {
    panic::set_hook(Box::new(report_panic));
}

fn report_panic(panic: &PanicHookInfo<'_>) {
    flush();
    let thread = thread::current();
    let name = thread.name().unwrap_or("unnamed");
    let backtrace = Backtrace::capture();
    print(&format_args!(
        "thread {name} {panic}; this is a defect, please report it"
    ));
    if backtrace.status() == BacktraceStatus::Captured {
        print(&backtrace);
    }
}

/// Takes one event's line.
struct Line(&'static Queue);

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The line about dropped ones, as the subscriber would write it. It is written at every level.
fn dropped_as_text(lines: u64) -> Vec<u8> {
    format!("{}  WARN {DROPPED} lines={lines}\n", now()).into_bytes()
}

fn dropped_as_json(lines: u64) -> Vec<u8> {
    let now = now();
    format!(
        "{{\"timestamp\":\"{now}\",\"level\":\"WARN\",\"message\":\"{DROPPED}\",\"lines\":{lines}}}\n"
    )
    .into_bytes()
}

fn now() -> String {
    let mut now = String::new();
    // Writing to a `String` cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut now));
    now
}

/// Builds what turns events into lines on `writer`: events above `level` are left out.
fn subscriber<W>(
    level: LogLevel,
    format: LogFormat,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync + 'static>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_target(false)
        .with_timer(SystemTime)
        // Otherwise a failed write is reported by `eprintln!`, which panics when it fails as well.
        .log_internal_errors(false)
        .with_writer(writer);
    match format {
        LogFormat::Text => Box::new(lines.with_ansi(false).finish().with(filter(level))),
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true);
            let lines = lines.with_current_span(false).with_span_list(false);
            Box::new(lines.finish().with(filter(level)))
        }
    }
}

/// What is logged. The client of the API server complains of each failure that discovery tells with
/// its remedy, and once; and it would print whole answers, which may hold others' secrets.
fn filter(level: LogLevel) -> Targets {
    let transport = match level {
        LogLevel::Trace => LevelFilter::DEBUG,
        _ => LevelFilter::OFF,
    };
    Targets::new()
        .with_default(threshold(level))
        .with_targets(CLIENT.map(|target| (target, LevelFilter::OFF)))
        .with_targets(TRANSPORT.map(|target| (target, transport)))
}

const fn threshold(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use discovery::Foreign;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    fn logged(level: LogLevel, format: LogFormat, events: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(level, format, move || writer.clone());
        tracing::subscriber::with_default(subscriber, events);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_is_time_level_message_fields() {
        let text = logged(LogLevel::Info, LogFormat::Text, || {
            tracing::info!(interface = "eth0", frames = 3, "capturing");
        });
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z'), "{text}");
        assert_eq!(
            rest.trim_start(),
            "INFO capturing interface=\"eth0\" frames=3\n"
        );
    }

    #[test]
    fn json_is_one_flat_object_a_line() {
        let text = logged(LogLevel::Info, LogFormat::Json, || {
            tracing::warn!(interface = "eth0", "line\nbreak");
            tracing::info!(frames = 3, "second");
        });
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["level"], "WARN");
        assert_eq!(lines[0]["message"], "line\nbreak");
        assert_eq!(lines[0]["interface"], "eth0");
        assert_eq!(lines[1]["frames"], 3);
        assert!(lines[1]["timestamp"].is_string());
    }

    #[test]
    fn a_level_leaves_out_what_is_below_it() {
        let events = || {
            tracing::error!("e");
            tracing::warn!("w");
            tracing::info!("i");
            tracing::debug!("d");
            tracing::trace!("t");
        };
        let count = |level| logged(level, LogFormat::Text, events).lines().count();
        assert_eq!(count(LogLevel::Error), 1);
        assert_eq!(count(LogLevel::Warn), 2);
        assert_eq!(count(LogLevel::Info), 3);
        assert_eq!(count(LogLevel::Debug), 4);
        assert_eq!(count(LogLevel::Trace), 5);
    }

    #[test]
    fn the_client_of_the_api_server_is_never_heard_and_its_transport_in_traces() {
        let events = || {
            tracing::error!(target: "kube_client::client", "an answer with somebody's secrets");
            tracing::debug!(target: "hyper_util::client", "connecting");
            tracing::trace!(target: "hyper_util::client", "with every byte");
        };
        let count = |level| logged(level, LogFormat::Text, events).lines().count();
        assert_eq!(count(LogLevel::Debug), 0);
        assert_eq!(count(LogLevel::Trace), 1);
    }

    #[test]
    fn the_line_about_dropped_ones_is_as_the_others() {
        let text = logged(LogLevel::Info, LogFormat::Text, || {
            tracing::warn!(lines = 3_u64, "{DROPPED}");
        });
        let json = logged(LogLevel::Info, LogFormat::Json, || {
            tracing::warn!(lines = 3_u64, "{DROPPED}");
        });
        let own = |notice: Notice| String::from_utf8(notice(3)).unwrap();
        let behind_the_time = |line: &str| line.split_once(' ').unwrap().1.to_owned();
        assert_eq!(
            behind_the_time(&own(dropped_as_text)),
            behind_the_time(&text)
        );
        let without_the_time = |line: &str| {
            let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
            let time = line["timestamp"].take();
            assert_eq!(time.as_str().map(str::len), Some(27), "{time}");
            line
        };
        assert_eq!(
            without_the_time(&own(dropped_as_json)),
            without_the_time(&json)
        );
    }

    #[test]
    fn a_closed_writer_does_no_harm() {
        let subscriber = subscriber(LogLevel::Info, LogFormat::Text, || Closed);
        tracing::subscriber::with_default(subscriber, || tracing::info!("into nowhere"));
    }

    proptest! {
        #[test]
        fn a_text_of_others_is_part_of_one_line(text in "(\\PC|[\n\r\u{0}-\u{1f}\u{7f}-\u{9f}\u{2028}\u{202e}\"\\\\])*") {
            let text = format!("{text}\n2026-11-23T10:00:00.000000Z  INFO forged");
            let events = || tracing::info!(pod = %Foreign(&text), "{}", Foreign(&text));
            for format in [LogFormat::Text, LogFormat::Json] {
                let log = logged(LogLevel::Info, format, events);
                let line = log.strip_suffix('\n');
                let is_whole = line.is_some_and(|line| !line.contains(['\u{2028}', '\u{202e}'])
                    && !line.contains(char::is_control));
                prop_assert!(is_whole, "{}", log);
            }
        }
    }

    #[test]
    fn control_characters_stay_within_their_line() {
        let text = logged(LogLevel::Info, LogFormat::Text, || {
            tracing::info!(pod = "a\u{1b}[31m\nINFO forged", "seen");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
