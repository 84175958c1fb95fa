//! One server: a child process with its log in a file.
//!
//! It runs in the control plane's network namespace, is killed when its value is dropped, and by
//! the kernel when the test process dies (see [`crate::process`]).

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::Error;
use crate::Namespace;
use crate::process::{die_with_parent, fork};

/// How many lines of a log an error shows.
const TAIL_LINES: usize = 25;

/// How often a child is polled until it has ended.
const POLL: Duration = Duration::from_millis(10);

/// A command that will run in `namespace`, or in the caller's, and die with this process.
pub(super) fn command(namespace: Option<&Namespace>, program: impl AsRef<OsStr>) -> Command {
    if let Some(namespace) = namespace {
        return namespace.command(program);
    }
    let mut command = Command::new(program);
    let parent = std::process::id();
    // SAFETY: between fork and exec the closure makes two system calls; it uses no lock and
    // allocates nothing.
    unsafe { command.pre_exec(move || die_with_parent(parent)) };
    command
}

/// A running server.
pub(super) struct Server {
    name: &'static str,
    log: PathBuf,
    child: Child,
}

impl Server {
    /// Starts a command made by [`command`]; its output is appended to `log`.
    ///
    /// It does not belong to the terminal's process group: this process handles Ctrl-C and stops it.
    pub(super) fn start(
        name: &'static str,
        mut command: Command,
        log: PathBuf,
    ) -> Result<Self, Error> {
        let describe = || format!("starting {name} with the log {}", log.display());
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(Error::io(describe()))?;
        let errors = output.try_clone().map_err(Error::io(describe()))?;
        command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0);
        let child = fork(command).map_err(Error::io(describe()))?;
        Ok(Self { name, log, child })
    }

    /// Fails with the end of the log when the server has ended by itself.
    pub(super) fn check(&mut self) -> Result<(), Error> {
        match self.child.try_wait().map_err(self.failed("asking for"))? {
            None => Ok(()),
            Some(status) => Err(Error::Ended {
                component: self.name,
                status,
                log: tail(&self.log),
            }),
        }
    }

    /// The error for a server that did not become what it should within `waited`.
    pub(super) fn late(&self, waited: Duration, last: String) -> Error {
        Error::Late {
            component: self.name,
            seconds: waited.as_secs(),
            last,
            log: tail(&self.log),
        }
    }

    /// Sends `signal`.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), Error> {
        // The child is not reaped before this value is dropped or found ended, so its number is
        // still its own.
        i32::try_from(self.child.id())
            .map_err(io::Error::other)
            .and_then(|pid| Ok(kill(Pid::from_raw(pid), signal)?))
            .map_err(self.failed(&format!("sending {signal} to")))
    }

    /// Sends SIGTERM and waits for the end, at most `limit`; then it is killed.
    pub(super) fn terminate(mut self, limit: Duration) -> Result<(), Error> {
        self.signal(Signal::SIGTERM)?;
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            let ended = self.child.try_wait().map_err(self.failed("waiting for"))?;
            if ended.is_some() {
                return Ok(());
            }
            thread::sleep(POLL);
        }
        Err(self.late(limit, "it did not end after SIGTERM".to_owned()))
    }

    fn failed(&self, doing: &str) -> impl FnOnce(io::Error) -> Error + use<> {
        Error::io(format!("{doing} {}", self.name))
    }
}

impl Drop for Server {
    /// SIGKILL, which also ends one that is frozen.
    fn drop(&mut self) {
        // Both fail only for a child that has ended and been reaped, which is the goal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of a log.
fn tail(path: &Path) -> String {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) => return format!("{}: {error}", path.display()),
    };
    let mut last = VecDeque::with_capacity(TAIL_LINES);
    for line in BufReader::new(file).lines().map_while(Result::ok) {
        if last.len() == TAIL_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    Vec::from(last).join("\n")
}
