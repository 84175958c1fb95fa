//! A control group with a CPU quota, where this user may make one.
//!
//! Root may, with a hierarchy of version 1 that has the controller `cpu`, or of version 2 that passes this
//! controller on. Others may not, and a container usually may not write there; [`crate::Quota`] works
//! everywhere, but a process cannot read it. A command that is added enters the group between fork and
//! exec, so the program finds the quota from its beginning on.
//!
//! Sources: `Documentation/scheduler/sched-bwc.rst`, `Documentation/admin-guide/cgroup-v2.rst`.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

const PERIOD_US: u32 = 100_000;
/// A group can be removed shortly after its last process has ended.
const REMOVAL: Duration = Duration::from_secs(2);

/// A control group; removed on drop, when all of its processes must have ended.
#[derive(Debug)]
pub struct ControlGroup {
    directory: PathBuf,
}

impl ControlGroup {
    /// Makes a group whose processes may use `quota` of CPU time in each 100 ms. `None` where this user
    /// may not make one.
    #[must_use]
    pub fn with_quota(quota: Duration) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("podspan-test-{}-{number}", std::process::id());
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        mounts.lines().filter_map(cpu_hierarchy).find_map(|mount| {
            let group = Self {
                directory: Path::new(mount).join(&name),
            };
            fs::create_dir(&group.directory).ok()?;
            group.set(quota).ok().map(|()| group)
        })
    }

    fn set(&self, quota: Duration) -> io::Result<()> {
        let quota = quota.as_micros();
        let v2 = self.directory.join("cpu.max");
        if v2.exists() {
            return fs::write(v2, format!("{quota} {PERIOD_US}"));
        }
        let write = |name, number: u128| fs::write(self.directory.join(name), number.to_string());
        write("cpu.cfs_period_us", PERIOD_US.into())?;
        write("cpu.cfs_quota_us", quota)
    }

    /// Gives the group the weight of a container that requests so many thousandths of a CPU.
    ///
    /// # Errors
    /// [`Error::System`] where the kernel does not take it.
    pub fn set_request(&self, millicores: u32) -> Result<()> {
        // As the kubelet and runc compute them.
        let shares = (millicores * 1024 / 1000).max(2);
        let v2 = self.directory.join("cpu.weight");
        let (path, number) = if v2.exists() {
            (v2, 1 + (shares - 2) * 9999 / 262_142)
        } else {
            (self.directory.join("cpu.shares"), shares)
        };
        fs::write(&path, number.to_string())
            .map_err(|source| Error::system(format!("writing {}", path.display()), source))
    }

    /// Lets the command's process enter the group before it becomes the program.
    ///
    /// # Errors
    /// [`Error::System`] where the group's list of processes cannot be opened.
    pub fn add(&self, command: &mut Command) -> Result<()> {
        let path = self.directory.join("cgroup.procs");
        let processes = File::options().write(true).open(&path);
        let processes = processes
            .map_err(|source| Error::system(format!("opening {}", path.display()), source))?;
        // 0 is the process that writes.
        let enter = move || (&processes).write_all(b"0");
        // SAFETY: the closure makes one system call on a file that was opened before the fork.
        unsafe { command.pre_exec(enter) };
        Ok(())
    }

    /// In how many periods the group's processes were stopped so far.
    ///
    /// # Errors
    /// [`Error::System`] where the kernel does not tell it.
    pub fn throttled(&self) -> Result<u64> {
        let path = self.directory.join("cpu.stat");
        let read = || {
            let text = fs::read_to_string(&path)?;
            let mut lines = text.lines();
            let number = lines.find_map(|line| line.strip_prefix("nr_throttled ")?.parse().ok());
            number.ok_or(io::ErrorKind::InvalidData.into())
        };
        read().map_err(|source: io::Error| {
            Error::system(format!("reading {}", path.display()), source)
        })
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let end = Instant::now() + REMOVAL;
        while fs::remove_dir(&self.directory).is_err_and(|error| is_busy(&error))
            && Instant::now() < end
        {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn is_busy(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ResourceBusy
}

/// The mount point of a line of mountinfo, if it is a hierarchy that can have the controller `cpu`.
fn cpu_hierarchy(line: &str) -> Option<&str> {
    let (place, kind) = line.split_once(" - ")?;
    let point = place.split(' ').nth(4)?;
    let mut kind = kind.split(' ');
    let is_wanted = match kind.next()? {
        "cgroup" => kind.nth(1)?.split(',').any(|option| option == "cpu"),
        "cgroup2" => true,
        _ => false,
    };
    is_wanted.then_some(point)
}
