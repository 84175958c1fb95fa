//! The kernel's side of a ring, for tests: blocks in allocated memory, filled as `tpacket_rcv` does.

#![allow(unsafe_code, reason = "acts as the kernel on raw memory")]

use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::sync::Arc;

use libc::{TP_STATUS_KERNEL, TP_STATUS_USER, sockaddr_ll, tpacket3_hdr};

use crate::block::Memory;
use crate::walk::{DESCRIPTOR_LEN, FIRST, HEADER_LEN, NUM_PKTS, STATUS};

/// A frame to put into a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SimulatedFrame {
    pub(crate) bytes: Vec<u8>,
    /// More than the length of `bytes` for a truncated frame.
    pub(crate) wire_len: u32,
    pub(crate) outgoing: bool,
    pub(crate) hardware: u16,
    /// TPID and TCI.
    pub(crate) vlan: Option<(u16, u16)>,
    pub(crate) vnet: [u8; 10],
    /// The kernel has abandoned it: the slot is void.
    pub(crate) void: bool,
    pub(crate) seconds: u32,
    pub(crate) nanoseconds: u32,
}

impl SimulatedFrame {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            wire_len: u32::try_from(bytes.len()).unwrap(),
            outgoing: false,
            hardware: libc::ARPHRD_ETHER,
            vlan: None,
            vnet: [0; 10],
            void: false,
            seconds: 1,
            nanoseconds: 2,
        }
    }
}

/// Where the frame of a slot starts: as `tpacket_rcv` computes it for an Ethernet header.
pub(crate) const MAC: usize = (HEADER_LEN + 16).next_multiple_of(16) + 10 - 14;

/// Fills a block except its status, and returns how many frames fitted.
pub(crate) fn fill(block: &mut [u8], frames: &[SimulatedFrame]) -> usize {
    let mut at = DESCRIPTOR_LEN;
    let mut last = None;
    let mut count = 0;
    for frame in frames {
        let len = (MAC + frame.bytes.len()).next_multiple_of(8);
        if at + len >= block.len() {
            break;
        }
        write_slot(&mut block[at..at + len], frame);
        last = Some(at);
        count += 1;
        at += len;
    }
    if let Some(last) = last {
        put(
            block,
            last + offset_of!(tpacket3_hdr, tp_next_offset),
            &0u32.to_ne_bytes(),
        );
    }
    put(
        block,
        NUM_PKTS,
        &u32::try_from(count).unwrap().to_ne_bytes(),
    );
    put(
        block,
        FIRST,
        &u32::try_from(DESCRIPTOR_LEN).unwrap().to_ne_bytes(),
    );
    count
}

fn write_slot(slot: &mut [u8], frame: &SimulatedFrame) {
    let len = u32::try_from(slot.len()).unwrap();
    let (tpid, tci) = frame.vlan.unwrap_or_default();
    // VLAN_VALID and VLAN_TPID_VALID.
    let mut status = if frame.vlan.is_some() { 0x50 } else { 0 };
    put(
        slot,
        offset_of!(tpacket3_hdr, tp_next_offset),
        &len.to_ne_bytes(),
    );
    put(
        slot,
        offset_of!(tpacket3_hdr, hv1.tp_vlan_tci),
        &u32::from(tci).to_ne_bytes(),
    );
    put(
        slot,
        offset_of!(tpacket3_hdr, hv1.tp_vlan_tpid),
        &tpid.to_ne_bytes(),
    );
    if !frame.void {
        status |= TP_STATUS_USER;
        let address = size_of::<tpacket3_hdr>();
        let captured = u32::try_from(frame.bytes.len()).unwrap();
        let mac = u16::try_from(MAC).unwrap();
        let kind = if frame.outgoing { 4 } else { 0 };
        put(
            slot,
            offset_of!(tpacket3_hdr, tp_sec),
            &frame.seconds.to_ne_bytes(),
        );
        put(
            slot,
            offset_of!(tpacket3_hdr, tp_nsec),
            &frame.nanoseconds.to_ne_bytes(),
        );
        put(
            slot,
            offset_of!(tpacket3_hdr, tp_snaplen),
            &captured.to_ne_bytes(),
        );
        put(
            slot,
            offset_of!(tpacket3_hdr, tp_len),
            &frame.wire_len.to_ne_bytes(),
        );
        put(slot, offset_of!(tpacket3_hdr, tp_mac), &mac.to_ne_bytes());
        put(
            slot,
            address + offset_of!(sockaddr_ll, sll_hatype),
            &frame.hardware.to_ne_bytes(),
        );
        put(
            slot,
            address + offset_of!(sockaddr_ll, sll_pkttype),
            &[kind],
        );
        put(slot, MAC - 10, &frame.vnet);
        put(slot, MAC, &frame.bytes);
    }
    put(
        slot,
        offset_of!(tpacket3_hdr, tp_status),
        &status.to_ne_bytes(),
    );
}

pub(crate) fn put(block: &mut [u8], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The memory of a simulated ring, shared by both sides.
#[derive(Debug)]
struct Shared {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: only the reference count of `Shared` owns the memory; the status words say which side may
// access which block.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and this is the last reference.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}

/// The reader's side.
#[derive(Debug)]
pub(crate) struct Simulated {
    shared: Arc<Shared>,
    count: usize,
    block_len: usize,
}

// SAFETY: the allocation is aligned to 8, zeroed, has the stated length and does not move; the other
// side is `Kernel`, which writes to a block only while its status is TP_STATUS_KERNEL.
unsafe impl Memory for Simulated {
    fn base(&self) -> NonNull<u8> {
        self.shared.base
    }

    fn count(&self) -> usize {
        self.count
    }

    fn block_len(&self) -> usize {
        self.block_len
    }
}

/// The kernel's side.
#[derive(Debug)]
pub(crate) struct Kernel {
    shared: Arc<Shared>,
    count: usize,
    block_len: usize,
    current: usize,
}

/// Makes a ring of zeroed blocks.
pub(crate) fn ring(count: usize, block_len: usize) -> (Simulated, Kernel) {
    let layout = Layout::from_size_align(count * block_len, 8).unwrap();
    // SAFETY: no test makes a ring of size 0.
    let base = unsafe { alloc_zeroed(layout) };
    let base = NonNull::new(base).unwrap_or_else(|| handle_alloc_error(layout));
    let shared = Arc::new(Shared { base, layout });
    let simulated = Simulated {
        shared: Arc::clone(&shared),
        count,
        block_len,
    };
    let kernel = Kernel {
        shared,
        count,
        block_len,
        current: 0,
    };
    (simulated, kernel)
}

impl Kernel {
    /// Closes the current block with as many of the frames as fit, and returns how many. `None` if the
    /// reader still owns the block: then the frames are lost.
    pub(crate) fn deliver(&mut self, frames: &[SimulatedFrame], status: u32) -> Option<usize> {
        // SAFETY: `current` is below `count`.
        let base = unsafe { self.shared.base.add(self.current * self.block_len) };
        // SAFETY: the status word lies in the descriptor.
        let word = unsafe { base.add(STATUS) }.cast::<u32>();
        // SAFETY: aligned and valid; both sides access it as an atomic while it can change.
        let word = unsafe { AtomicU32::from_ptr(word.as_ptr()) };
        if word.load(Ordering::Acquire) != TP_STATUS_KERNEL {
            return None;
        }
        let mut filled = vec![0; self.block_len];
        let count = fill(&mut filled, frames);
        for (at, byte) in filled.into_iter().enumerate() {
            if !(STATUS..STATUS + 4).contains(&at) {
                // SAFETY: `at` is below the block's length.
                let place = unsafe { base.add(at) };
                // SAFETY: this side owns the block while its status is TP_STATUS_KERNEL.
                unsafe { place.write(byte) };
            }
        }
        word.store(TP_STATUS_USER | status, Ordering::Release);
        self.current = (self.current + 1) % self.count;
        Some(count)
    }
}
