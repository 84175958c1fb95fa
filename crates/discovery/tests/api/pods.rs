//! Pods are created, changed and deleted.

use std::net::Ipv4Addr;
use std::time::Duration;

use discovery::{Scope, Settings};
use settings::Receiver;
use testbed::kubernetes::{ControlPlane, PodDraft};

use crate::finder::{Finder, settings};
use crate::{Admin, Outcome, grant, namespace};

/// A usable sensor.
pub(crate) fn sensor(name: &str, last: u8) -> PodDraft {
    PodDraft::new(name)
        .label("run", "zeek")
        .node("node-1")
        .address(Ipv4Addr::new(10, 1, 0, last))
        .ready()
}

pub(crate) fn come_and_go(control_plane: &ControlPlane) -> Outcome {
    let source = namespace(control_plane, "come-and-go")?;
    let admin = Admin::new(control_plane);
    let pods = admin.pods("come-and-go");
    let finder = Finder::start(settings(Scope::Own), source);
    finder.until(&[]);

    admin.run(pods.create(&sensor("a", 1)))?;
    let time = finder.until(&["10.1.0.1:4789"]);
    assert!(time < Duration::from_secs(1), "a new sensor after {time:?}");
    let declared = sensor("b", 2)
        .annotation("podspan.dev/port", "9000")
        .annotation("podspan.dev/receiver", "socket");
    admin.run(pods.create(&declared))?;
    finder.until(&["10.1.0.1:4789", "10.1.0.2:9000"]);
    let (_, list) = finder.lists().pop().unwrap();
    assert_eq!(list.sensors[0].receiver, Receiver::Sniffer);
    assert_eq!(list.sensors[1].receiver, Receiver::Socket);
    assert_eq!(list.sensors[1].pod, "come-and-go/b");

    admin.run(pods.set_ready("a", false))?;
    let time = finder.until(&["10.1.0.2:9000"]);
    assert!(
        time < Duration::from_secs(1),
        "a sensor removed after {time:?}"
    );
    admin.run(pods.set_ready("a", true))?;
    finder.until(&["10.1.0.1:4789", "10.1.0.2:9000"]);
    admin.run(pods.set_annotation("b", "podspan.dev/port", None))?;
    finder.until(&["10.1.0.1:4789", "10.1.0.2:4789"]);

    admin.run(pods.begin_deletion("a"))?;
    finder.until(&["10.1.0.2:4789"]);
    finder.until_logged(&["come-and-go/a", "being deleted"]);
    admin.run(pods.set_label("b", "run", Some("other")))?;
    finder.until(&[]);
    finder.until_logged(&["WARN", "no sensor", "run=zeek", "namespace come-and-go"]);
    admin.run(pods.set_label("b", "run", Some("zeek")))?;
    finder.until(&["10.1.0.2:4789"]);
    admin.run(pods.delete("b"))?;
    admin.run(pods.delete("a"))?;
    finder.until(&[]);
    assert_eq!(finder.times_logged("discovery: "), 1, "{}", finder.log());
    Ok(())
}

pub(crate) fn unusable(control_plane: &ControlPlane) -> Outcome {
    let source = namespace(control_plane, "unusable")?;
    let admin = Admin::new(control_plane);
    let pods = admin.pods("unusable");
    let own = admin.run(pods.create(&sensor("own", 1)))?;
    let mut settings = settings(Scope::Own);
    settings.own_pod.uid = own.metadata.uid;
    settings.families.ipv6 = false;
    let finder = Finder::start(settings, source);
    finder.until(&[]);
    finder.until_logged(&["WARN", "unusable/own", "podspan itself"]);

    let plain = |name: &str| PodDraft::new(name).label("run", "zeek").node("node-1");
    admin.run(pods.create(&plain("pending")))?;
    finder.until_logged(&["INFO", "unusable/pending", "phase is Pending"]);
    admin.run(pods.create(&plain("no-address").ready()))?;
    finder.until_logged(&["INFO", "unusable/no-address", "no IP address yet"]);
    let ipv6 = plain("ipv6").address("fd00::1".parse::<std::net::Ipv6Addr>()?);
    admin.run(pods.create(&ipv6.ready()))?;
    finder.until_logged(&["WARN", "unusable/ipv6", "fd00::1", "family"]);
    let bad = sensor("bad", 2).annotation("podspan.dev/port", "70000");
    admin.run(pods.create(&bad))?;
    finder.until_logged(&["WARN", "unusable/bad", "70000", "1 to 65535"]);
    let tap = sensor("tap", 3).annotation("podspan.dev/receiver", "tap");
    admin.run(pods.create(&tap))?;
    finder.until_logged(&["WARN", "unusable/tap", "used as a sniffer"]);
    finder.until(&["10.1.0.3:4789"]);

    // More events of the same pods log nothing new.
    for number in 0..5 {
        let value = number.to_string();
        for name in ["own", "pending", "no-address", "ipv6", "bad", "tap"] {
            admin.run(pods.set_annotation(name, "other", Some(&value)))?;
        }
    }
    admin.run(pods.create(&sensor("last", 4)))?;
    finder.until(&["10.1.0.3:4789", "10.1.0.4:4789"]);
    // An INFO line that a new pod is Pending may come first.
    for name in ["own", "ipv6", "bad", "tap"] {
        let pod = format!("pod=unusable/{name}");
        let log = finder.log();
        let of_pod = log.lines().filter(|line| line.contains(&pod));
        let warnings = of_pod.filter(|line| line.contains("WARN")).count();
        assert_eq!(warnings, 1, "{pod}: {log}");
    }
    // One reason ends, and another one begins.
    admin.run(pods.set_annotation("bad", "podspan.dev/port", Some("4790")))?;
    finder.until(&["10.1.0.2:4790", "10.1.0.3:4789", "10.1.0.4:4789"]);
    admin.run(pods.set_ready("bad", false))?;
    finder.until_logged(&["INFO", "unusable/bad", "not Ready"]);
    Ok(())
}

pub(crate) fn scopes(control_plane: &ControlPlane) -> Outcome {
    let source = namespace(control_plane, "scope-own")?;
    control_plane.create_namespace("scope-other")?;
    let admin = Admin::new(control_plane);
    // A separate name: one of the finders searches the namespaces of all cases.
    let same = |last| sensor("same", last).label("run", "scopes");
    let settings = |scope| Settings {
        name: "scopes".to_owned(),
        ..settings(scope)
    };
    let on_host = same(1).host_network();
    admin.run(admin.pods("scope-own").create(&on_host))?;
    admin.run(admin.pods("scope-other").create(&same(2)))?;
    // As the administrator, who has all rights; other cases test the rights.
    let kubeconfig = || discovery::ClientSource::Kubeconfig(Some(control_plane.admin_kubeconfig()));
    let own = Finder::start(settings(Scope::Own), source);
    let other = Scope::Namespace("scope-other".to_owned());
    let other = Finder::start(settings(other), kubeconfig());
    let mut by_identity = settings(Scope::Own);
    by_identity.own_pod.namespace = Some("scope-other".to_owned());
    let by_identity = Finder::start(by_identity, kubeconfig());
    own.until(&["10.1.0.1:4789"]);
    other.until(&["10.1.0.2:4789"]);
    by_identity.until(&["10.1.0.2:4789"]);
    let all = Finder::start(settings(Scope::All), kubeconfig());
    all.until(&["10.1.0.1:4789", "10.1.0.2:4789"]);
    all.until_logged(&["in all namespaces"]);
    all.until_logged(&["scope-own/same", "scope-other/same"]);
    assert_eq!(own.lists().len(), 1);
    Ok(())
}

/// Creates a namespace with a Role of these verbs.
pub(crate) fn with_verbs(
    control_plane: &ControlPlane,
    namespace: &str,
    verbs: &[&str],
) -> Result<discovery::ClientSource, libtest_mimic::Failed> {
    control_plane.create_namespace(namespace)?;
    grant(control_plane, namespace, verbs)?;
    crate::credentials(control_plane, namespace)
}
