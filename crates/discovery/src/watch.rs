//! Lists and watches pods over the network, passes the API server's events to a [`Consumer`], and
//! continues after every failure. One loop is for all consumers: the table of sensors, and podspan's own pod.
//!
//! ```text
//!           no position                        position = resourceVersion
//!   +--> streaming list ---- complete ----+--> watch ---- its time has passed --+
//!   |       |refused, or never complete   |      |                             |
//!   |       '--> list in pages -----------'      |<----------------------------'
//!   |                                            |
//!   '---- 410, or the answer was an error -------+---- failure ---> wait ---> new client
//! ```
//!
//! This loop uses `kube`'s client, not `kube::runtime::watcher`. The watcher starts a streaming list
//! from the cache of the API server that answers, which may be older than that of the previous one. It
//! sends the next request at once when a watch ends at its start, detects a hanging connection only
//! when no events come, and never falls back to a list.
//!
//! Every request has a time limit. An answer must start, and a list must be complete, within
//! [`Timing::answer_timeout`](crate::Timing). A watch must end shortly after the time at which the API
//! server was asked to end it. So a hang is detected although a frozen machine still acknowledges what
//! TCP sends.
//!
//! Source: "Efficient detection of changes" and "Streaming lists" in the Kubernetes documentation's
//! "API Concepts".

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::ObjectList;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::backoff::{Backoff, OWN_POD, Pace, SENSORS};
use crate::contact::SharedContact;
use crate::failure::{Failure, classify, classify_status};
use crate::journal::Journal;
use crate::own_pod::{OwnAnnotations, OwnPodTable};
use crate::pod::PodName;
use crate::remedy::{Selected, Target};
use crate::source::{ClientSource, Connection};
use crate::table::{Pods, Table};
use crate::types::{OwnPodSettings, Scope, SensorList, Settings, Timing};

/// The annotation of the bookmark at the end of a streaming list.
const LIST_IS_COMPLETE: &str = "k8s.io/initial-events-end";
/// Pods in one page of a list, as many as `client-go` requests.
const PAGE: u32 = 500;
/// How much later than requested a watch may end.
const WATCH_GRACE: Duration = Duration::from_secs(5);
/// The time between two lists. An etcd that was restored from a backup counts its versions up from an
/// older one, and the API server then sends no events to a watch for newer ones.
const RELIST_INTERVAL: Duration = Duration::from_mins(10);
/// A watch works when it has lasted this long without an error. This is also the minimum time between
/// two successful requests: a server that ends every watch at once must not get requests without a
/// pause.
const WORKING_AFTER: Duration = Duration::from_secs(1);

/// What is kept of a pod.
pub(crate) trait Listed: DeserializeOwned + Clone {
    fn name(&self) -> &PodName;
    /// `metadata.resourceVersion`: where a watch continues.
    fn version(&self) -> &str;
}

/// What gets the pods of the loop.
pub(crate) trait Consumer {
    type Pod: Listed;
    /// Replaces all pods by a complete list.
    fn replace(&mut self, pods: Pods<Self::Pod>);
    /// Adds a pod that is new or has changed.
    fn insert(&mut self, pod: Self::Pod);
    /// Removes a pod that was deleted.
    fn remove(&mut self, name: &PodName);
    /// When to call [`Self::refresh`]; none: nothing has changed.
    fn due(&self) -> Option<Instant>;
    /// Publishes what is new.
    fn refresh(&mut self, journal: &mut Journal, target: &Target);
}

/// Finds the sensors and calls `publish` with the complete list, first and each time it changes. It
/// never returns. It logs every failure and tries again, and then reads the configuration again too.
/// So it can start before there is an API server.
///
/// It needs a tokio runtime with time and I/O enabled; a current-thread runtime is enough.
pub async fn watch(
    settings: Settings,
    source: ClientSource,
    contact: SharedContact,
    publish: impl FnMut(SensorList),
) -> Infallible {
    let watched = Watched {
        selected: Selected::Sensors(settings.name.clone()),
        scope: settings.scope.clone(),
        own_namespace: settings.own_pod.namespace.clone(),
        timing: settings.timing,
        pace: &SENSORS,
        contact,
    };
    let table = Table::new(settings, publish);
    Discovery::new(watched, &source, table).run(&source).await
}

/// Watches podspan's own pod and calls `publish` with its annotations, first and each time they change. It
/// never returns, and handles failures as [`watch`] does, but tries again less often.
pub async fn watch_own_pod(
    settings: OwnPodSettings,
    source: ClientSource,
    contact: SharedContact,
    publish: impl FnMut(OwnAnnotations),
) -> Infallible {
    let watched = Watched {
        selected: Selected::OwnPod(settings.name),
        scope: Scope::Own,
        own_namespace: settings.namespace,
        timing: settings.timing,
        pace: &OWN_POD,
        contact,
    };
    let table = OwnPodTable::new(settings.uid, settings.addresses, publish);
    Discovery::new(watched, &source, table).run(&source).await
}

/// Which pods are watched, and how.
struct Watched {
    selected: Selected,
    scope: Scope,
    /// The namespace of podspan's pod, if it is known without the credentials.
    own_namespace: Option<String>,
    timing: Timing,
    pace: &'static Pace,
    contact: SharedContact,
}

/// The state that is kept between connections.
struct Discovery<C> {
    scope: Scope,
    own_namespace: Option<String>,
    timing: Timing,
    target: Target,
    table: C,
    journal: Journal,
    contact: SharedContact,
    backoff: Backoff,
    /// The resourceVersion up to which the table is complete; none: a list is needed.
    position: Option<String>,
    /// When the last list was complete.
    last_list: Instant,
    /// Whether this API server gets requests for streaming lists.
    streaming: bool,
}

impl<C: Consumer> Discovery<C> {
    fn new(watched: Watched, source: &ClientSource, table: C) -> Self {
        let Watched {
            selected,
            scope,
            own_namespace,
            timing,
            pace,
            contact,
        } = watched;
        let target = Target {
            server: source.server(),
            ca: source.ca(),
            credentials: source.credentials(),
            selected,
            namespace: match &scope {
                Scope::Own => own_namespace.clone(),
                Scope::Namespace(name) => Some(name.clone()),
                Scope::All => None,
            },
            own_namespace: own_namespace.clone().unwrap_or_default(),
        };
        Self {
            scope,
            own_namespace,
            timing,
            target,
            table,
            journal: Journal::default(),
            contact,
            backoff: Backoff::new(pace),
            position: None,
            last_list: Instant::now(),
            streaming: true,
        }
    }

    async fn run(mut self, source: &ClientSource) -> Infallible {
        loop {
            let failure = self.list_and_watch(source).await;
            self.refresh_when_due().await;
            if !failure.keeps_position() {
                self.position = None;
            }
            let wait = self.backoff.after(&failure, fastrand::f64());
            self.contact.failed(&failure);
            self.journal.failed(failure, &self.target);
            sleep(wait).await;
        }
    }

    /// Lists and watches with one client until something fails.
    async fn list_and_watch(&mut self, source: &ClientSource) -> Failure {
        let connection = match source.connect().await {
            Ok(connection) => connection,
            Err(failure) => return failure,
        };
        self.complete_target(&connection);
        loop {
            let start = Instant::now();
            if self.last_list.elapsed() >= RELIST_INTERVAL {
                self.position = None;
            }
            let needs_list = self.position.is_none();
            let outcome = if needs_list && !self.streaming {
                self.list(&connection).await
            } else {
                self.stream(&connection).await
            };
            let after = connection.retry_after.get();
            let next = match outcome.map_err(|failure| failure.with_retry_after(after)) {
                // The watch that continues from this list starts at once.
                Ok(()) if needs_list && !self.streaming => start,
                Ok(()) => start + WORKING_AFTER,
                Err(Failure::Unsupported { .. }) if needs_list && self.streaming => {
                    self.streaming = false;
                    continue;
                }
                Err(Failure::Gone) if !needs_list => {
                    tracing::debug!(
                        "the API server no longer has the events since the last list (410); podspan \
                         requests a new list"
                    );
                    self.position = None;
                    // A list with its watch is two requests.
                    self.last_list + 2 * WORKING_AFTER
                }
                Err(failure) => return failure,
            };
            self.refresh_when_due().await;
            sleep_until(next).await;
        }
    }

    /// Adds to the target what the credentials or the kubeconfig contain.
    fn complete_target(&mut self, connection: &Connection) {
        self.target.server.clone_from(&connection.server);
        if self.own_namespace.is_none() {
            self.target.own_namespace.clone_from(&connection.namespace);
            if self.scope == Scope::Own {
                self.target.namespace = Some(connection.namespace.clone());
            }
        }
    }

    /// Reads a list in pages, from API servers that do not stream lists.
    async fn list(&mut self, connection: &Connection) -> Result<(), Failure> {
        let end = Instant::now() + self.timing.answer_timeout;
        let mut pods = Pods::new();
        let mut params = ListParams {
            label_selector: self.target.selected.label(),
            field_selector: self.target.selected.field(),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        loop {
            let request = self
                .request()
                .list(&params)
                .map_err(|error| invalid_request(&error))?;
            let page = connection.client.request::<ObjectList<C::Pod>>(request);
            let page = timeout_at(end, page).await;
            let page = page
                .map_err(|_| Failure::TimedOut {
                    waiting_for: "a list",
                })?
                .map_err(|error| classify(&error))?;
            pods.extend(page.items.into_iter().map(|pod| (pod.name().clone(), pod)));
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                let version = page.metadata.resource_version.unwrap_or_default();
                return self.list_is_complete(pods, version);
            }
        }
    }

    /// Runs one watch: from the position on, or with a list at its start if there is no position.
    async fn stream(&mut self, connection: &Connection) -> Result<(), Failure> {
        let timing = self.timing;
        // Random, so that the podspans of a cluster do not all send requests at the same time.
        let duration = timing.watch_duration.mul_f64(0.8 + 0.2 * fastrand::f64());
        let start = Instant::now();
        let mut events = pin!(self.open(connection, duration).await?);
        // The pods of a list that is not yet complete.
        let mut partial = self.position.is_none().then(Pods::new);
        let mut is_working = false;
        loop {
            let due = self.table.due();
            let end = if partial.is_some() {
                start + timing.answer_timeout
            } else {
                start + duration + WATCH_GRACE
            };
            tokio::select! {
                () = sleep_until(due.unwrap_or(end)), if due.is_some() => {
                    self.table.refresh(&mut self.journal, &self.target);
                }
                () = sleep_until(start + WORKING_AFTER), if partial.is_none() && !is_working => {
                    is_working = true;
                    self.mark_working();
                }
                () = sleep_until(end) => {
                    return Err(if partial.is_some() {
                        // Servers before 1.27 ignore the parameter and watch without an end.
                        let message = "the streaming list does not end".to_owned();
                        Failure::Unsupported { message }
                    } else {
                        Failure::TimedOut { waiting_for: "the end of a watch" }
                    });
                }
                event = events.next() => match event {
                    Some(event) => {
                        let event = event.map_err(|error| classify(&error))?;
                        self.apply(event, &mut partial)?;
                        if partial.is_none() && !is_working {
                            is_working = true;
                            self.mark_working();
                        }
                    }
                    None if partial.is_some() => {
                        let reason = "within a list".to_owned();
                        return Err(Failure::Disconnected { reason });
                    }
                    None => return Ok(()),
                },
            }
        }
    }

    /// Sends the request of a watch and waits for the start of the answer.
    async fn open(
        &self,
        connection: &Connection,
        duration: Duration,
    ) -> Result<impl Stream<Item = kube::Result<WatchEvent<C::Pod>>> + use<C>, Failure> {
        let params = WatchParams {
            label_selector: self.target.selected.label(),
            field_selector: self.target.selected.field(),
            // Whole seconds; with zero the server would choose the time.
            timeout: Some(u32::try_from(duration.as_secs()).unwrap_or(u32::MAX).max(1)),
            bookmarks: true,
            send_initial_events: self.position.is_none(),
        };
        // Without a version, a streaming list is as new as etcd now.
        let version = self.position.as_deref().unwrap_or_default();
        let request = self
            .request()
            .watch(&params, version)
            .map_err(|error| invalid_request(&error))?;
        let events = connection.client.request_events::<C::Pod>(request);
        match timeout(self.timing.answer_timeout, events).await {
            Err(_) => Err(Failure::TimedOut {
                waiting_for: "the start of a watch",
            }),
            Ok(Ok(events)) => Ok(events),
            Ok(Err(error)) => Err(classify(&error)),
        }
    }

    /// Applies an event to the list that is not yet complete, or else to the table.
    fn apply(
        &mut self,
        event: WatchEvent<C::Pod>,
        partial: &mut Option<Pods<C::Pod>>,
    ) -> Result<(), Failure> {
        // Before a list is complete, it says nothing about what is missing.
        if partial.is_none() && !matches!(event, WatchEvent::Error(_)) {
            self.contact.answered();
        }
        match (event, partial.as_mut()) {
            (WatchEvent::Added(pod) | WatchEvent::Modified(pod), Some(pods)) => {
                pods.insert(pod.name().clone(), pod);
            }
            (WatchEvent::Deleted(pod), Some(pods)) => {
                pods.remove(pod.name());
            }
            (WatchEvent::Added(pod) | WatchEvent::Modified(pod), None) => {
                self.advance(pod.version());
                self.table.insert(pod);
            }
            (WatchEvent::Deleted(pod), None) => {
                self.advance(pod.version());
                self.table.remove(pod.name());
            }
            (WatchEvent::Bookmark(bookmark), Some(pods)) => {
                if bookmark.metadata.annotations.contains_key(LIST_IS_COMPLETE) {
                    let pods = std::mem::take(pods);
                    *partial = None;
                    self.list_is_complete(pods, bookmark.metadata.resource_version)?;
                }
            }
            (WatchEvent::Bookmark(bookmark), None) => {
                self.advance(&bookmark.metadata.resource_version);
            }
            (WatchEvent::Error(status), _) => return Err(classify_status(&status)),
        }
        Ok(())
    }

    /// Stores a complete list.
    fn list_is_complete(&mut self, pods: Pods<C::Pod>, version: String) -> Result<(), Failure> {
        if version.is_empty() {
            let reason = "a list without a resourceVersion; is this an API server?".to_owned();
            return Err(Failure::Unexpected { reason });
        }
        self.table.replace(pods);
        self.last_list = Instant::now();
        self.contact.answered();
        self.journal.listed();
        self.position = Some(version);
        Ok(())
    }

    /// Records that the table is complete up to `version`.
    fn advance(&mut self, version: &str) {
        if let (Some(position), false) = (&mut self.position, version.is_empty()) {
            version.clone_into(position);
        }
    }

    /// Records that the API server answers.
    fn mark_working(&mut self) {
        self.backoff.reset();
        self.contact.connected();
        self.contact.answered();
        self.journal.answered(&self.target);
    }

    /// Waits until a refresh is due, and does it. Returns at once when nothing has changed.
    async fn refresh_when_due(&mut self) {
        if let Some(due) = self.table.due() {
            sleep_until(due).await;
            self.table.refresh(&mut self.journal, &self.target);
        }
    }

    fn request(&self) -> kube::core::Request {
        kube::core::Request::new(match &self.target.namespace {
            Some(namespace) => format!("/api/v1/namespaces/{namespace}/pods"),
            None => "/api/v1/pods".to_owned(),
        })
    }
}

/// A request that could not be built.
fn invalid_request(error: &kube::core::request::Error) -> Failure {
    Failure::Unexpected {
        reason: error.to_string(),
    }
}
