//! Programs whose whole tree of processes ends with this process, however it ends.
//!
//! A parent-death signal reaches one process and not its children: a killed `go build` leaves its
//! compilers, a killed debootstrap its mounts. As root, a program that is started here is the first
//! process of a process-ID namespace, which the kernel ends as a whole when its first process ends,
//! and it has a mount namespace of its own, whose mounts go with it. Without root it gets the
//! parent-death signal only.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use caps::{CapSet, Capability};

use crate::process::die_with_parent;

/// A command that will be contained; to be started by [`output`] or `process::fork`.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = if may_contain() {
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--mount", "--propagation=private", "--pid", "--fork"])
            // A program finds itself in /proc by the number that it has in its namespace.
            .args(["--mount-proc", "--kill-child", "--"])
            .arg(program);
        unshare
    } else {
        Command::new(program)
    };
    let parent = std::process::id();
    // SAFETY: between fork and exec the closure makes two system calls; it takes no lock and
    // allocates nothing.
    unsafe { command.pre_exec(move || die_with_parent(parent)) };
    command
}

/// Whether this is root of the machine, and not of a user namespace, which may not mount `/proc`
/// where it runs in a container.
fn may_contain() -> bool {
    let everybody = fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]));
    everybody && caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap_or(false)
}

/// Runs a command of [`command`] to its end and returns what it printed.
pub(crate) fn output(mut command: Command) -> io::Result<Output> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Not by `fork`: its thread would start here and keep today's namespaces, and servers that are started later
    // belong into those that a test has entered by then. The calling thread waits, so it outlives the program.
    command.spawn()?.wait_with_output()
}
