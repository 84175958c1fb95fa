//! A packet socket and the ring that it shares with the kernel.
//!
//! ```text
//!   interface --> tpacket_rcv --> filter --+--> rejected: not counted
//!                                          |
//!                                          v
//!        mapped once, the same pages in the kernel and in podspan
//!        +-------------+-------------+-------------+-------------+
//!        | block 0     | block 1     | block 2     | block 3     |   each `block_len`
//!        | USER        | USER        | KERNEL      | KERNEL      |
//!        | podspan     | closed,     | being filled| empty       |
//!        | reads it    | waiting     |             |             |
//!        +-------------+-------------+-------------+-------------+
//!          ^ next_block                 ^ the kernel writes here
//!          |                            |
//!          +-- back to KERNEL on drop   +-- USER when full, or `retire_after_ms` after it was opened
//! ```
//!
//! In: an interface's name. Out: [`Block`]s, in order, one at a time. If podspan still owns the block
//! after the one being filled, the kernel drops and counts frames until podspan returns that block.
//!
//! **Order of opening.** The socket is made with protocol 0, so it receives nothing. In this state the
//! filter is attached, and the ring is made and mapped. Only [`Ring::refresh`] binds the socket. So no
//! unfiltered frame enters the ring. The filter works for any device (see [`crate::filter`]), so this
//! is also true when the socket is bound again.
//!
//! **Privilege.** Only making the socket needs `CAP_NET_RAW` (`packet_create`). Binding, also again,
//! needs no capability, so it can be dropped as soon as [`Ring::open`] has returned.
//!
//! **Accounting.** `packets = frames read + drops`. `packets` and `drops` are the kernel's counters;
//! the frames read are [`Block::len`] and [`Block::unreadable`] together. The equation is true when no
//! frame is in flight: [`Ring::stop`] ends capturing, then [`Ring::waiting`] must become 0.
//!
//! Sources: `net/packet/af_packet.c` (`packet_create`, `packet_do_bind`, `tpacket_rcv`,
//! `prb_retire_rx_blk_timer_expired`, `packet_notifier`),
//! `Documentation/networking/packet_mmap.rst`.

use std::io;
use std::num::{NonZeroU32, NonZeroUsize};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::filter::Filter;
use libc::{
    ENODEV, ENOMEM, EPERM, ETH_P_ALL, ETH_P_LOOP, PACKET_VERSION, PACKET_VNET_HDR, tpacket_req3,
};
use wire::InterfaceName;

use crate::block::{Block, Blocks};
use crate::filter;
use crate::filter_handle::FilterHandle;
use crate::interface::{ChangeDetector, Device, InterfaceChange, Observation, device_name};
use crate::map::Map;
use crate::packet_socket::{Bound, PacketSocket};

/// The usual length of a block in bytes.
///
/// A frame that does not fit in one block is truncated. The largest frames are those of BIG TCP: 524,280
/// bytes (`GSO_MAX_SIZE`) and headers. A block holds only one of them; larger blocks would waste less
/// space with such frames, but every ring would have fewer blocks.
pub const BLOCK_LEN: usize = 1 << 20;

/// The smallest length of a block in bytes: a multiple of every page size of Linux that holds all frames
/// without BIG TCP, and those of BIG TCP with a limit of 196,608 bytes.
pub const BLOCK_LEN_MIN: usize = 256 << 10;

/// The kernel closes a block that is not full after this many milliseconds.
///
/// It is the longest time that a frame waits in the ring on a quiet interface, and 1000 divided by it
/// is the largest number of wake-ups per second there. Without frames the kernel's timer runs, but
/// does not wake podspan. 16 ms costs 60 wake-ups a second, and keeps the wait of 99 % of the frames below
/// 20 ms (docs/performance.md, `cargo xtask bench --ring`).
pub const RETIRE_AFTER_MS: u32 = 16;

/// The smallest number of blocks: one to be filled while one is read.
const BLOCKS_MIN: usize = 2;

/// What a ring is made with.
#[derive(Debug, Clone)]
pub struct RingConfig {
    /// The ring's size in bytes: a multiple of [`RingConfig::block_len`], at least two of them. It is
    /// memory of the kernel, allocated at once and kept until the ring is dropped.
    pub bytes: usize,
    /// The length of a block: a power of two, at least [`BLOCK_LEN_MIN`].
    pub block_len: usize,
    /// The kernel closes a block that is not full after this many milliseconds; 0 means that the kernel
    /// computes a time from the speed of the device.
    pub retire_after_ms: u32,
    /// The `SO_MARK` of podspan's datagrams, which are not captured.
    pub mark: NonZeroU32,
    /// Which frames are captured; `None`: all.
    pub filter: Option<Arc<Filter>>,
}

impl RingConfig {
    /// A ring of this size with blocks of [`BLOCK_LEN`], closed after [`RETIRE_AFTER_MS`].
    #[must_use]
    pub const fn new(bytes: usize, mark: NonZeroU32) -> Self {
        Self {
            bytes,
            block_len: BLOCK_LEN,
            retire_after_ms: RETIRE_AFTER_MS,
            mark,
            filter: None,
        }
    }

    /// The kernel's request for this ring; `None` if size and blocks do not fit each other.
    fn request(&self) -> Option<tpacket_req3> {
        let Self {
            bytes, block_len, ..
        } = *self;
        let is_valid = block_len >= BLOCK_LEN_MIN
            && block_len.is_power_of_two()
            && bytes.is_multiple_of(block_len)
            && bytes / block_len >= BLOCKS_MIN;
        is_valid.then_some(())?;
        let block_size = u32::try_from(block_len).ok()?;
        let count = u32::try_from(bytes / block_len).ok()?;
        Some(tpacket_req3 {
            tp_block_size: block_size,
            tp_block_nr: count,
            // TPACKET_V3 writes frames one after another. The kernel only checks that size and number of
            // frames match each other.
            tp_frame_size: block_size,
            tp_frame_nr: count,
            tp_retire_blk_tov: self.retire_after_ms,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        })
    }
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
    /// The kernel refused the filter.
    #[error(
        "the kernel refused the filter of {instructions} instructions: {source}; it limits a filter's \
         memory by net.core.optmem_max, so make FILTER shorter, for example with nets in the place of hosts"
    )]
    Filter {
        /// The length of the program.
        instructions: usize,
        /// The kernel's error.
        source: io::Error,
    },
    /// The size is not valid for a ring.
    #[error(
        "RING_SIZE is {bytes} bytes in blocks of {block_len}: it must be a multiple of a block, at \
         least two of them, and a block a power of two of at least {BLOCK_LEN_MIN} bytes; for example \
         32MiB"
    )]
    Size {
        /// The requested size.
        bytes: usize,
        /// The requested length of a block.
        block_len: usize,
    },
    /// The kernel does not have enough memory.
    #[error(
        "the kernel has no memory for a ring of {bytes} bytes on {interface}: choose a smaller \
         RING_SIZE than {}MiB", bytes >> 20
    )]
    Memory {
        /// The interface.
        interface: InterfaceName,
        /// The requested size.
        bytes: usize,
    },
    /// A system call failed for another reason.
    #[error("cannot capture on {interface}: {doing}: {source}")]
    System {
        /// The interface.
        interface: InterfaceName,
        /// The step that failed.
        doing: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
}

/// The kernel's counters of a ring, since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RingStatistics {
    /// Frames that passed the filter, including the dropped ones.
    pub packets: u64,
    /// Frames for which the ring had no room.
    pub drops: u64,
}

/// A ring of frames of one interface.
///
/// [`AsFd`] returns the descriptor for poll(2). It is readable while a closed block waits. It has an
/// error (POLLERR) when the interface is deleted or down. [`Ring::refresh`] clears the error; without
/// this call poll(2) no longer waits.
#[derive(Debug)]
pub struct Ring {
    // Dropped in this order: the mapping, then the socket.
    blocks: Blocks<Map>,
    socket: PacketSocket,
    watch: ChangeDetector,
    statistics: RingStatistics,
    /// Frames in the blocks that were read, including unreadable ones.
    frames_read: u64,
    mark: NonZeroU32,
    /// Shared with the filter's handles.
    stopped: Arc<AtomicBool>,
}

impl Ring {
    /// Opens a ring that is not bound yet; the interface does not need to exist.
    ///
    /// # Errors
    /// [`OpenError::NotPermitted`] without `CAP_NET_RAW`, [`OpenError::Size`] and
    /// [`OpenError::Memory`] for an invalid or too large size, else [`OpenError::System`].
    pub fn open(interface: InterfaceName, config: &RingConfig) -> Result<Self, OpenError> {
        let RingConfig {
            bytes, block_len, ..
        } = *config;
        let request = config
            .request()
            .ok_or(OpenError::Size { bytes, block_len })?;
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
        let program = filter::program_with(config.mark, config.filter.as_deref());
        let attached = socket.attach_filter(&program);
        attached.map_err(|source| OpenError::Filter {
            instructions: program.len(),
            source,
        })?;
        prepare(&socket, &request).map_err(failed("making the ring"))?;
        let map = NonZeroUsize::new(bytes / block_len)
            .zip(NonZeroUsize::new(block_len))
            .ok_or(io::ErrorKind::InvalidInput.into())
            .and_then(|(count, block_len)| Ok(Map::new(&socket, count, block_len)?))
            .map_err(failed("mapping the ring"))?;
        Ok(Self {
            blocks: Blocks::new(map),
            socket,
            watch: ChangeDetector::new(interface),
            statistics: RingStatistics::default(),
            frames_read: 0,
            mark: config.mark,
            stopped: Arc::default(),
        })
    }

    /// The interface's name that was passed to [`Ring::open`].
    #[must_use]
    pub const fn interface(&self) -> &InterfaceName {
        self.watch.name()
    }

    /// A handle that replaces the filter while another thread owns the ring.
    ///
    /// # Errors
    /// [`OpenError::System`] if the socket's descriptor cannot be duplicated.
    pub fn filter_handle(&self) -> Result<FilterHandle, OpenError> {
        let handle = FilterHandle::new(&self.socket, self.mark, &self.stopped);
        handle.map_err(|source| OpenError::System {
            interface: self.interface().clone(),
            doing: "duplicating the packet socket",
            source,
        })
    }

    /// Finds the interface by its name, binds to it if it is new, and returns what has changed. Call it
    /// after opening, when links have changed ([`crate::NetworkChanges`]), and when poll(2) reports an
    /// error. If nothing has changed, it makes five system calls.
    ///
    /// # Errors
    /// The kernel's errors for `bind`, `getsockname` and `ioctl`, except that there is no such device.
    /// The next call tries again.
    pub fn refresh(&mut self) -> io::Result<Option<InterfaceChange>> {
        if self.stopped.load(Ordering::SeqCst) {
            return Ok(None);
        }
        // The state is read below. But ENETDOWN must be cleared, or poll does not wait again.
        self.socket.take_error()?;
        let name = device_name(self.watch.name());
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

    /// Binds to a device; `None` if it was deleted in the meantime.
    fn bind(&self, index: NonZeroU32) -> io::Result<Option<Bound>> {
        ignore_no_device(self.socket.bind(index, ETH_P_ALL))?;
        // A device that is down sets ENETDOWN. The state "down" is read separately.
        self.socket.take_error()?;
        self.socket.bound()
    }

    fn describe(&self, bound: Bound) -> io::Result<Device> {
        let wanted = device_name(self.watch.name());
        let name = self.socket.name_of(bound.index)?.unwrap_or(wanted);
        // A device that is deleted just now is not up; the next call finds that it is missing.
        let up = self.socket.is_up(&name)?.unwrap_or(false);
        Ok(Device::new(bound, up, (name != wanted).then_some(name)))
    }

    /// The next block, if the kernel has closed one. Dropping it returns it to the kernel.
    pub fn next_block(&mut self) -> Option<Block<'_>> {
        let block = self.blocks.next()?;
        self.frames_read += u64::from(block.len()) + u64::from(block.unreadable());
        Some(block)
    }

    /// Whether at least half of the blocks are closed and wait for [`Ring::next_block`]. Makes no system
    /// call.
    #[must_use]
    pub fn is_half_full(&self) -> bool {
        self.blocks.is_half_full()
    }

    /// How many blocks are closed and wait for [`Ring::next_block`]. Makes no system call.
    pub fn closed_blocks(&mut self) -> usize {
        self.blocks.closed()
    }

    /// The kernel's counters since the ring was opened.
    ///
    /// # Errors
    /// The kernel's error for `getsockopt`.
    pub fn statistics(&mut self) -> io::Result<RingStatistics> {
        // Reading resets the kernel's counters, so the values are added.
        let new = self.socket.read_and_reset_statistics()?;
        self.statistics.packets += u64::from(new.tp_packets);
        self.statistics.drops += u64::from(new.tp_drops);
        Ok(self.statistics)
    }

    /// Ends capturing. When this returns, no more frames enter the ring. [`Ring::next_block`] still
    /// returns the frames that are in it, the last ones after about `retire_after_ms`, until
    /// [`Ring::waiting`] is 0.
    ///
    /// # Errors
    /// The kernel's errors for `setsockopt` and `bind`. The filter that rejects everything is attached
    /// first, so if `bind` fails, only frames that are being captured at this time can still enter.
    pub fn stop(&mut self) -> io::Result<()> {
        self.stopped.store(true, Ordering::SeqCst);
        self.socket.attach_filter(&filter::reject_all())?;
        // `tpacket_rcv` on another CPU may still run the old filter for a frame. Binding to another
        // protocol detaches the socket from the device and waits until no CPU is in `tpacket_rcv`
        // (`synchronize_net` in `packet_do_bind`). The protocol is one without traffic, and the filter
        // rejects it too. The timer that closes blocks belongs to the ring and continues.
        let Some(bound) = self.socket.bound()? else {
            return Ok(());
        };
        ignore_no_device(self.socket.bind(bound.index, ETH_P_LOOP))
    }

    /// How many frames in the ring are not yet read. After [`Ring::stop`] no more frames enter, so when
    /// this is 0, the ring is drained and the statistics no longer change.
    ///
    /// # Errors
    /// As [`Ring::statistics`].
    pub fn waiting(&mut self) -> io::Result<u64> {
        let RingStatistics { packets, drops, .. } = self.statistics()?;
        Ok(packets
            .saturating_sub(drops)
            .saturating_sub(self.frames_read))
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Prepares a socket that is not bound, in the order that the kernel requires: the version and the
/// header in front of frames (`PACKET_VNET_HDR`) before the ring.
fn prepare(socket: &PacketSocket, request: &tpacket_req3) -> io::Result<()> {
    socket.set(PACKET_VERSION, libc::tpacket_versions::TPACKET_V3 as i32)?;
    socket.set(PACKET_VNET_HDR, 1)?;
    socket.set_ring(request)
}

/// Treats "no such device" as success.
fn ignore_no_device(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(ENODEV) => Ok(()),
        other => other,
    }
}
