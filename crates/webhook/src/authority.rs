//! The certificates that the webhook makes: the Secret, and the CA in the configuration of API servers.
//!
//! In: the API server's Secret and `MutatingWebhookConfiguration`, read every [`Times::poll`]. Out: the identity in
//! use, and the same two objects as [`crate::rotation`] wants them. Every write names the version that was read, so
//! replicas never undo each other's work; who comes too late reads again at once. While the API server does
//! not answer, the last identity stays in use.
//!
//! The webhook may change its one Secret and may not create one, because a right to create cannot be restricted to a
//! name. If the Secret is deleted, it stays with its certificate, and writes it into the next Secret.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Config};
use serde_json::json;
use thiserror::Error;
use tracing::{error, info};

use crate::identity::{Identity, IdentityError, now};
use crate::rotation::{self, Generation, Stored, Times};
use crate::state::State;

/// How long a request to the API server may take.
const REQUEST: Duration = Duration::from_secs(10);
/// How often a failure that stays is logged again.
const AGAIN: Duration = Duration::from_mins(10);

/// What the certificates are for.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) namespace: String,
    pub(crate) service: String,
    pub(crate) names: Vec<String>,
    pub(crate) validity: Duration,
}

#[derive(Debug, Error)]
enum Problem {
    #[error("the access to the API server is not configured: {0}")]
    Config(String),
    #[error("the {what} cannot be {verb}: {error}{}", .remedy.as_deref().unwrap_or_default())]
    Api {
        what: String,
        verb: &'static str,
        error: String,
        remedy: Option<String>,
    },
    #[error("a certificate cannot be made: {0}; check NAMES")]
    Make(#[from] rcgen::Error),
    #[error("the certificate that was made cannot be used: {0}")]
    Identity(#[from] IdentityError),
}

/// What one turn ended with.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// All is as it must be, and nothing was changed in the configuration.
    Done,
    /// The CAs are published now.
    Published,
    /// Another replica has written.
    Late,
}

/// Keeps certificate, Secret and configuration as they must be, for as long as the process runs.
pub(crate) async fn keep(subject: Subject, state: Arc<State>) {
    let times = Times::new(subject.validity);
    let mut authority = Authority {
        subject,
        times,
        state,
        client: None,
        known: Stored::default(),
        published: None,
    };
    let mut failure = Failure::default();
    loop {
        // Replicas that start together take turns.
        let jitter = |time: Duration| time.mul_f64(0.8 + 0.4 * fastrand::f64());
        let wait = match authority.turn().await {
            Ok(Turn::Done | Turn::Published) => {
                failure.ended();
                times.poll
            }
            Ok(Turn::Late) => times.poll / 20,
            Err(problem) => {
                failure.report(&problem.to_string());
                times.poll
            }
        };
        tokio::time::sleep(jitter(wait)).await;
    }
}

struct Authority {
    subject: Subject,
    times: Times,
    state: Arc<State>,
    client: Option<Client>,
    /// What the Secret had at the last turn.
    known: Stored,
    /// The CA of the next generation, and since when it is in the configuration.
    published: Option<(String, Instant)>,
}

impl Authority {
    async fn turn(&mut self) -> Result<Turn, Problem> {
        let client = self.client().await?;
        let Some(stored) = self.secret(&client).await? else {
            return Ok(Turn::Late);
        };
        self.show(&stored)?;
        self.known = stored;
        let done = self.publish(&client).await?;
        if done == Turn::Published {
            self.published = None;
        }
        if done != Turn::Late {
            self.state.published.store(true, Ordering::Relaxed);
            let next = self.known.next.as_ref().map(|next| next.ca.clone());
            self.published = next.map(|ca| match self.published.take() {
                Some((known, since)) if known == ca => (known, since),
                _ => (ca, Instant::now()),
            });
        }
        Ok(done)
    }

    async fn client(&mut self) -> Result<Client, Problem> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let wrong =
            |error: &dyn std::error::Error| Problem::Config(in_one_line(&error.to_string()));
        let mut config = Config::infer().await.map_err(|error| wrong(&error))?;
        config.connect_timeout = Some(REQUEST);
        config.read_timeout = Some(REQUEST);
        config.write_timeout = Some(REQUEST);
        let client = Client::try_from(config).map_err(|error| wrong(&error))?;
        self.client = Some(client.clone());
        Ok(client)
    }

    /// Reads the Secret, and changes it if it must be changed; `None` if another replica was faster.
    async fn secret(&self, client: &Client) -> Result<Option<Stored>, Problem> {
        let Subject {
            namespace, service, ..
        } = &self.subject;
        let what = || format!("Secret {namespace}/{service}");
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let mut secret = secrets
            .get(service)
            .await
            .map_err(|error| problem(what(), "read", &error))?;
        let data = secret.data.take().unwrap_or_default();
        let stored = Stored::read(
            &data
                .into_iter()
                .map(|(name, value)| (name, value.0))
                .collect(),
        );
        let settled = match (&self.published, &stored.next) {
            (Some((ca, since)), Some(next)) => {
                *ca == next.ca && since.elapsed() >= self.times.settle
            }
            _ => false,
        };
        let names = rotation::names(service, namespace, &self.subject.names);
        let make = || Generation::make(&names, now(), self.times.validity);
        let new = stored.replacement(&self.known, settled, now(), self.times, make)?;
        let Some(new) = new else {
            return Ok(Some(stored));
        };
        let data = new
            .data()
            .into_iter()
            .map(|(name, value)| (name, ByteString(value)));
        secret.data = Some(data.collect());
        match secrets
            .replace(service, &PostParams::default(), &secret)
            .await
        {
            Ok(_) => {
                info!(
                    "the Secret {namespace}/{service} is written: {}",
                    step(&stored, &new)
                );
                Ok(Some(new))
            }
            Err(error) if is_conflict(&error) => Ok(None),
            Err(error) => Err(problem(what(), "written", &error)),
        }
    }

    /// Shows the current certificate to clients.
    fn show(&self, stored: &Stored) -> Result<(), Problem> {
        let Some(current) = &stored.current else {
            return Ok(());
        };
        if self.known.current.as_ref() != Some(current) {
            let identity =
                Identity::from_pem(current.certificate.as_bytes(), current.key.as_bytes())?;
            info!(
                not_after = identity.not_after,
                "a new certificate is in use"
            );
            self.state.identity.set(identity);
        }
        Ok(())
    }

    /// Writes the CAs into the configuration, where they are not.
    async fn publish(&self, client: &Client) -> Result<Turn, Problem> {
        let name = &self.subject.service;
        let what = || format!("MutatingWebhookConfiguration {name}");
        let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
        let found = configurations
            .get(name)
            .await
            .map_err(|error| problem(what(), "read", &error))?;
        let bundle = self.known.bundle();
        let webhooks = found.webhooks.iter().flatten();
        let wrong: Vec<_> = webhooks
            .filter(|webhook| {
                let published = webhook.client_config.ca_bundle.as_ref();
                published.is_none_or(|published| published.0 != bundle.as_bytes())
            })
            .map(|webhook| {
                let bundle = ByteString(bundle.clone().into_bytes());
                json!({"name": webhook.name, "clientConfig": {"caBundle": bundle}})
            })
            .collect();
        if wrong.is_empty() {
            return Ok(Turn::Done);
        }
        let version = &found.metadata.resource_version;
        // The API server merges the webhooks by their names, and refuses another version.
        let patch = json!({"metadata": {"resourceVersion": version}, "webhooks": wrong});
        let patch = Patch::Strategic(&patch);
        match configurations
            .patch(name, &PatchParams::default(), &patch)
            .await
        {
            Ok(_) => {
                info!("the CA is published in the MutatingWebhookConfiguration {name}");
                Ok(Turn::Published)
            }
            Err(error) if is_conflict(&error) => Ok(Turn::Late),
            Err(error) => Err(problem(what(), "patched", &error)),
        }
    }
}

/// What a write of the Secret did.
fn step(old: &Stored, new: &Stored) -> &'static str {
    match (&old.current, &old.next, &new.next) {
        (None, ..) => "it has a certificate",
        (Some(_), None, Some(_)) => "it has the next certificate, whose CA is published now",
        (Some(_), Some(_), None) => "the next certificate is in use now",
        _ => "its certificate was not valid and is replaced",
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

fn problem(what: String, verb: &'static str, error: &kube::Error) -> Problem {
    let remedy = match error {
        kube::Error::Api(status) if status.code == 404 => Some(
            "; apply manifests/injection/webhook again, which has it. Until then the certificate stays as it is"
                .to_owned(),
        ),
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => Some(
            "; apply manifests/injection/webhook again, which has the Role and the ClusterRole".to_owned(),
        ),
        _ => None,
    };
    Problem::Api {
        what,
        verb,
        error: in_one_line(&with_sources(error)),
        remedy,
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// A text of another program, printable and in one line.
fn in_one_line(text: &str) -> String {
    let characters = text.chars().take(500);
    characters
        .map(|character| match character {
            ' '..='~' => character,
            _ => '?',
        })
        .collect()
}

/// A failure that lasts is logged when it begins, when it changes, and every [`AGAIN`].
#[derive(Default)]
struct Failure(Option<(String, Instant)>);

impl Failure {
    fn report(&mut self, text: &str) {
        let is_new = self
            .0
            .as_ref()
            .is_none_or(|(old, logged)| old != text || logged.elapsed() >= AGAIN);
        if is_new {
            error!("{text}");
            self.0 = Some((text.to_owned(), Instant::now()));
        }
    }

    fn ended(&mut self) {
        if self.0.take().is_some() {
            info!("Secret and configuration are as they must be again");
        }
    }
}
