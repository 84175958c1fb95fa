//! What a container used of its CPU, read from its control group on its node.
//!
//! Sources: `Documentation/scheduler/sched-bwc.rst` and `Documentation/admin-guide/cgroup-v1/cpuacct.rst`
//! of the kernel for version 1, `cgroup-v2.rst` for version 2.

use testbed::kind::Cluster;

use crate::error::{Error, Result};

/// The state of a container's control group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// CPU time used, in microseconds.
    pub used_us: u64,
    /// Periods in which it was runnable.
    pub periods: u64,
    /// Of these, those in which it was stopped because the quota was used up.
    pub throttled: u64,
    /// The quota in a period, in microseconds; 0 where there is none.
    pub quota_us: u64,
    /// A period, in microseconds.
    pub period_us: u64,
}

/// Prints the files of both versions, each line with its name in front.
const SCRIPT: &str = r#"
for f in $(find /sys/fs/cgroup -path "*$1*" -prune -type d | grep -E 'cpu|/kube' | sort -u); do
  for name in cpu.stat cpuacct.usage cpu.cfs_quota_us cpu.cfs_period_us cpu.max; do
    [ -f $f/$name ] && sed "s|^|$name |" $f/$name
  done
done
true
"#;

impl Quota {
    /// Reads the control group of a container, `id` as the pod's status has it
    /// (`containerd://<id>`).
    ///
    /// # Errors
    /// When the node cannot be asked or has no such control group.
    pub fn read(cluster: &Cluster, node: &str, id: &str) -> Result<Self> {
        let id = id.rsplit('/').next().unwrap_or(id);
        let text = cluster.exec_in_node(node, &["sh", "-c", SCRIPT, "sh", id])?;
        parse(&text).ok_or_else(|| Error::unexpected(format!("the control group of {id}"), text))
    }

    /// What was used between an earlier state and this one.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            used_us: self.used_us.saturating_sub(earlier.used_us),
            periods: self.periods.saturating_sub(earlier.periods),
            throttled: self.throttled.saturating_sub(earlier.throttled),
            ..*self
        }
    }
}

fn parse(text: &str) -> Option<Quota> {
    let value = |file: &str, key: Option<&str>| {
        text.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == file).then_some(())?;
            if let Some(key) = key {
                (words.next()? == key).then_some(())?;
            }
            words.next().map(str::to_owned)
        })
    };
    let number = |file: &str, key: Option<&str>| value(file, key)?.parse::<u64>().ok();
    let second = text.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        matches!(words.as_slice(), ["cpu.max", _, _]).then(|| words.get(2)?.parse().ok())?
    });
    Some(Quota {
        used_us: number("cpu.stat", Some("usage_usec"))
            .or_else(|| Some(number("cpuacct.usage", None)? / 1000))?,
        periods: number("cpu.stat", Some("nr_periods"))?,
        throttled: number("cpu.stat", Some("nr_throttled"))?,
        quota_us: number("cpu.cfs_quota_us", None)
            .or_else(|| number("cpu.max", None))
            .unwrap_or(0),
        period_us: number("cpu.cfs_period_us", None).or(second)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_is_read() {
        let text = "cpu.stat nr_periods 10\ncpu.stat nr_throttled 2\ncpu.stat throttled_time 5\n\
                    cpuacct.usage 3000000\ncpu.cfs_quota_us 25000\ncpu.cfs_period_us 100000\n";
        let quota = parse(text).unwrap();
        assert_eq!(
            (quota.used_us, quota.periods, quota.throttled),
            (3000, 10, 2)
        );
        assert_eq!((quota.quota_us, quota.period_us), (25_000, 100_000));
    }

    #[test]
    fn version_2_is_read() {
        let text = "cpu.stat usage_usec 3000\ncpu.stat nr_periods 10\ncpu.stat nr_throttled 2\n\
                    cpu.max 25000 100000\n";
        let quota = parse(text).unwrap();
        assert_eq!(
            (quota.used_us, quota.periods, quota.throttled),
            (3000, 10, 2)
        );
        assert_eq!((quota.quota_us, quota.period_us), (25_000, 100_000));
    }

    #[test]
    fn no_control_group_is_none() {
        assert_eq!(parse(""), None);
    }
}
