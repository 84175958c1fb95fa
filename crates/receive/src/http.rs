//! Metrics and the state, by HTTP: `/metrics`, `/livez` and `/readyz`.
//!
//! In: connections of anybody. Out: answers from a [`State`]. Everything is bounded, so that whoever connects takes
//! little from the threads that decrypt: the number of connections, where a new one ends the oldest, so that idle ones
//! never keep a probe away; the time of a connection from its start to its end; the head of a request, whose body is not
//! read; and how many connections a second are accepted. A connection has one request.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::metrics;
use crate::status::State;

/// The most connections at a time.
const CONNECTIONS_MAX: usize = 32;
/// How long a connection may last.
const TIME_MAX: Duration = Duration::from_secs(5);
/// The largest head of a request: hyper's lower limit.
const HEAD_MAX: usize = 8 << 10;
/// How many connections wait in the kernel until they are accepted.
const BACKLOG: i32 = 128;
/// The time between two connections that are accepted: a flood of them costs a few percent of a core.
const ACCEPT_EVERY: Duration = Duration::from_millis(1);
/// How long the accepting waits if the system has no more descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens at an address. Where the system has no IPv6, all addresses are those of IPv4.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match bound(address) {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() => {
            bound((Ipv4Addr::UNSPECIFIED, address.port()).into()).map_err(|_| error)
        }
        listener => listener,
    }
}

fn bound(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Connections of a process before this one may linger.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Serves for ever; an error is only that the runtime does not take the listener.
pub(crate) async fn serve(listener: TcpListener, state: Arc<State>) -> io::Result<Infallible> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    let mut is_failing = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                is_failing = false;
                open.retain(|connection| !connection.is_finished());
                if open.len() >= CONNECTIONS_MAX
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                    state.count_evicted();
                }
                let connection = timeout(TIME_MAX, serve_one(stream, Arc::clone(&state)));
                open.push_back(tokio::spawn(connection).abort_handle());
                sleep(ACCEPT_EVERY).await;
            }
            Err(error) => {
                if !is_failing {
                    warn!(
                        "a connection to METRICS cannot be accepted: {error}; this is tried again"
                    );
                }
                is_failing = true;
                sleep(PAUSE).await;
            }
        }
    }
}

async fn serve_one(stream: TcpStream, state: Arc<State>) {
    let service = service_fn(async |request: Request<Incoming>| {
        Ok::<_, Infallible>(answer(request.method(), request.uri().path(), &state))
    });
    // What fails is the client's connection.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(TIME_MAX)
        .max_buf_size(HEAD_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

type Reply = Response<Full<Bytes>>;

const TEXT: &str = "text/plain; charset=utf-8";

fn answer(method: &Method, path: &str, state: &State) -> Reply {
    if method != Method::GET && method != Method::HEAD {
        return reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is here\n");
    }
    match path {
        "/metrics" => match metrics::text(&state.status()) {
            Ok(text) => reply(StatusCode::OK, metrics::CONTENT_TYPE, text),
            Err(error) => {
                let text = format!("the metrics cannot be written: {error}\n");
                reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, text)
            }
        },
        "/readyz" if !state.has_begun() => health(Some("not all threads have begun\n".to_owned())),
        "/livez" | "/readyz" => health(stuck(state)),
        _ => reply(
            StatusCode::NOT_FOUND,
            TEXT,
            "only /metrics, /livez and /readyz are here\n",
        ),
    }
}

fn stuck(state: &State) -> Option<String> {
    let (thread, idle) = state.stuck(Instant::now())?;
    Some(format!(
        "thread {thread} is stuck for {} s\n",
        idle.as_secs()
    ))
}

/// `problem` is the answer if there is one.
fn health(problem: Option<String>) -> Reply {
    match problem {
        None => reply(StatusCode::OK, TEXT, "ok\n"),
        Some(problem) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, problem),
    }
}

fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    reply
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::keys::FileState;
    use crate::worker::{Published, Shared};

    #[test]
    fn live_is_who_publishes_and_ready_is_who_has_begun_too() {
        let thread = Shared::default();
        let keys = FileState {
            keys: 1,
            read_at: SystemTime::now(),
            failures: 9,
        };
        let begun = Instant::now().checked_sub(Duration::from_mins(1)).unwrap();
        let state = |begun| State::new(vec![Arc::clone(&thread)], 1, keys, begun);
        let codes = |state: &State| {
            ["/livez", "/readyz"].map(|path| answer(&Method::GET, path, state).status().as_u16())
        };
        assert_eq!(codes(&state(Instant::now())), [200, 503]);
        assert_eq!(codes(&state(begun)), [503, 503], "it does not begin");
        let publish = |at| {
            *thread.lock().unwrap() = Published {
                at: Some(at),
                ..Published::default()
            };
        };
        publish(Instant::now());
        assert_eq!(
            codes(&state(begun)),
            [200, 200],
            "a file of keys that cannot be read matters not"
        );
        publish(begun);
        assert_eq!(codes(&state(begun)), [503, 503], "it is stuck");
    }
}
