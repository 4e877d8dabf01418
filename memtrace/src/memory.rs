//! What happens when there is no more memory.

use std::alloc::{GlobalAlloc, Layout, System};

use crate::target::status;

/// The system's memory. Where there is none, memtrace ends with a word and its own status, in place of an abort: no part of it
/// could go on without.
struct OrEnd;

#[global_allocator]
static MEMORY: OrEnd = OrEnd;

// SAFETY: each call is the system's own, with what the caller vouches for; what comes back is not null.
unsafe impl GlobalAlloc for OrEnd {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller says.
        or_end(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller says.
        or_end(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller says.
        or_end(unsafe { System.realloc(memory, layout, size) })
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller says.
        unsafe { System.dealloc(memory, layout) }
    }
}

fn or_end(memory: *mut u8) -> *mut u8 {
    if memory.is_null() {
        end();
    }
    memory
}

#[cold]
fn end() -> ! {
    const WORDS: &[u8] = b"memtrace: out of memory\n";
    // SAFETY: two system calls, with a constant. Where nothing can be written there is no one left to tell.
    unsafe {
        libc::write(libc::STDERR_FILENO, WORDS.as_ptr().cast(), WORDS.len());
        libc::_exit(status::FAILED.into())
    }
}
