//! The log: lines on standard error, as text for people or as JSON for log collectors.
//!
//! In: `tracing` events with fields. Out: one line for each event,
//! `2026-11-23T10:00:00.000000Z  INFO message key=value`, or one flat JSON object. Only the control side
//! logs. The worker does not log per frame or per block: it counts, and the control side logs the
//! counters.
//!
//! Some texts of podspan have several lines in the text format: wrong settings, the YAML for a missing
//! capability or Role. A text from another program is always within one line ([`settings::Foreign`]).
//!
//! Lines wait in a bounded queue, and a separate thread writes them. [`start`] comes first, and then
//! events can follow. [`start_writer`] starts the thread after the capabilities are dropped, because a
//! thread inherits them. [`flush`] comes before the end of the process, with or without that thread.
//!
//! Invariants:
//! - No event waits until standard error is read. A line that does not fit the queue is dropped and
//!   counted, and a line before the next one gives the number of dropped lines and the reason.
//! - Each [`flush`] and [`print()`] lasts at most half a second. So an unread standard error delays the
//!   end of the process by one second: one flush comes before the totals are logged, one after.
//! - A full or closed standard error loses lines, and never ends the process.
//!
//! `tracing-appender` does not fit: it starts its thread when it is created, its queue limits lines but
//! not bytes, and it counts dropped lines but does not log the count.

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
use settings::{LogFormat, LogLevel};

mod queue;

/// How long the process waits for standard error at a flush.
const GRACE: Duration = Duration::from_millis(500);

/// Why lines were dropped, and what to do.
const DROPPED: &str = "log lines were dropped: standard error is not read, or too slowly; check what \
                       collects this log";

/// The crates of the API server's client, which have their own log events, and of its transport.
const CLIENT: [&str; 2] = ["kube", "kube_client"];
const TRANSPORT: [&str; 4] = ["hyper", "hyper_util", "rustls", "tower"];

/// The log could not be started.
#[derive(Debug, Error)]
pub enum LogError {
    /// This process already has a log.
    #[error("the log was started twice; this is a defect in podspan, please report it")]
    StartedTwice(#[from] SetGlobalDefaultError),
}

/// The lines of the whole process.
static LINES: OnceLock<Queue> = OnceLock::new();

/// Starts the log on standard error for the whole process. From now on events become lines, which
/// wait for [`start_writer`] or [`flush`].
///
/// # Errors
/// When the log was already started.
pub fn start(level: LogLevel, format: LogFormat) -> Result<(), LogError> {
    let notice: Notice = match format {
        LogFormat::Text => dropped_as_text,
        LogFormat::Json => dropped_as_json,
    };
    let lines = LINES.get_or_init(|| Queue::new(notice));
    tracing::subscriber::set_global_default(subscriber(level, format, || Line(lines)))?;
    Ok(())
}

/// Starts the thread that writes the lines, unless it runs already. Call it after all capabilities are
/// dropped.
///
/// # Errors
/// When the thread cannot be started.
pub fn start_writer() -> io::Result<()> {
    LINES
        .get()
        .map_or(Ok(()), |lines| lines.start_writer(io::stderr()))
}

/// Waits until all lines are written, at most half a second.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(&io::stderr(), Instant::now() + GRACE);
    }
}

/// How many lines were dropped so far.
#[must_use]
pub fn dropped() -> u64 {
    LINES.get().map_or(0, Queue::dropped_in_all)
}

/// Writes a text that cannot be an event, for example before the log is started; gives up after half a
/// second.
pub fn print(text: &dyn Display) {
    let text = format!("podspan: {text}\n");
    // This does not use the standard library's lock of standard error: its owner may wait for a reader.
    write_until(&io::stderr(), text.as_bytes(), Instant::now() + GRACE);
}

/// Writes each panic of the process with [`print()`]: the standard library would wait for a reader.
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

/// Receives the line of one event.
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

/// The line about dropped lines, in the subscriber's format. It is written at every level.
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

/// Builds the subscriber that writes events as lines to `writer`, except events above `level`.
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
        // Otherwise `eprintln!` reports a failed write, and panics if it fails too.
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

/// Which events are logged. The API server's client is left out: it reports each failure that discovery
/// logs once and with a remedy, and it prints whole answers, which may contain secrets.
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

    use proptest::prelude::*;
    use settings::Foreign;

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
    fn the_api_servers_client_is_never_logged_and_its_transport_only_at_trace() {
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
    fn the_line_about_dropped_lines_has_the_format_of_the_others() {
        let text = logged(LogLevel::Info, LogFormat::Text, || {
            tracing::warn!(lines = 3_u64, "{DROPPED}");
        });
        let json = logged(LogLevel::Info, LogFormat::Json, || {
            tracing::warn!(lines = 3_u64, "{DROPPED}");
        });
        let own = |notice: Notice| String::from_utf8(notice(3)).unwrap();
        let after_the_time = |line: &str| line.split_once(' ').unwrap().1.to_owned();
        assert_eq!(after_the_time(&own(dropped_as_text)), after_the_time(&text));
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
        fn a_foreign_text_is_part_of_one_line(text in "(\\PC|[\n\r\u{0}-\u{1f}\u{7f}-\u{9f}\u{2028}\u{202e}\"\\\\])*") {
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
