//! The pods with the sensor's name, and the lists of sensors made of them: at most one each 50 ms.
//!
//! Events only change the pods and mark the table as changed. A refresh selects the sensors among all
//! pods when it is due, so a burst of events costs one refresh. A list is published when it differs
//! from the last one. A refresh without a new list delays the next one by 5 ms only.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::journal::Journal;
use crate::pod::{Pod, PodName};
use crate::remedy::Target;
use crate::select::{Selection, select};
use crate::types::{SensorList, Settings};
use crate::watch::{Consumer, Listed};

/// The minimum time between two refreshes when the first one gave no new list.
const UNCHANGED_INTERVAL: Duration = Duration::from_millis(5);

/// All selected pods.
pub(crate) type Pods<P> = BTreeMap<PodName, P>;

/// The pods as the API server reported them, and where the lists of sensors are published.
pub(crate) struct Table<P> {
    settings: Settings,
    pods: Pods<Pod>,
    publish: P,
    last: Option<SensorList>,
    /// Whether the pods have changed since the last refresh.
    changed: bool,
    /// The earliest time of the next refresh.
    next: Instant,
}

impl<P: FnMut(SensorList)> Table<P> {
    /// An empty table. Nothing is published before the first list is complete.
    pub(crate) fn new(settings: Settings, publish: P) -> Self {
        Self {
            settings,
            pods: Pods::new(),
            publish,
            last: None,
            changed: false,
            next: Instant::now(),
        }
    }
}

impl Listed for Pod {
    fn name(&self) -> &PodName {
        &self.name
    }

    fn version(&self) -> &str {
        &self.version
    }
}

impl<P: FnMut(SensorList)> Consumer for Table<P> {
    type Pod = Pod;

    fn replace(&mut self, pods: Pods<Pod>) {
        self.pods = pods;
        self.changed = true;
    }

    fn insert(&mut self, pod: Pod) {
        self.pods.insert(pod.name.clone(), pod);
        self.changed = true;
    }

    fn remove(&mut self, name: &PodName) {
        self.changed |= self.pods.remove(name).is_some();
    }

    fn due(&self) -> Option<Instant> {
        self.changed.then_some(self.next)
    }

    /// Selects the sensors among all pods, and publishes the list if it is new.
    fn refresh(&mut self, journal: &mut Journal, target: &Target) {
        self.changed = false;
        let Selection { list, remarks } = select(self.pods.values(), &self.settings);
        journal.remarks(remarks);
        let is_new = self.last.as_ref() != Some(&list);
        if is_new {
            journal.sensors(&list, target);
            self.last = Some(list.clone());
            (self.publish)(list);
        }
        // A new pod has several events before it is Ready. They must not delay the one that counts.
        let pause = if is_new {
            self.settings.timing.between_lists
        } else {
            UNCHANGED_INTERVAL
        };
        self.next = Instant::now() + pause;
    }
}
