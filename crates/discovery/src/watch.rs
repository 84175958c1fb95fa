//! The edge: lists and watches pods, hands what the API server says to the table, and goes on after
//! every failure.
//!
//! ```text
//!           no position                        position = resourceVersion
//!   +--> streaming list ---- complete ----+--> watch ---- its time is over ----+
//!   |       |refused, or never complete   |      |                            |
//!   |       '--> list in pages -----------'      |<---------------------------'
//!   |                                            |
//!   '---- 410, or the answer was an error -------+---- failure ---> wait ---> new client
//! ```
//!
//! This is a loop of our own over `kube`'s client, not `kube::runtime::watcher`. The watcher begins
//! a streaming list from the cache of whichever API server answers, which may be behind the one that
//! was asked before; asks again at once when a watch ends at its beginning; notices a hanging
//! connection only by silence, and never falls back to a list.
//!
//! Every request has its end: an answer must begin, and a list be complete, within
//! [`Pace::answer`](crate::Pace); a watch must be over shortly after the time that the API server was
//! asked to end it. So a hang is noticed although a frozen machine still acknowledges what TCP sends.
//!
//! Source: "Efficient detection of changes" and "Streaming lists" in the Kubernetes documentation's
//! "API Concepts".

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::ObjectList;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::backoff::Backoff;
use crate::failure::{Failure, classify, classify_status};
use crate::journal::Journal;
use crate::pod::Pod;
use crate::remedy::Asking;
use crate::settings::{Scope, Settings, View};
use crate::source::{ClientSource, Connection};
use crate::table::{Pods, Table};

/// What a bookmark carries at the end of a streaming list.
const LIST_IS_COMPLETE: &str = "k8s.io/initial-events-end";
/// Pods in one page of a list, as many as `client-go` asks for.
const PAGE: u32 = 500;
/// How much later than asked a watch may end.
const LATE: Duration = Duration::from_secs(5);
/// How long a list is believed. An etcd that was restored from a backup counts its versions from an
/// older one on, and the API server then says nothing to who waits for newer ones.
const LIST_AGAIN: Duration = Duration::from_mins(10);
/// A watch that has lasted so long without an error works; and the least time between two requests
/// that end well, so that a server which ends every watch at once is not asked without a pause.
const STEADY: Duration = Duration::from_secs(1);

/// Finds the sensors and calls `publish` with the complete view at first and whenever it changes.
/// It never returns. Whatever fails is logged and tried again, the configuration included, so it may
/// be started before there is an API server.
///
/// It needs a tokio runtime with time and I/O enabled; a current-thread one is enough.
pub async fn watch(
    settings: Settings,
    source: ClientSource,
    publish: impl FnMut(View),
) -> Infallible {
    let asking = Asking {
        server: source.server(),
        ca: source.ca(),
        credentials: source.credentials(),
        name: settings.name.clone(),
        namespace: match &settings.scope {
            Scope::Own => settings.me.namespace.clone(),
            Scope::Namespace(name) => Some(name.clone()),
            Scope::All => None,
        },
        own_namespace: settings.me.namespace.clone().unwrap_or_default(),
    };
    let mut discovery = Discovery {
        settings,
        asking,
        table: Table::new(publish),
        journal: Journal::default(),
        backoff: Backoff::default(),
        position: None,
        listed: Instant::now(),
        streaming: true,
    };
    loop {
        let failure = discovery.serve(&source).await;
        discovery.settle().await;
        if !failure.keeps_position() {
            discovery.position = None;
        }
        let wait = discovery.backoff.after(&failure, fastrand::f64());
        discovery.journal.failed(failure, &discovery.asking);
        sleep(wait).await;
    }
}

/// Everything that outlives a connection.
struct Discovery<P> {
    settings: Settings,
    asking: Asking,
    table: Table<P>,
    journal: Journal,
    backoff: Backoff,
    /// The resourceVersion up to which everything is known; none: a list is needed.
    position: Option<String>,
    /// When a list was complete.
    listed: Instant,
    /// Whether this API server is asked for streaming lists.
    streaming: bool,
}

impl<P: FnMut(View)> Discovery<P> {
    /// Lists and watches with one client until something fails.
    async fn serve(&mut self, source: &ClientSource) -> Failure {
        let connection = match source.connect().await {
            Ok(connection) => connection,
            Err(failure) => return failure,
        };
        self.learn(&connection);
        loop {
            let begun = Instant::now();
            if self.listed.elapsed() >= LIST_AGAIN {
                self.position = None;
            }
            let listed = self.position.is_none();
            let outcome = if listed && !self.streaming {
                self.list(&connection).await
            } else {
                self.stream(&connection).await
            };
            let after = connection.retry_after.get();
            let next = match outcome.map_err(|failure| failure.asked_to_wait(after)) {
                // The watch that goes on from it comes at once.
                Ok(()) if listed && !self.streaming => begun,
                Ok(()) => begun + STEADY,
                Err(Failure::Unsupported { .. }) if listed && self.streaming => {
                    self.streaming = false;
                    continue;
                }
                Err(Failure::Gone) if !listed => {
                    tracing::debug!("the position is forgotten (410); a new list follows");
                    self.position = None;
                    // One list after the other, each with its watch, is two requests.
                    self.listed + 2 * STEADY
                }
                Err(failure) => return failure,
            };
            self.settle().await;
            sleep_until(next).await;
        }
    }

    /// What only the configuration says.
    fn learn(&mut self, connection: &Connection) {
        self.asking.server.clone_from(&connection.server);
        if self.settings.me.namespace.is_none() {
            self.asking.own_namespace.clone_from(&connection.namespace);
            if self.settings.scope == Scope::Own {
                self.asking.namespace = Some(connection.namespace.clone());
            }
        }
    }

    /// A list in pages: for API servers that do not stream it.
    async fn list(&mut self, connection: &Connection) -> Result<(), Failure> {
        let end = Instant::now() + self.settings.pace.answer;
        let mut pods = Pods::new();
        let mut params = ListParams {
            label_selector: Some(self.selector()),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        loop {
            let request = self
                .request()
                .list(&params)
                .map_err(|error| unasked(&error))?;
            let page = connection.client.request::<ObjectList<Pod>>(request);
            let page = timeout_at(end, page).await;
            let page = page
                .map_err(|_| Failure::TimedOut { doing: "a list" })?
                .map_err(|error| classify(&error))?;
            pods.extend(page.items.into_iter().map(|pod| (pod.name.clone(), pod)));
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                let version = page.metadata.resource_version.unwrap_or_default();
                return self.complete(pods, version);
            }
        }
    }

    /// A watch: from the position on, or, without one, with a list at its beginning.
    async fn stream(&mut self, connection: &Connection) -> Result<(), Failure> {
        let pace = self.settings.pace;
        // Not all of a cluster's podspans at the same time.
        let lasting = pace.watch.mul_f64(0.8 + 0.2 * fastrand::f64());
        let begun = Instant::now();
        let mut events = pin!(self.open(connection, lasting).await?);
        // While a list comes in, what has come of it.
        let mut coming = self.position.is_none().then(Pods::new);
        let mut is_steady = false;
        loop {
            let due = self.table.due();
            let end = if coming.is_some() {
                begun + pace.answer
            } else {
                begun + lasting + LATE
            };
            tokio::select! {
                () = sleep_until(due.unwrap_or(end)), if due.is_some() => {
                    self.table.look(&self.settings, &mut self.journal, &self.asking);
                }
                () = sleep_until(begun + STEADY), if coming.is_none() && !is_steady => {
                    is_steady = true;
                    self.steady();
                }
                () = sleep_until(end) => {
                    return Err(if coming.is_some() {
                        // Servers before 1.27 do not know what they were asked, and go on for ever.
                        let message = "the streaming list does not end".to_owned();
                        Failure::Unsupported { message }
                    } else {
                        Failure::TimedOut { doing: "the end of a watch" }
                    });
                }
                event = events.next() => match event {
                    Some(event) => {
                        let event = event.map_err(|error| classify(&error))?;
                        self.take(event, &mut coming)?;
                        if coming.is_none() && !is_steady {
                            is_steady = true;
                            self.steady();
                        }
                    }
                    None if coming.is_some() => {
                        let reason = "within a list".to_owned();
                        return Err(Failure::Cut { reason });
                    }
                    None => return Ok(()),
                },
            }
        }
    }

    /// Sends the request of a watch and waits for the beginning of the answer.
    async fn open(
        &self,
        connection: &Connection,
        lasting: Duration,
    ) -> Result<impl Stream<Item = kube::Result<WatchEvent<Pod>>> + use<P>, Failure> {
        let params = WatchParams {
            label_selector: Some(self.selector()),
            field_selector: None,
            // Whole seconds, and zero would mean the server's own choice.
            timeout: Some(u32::try_from(lasting.as_secs()).unwrap_or(u32::MAX).max(1)),
            bookmarks: true,
            send_initial_events: self.position.is_none(),
        };
        // Without a version a streaming list is as new as etcd at this moment.
        let version = self.position.as_deref().unwrap_or_default();
        let request = self
            .request()
            .watch(&params, version)
            .map_err(|error| unasked(&error))?;
        let events = connection.client.request_events::<Pod>(request);
        match timeout(self.settings.pace.answer, events).await {
            Err(_) => Err(Failure::TimedOut {
                doing: "the beginning of a watch",
            }),
            Ok(Ok(events)) => Ok(events),
            Ok(Err(error)) => Err(classify(&error)),
        }
    }

    fn take(&mut self, event: WatchEvent<Pod>, coming: &mut Option<Pods>) -> Result<(), Failure> {
        match (event, coming.as_mut()) {
            (WatchEvent::Added(pod) | WatchEvent::Modified(pod), Some(coming)) => {
                coming.insert(pod.name.clone(), pod);
            }
            (WatchEvent::Deleted(pod), Some(coming)) => {
                coming.remove(&pod.name);
            }
            (WatchEvent::Added(pod) | WatchEvent::Modified(pod), None) => {
                self.advance(&pod.version);
                self.table.insert(pod);
            }
            (WatchEvent::Deleted(pod), None) => {
                self.advance(&pod.version);
                self.table.remove(&pod.name);
            }
            (WatchEvent::Bookmark(bookmark), Some(pods)) => {
                if bookmark.metadata.annotations.contains_key(LIST_IS_COMPLETE) {
                    let pods = std::mem::take(pods);
                    *coming = None;
                    self.complete(pods, bookmark.metadata.resource_version)?;
                }
            }
            (WatchEvent::Bookmark(bookmark), None) => {
                self.advance(&bookmark.metadata.resource_version);
            }
            (WatchEvent::Error(status), _) => return Err(classify_status(&status)),
        }
        Ok(())
    }

    /// A list is whole.
    fn complete(&mut self, pods: Pods, version: String) -> Result<(), Failure> {
        if version.is_empty() {
            let reason = "a list without a resourceVersion; is this an API server?".to_owned();
            return Err(Failure::Unexpected { reason });
        }
        self.table.replace(pods);
        self.listed = Instant::now();
        self.journal.listed();
        self.position = Some(version);
        Ok(())
    }

    /// Everything up to `version` is known.
    fn advance(&mut self, version: &str) {
        if let (Some(position), false) = (&mut self.position, version.is_empty()) {
            version.clone_into(position);
        }
    }

    /// The API server does what it is asked.
    fn steady(&mut self) {
        self.backoff.reset();
        self.journal.answered(&self.asking);
    }

    async fn settle(&mut self) {
        let (settings, asking) = (&self.settings, &self.asking);
        self.table.settle(settings, &mut self.journal, asking).await;
    }

    /// The selector works on the API server's side: other pods never reach us.
    fn selector(&self) -> String {
        format!("run={}", self.settings.name)
    }

    fn request(&self) -> kube::core::Request {
        kube::core::Request::new(match &self.asking.namespace {
            Some(namespace) => format!("/api/v1/namespaces/{namespace}/pods"),
            None => "/api/v1/pods".to_owned(),
        })
    }
}

/// A request that could not be written.
fn unasked(error: &kube::core::request::Error) -> Failure {
    Failure::Unexpected {
        reason: error.to_string(),
    }
}
