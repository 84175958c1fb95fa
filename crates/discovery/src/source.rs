//! Where the API server is, and podspan's credentials for it.
//!
//! In: a [`ClientSource`] and the files that it names. Out: a client of `kube`, or a [`Failure`].
//!
//! After each failure a new client is built, which reads the token, the CA or the kubeconfig again.
//! Without failures, `kube` reads the files of the token and the CA once a minute. So a renewed token
//! is used within a minute, and at once after the old one was refused.
//!
//! `kube`'s own retries of refused requests (15 times, from 5 ms on) are off: only `backoff` decides
//! when to try again. An error of `kube` does not have the header `Retry-After`, and the API server's
//! 429 of an overload has the time nowhere else. So a layer of the client records this header.

use std::env;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Response;
use http::header::{HeaderValue, RETRY_AFTER};
use kube::client::{ClientBuilder, DynBody};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use secrecy::ExposeSecret as _;
use tower::util::MapResponseLayer;

use crate::address::Address;
use crate::credentials::{self, PROXY};
use crate::failure::{Failure, classify};

/// Where a pod's credentials are.
const CREDENTIALS: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The time limit for a connection and its TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the API server is, and podspan's credentials for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientSource {
    /// In a pod: without DNS, with the service account's token.
    InCluster {
        /// `KUBERNETES_SERVICE_HOST`.
        host: String,
        /// `KUBERNETES_SERVICE_PORT`.
        port: String,
        /// The folder with `token`, `ca.crt` and `namespace`.
        credentials: PathBuf,
    },
    /// On a workstation: this file, or else those of `KUBECONFIG`, or else `~/.kube/config`.
    Kubeconfig(Option<PathBuf>),
}

impl ClientSource {
    /// The source of a pod, with the service account where Kubernetes mounts it.
    #[must_use]
    pub fn in_cluster(host: &str, port: NonZeroU16) -> Self {
        Self::InCluster {
            host: host.to_owned(),
            port: port.to_string(),
            credentials: CREDENTIALS.into(),
        }
    }

    /// Reads the credentials and builds a client. It sends nothing.
    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        let parts = match self {
            Self::InCluster {
                host,
                port,
                credentials,
            } => in_cluster(host, port, credentials)?,
            Self::Kubeconfig(path) => kubeconfig(path.as_ref()).await?,
        };
        let ClientParts {
            mut config,
            server,
            from,
        } = parts;
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        let namespace = config.default_namespace.clone();
        let retry_after = RetryAfter::default();
        let recorded = retry_after.clone();
        let record = MapResponseLayer::new(move |response: Response<Box<DynBody>>| {
            recorded.record(&response);
            response
        });
        let client = ClientBuilder::try_from(config)
            .map_err(|error| build_failure(&from, &error))?
            .with_layer(&record)
            .build();
        Ok(Connection {
            client,
            retry_after,
            server,
            namespace,
        })
    }

    /// The file of the CA, if it is certain that there is one.
    pub(crate) fn ca(&self) -> Option<String> {
        match self {
            Self::InCluster { credentials, .. } => {
                Some(credentials.join("ca.crt").display().to_string())
            }
            Self::Kubeconfig(_) => None,
        }
    }

    /// Where the credentials are, for a log line.
    pub(crate) fn credentials(&self) -> String {
        match self {
            Self::InCluster { credentials, .. } => credentials.join("token").display().to_string(),
            Self::Kubeconfig(Some(path)) => path.display().to_string(),
            Self::Kubeconfig(None) => "the kubeconfig".to_owned(),
        }
    }

    /// Where the API server is, without reading a file.
    pub(crate) fn server(&self) -> String {
        match self {
            Self::InCluster { host, port, .. } => Address::parse(&in_cluster_url(host, port))
                .map_or_else(|| String::from("of this pod"), |address| address.shown),
            Self::Kubeconfig(_) => String::from("of the kubeconfig"),
        }
    }
}

/// A client that has not failed yet.
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) retry_after: RetryAfter,
    /// The API server's URL for the log.
    pub(crate) server: String,
    /// The namespace of the credentials.
    pub(crate) namespace: String,
}

/// What is needed to build a client.
#[derive(Debug)]
struct ClientParts {
    config: Config,
    /// The API server's URL for the log.
    server: String,
    /// Where the credentials were read, for a log line.
    from: String,
}

/// Why `kube` cannot build a client from the credentials in `from`.
fn build_failure(from: &str, error: &kube::Error) -> Failure {
    match (error, classify(error)) {
        (kube::Error::InferKubeconfig(error), _) => Failure::Credentials {
            reason: credentials::kubeconfig(from, error),
        },
        (_, Failure::Credentials { reason }) => Failure::Credentials {
            reason: format!("{from}: {reason}"),
        },
        (_, failure) => failure,
    }
}

/// The header `Retry-After` of the last answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct RetryAfter(Arc<AtomicU64>);

impl RetryAfter {
    /// There was no header.
    const MISSING: u64 = 0;

    /// Records the header. Only seconds are read, which the API server sends. A date, which a proxy may
    /// send, is ignored.
    fn record<B>(&self, response: &Response<B>) {
        let header = response.headers().get(RETRY_AFTER);
        let seconds = header.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        self.0
            .store(seconds.unwrap_or(Self::MISSING), Ordering::Relaxed);
    }

    /// The time in the header of the last answer.
    pub(crate) fn get(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            Self::MISSING => None,
            seconds => Some(Duration::from_secs(seconds)),
        }
    }
}

/// The URL for the values in the environment.
fn in_cluster_url(host: &str, port: &str) -> String {
    if host.contains(':') {
        format!("https://[{host}]:{port}")
    } else {
        format!("https://{host}:{port}")
    }
}

fn in_cluster(host: &str, port: &str, credentials: &Path) -> Result<ClientParts, Failure> {
    let credentials_failure = |what: &dyn Display, error: &dyn Display| Failure::Credentials {
        reason: format!("{what}: {error}"),
    };
    let Some(server) = Address::parse(&in_cluster_url(host, port)) else {
        let what = "KUBERNETES_SERVICE_HOST with KUBERNETES_SERVICE_PORT";
        let reason = credentials::no_address(what);
        return Err(Failure::Credentials { reason });
    };
    let read = |name: &str| {
        let path = credentials.join(name);
        fs::read_to_string(&path).map_err(|error| credentials_failure(&path.display(), &error))
    };
    // This is for errors that name the missing file. `kube` reads the token and the CA again.
    if read("token")?.trim().is_empty() {
        let path = credentials.join("token");
        return Err(credentials_failure(&path.display(), &"it is empty"));
    }
    read("ca.crt")?;
    let mut config = Config::new(server.url);
    read("namespace")?
        .trim()
        .clone_into(&mut config.default_namespace);
    config.root_cert_file = Some(credentials.join("ca.crt"));
    // Without this, `kube` would first load the system's CAs, and the image may have none.
    config.root_cert = Some(Vec::new());
    config.auth_info.token_file = Some(credentials.join("token").display().to_string());
    Ok(ClientParts {
        config,
        server: server.shown,
        from: credentials.display().to_string(),
    })
}

async fn kubeconfig(path: Option<&PathBuf>) -> Result<ClientParts, Failure> {
    let files = files(path, env::var_os("KUBECONFIG").as_ref(), env::home_dir());
    let shown = files
        .iter()
        .map(|file| file.display().to_string())
        .collect::<Vec<_>>()
        .join(", ");
    let failure = |reason| Failure::Credentials { reason };
    let refused = |file: &str, error: &_| failure(credentials::kubeconfig(file, error));
    if files.is_empty() {
        return Err(refused(&shown, &KubeconfigError::FindPath));
    }
    let mut kubeconfig = Kubeconfig::default();
    for file in &files {
        let next = Kubeconfig::read_from(file)
            .map_err(|error| refused(&file.display().to_string(), &error))?;
        kubeconfig = kubeconfig
            .merge(next)
            .map_err(|error| refused(&shown, &error))?;
    }
    // `kube` removes a fragment, which may be the rest of a password.
    let given = server(&kubeconfig).map(str::to_owned);
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| refused(&shown, &error))?;
    if config.proxy_url.is_some() {
        return Err(failure(PROXY.to_owned()));
    }
    // `kube` panics if the token is not a valid header.
    let token = config.auth_info.token.as_ref();
    if token.is_some_and(|token| HeaderValue::from_str(token.expose_secret()).is_err()) {
        let reason = format!("{shown}: the token has a character that HTTP does not allow");
        return Err(failure(reason));
    }
    let given = given.unwrap_or_else(|| config.cluster_url.to_string());
    let Some(server) = Address::parse(&given) else {
        let what = format!("the server in {shown}");
        return Err(failure(credentials::no_address(&what)));
    };
    config.cluster_url = server.url;
    Ok(ClientParts {
        config,
        server: server.shown,
        from: shown,
    })
}

/// The files of a kubeconfig, as kubectl and `kube` find them: the given one, or those of `KUBECONFIG`,
/// or the one in the home directory. podspan reads them one by one, because an error of `kube` does not
/// name the file.
fn files(
    given: Option<&PathBuf>,
    variable: Option<&OsString>,
    home: Option<PathBuf>,
) -> Vec<PathBuf> {
    if let Some(given) = given {
        return vec![given.clone()];
    }
    let named: Vec<PathBuf> = variable
        .iter()
        .flat_map(env::split_paths)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if named.is_empty() {
        let home = home.map(|home| home.join(".kube").join("config"));
        return home.into_iter().collect();
    }
    named
}

/// The server of the current context, as it is in the file.
fn server(kubeconfig: &Kubeconfig) -> Option<&str> {
    let current = kubeconfig.current_context.as_ref()?;
    let mut contexts = kubeconfig.contexts.iter();
    let context = contexts.find(|context| &context.name == current)?;
    let name = &context.context.as_ref()?.cluster;
    let mut clusters = kubeconfig.clusters.iter();
    let cluster = clusters.find(|cluster| &cluster.name == name)?;
    cluster.cluster.as_ref()?.server.as_deref()
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
