//! The two ports: their connections, and the time that a client has for each step.
//!
//! In: connections. Out: served requests. Every step is bounded: the number of connections
//! ([`crate::connections`]), the TLS handshake, the time until the first request, the head of a request, its
//! body ([`crate::body`]), and the rest of a connection when the process ends.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::connections::Place;
use crate::http;
use crate::metrics::Closed;
use crate::state::State;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// How long a client may take for the head of its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(3);
/// How long a connection may have no further request. Go's client closes it after 90 s.
const IDLE: Duration = Duration::from_secs(100);
/// The largest head of a request.
const HEAD_MAX: usize = 16 << 10;
/// How long the accepting waits if the system has no more descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// What a port is for.
#[derive(Clone)]
pub(crate) enum Port {
    /// Reviews, by HTTPS.
    Reviews(TlsAcceptor),
    /// The state, by HTTP.
    Status,
}

/// Listens at an address. Where the system has no IPv6, all addresses are those of IPv4.
pub(crate) async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        listener => listener,
    }
}

/// Serves until `stop` is true, and then until the requests in progress are answered.
pub(crate) async fn serve(
    listener: TcpListener,
    port: Port,
    state: Arc<State>,
    mut stop: watch::Receiver<bool>,
) {
    let connections = match port {
        Port::Reviews(_) => Arc::clone(&state.reviews),
        Port::Status => Arc::clone(&state.status),
    };
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = tasks.join_next() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (place, full) = connections.admit();
                if matches!(port, Port::Reviews(_)) {
                    state.metrics.count_connection();
                    if full {
                        state.metrics.count_closed(Closed::Evicted);
                    }
                }
                let connection = Connection {
                    place,
                    state: Arc::clone(&state),
                    stop: stop.clone(),
                };
                tasks.spawn(connection.serve(stream, port.clone()));
            }
            Err(error) => {
                warn!("a connection cannot be accepted: {error}");
                sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

struct Connection {
    place: Place,
    state: Arc<State>,
    stop: watch::Receiver<bool>,
}

impl Connection {
    async fn serve(self, stream: TcpStream, port: Port) {
        // Answers are written at once, and are small.
        let _ = stream.set_nodelay(true);
        match port {
            Port::Status => self.requests(stream, false).await,
            Port::Reviews(tls) => {
                let handshake = timeout(HANDSHAKE, tls.accept(stream));
                let stream = tokio::select! {
                    handshake = handshake => handshake,
                    () = self.place.evicted() => return,
                };
                if let Ok(Ok(stream)) = stream {
                    self.requests(stream, true).await;
                } else {
                    self.state.metrics.count_closed(Closed::Handshake);
                    debug!("a TLS handshake failed or took too long");
                }
            }
        }
    }

    async fn requests<S>(mut self, stream: S, reviews: bool)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (place, state) = (&self.place, &self.state);
        let asked = AtomicBool::new(false);
        let service = service_fn(async |request| {
            place.touch();
            asked.store(true, Ordering::Relaxed);
            if reviews {
                http::review(request, state).await
            } else {
                Ok::<_, Infallible>(http::status(&request, state))
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .max_buf_size(HEAD_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let mut first = pin!(sleep(FIRST_REQUEST));
        let (mut waits, mut stopping) = (true, false);
        loop {
            tokio::select! {
                _ = connection.as_mut() => return,
                () = place.evicted() => return,
                () = first.as_mut(), if waits => {
                    if !asked.load(Ordering::Relaxed) {
                        if reviews {
                            state.metrics.count_closed(Closed::NoRequest);
                        }
                        return;
                    }
                    waits = false;
                }
                _ = self.stop.wait_for(|stop| *stop), if !stopping => {
                    connection.as_mut().graceful_shutdown();
                    stopping = true;
                }
            }
        }
    }
}
