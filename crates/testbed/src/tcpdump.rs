//! Captures with tcpdump, to compare with those of a [`Sniffer`](crate::Sniffer).
//!
//! tcpdump writes each packet at once (`-U`, immediate mode). An interrupted tcpdump loses the frames
//! in its ring, so it is stopped only when its file has stopped growing. Its own count of dropped
//! packets then shows whether the file is complete.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::capture_file::read_capture;
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::namespace::Namespace;
use crate::process::Process;

/// A capture program: how to start it, and the texts that it prints.
#[derive(Debug)]
struct Program {
    name: &'static str,
    package: &'static str,
    arguments: &'static [&'static str],
    before_filter: &'static [&'static str],
    /// Printed when it captures.
    listening: &'static str,
    /// Printed at its end when nothing was dropped.
    lossless: &'static str,
}

const TCPDUMP: Program = Program {
    name: "tcpdump",
    package: "tcpdump",
    arguments: &[
        "-n",
        "-U",
        "--immediate-mode",
        "-Z",
        "root",
        "-s",
        "262144",
        "-B",
        "65536",
        "--time-stamp-precision=nano",
    ],
    before_filter: &[],
    listening: "listening on",
    lossless: "\n0 packets dropped by kernel",
};

const DUMPCAP: Program = Program {
    name: "dumpcap",
    package: "wireshark-common",
    arguments: &["-q", "-s", "262144", "-B", "64"],
    before_filter: &["-f"],
    listening: "File: ",
    lossless: "/0 (pcap:0/dumpcap:0/",
};

const LIMIT: Duration = Duration::from_secs(10);
/// A file that has not grown for this time is complete.
const QUIET: Duration = Duration::from_millis(200);

/// A running tcpdump.
#[derive(Debug)]
pub struct Tcpdump {
    program: &'static Program,
    process: Process,
    file: PathBuf,
    _folder: TempDir,
}

impl Tcpdump {
    /// Starts tcpdump on `interface` and waits until it listens. `expression` is a filter in its
    /// language; empty is everything.
    ///
    /// # Errors
    /// [`Error::MissingProgram`], [`Error::Program`] with what it printed.
    pub fn start(namespace: &Namespace, interface: &str, expression: &str) -> Result<Self> {
        let folder = tempfile::tempdir()
            .map_err(|source| Error::system("making a folder for tcpdump", source))?;
        let file = folder.path().join("capture");
        let groups = fs::read_to_string("/proc/self/setgroups").unwrap_or_default();
        let program = if groups.trim() == "deny" {
            &DUMPCAP
        } else {
            &TCPDUMP
        };
        let mut command = namespace.command(program.name);
        command
            .args(program.arguments)
            .args(["-i", interface, "-w"])
            .arg(&file);
        if !expression.is_empty() {
            command.args(program.before_filter).arg(expression);
        }
        let mut process = Process::spawn(command)
            .map_err(|error| Error::start(program.name, program.package, error))?;
        process.wait_for_output(program.listening, LIMIT)?;
        Ok(Self {
            program,
            process,
            file,
            _folder: folder,
        })
    }

    /// Stops tcpdump when it has written all frames so far, and returns them.
    ///
    /// # Errors
    /// [`Error::Program`] where it dropped packets, [`Error::Timeout`] where traffic does not end,
    /// [`Error::CaptureFile`].
    pub fn stop(mut self) -> Result<Vec<Frame>> {
        self.await_complete_file()?;
        self.process.interrupt()?;
        self.process.wait(LIMIT)?;
        if !self.process.stderr().contains(self.program.lossless) {
            return Err(self.process.failure("it lost packets"));
        }
        read_capture(&self.file)
    }

    fn await_complete_file(&self) -> Result<()> {
        let end = Instant::now() + LIMIT;
        let mut before = (self.size(), Instant::now());
        while before.1.elapsed() < QUIET {
            thread::sleep(Duration::from_millis(10));
            let size = self.size();
            if size != before.0 {
                before = (size, Instant::now());
            }
            if Instant::now() >= end {
                let waiting_for = "a pause in what tcpdump captures".to_owned();
                return Err(Error::Timeout {
                    waiting_for,
                    limit: LIMIT,
                });
            }
        }
        Ok(())
    }

    fn size(&self) -> u64 {
        fs::metadata(&self.file).map_or(0, |metadata| metadata.len())
    }
}
