//! Staying alive when podspan cannot start: `ON_FAILURE=idle`.
//!
//! A native sidecar that exits at its start keeps its pod not Ready (`Init:CrashLoopBackOff`). With
//! `ON_FAILURE=idle` the process stays alive, mirrors nothing, logs why, and tries again if the cause can
//! go away: after 1 s, then after twice the last pause, up to 60 s. SIGTERM and SIGINT end it with code 0.
//!
//! In: the errors of a start. Out: pauses, and log lines: at once for a new error, and then each minute.
//! [`Attempts`] decides this and gets the time as an argument. In this state podspan is alive, and says by the
//! [endpoint](crate::endpoint) why it mirrors nothing; with `READY=strict` it is not ready.
//!
//! Wrong settings cannot change while the process lives, because they are in its environment. They are
//! logged again, but not read again. This module does not handle a failure after the capabilities were
//! dropped: this process cannot try again, so it exits and the kubelet starts a new one.

use std::fmt::Display;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use settings::Basics;

use crate::endpoint::Endpoint;
use crate::exit::Exit;
use crate::log;
use crate::signals::Signals;
use crate::status::{Identity, Status};

/// The pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause, and the time after which an error is logged again.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Stays alive with wrong settings until a signal.
pub fn idle(errors: &dyn Display, basics: &Basics) -> ExitCode {
    let (runtime, mut signals) = match runtime() {
        Ok(both) => both,
        Err(error) => {
            tracing::error!("{errors}\nand podspan cannot wait for a signal: {error}");
            log::flush();
            return Exit::OsError.into();
        }
    };
    let waiting = Waiting {
        identity: Identity::default(),
        reason: errors.to_string(),
    };
    let mut endpoint = Endpoint::new(basics.metrics, basics.ready);
    runtime.block_on(async {
        endpoint.start();
        // This thread writes the log itself: it has nothing else to do.
        loop {
            tracing::error!(
                "ON_FAILURE=idle: nothing is mirrored; restart the container with other settings: \
                 {errors}"
            );
            log::flush();
            if waiting
                .signal_within(LONGEST_PAUSE, &mut signals, &mut endpoint)
                .await
            {
                break;
            }
        }
    });
    log::flush();
    Exit::Success.into()
}

/// The control side's runtime, which runs on the calling thread only, and the signals.
///
/// # Errors
/// When the system cannot create their descriptors.
pub(crate) fn runtime() -> std::io::Result<(Runtime, Signals)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _within = runtime.enter();
        Signals::register()?
    };
    Ok((runtime, signals))
}

/// A process that mirrors nothing.
struct Waiting {
    identity: Identity,
    /// Why.
    reason: String,
}

impl Waiting {
    /// Waits for a signal, at most for `limit`, and tells who asks why nothing is mirrored; returns whether a signal
    /// came.
    async fn signal_within(
        &self,
        limit: Duration,
        signals: &mut Signals,
        endpoint: &mut Endpoint,
    ) -> bool {
        let signal = timeout(limit, async {
            loop {
                tokio::select! {
                    name = signals.next() => return name,
                    request = endpoint.request() => {
                        let (identity, reason) = (self.identity.clone(), self.reason.clone());
                        request.answer(Status::idle(identity, reason));
                    }
                }
            }
        });
        let Ok(name) = signal.await else {
            return false;
        };
        tracing::info!("{name}: podspan ends without having mirrored anything");
        true
    }
}

/// Calls `start` until it succeeds; returns `None` if a signal comes first. The endpoint begins with the first failure.
pub(crate) async fn until_started<T, E: Display>(
    mut start: impl FnMut() -> Result<T, E>,
    identity: &Identity,
    signals: &mut Signals,
    endpoint: &mut Endpoint,
) -> Option<T> {
    let mut attempts = Attempts::default();
    loop {
        let error = match start() {
            Ok(started) => {
                attempts.log_success(Instant::now());
                return Some(started);
            }
            Err(error) => error.to_string(),
        };
        let Failed { pause, is_logged } = attempts.failed(&error, Instant::now());
        if is_logged {
            tracing::error!(
                "ON_FAILURE=idle: nothing is mirrored; next attempt in {pause:?}: {error}"
            );
        }
        // The log's thread starts only after the capabilities are dropped.
        log::flush();
        endpoint.start();
        let waiting = Waiting {
            identity: identity.clone(),
            reason: error,
        };
        if waiting.signal_within(pause, signals, endpoint).await {
            return None;
        }
    }
}

/// The failed attempts of a start.
#[derive(Debug, Default)]
struct Attempts {
    failures: u32,
    /// When the first attempt failed.
    first: Option<Instant>,
    /// The error that was logged last, and when.
    logged: Option<(String, Instant)>,
}

/// What to do after a failure.
#[derive(Debug, PartialEq, Eq)]
struct Failed {
    /// The time until the next attempt.
    pause: Duration,
    /// Whether to log the error.
    is_logged: bool,
}

impl Attempts {
    fn failed(&mut self, error: &str, now: Instant) -> Failed {
        self.first.get_or_insert(now);
        let factor = 2_u32.saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1);
        let is_repeated = self.logged.as_ref().is_some_and(|(logged, at)| {
            logged == error && now.saturating_duration_since(*at) < LONGEST_PAUSE
        });
        if !is_repeated {
            self.logged = Some((error.to_owned(), now));
        }
        Failed {
            pause: FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE),
            is_logged: !is_repeated,
        }
    }

    /// Logs the success if there was a failure before.
    fn log_success(&self, now: Instant) {
        if let Some(first) = self.first {
            let after = now.saturating_duration_since(first);
            tracing::info!(
                failures = self.failures,
                ?after,
                "the start has succeeded; podspan mirrors now"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use settings::{MetricsAddress, Ready};

    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let mut pause = || attempts.failed("e", now).pause.as_secs();
        let pauses: Vec<_> = (0..9).map(|_| pause()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        attempts.failures = u32::MAX;
        assert_eq!(attempts.failed("e", now).pause, LONGEST_PAUSE);
    }

    #[test]
    fn an_error_is_logged_at_once_and_each_minute_and_a_new_error_at_once() {
        let (mut attempts, start) = (Attempts::default(), Instant::now());
        let mut is_logged = |error: &str, seconds| {
            let now = start + Duration::from_secs(seconds);
            attempts.failed(error, now).is_logged
        };
        let same = [0, 1, 3, 59, 60, 61, 119, 120].map(|seconds| is_logged("e", seconds));
        assert_eq!(same, [true, false, false, false, true, false, false, true]);
        assert!(is_logged("other", 121));
        assert!(!is_logged("other", 122));
    }

    #[test]
    fn a_start_is_repeated_until_it_succeeds() {
        let (runtime, mut signals) = runtime().unwrap();
        let mut left = 2;
        let start = || {
            left -= 1;
            if left == 0 { Ok(7) } else { Err("not yet") }
        };
        let mut endpoint = Endpoint::new(MetricsAddress::Off, Ready::Lenient);
        let identity = Identity::default();
        let started = until_started(start, &identity, &mut signals, &mut endpoint);
        let started = runtime.block_on(started);
        assert_eq!((started, left), (Some(7), 0));
    }
}
