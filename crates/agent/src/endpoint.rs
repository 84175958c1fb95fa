//! Metrics and the state by HTTP, at the address in `METRICS`.
//!
//! In: requests of anybody, bounded by [`metrics::http`]. Out: a [`Request`] for each, which the control side answers
//! with a [`Status`] ([`Endpoint::request`]); and from it the pages `/metrics`, `/status`, `/livez` and `/readyz`. All of
//! it runs on the thread of the control side, and takes nothing from the worker.
//!
//! If the port cannot be bound, for example because the application has it, there is one warning, and podspan mirrors
//! without it; this is tried again once a minute. Nothing listens before the capabilities are dropped, except with
//! `ON_FAILURE=idle` after a start that failed: then the opening of the sockets is tried again with them.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::http::{Answer, Pages, StatusCode, listen, serve};
use settings::{MetricsAddress, Ready, Value as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use crate::status::{CATALOG, Status};

/// When the port is tried again.
const RETRY_AFTER: Duration = Duration::from_mins(1);
/// As many as there are connections at most.
const REQUESTS_MAX: usize = 32;

/// Somebody wants to know the state.
#[derive(Debug)]
pub(crate) struct Request(oneshot::Sender<Status>);

impl Request {
    /// Answers it.
    pub(crate) fn answer(self, status: Status) {
        // It fails when the connection has ended, which then needs no answer.
        let _ = self.0.send(status);
    }
}

/// The control side's end.
#[derive(Debug)]
pub(crate) struct Endpoint {
    requests: mpsc::Receiver<Request>,
    /// What is served, until this begins.
    pages: Option<(SocketAddr, StatusPages)>,
}

impl Endpoint {
    /// Nothing is served yet.
    pub(crate) fn new(address: MetricsAddress, ready: Ready) -> Self {
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let pages = StatusPages {
            requests: sender,
            ready,
            evicted: AtomicU64::new(0),
        };
        Self {
            requests,
            pages: address.address().map(|address| (address, pages)),
        }
    }

    /// Begins to serve, unless it does already. Must be called within the runtime.
    pub(crate) fn start(&mut self) {
        if let Some((address, pages)) = self.pages.take() {
            tokio::spawn(keep_serving(address, Arc::new(pages), RETRY_AFTER));
        }
    }

    /// The next request.
    pub(crate) async fn request(&mut self) -> Request {
        match self.requests.recv().await {
            Some(request) => request,
            // Nothing is served.
            None => pending().await,
        }
    }
}

async fn keep_serving<P: Pages>(
    address: SocketAddr,
    pages: Arc<P>,
    retry_after: Duration,
) -> Infallible {
    let mut has_failed = false;
    loop {
        let shown = MetricsAddress::At(address).show();
        let error = match listen(address) {
            Ok(listener) => {
                tracing::info!(
                    address = %listener.local_addr().map_or_else(|_| shown.clone(), |address| address.to_string()),
                    "metrics are served"
                );
                match serve(listener, Arc::clone(&pages)).await {
                    Ok(never) => match never {},
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        if !has_failed {
            tracing::warn!(
                "METRICS={shown}: podspan cannot listen there, and mirrors without metrics: {error}; if another \
                 process of the pod has the port, choose another one, for example METRICS=:9470, or METRICS=off; \
                 this is tried again once a minute"
            );
        }
        has_failed = true;
        sleep(retry_after).await;
    }
}

#[derive(Debug)]
struct StatusPages {
    requests: mpsc::Sender<Request>,
    ready: Ready,
    evicted: AtomicU64,
}

impl StatusPages {
    /// The state now; `None` if the control side has ended.
    async fn status(&self) -> Option<Status> {
        let (sender, status) = oneshot::channel();
        self.requests.send(Request(sender)).await.ok()?;
        let mut status = status.await.ok()?;
        status.connections_evicted = self.evicted.load(Ordering::Relaxed);
        Some(status)
    }
}

impl Pages for StatusPages {
    const PATHS: &'static str = "/metrics, /status, /livez and /readyz";

    async fn answer(&self, path: &str) -> Option<Answer> {
        let page: fn(&Status, Ready) -> Answer = match path {
            "/metrics" => |status, _| Answer::metrics(CATALOG.text(status)),
            "/status" => |status, _| Answer::json(status.json()),
            "/livez" => |status, _| live(status),
            "/readyz" => ready,
            _ => return None,
        };
        Some(match self.status().await {
            Some(status) => page(&status, self.ready),
            None => Answer::health(Some("podspan ends\n".to_owned())),
        })
    }

    fn count_evicted(&self) {
        self.evicted.fetch_add(1, Ordering::Relaxed);
    }
}

/// podspan is alive while the worker moves, also if nothing can be mirrored: a restart would not help.
fn live(status: &Status) -> Answer {
    let stuck = |late: Duration| format!("the worker is stuck for {} s\n", late.as_secs());
    Answer::health(status.stuck().map(stuck))
}

fn ready(status: &Status, ready: Ready) -> Answer {
    let problems = status.problems();
    if problems.is_empty() {
        return Answer::health(None);
    }
    let text = problems.join("\n") + "\n";
    match ready {
        Ready::Strict => Answer::health(Some(text)),
        Ready::Lenient => Answer::text(StatusCode::OK, text),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::thread;
    use std::time::Instant;

    use tokio::runtime::Builder;

    use super::*;
    use crate::status::Identity;

    fn idle() -> Status {
        Status::idle(Identity::default(), "no permission".into())
    }

    #[test]
    fn what_is_missing_is_in_the_text_and_with_strict_in_the_status_too() {
        let codes = |status: &Status| {
            let codes = [
                live(status),
                ready(status, Ready::Lenient),
                ready(status, Ready::Strict),
            ];
            codes.map(|answer| answer.status.as_u16())
        };
        assert_eq!(codes(&idle()), [200, 200, 503]);
        assert_eq!(
            ready(&idle(), Ready::Lenient).body,
            "idle after a failure: no permission\n"
        );
        let mut stuck = idle();
        stuck.worker_late = Duration::from_mins(1);
        assert_eq!(codes(&stuck)[0], 503);
    }

    /// The answer to one request.
    fn get(port: u16, path: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_port_that_is_taken_is_used_when_it_is_free() {
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = other.local_addr().unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut endpoint = Endpoint::new(MetricsAddress::At(address), Ready::Lenient);
            let (_, pages) = endpoint.pages.take().unwrap();
            let retry = Duration::from_millis(10);
            tokio::spawn(keep_serving(address, Arc::new(pages), retry));
            let asked = thread::spawn(move || {
                thread::sleep(Duration::from_millis(100));
                drop(other);
                let begun = Instant::now();
                while TcpStream::connect(address).is_err() {
                    assert!(begun.elapsed() < Duration::from_secs(10));
                    thread::sleep(Duration::from_millis(5));
                }
                ["/readyz", "/metrics", "/status", "/"].map(|path| get(address.port(), path))
            });
            while !asked.is_finished() {
                tokio::select! {
                    request = endpoint.request() => request.answer(idle()),
                    () = sleep(Duration::from_millis(10)) => {}
                }
            }
            let [ready, metrics, status, other] = asked.join().unwrap();
            assert!(
                ready.ends_with("idle after a failure: no permission\n"),
                "{ready}"
            );
            assert!(metrics.contains("\npodspan_idle 1\n"), "{metrics}");
            assert!(status.contains("\"idle\":\"no permission\""), "{status}");
            assert!(other.starts_with("HTTP/1.1 404"), "{other}");
        });
    }
}
