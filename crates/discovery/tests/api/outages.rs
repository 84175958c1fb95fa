//! The API server fails in every possible way. The list stays, and is correct soon after its return.

use std::thread;
use std::time::{Duration, Instant};

use discovery::{ClientSource, Scope};
use libtest_mimic::Failed;
use serde_json::json;
use testbed::kubernetes::{Component, ControlPlane, Options};

use crate::finder::{Finder, TIMEOUT, settings};
use crate::pods::{sensor, with_verbs};
use crate::proxy::Proxy;
use crate::{Admin, Outcome, credentials_folder, in_cluster, namespace, rights};

/// The maximum time from the API server's return to a correct list.
const RECOVERY_TIME: Duration = Duration::from_secs(2);

/// A namespace with one sensor, and a finder that has found it, behind a proxy.
fn watching(control_plane: &ControlPlane, name: &str) -> Result<(Finder, Proxy), Failed> {
    namespace(control_plane, name)?;
    let admin = Admin::new(control_plane);
    admin.run(admin.pods(name).create(&sensor("a", 1)))?;
    let proxy = Proxy::start(control_plane.address())?;
    let source = in_cluster(proxy.port(), credentials_folder(control_plane, name));
    let finder = Finder::start(settings(Scope::Own), source);
    finder.until(&["10.1.0.1:4789"]);
    Ok((finder, proxy))
}

pub(crate) fn cut_path(control_plane: &ControlPlane) -> Outcome {
    let (finder, proxy) = watching(control_plane, "cut")?;
    proxy.cut();
    finder.until_logged(&["WARN", "last known sensors stay"]);
    let admin = Admin::new(control_plane);
    admin.run(admin.pods("cut").create(&sensor("b", 2)))?;
    admin.run(admin.pods("cut").delete("a"))?;
    thread::sleep(Duration::from_secs(2));
    assert_eq!(finder.addresses().unwrap(), ["10.1.0.1:4789"]);
    proxy.restore();
    let time = finder.until(&["10.1.0.2:4789"]);
    assert!(time < RECOVERY_TIME, "correct after {time:?}");
    finder.until_logged(&["INFO", "answers again"]);
    finder.assert_never_empty_after(0);
    Ok(())
}

pub(crate) fn killed(control_plane: &mut ControlPlane) -> Outcome {
    let (finder, _proxy) = watching(control_plane, "killed")?;
    let source = in_cluster(
        control_plane.address().port(),
        credentials_folder(control_plane, "killed"),
    );
    let direct = Finder::start(settings(Scope::Own), source);
    direct.until(&["10.1.0.1:4789"]);
    control_plane.kill(Component::ApiServer)?;
    direct.until_logged(&["WARN", "cannot be reached", "last known sensors stay"]);
    thread::sleep(Duration::from_secs(3));
    control_plane.launch(Component::ApiServer)?;
    let returned = Instant::now();
    let admin = Admin::new(control_plane);
    admin.run(admin.pods("killed").create(&sensor("b", 2)))?;
    admin.run(admin.pods("killed").delete("a"))?;
    for finder in [&direct, &finder] {
        finder.until(&["10.1.0.2:4789"]);
        let time = returned.elapsed();
        assert!(
            time < RECOVERY_TIME,
            "correct after {time:?}; the log:\n{}",
            finder.log()
        );
        finder.until_logged(&["INFO", "answers again"]);
        finder.assert_never_empty_after(0);
        assert_eq!(finder.times_logged("(403)"), 0, "{}", finder.log());
    }
    Ok(())
}

pub(crate) fn frozen(control_plane: &mut ControlPlane) -> Outcome {
    let (finder, _proxy) = watching(control_plane, "frozen")?;
    control_plane.freeze(Component::ApiServer)?;
    let frozen = Instant::now();
    finder.until_logged(&["WARN", "does not answer", "last known sensors stay"]);
    // A watch of 2 s, which may end 5 s late.
    assert!(
        frozen.elapsed() < Duration::from_secs(9),
        "{:?}",
        frozen.elapsed()
    );
    // Meanwhile podspan tries a new connection, which hangs too.
    thread::sleep(Duration::from_secs(4));
    assert_eq!(finder.addresses().unwrap(), ["10.1.0.1:4789"]);
    control_plane.thaw(Component::ApiServer)?;
    let admin = Admin::new(control_plane);
    admin.run(admin.pods("frozen").create(&sensor("b", 2)))?;
    finder.until(&["10.1.0.1:4789", "10.1.0.2:4789"]);
    finder.until_logged(&["INFO", "answers again"]);
    finder.assert_never_empty_after(0);
    assert_eq!(finder.lists().len(), 2, "{}", finder.log());
    Ok(())
}

pub(crate) fn compaction(control_plane: &mut ControlPlane) -> Outcome {
    let (finder, proxy) = watching(control_plane, "compacted")?;
    proxy.cut();
    finder.until_logged(&["WARN", "last known sensors stay"]);
    let admin = Admin::new(control_plane);
    admin.run(admin.pods("compacted").create(&sensor("b", 2)))?;
    admin.run(admin.pods("compacted").delete("a"))?;
    control_plane.compact()?;
    // The watch cache still has the later events, so restart the API server.
    control_plane.kill(Component::ApiServer)?;
    control_plane.launch(Component::ApiServer)?;
    let before = finder.lists().len();
    proxy.restore();
    let time = finder.until(&["10.1.0.2:4789"]);
    assert!(time < RECOVERY_TIME, "correct after {time:?}");
    finder.assert_never_empty_after(0);
    assert_eq!(finder.lists().len(), before + 1, "{}", finder.log());
    // The API server no longer had the events. An operator has nothing to do, so it is a debug line.
    assert_eq!(
        finder.times_logged_at_debug("no longer has the events since the last list (410)"),
        1
    );
    assert_eq!(finder.times_logged("(410)"), 0, "{}", finder.log());
    Ok(())
}

pub(crate) fn without_etcd(control_plane: &mut ControlPlane) -> Outcome {
    let (finder, _proxy) = watching(control_plane, "etcd")?;
    let folder = credentials_folder(control_plane, "etcd");
    control_plane.kill(Component::Etcd)?;
    let source = in_cluster(control_plane.address().port(), folder);
    // Longer than the API server's own time limit.
    let mut slow = settings(Scope::Own);
    slow.timing.answer_timeout = Duration::from_secs(15);
    let late = Finder::start(slow, source);
    late.until_logged(&["WARN", "fails (500", "check its log and etcd's health"]);
    thread::sleep(Duration::from_secs(2));
    assert!(
        late.lists().is_empty(),
        "no list can be complete without etcd"
    );
    control_plane.launch(Component::Etcd)?;
    late.until(&["10.1.0.1:4789"]);
    let admin = Admin::new(control_plane);
    admin.run(admin.pods("etcd").create(&sensor("b", 2)))?;
    for finder in [&finder, &late] {
        finder.until(&["10.1.0.1:4789", "10.1.0.2:4789"]);
        finder.assert_never_empty_after(0);
    }
    Ok(())
}

/// A real 429: the service account gets a priority level without seats and queues. Such a level still
/// allows one request at a time, and a request that waits for a frozen etcd lasts long.
pub(crate) fn throttled(control_plane: &mut ControlPlane) -> Outcome {
    let (finder, _proxy) = watching(control_plane, "throttled")?;
    let api = "flowcontrol.apiserver.k8s.io/v1";
    let level = json!({
        "apiVersion": api, "kind": "PriorityLevelConfiguration", "metadata": {"name": "no-seats"},
        "spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Reject"}}},
    });
    let rule = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]});
    let account = json!({"kind": "ServiceAccount",
        "serviceAccount": {"name": "default", "namespace": "throttled"}});
    let schema = json!({
        "apiVersion": api, "kind": "FlowSchema", "metadata": {"name": "no-seats"},
        "spec": {"priorityLevelConfiguration": {"name": "no-seats"}, "matchingPrecedence": 2,
                 "rules": [{"subjects": [account], "resourceRules": [rule]}]},
    });
    control_plane.apply(&level)?;
    control_plane.apply(&schema)?;
    // Until the API server has loaded them.
    thread::sleep(Duration::from_secs(2));
    let folder = credentials_folder(control_plane, "throttled");
    let source = in_cluster(control_plane.address().port(), folder);
    control_plane.freeze(Component::Etcd)?;
    let others = [(); 3].map(|()| Finder::start(settings(Scope::Own), source.clone()));
    let start = Instant::now();
    let throttled = loop {
        if let Some(finder) = others.iter().find(|other| other.times_logged("(429)") > 0) {
            break finder;
        }
        assert!(start.elapsed() < TIMEOUT, "no 429: {}", others[0].log());
        thread::sleep(Duration::from_millis(10));
    };
    throttled.until_logged(&["WARN", "(429)", "try again in 1s", "FlowSchema"]);
    control_plane.thaw(Component::Etcd)?;
    control_plane.kubectl(["delete", "flowschema", "no-seats"])?;
    for finder in others.iter().chain([&finder]) {
        finder.until(&["10.1.0.1:4789"]);
        finder.assert_never_empty_after(0);
    }
    Ok(())
}

/// Without the feature `WatchList` the API server refuses a streaming list (422). podspan requests lists
/// in pages, and needs both verbs.
pub(crate) fn no_streaming() -> Outcome {
    let control_plane = &ControlPlane::start(Options {
        apiserver_flags: vec!["--feature-gates=WatchList=false".to_owned()],
        ..Options::default()
    })?;
    let admin = Admin::new(control_plane);
    for (name, verb, missing) in [
        ("only-watch", "watch", "the verb list is missing"),
        ("only-list", "list", "the verb watch is missing"),
    ] {
        let source: ClientSource = with_verbs(control_plane, name, &[verb])?;
        let pods = admin.pods(name);
        admin.run(pods.create(&sensor("a", 1)))?;
        let finder = Finder::start(settings(Scope::Own), source);
        let log = finder.until_logged(&["WARN", "(403)", missing]);
        control_plane.apply_text(&rights::printed(&log)?)?;
        finder.until(&["10.1.0.1:4789"]);
        finder.until_logged(&["INFO", "watching the pods"]);
        admin.run(pods.create(&sensor("b", 2)))?;
        finder.until(&["10.1.0.1:4789", "10.1.0.2:4789"]);
        admin.run(pods.delete("a"))?;
        let time = finder.until(&["10.1.0.2:4789"]);
        assert!(time < RECOVERY_TIME, "a sensor removed after {time:?}");
        finder.assert_never_empty_after(0);
    }
    Ok(())
}
