//! CPU time and memory of the sidecar.
//!
//! CPU time and resident memory are read in the application's container, which sees podspan's process (the
//! pod has `shareProcessNamespace`): `/proc/PID/task/*/schedstat` and `/proc/PID/status`
//! (`Documentation/scheduler/sched-stats.rst`). So no access to the node is needed, and each load has
//! exact numbers. Throttled periods are in the control group only, which needs the node.

use acceptance::{Quota, Scenario};
use testbed::kind::Source;

use super::error::{Error, Result};
use super::manifests::APP;

/// Prints podspan's memory, and a line for each of its threads.
const SCRIPT: &str = "for p in /proc/[0-9]*; do read -r name <$p/comm || continue; \
                      if [ \"$name\" = podspan ]; then cat $p/status $p/task/*/schedstat; fi; done \
                      2>/dev/null";

/// What the sidecar has used since its start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usage {
    pub(super) cpu_ns: Option<u64>,
    pub(super) resident_bytes: Option<u64>,
    /// Of its control group, where there is access to the node.
    pub(super) quota: Option<Quota>,
}

impl Usage {
    /// Reads it for a pod on a node; `container` is the sidecar's ID.
    pub(super) fn read(
        scenario: &Scenario<'_>,
        pod: &str,
        node: &str,
        container: &str,
    ) -> Result<Self> {
        let arguments = ["exec", pod, "-c", APP, "--", "/bin/sh", "-c", SCRIPT];
        let (cpu_ns, resident_bytes) = parse(&scenario.kubectl(&arguments)?);
        let cluster = scenario.cluster();
        let quota = match cluster.source() {
            Source::Given => None,
            Source::Own | Source::Published => Some(Quota::read(cluster, node, container)?),
        };
        let usage = Self {
            cpu_ns,
            resident_bytes,
            quota,
        };
        if usage.resident_bytes.is_none() {
            let what = format!("the process of podspan in {pod}");
            return Err(Error::unexpected(what, "it is not there"));
        }
        Ok(usage)
    }
}

/// CPU time in nanoseconds and resident bytes.
fn parse(text: &str) -> (Option<u64>, Option<u64>) {
    let mut cpu = None;
    let mut resident = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["VmRSS:", kilobytes, "kB"] => {
                resident = kilobytes.parse::<u64>().ok().map(|value| value * 1024);
            }
            // Time on a CPU, time in the run queue, number of times.
            [on_cpu, waiting, times]
                if waiting.parse::<u64>().is_ok() && times.parse::<u64>().is_ok() =>
            {
                if let Ok(time) = on_cpu.parse::<u64>() {
                    cpu = Some(cpu.unwrap_or(0) + time);
                }
            }
            _ => {}
        }
    }
    (cpu, resident)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_summed_up() {
        let text = "Name:\tpodspan\nUid:\t1\t1\t1\t1\nVmRSS:\t    2000 kB\n1000 5 2\n300 7 1\n";
        assert_eq!(parse(text), (Some(1300), Some(2_048_000)));
    }

    #[test]
    fn what_the_kernel_does_not_count_is_not_measured() {
        assert_eq!(parse("VmRSS: 4 kB\n"), (None, Some(4096)));
        assert_eq!(parse(""), (None, None));
    }
}
