//! Requests and their answers.
//!
//! In: HTTP requests on one of the two ports. Out: their responses, and what is counted and logged. `POST /mutate`
//! is on the HTTPS port only; `/healthz`, `/readyz` and `/metrics` are on the other one, so that probes do not
//! depend on certificates.

use std::convert::Infallible;

use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tracing::{debug, info, warn};

use crate::body::{self, Problem};
use crate::metrics::Result as Counted;
use crate::review::{self, Answer, Outcome};
use crate::state::State;

pub(crate) type Reply = Response<Full<Bytes>>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Answers a request of an API server.
pub(crate) async fn review<B>(request: Request<B>, state: &State) -> Result<Reply, Infallible>
where
    B: Body<Data = Bytes> + Unpin,
{
    let is_review = request.method() == Method::POST && request.uri().path() == "/mutate";
    let mut reply = if is_review {
        mutate(request.into_body(), state).await
    } else {
        state.metrics.count(Counted::Malformed);
        closing(StatusCode::NOT_FOUND, "only POST /mutate is here\n")
    };
    if state.is_draining() {
        // The next request of this client shall go to another replica.
        reply.headers_mut().insert(CONNECTION, CLOSE);
    }
    Ok(reply)
}

async fn mutate<B>(body: B, state: &State) -> Reply
where
    B: Body<Data = Bytes> + Unpin,
{
    let held = match body::read(body, &state.budget).await {
        Ok(held) => held,
        Err(problem) => {
            let (counted, status, text) = match problem {
                Problem::TooLarge => (
                    Counted::TooLarge,
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "the body is too large\n",
                ),
                Problem::TooSlow => (
                    Counted::TooSlow,
                    StatusCode::REQUEST_TIMEOUT,
                    "the body came too slowly\n",
                ),
                Problem::NoMemory => (
                    Counted::Busy,
                    StatusCode::SERVICE_UNAVAILABLE,
                    "there are too many bodies at a time\n",
                ),
                Problem::Broken => (
                    Counted::Malformed,
                    StatusCode::BAD_REQUEST,
                    "the body is not complete\n",
                ),
            };
            state.metrics.count(counted);
            return closing(status, text);
        }
    };
    match review::answer(&held.bytes, &state.options) {
        Ok(answer) => {
            report(&answer, state);
            reply(StatusCode::OK, JSON, answer.body)
        }
        Err(error) => {
            state.metrics.count(Counted::Malformed);
            debug!("a request is not a review: {error}");
            reply(StatusCode::BAD_REQUEST, TEXT, format!("{error}\n"))
        }
    }
}

fn report(answer: &Answer, state: &State) {
    let pod = &answer.pod;
    let counted = match &answer.outcome {
        Outcome::Injected => {
            info!(%pod, "podspan is injected");
            Counted::Injected
        }
        Outcome::Unchanged => {
            debug!(%pod, "podspan is there already");
            Counted::Unchanged
        }
        Outcome::Refused(refused) => {
            warn!(%pod, "podspan is not injected: {refused}");
            Counted::Refused
        }
        Outcome::NotOptedIn => {
            debug!(%pod, "the pod did not opt in");
            Counted::NotOptedIn
        }
        Outcome::Unexpected => {
            debug!(%pod, "the request is not about a new pod");
            Counted::Unexpected
        }
    };
    state.metrics.count(counted);
}

/// Answers a request for the state.
pub(crate) fn status<B>(request: &Request<B>, state: &State) -> Reply {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/healthz") => reply(StatusCode::OK, TEXT, "ok\n"),
        (&Method::GET, "/readyz") => match state.not_ready() {
            None => reply(StatusCode::OK, TEXT, "ok\n"),
            Some(reason) => reply(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                format!("not ready: {reason}\n"),
            ),
        },
        (&Method::GET, "/metrics") => {
            let expiry = state.identity.get().map(|identity| identity.not_after);
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            match state.metrics.text(expiry, state.reviews.open()) {
                Ok(text) => reply(StatusCode::OK, kind, text),
                Err(error) => {
                    let text = format!("the metrics cannot be written: {error}\n");
                    reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, text)
                }
            }
        }
        _ => closing(
            StatusCode::NOT_FOUND,
            "only GET /healthz, /readyz and /metrics are here\n",
        ),
    }
}

fn reply(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    reply
}

/// The same, and the connection ends: what its client still sends is not read.
fn closing(status: StatusCode, text: &'static str) -> Reply {
    let mut reply = reply(status, TEXT, text);
    reply.headers_mut().insert(CONNECTION, CLOSE);
    reply
}
