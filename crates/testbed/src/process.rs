//! Child processes that cannot be left behind.
//!
//! A [`Process`] is killed and reaped when it is dropped, also during a panic. If this program is
//! killed first, the kernel kills the child: each child has a parent-death signal, see
//! `PR_SET_PDEATHSIG(2const)`. The kernel sends this signal when the *thread* that forked ends, so
//! one thread forks all children, and it runs as long as the program.
//!
//! Two threads read the child's output at once, so a full pipe never blocks it.

use std::fs;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::{Pid, getppid};

use crate::error::{Error, Result};

/// How often a child's state is read while waiting.
const POLL: Duration = Duration::from_millis(2);

/// A running child with captured output; killed and reaped on drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: Output,
    stderr: Output,
}

impl Process {
    /// Starts `command` with its output captured and its input closed.
    ///
    /// # Errors
    /// [`Error::System`] where the program is missing or its preparation (entering the namespace,
    /// dropping capabilities) failed.
    pub fn spawn(command: Command) -> Result<Self> {
        Self::spawn_with_stderr(command, Stdio::piped())
    }

    /// As [`Self::spawn`], with the caller's file as standard error, which is not captured.
    ///
    /// # Errors
    /// As [`Self::spawn`].
    pub fn spawn_with_stderr(mut command: Command, stderr: impl Into<Stdio>) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let parent = std::process::id();
        // SAFETY: the closure makes two system calls and uses no memory of the parent.
        unsafe { command.pre_exec(move || die_with_parent(parent)) };
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr);
        let mut child =
            fork(command).map_err(|source| Error::system(format!("starting {name}"), source))?;
        let stdout = Output::collect(child.stdout.take());
        let stderr = Output::collect(child.stderr.take());
        Ok(Self {
            name,
            child,
            stdout,
            stderr,
        })
    }

    /// The process's number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks the process to end (SIGTERM).
    ///
    /// # Errors
    /// [`Error::System`] where it is gone already.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Interrupts the process as Ctrl-C does (SIGINT).
    ///
    /// # Errors
    /// [`Error::System`] where it is gone already.
    pub fn interrupt(&self) -> Result<()> {
        self.signal(Signal::SIGINT)
    }

    /// Sends any signal, for example SIGSTOP and SIGCONT.
    ///
    /// # Errors
    /// [`Error::System`] where the process is gone already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal)
            .map_err(|errno| Error::system(format!("sending {signal} to {}", self.name), errno))
    }

    /// Waits until the process has ended and all its output is read.
    ///
    /// # Errors
    /// [`Error::Timeout`]; the process then runs on.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.try_wait()? {
                self.stdout.finish();
                self.stderr.finish();
                return Ok(status);
            }
            if Instant::now() >= end {
                let waiting_for = format!("the end of {}", self.name);
                return Err(Error::Timeout { waiting_for, limit });
            }
            thread::sleep(POLL);
        }
    }

    /// The exit status, if the process has ended.
    ///
    /// # Errors
    /// [`Error::System`] where the kernel does not return it.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .map_err(|source| Error::system(format!("waiting for {}", self.name), source))
    }

    /// Waits until standard output or standard error contains `text`.
    ///
    /// # Errors
    /// [`Error::Program`] with all that it printed where the process ends without having printed
    /// it, [`Error::Timeout`] after `limit`.
    pub fn wait_for_output(&mut self, text: &str, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            let ended = self.try_wait()?;
            if ended.is_some() {
                self.stdout.finish();
                self.stderr.finish();
            }
            if self.stderr().contains(text) || self.stdout().contains(text) {
                return Ok(());
            }
            if let Some(status) = ended {
                return Err(self.failure(&format!("{status} before it printed {text:?}")));
            }
            if Instant::now() >= end {
                let waiting_for =
                    format!("{text:?} from {} (so far: {})", self.name, self.printed());
                return Err(Error::Timeout { waiting_for, limit });
            }
            thread::sleep(POLL);
        }
    }

    /// The standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// The standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// CPU time that the process has used so far, user and system together.
    ///
    /// # Errors
    /// [`Error::System`] where the process is gone.
    pub fn cpu_time(&self) -> Result<Duration> {
        clock_getcpuclockid(self.pid())
            .and_then(clock_gettime)
            .map(Duration::from)
            .map_err(|errno| Error::system("reading a process's CPU clock", errno))
    }

    /// A field of `/proc/<pid>/status`, for example `VmRSS` or `CapEff`.
    ///
    /// # Errors
    /// [`Error::System`] where the process is gone or the kernel has no such field.
    pub fn status_field(&self, field: &str) -> Result<String> {
        let missing = || Error::system(format!("reading {field}"), io::ErrorKind::NotFound);
        self.proc_file("status")?
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .map(|value| value.trim().to_owned())
            .ok_or_else(missing)
    }

    /// The error for a program that failed, with all its output.
    pub(crate) fn failure(&self, reason: &str) -> Error {
        Error::Program {
            program: self.name.clone(),
            reason: format!("{reason}; it printed: {}", self.printed()),
        }
    }

    fn printed(&self) -> String {
        format!("{}{}", self.stdout(), self.stderr())
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    fn proc_file(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.id());
        fs::read_to_string(&path).map_err(|source| Error::system(path, source))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a process that is reaped already, which is the goal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The bytes from one pipe, and the thread that reads it.
#[derive(Debug)]
struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Output {
    fn collect(pipe: Option<impl Read + Send + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let reader = pipe.map(|mut pipe| {
            thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(length @ 1..) = pipe.read(&mut chunk) {
                    let read = chunk.get(..length).unwrap_or_default();
                    sink.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend_from_slice(read);
                }
            })
        });
        Self { bytes, reader }
    }

    /// Waits for the end of the pipe. Called after the process has ended.
    fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            // A reader does not panic; if it did, what it has read is still there.
            let _ = reader.join();
        }
    }

    fn text(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Called in the child before exec: the kernel kills the child when its parent ends.
pub(crate) fn die_with_parent(parent: u32) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    // The parent may have ended before the signal was set up.
    if u32::try_from(getppid().as_raw()) == Ok(parent) {
        Ok(())
    } else {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

/// A command to fork, and the channel for its child.
type Request = (Command, Sender<io::Result<Child>>);

/// Forks on the thread that runs as long as the program.
pub(crate) fn fork(command: Command) -> io::Result<Child> {
    static FORKER: OnceLock<Mutex<Sender<Request>>> = OnceLock::new();
    let forker = FORKER.get_or_init(|| {
        let (requests, inbox) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                // Nobody receives the answer if the calling thread has panicked.
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(requests)
    });
    let (answer, child) = mpsc::channel();
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    forker
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, answer))
        .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
    child.recv().map_err(gone)?
}
