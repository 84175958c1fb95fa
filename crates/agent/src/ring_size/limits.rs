//! CPU quota, memory limit and the node's memory, from the texts of the kernel's files.
//!
//! In: contents of files. Out: numbers and paths; a text in another format is `None`, and no text causes a
//! panic. No I/O.
//!
//! Where the files are: `/proc/self/cgroup` has the process's group in each hierarchy, and
//! `/proc/self/mountinfo` where each hierarchy is mounted, and which group of it is the top of that mount.
//! In a cgroup namespace (the usual container with version 2) the group is `/` and so is the top. Without
//! one (version 1) both are the group's path on the node, and the mount contains only this group. On a node
//! the top is `/`. So in all cases the group's directory is the mount, and below it the group's path
//! without the top's. Where the paths do not match, the mount itself is used, because a container sees no
//! other group. Limits of the groups above hold too, so the result has all of them up to the mount.
//!
//! Sources: `cgroups(7)`, `proc_pid_mountinfo(5)`, `Documentation/admin-guide/cgroup-v2.rst`,
//! `Documentation/scheduler/sched-bwc.rst`, `Documentation/admin-guide/cgroup-v1/memory.rst`.

use std::iter;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// A CPU quota: this much CPU time in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CpuQuota {
    pub(crate) quota: Duration,
    pub(crate) period: Duration,
}

/// The memory of a node, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeMemory {
    pub(crate) total: u64,
    /// What can be used without swapping.
    pub(crate) available: Option<u64>,
}

/// A limit of a control group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit<T> {
    Unlimited,
    Limited(T),
}

/// A controller of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    Cpu,
    Memory,
}

impl Controller {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }
}

/// The version of a hierarchy of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// Where a controller's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Groups {
    pub(super) version: Version,
    /// The directory of the process's group, and those above it up to the mount.
    pub(super) directories: Vec<PathBuf>,
}

/// Finds the groups of this process. `cgroup` and `mountinfo` are the files in `/proc/self`.
pub(super) fn groups(controller: Controller, cgroup: &str, mountinfo: &str) -> Option<Groups> {
    // A controller belongs to one hierarchy: if version 1 has it, version 2 does not.
    [Version::V1, Version::V2].into_iter().find_map(|version| {
        let group = group_path(version, controller, cgroup)?;
        let mount = mountinfo
            .lines()
            .filter_map(Mount::parse)
            .find(|mount| mount.has(version, controller))?;
        Some(Groups {
            version,
            directories: mount.directories(group),
        })
    })
}

/// The path of the process's group from lines such as `4:cpu,cpuacct:/path` and `0::/path`.
fn group_path(version: Version, controller: Controller, cgroup: &str) -> Option<&Path> {
    cgroup.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let is_wanted = match version {
            Version::V1 => controllers.split(',').any(|name| name == controller.name()),
            Version::V2 => number == "0" && controllers.is_empty(),
        };
        is_wanted.then_some(Path::new(path))
    })
}

/// A line of mountinfo.
#[derive(Debug)]
struct Mount<'t> {
    /// The directory of the file system that is mounted.
    top: PathBuf,
    point: PathBuf,
    kind: &'t str,
    options: &'t str,
}

impl<'t> Mount<'t> {
    /// Reads `36 35 98:0 /top /point rw,noatime master:1 - kind source options`.
    fn parse(line: &'t str) -> Option<Self> {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (top, point) = (place.next()?, place.next()?);
        let mut kind = kind.split(' ');
        Some(Self {
            top: unescape(top).into(),
            point: unescape(point).into(),
            kind: kind.next()?,
            options: kind.nth(1).unwrap_or_default(),
        })
    }

    fn has(&self, version: Version, controller: Controller) -> bool {
        match version {
            Version::V1 => {
                self.kind == "cgroup" && self.options.split(',').any(|o| o == controller.name())
            }
            Version::V2 => self.kind == "cgroup2",
        }
    }

    fn directories(&self, group: &Path) -> Vec<PathBuf> {
        let below = group.strip_prefix(&self.top).ok().filter(|below| {
            below
                .components()
                .all(|component| matches!(component, Component::Normal(_)))
        });
        let below = below.unwrap_or(Path::new(""));
        below
            .ancestors()
            // Joining the empty path would add a slash.
            .map(|below| match below.components().next() {
                Some(_) => self.point.join(below),
                None => self.point.clone(),
            })
            .collect()
    }
}

/// Replaces `\040` and the like, by which the kernel writes space, tab, line feed and backslash.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut text, part| {
        let code = part
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        match (code, part.get(3..)) {
            (Some(code), Some(rest)) => {
                text.push(char::from(code));
                text.push_str(rest);
            }
            _ => text.extend(iter::once("\\").chain([part])),
        }
        text
    })
}

/// Reads `cpu.max` of version 2: `25000 100000`, or `max` in place of the quota.
pub(super) fn cpu_max(text: &str) -> Option<Limit<CpuQuota>> {
    let mut words = text.split_whitespace();
    match (words.next()?, words.next()) {
        ("max", _) => Some(Limit::Unlimited),
        (quota, Some(period)) => cpu_quota(quota, period),
        _ => None,
    }
}

/// Reads `cpu.cfs_quota_us` and `cpu.cfs_period_us` of version 1. A quota of -1 is none.
pub(super) fn cfs_quota(quota: &str, period: &str) -> Option<Limit<CpuQuota>> {
    match quota.trim() {
        "-1" => Some(Limit::Unlimited),
        quota => cpu_quota(quota, period.trim()),
    }
}

/// Both numbers are microseconds and above zero.
fn cpu_quota(quota: &str, period: &str) -> Option<Limit<CpuQuota>> {
    let micros = |text: &str| text.parse().ok().filter(|number| *number > 0);
    Some(Limit::Limited(CpuQuota {
        quota: Duration::from_micros(micros(quota)?),
        period: Duration::from_micros(micros(period)?),
    }))
}

/// Reads `memory.max` of version 2: a number of bytes, or `max`.
pub(super) fn memory_max(text: &str) -> Option<Limit<u64>> {
    match text.trim() {
        "max" => Some(Limit::Unlimited),
        bytes => bytes.parse().ok().map(Limit::Limited),
    }
}

/// Reads `memory.limit_in_bytes` of version 1. Without a limit it is the largest multiple of a page that
/// the kernel's signed number holds, about 2^63.
pub(super) fn limit_in_bytes(text: &str) -> Option<Limit<u64>> {
    const NONE: u64 = 1 << 62;
    let bytes: u64 = text.trim().parse().ok()?;
    Some(if bytes >= NONE {
        Limit::Unlimited
    } else {
        Limit::Limited(bytes)
    })
}

/// Reads `/proc/meminfo`.
pub(super) fn meminfo(text: &str) -> Option<NodeMemory> {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    };
    Some(NodeMemory {
        total: bytes("MemTotal:")?,
        available: bytes("MemAvailable:"),
    })
}
