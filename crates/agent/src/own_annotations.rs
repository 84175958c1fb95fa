//! The annotations of podspan's own pod, while podspan runs.
//!
//! In: a valid [`Config`] and the machine's host name. Out: each change of the annotations, from the API
//! server or from the file in `ANNOTATIONS`. If the control side is slow, only the last state is kept.
//!
//! The API server is asked in every pod, and outside of a cluster only if `POD_NAME` says which pod is meant.
//! With a file or `off` in `ANNOTATIONS` it is not asked.

use std::net::IpAddr;
use std::path::PathBuf;

use discovery::{
    OwnAnnotations, OwnPodSettings, SharedContact, Timing, follow_annotations_file, watch_own_pod,
};
use nix::sys::utsname::uname;
use tokio::sync::watch;

use crate::sensor_lists::{own_addresses, source};
use settings::{Annotations, Config, Namespace, ObjectName, PodUid, Value as _};

/// The changes of the annotations.
pub(crate) struct OwnAnnotationChanges {
    changes: watch::Receiver<OwnAnnotations>,
    /// `None` if the API server is not asked.
    contact: Option<SharedContact>,
}

impl OwnAnnotationChanges {
    /// Starts to follow the annotations; `None` if nothing says where they are. Must be called within the
    /// runtime.
    pub(crate) fn follow(config: &Config) -> Option<Self> {
        let (changes, last) = watch::channel(OwnAnnotations::default());
        // It fails when the control side has ended, which then needs no annotations.
        let publish = move |annotations| drop(changes.send(annotations));
        let contact = match origin(config, host_name().as_deref(), own_addresses)? {
            Origin::File(path) => {
                drop(tokio::spawn(follow_annotations_file(path, publish)));
                None
            }
            Origin::ApiServer(pod) => {
                let contact = SharedContact::default();
                let watched = watch_own_pod(pod, source(config), contact.clone(), publish);
                drop(tokio::spawn(watched));
                Some(contact)
            }
        };
        Some(Self {
            changes: last,
            contact,
        })
    }

    /// What is known of the API server, if it is asked.
    pub(crate) fn contact(&self) -> Option<SharedContact> {
        self.contact.clone()
    }

    /// Waits for the next change.
    pub(crate) async fn next(&mut self) -> OwnAnnotations {
        // Only a panic ends the task, and in the release build a panic ends the process.
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.changes.borrow_and_update().clone()
    }
}

/// Where the annotations are.
#[derive(Debug, PartialEq, Eq)]
enum Origin {
    File(PathBuf),
    ApiServer(OwnPodSettings),
}

/// In a pod without `hostNetwork` and `spec.hostname`, the host's name is the pod's name.
fn origin(
    config: &Config,
    host_name: Option<&str>,
    own_addresses: impl FnOnce() -> Vec<IpAddr>,
) -> Option<Origin> {
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
    let is_certain = config.pod_name.is_some() || config.pod_uid.is_some();
    let text = |text: Option<&str>| text.map(str::to_owned);
    Some(Origin::ApiServer(OwnPodSettings {
        name: name.as_str().to_owned(),
        namespace: text(config.pod_namespace.as_ref().map(Namespace::as_str)),
        uid: text(config.pod_uid.as_ref().map(PodUid::as_str)),
        addresses: (!is_certain).then(own_addresses),
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
        origin(&Config::from_vars(all).unwrap(), Some(host_name), || {
            vec![ADDRESS]
        })
    }

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7));

    /// The pod; `is_certain` if its address is not needed.
    fn pod(name: &str, namespace: Option<&str>, uid: Option<&str>, is_certain: bool) -> Origin {
        let [namespace, uid] = [namespace, uid].map(|text| text.map(str::to_owned));
        Origin::ApiServer(OwnPodSettings {
            name: name.to_owned(),
            namespace,
            uid,
            addresses: (!is_certain).then(|| vec![ADDRESS]),
            timing: Timing::default(),
        })
    }

    const IN_CLUSTER: (&str, &str) = ("KUBERNETES_SERVICE_HOST", "10.96.0.1");

    #[test]
    fn in_a_pod_the_api_server_is_asked_for_the_pod_of_this_host() {
        assert_eq!(
            origin_of(&[IN_CLUSTER], "cart-1"),
            Some(pod("cart-1", None, None, false))
        );
        let uid = [IN_CLUSTER, ("POD_UID", "u-1")];
        assert_eq!(
            origin_of(&uid, "cart-1"),
            Some(pod("cart-1", None, Some("u-1"), true))
        );
        let all = [
            IN_CLUSTER,
            ("POD_NAME", "cart-2"),
            ("POD_NAMESPACE", "shop"),
            ("POD_UID", "u-1"),
        ];
        assert_eq!(
            origin_of(&all, "node"),
            Some(pod("cart-2", Some("shop"), Some("u-1"), true))
        );
        assert_eq!(origin_of(&[IN_CLUSTER], "NOT_A_POD"), None);
    }

    #[test]
    fn outside_of_a_cluster_the_api_server_is_asked_only_with_pod_name() {
        assert_eq!(origin_of(&[], "laptop"), None);
        assert_eq!(origin_of(&[("KUBECONFIG", "/k")], "laptop"), None);
        assert_eq!(
            origin_of(&[("POD_NAME", "cart-1")], "laptop"),
            Some(pod("cart-1", None, None, true))
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
