//! The memory that a sniffer shares with the kernel: a `TPACKET_V3` ring that only receives.
//!
//! A ring needs no privilege beyond that of the socket. Without one, frames would be lost: root of
//! a user namespace may not raise a socket's receive buffer (`SO_RCVBUFFORCE` needs `CAP_NET_ADMIN`
//! in the initial user namespace), and the default one overflows within a millisecond. Layout and
//! protocol: `include/uapi/linux/if_packet.h` and `Documentation/networking/packet_mmap.rst`.
//!
//! ```text
//! block: version u32, offset_to_priv u32, status u32, num_pkts u32, offset_to_first u32, ...
//! frame: next u32, sec u32, nsec u32, snaplen u32, len u32, status u32, mac u16, net u16,
//!        rxhash u32, vlan_tci u32, vlan_tpid u16, padding to 48; sockaddr_ll from 48
//! ```
//! Invariant: this code owns a block from the time its status is `TP_STATUS_USER` until it writes
//! `TP_STATUS_KERNEL`; a slice over the block exists only in between. Everything read from it is
//! checked against the block's length.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::frame::{Direction, FrameRef};

/// Bytes of a block: well above the largest frame (BIG TCP: 524,280 bytes).
const BLOCK: usize = 1 << 20;
/// Milliseconds after which the kernel releases a block that is not full.
const RETIRE_MS: u32 = 10;
const STATUS_AT: usize = 8;
const TPID_8021Q: u16 = 0x8100;

/// Reads a native-endian number at an offset; zero beyond the end.
macro_rules! read {
    ($type:ty, $bytes:expr, $at:expr) => {
        $bytes
            .get($at..)
            .and_then(|rest| rest.first_chunk())
            .map_or(0, |bytes| <$type>::from_ne_bytes(*bytes))
    };
}

/// Counters of one reading of `PACKET_STATISTICS`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RingStatistics {
    /// Frames that passed the filter, dropped ones included.
    pub(crate) packets: u64,
    /// Frames for which there was no room.
    pub(crate) drops: u64,
}

/// A receiving ring on a packet socket.
pub(crate) struct Ring {
    socket: OwnedFd,
    memory: NonNull<u8>,
    blocks: usize,
    next: usize,
    scratch: Vec<u8>,
}

// SAFETY: the memory is a mapping that only this value uses; nothing of it is bound to a thread.
unsafe impl Send for Ring {}

impl Ring {
    /// Adds a ring of `bytes` (rounded to blocks) to `socket`, which must not be bound yet, so that
    /// no frame is missed in between.
    pub(crate) fn new(socket: OwnedFd, bytes: usize) -> io::Result<Self> {
        let blocks = bytes.div_ceil(BLOCK).max(4);
        let number = |value: usize| u32::try_from(value).map_err(io::Error::other);
        set_option(
            &socket,
            libc::PACKET_VERSION,
            &libc::tpacket_versions::TPACKET_V3,
        )?;
        let request = libc::tpacket_req3 {
            tp_block_size: number(BLOCK)?,
            tp_block_nr: number(blocks)?,
            tp_frame_size: number(BLOCK)?,
            tp_frame_nr: number(blocks)?,
            tp_retire_blk_tov: RETIRE_MS,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set_option(&socket, libc::PACKET_RX_RING, &request)?;
        let memory = map(&socket, blocks * BLOCK)?;
        Ok(Self {
            socket,
            memory,
            blocks,
            next: 0,
            scratch: Vec::new(),
        })
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Waits at most `limit` for a block and passes its frames to `each`. Returns how many.
    pub(crate) fn read(
        &mut self,
        limit: Duration,
        each: impl FnMut(FrameRef<'_>),
    ) -> io::Result<u64> {
        if self.status().load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::ZERO);
            let mut wanted = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            poll(&mut wanted, limit)?;
            if self.status().load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
                return Ok(0);
            }
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let frames = walk(self.block(), &mut scratch, each);
        self.scratch = scratch;
        self.status()
            .store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % self.blocks;
        Ok(frames)
    }

    /// Counters since the last call: the kernel resets them when they are read.
    pub(crate) fn statistics(&self) -> io::Result<RingStatistics> {
        let mut counters = libc::tpacket_stats_v3 {
            tp_packets: 0,
            tp_drops: 0,
            tp_freeze_q_cnt: 0,
        };
        let mut length = socklen::<libc::tpacket_stats_v3>();
        // SAFETY: the kernel writes at most `length` bytes, which is the structure's size.
        let answer = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut counters).cast(),
                &raw mut length,
            )
        };
        nix::errno::Errno::result(answer)?;
        Ok(RingStatistics {
            packets: counters.tp_packets.into(),
            drops: counters.tp_drops.into(),
        })
    }

    fn block_start(&self) -> NonNull<u8> {
        // SAFETY: `next` is below `blocks`, so the start of that block is inside the mapping.
        unsafe { self.memory.add(self.next * BLOCK) }
    }

    fn status(&self) -> &AtomicU32 {
        // SAFETY: a block has more than 12 bytes, so its status word is inside the mapping.
        let status = unsafe { self.block_start().add(STATUS_AT) };
        // SAFETY: blocks start at pages, so the word is aligned; it lives as long as `self`; the
        // kernel and this code access it only by single aligned reads and writes.
        unsafe { status.cast::<AtomicU32>().as_ref() }
    }

    /// The current block after its status word. Only while this code owns it.
    fn block(&self) -> &[u8] {
        // SAFETY: as in `status`; the word after it is inside the block too.
        let start = unsafe { self.block_start().add(STATUS_AT + 4) };
        // SAFETY: the rest of the block is mapped, and the kernel writes nothing to it until
        // `read` gives it back, which needs `&mut self` and so outlives this borrow.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), BLOCK - STATUS_AT - 4) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`; no slice of it can outlive `self`.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.blocks * BLOCK) };
    }
}

/// Passes the frames of a block to `each`. `block` starts after the status word.
fn walk(block: &[u8], scratch: &mut Vec<u8>, mut each: impl FnMut(FrameRef<'_>)) -> u64 {
    const BEFORE: usize = STATUS_AT + 4;
    let count = read!(u32, block, 0);
    let mut at = (read!(u32, block, 4) as usize).saturating_sub(BEFORE);
    let mut seen = 0;
    for _ in 0..count {
        let Some(header) = block.get(at..) else { break };
        let mac = usize::from(read!(u16, header, 24));
        let length = read!(u32, header, 12) as usize;
        let Some(bytes) = header.get(mac..mac.saturating_add(length)) else {
            break;
        };
        let status = read!(u32, header, 20);
        let mut frame = FrameRef {
            time: Duration::new(read!(u32, header, 4).into(), read!(u32, header, 8)),
            direction: direction(header.get(58).copied().unwrap_or_default()),
            checksum_complete: status & libc::TP_STATUS_CSUMNOTREADY == 0,
            wire_len: read!(u32, header, 16) as usize,
            bytes,
        };
        if status & libc::TP_STATUS_VLAN_VALID != 0 {
            let has_tpid = status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
            let tpid = if has_tpid {
                read!(u16, header, 36)
            } else {
                TPID_8021Q
            };
            insert_tag(bytes, tpid, read!(u32, header, 32), scratch);
            frame.bytes = scratch;
            frame.wire_len += 4;
        }
        each(frame);
        seen += 1;
        match read!(u32, header, 0) as usize {
            0 => break,
            next => at += next,
        }
    }
    seen
}

/// Inserts a VLAN tag, which the kernel keeps apart from the frame, after the addresses.
fn insert_tag(bytes: &[u8], tpid: u16, tci: u32, scratch: &mut Vec<u8>) {
    let (addresses, rest) = bytes.split_at(bytes.len().min(12));
    let [.., high, low] = tci.to_be_bytes();
    scratch.clear();
    scratch.extend_from_slice(addresses);
    scratch.extend_from_slice(&tpid.to_be_bytes());
    scratch.extend_from_slice(&[high, low]);
    scratch.extend_from_slice(rest);
}

fn direction(packet_type: u8) -> Direction {
    match packet_type {
        libc::PACKET_BROADCAST => Direction::Broadcast,
        libc::PACKET_MULTICAST => Direction::Multicast,
        libc::PACKET_OTHERHOST => Direction::OtherHost,
        libc::PACKET_OUTGOING => Direction::Outgoing,
        _ => Direction::Host,
    }
}

/// Maps the ring of a packet socket, which has this many bytes. The caller unmaps it.
pub(crate) fn map(socket: &OwnedFd, bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping, which overlaps nothing, as the kernel chooses the address. The kernel refuses a size that is
    // not the ring's.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            socket.as_raw_fd(),
            0,
        )
    };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(memory.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// Sets an option of `SOL_PACKET` to a plain C value.
pub(crate) fn set_option<T>(socket: impl AsFd, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the kernel reads exactly the value's own bytes and keeps no pointer to them.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_PACKET,
            option,
            std::ptr::from_ref(value).cast(),
            socklen::<T>(),
        )
    };
    nix::errno::Errno::result(answer)?;
    Ok(())
}

fn socklen<T>() -> libc::socklen_t {
    // The sizes of the structures here are below a hundred bytes.
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or_default()
}
