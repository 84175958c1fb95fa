//! Captures the frames on an interface, and counts those that it loses.
//!
//! A [`Sniffer`] opens a packet socket inside the namespace, puts a ring on it, and only then
//! binds it to the interface. So it misses no frame in between, and it captures no frame of another
//! interface. A thread reads the ring and passes the frames to a [`Sink`]. To stop, the socket gets
//! a filter that rejects every frame, and the thread reads the frames from before. The capture ends
//! when `seen + dropped = tp_packets`.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::frame::{Frame, Sink};
use crate::namespace::Namespace;
use crate::ring::{Ring, RingStatistics, set_option};

/// How long the thread waits for a block before it checks whether it must stop.
const TICK: Duration = Duration::from_millis(5);
/// The kernel releases the last block within milliseconds; the thread waits for it at most this long.
const DRAIN: Duration = Duration::from_secs(2);

/// What to capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Filter {
    /// Both directions.
    #[default]
    All,
    /// Only received frames.
    Incoming,
    /// Only sent frames.
    Outgoing,
}

/// The counters of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CaptureTotals {
    /// Frames read from the ring, including those of the other direction.
    pub seen: u64,
    /// Frames that the kernel dropped because the ring was full. It must be 0 in a test.
    pub dropped: u64,
}

/// A running capture.
#[derive(Debug)]
pub struct Sniffer<S> {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<(S, CaptureTotals)>>>,
}

impl Sniffer<Vec<Frame>> {
    /// Captures into memory. For short tests; long ones pass a [`Sink`] to [`Sniffer::start`].
    ///
    /// # Errors
    /// As [`Sniffer::start`].
    pub fn to_memory(namespace: &Namespace, interface: &str, filter: Filter) -> Result<Self> {
        Self::start(namespace, interface, filter, Vec::new())
    }
}

impl<S: Sink> Sniffer<S> {
    /// Memory of the ring, in bytes: enough for a second of 128 MB/s in which the thread does not run.
    const RING: usize = 128 << 20;

    /// Starts capturing on `interface`; after the return every frame is captured.
    ///
    /// # Errors
    /// [`Error::NoSuchLink`]; [`Error::System`] where the kernel refuses the socket or the memory.
    pub fn start(
        namespace: &Namespace,
        interface: &str,
        filter: Filter,
        mut sink: S,
    ) -> Result<Self> {
        let index = namespace.link(interface)?.index();
        let ring = namespace
            .run(|| open(index, filter, Self::RING))
            .map_err(|source| Error::system(format!("capturing on {interface}"), source))?;
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let thread = thread::spawn(move || {
            let totals = capture(ring, &stop, |frame| {
                let outgoing = frame.direction == crate::Direction::Outgoing;
                let wanted = match filter {
                    Filter::All => true,
                    Filter::Incoming => !outgoing,
                    Filter::Outgoing => outgoing,
                };
                if wanted {
                    sink.receive(frame);
                }
            })?;
            Ok((sink, totals))
        });
        Ok(Self {
            stopping,
            thread: Some(thread),
        })
    }

    /// Stops capturing and returns the sink, after it has received every frame that has passed the
    /// interface so far.
    ///
    /// # Errors
    /// [`Error::System`] where reading the ring failed.
    ///
    /// # Panics
    /// Where the sink panicked.
    pub fn stop(mut self) -> Result<(S, CaptureTotals)> {
        self.stopping.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else {
            return Err(Error::system("stopping a capture", io::ErrorKind::NotFound));
        };
        let outcome = thread
            .join()
            .unwrap_or_else(|payload| panic::resume_unwind(payload));
        outcome.map_err(|source| Error::system("reading a capture's ring", source))
    }
}

impl<S> Drop for Sniffer<S> {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The capture is discarded, and its result too.
            let _ = thread.join();
        }
    }
}

/// A packet socket that receives nothing until it is bound.
pub(crate) fn packet_socket() -> io::Result<OwnedFd> {
    // SAFETY: makes a descriptor and uses no memory.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    Errno::result(fd)?;
    // SAFETY: the descriptor is new, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The address of an interface for a packet socket that receives every protocol.
pub(crate) fn link_address(index: u32) -> io::Result<libc::sockaddr_ll> {
    let every_protocol = u16::try_from(libc::ETH_P_ALL).map_err(io::Error::other)?;
    Ok(libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?,
        sll_protocol: every_protocol.to_be(),
        sll_ifindex: i32::try_from(index).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    })
}

/// Binds a packet socket to an interface.
pub(crate) fn bind(socket: &OwnedFd, index: u32) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let address = link_address(index)?;
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: the kernel reads `length` bytes of the address, which is its size.
    let answer = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    Errno::result(answer)?;
    Ok(())
}

fn open(index: u32, filter: Filter, bytes: usize) -> io::Result<Ring> {
    let ring = Ring::new(packet_socket()?, bytes)?;
    if filter == Filter::Incoming {
        set_option(ring.socket(), libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
    }
    bind(ring.socket(), index)?;
    Ok(ring)
}

fn capture(
    mut ring: Ring,
    stop: &AtomicBool,
    mut each: impl FnMut(crate::FrameRef<'_>),
) -> io::Result<CaptureTotals> {
    let mut seen = 0;
    while !stop.load(Ordering::Relaxed) {
        seen += ring.read(TICK, &mut each)?;
    }
    reject_new_frames(ring.socket())?;
    let end = Instant::now() + DRAIN;
    let mut passed = RingStatistics::default();
    loop {
        let new = ring.statistics()?;
        passed.packets += new.packets;
        passed.drops += new.drops;
        if seen + passed.drops >= passed.packets || Instant::now() >= end {
            break;
        }
        seen += ring.read(TICK, &mut each)?;
    }
    Ok(CaptureTotals {
        seen,
        dropped: passed.drops,
    })
}

/// Rejects every further frame.
fn reject_new_frames(socket: &OwnedFd) -> io::Result<()> {
    // One instruction: return 0 bytes.
    let nothing = [socket2::SockFilter::new(0x06, 0, 0, 0)];
    socket2::SockRef::from(socket).attach_filter(&nothing)
}
