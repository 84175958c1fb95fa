//! Counts the allocations of each thread, for tests that a path allocates nothing.
//!
//! The allocator is for a whole process, so such a test is a program of its own:
//!
//! ```standalone_crate
//! #[global_allocator]
//! static ALLOCATOR: testbed::CountingAllocator = testbed::CountingAllocator;
//!
//! let before = testbed::allocations();
//! drop(vec![0_u8; 10]);
//! assert_eq!(testbed::allocations() - before, 1);
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, with a count of allocations.
#[derive(Debug, Clone, Copy)]
pub struct CountingAllocator;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// How many allocations this thread has made, if [`CountingAllocator`] is the allocator.
#[must_use]
pub fn allocations() -> usize {
    ALLOCATIONS.get()
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

// SAFETY: each call goes to the system's allocator; counting does not change the result.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`; the memory is the system's.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`; the memory is the system's.
        unsafe { System.realloc(memory, layout, size) }
    }
}
