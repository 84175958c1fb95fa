//! Where the API server is and how we show who we are.
//!
//! A client is built anew after each failure, which reads the token, the CA or the kubeconfig again;
//! while all goes well `kube` reads the token's and the CA's file once a minute. So a renewed token
//! counts within a minute at most, and at once after the old one was refused.
//!
//! `kube`'s own repetition of refused requests (15 times, from 5 ms on) is off: how often is asked is
//! decided in `backoff` alone. The header `Retry-After` does not reach an error of `kube`, and the
//! API server's 429 of an overload has it nowhere else, so it is noted as the answer passes by.

use std::fmt::Display;
use std::fs;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Response;
use http::header::RETRY_AFTER;
use kube::client::{ClientBuilder, DynBody};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::util::MapResponseLayer;

use crate::failure::{Failure, classify, describe};

/// Where a pod's credentials are.
const CREDENTIALS: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// For a connection with TLS on it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the API server is and how we show who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientSource {
    /// As in a pod: without DNS, with the service account's token.
    InCluster {
        /// `KUBERNETES_SERVICE_HOST`.
        host: String,
        /// `KUBERNETES_SERVICE_PORT`.
        port: String,
        /// The folder with `token`, `ca.crt` and `namespace`.
        credentials: PathBuf,
    },
    /// As on a workstation: this file, or else what `KUBECONFIG` names, or else `~/.kube/config`.
    Kubeconfig(Option<PathBuf>),
}

impl ClientSource {
    /// A pod's, with its service account where Kubernetes mounts it.
    #[must_use]
    pub fn in_cluster(host: &str, port: NonZeroU16) -> Self {
        Self::InCluster {
            host: host.to_owned(),
            port: port.to_string(),
            credentials: CREDENTIALS.into(),
        }
    }

    /// Reads the credentials and makes a client; nothing is sent yet.
    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        let mut config = match self {
            Self::InCluster {
                host,
                port,
                credentials,
            } => in_cluster(host, port, credentials)?,
            Self::Kubeconfig(path) => kubeconfig(path.as_ref()).await?,
        };
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        let (server, namespace) = (config.cluster_url.clone(), config.default_namespace.clone());
        let retry_after = RetryAfter::default();
        let noted = retry_after.clone();
        let note = MapResponseLayer::new(move |response: Response<Box<DynBody>>| {
            noted.note(&response);
            response
        });
        let client = ClientBuilder::try_from(config)
            .map_err(|error| classify(&error))?
            .with_layer(&note)
            .build();
        Ok(Connection {
            client,
            retry_after,
            server: server.to_string(),
            namespace,
        })
    }

    /// The file of the CA, where it is known to be one.
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

    /// Where the API server is, as far as it is known without reading a file.
    pub(crate) fn server(&self) -> String {
        match self {
            Self::InCluster { host, port, .. } => format!("{host}:{port}"),
            Self::Kubeconfig(_) => String::from("of the kubeconfig"),
        }
    }
}

/// A client that has not failed yet.
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) retry_after: RetryAfter,
    /// The API server's URL.
    pub(crate) server: String,
    /// The namespace of the credentials.
    pub(crate) namespace: String,
}

/// The header `Retry-After` of the last answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct RetryAfter(Arc<AtomicU64>);

impl RetryAfter {
    /// What no header says.
    const NOTHING: u64 = 0;

    /// Only seconds are read, as the API server sends them; a proxy's date is left to our backoff.
    fn note<B>(&self, response: &Response<B>) {
        let header = response.headers().get(RETRY_AFTER);
        let seconds = header.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        self.0
            .store(seconds.unwrap_or(Self::NOTHING), Ordering::Relaxed);
    }

    /// How long the last answer asked to wait.
    pub(crate) fn get(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            Self::NOTHING => None,
            seconds => Some(Duration::from_secs(seconds)),
        }
    }
}

fn in_cluster(host: &str, port: &str, credentials: &Path) -> Result<Config, Failure> {
    let credentials_failure = |what: &dyn Display, error: &dyn Display| Failure::Credentials {
        reason: format!("{what}: {error}"),
    };
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let server = format!("https://{host}:{port}");
    let url = server
        .parse()
        .map_err(|error| credentials_failure(&server, &error))?;
    let read = |name: &str| {
        let path = credentials.join(name);
        fs::read_to_string(&path).map_err(|error| credentials_failure(&path.display(), &error))
    };
    // Missing ones are told here by their paths; they are read again by those who use them.
    if read("token")?.trim().is_empty() {
        let path = credentials.join("token");
        return Err(credentials_failure(&path.display(), &"it is empty"));
    }
    read("ca.crt")?;
    let mut config = Config::new(url);
    read("namespace")?
        .trim()
        .clone_into(&mut config.default_namespace);
    config.root_cert_file = Some(credentials.join("ca.crt"));
    // Without it the system's CAs would be loaded first, and there may be none in the image.
    config.root_cert = Some(Vec::new());
    config.auth_info.token_file = Some(credentials.join("token").display().to_string());
    Ok(config)
}

async fn kubeconfig(path: Option<&PathBuf>) -> Result<Config, Failure> {
    let options = KubeConfigOptions::default();
    let config = match path {
        Some(path) => match Kubeconfig::read_from(path) {
            Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
            Err(error) => Err(error),
        },
        None => Config::from_kubeconfig(&options).await,
    };
    let config = config.map_err(|error| Failure::Credentials {
        reason: describe(&error),
    })?;
    // Its address may hold a password, so it is not told.
    if config.proxy_url.is_some() {
        let reason = "a proxy is set, by HTTPS_PROXY or by proxy-url in the kubeconfig, and podspan \
                      speaks to the API server directly; unset it";
        return Err(Failure::Credentials {
            reason: reason.to_owned(),
        });
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_that_of_the_last_answer() {
        let noted = RetryAfter::default();
        assert_eq!(noted.get(), None);
        for (header, expected) in [
            (Some("7"), Some(Duration::from_secs(7))),
            (Some(" 8 "), Some(Duration::from_secs(8))),
            (Some("Wed, 21 Oct 2026 07:28:00 GMT"), None),
            (Some("-1"), None),
            (Some("3"), Some(Duration::from_secs(3))),
            (None, None),
        ] {
            let mut response = Response::builder();
            if let Some(header) = header {
                response = response.header(RETRY_AFTER, header);
            }
            noted.note(&response.body(()).unwrap());
            assert_eq!(noted.get(), expected, "{header:?}");
        }
    }

    #[test]
    fn missing_credentials_are_told_by_their_paths() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let reason = |host| match in_cluster(host, "443", &path) {
            Err(Failure::Credentials { reason }) => reason,
            other => panic!("{other:?}"),
        };
        assert!(reason("10.0.0.1").contains("token"));
        fs::write(path.join("token"), "\n").unwrap();
        assert!(reason("10.0.0.1").contains("it is empty"));
        fs::write(path.join("token"), "t").unwrap();
        assert!(reason("fd00::1").contains("ca.crt"));
        assert!(reason("not a host").contains("not a host"));
        fs::write(path.join("ca.crt"), "c").unwrap();
        fs::write(path.join("namespace"), "shop\n").unwrap();
        let config = in_cluster("fd00::1", "443", &path).unwrap();
        assert_eq!(config.cluster_url.to_string(), "https://[fd00::1]:443/");
        assert_eq!(config.default_namespace, "shop");
    }
}
