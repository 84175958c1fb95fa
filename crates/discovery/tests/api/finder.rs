//! Discovery as the agent runs it: on a thread with a current-thread runtime, its views and its log
//! kept for the test.

use std::io;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use discovery::{ClientSource, Families, Identity, Pace, Receiver, Scope, Settings, View};
use tokio::sync::oneshot;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Far more than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What to look for: the pods labelled `run=zeek`, at the hurried pace of tests.
pub(crate) fn settings(scope: Scope) -> Settings {
    Settings {
        name: "zeek".to_owned(),
        scope,
        default_port: NonZeroU16::new(4789).unwrap(),
        default_receiver: Receiver::Sniffer,
        node: None,
        me: Identity::default(),
        families: Families {
            ipv4: true,
            ipv6: true,
        },
        pace: Pace {
            answer: Duration::from_secs(3),
            watch: Duration::from_secs(2),
            ..Pace::default()
        },
    }
}

#[derive(Clone, Default)]
struct Seen {
    views: Arc<Mutex<Vec<(Instant, View)>>>,
    /// What an operator sees.
    log: Arc<Mutex<Vec<u8>>>,
    /// What discovery says beyond that with `LOG=debug`.
    details: Arc<Mutex<Vec<u8>>>,
}

/// A running discovery; it ends when this value is dropped.
pub(crate) struct Finder {
    seen: Seen,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Finder {
    pub(crate) fn start(settings: Settings, source: ClientSource) -> Self {
        let seen = Seen::default();
        let (stop, stopped) = oneshot::channel();
        let theirs = seen.clone();
        let thread = thread::spawn(move || {
            let subscriber = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_max_level(Level::DEBUG)
                .with_writer(theirs.clone())
                .finish();
            let _log = tracing::subscriber::set_default(subscriber);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let publish = |view| held(&theirs.views).push((Instant::now(), view));
                tokio::select! {
                    never = discovery::watch(settings, source, publish) => match never {},
                    _ = stopped => {}
                }
            });
        });
        Self {
            seen,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// All views so far, with the times at which they came.
    pub(crate) fn views(&self) -> Vec<(Instant, View)> {
        held(&self.seen.views).clone()
    }

    /// The addresses of the last view; none before the first.
    pub(crate) fn addresses(&self) -> Option<Vec<String>> {
        let views = held(&self.seen.views);
        let (_, view) = views.last()?;
        let addresses = view.sensors.iter();
        Some(addresses.map(|sensor| sensor.address.to_string()).collect())
    }

    /// Waits for a view of exactly these addresses, and returns how long that took.
    #[track_caller]
    pub(crate) fn until(&self, addresses: &[&str]) -> Duration {
        let begun = Instant::now();
        while self.addresses().is_none_or(|now| now != addresses) {
            assert!(
                begun.elapsed() < PATIENCE,
                "{addresses:?} expected, {:?} seen; the log:\n{}",
                self.addresses(),
                self.log()
            );
            thread::sleep(Duration::from_millis(2));
        }
        begun.elapsed()
    }

    /// Waits for a line of ours in the log that has all these words, and returns the log from there.
    #[track_caller]
    pub(crate) fn until_logged(&self, words: &[&str]) -> String {
        let begun = Instant::now();
        loop {
            let log = self.log();
            let found = log.lines().find(|line| {
                line.contains("discovery::") && words.iter().all(|word| line.contains(word))
            });
            if let Some(line) = found {
                return log
                    .split_once(line)
                    .map(|(_, rest)| format!("{line}{rest}"))
                    .unwrap();
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{words:?} not in the log:\n{log}"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// How many lines of the log have this text.
    pub(crate) fn times_logged(&self, text: &str) -> usize {
        self.log()
            .lines()
            .filter(|line| line.contains(text))
            .count()
    }

    /// Waits until so many lines of the log have this text.
    #[track_caller]
    pub(crate) fn until_times_logged(&self, times: usize, text: &str) {
        let begun = Instant::now();
        while self.times_logged(text) < times {
            assert!(
                begun.elapsed() < PATIENCE,
                "not {times} times {text:?}:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// How many lines of `LOG=debug` have this text.
    pub(crate) fn times_detailed(&self, text: &str) -> usize {
        let details = held(&self.seen.details);
        let details = String::from_utf8_lossy(&details);
        details.lines().filter(|line| line.contains(text)).count()
    }

    /// That no view after the `first` ones was empty.
    #[track_caller]
    pub(crate) fn never_empty_after(&self, first: usize) {
        for (_, view) in self.views().iter().skip(first) {
            assert!(
                !view.sensors.is_empty(),
                "emptied; the log:\n{}",
                self.log()
            );
        }
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&held(&self.seen.log)).into_owned()
    }
}

impl Drop for Finder {
    fn drop(&mut self) {
        // It fails only when discovery has ended by a panic, which the test tells.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl<'a> MakeWriter<'a> for Seen {
    type Writer = Log<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Log(Some(held(&self.log)))
    }

    /// Those below us say much at this level.
    fn make_writer_for(&'a self, line: &Metadata<'_>) -> Self::Writer {
        match *line.level() {
            Level::DEBUG if line.target().starts_with("discovery::") => {
                Log(Some(held(&self.details)))
            }
            Level::DEBUG | Level::TRACE => Log(None),
            _ => self.make_writer(),
        }
    }
}

pub(crate) struct Log<'a>(Option<MutexGuard<'a, Vec<u8>>>);

impl io::Write for Log<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if let Some(log) = &mut self.0 {
            log.extend_from_slice(text);
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
