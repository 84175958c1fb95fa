//! Pods without a kubelet: created, given a status, changed and deleted through the real API.
//!
//! A [`PodDraft`] has all fields that a watcher sees. `status` is a subresource that only its own
//! requests change, so a pod with an address is two requests and a watcher sees two
//! events, as in a cluster. Status is written by merge patches: a list is replaced as a whole.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::error::Error;

/// The fields of a pod.
#[derive(Clone, Debug)]
pub struct PodDraft {
    name: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    node: Option<String>,
    host_network: bool,
    addresses: Vec<IpAddr>,
    ready: bool,
}

impl PodDraft {
    /// A pod on no node, without an address, not Ready.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            node: None,
            host_network: false,
            addresses: Vec::new(),
            ready: false,
        }
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds an annotation.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Puts it on a node, which need not exist.
    #[must_use]
    pub fn node(mut self, name: &str) -> Self {
        self.node = Some(name.to_owned());
        self
    }

    /// Lets it use its node's network namespace.
    #[must_use]
    pub fn host_network(mut self) -> Self {
        self.host_network = true;
        self
    }

    /// Adds an address: at most one of each family, the first one is the pod's primary.
    #[must_use]
    pub fn address(mut self, address: impl Into<IpAddr>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// Makes it Ready.
    #[must_use]
    pub fn ready(mut self) -> Self {
        self.ready = true;
        self
    }

    fn object(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self.name, "labels": self.labels, "annotations": self.annotations,
            },
            "spec": {
                "nodeName": self.node,
                "hostNetwork": self.host_network,
                "automountServiceAccountToken": false,
                "containers": [{"name": "main", "image": "example.invalid/none"}],
            },
        })
    }
}

/// The pods of one namespace, as administrator.
#[derive(Clone, Debug)]
pub struct Pods {
    api: Api<Pod>,
}

impl Pods {
    /// `client` should be the administrator's (`ControlPlane::client`).
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
        }
    }

    /// The typed API, for other requests.
    #[must_use]
    pub fn api(&self) -> &Api<Pod> {
        &self.api
    }

    /// Creates a pod and, if the draft has any, writes its status. Returns it as it is stored.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn create(&self, draft: &PodDraft) -> Result<Pod, Error> {
        let object = serde_json::from_value(draft.object())
            .map_err(|error| Error::Api(kube::Error::SerdeError(error)))?;
        let pod = self.api.create(&PostParams::default(), &object).await?;
        if draft.addresses.is_empty() && !draft.ready {
            return Ok(pod);
        }
        let mut status = readiness(draft.ready);
        merge(&mut status, addresses(&draft.addresses));
        self.patch_status(&draft.name, status).await
    }

    /// Sets the Ready condition and the phase Running.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn set_ready(&self, name: &str, ready: bool) -> Result<Pod, Error> {
        self.patch_status(name, readiness(ready)).await
    }

    /// Replaces the addresses; an empty list removes them all.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn set_addresses(&self, name: &str, list: &[IpAddr]) -> Result<Pod, Error> {
        self.patch_status(name, addresses(list)).await
    }

    /// Sets a label, or removes it.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn set_label(
        &self,
        name: &str,
        key: &str,
        value: Option<&str>,
    ) -> Result<Pod, Error> {
        self.patch(name, json!({"metadata": {"labels": {key: value}}}))
            .await
    }

    /// Sets an annotation, or removes it.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn set_annotation(
        &self,
        name: &str,
        key: &str,
        value: Option<&str>,
    ) -> Result<Pod, Error> {
        self.patch(name, json!({"metadata": {"annotations": {key: value}}}))
            .await
    }

    /// Requests the pod's graceful deletion: it gets a deletionTimestamp and stays until
    /// [`Self::delete`], because no kubelet ends it. A pod without a node is removed at once.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn begin_deletion(&self, name: &str) -> Result<(), Error> {
        self.api.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Deletes the pod at once (grace period 0).
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        self.api
            .delete(name, &DeleteParams::default().grace_period(0))
            .await?;
        Ok(())
    }

    async fn patch(&self, name: &str, patch: Value) -> Result<Pod, Error> {
        Ok(self
            .api
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await?)
    }

    async fn patch_status(&self, name: &str, status: Value) -> Result<Pod, Error> {
        let patch = Patch::Merge(json!({"status": status}));
        Ok(self
            .api
            .patch_status(name, &PatchParams::default(), &patch)
            .await?)
    }
}

fn readiness(ready: bool) -> Value {
    let status = if ready { "True" } else { "False" };
    json!({"phase": "Running", "conditions": [{"type": "Ready", "status": status}]})
}

fn addresses(list: &[IpAddr]) -> Value {
    let entries: Vec<Value> = list.iter().map(|address| json!({"ip": address})).collect();
    json!({"podIP": list.first(), "podIPs": entries})
}

/// Adds the members of one object to another.
fn merge(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}
