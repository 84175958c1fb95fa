//! A CPU quota for one process, as a container has it, for a user who may not make a cgroup.
//!
//! The kernel's CFS bandwidth control lets a group run until it has used its quota in a period of
//! 100 ms, and stops it until the next period. Here a thread does the same with SIGSTOP and SIGCONT: it
//! reads the process's CPU clock once a millisecond, and CPU time above the quota is subtracted from
//! the next periods. It measures CPU time and not wall-clock time, so a process on a busy machine gets
//! its share as in a cgroup. It works as root, in a user namespace, and together with cgroups of
//! either version.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::process::Process;

/// The period of the kernel's default.
const PERIOD: Duration = Duration::from_millis(100);
/// How often the CPU clock is read.
const TICK: Duration = Duration::from_millis(1);

/// A quota that holds until this is dropped, or the process has ended.
#[derive(Debug)]
pub struct Quota {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Process {
    /// Limits the process to `quota` of CPU time in each 100 ms.
    ///
    /// # Errors
    /// [`Error::System`] where the process is gone.
    pub fn limit_cpu(&self, quota: Duration) -> Result<Quota> {
        let pid = self.pid();
        let clock = clock_getcpuclockid(pid)
            .map_err(|errno| Error::system("finding a process's CPU clock", errno))?;
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let thread = thread::spawn(move || {
            // The process has ended: there is nothing left to limit.
            let _ = limit(pid, clock, quota, &ended);
            let _ = kill(pid, Signal::SIGCONT);
        });
        Ok(Quota {
            over,
            thread: Some(thread),
        })
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does not panic.
            let _ = thread.join();
        }
    }
}

fn limit(pid: Pid, clock: ClockId, quota: Duration, over: &AtomicBool) -> nix::Result<()> {
    let cpu_time = || clock_gettime(clock).map(Duration::from);
    let mut allowed = cpu_time()?;
    while !over.load(Ordering::Relaxed) {
        let end = Instant::now() + PERIOD;
        // Unused time is lost; time above the quota is subtracted.
        allowed = allowed.min(cpu_time()?) + quota;
        kill(pid, Signal::SIGCONT)?;
        while cpu_time()? < allowed && Instant::now() < end {
            thread::sleep(TICK);
        }
        if cpu_time()? >= allowed {
            kill(pid, Signal::SIGSTOP)?;
        }
        thread::sleep(end.saturating_duration_since(Instant::now()));
    }
    Ok(())
}
