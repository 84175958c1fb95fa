//! The log: lines on standard error, as text for people or as JSON for collectors.
//!
//! What comes in are `tracing` events with fields; what goes out is one line each:
//! `2026-11-23T10:00:00.000000Z  INFO message key=value`, or one flat JSON object. The log belongs
//! to the control side. The worker does not log per frame or per block: it counts, and a line is
//! written about the counters.
//!
//! Invariant: a standard error that is full or closed loses lines, and never ends the process.

use std::io;

use thiserror::Error;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::SetGlobalDefaultError;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::config::{LogFormat, LogLevel};

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

/// Starts the log on standard error for the whole process.
///
/// # Errors
/// When it was started before.
pub fn start(level: LogLevel, format: LogFormat) -> Result<(), LogError> {
    tracing::subscriber::set_global_default(subscriber(level, format, io::stderr))?;
    Ok(())
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
    use std::io::Write;
    use std::sync::{Arc, Mutex};

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
    fn a_closed_writer_does_no_harm() {
        let subscriber = subscriber(LogLevel::Info, LogFormat::Text, || Closed);
        tracing::subscriber::with_default(subscriber, || tracing::info!("into nowhere"));
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
