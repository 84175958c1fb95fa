//! A network namespace as a value.
//!
//! A namespace is a descriptor of `/proc/thread-self/ns/net`, opened on a thread that has just
//! unshared. It has no name, no mount and no process: when the last descriptor and the last process
//! in it are gone, the kernel removes the namespace with every link in it, no matter how the program
//! ends. See `network_namespaces(7)`.
//!
//! Entering one (`setns`) changes only the calling thread. So work inside it runs on a new thread
//! ([`Namespace::run`]) or in a child between fork and exec ([`Namespace::command`]). The threads of
//! the caller never change their namespace.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::{fs, panic, thread};

use caps::{CapSet, Capability, CapsHashSet};
use nix::sched::{CloneFlags, setns, unshare};

use crate::error::{Error, Result};
use crate::process;

/// The ports that the kernel assigns. tshark has no protocol for any of these, so it never reports a
/// test's packet as a malformed packet of another protocol.
const PORTS: &str = "50000 54000";

/// A network namespace; the kernel removes it with its links when this value and the processes in it
/// are gone.
///
/// A clone is cheap and refers to the same namespace.
#[derive(Debug, Clone)]
pub struct Namespace {
    fd: Arc<OwnedFd>,
}

impl Namespace {
    /// Makes an empty namespace: `lo` is up, IPv6 addresses are usable at once (no duplicate
    /// address detection), root can ping without a capability, and ports are assigned from
    /// 50,000 on.
    ///
    /// # Errors
    /// [`Error::System`] without `CAP_SYS_ADMIN`: see [`user_namespace::enter`].
    ///
    /// [`user_namespace::enter`]: crate::user_namespace::enter
    pub fn new() -> Result<Self> {
        let fd = on_own_thread(|| -> io::Result<OwnedFd> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(File::open("/proc/thread-self/ns/net")?.into())
        })
        .map_err(|source| Error::system("making a network namespace", source))?;
        let namespace = Self { fd: Arc::new(fd) };
        namespace.set_sysctl("ipv6/conf/default/accept_dad", "0")?;
        namespace.set_sysctl("ipv6/conf/all/accept_dad", "0")?;
        namespace.set_sysctl("ipv4/ping_group_range", "0 0")?;
        namespace.set_sysctl("ipv4/ip_local_port_range", PORTS)?;
        namespace.link("lo")?.up()?;
        Ok(namespace)
    }

    /// The namespace that a process is in; it lasts as long as this value, also after that process.
    #[cfg(feature = "kind")]
    pub(crate) fn of_process(pid: i32) -> io::Result<Self> {
        let fd = File::open(format!("/proc/{pid}/ns/net"))?.into();
        Ok(Self { fd: Arc::new(fd) })
    }

    /// Moves the calling thread into the namespace, for good: to be called before an exec.
    #[cfg(feature = "kind")]
    pub(crate) fn enter_thread(&self) -> io::Result<()> {
        Ok(setns(self.fd.as_fd(), CloneFlags::CLONE_NEWNET)?)
    }

    /// Runs `work` on a thread inside the namespace and returns what it returns.
    ///
    /// # Panics
    /// Where `work` panics, and where the thread cannot enter: the process has dropped the capabilities
    /// with which it made the namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let fd = self.fd.as_fd();
        on_own_thread(move || {
            let entered = setns(fd, CloneFlags::CLONE_NEWNET);
            assert!(entered.is_ok(), "entering a network namespace: {entered:?}");
            work()
        })
    }

    /// A command that runs inside the namespace and is killed when this process ends.
    ///
    /// The thread that spawns it must not end before it (parent-death signal): use
    /// [`Process::spawn`](crate::Process::spawn) where it must outlive the calling thread.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.prepare(program, None)
    }

    /// Like [`Namespace::command`], with `keep` as the program's only capabilities: permitted,
    /// effective and bounding set hold only these, inheritable and ambient set are empty.
    ///
    /// The program runs as user 0, and still lacks all other capabilities.
    #[must_use]
    pub fn command_with_capabilities(
        &self,
        program: impl AsRef<OsStr>,
        keep: &[Capability],
    ) -> Command {
        self.prepare(program, Some(keep.iter().copied().collect()))
    }

    fn prepare(&self, program: impl AsRef<OsStr>, keep: Option<CapsHashSet>) -> Command {
        let fd = Arc::clone(&self.fd);
        let parent = std::process::id();
        let surplus: Option<Vec<Capability>> = keep.map(|keep| {
            let bounding = caps::read(None, CapSet::Bounding).unwrap_or_else(|_| caps::all());
            bounding.difference(&keep).copied().collect()
        });
        let mut command = Command::new(program);
        let before_exec = move || {
            process::die_with_parent(parent)?;
            setns(fd.as_fd(), CloneFlags::CLONE_NEWNET)?;
            surplus.as_deref().map_or(Ok(()), drop_capabilities)
        };
        // SAFETY: between fork and exec the closure makes system calls on data that was prepared
        // before the fork; it uses no lock that another thread of the parent could hold.
        unsafe { command.pre_exec(before_exec) };
        command
    }

    /// Writes `value` to `/proc/sys/net/<name>` as seen from inside, for example
    /// `ipv4/ip_forward`.
    ///
    /// # Errors
    /// [`Error::System`] with the file's name: unknown to this kernel, or not writable.
    pub fn set_sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{name}");
        self.run(|| fs::write(&path, value))
            .map_err(|source| Error::system(format!("writing {value:?} to {path}"), source))
    }

    /// Makes the namespace a router, for IPv4 and IPv6.
    ///
    /// # Errors
    /// As [`Namespace::set_sysctl`].
    pub fn set_forwarding(&self, on: bool) -> Result<()> {
        let value = if on { "1" } else { "0" };
        self.set_sysctl("ipv4/ip_forward", value)?;
        self.set_sysctl("ipv6/conf/all/forwarding", value)
    }

    /// The namespace's descriptor, for netlink attributes; valid as long as `self`.
    pub(crate) fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Runs `work` on a new thread; a panic in it is passed on.
fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        scope
            .spawn(work)
            .join()
            .unwrap_or_else(|payload| panic::resume_unwind(payload))
    })
}

/// Reduces the capabilities after the next exec. For user 0 the kernel then computes the permitted
/// and effective sets from the bounding and the inheritable set, see capabilities(7).
fn drop_capabilities(surplus: &[Capability]) -> io::Result<()> {
    let refused = |_| io::Error::from(io::ErrorKind::PermissionDenied);
    caps::clear(None, CapSet::Inheritable).map_err(refused)?;
    for &capability in surplus {
        caps::drop(None, CapSet::Bounding, capability).map_err(refused)?;
    }
    Ok(())
}
