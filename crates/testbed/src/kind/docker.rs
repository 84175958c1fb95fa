//! A private Docker daemon: nothing of it touches the machine.
//!
//! It is the first process of a process-ID namespace and has network and mount namespaces of its own.
//! So its bridges, its packet filter rules and what it publishes on 127.0.0.1 are in its network
//! namespace; its `/run` is a tmpfs; its `/lib/modules`, which Docker makes as a mount point on a
//! machine without one, is in an overlay. When it ends, however it ends, the kernel ends every node
//! with all that runs in it, and the namespaces go with their mounts. What remains are its control
//! groups, which have a parent of their own, and its data in the cluster's folder.
//!
//! Whether it runs, and which process it is, the kernel reports: the daemon holds a POSIX record
//! lock on a file (`fcntl(2)`, kept across exec, not inherited by children), and `F_GETLK` answers
//! with the holder's process ID. So no number of a process that is gone is ever taken for it, and it
//! is known from before its exec on. If whoever starts it is killed before the lock is held, the
//! daemon's process ends by itself.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{ForkResult, fork, setsid};

use super::error::{Error, Result};
use super::programs::{BOUNDED_RUNC, path};
use super::run::{make_folder, remove, run, tail, write};
use super::{cgroups, node_image};
use crate::Namespace;

/// How long the daemon may take to answer.
const START_TIMEOUT: Duration = Duration::from_mins(1);
/// How long the daemon may take to end on SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the kernel may take to end all of it.
const KILL_TIMEOUT: Duration = Duration::from_mins(1);

/// Exists while the daemon's data hold no container: it was stopped in order.
const CLEAN: &str = "docker-is-clean";

/// A private Docker daemon that runs.
#[derive(Debug)]
pub(super) struct Daemon {
    pid: i32,
    namespace: Namespace,
    folder: PathBuf,
}

impl Daemon {
    /// The daemon of the cluster in `folder`, where one runs.
    pub(super) fn find(folder: &Path) -> Result<Option<Self>> {
        let Some(pid) = lock_holder(folder)? else {
            return Ok(None);
        };
        let describe = || format!("entering the Docker daemon, process {pid}");
        let namespace = Namespace::of_process(pid).map_err(Error::io(describe()))?;
        Ok(Some(Self {
            pid,
            namespace,
            folder: folder.to_owned(),
        }))
    }

    /// Starts it.
    pub(super) fn start(folder: &Path, group: &str) -> Result<Self> {
        let data = folder.join("docker");
        if !folder.join(CLEAN).is_file() {
            remove(&data)?;
        }
        remove(&folder.join(CLEAN))?;
        make_folder(&data)?;
        let log_path = folder.join("dockerd.log");
        let describe = || format!("starting dockerd with the log {}", log_path.display());
        let log = File::create(&log_path).map_err(Error::io(describe()))?;
        let errors = log.try_clone().map_err(Error::io(describe()))?;
        let lock = open_lock(folder)?;
        let mut dockerd = Command::new("dockerd");
        dockerd
            .arg("--data-root")
            .arg(&data)
            .args(["--exec-root", "/run/docker", "--pidfile", "/run/docker.pid"])
            .args(["--host", "unix:///run/docker.sock"])
            .args(["--storage-driver", "overlay2", "--log-level", "info"])
            .args(["--cgroup-parent", &format!("/{group}")])
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            .arg("--add-runtime")
            .arg(format!("bounded={}", path(BOUNDED_RUNC)?.display()))
            .args(["--default-runtime", "bounded"])
            .args(old_flags()?)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .current_dir("/");
        // The user's daemon is none of its business.
        dockerd
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_CONTEXT");
        let isolation = Isolation::new();
        let (alive, ours) = io::pipe().map_err(Error::io(describe()))?;
        let copy = ours.as_raw_fd();
        let enter = move || {
            isolation.enter()?;
            hold_lock(&lock)?;
            // SAFETY: this process's copy of the descriptor, which nothing here uses any more.
            unsafe { libc::close(copy) };
            still_wanted(&alive)
        };
        // SAFETY: between fork and exec the closure makes system calls on data that was prepared
        // before; it forks once more, in a process with this one thread, and takes no lock that
        // another thread of the parent could hold.
        unsafe { dockerd.pre_exec(enter) };
        let spawned = dockerd.spawn();
        drop(ours);
        let mut child = spawned.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::Missing {
                program: "dockerd",
                package: "docker.io",
            },
            _ => Error::io(describe())(error),
        })?;
        // The child has forked the daemon and ended.
        child.wait().map_err(Error::io(describe()))?;
        let daemon = Self::find(folder)?.ok_or_else(|| Error::Late {
            what: "dockerd".to_owned(),
            seconds: 0,
            last: format!("it ended at once:\n{}", tail(&log_path)),
        })?;
        daemon.namespace.link("lo")?.up()?;
        daemon.wait_until_it_answers(&log_path)?;
        Ok(daemon)
    }

    /// The network namespace of the daemon.
    pub(super) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// A command that runs next to the daemon, with its sockets and mounts, and ends with it.
    pub(super) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let parent = std::process::id();
        // SAFETY: between fork and exec the closure makes two system calls; it takes no lock and
        // allocates nothing.
        unsafe { command.pre_exec(move || crate::process::die_with_parent(parent)) };
        command
            .arg(format!("--target={}", self.pid))
            .args(["--net", "--mount", "--pid", "--"])
            .arg(program)
            .env("DOCKER_HOST", "unix:///run/docker.sock")
            .env("DOCKER_CONFIG", self.folder.join("docker-config"))
            .env_remove("DOCKER_CONTEXT");
        command
    }

    /// Imports the node image if the daemon does not have it, and drops what it has of older ones.
    pub(super) fn import(&self, image: &node_image::NodeImage) -> Result<()> {
        let mut inspect = self.command("docker");
        inspect.args(["image", "inspect", &image.reference]);
        if run("asking for the node image", inspect).is_ok() {
            return Ok(());
        }
        let mut prune = self.command("docker");
        prune.args(["image", "prune", "--all", "--force"]);
        run("removing older node images", prune)?;
        let mut import = self.command("docker");
        import.arg("import");
        for change in node_image::CHANGES {
            import.args(["--change", change]);
        }
        import.arg(&image.archive).arg(&image.reference);
        run("importing the node image", import).map(drop)
    }

    /// Ends it in order: containers, volumes and networks are removed, and the data stay clean.
    pub(super) fn stop(self) -> Result<()> {
        let mut list = self.command("docker");
        list.args(["ps", "--all", "--quiet"]);
        let containers = run("listing containers", list)?;
        // Side by side: each takes a second or two.
        thread::scope(|scope| {
            let removals: Vec<_> = containers
                .split_whitespace()
                .map(|container| {
                    let mut remove = self.command("docker");
                    remove.args(["rm", "--force", "--volumes", container]);
                    scope.spawn(move || run("removing a container", remove))
                })
                .collect();
            removals.into_iter().try_for_each(|removal| {
                removal
                    .join()
                    .unwrap_or_else(|payload| std::panic::resume_unwind(payload))
                    .map(drop)
            })
        })?;
        for what in ["volume", "network"] {
            let mut prune = self.command("docker");
            prune.args([what, "prune", "--force"]);
            run("removing volumes and networks", prune)?;
        }
        let ended = signal(self.pid, &self.folder, libc::SIGTERM)?;
        if !ended.is_none_or(|ended| wait_for_end(&ended, STOP_TIMEOUT)) {
            return Err(Error::Late {
                what: "the end of dockerd".to_owned(),
                seconds: STOP_TIMEOUT.as_secs(),
                last: tail(&self.folder.join("dockerd.log")),
            });
        }
        write(&self.folder.join(CLEAN), "", 0o644)
    }

    fn wait_until_it_answers(&self, log: &Path) -> Result<()> {
        let begin = Instant::now();
        loop {
            let mut version = self.command("docker");
            version.args(["version", "--format", "{{.Server.Version}}"]);
            let Err(last) = run("asking dockerd", version) else {
                return Ok(());
            };
            let gone = lock_holder(&self.folder)?.is_none();
            if gone || begin.elapsed() > START_TIMEOUT {
                return Err(Error::Late {
                    what: "dockerd".to_owned(),
                    seconds: begin.elapsed().as_secs(),
                    last: format!("{last}\nThe end of its log:\n{}", tail(log)),
                });
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Ends the daemon of `folder` and everything in it, in whatever state it is, with its control groups.
pub(super) fn kill(folder: &Path, group: &str) -> Result<()> {
    if let Some(pid) = lock_holder(folder)?
        && let Some(ended) = signal(pid, folder, libc::SIGKILL)?
        && !wait_for_end(&ended, KILL_TIMEOUT)
    {
        return Err(Error::Left {
            what: format!("process {pid}, the Docker daemon, does not end"),
        });
    }
    cgroups::remove(group)
}

/// What must be prepared before the fork.
struct Isolation {
    overlay: Option<CString>,
}

impl Isolation {
    fn new() -> Self {
        // Docker makes the source of kind's mount where it is missing: on the machine.
        let modules = Path::new("/lib/modules");
        let missing = fs::read_dir(modules).is_ok_and(|mut entries| entries.next().is_none())
            || !modules.exists();
        let lower = fs::canonicalize("/lib").unwrap_or_else(|_| "/lib".into());
        let options = format!(
            "lowerdir={},upperdir=/run/lib,workdir=/run/lib-work",
            lower.display()
        );
        let overlay = missing.then(|| CString::new(options).ok()).flatten();
        Self { overlay }
    }

    /// Leaves the machine: to be called in a forked child. Returns in a grandchild that is the first
    /// process of its namespace; the child ends.
    fn enter(&self) -> io::Result<()> {
        setsid()?;
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID)?;
        // SAFETY: this process has one thread; both sides go on with system calls only.
        match unsafe { fork() }? {
            // SAFETY: ends this process at once, without anything of the parent's that would run
            // at its exit.
            ForkResult::Parent { .. } => unsafe { libc::_exit(0) },
            ForkResult::Child => {}
        }
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none)?;
        mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)?;
        mount(
            Some("tmpfs"),
            "/run",
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=755"),
        )?;
        if let Some(options) = &self.overlay {
            for folder in [c"/run/lib", c"/run/lib-work"] {
                nix::unistd::mkdir(folder, nix::sys::stat::Mode::from_bits_truncate(0o755))?;
            }
            mount(
                Some("overlay"),
                "/lib",
                Some("overlay"),
                MsFlags::empty(),
                Some(options.as_c_str()),
            )?;
        }
        Ok(())
    }
}

/// `--oom-score-adjust` as an older daemon needs it: its default takes a right that root may lack.
/// Current ones have no such flag and do not touch the score.
fn old_flags() -> Result<Option<&'static str>> {
    let mut version = Command::new("dockerd");
    version.arg("--version");
    let printed = run("asking dockerd for its version", version)?;
    Ok(major(&printed)
        .is_some_and(|major| major < 24)
        .then_some("--oom-score-adjust=0"))
}

/// The number in `Docker version 20.10.24+dfsg1, build 297e128`.
fn major(printed: &str) -> Option<u32> {
    let version = printed.split_whitespace().nth(2)?;
    version.split('.').next()?.parse().ok()
}

fn lock_path(folder: &Path) -> PathBuf {
    folder.join("dockerd.lock")
}

fn open_lock(folder: &Path) -> Result<File> {
    let path = lock_path(folder);
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(Error::io(format!("opening {}", path.display())))
}

/// A write lock on the whole file.
fn whole_file() -> libc::flock {
    // SAFETY: all fields are numbers, for which zero is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::c_short::try_from(libc::F_WRLCK).unwrap_or_default();
    lock.l_whence = libc::c_short::try_from(libc::SEEK_SET).unwrap_or_default();
    lock
}

/// Takes the lock and keeps it across exec. The descriptor itself must stay open: closing any
/// descriptor of the file gives the lock up.
fn hold_lock(file: &File) -> io::Result<()> {
    fcntl(file, FcntlArg::F_SETFD(FdFlag::empty()))?;
    fcntl(file, FcntlArg::F_SETLK(&whole_file()))?;
    Ok(())
}

/// Fails where the process that keeps the other end of the pipe is gone: it was killed before the
/// lock was taken, and whoever cleans up after it may not have seen us.
fn still_wanted(alive: &io::PipeReader) -> io::Result<()> {
    let mut ready = [PollFd::new(alive.as_fd(), PollFlags::empty())];
    match poll(&mut ready, PollTimeout::ZERO)? {
        0 => Ok(()),
        _ => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

/// The process that holds the lock, where one does.
fn lock_holder(folder: &Path) -> Result<Option<i32>> {
    if !lock_path(folder).is_file() {
        return Ok(None);
    }
    let file = open_lock(folder)?;
    let mut lock = whole_file();
    fcntl(&file, FcntlArg::F_GETLK(&mut lock)).map_err(|errno| {
        Error::io(format!("asking who holds {}", lock_path(folder).display()))(errno.into())
    })?;
    let held = i32::from(lock.l_type) != libc::F_UNLCK;
    Ok(held.then_some(lock.l_pid))
}

/// Sends a signal to the daemon, and returns what tells its end; `None` where it has ended.
fn signal(pid: i32, folder: &Path, signal: i32) -> Result<Option<OwnedFd>> {
    let describe = || format!("ending process {pid}, the Docker daemon");
    // SAFETY: a system call with numbers only.
    let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let Ok(fd @ 0..) = i32::try_from(opened) else {
        return match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            error => Err(Error::io(describe())(error)),
        };
    };
    // SAFETY: the kernel has just made this descriptor for us.
    let process = unsafe { OwnedFd::from_raw_fd(fd) };
    // The descriptor is of whoever had the number a moment ago. If the lock's holder still has it,
    // that is the daemon, and the descriptor stays the daemon's for good.
    if lock_holder(folder)? != Some(pid) {
        return Ok(None);
    }
    let no_info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: a system call with numbers and a null pointer, which it takes for "no more to say".
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            no_info,
            0,
        )
    };
    if sent == 0 {
        return Ok(Some(process));
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        error => Err(Error::io(describe())(error)),
    }
}

/// Whether the process behind the descriptor ends in time. As the first process of its namespace it
/// ends after all others in it.
fn wait_for_end(process: &OwnedFd, limit: Duration) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < limit {
        let mut ready = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        if matches!(poll(&mut ready, PollTimeout::from(200_u16)), Ok(1..)) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(
            major("Docker version 20.10.24+dfsg1, build 297e128"),
            Some(20)
        );
        assert_eq!(major("Docker version 28.1.1, build 4eba377"), Some(28));
        assert_eq!(major("podman"), None);
    }

    #[test]
    fn the_holder_of_a_lock_is_found_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(lock_holder(folder.path()).unwrap(), None);
        let lock = open_lock(folder.path()).unwrap();
        let mut command = Command::new("sleep");
        command.arg("60");
        // SAFETY: two system calls on a descriptor that was opened before the fork.
        unsafe { command.pre_exec(move || hold_lock(&lock)) };
        let mut child = command.spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert_eq!(lock_holder(folder.path()).unwrap(), Some(pid));
        let ended = signal(pid, folder.path(), libc::SIGKILL).unwrap().unwrap();
        assert!(wait_for_end(&ended, Duration::from_secs(10)));
        child.wait().unwrap();
        assert_eq!(lock_holder(folder.path()).unwrap(), None);
        assert!(signal(pid, folder.path(), libc::SIGKILL).unwrap().is_none());
    }
}
