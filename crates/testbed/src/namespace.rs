//! A network namespace as a value.
//!
//! A namespace is a descriptor of `/proc/thread-self/ns/net`, taken on a thread that has just
//! unshared. There is no name, no mount and no process behind it: when the last descriptor and the
//! last process in it are gone, the kernel removes the namespace with every link in it, however
//! the program ends. See `network_namespaces(7)`.
//!
//! Entering one (`setns`) changes the calling thread alone, so everything that must happen inside
//! runs on a thread made for it ([`Namespace::run`]) or in a child between fork and exec
//! ([`Namespace::command`]). The threads of the caller never move.

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

/// The ports that the kernel hands out. tshark knows no protocol by any of these, so that what a
/// test sends is never taken for a damaged packet of a protocol that it is not.
const PORTS: &str = "50000 54000";

/// A network namespace; gone, with all its links, when it and the processes in it are.
///
/// Cloning is cheap and gives another handle on the same namespace.
#[derive(Debug, Clone)]
pub struct Namespace {
    fd: Arc<OwnedFd>,
}

impl Namespace {
    /// Makes an empty namespace: `lo` is up, IPv6 addresses are usable at once (no duplicate
    /// address detection), root may ping without a capability, and ports are handed out from
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
    /// Where `work` panics, and where the thread cannot enter, which takes a process that gave up
    /// the capabilities with which it made the namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let fd = self.fd.as_fd();
        on_own_thread(move || {
            let entered = setns(fd, CloneFlags::CLONE_NEWNET);
            assert!(entered.is_ok(), "entering a network namespace: {entered:?}");
            work()
        })
    }

    /// A command that will run inside the namespace and die with this process.
    ///
    /// Its parent-death signal belongs to the thread that spawns it: hand it to
    /// [`Process::spawn`](crate::Process::spawn) where it shall outlive the calling thread.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.prepare(program, None)
    }

    /// Like [`Namespace::command`], with `keep` as the program's only capabilities: permitted,
    /// effective and bounding set hold these and no others, inheritable and ambient set nothing.
    ///
    /// The program runs as user 0, so a capability that it lacks is missing in spite of it.
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
        // before the fork; it takes no lock that another thread of the parent could hold.
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

    /// Makes a router of the namespace, for IPv4 and IPv6.
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

/// Runs `work` on a thread of its own; a panic in it is passed on.
fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        scope
            .spawn(work)
            .join()
            .unwrap_or_else(|payload| panic::resume_unwind(payload))
    })
}

/// Reduces what the next exec can give. For user 0 the kernel takes permitted and effective from
/// the bounding and the inheritable set then, see capabilities(7).
fn drop_capabilities(surplus: &[Capability]) -> io::Result<()> {
    let refused = |_| io::Error::from(io::ErrorKind::PermissionDenied);
    caps::clear(None, CapSet::Inheritable).map_err(refused)?;
    for &capability in surplus {
        caps::drop(None, CapSet::Bounding, capability).map_err(refused)?;
    }
    Ok(())
}
