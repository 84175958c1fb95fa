//! `capture`: reads an interface, prints what comes in, and writes it to a file.
//!
//! One thread: it waits for a block of the ring, for changes of links, or for the end of a second. Frames
//! that leave the interface are not counted. Whether the interface is a vxlan device is read when it
//! appears, so `capture` may start before the device exists.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::num::NonZeroU32;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use ::capture::privilege::{drop_all, raise_net_raw};
use ::capture::{BLOCK_LEN, InterfaceChange, NetworkChanges, OpenError, Ring, RingConfig};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use wire::{Direction, Frame, Link};

use crate::arguments::{CaptureOptions, Output};
use crate::checksum;
use crate::decode::decode;
use crate::error::Error;
use crate::netlink::{find, is_vxlan, with};
use crate::pcap::Writer;
use crate::signals::Stop;
use crate::tally::Tally;

/// The ring: some tenths of a second of a busy interface.
const RING_BYTES: usize = 16 * BLOCK_LEN;
/// The ring leaves out frames with the mark of its own program. This program sends nothing, so this is a
/// number that nobody uses.
const UNUSED_MARK: NonZeroU32 = NonZeroU32::new(0x7365_6e73).unwrap();
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a signal may wait.
const POLL_MAX: Duration = Duration::from_millis(100);
/// How often the interface is checked although the kernel has reported no change.
const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// As many changes come from one check: bound, renamed, and down.
const CHANGES_MAX: usize = 4;
/// How long the last frames may stay in the ring.
const DRAIN_MAX: Duration = Duration::from_millis(500);

type Sink = Writer<BufWriter<Box<dyn Write>>>;

/// Captures until a signal, or for the time that was asked for.
pub(crate) fn run(options: &CaptureOptions) -> Result<(), Error> {
    let stop = Stop::on_signals()?;
    let file = options.write.as_ref().map(open).transpose()?;
    // Where frames go to standard output, lines go to standard error.
    let lines: Box<dyn Write> = match options.write {
        Some(Output::Stdout) => Box::new(io::stderr()),
        _ => Box::new(io::stdout()),
    };
    let config = RingConfig {
        bytes: RING_BYTES,
        mark: UNUSED_MARK,
    };
    raise_net_raw();
    let interface = options.interface.clone();
    let ring = Ring::open(interface, &config).map_err(|error| match error {
        OpenError::NotPermitted { interface } => Error::NetRaw {
            interface: interface.to_string(),
        },
        other => Error::system(format!("capture on {}", options.interface), &other),
    })?;
    drop_all().map_err(|error| Error::system("drop the privileges", &error))?;
    let mut capture = Capture {
        ring,
        receive: Receive {
            port: options.port,
            is_vxlan: false,
            interval: Tally::default(),
            file,
        },
        lines,
        drops: 0,
        total: Tally::default(),
    };
    match capture.run(&stop, options.seconds) {
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(Failure::Output(error)) => Err(Error::system("write", &error)),
        Err(Failure::Other(error)) => Err(error),
        Ok(()) => Ok(()),
    }
}

/// Why a run ends early. A reader that is gone is no error.
enum Failure {
    Output(io::Error),
    Other(Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

fn open(output: &Output) -> Result<Sink, Error> {
    let (name, to): (_, Box<dyn Write>) = match output {
        Output::Stdout => ("standard output".to_owned(), Box::new(io::stdout())),
        Output::File(path) => {
            let name = path.display().to_string();
            let file = File::create(path)
                .map_err(|error| Error::system(format!("create {name}"), &error))?;
            (name, Box::new(file))
        }
    };
    let mut writer = Writer::new(BufWriter::new(to))
        .map_err(|error| Error::system(format!("write to {name}"), &error))?;
    // A reader at the other end of a pipe gets the header at once.
    writer
        .flush()
        .map_err(|error| Error::system(format!("write to {name}"), &error))?;
    Ok(writer)
}

struct Capture {
    ring: Ring,
    receive: Receive,
    lines: Box<dyn Write>,
    /// Those of the ring that are counted.
    drops: u64,
    total: Tally,
}

impl Capture {
    fn run(&mut self, stop: &Stop, limit: Option<Duration>) -> Result<(), Failure> {
        let changes = NetworkChanges::subscribe().ok();
        let start = Instant::now();
        let (mut next_line, mut next_refresh) = (start + INTERVAL, start);
        while !stop.is_requested() && limit.is_none_or(|limit| start.elapsed() < limit) {
            let has_changed = changes.as_ref().is_some_and(NetworkChanges::clear);
            if has_changed || Instant::now() >= next_refresh {
                self.refresh()?;
                next_refresh = Instant::now() + REFRESH_EVERY;
            }
            self.wait(next_line, changes.as_ref())?;
            self.read()?;
            if Instant::now() >= next_line {
                self.print("")?;
                next_line += INTERVAL;
            }
        }
        self.drain()?;
        self.print("")?;
        self.receive.interval = std::mem::take(&mut self.total);
        self.print("total ")
    }

    /// Sleeps until there is something to do.
    fn wait(&self, next_line: Instant, changes: Option<&NetworkChanges>) -> Result<(), Failure> {
        let sleep = next_line
            .saturating_duration_since(Instant::now())
            .min(POLL_MAX);
        let timeout = PollTimeout::try_from(sleep).unwrap_or(PollTimeout::ZERO);
        let mut descriptors = vec![PollFd::new(self.ring.as_fd(), PollFlags::POLLIN)];
        descriptors.extend(changes.map(|changes| PollFd::new(changes.as_fd(), PollFlags::POLLIN)));
        match poll(&mut descriptors, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(Failure::Other(Error::system("wait for frames", &errno))),
        }
    }

    /// Follows the interface.
    fn refresh(&mut self) -> Result<(), Failure> {
        for _ in 0..CHANGES_MAX {
            let interface = self.ring.interface().to_string();
            let change = self.ring.refresh();
            let change = change.map_err(|error| {
                Failure::Other(Error::system(format!("capture on {interface}"), &error))
            })?;
            let Some(change) = change else { break };
            if matches!(
                change,
                InterfaceChange::Bound { .. } | InterfaceChange::Replaced { .. }
            ) {
                let link = with(async |netlink| find(&netlink, &interface).await);
                self.receive.is_vxlan = link
                    .map_err(Failure::Other)?
                    .is_some_and(|link| is_vxlan(&link));
            }
            let what = if self.receive.is_vxlan {
                "frames of a vxlan device".to_owned()
            } else {
                format!("VXLAN datagrams to UDP port {}", self.receive.port)
            };
            eprintln!("podspan-sensor: {interface}: {change}; reading {what}");
        }
        Ok(())
    }

    /// Reads what is in the ring.
    fn read(&mut self) -> io::Result<()> {
        while let Some(block) = self.ring.next_block() {
            self.receive.interval.unreadable(block.unreadable().into());
            for frame in block.frames() {
                self.receive.frame(&frame)?;
            }
        }
        self.receive.file.as_mut().map_or(Ok(()), Writer::flush)
    }

    /// Reads what came before the end.
    fn drain(&mut self) -> Result<(), Failure> {
        self.ring.stop()?;
        let end = Instant::now() + DRAIN_MAX;
        while self.ring.waiting()? > 0 && Instant::now() < end {
            self.read()?;
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Prints the interval and begins the next.
    fn print(&mut self, prefix: &str) -> Result<(), Failure> {
        let drops = self.ring.statistics()?.drops;
        self.receive.interval.lost(drops.saturating_sub(self.drops));
        self.drops = drops;
        let interval = std::mem::take(&mut self.receive.interval);
        self.total.add(&interval);
        writeln!(self.lines, "{prefix}{interval}")?;
        self.lines.flush()?;
        Ok(())
    }
}

/// What is done with a frame.
struct Receive {
    port: u16,
    is_vxlan: bool,
    interval: Tally,
    file: Option<Sink>,
}

impl Receive {
    fn frame(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        if frame.direction == Direction::Outgoing {
            return Ok(());
        }
        if self.is_vxlan {
            return self.copy(frame);
        }
        match decode(frame, self.port) {
            None => Ok(()),
            Some(Err(fault)) => {
                self.interval.fault(fault);
                Ok(())
            }
            Some(Ok(datagram)) => {
                self.interval.datagram(&datagram);
                self.copy(&Frame {
                    bytes: datagram.inner,
                    link: Link::Ethernet,
                    vlan: None,
                    offload: wire::Offload::default(),
                    ..*frame
                })
            }
        }
    }

    /// Counts a copy, and writes it.
    fn copy(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        self.interval
            .frame(frame.bytes.len(), checksum::is_valid(frame));
        self.file
            .as_mut()
            .map_or(Ok(()), |file| file.write_frame(frame))
    }
}
