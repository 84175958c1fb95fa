//! The annotations of podspan's own pod, while podspan runs.
//!
//! In: a valid [`Config`] and the machine's host name. Out: each change of the annotations, from the API
//! server or from the file in `ANNOTATIONS`. If the control side is slow, only the last state is kept.
//!
//! The API server is asked in every pod, and outside of a cluster only if `POD_NAME` says which pod is meant.
//! With a file or `off` in `ANNOTATIONS` it is not asked.

use std::path::PathBuf;

use discovery::{OwnAnnotations, OwnPodSettings, Timing, follow_annotations_file, watch_own_pod};
use nix::sys::utsname::uname;
use tokio::sync::watch;

use crate::sensor_lists::source;
use settings::{Annotations, Config, Namespace, ObjectName, PodUid, Value as _};

/// The changes of the annotations.
pub(crate) struct OwnAnnotationChanges(watch::Receiver<OwnAnnotations>);

impl OwnAnnotationChanges {
    /// Starts to follow the annotations; `None` if nothing says where they are. Must be called within the
    /// runtime.
    pub(crate) fn follow(config: &Config) -> Option<Self> {
        let (changes, last) = watch::channel(OwnAnnotations::default());
        // It fails when the control side has ended, which then needs no annotations.
        let publish = move |annotations| drop(changes.send(annotations));
        match origin(config, host_name().as_deref())? {
            Origin::File(path) => drop(tokio::spawn(follow_annotations_file(path, publish))),
            Origin::ApiServer(pod) => {
                drop(tokio::spawn(watch_own_pod(pod, source(config), publish)));
            }
        }
        Some(Self(last))
    }

    /// Waits for the next change.
    pub(crate) async fn next(&mut self) -> OwnAnnotations {
        // Only a panic ends the task, and in the release build a panic ends the process.
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.0.borrow_and_update().clone()
    }
}

/// Where the annotations are.
#[derive(Debug, PartialEq, Eq)]
enum Origin {
    File(PathBuf),
    ApiServer(OwnPodSettings),
}

/// In a pod without `hostNetwork`, the host's name is the pod's name.
fn origin(config: &Config, host_name: Option<&str>) -> Option<Origin> {
    match &config.annotations {
        Annotations::File(path) => return Some(Origin::File(path.into())),
        Annotations::Off => return None,
        Annotations::Api => {}
    }
    let name = match &config.pod_name {
        Some(name) => name.clone(),
        None if config.kubernetes_service_host.is_none() => return None,
        None => ObjectName::parse(host_name?).ok()?,
    };
    let text = |text: Option<&str>| text.map(str::to_owned);
    Some(Origin::ApiServer(OwnPodSettings {
        name: name.as_str().to_owned(),
        namespace: text(config.pod_namespace.as_ref().map(Namespace::as_str)),
        uid: text(config.pod_uid.as_ref().map(PodUid::as_str)),
        timing: Timing::default(),
    }))
}

fn host_name() -> Option<String> {
    uname().ok()?.nodename().to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin_of(variables: &[(&str, &str)], host_name: &str) -> Option<Origin> {
        let all = [("SENSOR", "192.0.2.1")].iter().chain(variables);
        let all = all.map(|(name, value)| (name.into(), value.into()));
        origin(&Config::from_vars(all).unwrap(), Some(host_name))
    }

    fn pod(name: &str, namespace: Option<&str>, uid: Option<&str>) -> Origin {
        let [namespace, uid] = [namespace, uid].map(|text| text.map(str::to_owned));
        Origin::ApiServer(OwnPodSettings {
            name: name.to_owned(),
            namespace,
            uid,
            timing: Timing::default(),
        })
    }

    const IN_CLUSTER: (&str, &str) = ("KUBERNETES_SERVICE_HOST", "10.96.0.1");

    #[test]
    fn in_a_pod_the_api_server_is_asked_for_the_pod_of_this_host() {
        assert_eq!(
            origin_of(&[IN_CLUSTER], "cart-1"),
            Some(pod("cart-1", None, None))
        );
        let all = [
            IN_CLUSTER,
            ("POD_NAME", "cart-2"),
            ("POD_NAMESPACE", "shop"),
            ("POD_UID", "u-1"),
        ];
        assert_eq!(
            origin_of(&all, "node"),
            Some(pod("cart-2", Some("shop"), Some("u-1")))
        );
        assert_eq!(origin_of(&[IN_CLUSTER], "NOT_A_POD"), None);
    }

    #[test]
    fn outside_of_a_cluster_the_api_server_is_asked_only_with_pod_name() {
        assert_eq!(origin_of(&[], "laptop"), None);
        assert_eq!(origin_of(&[("KUBECONFIG", "/k")], "laptop"), None);
        assert_eq!(
            origin_of(&[("POD_NAME", "cart-1")], "laptop"),
            Some(pod("cart-1", None, None))
        );
    }

    #[test]
    fn with_off_nobody_is_asked() {
        let variables = [IN_CLUSTER, ("POD_NAME", "cart-1"), ("ANNOTATIONS", "off")];
        assert_eq!(origin_of(&variables, "cart-1"), None);
    }

    #[test]
    fn with_a_file_the_api_server_is_not_asked() {
        let file = ("ANNOTATIONS", "/etc/podspan/annotations");
        for variables in [&[file] as &[_], &[IN_CLUSTER, ("POD_NAME", "cart-1"), file]] {
            let expected = Origin::File("/etc/podspan/annotations".into());
            assert_eq!(origin_of(variables, "cart-1"), Some(expected));
        }
    }
}
