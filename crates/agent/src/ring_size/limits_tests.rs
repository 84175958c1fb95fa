//! The parsers on files as recorded in containers and on nodes, and on any text.

use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::limits::*;

/// A pod's container on a node with version 2, containerd with a cgroup namespace.
const V2_CONTAINER: (&str, &str) = (
    "0::/\n",
    "1021 931 0:190 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/x\n\
     1022 1021 0:193 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw\n\
     1026 1025 0:27 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate\n",
);
/// The same without a cgroup namespace: the mount is the container's group.
const V2_HOST_NAMESPACE: (&str, &str) = (
    "0::/kubepods.slice/kubepods-pod1a.slice/cri-containerd-5f.scope\n",
    "1026 1025 0:27 /kubepods.slice/kubepods-pod1a.slice/cri-containerd-5f.scope /sys/fs/cgroup \
     ro,nosuid - cgroup2 cgroup rw\n",
);
/// A pod's container on a node with version 1.
const V1_CONTAINER: (&str, &str) = (
    "12:memory:/kubepods/burstable/pod1a/5f\n\
     7:cpu,cpuacct:/kubepods/burstable/pod1a/5f\n\
     1:name=systemd:/kubepods/burstable/pod1a/5f\n\
     0::/\n",
    "610 609 0:62 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw,mode=755\n\
     611 610 0:29 /kubepods/burstable/pod1a/5f /sys/fs/cgroup/systemd ro master:9 - cgroup cgroup rw,xattr,name=systemd\n\
     612 610 0:34 /kubepods/burstable/pod1a/5f /sys/fs/cgroup/memory ro master:15 - cgroup cgroup rw,memory\n\
     615 610 0:37 /kubepods/burstable/pod1a/5f /sys/fs/cgroup/cpu,cpuacct ro master:18 - cgroup cgroup rw,cpu,cpuacct\n",
);
/// A node with both versions, where version 2 has no controllers.
const HYBRID_NODE: (&str, &str) = (
    "4:memory:/\n1:cpu:/system.slice/podspan\n0::/system.slice/podspan\n",
    "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
     33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct\n\
     35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
     41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
);

#[test]
fn groups_are_found_in_containers_and_on_nodes() {
    use Controller::{Cpu, Memory};
    for ((cgroup, mountinfo), controller, version, directories) in [
        (V2_CONTAINER, Cpu, Version::V2, &["/sys/fs/cgroup"][..]),
        (V2_CONTAINER, Memory, Version::V2, &["/sys/fs/cgroup"]),
        (V2_HOST_NAMESPACE, Cpu, Version::V2, &["/sys/fs/cgroup"]),
        (
            V1_CONTAINER,
            Cpu,
            Version::V1,
            &["/sys/fs/cgroup/cpu,cpuacct"],
        ),
        (
            V1_CONTAINER,
            Memory,
            Version::V1,
            &["/sys/fs/cgroup/memory"],
        ),
        (HYBRID_NODE, Memory, Version::V1, &["/sys/fs/cgroup/memory"]),
        (
            HYBRID_NODE,
            Cpu,
            Version::V1,
            &[
                "/sys/fs/cgroup/cpu/system.slice/podspan",
                "/sys/fs/cgroup/cpu/system.slice",
                "/sys/fs/cgroup/cpu",
            ],
        ),
        // The group is outside the mount, or of another namespace.
        (
            ("0::/../other\n", V2_CONTAINER.1),
            Cpu,
            Version::V2,
            &["/sys/fs/cgroup"],
        ),
        (
            ("0::/a/b\n", V2_HOST_NAMESPACE.1),
            Cpu,
            Version::V2,
            &["/sys/fs/cgroup"],
        ),
        // A mount point with a space; a path with colons.
        (
            (
                "0::/a:b\n",
                "1 2 0:3 / /my\\040groups rw - cgroup2 none rw\n",
            ),
            Cpu,
            Version::V2,
            &["/my groups/a:b", "/my groups"],
        ),
    ] {
        let found = groups(controller, cgroup, mountinfo).unwrap();
        assert_eq!(found.version, version, "{cgroup}");
        let directories: Vec<_> = directories.iter().map(PathBuf::from).collect();
        assert_eq!(found.directories, directories, "{cgroup}");
    }
    for (cgroup, mountinfo) in [
        ("", V2_CONTAINER.1),
        (V2_CONTAINER.0, ""),
        ("0:\n", "1 - \n"),
    ] {
        assert_eq!(groups(Cpu, cgroup, mountinfo), None);
    }
}

#[test]
fn limits_of_both_versions_are_read() {
    let limited = |quota, period| {
        Some(Limit::Limited(CpuQuota {
            quota: Duration::from_micros(quota),
            period: Duration::from_micros(period),
        }))
    };
    assert_eq!(cpu_max("25000 100000\n"), limited(25_000, 100_000));
    assert_eq!(cpu_max("max 100000\n"), Some(Limit::Unlimited));
    assert_eq!(cfs_quota("25000\n", "100000\n"), limited(25_000, 100_000));
    assert_eq!(cfs_quota("-1\n", "100000\n"), Some(Limit::Unlimited));
    for (quota, period) in [
        ("", ""),
        ("0", "1"),
        ("1", "0"),
        ("-2", "1"),
        ("1", "x"),
        ("max", "1"),
    ] {
        assert_eq!(cfs_quota(quota, period), None, "{quota:?} {period:?}");
    }
    for text in [
        "",
        "25000",
        "25000 0\n",
        "-1 100000\n",
        "1e3 100000",
        "99999999999999999999 1",
    ] {
        assert_eq!(cpu_max(text), None, "{text:?}");
    }
    assert_eq!(memory_max("268435456\n"), Some(Limit::Limited(256 << 20)));
    assert_eq!(memory_max("max\n"), Some(Limit::Unlimited));
    assert_eq!(
        limit_in_bytes("268435456\n"),
        Some(Limit::Limited(256 << 20))
    );
    // With pages of 4 KiB and of 64 KiB.
    for none in ["9223372036854771712\n", "9223372036854710272\n"] {
        assert_eq!(limit_in_bytes(none), Some(Limit::Unlimited));
    }
    for text in ["", "-1", "max bytes", "1 2"] {
        assert_eq!(
            (memory_max(text), limit_in_bytes(text)),
            (None, None),
            "{text:?}"
        );
    }
}

#[test]
fn the_nodes_memory_is_read() {
    let text =
        "MemTotal:       24684444 kB\nMemFree:        21111111 kB\nMemAvailable:   23000000 kB\n";
    let memory = NodeMemory {
        total: 24_684_444 << 10,
        available: Some(23_000_000 << 10),
    };
    assert_eq!(meminfo(text), Some(memory));
    // Before Linux 3.14, and in some sandboxes.
    let total = NodeMemory {
        total: 1 << 20,
        available: None,
    };
    assert_eq!(meminfo("MemTotal: 1024 kB\n"), Some(total));
    for text in [
        "",
        "MemFree: 1 kB",
        "MemTotal: 1 MB",
        "MemTotal: 99999999999999999999 kB",
    ] {
        assert_eq!(meminfo(text), None, "{text:?}");
    }
    assert_eq!(meminfo(&format!("MemTotal: {} kB", u64::MAX)), None);
}

proptest! {
    #[test]
    fn no_text_causes_a_panic(text in "(?s).{0,200}", other in r"([0-9:,/. \\-]|cpu|memory|cgroup2?|\n){0,80}") {
        for (a, b) in [(&text, &other), (&other, &text), (&other, &other)] {
            for controller in [Controller::Cpu, Controller::Memory] {
                let found = groups(controller, a, b);
                prop_assert!(found.is_none_or(|groups| !groups.directories.is_empty()));
            }
            let _ = (cfs_quota(a, b), cpu_max(a), memory_max(a), limit_in_bytes(a), meminfo(a));
        }
    }

    /// Any group below the top of any mount is found, and all those above it.
    #[test]
    fn a_group_is_found_below_its_mount(
        top in "(/[a-z. ]{1,8}){0,3}", below in "(/[a-z0-9:-]{1,8}){0,4}", point in "(/[a-z ]{1,8}){1,3}",
    ) {
        let escaped = |text: &str| text.replace(' ', "\\040");
        let root = if top.is_empty() { "/".to_owned() } else { escaped(&top) };
        let group = if top.is_empty() && below.is_empty() { "/".to_owned() } else { format!("{top}{below}") };
        prop_assume!(!group.split('/').any(|part| part == "." || part == ".."));
        let mountinfo = format!("1 2 0:3 {root} {} rw - cgroup2 none rw\n", escaped(&point));
        let found = groups(Controller::Memory, &format!("0::{group}\n"), &mountinfo).unwrap();
        prop_assert_eq!(&found.directories[0], &PathBuf::from(format!("{point}{below}")));
        prop_assert_eq!(found.directories.last().unwrap(), Path::new(&point));
        prop_assert_eq!(found.directories.len(), below.matches('/').count() + 1);
    }
}
