//! Many events, and many pods without the label.

use std::time::Duration;

use discovery::Scope;
use futures_util::{StreamExt, TryStreamExt, stream};
use testbed::kubernetes::{ControlPlane, PodDraft};

use crate::finder::{Finder, settings};
use crate::pods::sensor;
use crate::proxy::Proxy;
use crate::{Admin, Outcome, credentials_folder, in_cluster, namespace};

/// The number of parallel requests.
const PARALLEL: usize = 32;

pub(crate) fn burst(control_plane: &ControlPlane) -> Outcome {
    let source = namespace(control_plane, "burst")?;
    let admin = Admin::new(control_plane);
    let pods = &admin.pods("burst");
    for number in 1..=4 {
        admin.run(pods.create(&sensor(&format!("s{number}"), number)))?;
    }
    let finder = Finder::start(settings(Scope::Own), source);
    finder.until(&[
        "10.1.0.1:4789",
        "10.1.0.2:4789",
        "10.1.0.3:4789",
        "10.1.0.4:4789",
    ]);
    let first = finder.lists().len();
    let change = |number: usize| async move {
        let pod = format!("s{}", 1 + number % 4);
        let port = (5000 + number).to_string();
        pods.set_annotation(&pod, "podspan.dev/port", Some(&port))
            .await
            .map(drop)
    };
    // The pods are changed in parallel, and each pod in order.
    let changes = stream::iter(0..4).map(|pod| async move {
        for number in (pod..1000).step_by(4) {
            change(number).await?;
        }
        Ok::<_, testbed::kubernetes::Error>(())
    });
    admin.run(changes.buffer_unordered(4).try_collect::<()>())?;
    let time = finder.until(&[
        "10.1.0.1:5996",
        "10.1.0.2:5997",
        "10.1.0.3:5998",
        "10.1.0.4:5999",
    ]);
    assert!(time < Duration::from_secs(1), "correct after {time:?}");
    let lists = finder.lists();
    assert!(lists.len() > first + 5, "{} lists", lists.len());
    for pair in lists.windows(2) {
        let interval = pair[1].0 - pair[0].0;
        assert!(
            interval >= Duration::from_millis(50),
            "two lists within {interval:?}"
        );
        assert_eq!(pair[1].1.sensors.len(), 4);
    }
    Ok(())
}

pub(crate) fn other_pods(control_plane: &ControlPlane) -> Outcome {
    const OTHERS: usize = 5000;
    namespace(control_plane, "others")?;
    let admin = Admin::new(control_plane);
    let pods = &admin.pods("others");
    admin.run(pods.create(&sensor("a", 1)))?;
    let received_by_a_start = || -> Result<(Finder, Proxy, u64), libtest_mimic::Failed> {
        let proxy = Proxy::start(control_plane.address())?;
        let folder = credentials_folder(control_plane, "others");
        let mut settings = settings(Scope::Own);
        settings.timing.watch_duration = Duration::from_mins(2);
        let finder = Finder::start(settings, in_cluster(proxy.port(), folder));
        finder.until(&["10.1.0.1:4789"]);
        let received = proxy.received();
        Ok((finder, proxy, received))
    };
    let (finder, proxy, alone) = received_by_a_start()?;
    let create = |number: usize| async move {
        let draft = PodDraft::new(format!("other-{number}")).label("run", "other");
        pods.create(&draft).await.map(drop)
    };
    let creations = stream::iter(0..OTHERS)
        .map(create)
        .buffer_unordered(PARALLEL);
    admin.run(creations.try_collect::<()>())?;
    admin.run(pods.create(&sensor("b", 2)))?;
    finder.until(&["10.1.0.1:4789", "10.1.0.2:4789"]);
    // The events of one pod, and one or two bookmarks.
    let watching = proxy.received() - alone;
    admin.run(pods.delete("b"))?;
    finder.until(&["10.1.0.1:4789"]);
    let (_finder, _proxy, among) = received_by_a_start()?;
    let all = control_plane.kubectl(["get", "--raw=/api/v1/namespaces/others/pods"])?;
    let all = all.len() as u64;
    eprintln!(
        "bytes received: start alone {alone}, start among {OTHERS} others {among}, while they were \
         created {watching}; a list without a selector {all}, {} times as much",
        all / among
    );
    assert!(
        among < alone + 2048,
        "{alone} bytes alone, {among} among others"
    );
    assert!(
        watching < 16 * 1024,
        "{watching} bytes while the others were created"
    );
    assert!(all > 100 * among);
    Ok(())
}
