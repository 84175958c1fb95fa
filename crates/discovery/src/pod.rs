//! The few fields of a pod that discovery needs.
//!
//! In: the API server's JSON. Out: a [`Pod`]. A pod is 5 to 20 KB of JSON, and more in memory as a full
//! type. This keeps about 200 bytes.
//!
//! Invariant: every field may be missing or null. An invalid field makes a pod unusable; it is never a
//! failure. Source: `k8s.io/api/core/v1/types.go`, `Pod`.

use std::net::IpAddr;
use std::num::NonZeroU16;

use serde::Deserialize;

use settings::Foreign;
use settings::{Receiver, Tunnel};

/// The annotation that names a sensor's UDP port.
pub(crate) const PORT: &str = "podspan.dev/port";
/// The annotation for how a sensor receives the copies.
pub(crate) const RECEIVER: &str = "podspan.dev/receiver";
/// The annotation for whether a sensor's copies go through WireGuard.
pub(crate) const TUNNEL: &str = "podspan.dev/tunnel";
/// The annotation that names the UDP port of a sensor's tunnel.
pub(crate) const TUNNEL_PORT: &str = "podspan.dev/tunnel-port";

/// The most characters of an annotation that are shown. An annotation can have 256 KB.
const SHOWN: usize = 40;

/// Namespace and name. They identify a pod while it exists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PodName {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl std::fmt::Display for PodName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Foreign(&self.namespace), Foreign(&self.name))
    }
}

/// An annotation's value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Annotation<T> {
    /// There is no such annotation.
    #[default]
    Missing,
    /// Its value.
    Valid(T),
    /// The start of a value that is not valid.
    Invalid(String),
}

/// What a sensor's pod declares about the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Declared {
    /// There is none.
    Plain,
    /// podspan-receive or a WireGuard interface is in the pod.
    Tunnel,
}

impl Declared {
    /// Reads a word in upper or lower case. `required` is none: it is for podspans, not for sensors.
    fn from_word(word: &str) -> Option<Self> {
        let words = [
            (Tunnel::Off, Self::Plain),
            (Tunnel::Wireguard, Self::Tunnel),
        ];
        let mut words = words.into_iter();
        words
            .find(|(known, _)| word.eq_ignore_ascii_case(known.word()))
            .map(|(_, declared)| declared)
    }
}

/// A pod as the API server last reported it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Object")]
pub(crate) struct Pod {
    pub(crate) name: PodName,
    pub(crate) uid: String,
    /// `metadata.resourceVersion`: where a watch continues.
    pub(crate) version: String,
    pub(crate) node: Option<String>,
    pub(crate) phase: Option<String>,
    pub(crate) ready: bool,
    pub(crate) terminating: bool,
    /// In the cluster's order of address families.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) port: Annotation<NonZeroU16>,
    pub(crate) receiver: Annotation<Receiver>,
    pub(crate) tunnel: Annotation<Declared>,
    pub(crate) tunnel_port: Annotation<NonZeroU16>,
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    metadata: Metadata,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    deletion_timestamp: Option<String>,
    annotations: Option<Annotations>,
}

#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(rename = "podspan.dev/port")]
    port: Option<String>,
    #[serde(rename = "podspan.dev/receiver")]
    receiver: Option<String>,
    #[serde(rename = "podspan.dev/tunnel")]
    tunnel: Option<String>,
    #[serde(rename = "podspan.dev/tunnel-port")]
    tunnel_port: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
}

/// `status` of a pod.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Deserialize)]
struct PodIp {
    ip: Option<String>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: Option<String>,
    status: Option<String>,
}

impl From<Object> for Pod {
    fn from(object: Object) -> Self {
        let metadata = object.metadata;
        let status = object.status.unwrap_or_default();
        let annotations = metadata.annotations.unwrap_or_default();
        Self {
            name: PodName {
                namespace: metadata.namespace.unwrap_or_default(),
                name: metadata.name.unwrap_or_default(),
            },
            uid: metadata.uid.unwrap_or_default(),
            version: metadata.resource_version.unwrap_or_default(),
            node: object.spec.and_then(|spec| spec.node_name),
            ready: status.is_ready(),
            addresses: status.addresses(),
            phase: status.phase,
            terminating: metadata.deletion_timestamp.is_some(),
            port: annotation(annotations.port, |word| word.parse().ok()),
            receiver: annotation(annotations.receiver, Receiver::from_word),
            tunnel: annotation(annotations.tunnel, Declared::from_word),
            tunnel_port: annotation(annotations.tunnel_port, |word| word.parse().ok()),
        }
    }
}

impl Status {
    fn is_ready(&self) -> bool {
        let is = |field: &Option<String>, word| field.as_deref() == Some(word);
        let mut conditions = self.conditions.iter().flatten();
        conditions.any(|condition| is(&condition.kind, "Ready") && is(&condition.status, "True"))
    }

    /// `podIPs`, else `podIP`, which is the same as its first one.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        let listed = self.pod_ips.iter().flatten();
        let listed: Vec<IpAddr> = listed
            .filter_map(|entry| entry.ip.as_deref()?.parse().ok())
            .collect();
        if listed.is_empty() {
            let only = self.pod_ip.as_deref().and_then(|text| text.parse().ok());
            return only.into_iter().collect();
        }
        listed
    }
}

fn annotation<T>(text: Option<String>, parse: impl FnOnce(&str) -> Option<T>) -> Annotation<T> {
    let Some(text) = text else {
        return Annotation::Missing;
    };
    match parse(text.trim()) {
        Some(value) => Annotation::Valid(value),
        None => Annotation::Invalid(text.chars().take(SHOWN).collect()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(value: Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_full_pod_is_read() {
        let pod = pod(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "namespace": "ids", "name": "zeek-0", "uid": "u", "resourceVersion": "7",
                "managedFields": [{"manager": "kubelet"}],
                "annotations": {"podspan.dev/port": " 4790 ", "podspan.dev/receiver": "Socket",
                                "podspan.dev/tunnel": "WireGuard", "podspan.dev/tunnel-port": "51821",
                                "other": "x"},
            },
            "spec": {"nodeName": "n1", "containers": []},
            "status": {
                "phase": "Running", "podIP": "10.0.0.1",
                "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}, {"ip": "garbage"}, {}],
                "conditions": [{"type": "Initialized", "status": "True"},
                               {"type": "Ready", "status": "True", "observedGeneration": 1}],
            },
        }));
        assert_eq!(pod.name.to_string(), "ids/zeek-0");
        assert_eq!((pod.uid.as_str(), pod.version.as_str()), ("u", "7"));
        assert_eq!(pod.node.as_deref(), Some("n1"));
        assert!(pod.ready && !pod.terminating);
        let addresses: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        assert_eq!(pod.addresses, addresses);
        assert_eq!(pod.port, Annotation::Valid(NonZeroU16::new(4790).unwrap()));
        assert_eq!(pod.receiver, Annotation::Valid(Receiver::Socket));
        assert_eq!(pod.tunnel, Annotation::Valid(Declared::Tunnel));
        let tunnel_port = NonZeroU16::new(51821).unwrap();
        assert_eq!(pod.tunnel_port, Annotation::Valid(tunnel_port));
    }

    #[test]
    fn missing_and_null_fields_are_accepted() {
        for value in [
            json!({}),
            json!({"metadata": {}, "spec": null, "status": null}),
            json!({"metadata": {"annotations": null, "name": null},
                   "status": {"podIPs": null, "conditions": null, "phase": null}}),
        ] {
            let pod = pod(value);
            assert!(!pod.ready && pod.addresses.is_empty() && pod.phase.is_none());
            assert_eq!(pod.port, Annotation::Missing);
            assert_eq!(pod.tunnel, Annotation::Missing);
            assert_eq!(pod.tunnel_port, Annotation::Missing);
        }
    }

    #[test]
    fn the_single_address_of_old_servers_is_read() {
        let pod = pod(json!({"metadata": {}, "status": {"podIP": "10.0.0.9"}}));
        assert_eq!(pod.addresses, ["10.0.0.9".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn invalid_annotations_are_kept_short() {
        for text in ["0", "65536", "-1", "vxlan", "", &"9".repeat(100_000)] {
            let annotations = json!({PORT: text, RECEIVER: text, TUNNEL: text, TUNNEL_PORT: text});
            let pod = pod(json!({"metadata": {"annotations": annotations}}));
            let shown: String = text.chars().take(SHOWN).collect();
            assert_eq!(pod.port, Annotation::Invalid(shown.clone()));
            assert_eq!(pod.receiver, Annotation::Invalid(shown.clone()));
            assert_eq!(pod.tunnel, Annotation::Invalid(shown.clone()));
            assert_eq!(pod.tunnel_port, Annotation::Invalid(shown));
        }
    }

    #[test]
    fn a_sensor_declares_a_tunnel_or_none() {
        let declared =
            |word: &str| pod(json!({"metadata": {"annotations": {TUNNEL: word}}})).tunnel;
        for (word, expected) in [("wireguard", Declared::Tunnel), (" OFF", Declared::Plain)] {
            assert_eq!(declared(word), Annotation::Valid(expected));
        }
        for word in ["required", "on", "WireGuard!"] {
            assert_eq!(declared(word), Annotation::Invalid(word.to_owned()));
        }
    }
}
