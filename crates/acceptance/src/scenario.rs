//! A namespace of the cluster in which a test makes its objects.

use std::time::Duration;

use serde_json::Value;

use testbed::kind::{Cluster, Source};

use crate::error::{Error, Result};
use crate::images::Images;
use crate::manifests::Manifests;
use crate::objects::{get, until};

/// What the names of namespaces begin with in a cluster that is given by a kubeconfig.
const PREFIX: &str = "podspan-";

/// A namespace. Dropping it deletes the namespace, without waiting for the end of that.
#[derive(Debug)]
pub struct Scenario<'a> {
    cluster: &'a Cluster,
    namespace: String,
    images: Images,
}

impl<'a> Scenario<'a> {
    /// Makes the namespace, with `labels` such as `pod-security.kubernetes.io/enforce: baseline`. In a
    /// cluster of somebody else its name begins with `podspan-`. The images are those of the environment.
    ///
    /// # Errors
    /// When the API server refuses, or the namespace is there already; it is not touched then.
    pub fn new(cluster: &'a Cluster, namespace: &str, labels: &[(&str, &str)]) -> Result<Self> {
        Self::with_images(cluster, namespace, labels, Images::from_environment())
    }

    /// As [`Self::new`], with these images.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_images(
        cluster: &'a Cluster,
        namespace: &str,
        labels: &[(&str, &str)],
        images: Images,
    ) -> Result<Self> {
        let namespace = match cluster.source() {
            Source::Given if !namespace.starts_with(PREFIX) => format!("{PREFIX}{namespace}"),
            _ => namespace.to_owned(),
        };
        cluster.kubectl(&["create", "namespace", &namespace])?;
        // From here on it is this scenario's, and is deleted with it.
        let scenario = Self {
            cluster,
            namespace,
            images,
        };
        let namespace = scenario.namespace();
        for (name, value) in labels {
            let label = format!("{name}={value}");
            cluster.kubectl(&["label", "namespace", namespace, &label])?;
        }
        // Pods made before their service account exists are refused.
        let account = ["-n", namespace, "serviceaccount", "default"];
        until(
            "the service account default",
            Duration::from_secs(30),
            || {
                Ok(get(cluster, &account)
                    .map(drop)
                    .map_err(|error| error.to_string()))
            },
        )?;
        Ok(scenario)
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// The namespace's name.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The images.
    #[must_use]
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// An empty overlay for this namespace.
    #[must_use]
    pub fn manifests(&self) -> Manifests {
        Manifests::new(&self.namespace, &self.images)
    }

    /// Runs kubectl in this namespace.
    ///
    /// # Errors
    /// [`Error::Cluster`] with its standard error when it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let namespace = format!("--namespace={}", self.namespace);
        // Behind `--` stands the command of a pod.
        Ok(self
            .cluster
            .kubectl(&[&[namespace.as_str()], arguments].concat())?)
    }

    /// Applies YAML in this namespace.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn apply(&self, yaml: &str) -> Result<()> {
        let arguments = ["-n", &self.namespace, "apply", "-f", "-"];
        self.cluster.kubectl_with_input(&arguments, yaml)?;
        Ok(())
    }

    /// Renders an overlay and applies it.
    ///
    /// # Errors
    /// As [`Manifests::render`] and [`Self::apply`].
    pub fn apply_manifests(&self, manifests: &Manifests) -> Result<()> {
        self.apply(&manifests.render(self.cluster)?)
    }

    /// Waits until the roll-outs of `objects`, such as `deployment/web`, are complete.
    ///
    /// # Errors
    /// When one is not within `limit`, with the state of the namespace's pods.
    pub fn rolled_out(&self, objects: &[&str], limit: Duration) -> Result<()> {
        let timeout = format!("--timeout={}s", limit.as_secs());
        for object in objects {
            self.kubectl(&["rollout", "status", &timeout, object])
                .map_err(|error| self.with_pods(&error))?;
        }
        Ok(())
    }

    /// The pods with a label, such as `app=web`, which are not being deleted.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn pods(&self, selector: &str) -> Result<Vec<Value>> {
        let list = get(
            self.cluster,
            &["-n", &self.namespace, "pods", "-l", selector],
        )?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let stays = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_null();
        Ok(items.into_iter().filter(stays).collect())
    }

    /// The names of the pods with a label.
    ///
    /// # Errors
    /// As [`Self::pods`].
    pub fn pod_names(&self, selector: &str) -> Result<Vec<String>> {
        let pods = self.pods(selector)?;
        Ok(pods
            .iter()
            .map(|pod| text(&pod["metadata"]["name"]))
            .collect())
    }

    /// The log of a container.
    ///
    /// # Errors
    /// When there is no such container, or it has not started.
    pub fn logs(&self, pod: &str, container: &str) -> Result<String> {
        self.kubectl(&["logs", pod, "-c", container])
    }

    /// Waits until a container's log holds `text`, and returns the log.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the log.
    pub fn logged(
        &self,
        pod: &str,
        container: &str,
        text: &str,
        limit: Duration,
    ) -> Result<String> {
        until(
            &format!("{text:?} in the log of {pod}/{container}"),
            limit,
            || {
                let log = match self.logs(pod, container) {
                    Ok(log) => log,
                    Err(error) => return Ok(Err(error.to_string())),
                };
                Ok(if log.contains(text) {
                    Ok(log)
                } else {
                    Err(log)
                })
            },
        )
    }

    /// Waits until podspan in a pod has a sensor.
    ///
    /// # Errors
    /// [`Error::Timeout`] with podspan's log.
    pub fn mirrors(&self, pod: &str, limit: Duration) -> Result<()> {
        let has_sensor =
            |log: &str| log.contains("usable sensors: ") || log.contains(" sensor address=");
        until(&format!("a sensor for {pod}"), limit, || {
            let log = match self.logs(pod, "podspan") {
                Ok(log) => log,
                Err(error) => return Ok(Err(error.to_string())),
            };
            Ok(if has_sensor(&log) { Ok(()) } else { Err(log) })
        })
    }

    fn with_pods(&self, error: &Error) -> Error {
        let pods = self
            .kubectl(&["get", "pods", "-o", "wide"])
            .unwrap_or_default();
        let events = self
            .kubectl(&["get", "events", "--sort-by=.lastTimestamp"])
            .unwrap_or_default();
        Error::unexpected(error.to_string(), format!("\n{pods}\n{events}"))
    }
}

impl Drop for Scenario<'_> {
    fn drop(&mut self) {
        let arguments = ["delete", "namespace", &self.namespace, "--wait=false"];
        // The cluster is taken down at the end in any case.
        let _ = self.cluster.kubectl(&arguments);
    }
}

/// A JSON string; empty where it is none.
#[must_use]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
