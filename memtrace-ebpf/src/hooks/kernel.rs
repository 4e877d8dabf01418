//! Reading the running kernel's structures at the offsets that user space took from its BTF.
//!
//! Since 6.2 the hooks may load from any address, which costs a few instructions. Before, only pointers that the verifier knows
//! the type of (the current task, its registers, what they lead to) are loaded from directly; anything else goes through
//! `bpf_probe_read_kernel`. So do all on a kernel that has no helpers for such pointers.

use core::{mem::transmute, ptr};

use aya_ebpf::helpers::{bpf_get_current_task_btf, generated};
use memtrace_ebpf::{
    control::{CAST_CALL, Config},
    layout::{ABSENT, Layout},
};

use crate::hooks::direct_map::direct_map;

#[unsafe(no_mangle)]
static LAYOUT: Layout = Layout::EMPTY;

#[unsafe(no_mangle)]
static CONFIG: Config = Config {
    follow: 0,
    summary: 0,
    zero_pfn: 0,
    read_frames: 0,
    detail: 0,
    handled: 0,
    typed: 0,
    word: 0,
    log_slots: 0,
    one_by_one: 0,
    backing: 0,
    common: 0,
    frames: [0; 2],
    file_frames: [0; 2],
};

/// The offset of a member in the running kernel.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: a static of this program. Volatile, as the loader replaces what is written there.
        unsafe { ::core::ptr::read_volatile(&raw const $crate::hooks::kernel::layout().$field) }
    };
}
pub(crate) use offset;

/// What the hooks are asked to do.
macro_rules! config {
    ($field:ident) => {
        // SAFETY: a static of this program. Volatile, as the loader replaces what is written there.
        unsafe { ::core::ptr::read_volatile(&raw const $crate::hooks::kernel::asked().$field) }
    };
}
pub(crate) use config;

#[inline(always)]
pub(crate) fn layout() -> &'static Layout {
    &LAYOUT
}

#[inline(always)]
pub(crate) fn asked() -> &'static Config {
    &CONFIG
}

/// An object of the kernel's whose type the verifier knows.
#[derive(Clone, Copy)]
pub(crate) struct Object(*const u8);

impl Object {
    /// The object at this address, which the verifier has to know.
    #[inline(always)]
    pub(crate) fn new(address: *const u8) -> Self {
        Self(address)
    }

    /// The task that runs on this CPU.
    #[inline(always)]
    pub(crate) fn current() -> Self {
        if !is_typed() {
            // SAFETY: the helper has no conditions.
            return Self(unsafe { generated::bpf_get_current_task() } as *const u8);
        }
        // SAFETY: the helper has no conditions.
        Self(unsafe { bpf_get_current_task_btf() }.cast_const().cast())
    }

    /// The registers that the current task entered the kernel with from user mode (`task_pt_regs`).
    #[inline(always)]
    pub(crate) fn registers(self) -> Self {
        if !is_typed() {
            let above = direct_map().map_or(0, |map| map.registers);
            return Self((self.load::<u64>(offset!(task_stack)) + above) as *const u8);
        }
        // SAFETY: the helper has no conditions but that this is a task, which the verifier checks.
        let registers = unsafe { generated::bpf_task_pt_regs(self.0.cast_mut().cast()) };
        Self(registers as *const u8)
    }

    /// Its address: an identity, nothing to load from.
    #[inline(always)]
    pub(crate) fn address(self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The member at `offset`; zero where this kernel has no such member.
    #[inline(always)]
    pub(crate) fn load<T: Member>(self, offset: u32) -> T {
        if offset == ABSENT {
            return T::ZERO;
        }
        if !is_typed() {
            return read_member(self.address(), offset);
        }
        // SAFETY: the verifier has the type of the object and refuses an offset outside of it; a stale pointer's
        // load reads zero (BPF_PROBE_MEM).
        unsafe { ptr::read_volatile(self.0.add(offset as usize).cast()) }
    }

    /// The object that the pointer at `offset` leads to.
    #[inline(always)]
    #[expect(
        clippy::cast_ptr_alignment,
        reason = "the kernel's structures are aligned, and so are their members"
    )]
    pub(crate) fn follow(self, offset: u32) -> Self {
        if offset == ABSENT {
            return Self(ptr::null());
        }
        if !is_typed() {
            return Self(self.load::<u64>(offset) as *const u8);
        }
        // SAFETY: as in `load`.
        Self(unsafe { ptr::read_volatile(self.0.add(offset as usize).cast::<*const u8>()) })
    }
}

/// What can be loaded from an [`Object`].
pub(crate) trait Member: Copy {
    const ZERO: Self;
}

impl Member for u8 {
    const ZERO: Self = 0;
}
impl Member for u32 {
    const ZERO: Self = 0;
}
impl Member for i32 {
    const ZERO: Self = 0;
}
impl Member for u64 {
    const ZERO: Self = 0;
}

/// Reads eight bytes at a kernel address that the verifier knows nothing of; zero where they can't be read, as the
/// helper fills with zeros what it fails to read. No branch: the verifier would follow both ways, each time.
#[inline(always)]
pub(crate) fn read_word(address: u64) -> u64 {
    read_member(address, 0)
}

/// Reads from a kernel address that the verifier knows nothing of into `memory`, without a copy on the small stack.
#[inline(always)]
pub(crate) fn read_into<T>(address: u64, memory: &mut T) -> bool {
    let memory: *mut T = memory;
    // SAFETY: the helper checks the address; on failure it fills the memory with zeros. T is integers everywhere.
    unsafe {
        generated::bpf_probe_read_kernel(memory.cast(), size_of::<T>() as u32, address as *const _)
            == 0
    }
}

/// Reads the member at `offset` of a structure that the verifier knows nothing of, as [`read_word`] does.
#[inline(always)]
pub(crate) fn read_member<T: Member>(structure: u64, offset: u32) -> T {
    let mut value = T::ZERO;
    if offset == ABSENT {
        return value;
    }
    let address = structure.wrapping_add(u64::from(offset));
    if loads_directly() {
        // SAFETY: the verifier takes what is there for a structure that is larger; what can't be read is zero
        // (BPF_PROBE_MEM).
        return unsafe { ptr::read_volatile(cast(address).cast()) };
    }
    read_into(address, &mut value);
    value
}

/// Reads two words.
#[inline(always)]
pub(crate) fn read_pair(address: u64) -> [u64; 2] {
    if loads_directly() {
        return [read_word(address), read_word(address + 8)];
    }
    let mut pair = [0; 2];
    read_into(address, &mut pair);
    pair
}

/// Whether memory that the verifier knows nothing of is loaded from directly: a helper costs 20 ns. Both are built, each for the
/// kernels that know it.
#[inline(always)]
pub(crate) const fn loads_directly() -> bool {
    cfg!(feature = "direct")
}

/// Whether pointers have types that the verifier knows.
#[inline(always)]
pub(crate) fn is_typed() -> bool {
    // A check of such a pointer has it go through all types of the kernel's, for each member that is read
    // (`btf_nested_type_is_trusted` in `kernel/bpf/verifier.c`).
    !loads_directly() && config!(typed) != 0
}

/// The word at this address as a pointer that may be loaded from: a call that the verifier itself replaces by a move
/// (`fixup_kfunc_call` in `kernel/bpf/verifier.c`).
#[inline(always)]
fn cast(address: u64) -> *const u8 {
    // SAFETY: to BPF's compiler a function at a fixed address is a helper of that number, which the loader replaces.
    let cast: extern "C" fn(u64, u32) -> *const u8 = unsafe { transmute(CAST_CALL as usize) };
    cast(address, config!(word))
}
