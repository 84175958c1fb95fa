//! Pods as a test drafts them, in the real API.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use testbed::kubernetes::{ControlPlane, PodDraft, Pods};

use crate::{Outcome, block_on};

pub(crate) fn drafted(control_plane: &ControlPlane) -> Outcome {
    block_on(control_plane.namespace().unwrap(), async || {
        let pods = Pods::new(control_plane.client().await?, "default");
        let v4 = IpAddr::from(Ipv4Addr::new(10, 1, 2, 3));
        let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
        let draft = PodDraft::new("sensor-0")
            .label("run", "sensor")
            .annotation("podspan.dev/port", "4790")
            .node("node-1")
            .address(v4)
            .address(v6)
            .ready();
        let pod = pods.create(&draft).await?;
        assert_eq!(seen(&pod), (vec![v4, v6], Some(true)));
        assert_eq!(pod.labels()["run"], "sensor");
        assert_eq!(pod.annotations()["podspan.dev/port"], "4790");
        assert_eq!(
            pod.spec.as_ref().unwrap().node_name.as_deref(),
            Some("node-1")
        );

        let pod = pods.set_ready("sensor-0", false).await?;
        assert_eq!(seen(&pod), (vec![v4, v6], Some(false)));
        let pod = pods.set_addresses("sensor-0", &[v6]).await?;
        assert_eq!(seen(&pod), (vec![v6], Some(false)));
        let pod = pods.set_addresses("sensor-0", &[]).await?;
        assert_eq!(seen(&pod), (vec![], Some(false)));
        let pod = pods.set_label("sensor-0", "run", None).await?;
        assert!(!pod.labels().contains_key("run"));
        let pod = pods
            .set_annotation("sensor-0", "podspan.dev/port", Some("1"))
            .await?;
        assert_eq!(pod.annotations()["podspan.dev/port"], "1");

        pods.begin_deletion("sensor-0").await?;
        let pod = pods.api().get("sensor-0").await?;
        assert!(pod.metadata.deletion_timestamp.is_some());
        pods.delete("sensor-0").await?;
        assert!(pods.api().get_opt("sensor-0").await?.is_none());

        let host = PodDraft::new("sensor-1")
            .node("node-2")
            .host_network()
            .address(v4)
            .ready();
        let pod = pods.create(&host).await?;
        assert_eq!(pod.spec.as_ref().unwrap().host_network, Some(true));
        let bare = pods.create(&PodDraft::new("sensor-2")).await?;
        assert_eq!(seen(&bare), (vec![], None));
        pods.begin_deletion("sensor-2").await?;
        assert!(
            pods.api().get_opt("sensor-2").await?.is_none(),
            "it was on no node"
        );
        Ok(())
    })
}

/// A pod's addresses, and whether it is Ready.
fn seen(pod: &Pod) -> (Vec<IpAddr>, Option<bool>) {
    let status = pod.status.clone().unwrap_or_default();
    let addresses = status.pod_ips.unwrap_or_default();
    let addresses = addresses
        .iter()
        .map(|entry| entry.ip.parse().unwrap())
        .collect();
    let conditions = status.conditions.unwrap_or_default();
    let ready = conditions
        .iter()
        .find(|condition| condition.type_ == "Ready");
    (addresses, ready.map(|condition| condition.status == "True"))
}
