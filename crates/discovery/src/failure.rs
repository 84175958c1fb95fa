//! What failed at the API server, as a value.
//!
//! In: an error of `kube`, a status of the API server, or an I/O error below them. Out: a [`Failure`]
//! with its cause, found by [`classify`].
//!
//! The kind of failure decides three things elsewhere: the remedy that is logged (`remedy`), the time
//! until the next attempt (`backoff`), and whether a watch can continue where it stopped
//! ([`Failure::keeps_position`]).
//!
//! Invariant: every error has a [`Failure`]; an unknown one is [`Failure::Unexpected`].
//!
//! Sources: `k8s.io/apimachinery/pkg/api/errors`, and for the texts of 403
//! `k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go`.

use std::error::Error as StdError;
use std::io;
use std::mem;
use std::time::Duration;

use kube::client::AuthError;
use kube::core::Status;

use crate::credentials;
use crate::go_string::unquote;
use settings::Foreign;

/// The most causes below an error that are read. In practice there are about seven.
const DEPTH: usize = 16;

/// A failure of the API server, of the path to it, or of podspan's credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no usable configuration or credential.
    Credentials { reason: String },
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden { verb: Verb, user: Option<User> },
    /// 404.
    NotFound { message: String },
    /// 410: the API server no longer has the events after the position.
    Gone,
    /// 429, or another answer with the time of the next attempt.
    Throttled { code: u16, after: Option<Duration> },
    /// 400 or 422: this API server does not support the request, for example a streaming list.
    Unsupported { message: String },
    /// 5xx.
    Server { code: u16, message: String },
    /// The name of the API server cannot be resolved.
    UnknownHost { reason: String },
    /// No connection.
    Unreachable { reason: String },
    /// No answer came in time.
    TimedOut { waiting_for: &'static str },
    /// TLS: its certificate is not trusted.
    Certificate { reason: String },
    /// A connection ended in the middle of an answer.
    Disconnected { reason: String },
    /// Anything else.
    Unexpected { reason: String },
}

/// The verb that RBAC does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    List,
    Watch,
}

/// The user to whom RBAC does not allow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum User {
    ServiceAccount {
        namespace: String,
        name: String,
    },
    Other(String),
    /// The API server quotes the user's name in a way that podspan does not read.
    Unreadable,
}

impl Verb {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Watch => "watch",
        }
    }
}

impl Failure {
    /// Whether it is of the same kind as `other`: texts and times may differ.
    pub(crate) fn is_same_kind(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Forbidden { verb: a, .. }, Self::Forbidden { verb: b, .. }) => a == b,
            (Self::Server { code: a, .. }, Self::Server { code: b, .. }) => a == b,
            (Self::Credentials { reason: a }, Self::Credentials { reason: b }) => a == b,
            _ => mem::discriminant(self) == mem::discriminant(other),
        }
    }

    /// The names of all kinds, for metrics.
    pub(crate) const KINDS: [&'static str; 14] = [
        "credentials",
        "unauthorized",
        "forbidden",
        "not_found",
        "gone",
        "throttled",
        "unsupported",
        "server",
        "unknown_host",
        "unreachable",
        "timed_out",
        "certificate",
        "disconnected",
        "unexpected",
    ];

    /// The number of its kind in [`Self::KINDS`].
    pub(crate) const fn kind(&self) -> usize {
        match self {
            Self::Credentials { .. } => 0,
            Self::Unauthorized => 1,
            Self::Forbidden { .. } => 2,
            Self::NotFound { .. } => 3,
            Self::Gone => 4,
            Self::Throttled { .. } => 5,
            Self::Unsupported { .. } => 6,
            Self::Server { .. } => 7,
            Self::UnknownHost { .. } => 8,
            Self::Unreachable { .. } => 9,
            Self::TimedOut { .. } => 10,
            Self::Certificate { .. } => 11,
            Self::Disconnected { .. } => 12,
            Self::Unexpected { .. } => 13,
        }
    }

    /// Whether no answer came. Another attempt then costs the API server nothing, and detects its
    /// return early.
    pub(crate) fn is_unanswered(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Disconnected { .. }
        )
    }

    /// Whether a watch can continue from the version that it had reached. An API server whose etcd has
    /// lost history refuses that version in one of several ways, and then only a new list helps.
    pub(crate) fn keeps_position(&self) -> bool {
        self.is_unanswered()
            || matches!(
                self,
                Self::Credentials { .. }
                    | Self::Unauthorized
                    | Self::Forbidden { .. }
                    | Self::Throttled { .. }
                    | Self::UnknownHost { .. }
                    | Self::Certificate { .. }
            )
    }

    /// Adds the time of the next attempt from the answer, by the header `Retry-After` or in its body.
    /// It changes only 429 and 5xx.
    pub(crate) fn with_retry_after(self, after: Option<Duration>) -> Self {
        match (self, after) {
            (Self::Throttled { code, after: None }, after) => Self::Throttled { code, after },
            (Self::Server { code, .. }, Some(after)) => Self::Throttled {
                code,
                after: Some(after),
            },
            (failure, _) => failure,
        }
    }
}

/// The cause of an error of `kube`.
pub(crate) fn classify(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => classify_status(status),
        kube::Error::Auth(error) => Failure::Credentials {
            reason: credentials::auth(error),
        },
        kube::Error::RustlsTls(error) => Failure::Credentials {
            reason: credentials::tls(error),
        },
        kube::Error::InferConfig(_) => Failure::Credentials {
            reason: "neither a kubeconfig nor a service account is usable".to_owned(),
        },
        kube::Error::InferKubeconfig(error) => Failure::Credentials {
            reason: credentials::kubeconfig("the kubeconfig", error),
        },
        kube::Error::ProxyProtocolUnsupported { .. }
        | kube::Error::ProxyProtocolDisabled { .. } => Failure::Credentials {
            reason: credentials::PROXY.to_owned(),
        },
        other => classify_cause(other),
    }
}

/// The cause of a status, which is an answer or an event of a watch.
pub(crate) fn classify_status(status: &Status) -> Failure {
    let message = || {
        let text = if status.message.is_empty() {
            &status.reason
        } else {
            &status.message
        };
        bounded(text)
    };
    let seconds = status
        .details
        .as_ref()
        .map_or(0, |details| details.retry_after_seconds);
    let after = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
    match status.code {
        401 => Failure::Unauthorized,
        403 => forbidden(&status.message),
        404 => Failure::NotFound { message: message() },
        410 => Failure::Gone,
        code @ 429 => Failure::Throttled { code, after },
        400 | 422 => Failure::Unsupported { message: message() },
        code @ 500.. => Failure::Server {
            code,
            message: message(),
        }
        .with_retry_after(after),
        code => Failure::Unexpected {
            reason: format!("status {code}: {}", message()),
        },
    }
}

/// `pods is forbidden: User "system:serviceaccount:shop:cart" cannot watch resource "pods" in …`, with
/// the name as Go's `%q` writes it.
fn forbidden(message: &str) -> Failure {
    // A request without credentials, or with an empty token. A Role for this user would open the pods
    // to everybody.
    if message.contains("User \"system:anonymous\"") {
        return Failure::Unauthorized;
    }
    let quoted = message
        .find("User \"")
        .and_then(|at| message.get(at + "User ".len()..));
    let Some(quoted) = quoted else {
        let verb = verb(message.contains("cannot list"));
        return Failure::Forbidden { verb, user: None };
    };
    match unquote(quoted) {
        Some((name, rest)) if rest.starts_with(" cannot ") => Failure::Forbidden {
            verb: verb(rest.starts_with(" cannot list")),
            user: Some(user(name)),
        },
        _ => Failure::Forbidden {
            verb: verb(quoted.contains("cannot list")),
            user: Some(User::Unreadable),
        },
    }
}

fn verb(is_list: bool) -> Verb {
    if is_list { Verb::List } else { Verb::Watch }
}

fn user(name: String) -> User {
    let account = name
        .strip_prefix("system:serviceaccount:")
        .and_then(|account| account.split_once(':'));
    match account {
        Some((namespace, name)) => User::ServiceAccount {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        },
        None => User::Other(name),
    }
}

/// Finds the deepest cause that has a known type or text.
fn classify_cause(error: &(dyn StdError + 'static)) -> Failure {
    let mut reason = error.to_string();
    let mut found = None;
    let mut cause = Some(error);
    for _ in 0..DEPTH {
        let Some(current) = cause else { break };
        reason = bounded(&current.to_string());
        if let Some(tls) = current.downcast_ref::<rustls::Error>() {
            return tls_failure(tls);
        }
        // A plugin that runs again before a request.
        if let Some(auth) = current.downcast_ref::<AuthError>() {
            let reason = credentials::auth(auth);
            return Failure::Credentials { reason };
        }
        // The resolver's error has a private type, and below it is only the system's code.
        if reason == "dns error" {
            let reason = describe(current);
            return Failure::UnknownHost { reason };
        }
        let io = current.downcast_ref::<io::Error>();
        if let Some(io) = io {
            found = Some(io.kind());
        }
        // `source` of an I/O error skips the error inside it, so read that one first.
        cause = match io.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => current.source(),
        };
    }
    match found {
        Some(kind) => io_failure(kind, reason),
        None => Failure::Unexpected {
            reason: describe(error),
        },
    }
}

fn tls_failure(error: &rustls::Error) -> Failure {
    let reason = bounded(&error.to_string());
    match error {
        rustls::Error::InvalidCertificate(_) => Failure::Certificate { reason },
        _ => Failure::Unexpected {
            reason: format!("TLS: {reason}"),
        },
    }
}

fn io_failure(kind: io::ErrorKind, reason: String) -> Failure {
    use io::ErrorKind as Kind;
    match kind {
        Kind::ConnectionRefused
        | Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::NetworkDown
        | Kind::AddrNotAvailable => Failure::Unreachable { reason },
        Kind::TimedOut => Failure::TimedOut {
            waiting_for: "the connection",
        },
        Kind::ConnectionReset
        | Kind::ConnectionAborted
        | Kind::BrokenPipe
        | Kind::NotConnected
        | Kind::UnexpectedEof => Failure::Disconnected { reason },
        // hyper reports a connection that ended within an answer with one of these texts.
        _ if reason.contains("connection closed") || reason.contains("end of file") => {
            Failure::Disconnected { reason }
        }
        _ => Failure::Unexpected { reason },
    }
}

/// An error with its causes, each once.
pub(crate) fn describe(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    for _ in 0..DEPTH {
        let Some(current) = cause else { break };
        let more = current.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = current.source();
    }
    bounded(&text)
}

/// A text of another source, in printable characters and short: an answer may have megabytes.
fn bounded(text: &str) -> String {
    Foreign(text).to_string()
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
