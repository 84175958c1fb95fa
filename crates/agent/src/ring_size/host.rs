//! Reads CPU quota, memory limit and the node's memory from the files in `/proc` and `/sys/fs/cgroup`.
//!
//! In: the directory that is `/` (tests pass another one). Out: a [`Host`], in which each part says whether
//! it is limited, unlimited or unknown. A file that is missing, unreadable or of an unknown format makes its
//! part unknown and nothing else; [`super::geometry`] then assumes a default. Of several groups above each
//! other, the one with the smallest limit decides.

use std::cmp::Reverse;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Size;
use super::geometry::{HOLD_MIN, Inputs, longest_throttling};
use super::limits::{
    Controller, CpuQuota, Groups, Limit, NodeMemory, Version, cfs_quota, cpu_max, groups,
    limit_in_bytes, meminfo, memory_max,
};

/// No file that is read here is longer, except mountinfo on a node with very many mounts; then only its
/// beginning is read.
const FILE_MAX: u64 = 4 << 20;

/// Why something is unknown.
#[derive(Debug, Error)]
pub(crate) enum Unknown {
    #[error("{}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} has an unknown format", path.display())]
    Format { path: PathBuf },
    #[error("no control group of the controller {controller} is mounted")]
    NotMounted { controller: &'static str },
}

/// What is known about the container and its node.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) quota: Result<Limit<CpuQuota>, Unknown>,
    pub(crate) memory_limit: Result<Limit<u64>, Unknown>,
    pub(crate) node: Result<NodeMemory, Unknown>,
}

impl Host {
    /// Reads the files below `root`, which is `/`.
    pub(crate) fn read(root: &Path) -> Self {
        let proc = |name: &str| read(root, &Path::new("/proc").join(name));
        let quota = groups_of(root, Controller::Cpu).and_then(|found| {
            let read = |group: &Path| quota_of(root, found.version, group);
            smallest(&found, read, |quota| Reverse(longest_throttling(*quota)))
        });
        let memory_limit = groups_of(root, Controller::Memory).and_then(|found| {
            let read = |group: &Path| memory_of(root, found.version, group);
            smallest(&found, read, |bytes| *bytes)
        });
        let node = proc("meminfo").and_then(|text| {
            meminfo(&text).ok_or(Unknown::Format {
                path: "/proc/meminfo".into(),
            })
        });
        Self {
            quota,
            memory_limit,
            node,
        }
    }

    /// What the geometry is computed from.
    pub(crate) fn inputs(&self, interfaces: usize) -> Inputs {
        Inputs {
            quota: known(&self.quota),
            memory_limit: known(&self.memory_limit),
            node: self.node.as_ref().ok().copied(),
            interfaces,
        }
    }

    /// The quota as a text for the log.
    pub(crate) fn quota_text(&self) -> impl fmt::Display {
        fmt::from_fn(|f| match &self.quota {
            Ok(Limit::Limited(CpuQuota { quota, period })) => {
                write!(f, "{quota:?} of each {period:?}")
            }
            Ok(Limit::Unlimited) => write!(f, "none"),
            Err(error) => write!(f, "unknown, {HOLD_MIN:?} without CPU assumed: {error}"),
        })
    }

    /// The memory limit as a text for the log.
    pub(crate) fn memory_limit_text(&self) -> impl fmt::Display {
        fmt::from_fn(|f| match &self.memory_limit {
            Ok(Limit::Limited(bytes)) => write!(f, "{}", Size(*bytes)),
            Ok(Limit::Unlimited) => write!(f, "none"),
            Err(error) => write!(f, "unknown, none assumed: {error}"),
        })
    }

    /// The node's memory as a text for the log.
    pub(crate) fn node_text(&self) -> impl fmt::Display {
        fmt::from_fn(|f| match &self.node {
            Ok(NodeMemory { total, available }) => {
                write!(f, "{}", Size(*total))?;
                match available {
                    Some(available) => write!(f, ", {} available", Size(*available)),
                    None => Ok(()),
                }
            }
            Err(error) => write!(f, "unknown, 4GiB assumed: {error}"),
        })
    }
}

/// See [`super::quota_group`].
pub(super) fn quota_group(root: &Path) -> Option<PathBuf> {
    let Groups {
        version,
        directories,
    } = groups_of(root, Controller::Cpu).ok()?;
    let is_limited = |group: &&PathBuf| {
        let quota = quota_of(root, version, group);
        matches!(quota, Ok(Limit::Limited(_)))
    };
    let limited = directories.iter().find(is_limited);
    limited.or(directories.first()).cloned()
}

fn groups_of(root: &Path, controller: Controller) -> Result<Groups, Unknown> {
    let proc = |name: &str| read(root, &Path::new("/proc/self").join(name));
    let (cgroup, mountinfo) = (proc("cgroup")?, proc("mountinfo")?);
    groups(controller, &cgroup, &mountinfo).ok_or(Unknown::NotMounted {
        controller: controller.name(),
    })
}

fn known<T: Copy>(limit: &Result<Limit<T>, Unknown>) -> Option<T> {
    match limit {
        Ok(Limit::Limited(limit)) => Some(*limit),
        Ok(Limit::Unlimited) | Err(_) => None,
    }
}

/// The smallest limit of all groups, by `key`. The top group of version 2 has no files, so a group that
/// cannot be read counts only if none can.
fn smallest<T, K: Ord>(
    groups: &Groups,
    read: impl Fn(&Path) -> Result<Limit<T>, Unknown>,
    key: impl Fn(&T) -> K,
) -> Result<Limit<T>, Unknown> {
    let (mut limits, mut first_error, mut is_known) = (Vec::new(), None, false);
    for group in &groups.directories {
        match read(group) {
            Ok(Limit::Limited(limit)) => limits.push(limit),
            Ok(Limit::Unlimited) => is_known = true,
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    match (limits.into_iter().min_by_key(key), first_error) {
        (Some(limit), _) => Ok(Limit::Limited(limit)),
        (None, Some(error)) if !is_known => Err(error),
        _ => Ok(Limit::Unlimited),
    }
}

fn quota_of(root: &Path, version: Version, group: &Path) -> Result<Limit<CpuQuota>, Unknown> {
    let (path, limit) = match version {
        Version::V2 => {
            let path = group.join("cpu.max");
            let limit = cpu_max(&read(root, &path)?);
            (path, limit)
        }
        Version::V1 => {
            let path = group.join("cpu.cfs_quota_us");
            let period = read(root, &group.join("cpu.cfs_period_us"))?;
            let limit = cfs_quota(&read(root, &path)?, &period);
            (path, limit)
        }
    };
    limit.ok_or(Unknown::Format { path })
}

fn memory_of(root: &Path, version: Version, group: &Path) -> Result<Limit<u64>, Unknown> {
    let (name, parse): (_, fn(&str) -> _) = match version {
        Version::V2 => ("memory.max", memory_max),
        Version::V1 => ("memory.limit_in_bytes", limit_in_bytes),
    };
    let path = group.join(name);
    parse(&read(root, &path)?).ok_or(Unknown::Format { path })
}

/// Reads a file below `root`; bytes that are not UTF-8 are replaced.
fn read(root: &Path, path: &Path) -> Result<String, Unknown> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let mut bytes = Vec::new();
    File::open(root.join(relative))
        .and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes))
        .map_err(|source| Unknown::Unreadable {
            path: path.to_owned(),
            source,
        })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
