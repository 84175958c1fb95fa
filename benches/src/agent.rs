//! The real `podspan` binary, running in the lab's pod with `NET_RAW` as its only capability.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use testbed::traffic::RawSocket;
use testbed::{Capability, ControlGroup, Filter, FrameRef, Lab, Process, Sniffer};

use crate::error::{Error, Result};
use crate::totals_line::TotalsLine;

/// EtherType for experiments (IEEE Std 802), and the text of a probe.
const PROBE: &[u8] = b"\x88\xb5podspan probe";
/// The longest time from podspan's start to its first datagram, and from SIGTERM to its end.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A running podspan; killed when it is dropped.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    clock: ClockId,
}

impl Agent {
    /// Starts `binary` in the pod of `lab`, mirroring `eth0` to `sensor` with this VNI.
    ///
    /// # Errors
    /// As [`Agent::start_with`].
    pub fn start(binary: &Path, lab: &Lab, sensor: SocketAddr, vni: u32) -> Result<Self> {
        let settings = [("SENSOR", sensor.to_string()), ("VNI", vni.to_string())];
        Self::start_with(binary, lab, &settings)
    }

    /// Starts `binary` in the pod of `lab` with these environment variables and no others.
    ///
    /// It does not belong to the terminal's process group: this program handles Ctrl-C and stops it.
    ///
    /// # Errors
    /// [`Error::Lab`] where the binary cannot be started.
    pub fn start_with(binary: &Path, lab: &Lab, settings: &[(&str, String)]) -> Result<Self> {
        Self::start_in(binary, lab, settings, None)
    }

    /// As [`Agent::start_with`], in a control group.
    ///
    /// # Errors
    /// As [`Agent::start_with`].
    pub fn start_in(
        binary: &Path,
        lab: &Lab,
        settings: &[(&str, String)],
        group: Option<&ControlGroup>,
    ) -> Result<Self> {
        let mut command = lab
            .pod
            .namespace
            .command_with_capabilities(binary, &[Capability::CAP_NET_RAW]);
        command
            .env_clear()
            .envs(settings.iter().cloned())
            .process_group(0);
        if let Some(group) = group {
            group.add(&mut command)?;
        }
        let process = Process::spawn(command)?;
        let pid = Pid::from_raw(i32::try_from(process.id()).unwrap_or(i32::MAX));
        let clock = clock_getcpuclockid(pid).map_err(|source| Error::System {
            doing: "finding the CPU clock of podspan",
            source,
        })?;
        Ok(Self { process, clock })
    }

    /// Sends probes from the client to the pod until one arrives at the sensor.
    ///
    /// # Errors
    /// [`Error::Silent`] where none arrives, [`Error::Ended`] where podspan ends first.
    pub fn await_mirroring(&mut self, lab: &Lab) -> Result<()> {
        let seen = Arc::new(AtomicBool::new(false));
        let note = Arc::clone(&seen);
        // Not decoded: to a sensor that is a socket, the checksum of the outer header is unfinished here.
        let sink = move |frame: FrameRef<'_>| {
            if frame.bytes.windows(PROBE.len()).any(|part| part == PROBE) {
                note.store(true, Ordering::Relaxed);
            }
        };
        let sniffer = Sniffer::start(&lab.sensor.namespace, "eth0", Filter::Incoming, sink)?;
        let socket = RawSocket::open(&lab.client.eth0)?;
        let mut probe = [lab.pod.mac, lab.client.mac].concat();
        probe.extend(PROBE);
        probe.resize(60, 0);
        let end = Instant::now() + TIMEOUT;
        while !seen.load(Ordering::Relaxed) {
            self.check_running()?;
            if Instant::now() >= end {
                return Err(Error::Silent {
                    limit: TIMEOUT,
                    log: self.log(),
                });
            }
            socket.send(&probe)?;
            thread::sleep(Duration::from_millis(20));
        }
        let _sink = sniffer.stop()?;
        Ok(())
    }

    /// CPU time used so far, user and system together, in nanoseconds.
    ///
    /// # Errors
    /// [`Error::System`] where the process is gone.
    pub fn cpu_time(&self) -> Result<Duration> {
        cpu_time(self.clock)
    }

    /// A field of `/proc/<pid>/status` in KiB, for example `VmRSS`.
    ///
    /// # Errors
    /// [`Error::Lab`] where the process is gone, [`Error::Unreadable`] where it is no size.
    pub fn status_kib(&self, field: &str) -> Result<u64> {
        let text = self.process.status_field(field)?;
        let number = text
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok());
        number.ok_or(Error::Unreadable { text })
    }

    /// # Errors
    /// [`Error::Ended`] where podspan is not running any more.
    pub fn check_running(&mut self) -> Result<()> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => Err(Error::Ended {
                status,
                log: self.log(),
            }),
        }
    }

    /// Ends podspan with SIGTERM, and returns its totals.
    ///
    /// # Errors
    /// [`Error::Ended`] where it ends with an error, [`Error::NoTotals`] where it prints no totals.
    pub fn stop(mut self) -> Result<TotalsLine> {
        self.check_running()?;
        self.process.terminate()?;
        let status = self.process.wait(TIMEOUT)?;
        let log = self.log();
        if !status.success() {
            return Err(Error::Ended { status, log });
        }
        TotalsLine::find(&log).ok_or(Error::NoTotals { log })
    }

    /// All that podspan has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.stdout() + &self.process.stderr()
    }
}

/// The time of a CPU clock.
pub(crate) fn cpu_time(clock: ClockId) -> Result<Duration> {
    let failed = |source| Error::System {
        doing: "reading a CPU clock",
        source,
    };
    clock.now().map(Duration::from).map_err(failed)
}
