//! podspan's own pod and its annotations.
//!
//! In: the API server's JSON of the pod. Out: [`OwnAnnotations`], at the first list and each time they
//! change, at most once in [`INTERVAL`].
//!
//! The pod has the right name already, because the API server selects by it. If podspan's own UID is known,
//! a pod with another one is not its own: it has the name of a pod that was replaced. If the name is that of the
//! host, podspan's own pod has one of podspan's addresses: with `hostNetwork` and with `spec.hostname`, the host's
//! name can be that of another pod.
//!
//! Invariants: only an answer of the API server that has the pod changes the annotations. An annotation keeps
//! at most [`MAX_ANNOTATION`] bytes; the API server allows 256 KiB.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use crate::journal::Journal;
use crate::pod::{PodName, Status};
use crate::remedy::Target;
use crate::table::Pods;
use crate::watch::{Consumer, Listed};

/// The annotation with the filter.
pub const FILTER_ANNOTATION: &str = "podspan.dev/filter";
/// The annotation that switches mirroring off and on.
pub const MIRROR_ANNOTATION: &str = "podspan.dev/mirror";

/// The most bytes of an annotation that are kept; up to three fewer, because characters stay whole.
pub const MAX_ANNOTATION: usize = 4100;

/// The minimum time between two published changes: each can cost the compilation of a filter.
const INTERVAL: Duration = Duration::from_millis(250);

/// The annotations of podspan's own pod that it follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnAnnotations {
    /// The start of [`FILTER_ANNOTATION`].
    pub filter: Option<String>,
    /// The start of [`MIRROR_ANNOTATION`].
    pub mirror: Option<String>,
}

impl OwnAnnotations {
    /// Keeps the starts of the texts.
    pub(crate) fn new(filter: Option<String>, mirror: Option<String>) -> Self {
        Self {
            filter: filter.map(start),
            mirror: mirror.map(start),
        }
    }
}

/// The start of an annotation.
fn start(mut text: String) -> String {
    if text.len() > MAX_ANNOTATION {
        text.truncate(text.floor_char_boundary(MAX_ANNOTATION));
        text.shrink_to_fit();
    }
    text
}

/// podspan's own pod as the API server last reported it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Object")]
pub(crate) struct AnnotatedPod {
    name: PodName,
    uid: String,
    version: String,
    addresses: Vec<IpAddr>,
    annotations: OwnAnnotations,
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    metadata: Metadata,
    status: Option<Status>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    annotations: Option<Annotations>,
}

#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(rename = "podspan.dev/filter")]
    filter: Option<String>,
    #[serde(rename = "podspan.dev/mirror")]
    mirror: Option<String>,
}

impl From<Object> for AnnotatedPod {
    fn from(Object { metadata, status }: Object) -> Self {
        let annotations = metadata.annotations.unwrap_or_default();
        Self {
            name: PodName {
                namespace: metadata.namespace.unwrap_or_default(),
                name: metadata.name.unwrap_or_default(),
            },
            uid: metadata.uid.unwrap_or_default(),
            version: metadata.resource_version.unwrap_or_default(),
            addresses: status.unwrap_or_default().addresses(),
            annotations: OwnAnnotations::new(annotations.filter, annotations.mirror),
        }
    }
}

impl Listed for AnnotatedPod {
    fn name(&self) -> &PodName {
        &self.name
    }

    fn version(&self) -> &str {
        &self.version
    }
}

/// The annotations as the API server reported them, and where they are published.
pub(crate) struct OwnPodTable<P> {
    /// podspan's own UID, if it is known.
    uid: Option<String>,
    /// podspan's own addresses, if its pod must have one of them.
    addresses: Option<Vec<IpAddr>>,
    publish: P,
    /// `None`: the last list did not have the pod.
    current: Option<OwnAnnotations>,
    published: Option<OwnAnnotations>,
    /// Whether the pod has changed since the last refresh.
    changed: bool,
    /// The earliest time of the next refresh.
    next: Instant,
    /// Whether the log says that there is no such pod.
    is_missing_logged: bool,
}

impl<P: FnMut(OwnAnnotations)> OwnPodTable<P> {
    /// Nothing is published before the pod was in an answer.
    pub(crate) fn new(uid: Option<String>, addresses: Option<Vec<IpAddr>>, publish: P) -> Self {
        Self {
            uid,
            addresses,
            publish,
            current: None,
            published: None,
            changed: false,
            next: Instant::now(),
            is_missing_logged: false,
        }
    }

    fn is_own(&self, pod: &AnnotatedPod) -> bool {
        let has_address = |own: &Vec<IpAddr>| pod.addresses.iter().any(|one| own.contains(one));
        self.uid.as_ref().is_none_or(|uid| *uid == pod.uid)
            && self.addresses.as_ref().is_none_or(has_address)
    }
}

impl<P: FnMut(OwnAnnotations)> Consumer for OwnPodTable<P> {
    type Pod = AnnotatedPod;

    fn replace(&mut self, pods: Pods<AnnotatedPod>) {
        let own = pods.into_values().find(|pod| self.is_own(pod));
        self.current = own.map(|pod| pod.annotations);
        self.changed = true;
    }

    fn insert(&mut self, pod: AnnotatedPod) {
        if self.is_own(&pod) {
            self.current = Some(pod.annotations);
            self.changed = true;
        }
    }

    /// The containers of a pod end before it is removed.
    fn remove(&mut self, _: &PodName) {}

    fn due(&self) -> Option<Instant> {
        self.changed.then_some(self.next)
    }

    fn refresh(&mut self, _: &mut Journal, target: &Target) {
        self.changed = false;
        self.next = Instant::now() + INTERVAL;
        if self.current.is_none() && self.published.is_none() && !self.is_missing_logged {
            self.is_missing_logged = true;
            let pod = target.pods();
            let which = match (&self.uid, &self.addresses) {
                (Some(_), _) => " with the UID in POD_UID",
                (None, Some(_)) => " with one of podspan's addresses",
                (None, None) => "",
            };
            tracing::info!(
                "there is no {pod}{which}, so its annotations {FILTER_ANNOTATION} and {MIRROR_ANNOTATION} \
                 are not followed; to use them, set POD_NAME, POD_NAMESPACE and POD_UID from the downward API"
            );
        }
        if let Some(annotations) = &self.current
            && self.published.as_ref() != Some(annotations)
        {
            self.published = Some(annotations.clone());
            (self.publish)(annotations.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use serde_json::{Value, json};

    use super::*;

    fn pod(value: Value) -> AnnotatedPod {
        serde_json::from_value(value).unwrap()
    }

    fn annotated(uid: &str, filter: &str) -> AnnotatedPod {
        pod(json!({"metadata": {
            "namespace": "shop", "name": "cart", "uid": uid, "resourceVersion": "7",
            "annotations": {FILTER_ANNOTATION: filter, "other": "x"},
        }}))
    }

    fn only(filter: &str) -> OwnAnnotations {
        OwnAnnotations::new(Some(filter.to_owned()), None)
    }

    #[test]
    fn the_annotations_of_a_pod_are_read() {
        let pod = pod(json!({
            "metadata": {
                "namespace": "shop", "name": "cart", "uid": "u", "resourceVersion": "7",
                "annotations": {FILTER_ANNOTATION: "udp", MIRROR_ANNOTATION: "off"},
            },
            "spec": {"containers": []}, "status": {},
        }));
        assert_eq!(
            (pod.name.to_string().as_str(), pod.uid.as_str()),
            ("shop/cart", "u")
        );
        assert_eq!(pod.version, "7");
        let expected = OwnAnnotations::new(Some("udp".to_owned()), Some("off".to_owned()));
        assert_eq!(pod.annotations, expected);
    }

    #[test]
    fn missing_and_null_annotations_are_none() {
        for value in [
            json!({}),
            json!({"metadata": {"annotations": null}}),
            json!({"metadata": {"annotations": {"other": "x", MIRROR_ANNOTATION: null}}}),
        ] {
            assert_eq!(pod(value).annotations, OwnAnnotations::default());
        }
    }

    #[test]
    fn only_the_start_of_a_long_annotation_is_kept() {
        for character in ["a", "é", "€", "🦀"] {
            let text = format!("a{}", character.repeat(256 << 10));
            let OwnAnnotations { filter, .. } = annotated("u", &text).annotations;
            let kept = filter.unwrap();
            assert!(text.starts_with(&kept));
            assert!((MAX_ANNOTATION - 3..=MAX_ANNOTATION).contains(&kept.len()));
        }
    }

    #[test]
    fn changes_are_published_and_other_pods_and_events_are_not() {
        let published = RefCell::new(Vec::new());
        let publish = |annotations| published.borrow_mut().push(annotations);
        let mut table = OwnPodTable::new(Some("mine".to_owned()), None, publish);
        let (mut journal, target) = (Journal::default(), Target::own_pod("cart"));
        assert_eq!(table.due(), None);
        let list = |pods: &[AnnotatedPod]| {
            let pods = pods.iter().map(|pod| (pod.name.clone(), pod.clone()));
            pods.collect::<Pods<_>>()
        };
        let mut refresh = |table: &mut OwnPodTable<_>| table.refresh(&mut journal, &target);
        table.replace(list(&[annotated("another", "tcp")]));
        refresh(&mut table);
        assert!(published.borrow().is_empty(), "a pod with the same name");
        table.replace(list(&[annotated("mine", "udp")]));
        refresh(&mut table);
        assert_eq!(*published.borrow(), [only("udp")]);
        table.insert(annotated("mine", "udp"));
        refresh(&mut table);
        table.insert(annotated("another", "tcp"));
        assert_eq!(table.due(), None);
        // A list without the pod, and its deletion, change nothing.
        table.replace(list(&[]));
        refresh(&mut table);
        table.remove(&annotated("mine", "udp").name);
        assert_eq!(published.borrow().len(), 1);
        table.insert(annotated("mine", "icmp"));
        assert!(table.due().is_some_and(|due| due > Instant::now()));
        refresh(&mut table);
        assert_eq!(*published.borrow(), [only("udp"), only("icmp")]);
    }

    #[test]
    fn a_pod_with_the_name_of_the_host_is_podspans_own_only_with_one_of_its_addresses() {
        let published = RefCell::new(Vec::new());
        let publish = |annotations| published.borrow_mut().push(annotations);
        let own = vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
        let mut table = OwnPodTable::new(None, Some(own), publish);
        let with = |filter: &str, status: Value| {
            pod(json!({
                "metadata": {"name": "cart", "annotations": {FILTER_ANNOTATION: filter}},
                "status": status,
            }))
        };
        for (filter, status) in [
            ("none", json!(null)),
            (
                "another",
                json!({"podIP": "10.0.0.8", "podIPs": [{"ip": "10.0.0.8"}]}),
            ),
        ] {
            table.insert(with(filter, status));
            assert_eq!(table.due(), None, "{filter}");
        }
        for (filter, status) in [
            ("v4", json!({"podIP": "10.0.0.7"})),
            (
                "v6",
                json!({"podIPs": [{"ip": "10.0.0.8"}, {"ip": "fd00::7"}]}),
            ),
        ] {
            table.insert(with(filter, status));
            table.refresh(&mut Journal::default(), &Target::own_pod("cart"));
        }
        assert_eq!(*published.borrow(), [only("v4"), only("v6")]);
    }
}
