//! The pods with the sensor's name, and the views made of them: at most one each 50 ms.
//!
//! Events only change the pods and mark the table. The pods are looked at when the time has come,
//! so that a burst of events costs one look. A view goes out when it differs from the last one;
//! a look that comes to nothing new delays the next by 5 ms only.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::journal::Journal;
use crate::pod::{Pod, PodName};
use crate::remedy::Asking;
use crate::select::{Selection, select};
use crate::settings::{Settings, View};

/// The least time between two looks, of which the first came to nothing new.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// All pods with the name.
pub(crate) type Pods = BTreeMap<PodName, Pod>;

/// The pods as the API server has told them, and where views go.
pub(crate) struct Table<P> {
    pods: Pods,
    publish: P,
    last: Option<View>,
    /// Whether the pods have changed since the last look.
    changed: bool,
    /// When the next look may be.
    next: Instant,
}

impl<P: FnMut(View)> Table<P> {
    /// Nothing is known and nothing is published before the first [`Self::replace`].
    pub(crate) fn new(publish: P) -> Self {
        Self {
            pods: Pods::new(),
            publish,
            last: None,
            changed: false,
            next: Instant::now(),
        }
    }

    /// A complete list.
    pub(crate) fn replace(&mut self, pods: Pods) {
        self.pods = pods;
        self.changed = true;
    }

    /// A pod that is new or has changed.
    pub(crate) fn insert(&mut self, pod: Pod) {
        self.pods.insert(pod.name.clone(), pod);
        self.changed = true;
    }

    /// A pod that is gone.
    pub(crate) fn remove(&mut self, name: &PodName) {
        self.changed |= self.pods.remove(name).is_some();
    }

    /// When to call [`Self::look`]; none: nothing has changed.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.changed.then_some(self.next)
    }

    /// Looks at all pods, and publishes what they come to if that is new.
    pub(crate) fn look(&mut self, settings: &Settings, journal: &mut Journal, asking: &Asking) {
        self.changed = false;
        let Selection { view, remarks } = select(self.pods.values(), settings);
        journal.remark(remarks);
        let is_new = self.last.as_ref() != Some(&view);
        if is_new {
            journal.view(&view, asking);
            self.last = Some(view.clone());
            (self.publish)(view);
        }
        // A pod that comes is told several times before it is Ready: that must not delay what counts.
        let pause = if is_new {
            settings.pace.views
        } else {
            LOOK_AGAIN
        };
        self.next = Instant::now() + pause;
    }

    /// Waits until a look is due, and looks; returns at once when nothing has changed.
    pub(crate) async fn settle(
        &mut self,
        settings: &Settings,
        journal: &mut Journal,
        asking: &Asking,
    ) {
        if let Some(due) = self.due() {
            sleep_until(due).await;
            self.look(settings, journal, asking);
        }
    }
}
