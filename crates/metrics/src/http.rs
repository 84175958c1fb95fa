//! A small HTTP server for metrics and the state.
//!
//! In: connections of anybody. Out: answers of [`Pages`]. Everything is bounded, so that whoever connects takes
//! little from the threads that do the work: the number of connections, where a new one ends the oldest, so that idle ones
//! never keep a probe away; the time of a connection from its start to its end; the head of a request, whose body is not
//! read; and how many connections a second are accepted. A connection has one request.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tracing::warn;

pub use hyper::StatusCode;

use crate::text;

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

const TEXT: &str = "text/plain; charset=utf-8";

/// What a program answers.
pub trait Pages: Send + Sync + 'static {
    /// The paths that are there, for who asks for another one.
    const PATHS: &'static str;

    /// The answer to GET of a path; `None`: there is no such path.
    fn answer(&self, path: &str) -> impl Future<Output = Option<Answer>> + Send;

    /// Counts a connection that was closed because there were too many.
    fn count_evicted(&self);
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    kind: &'static str,
    /// The body.
    pub body: String,
}

impl Answer {
    /// A text for people.
    pub fn text(status: StatusCode, body: impl Into<String>) -> Self {
        let body = body.into();
        Self {
            status,
            kind: TEXT,
            body,
        }
    }

    /// A text in JSON.
    #[must_use]
    pub const fn json(body: String) -> Self {
        Self {
            status: StatusCode::OK,
            kind: "application/json",
            body,
        }
    }

    /// The text of [`Catalog::text`](crate::Catalog::text).
    #[must_use]
    pub fn metrics(text: Result<String, fmt::Error>) -> Self {
        match text {
            Ok(body) => Self {
                status: StatusCode::OK,
                kind: text::CONTENT_TYPE,
                body,
            },
            Err(error) => Self::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("the metrics cannot be written: {error}\n"),
            ),
        }
    }

    /// The answer to a probe: `problem` if there is one, else `ok`.
    #[must_use]
    pub fn health(problem: Option<String>) -> Self {
        match problem {
            None => Self::text(StatusCode::OK, "ok\n"),
            Some(problem) => Self::text(StatusCode::SERVICE_UNAVAILABLE, problem),
        }
    }
}

/// Listens at an address. Where the system has no IPv6, all addresses are those of IPv4.
///
/// # Errors
/// The kernel's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
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

/// Serves for ever. Must be called within a runtime.
///
/// # Errors
/// Only that the runtime does not take the listener.
pub async fn serve<P: Pages>(listener: TcpListener, pages: Arc<P>) -> io::Result<Infallible> {
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
                    pages.count_evicted();
                }
                let connection = timeout(TIME_MAX, serve_one(stream, Arc::clone(&pages)));
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

async fn serve_one<P: Pages>(stream: TcpStream, pages: Arc<P>) {
    let service = service_fn(|request: Request<Incoming>| {
        let pages = Arc::clone(&pages);
        async move {
            let answer = answer(request.method(), request.uri().path(), &*pages).await;
            Ok::<_, Infallible>(reply(answer))
        }
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

async fn answer<P: Pages>(method: &Method, path: &str, pages: &P) -> Answer {
    if method != Method::GET && method != Method::HEAD {
        return Answer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET is here\n");
    }
    let answer = pages.answer(path).await;
    answer.unwrap_or_else(|| {
        let text = format!("only {} are here\n", P::PATHS);
        Answer::text(StatusCode::NOT_FOUND, text)
    })
}

fn reply(answer: Answer) -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::new(answer.body.into()));
    *reply.status_mut() = answer.status;
    let kind = HeaderValue::from_static(answer.kind);
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    reply
}
