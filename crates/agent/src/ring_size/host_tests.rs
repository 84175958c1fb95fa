//! Whole trees of files, as in a container and on a node.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::geometry::{Bound, choose};
use super::host::Host;
use super::limits::{CpuQuota, Limit};

const MIB: u64 = 1 << 20;

/// A directory with these files, and nothing else.
fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn quota(quota_ms: u64) -> Limit<CpuQuota> {
    Limit::Limited(CpuQuota {
        quota: Duration::from_millis(quota_ms),
        period: Duration::from_millis(100),
    })
}

const MEMINFO: (&str, &str) = (
    "proc/meminfo",
    "MemTotal: 16777216 kB\nMemFree: 1 kB\nMemAvailable: 8388608 kB\n",
);
const V2_MOUNT: (&str, &str) = (
    "proc/self/mountinfo",
    "26 25 0:27 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n",
);

#[test]
fn a_container_with_version_2_has_the_manifests_limits() {
    let root = tree(&[
        ("proc/self/cgroup", "0::/\n"),
        V2_MOUNT,
        ("sys/fs/cgroup/cpu.max", "25000 100000\n"),
        ("sys/fs/cgroup/memory.max", "268435456\n"),
        MEMINFO,
    ]);
    let host = Host::read(root.path());
    assert_eq!(host.quota.as_ref().unwrap(), &quota(25));
    assert_eq!(
        host.memory_limit.as_ref().unwrap(),
        &Limit::Limited(256 * MIB)
    );
    let (ring, bound) = choose(&host.inputs(1));
    // What docs and README say.
    assert_eq!((ring.bytes() as u64, bound), (24 * MIB, Bound::Throttling));
    assert_eq!(host.quota_text().to_string(), "25ms of each 100ms");
    assert_eq!(host.memory_limit_text().to_string(), "256MiB");
    assert_eq!(host.node_text().to_string(), "16384MiB, 8192MiB available");
}

#[test]
fn with_version_1_the_smallest_limit_of_the_groups_above_holds() {
    let root = tree(&[
        (
            "proc/self/cgroup",
            "4:memory:/a/b\n2:cpu,cpuacct:/a/b\n0::/\n",
        ),
        (
            "proc/self/mountinfo",
            "1 2 0:3 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
             1 2 0:4 / /cg/memory rw - cgroup cgroup rw,memory\n",
        ),
        ("cg/cpu/a/b/cpu.cfs_quota_us", "50000\n"),
        ("cg/cpu/a/b/cpu.cfs_period_us", "100000\n"),
        // The smallest quota stops a thread for the longest time.
        ("cg/cpu/a/cpu.cfs_quota_us", "5000\n"),
        ("cg/cpu/a/cpu.cfs_period_us", "100000\n"),
        ("cg/cpu/cpu.cfs_quota_us", "-1\n"),
        ("cg/cpu/cpu.cfs_period_us", "100000\n"),
        (
            "cg/memory/a/b/memory.limit_in_bytes",
            "9223372036854771712\n",
        ),
        ("cg/memory/a/memory.limit_in_bytes", "67108864\n"),
        MEMINFO,
    ]);
    let host = Host::read(root.path());
    assert_eq!(host.quota.unwrap(), quota(5));
    assert_eq!(host.memory_limit.unwrap(), Limit::Limited(64 * MIB));
}

#[test]
fn a_file_that_is_missing_or_damaged_makes_only_its_part_unknown() {
    let good = [
        ("proc/self/cgroup", "0::/\n"),
        V2_MOUNT,
        ("sys/fs/cgroup/cpu.max", "25000 100000\n"),
        ("sys/fs/cgroup/memory.max", "268435456\n"),
        MEMINFO,
    ];
    // For each file, whether quota, limit and the node's memory are still known without it.
    let known = [
        (false, false, true),
        (false, false, true),
        (false, true, true),
        (true, false, true),
        (true, true, false),
    ];
    for (changed, known) in known.into_iter().enumerate() {
        let missing: Vec<_> = (0..).zip(good).filter(|(at, _)| *at != changed).collect();
        let missing: Vec<_> = missing.into_iter().map(|(_, file)| file).collect();
        let mut damaged = good;
        damaged[changed].1 = "\u{0}?";
        for files in [&missing[..], &damaged[..]] {
            let host = Host::read(tree(files).path());
            let found = (
                host.quota.is_ok(),
                host.memory_limit.is_ok(),
                host.node.is_ok(),
            );
            assert_eq!(found, known, "{files:?}");
            assert_eq!(choose(&host.inputs(1)).0.bytes() as u64, 24 * MIB);
        }
    }
    let host = Host::read(Path::new("/nowhere"));
    let text = host.quota_text().to_string();
    assert!(
        text.starts_with("unknown, 100ms without CPU assumed: /proc/self/cgroup: "),
        "{text}"
    );
    let text = host.node_text().to_string();
    assert!(
        text.starts_with("unknown, 4GiB assumed: /proc/meminfo: "),
        "{text}"
    );
    let text = host.memory_limit_text().to_string();
    assert!(
        text.starts_with("unknown, none assumed: /proc/self/cgroup: "),
        "{text}"
    );
}

/// The files of this machine, whatever they are.
#[test]
fn this_machine_has_a_valid_ring() {
    let host = Host::read(Path::new("/"));
    assert!(host.node.is_ok(), "{host:?}");
    assert!(choose(&host.inputs(1)).0.bytes() as u64 >= 2 * MIB);
}
