//! The mapping of the ring's memory.
//!
//! The kernel enters all pages of the ring into the process's page tables within the `mmap` call
//! (`packet_mmap` calls `vm_insert_page` for each), and never swaps them, because they are its own. So
//! `MAP_POPULATE` and `MAP_LOCKED` are not needed.

#![allow(unsafe_code, reason = "mapping and unmapping memory")]

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::block::Memory;
use crate::packet_socket::PacketSocket;

/// The mapping of a ring; dropping it unmaps the memory.
#[derive(Debug)]
pub(crate) struct Map {
    base: NonNull<c_void>,
    count: NonZeroUsize,
    block_len: usize,
}

impl Map {
    /// Maps the ring of `socket`, which has `count` blocks of `block_len` bytes. The kernel refuses
    /// any other length than the ring's (EINVAL), and a packet socket without a ring.
    pub(crate) fn new(
        socket: &PacketSocket,
        count: NonZeroUsize,
        block_len: NonZeroUsize,
    ) -> Result<Self, Errno> {
        let len = count.checked_mul(block_len).ok_or(Errno::ENOMEM)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses the address, so no existing mapping is replaced.
        let base = unsafe { mmap(None, len, access, MapFlags::MAP_SHARED, socket, 0) }?;
        Ok(Self {
            base,
            count,
            block_len: block_len.get(),
        })
    }
}

// SAFETY: the mapping is page-aligned and stays at its address until `Map` is dropped; its length is
// `count * block_len`, which `new` has passed to mmap; the kernel has zeroed its pages, so all bytes
// are initialised; and the kernel follows the protocol of blocks.
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
        // The product was checked when the ring was mapped. The call cannot fail, because address and
        // length are those of the mapping.
        // SAFETY: `Map` is the only owner of the mapping, and every borrow of it has ended.
        let _ = unsafe { munmap(self.base, self.count.get() * self.block_len) };
    }
}
