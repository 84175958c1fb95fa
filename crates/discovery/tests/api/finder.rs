//! Discovery as the agent runs it: on a thread with a current-thread runtime. Its lists and its log are
//! recorded for the test.

use std::io;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use discovery::{
    ClientSource, Contact, Families, OwnPod, Scope, SensorList, Settings, SharedContact, Timing,
    TunnelSettings,
};
use settings::{Receiver, Tunnel};
use tokio::sync::oneshot;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Much longer than any step of these tests.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// The settings to find pods labelled `run=zeek`, with the short times of tests.
pub(crate) fn settings(scope: Scope) -> Settings {
    Settings {
        name: "zeek".to_owned(),
        scope,
        default_port: NonZeroU16::new(4789).unwrap(),
        default_receiver: Receiver::Sniffer,
        tunnel: TunnelSettings {
            default: Tunnel::Off,
            port: NonZeroU16::new(51820).unwrap(),
            has_keys: false,
        },
        node: None,
        own_pod: OwnPod::default(),
        families: Families {
            ipv4: true,
            ipv6: true,
        },
        timing: Timing {
            answer_timeout: Duration::from_secs(3),
            watch_duration: Duration::from_secs(2),
            ..Timing::default()
        },
    }
}

#[derive(Clone, Default)]
struct Recorded {
    lists: Arc<Mutex<Vec<(Instant, SensorList)>>>,
    /// What an operator reads.
    log: Arc<Mutex<Vec<u8>>>,
    /// What discovery logs in addition with `LOG=debug`.
    debug_log: Arc<Mutex<Vec<u8>>>,
    contact: SharedContact,
}

/// A running discovery; it ends when this value is dropped.
pub(crate) struct Finder {
    recorded: Recorded,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Finder {
    pub(crate) fn start(settings: Settings, source: ClientSource) -> Self {
        let recorded = Recorded::default();
        let (stop, stopped) = oneshot::channel();
        let shared = recorded.clone();
        let thread = thread::spawn(move || {
            let subscriber = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_max_level(Level::DEBUG)
                .with_writer(shared.clone())
                .finish();
            let _log = tracing::subscriber::set_default(subscriber);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let contact = shared.contact.clone();
                let publish = |list| lock(&shared.lists).push((Instant::now(), list));
                tokio::select! {
                    never = discovery::watch(settings, source, contact, publish) => match never {},
                    _ = stopped => {}
                }
            });
        });
        Self {
            recorded,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// What is known of the API server.
    pub(crate) fn contact(&self) -> Contact {
        self.recorded.contact.get()
    }

    /// All lists so far, with their times.
    pub(crate) fn lists(&self) -> Vec<(Instant, SensorList)> {
        lock(&self.recorded.lists).clone()
    }

    /// The addresses of the last list; `None` before the first one.
    pub(crate) fn addresses(&self) -> Option<Vec<String>> {
        let lists = lock(&self.recorded.lists);
        let (_, list) = lists.last()?;
        let addresses = list.sensors.iter();
        Some(addresses.map(|sensor| sensor.address.to_string()).collect())
    }

    /// Waits for a list of exactly these addresses, and returns the time until it came.
    #[track_caller]
    pub(crate) fn until(&self, addresses: &[&str]) -> Duration {
        let start = Instant::now();
        while self.addresses().is_none_or(|now| now != addresses) {
            assert!(
                start.elapsed() < TIMEOUT,
                "{addresses:?} expected, {:?} found; the log:\n{}",
                self.addresses(),
                self.log()
            );
            thread::sleep(Duration::from_millis(2));
        }
        start.elapsed()
    }

    /// Waits for a line of discovery with all these words, and returns the log from there on.
    #[track_caller]
    pub(crate) fn until_logged(&self, words: &[&str]) -> String {
        let start = Instant::now();
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
                start.elapsed() < TIMEOUT,
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

    /// Waits until this many lines of the log have this text.
    #[track_caller]
    pub(crate) fn until_times_logged(&self, times: usize, text: &str) {
        let start = Instant::now();
        while self.times_logged(text) < times {
            assert!(
                start.elapsed() < TIMEOUT,
                "not {times} times {text:?}:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// How many lines of `LOG=debug` have this text.
    pub(crate) fn times_logged_at_debug(&self, text: &str) -> usize {
        let debug_log = lock(&self.recorded.debug_log);
        let debug_log = String::from_utf8_lossy(&debug_log);
        debug_log.lines().filter(|line| line.contains(text)).count()
    }

    /// Checks that no list after the `first` ones was empty.
    #[track_caller]
    pub(crate) fn assert_never_empty_after(&self, first: usize) {
        for (_, list) in self.lists().iter().skip(first) {
            assert!(
                !list.sensors.is_empty(),
                "an empty list; the log:\n{}",
                self.log()
            );
        }
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&lock(&self.recorded.log)).into_owned()
    }
}

impl Drop for Finder {
    fn drop(&mut self) {
        // This fails only if discovery has panicked, which the test reports.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl<'a> MakeWriter<'a> for Recorded {
    type Writer = Log<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Log(Some(lock(&self.log)))
    }

    /// The libraries log much at this level, so only discovery's own lines are kept.
    fn make_writer_for(&'a self, line: &Metadata<'_>) -> Self::Writer {
        match *line.level() {
            Level::DEBUG if line.target().starts_with("discovery::") => {
                Log(Some(lock(&self.debug_log)))
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
