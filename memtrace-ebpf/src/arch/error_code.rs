//! What the access of a fault was: bits of x86's error code (`arch/x86/include/asm/trap_pf.h`), for all architectures, and two more.

/// The page was present, and its protection in the way.
pub const PRESENT: u8 = 1 << 0;
/// The access was a write.
pub const WRITE: u8 = 1 << 1;
/// It came from user mode.
pub const USER: u8 = 1 << 2;
/// It was an instruction fetch.
pub const FETCH: u8 = 1 << 4;
/// Those of an exception.
pub const EXCEPTION: u8 = PRESENT | WRITE | USER | FETCH;
/// There was no exception: the kernel wanted the page itself (`get_user_pages`).
pub const GUP: u8 = 1 << 5;
/// A page that is only to be read must be nobody else's (`FAULT_FLAG_UNSHARE`): then [`WRITE`] is set, too, as it is
/// copied like one that is to be written.
pub const UNSHARE: u8 = 1 << 6;
