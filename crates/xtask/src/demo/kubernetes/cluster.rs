//! The control plane on a host of the lab, and the sensors' pods in it.
//!
//! There is no kubelet: the demo writes what a kubelet writes, through the real API. A pod is created
//! with its address and not Ready, and becomes Ready later, as after its readiness probe. To end a
//! pod, the demo first requests its deletion (`deletionTimestamp`) and removes it a little later.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use testbed::kubernetes::{ControlPlane, Error, Options, PodDraft, Pods};
use testbed::{Host, Namespace};
use tokio::runtime::{Builder, Runtime};

use super::super::sensors::SensorHost;
use crate::cargo;
use crate::failure::{Failure, Result};

/// The Kubernetes namespace of podspan and the sensors.
pub(super) const NAMESPACE: &str = "shop";
/// The sensors' name: the value of `SENSOR`, and of their label `run`.
pub(super) const NAME: &str = "sensor";
/// The only rights that podspan gets.
pub(super) const ROLE: &str = "manifests/rbac/own-namespace";
/// The service account that the shipped Role is bound to.
const ACCOUNT: &str = "default";

/// A sensor and its pod.
#[derive(Debug, Clone)]
pub(super) struct SensorPod {
    pub(super) name: &'static str,
    pub(super) sensor: SensorHost,
}

/// A running control plane with its administrator.
pub(super) struct Cluster {
    /// Dropped before the runtime that its client uses.
    pods: Pods,
    runtime: Runtime,
    control_plane: ControlPlane,
    namespace: Namespace,
}

impl Cluster {
    /// Starts etcd and kube-apiserver on `host`.
    pub(super) fn start(host: &Host) -> Result<Self> {
        let namespace = host.namespace.clone();
        let control_plane = ControlPlane::start(Options {
            namespace: Some(namespace.clone()),
            address: host.ipv4.into(),
            ..Options::default()
        })?;
        control_plane.create_namespace(NAMESPACE)?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| Failure::system("starting a tokio runtime", source))?;
        let client = namespace.run(|| runtime.block_on(control_plane.client()))?;
        Ok(Self {
            pods: Pods::new(client, NAMESPACE),
            runtime,
            control_plane,
            namespace,
        })
    }

    /// `https://address:port`.
    pub(super) fn url(&self) -> String {
        format!("https://{}", self.control_plane.address())
    }

    /// Binds the shipped Role to podspan's service account, and returns a kubeconfig with a token of
    /// this account that is valid for `lifetime`.
    pub(super) fn credentials(&self, lifetime: Duration) -> Result<PathBuf> {
        let control_plane = &self.control_plane;
        let role = cargo::root().join(ROLE);
        control_plane.apply_text(&control_plane.kustomize(&role, NAMESPACE)?)?;
        let token = control_plane.request_token(NAMESPACE, ACCOUNT, lifetime)?;
        let path = control_plane.folder().join("podspan.token");
        fs::write(&path, token)
            .map_err(|source| Failure::system(format!("writing {}", path.display()), source))?;
        Ok(control_plane.write_token_kubeconfig("podspan", &path)?)
    }

    /// Creates the sensor's pod, which has its address and is not Ready.
    pub(super) fn create(&self, pod: &SensorPod) -> Result<()> {
        // A deleted pod without a node is removed at once.
        let draft = PodDraft::new(pod.name)
            .label("run", NAME)
            .node("node")
            .address(pod.sensor.address.ip());
        self.request(async { self.pods.create(&draft).await.map(drop) })
    }

    /// Makes it Ready.
    pub(super) fn make_ready(&self, pod: &SensorPod) -> Result<()> {
        self.request(async { self.pods.set_ready(pod.name, true).await.map(drop) })
    }

    /// Requests its deletion; it stays until it is removed.
    pub(super) fn begin_deletion(&self, pod: &SensorPod) -> Result<()> {
        self.request(self.pods.begin_deletion(pod.name))
    }

    /// Removes it.
    pub(super) fn remove(&self, pod: &SensorPod) -> Result<()> {
        self.request(self.pods.delete(pod.name))
    }

    /// Sends a request from the API server's network namespace.
    fn request(&self, request: impl Future<Output = Result<(), Error>> + Send) -> Result<()> {
        let answer = self.namespace.run(|| self.runtime.block_on(request));
        Ok(answer?)
    }
}
