//! How a block passes from the kernel to podspan and back.
//!
//! The ring is an array of blocks that the kernel fills in turn. Each has a status word, which names the
//! owner. Only the owner may access the block:
//!
//! ```text
//!            kernel: copies frames in, then stores TP_STATUS_USER (after a write barrier)
//!           +---------------------------------------------------------------------+
//!           |                                                                     v
//!   TP_STATUS_KERNEL                                                        TP_STATUS_USER
//!           ^                                                                     |
//!           +---------------------------------------------------------------------+
//!            podspan: reads the frames and writes headers in front of them, then stores TP_STATUS_KERNEL
//!            (Release) when `Block` is dropped
//! ```
//!
//! podspan loads the status with Acquire, so it reads the frames that were written before the status.
//! It stores the status with Release, so all its accesses are over when the kernel writes again. The
//! memory is never borrowed as a whole: a slice over a block exists only within a borrow of its
//! [`Block`], and the status word of a block that the kernel owns is accessed only as an atomic.
//!
//! `Blocks` works with any memory. In the agent it is a mapping of the ring. In the tests it is an
//! allocation and a thread in the role of the kernel, and Miri checks the accesses.
//! Source: `prb_close_block`, `prb_dispatch_next_block` in `net/packet/af_packet.c`.

#![allow(
    unsafe_code,
    reason = "the kernel and podspan own the memory of blocks in turn"
)]

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::{AtomicU32, Ordering};

use libc::{TP_STATUS_KERNEL, TP_STATUS_USER};

use wire::BlockMemory;

use crate::walk::{Cursor, DESCRIPTOR_LEN, Frames, Layout, STATUS, Walk};

/// Memory that holds blocks.
///
/// # Safety
/// As long as the value lives, `base` stays the same, is aligned to 8 bytes and valid for reads and
/// writes of `count() * block_len()` bytes, all of them initialised. Everything else with access
/// follows the rules at the top of this module.
pub(crate) unsafe trait Memory {
    /// The first byte of the first block.
    fn base(&self) -> NonNull<u8>;
    /// The number of blocks, at least 1.
    fn count(&self) -> usize;
    /// The length of a block in bytes: a multiple of 8 that holds at least a descriptor.
    fn block_len(&self) -> usize;
}

/// The blocks of a ring and the number of the next one to read.
#[derive(Debug)]
pub(crate) struct Blocks<M> {
    memory: M,
    next: usize,
}

impl<M: Memory> Blocks<M> {
    pub(crate) fn new(memory: M) -> Self {
        Self { memory, next: 0 }
    }

    /// The next block, once the kernel has closed it.
    pub(crate) fn next(&mut self) -> Option<Block<'_>> {
        let len = self.memory.block_len();
        let base = self.place(self.next);
        let found = self.status(self.next);
        if found & TP_STATUS_USER == 0 {
            return None;
        }
        self.next = (self.next + 1) % self.memory.count();
        // SAFETY: podspan owns the block: the Acquire load has read that the kernel handed it over, and
        // the kernel does not write to it before `Block::drop` returns it.
        let bytes = unsafe { slice::from_raw_parts(base.as_ptr(), len) };
        let layout = Layout::check(bytes);
        Some(Block {
            base,
            len,
            layout,
            ring: PhantomData,
        })
    }

    /// Whether at least half of the blocks are closed and not yet read.
    pub(crate) fn is_half_full(&self) -> bool {
        // The kernel closes them in turn, so if the last of that half is closed, all of it is.
        let last = self.next + (self.memory.count() / 2).max(1) - 1;
        self.status(last % self.memory.count()) & TP_STATUS_USER != 0
    }

    /// How many blocks are closed and not yet read; none may be borrowed.
    pub(crate) fn closed(&self) -> usize {
        let count = self.memory.count();
        // The kernel closes them in turn, so the closed ones are the first: the search finds the first other one.
        let (mut low, mut high) = (0, count);
        let mut place = 0;
        while low < high {
            if self.status((self.next + place) % count) & TP_STATUS_USER == 0 {
                high = place;
            } else {
                low = place + 1;
            }
            place = low + (high - low) / 2;
        }
        low
    }

    /// The first byte of a block, by its number.
    fn place(&self, number: usize) -> NonNull<u8> {
        debug_assert!(number < self.memory.count());
        let at = number * self.memory.block_len();
        // SAFETY: the number is below `count`, so the place lies within the memory.
        unsafe { self.memory.base().add(at) }
    }

    /// The status of a block, by its number. If it is closed, the block may be read.
    fn status(&self, number: usize) -> u32 {
        // SAFETY: the status word lies in the descriptor, which every block holds.
        let status = unsafe { self.place(number).add(STATUS) }.cast::<u32>();
        // SAFETY: the word is aligned (the block to 8 bytes, the word in it to 4) and valid for as
        // long as `self` is borrowed, and both sides access it only as an atomic while it can change.
        let status = unsafe { AtomicU32::from_ptr(status.as_ptr()) };
        status.load(Ordering::Acquire)
    }
}

/// A block of frames. Dropping it returns it to the kernel.
#[derive(Debug)]
pub struct Block<'r> {
    base: NonNull<u8>,
    len: usize,
    layout: Layout,
    /// The ring is borrowed as long as the block lives, so there is one block at a time.
    ring: PhantomData<&'r mut [u8]>,
}

impl Block<'_> {
    /// All bytes of the block. [`wire::Frame::at`] is an offset in them.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: podspan owns the block until it is dropped, see `Blocks::next`, and the slice does
        // not outlive the borrow of `self`.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }

    /// The bytes up to the end of the last frame that can be read. [`Walk::check`] finds the same
    /// frames in a copy of them.
    #[must_use]
    pub fn used(&self) -> &[u8] {
        self.bytes().get(..self.layout.end()).unwrap_or_default()
    }

    /// What follows the descriptor, to be changed.
    fn after_descriptor(&mut self) -> &mut [u8] {
        // SAFETY: podspan owns the block until it is dropped, see `Blocks::next`; the memory is writable; and
        // `self` is borrowed exclusively, so there is no other slice over the block.
        let bytes = unsafe { slice::from_raw_parts_mut(self.base.as_ptr(), self.len) };
        bytes.get_mut(DESCRIPTOR_LEN..).unwrap_or_default()
    }

    /// The place of the first frame. Its [`Cursor::next`] needs [`Self::bytes`].
    #[must_use]
    pub const fn cursor(&self) -> Cursor {
        Cursor::new(self.layout)
    }

    /// The frames, oldest first.
    #[must_use]
    pub fn frames(&self) -> Frames<'_> {
        Walk::checked(self.bytes(), self.layout).frames()
    }

    /// The number of frames.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.layout.len()
    }

    /// Whether there is no frame: only if the block is damaged, or all its slots are void.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many frames of the block cannot be read because it is damaged. The ring's drops do not
    /// contain them: the reader counts them.
    #[must_use]
    pub fn unreadable(&self) -> u32 {
        self.layout.unreadable()
    }
}

impl BlockMemory for Block<'_> {
    fn bytes(&self) -> &[u8] {
        self.bytes()
    }

    /// The descriptor with the status word is not changed.
    #[inline]
    fn write<const N: usize>(&mut self, at: u32, bytes: [u8; N]) {
        let at = (at as usize).checked_sub(DESCRIPTOR_LEN);
        let place = at.and_then(|at| self.after_descriptor().get_mut(at..)?.first_chunk_mut());
        if let Some(place) = place {
            *place = bytes;
        }
    }
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        // SAFETY: the status word lies in the descriptor, which every block holds.
        let status = unsafe { self.base.add(STATUS) }.cast::<u32>();
        // SAFETY: as in `Blocks::next`; no slice over the block is left, because each borrowed `self`.
        let status = unsafe { AtomicU32::from_ptr(status.as_ptr()) };
        status.store(TP_STATUS_KERNEL, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
