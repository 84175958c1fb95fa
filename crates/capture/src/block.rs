//! How a block passes from the kernel to us and back.
//!
//! The ring is an array of blocks that the kernel fills in turn. Each has a status word, and whoever
//! it names may touch the block, nobody else:
//!
//! ```text
//!            kernel: copies frames in, then stores TP_STATUS_USER (after a write barrier)
//!           +---------------------------------------------------------------------+
//!           |                                                                     v
//!   TP_STATUS_KERNEL                                                        TP_STATUS_USER
//!           ^                                                                     |
//!           +---------------------------------------------------------------------+
//!            us: read the frames, then store TP_STATUS_KERNEL (Release), on drop of `Block`
//! ```
//!
//! We load the status with Acquire, so the frames are seen as they were before it was set; we store
//! it with Release, so that all our reads are over when the kernel writes again. The memory is never
//! borrowed as a whole: a slice over a block exists only within a borrow of its [`Block`], and the
//! status word of a block that is the kernel's is only ever reached as an atomic.
//!
//! `Blocks` does not care where the memory comes from. In the agent it is a mapping of the ring,
//! in the tests an allocation with a thread that plays the kernel, and Miri watches it.
//! Source: `prb_close_block`, `prb_dispatch_next_block` in `net/packet/af_packet.c`.

#![allow(
    unsafe_code,
    reason = "the memory of blocks belongs to the kernel and to us in turns"
)]

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::{AtomicU32, Ordering};

use libc::{TP_STATUS_KERNEL, TP_STATUS_USER};

use crate::walk::{Frames, Layout, STATUS, Walk};

/// Memory that holds blocks.
///
/// # Safety
/// As long as the value lives, `base` stays the same, is aligned to 8 bytes and valid for reads and
/// writes of `count() * block_len()` bytes, all of them initialised. Whatever else has access keeps
/// to the rules at the top of this module.
pub(crate) unsafe trait Memory {
    /// The first byte of the first block.
    fn base(&self) -> NonNull<u8>;
    /// The number of blocks, at least 1.
    fn count(&self) -> usize;
    /// The length of a block in bytes: a multiple of 8 that holds at least a descriptor.
    fn block_len(&self) -> usize;
}

/// The blocks of a ring and the place of the one that is handed out next.
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
        // SAFETY: the block is ours: the Acquire load has seen the kernel give it away, and the
        // kernel does not write to it before `Block::drop` gives it back.
        let bytes = unsafe { slice::from_raw_parts(base.as_ptr(), len) };
        let layout = Layout::check(bytes);
        Some(Block {
            base,
            len,
            layout,
            ring: PhantomData,
        })
    }

    /// Whether at least half of the blocks are closed and were not handed out.
    pub(crate) fn half_wait(&self) -> bool {
        // The kernel closes them in turn, so the last of that half tells for all of it.
        let last = self.next + (self.memory.count() / 2).max(1) - 1;
        self.status(last % self.memory.count()) & TP_STATUS_USER != 0
    }

    /// The first byte of a block, by its number.
    fn place(&self, number: usize) -> NonNull<u8> {
        debug_assert!(number < self.memory.count());
        let at = number * self.memory.block_len();
        // SAFETY: the number is below `count`, so the place lies within the memory.
        unsafe { self.memory.base().add(at) }
    }

    /// The status of a block, by its number. Who has seen it closed may read what the kernel wrote.
    fn status(&self, number: usize) -> u32 {
        // SAFETY: the status word lies in the descriptor, which every block holds.
        let status = unsafe { self.place(number).add(STATUS) }.cast::<u32>();
        // SAFETY: the word is aligned (the block to 8 bytes, the word in it to 4) and valid for as
        // long as `self` is borrowed, and both sides reach it only as an atomic while it can change.
        let status = unsafe { AtomicU32::from_ptr(status.as_ptr()) };
        status.load(Ordering::Acquire)
    }
}

/// A block of frames; the kernel gets it back when it is dropped.
#[derive(Debug)]
pub struct Block<'r> {
    base: NonNull<u8>,
    len: usize,
    layout: Layout,
    /// The ring is borrowed as long as the block lives, so there is one block at a time.
    ring: PhantomData<&'r mut [u8]>,
}

impl Block<'_> {
    /// All bytes of the block. [`wire::Frame::at`] counts from the first.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the block is ours until it is dropped, see `Blocks::next`, and the slice does not
        // outlive the borrow of `self`.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }

    /// The bytes up to the end of the last frame that can be read: a copy of them, given to
    /// [`Walk::check`], is the same block as far as frames are concerned.
    #[must_use]
    pub fn used(&self) -> &[u8] {
        self.bytes().get(..self.layout.end()).unwrap_or_default()
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

    /// Whether there is no frame: only where the block is damaged, or all its slots are void.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many frames the kernel put into the block that cannot be read because it is damaged.
    /// They are in none of the ring's drops: the reader counts them.
    #[must_use]
    pub fn unreadable(&self) -> u32 {
        self.layout.unreadable()
    }
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        // SAFETY: the status word lies in the descriptor, which every block holds.
        let status = unsafe { self.base.add(STATUS) }.cast::<u32>();
        // SAFETY: as in `Blocks::next`; no slice over the block is left, for each borrowed `self`.
        let status = unsafe { AtomicU32::from_ptr(status.as_ptr()) };
        status.store(TP_STATUS_KERNEL, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
