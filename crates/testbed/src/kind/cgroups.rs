//! The control groups of a private Docker daemon: one parent of its own, in each hierarchy of version
//! 1 or in the one of version 2.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::error::{Error, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// The kernel ends groups a little after their last process.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Every group named `name` below the roots, of which there is one in each hierarchy.
pub(super) fn find(name: &str) -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten();
    std::iter::once(root.to_owned())
        .chain(hierarchies.map(|entry| entry.path()))
        .map(|hierarchy| hierarchy.join(name))
        .filter(|group| group.is_dir())
        .collect()
}

/// Removes the groups with all that are in them. To be called when no process is in them any more.
pub(super) fn remove(name: &str) -> Result<()> {
    let begin = Instant::now();
    loop {
        let left = find(name);
        let failed = left
            .iter()
            .find_map(|group| Some((group, remove_tree(group).err()?)));
        let Some((group, error)) = failed else {
            return Ok(());
        };
        if begin.elapsed() > TIMEOUT {
            return Err(Error::io(format!("removing {}", group.display()))(error));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The children first: a group with children cannot be removed.
fn remove_tree(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The memory in bytes that the groups named `name` hold, where the kernel says so.
pub(super) fn memory(name: &str) -> Option<u64> {
    find(name).iter().find_map(|group| {
        let files = ["memory.usage_in_bytes", "memory.current"];
        files.iter().find_map(|file| {
            fs::read_to_string(group.join(file))
                .ok()?
                .trim()
                .parse()
                .ok()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_removed_from_its_leaves() {
        let folder = tempfile::tempdir().unwrap();
        let group = folder.path().join("group");
        fs::create_dir_all(group.join("a/b")).unwrap();
        fs::create_dir_all(group.join("c")).unwrap();
        remove_tree(&group).unwrap();
        assert!(!group.exists());
    }

    #[test]
    fn what_is_not_there_is_removed() {
        remove("podspan-no-such-group").unwrap();
    }
}
