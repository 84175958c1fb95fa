//! The log on standard error, in the formats of podspan's own log.
//!
//! In: `tracing` events. Out: one line for each, as text or as a flat JSON object. A line has no text from the network
//! as it is: who writes one reduces it to printable characters. Events of libraries are left out: what matters of them
//! is logged once, with a remedy.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The form of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For log collectors.
    Json,
}

/// What `LOG` and `LOG_FORMAT` say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// Which events are logged.
    pub level: LevelFilter,
    /// The form of the lines.
    pub format: Format,
}

/// Libraries that write events: the client of the API server, its transport, and WireGuard.
const LEFT_OUT: [&str; 7] = [
    "boringtun",
    "hyper",
    "hyper_util",
    "kube",
    "kube_client",
    "rustls",
    "tower",
];

/// Starts the log for the whole process. A second call changes nothing.
pub(crate) fn start(log: Log) {
    let Log { level, format } = log;
    let targets = Targets::new()
        .with_default(level)
        .with_targets(LEFT_OUT.map(|target| (target, LevelFilter::OFF)));
    let lines = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_target(false)
        .with_timer(SystemTime)
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let _ = match format {
        Format::Text => lines.with_ansi(false).finish().with(targets).try_init(),
        Format::Json => {
            let lines = lines.json().flatten_event(true);
            let lines = lines.with_current_span(false).with_span_list(false);
            lines.finish().with(targets).try_init()
        }
    };
}
