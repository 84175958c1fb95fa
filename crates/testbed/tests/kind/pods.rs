//! What pods can do, and what they are kept from.

use std::thread;
use std::time::Duration;

use libtest_mimic::Failed;
use testbed::kind::{BUSYBOX, Cluster, Source};

use crate::Outcome;

/// How long a pod may take to start on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(2);

/// busybox on the nodes: ours has it from the start, others pull it.
fn image(cluster: &Cluster) -> &'static str {
    match cluster.source() {
        Source::Own => BUSYBOX,
        Source::Published | Source::Given => "busybox:1.37",
    }
}

/// A pod of busybox; `node` counts the workers from 1.
fn pod(cluster: &Cluster, name: &str, node: usize, script: &str, limits: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  \
         nodeName: {}\n  restartPolicy: Never\n  terminationGracePeriodSeconds: 0\n  containers:\n  \
         - name: c\n    image: {}\n    command: [sh, -c, {script:?}]\n    \
         resources: {{limits: {{{limits}}}}}\n---\n",
        cluster.nodes()[node],
        image(cluster),
    )
}

pub(crate) fn reach(cluster: &Cluster) -> Outcome {
    let serve = |name| format!("while :; do echo from-{name} | nc -l -p 8080; done");
    let yaml = [
        pod(cluster, "a", 1, &serve("a"), ""),
        pod(cluster, "b", 2, &serve("b"), ""),
        "apiVersion: v1\nkind: Service\nmetadata: {name: b}\n\
         spec: {selector: {app: b}, ports: [{port: 80, targetPort: 8080}]}\n"
            .to_owned(),
    ]
    .concat();
    cluster.apply(&yaml)?;
    cluster.wait("condition=Ready", &["pod/a", "pod/b"], TIMEOUT)?;
    let address = |pod| cluster.kubectl(&["get", "pod", pod, "-o=jsonpath={.status.podIP}"]);
    let ask = |from, to: &str, port| cluster.exec(&[from], &["nc", "-w", "5", to, port]);
    assert_eq!(ask("a", &address("b")?, "8080")?, "from-b\n");
    assert_eq!(ask("b", &address("a")?, "8080")?, "from-a\n");
    // nc serves one at a time, and the service's endpoints follow the pod's readiness.
    eventually(|| Ok(ask("a", "b.default.svc.cluster.local", "80")? == "from-b\n"))?;
    cluster.delete(&yaml)?;
    Ok(())
}

pub(crate) fn cpu(cluster: &Cluster) -> Outcome {
    let yaml = pod(cluster, "burn", 1, "while :; do :; done", "cpu: 250m");
    cluster.apply(&yaml)?;
    cluster.wait("condition=Ready", &["pod/burn"], TIMEOUT)?;
    let before = cpu_statistics(cluster)?;
    thread::sleep(Duration::from_secs(3));
    let after = cpu_statistics(cluster)?;
    let periods = after.0 - before.0;
    let throttled = after.1 - before.1;
    println!("throttled in {throttled} of {periods} periods");
    assert!(periods > 10, "{periods} periods in 3 s");
    // It wants all of a CPU; a busy machine may leave it less than its limit in some periods.
    assert!(throttled > 0, "never throttled in {periods} periods");
    cluster.delete(&yaml)?;
    Ok(())
}

/// Periods, and how many of them were throttled, of cgroup version 1 or 2.
fn cpu_statistics(cluster: &Cluster) -> Result<(u64, u64), Failed> {
    let script = "cat /sys/fs/cgroup/cpu/cpu.stat 2>/dev/null || cat /sys/fs/cgroup/cpu.stat";
    let printed = cluster.exec(&["burn"], &["sh", "-c", script])?;
    let field = |name: &str| {
        let line = printed.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok())
            .ok_or_else(|| Failed::from(format!("no {name} in {printed}")))
    };
    Ok((field("nr_periods ")?, field("nr_throttled ")?))
}

pub(crate) fn memory(cluster: &Cluster) -> Outcome {
    let yaml = pod(cluster, "eat", 2, "tail -c 200m /dev/zero", "memory: 32Mi");
    cluster.apply(&yaml)?;
    let code = "-o=jsonpath={.status.containerStatuses[0].state.terminated.exitCode}";
    eventually(|| Ok(!cluster.kubectl(&["get", "pod", "eat", code])?.is_empty()))?;
    // The reason is `Error` instead of `OOMKilled` now and then; the code is always this.
    assert_eq!(cluster.kubectl(&["get", "pod", "eat", code])?, "137");
    cluster.delete(&yaml)?;
    Ok(())
}

/// Tries until `done` says so; an error counts as not yet.
fn eventually(mut done: impl FnMut() -> Result<bool, Failed>) -> Outcome {
    let deadline = std::time::Instant::now() + TIMEOUT;
    loop {
        let last = done();
        if matches!(last, Ok(true)) {
            return Ok(());
        }
        if std::time::Instant::now() > deadline {
            return last.map(drop).and(Err("not in time".into()));
        }
        thread::sleep(Duration::from_millis(300));
    }
}
