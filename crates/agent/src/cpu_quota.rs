//! How often the CPU quota has stopped the container.
//!
//! In: `cpu.stat` of the nearest control group with a quota, from that of this process on upwards. Out: the kernel's
//! counters; nothing if there is no such file.
//!
//! Sources: `Documentation/admin-guide/cgroup-v2.rst` and `Documentation/scheduler/sched-bwc.rst`: version 2 has
//! `throttled_usec`, version 1 `throttled_time` in nanoseconds.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::ring_size::quota_group;

/// The kernel's counters of a control group with a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Throttling {
    /// Periods in which a process of the group ran.
    pub(crate) periods: u64,
    /// Those in which the quota was used up.
    pub(crate) throttled_periods: u64,
    /// For how long processors were kept from the group, the sum of all.
    pub(crate) throttled: Duration,
}

/// Where the counters are.
#[derive(Debug, Default)]
pub(crate) struct CpuQuota {
    file: Option<PathBuf>,
}

impl CpuQuota {
    /// Finds the file below `root`, which is `/`.
    pub(crate) fn find(root: &Path) -> Self {
        let group = quota_group(root);
        let file = group.map(|group| {
            let relative = group.strip_prefix("/").unwrap_or(&group);
            root.join(relative).join("cpu.stat")
        });
        Self { file }
    }

    /// The counters now.
    pub(crate) fn read(&self) -> Option<Throttling> {
        parse(&fs::read_to_string(self.file.as_ref()?).ok()?)
    }
}

/// Reads lines such as `nr_periods 12`.
fn parse(text: &str) -> Option<Throttling> {
    let number = |name: &str| -> Option<u64> {
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        value.trim().parse().ok()
    };
    let micros = number("throttled_usec").map(Duration::from_micros);
    let throttled = micros.or_else(|| number("throttled_time").map(Duration::from_nanos));
    Some(Throttling {
        periods: number("nr_periods")?,
        throttled_periods: number("nr_throttled")?,
        throttled: throttled?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V2: &str = "usage_usec 9\nuser_usec 5\nnr_periods 12\nnr_throttled 3\nthrottled_usec 1500000\n\
                      nr_bursts 0\nburst_usec 0\n";

    fn expected(throttled_ms: u64) -> Throttling {
        Throttling {
            periods: 12,
            throttled_periods: 3,
            throttled: Duration::from_millis(throttled_ms),
        }
    }

    #[test]
    fn both_versions_are_read_and_what_is_incomplete_is_unknown() {
        assert_eq!(parse(V2), Some(expected(1500)));
        let v1 = "nr_periods 12\nnr_throttled 3\nthrottled_time 2000000000\n";
        assert_eq!(parse(v1), Some(expected(2000)));
        assert_eq!(parse("usage_usec 9\n"), None);
        assert_eq!(
            parse("nr_periods 12\nnr_throttled x\nthrottled_usec 1\n"),
            None
        );
    }

    #[test]
    fn the_counters_are_those_of_the_nearest_group_that_has_a_quota() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/self/cgroup", "0::/pod/container\n");
        write(
            "proc/self/mountinfo",
            "26 25 0:27 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
        );
        assert_eq!(CpuQuota::find(root.path()).read(), None);
        let none = "nr_periods 0\nnr_throttled 0\nthrottled_usec 0\n";
        write("sys/fs/cgroup/pod/container/cpu.stat", none);
        let found = CpuQuota::find(root.path()).read();
        assert_eq!(found, Some(Throttling::default()));
        write("sys/fs/cgroup/pod/container/cpu.max", "max 100000\n");
        write("sys/fs/cgroup/pod/cpu.max", "25000 100000\n");
        write("sys/fs/cgroup/pod/cpu.stat", V2);
        assert_eq!(CpuQuota::find(root.path()).read(), Some(expected(1500)));
    }

    proptest! {
        #[test]
        fn no_text_causes_a_panic(text in "(nr_periods|nr_throttled|throttled_(usec|time)|[ \n0-9]){0,20}") {
            parse(&text);
        }
    }
}
