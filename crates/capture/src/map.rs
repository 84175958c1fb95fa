//! The ring's memory, mapped.
//!
//! The kernel enters all pages of the ring into our page tables within the `mmap` call
//! (`packet_mmap` calls `vm_insert_page` for each), and they are never swapped: they are its own. So
//! there is nothing for `MAP_POPULATE` or `MAP_LOCKED` to do.

#![allow(unsafe_code, reason = "mapping memory, and taking the mapping away")]

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::block::Memory;
use crate::packet_socket::PacketSocket;

/// The mapping of a ring; gone when dropped.
#[derive(Debug)]
pub(crate) struct Map {
    base: NonNull<c_void>,
    count: NonZeroUsize,
    block_len: usize,
}

impl Map {
    /// Maps the ring of `socket`, which has `count` blocks of `block_len` bytes. The kernel refuses
    /// any other length than the ring's (EINVAL), and a packet socket without a ring. Of any other
    /// descriptor the bytes would not be a ring's.
    pub(crate) fn new(
        socket: &PacketSocket,
        count: NonZeroUsize,
        block_len: NonZeroUsize,
    ) -> Result<Self, Errno> {
        let len = count.checked_mul(block_len).ok_or(Errno::ENOMEM)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses the place, so nothing that exists is mapped over.
        let base = unsafe { mmap(None, len, access, MapFlags::MAP_SHARED, socket, 0) }?;
        Ok(Self {
            base,
            count,
            block_len: block_len.get(),
        })
    }
}

// SAFETY: the mapping is page-aligned and stays where it is until `Map` is dropped; its length is
// `count * block_len`, which `new` has passed to mmap; its pages were zeroed by the kernel, so all
// bytes are initialised; and the kernel keeps to the protocol of blocks.
unsafe impl Memory for Map {
    fn base(&self) -> NonNull<u8> {
        self.base.cast()
    }

    fn count(&self) -> usize {
        self.count.get()
    }

    fn block_len(&self) -> usize {
        self.block_len
    }
}

// SAFETY: a mapping belongs to the process, not to a thread, and `Map` is its only owner.
unsafe impl Send for Map {}

impl Drop for Map {
    fn drop(&mut self) {
        // The product was checked when the ring was mapped. Nothing could be done about a failure,
        // and there is none: place and length are those that mmap gave.
        // SAFETY: the mapping is ours alone, and every borrow of it has ended.
        let _ = unsafe { munmap(self.base, self.count.get() * self.block_len) };
    }
}
