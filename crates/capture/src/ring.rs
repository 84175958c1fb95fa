//! A packet socket and the ring that it shares with the kernel.
//!
//! ```text
//!   interface --> tpacket_rcv --> filter --+--> refused: not counted
//!                                          |
//!                                          v
//!        mapped once, the same pages in the kernel and here
//!        +-------------+-------------+-------------+-------------+
//!        | block 0     | block 1     | block 2     | block 3     |   each BLOCK_LEN
//!        | USER        | USER        | KERNEL      | KERNEL      |
//!        | ours: being | closed,     | being filled| empty       |
//!        | read        | waiting     |             |             |
//!        +-------------+-------------+-------------+-------------+
//!          ^ next_block                 ^ the kernel goes on here
//!          |                            |
//!          +-- back to KERNEL on drop   +-- USER when full, or RETIRE_AFTER_MS after it was opened
//! ```
//!
//! In: an interface's name. Out: [`Block`]s, in order, one at a time. When the block after the one
//! being filled is still ours, the kernel drops frames and counts them until we give it back.
//!
//! **Order of opening.** The socket is made with protocol 0, so it receives nothing. The filter is
//! attached and the ring made and mapped while it is in that state, and only [`Ring::refresh`] binds
//! it. No frame ever gets into the ring past the filter. The filter holds for any device (see
//! [`crate::filter`]), so the same is true when the socket is bound anew.
//!
//! **Privilege.** Only making the socket needs `CAP_NET_RAW` (`packet_create`). Binding, also anew,
//! needs nothing, so the capability can be dropped as soon as [`Ring::open`] has returned.
//!
//! **Accounting.** `packets = frames handed out + drops`, where `packets` and `drops` are the
//! kernel's and frames handed out are [`Block::len`] and [`Block::unreadable`] together. It holds
//! when nothing is in flight, which [`Ring::stop`] brings about and [`Ring::waiting`] checks.
//!
//! Sources: `net/packet/af_packet.c` (`packet_create`, `packet_do_bind`, `tpacket_rcv`,
//! `prb_retire_rx_blk_timer_expired`, `packet_notifier`),
//! `Documentation/networking/packet_mmap.rst`.

use std::io;
use std::num::{NonZeroU32, NonZeroUsize};
use std::os::fd::{AsFd, BorrowedFd};

use libc::{
    ENODEV, ENOMEM, EPERM, ETH_P_ALL, ETH_P_LOOP, PACKET_VERSION, PACKET_VNET_HDR, tpacket_req3,
};

use crate::block::{Block, Blocks};
use crate::filter;
use crate::interface::{Change, Device, InterfaceName, Observation, Watch};
use crate::map::Map;
use crate::packet_socket::{Bound, PacketSocket};

/// The length of a block in bytes.
///
/// A frame lies in one block, or it is cut. The largest frames are those of BIG TCP: 524,280 bytes
/// (`GSO_MAX_SIZE`) and headers; two of them do not fit, so more than 1 MiB would waste less at the
/// end of blocks full of such frames, but make the ring coarser for everyone.
pub const BLOCK_LEN: usize = BLOCK_SIZE as usize;

/// The kernel closes a block that is not full after this many milliseconds.
///
/// It is the longest time that a frame waits in the ring on a quiet interface, and 1000 divided by
/// it is how often a block wakes us there at most. Without frames the timer of the kernel runs, but
/// wakes nobody. 16 ms delay no alert of a sensor that matters, and cost 60 wake-ups a second.
const RETIRE_AFTER_MS: u32 = 16;

/// The least number of blocks: one to be filled while one is read.
const LEAST_BLOCKS: u32 = 2;

/// [`BLOCK_LEN`] as the kernel takes it.
const BLOCK_SIZE: u32 = 1 << 20;
const BLOCK_LEN_NONZERO: NonZeroUsize = NonZeroUsize::new(BLOCK_LEN).unwrap();

/// What a ring is made with.
#[derive(Debug, Clone, Copy)]
pub struct RingConfig {
    /// The ring's size in bytes: a multiple of [`BLOCK_LEN`], at least two of them. It is memory of
    /// the kernel, taken at once and kept until the ring is dropped.
    pub bytes: usize,
    /// The `SO_MARK` of our own datagrams, which are kept out.
    pub mark: NonZeroU32,
}

/// Why a ring could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The process lacks `CAP_NET_RAW`.
    #[error(
        "no permission to capture on {interface}: podspan needs the capability NET_RAW; add it in \
         the container's securityContext (capabilities.add: [NET_RAW])"
    )]
    NotPermitted {
        /// The interface.
        interface: InterfaceName,
    },
    /// The size is no size of a ring.
    #[error(
        "RING_SIZE is {bytes} bytes: it must be a multiple of {BLOCK_LEN} (1MiB), at least 2MiB, \
         for example 32MiB"
    )]
    Size {
        /// The size that was asked for.
        bytes: usize,
    },
    /// The kernel has not that much memory to give.
    #[error(
        "the kernel has no memory for a ring of {bytes} bytes on {interface}: choose a smaller \
         RING_SIZE than {}MiB", bytes / BLOCK_LEN
    )]
    Memory {
        /// The interface.
        interface: InterfaceName,
        /// The size that was asked for.
        bytes: usize,
    },
    /// A system call failed otherwise.
    #[error("cannot capture on {interface}: {doing}: {source}")]
    System {
        /// The interface.
        interface: InterfaceName,
        /// What was tried.
        doing: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// The kernel's counters of a ring, since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RingStatistics {
    /// Frames that passed the filter, the dropped ones included.
    pub packets: u64,
    /// Frames for which the ring had no room.
    pub drops: u64,
}

/// A ring of frames of one interface.
///
/// [`AsFd`] gives the descriptor for poll(2). It is readable while a closed block waits. It is in
/// error (POLLERR) once when the interface goes away or down; [`Ring::refresh`] takes the error, and
/// without that call poll(2) does not wait any more.
#[derive(Debug)]
pub struct Ring {
    // Dropped in this order: the mapping, then the socket.
    blocks: Blocks<Map>,
    socket: PacketSocket,
    watch: Watch,
    statistics: RingStatistics,
    /// Frames in the blocks that were handed out, unreadable ones included.
    handed_out: u64,
    stopped: bool,
}

impl Ring {
    /// Opens a ring that is bound to nothing yet; the interface need not exist.
    ///
    /// # Errors
    /// [`OpenError::NotPermitted`] without `CAP_NET_RAW`, [`OpenError::Size`] and
    /// [`OpenError::Memory`] for a bad size, else [`OpenError::System`].
    pub fn open(interface: InterfaceName, config: &RingConfig) -> Result<Self, OpenError> {
        let bytes = config.bytes;
        let count = Some(bytes / BLOCK_LEN)
            .filter(|_| bytes.is_multiple_of(BLOCK_LEN))
            .and_then(|count| u32::try_from(count).ok())
            .filter(|&count| count >= LEAST_BLOCKS)
            .ok_or(OpenError::Size { bytes })?;
        let failed = |doing| {
            let interface = interface.clone();
            move |source: io::Error| match source.raw_os_error() {
                Some(EPERM) => OpenError::NotPermitted { interface },
                Some(ENOMEM) => OpenError::Memory { interface, bytes },
                _ => OpenError::System {
                    interface,
                    doing,
                    source,
                },
            }
        };
        let socket = PacketSocket::new().map_err(failed("opening a packet socket"))?;
        prepare(&socket, count, config.mark).map_err(failed("making the ring"))?;
        let map = NonZeroUsize::new(count as usize)
            .ok_or(io::ErrorKind::InvalidInput.into())
            .and_then(|count| Ok(Map::new(&socket, count, BLOCK_LEN_NONZERO)?))
            .map_err(failed("mapping the ring"))?;
        Ok(Self {
            blocks: Blocks::new(map),
            socket,
            watch: Watch::new(interface),
            statistics: RingStatistics::default(),
            handed_out: 0,
            stopped: false,
        })
    }

    /// The interface's name, as it was given to [`Ring::open`].
    #[must_use]
    pub const fn interface(&self) -> &InterfaceName {
        self.watch.name()
    }

    /// Finds the interface by its name, binds to it where it is new, and returns what has changed. To
    /// be called after opening, when links have changed ([`crate::NetworkChanges`]), and when poll(2)
    /// reports an error. Where nothing has changed it takes five system calls.
    ///
    /// # Errors
    /// What the kernel answers to `bind`, `getsockname` and `ioctl`, other than that there is no
    /// such device. The next call tries again.
    pub fn refresh(&mut self) -> io::Result<Option<Change>> {
        if self.stopped {
            return Ok(None);
        }
        // ENETDOWN says nothing that we do not find below, but must be taken for poll to wait again.
        self.socket.take_error()?;
        let name = self.watch.name().to_device_name();
        let named = self.socket.index_of(&name)?;
        let before = self.socket.bound()?;
        let (bound, rebound) = match (named, before) {
            (Some(index), Some(bound)) if bound.index == index => (before, false),
            (Some(index), _) => (self.bind(index)?, true),
            (None, _) => (before, false),
        };
        let now = match bound {
            None => Observation::Missing,
            Some(bound) => Observation::Device(self.describe(bound)?),
        };
        Ok(self.watch.update(now, rebound))
    }

    /// Binds to a device; gives nothing where it has gone away in the meantime.
    fn bind(&self, index: NonZeroU32) -> io::Result<Option<Bound>> {
        or_gone(self.socket.bind(index, ETH_P_ALL))?;
        // A device that is down leaves ENETDOWN: it is reported as a property of the device.
        self.socket.take_error()?;
        self.socket.bound()
    }

    fn describe(&self, bound: Bound) -> io::Result<Device> {
        let wanted = self.watch.name().to_device_name();
        let name = self.socket.name_of(bound.index)?.unwrap_or(wanted);
        // A device that goes away just now is not up; the next call finds it gone.
        let up = self.socket.is_up(&name)?.unwrap_or(false);
        Ok(Device::new(bound, up, (name != wanted).then_some(name)))
    }

    /// The next block, if the kernel has closed one. It goes back to the kernel when it is dropped.
    pub fn next_block(&mut self) -> Option<Block<'_>> {
        let block = self.blocks.next()?;
        self.handed_out += u64::from(block.len()) + u64::from(block.unreadable());
        Some(block)
    }

    /// Whether at least half of the blocks are closed and wait for [`Ring::next_block`]. Looking
    /// takes no system call.
    #[must_use]
    pub fn is_half_full(&self) -> bool {
        self.blocks.half_wait()
    }

    /// The kernel's counters since the ring was opened.
    ///
    /// # Errors
    /// What the kernel answers to `getsockopt`.
    pub fn statistics(&mut self) -> io::Result<RingStatistics> {
        // Reading resets the kernel's counters, so every reading is added.
        let news = self.socket.take_statistics()?;
        self.statistics.packets += u64::from(news.tp_packets);
        self.statistics.drops += u64::from(news.tp_drops);
        Ok(self.statistics)
    }

    /// Ends capturing, for good. When this returns no frame gets into the ring any more; those that
    /// are in it still come out of [`Ring::next_block`], the last within `RETIRE_AFTER_MS` or so,
    /// until [`Ring::waiting`] is 0.
    ///
    /// # Errors
    /// What the kernel answers to `setsockopt` and `bind`. The filter that refuses everything is
    /// attached first, so an error of the second leaves at most frames that were on their way.
    pub fn stop(&mut self) -> io::Result<()> {
        self.stopped = true;
        self.socket.attach_filter(&filter::refuse_all())?;
        // A frame that is in `tpacket_rcv` on another CPU may still run the old filter. To bind to
        // another protocol takes the socket off the device and waits until nobody is in there
        // (`synchronize_net` in `packet_do_bind`). The protocol is one that nobody uses, and the
        // filter refuses that too. The timer that closes blocks belongs to the ring and runs on.
        let Some(bound) = self.socket.bound()? else {
            return Ok(());
        };
        or_gone(self.socket.bind(bound.index, ETH_P_LOOP))
    }

    /// How many frames are in the ring that were not handed out. After [`Ring::stop`] none will
    /// follow, so when it is 0 the ring is drained and the statistics stay as they are.
    ///
    /// # Errors
    /// As [`Ring::statistics`].
    pub fn waiting(&mut self) -> io::Result<u64> {
        let RingStatistics { packets, drops, .. } = self.statistics()?;
        Ok(packets
            .saturating_sub(drops)
            .saturating_sub(self.handed_out))
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Furnishes a socket that is bound to nothing, in the order that the kernel wants: the version and
/// the header in front of frames (`PACKET_VNET_HDR`) before the ring.
fn prepare(socket: &PacketSocket, count: u32, mark: NonZeroU32) -> io::Result<()> {
    socket.set(PACKET_VERSION, libc::tpacket_versions::TPACKET_V3 as i32)?;
    socket.set(PACKET_VNET_HDR, 1)?;
    socket.attach_filter(&filter::program(mark))?;
    socket.set_ring(&tpacket_req3 {
        tp_block_size: BLOCK_SIZE,
        tp_block_nr: count,
        // TPACKET_V3 lays frames out one after another; size and number of frames are checked
        // against each other and not used.
        tp_frame_size: BLOCK_SIZE,
        tp_frame_nr: count,
        tp_retire_blk_tov: RETIRE_AFTER_MS,
        tp_sizeof_priv: 0,
        tp_feature_req_word: 0,
    })
}

/// Takes "no such device" for an answer.
fn or_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(ENODEV) => Ok(()),
        other => other,
    }
}
