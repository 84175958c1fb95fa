//! The pods with the sensor's name, and the lists of sensors made of them: at most one each 50 ms.
//!
//! Events only change the pods and mark the table as changed. A refresh selects the sensors among all
//! pods when it is due, so a burst of events costs one refresh. A list is published when it differs
//! from the last one. A refresh without a new list delays the next one by 5 ms only.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::journal::Journal;
use crate::pod::{Pod, PodName};
use crate::remedy::Target;
use crate::select::{Selection, select};
use crate::settings::{SensorList, Settings};

/// The minimum time between two refreshes when the first one gave no new list.
const UNCHANGED_INTERVAL: Duration = Duration::from_millis(5);

/// All pods with the name.
pub(crate) type Pods = BTreeMap<PodName, Pod>;

/// The pods as the API server reported them, and where the lists of sensors are published.
pub(crate) struct Table<P> {
    pods: Pods,
    publish: P,
    last: Option<SensorList>,
    /// Whether the pods have changed since the last refresh.
    changed: bool,
    /// The earliest time of the next refresh.
    next: Instant,
}

impl<P: FnMut(SensorList)> Table<P> {
    /// An empty table. Nothing is published before the first [`Self::replace`].
    pub(crate) fn new(publish: P) -> Self {
        Self {
            pods: Pods::new(),
            publish,
            last: None,
            changed: false,
            next: Instant::now(),
        }
    }

    /// Replaces all pods by a complete list.
    pub(crate) fn replace(&mut self, pods: Pods) {
        self.pods = pods;
        self.changed = true;
    }

    /// Adds a pod that is new or has changed.
    pub(crate) fn insert(&mut self, pod: Pod) {
        self.pods.insert(pod.name.clone(), pod);
        self.changed = true;
    }

    /// Removes a pod that was deleted.
    pub(crate) fn remove(&mut self, name: &PodName) {
        self.changed |= self.pods.remove(name).is_some();
    }

    /// When to call [`Self::refresh`]; none: nothing has changed.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.changed.then_some(self.next)
    }

    /// Selects the sensors among all pods, and publishes the list if it is new.
    pub(crate) fn refresh(&mut self, settings: &Settings, journal: &mut Journal, target: &Target) {
        self.changed = false;
        let Selection { list, remarks } = select(self.pods.values(), settings);
        journal.remarks(remarks);
        let is_new = self.last.as_ref() != Some(&list);
        if is_new {
            journal.sensors(&list, target);
            self.last = Some(list.clone());
            (self.publish)(list);
        }
        // A new pod has several events before it is Ready. They must not delay the one that counts.
        let pause = if is_new {
            settings.timing.between_lists
        } else {
            UNCHANGED_INTERVAL
        };
        self.next = Instant::now() + pause;
    }

    /// Waits until a refresh is due, and does it. Returns at once when nothing has changed.
    pub(crate) async fn refresh_when_due(
        &mut self,
        settings: &Settings,
        journal: &mut Journal,
        target: &Target,
    ) {
        if let Some(due) = self.due() {
            sleep_until(due).await;
            self.refresh(settings, journal, target);
        }
    }
}
