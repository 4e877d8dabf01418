//! What the kernel's verifier asks of the hooks (`kernel/bpf/verifier.c`), and how they meet it.
//!
//! Before it loads a program the verifier follows each way through it, instruction by instruction, and keeps for each register
//! what it knows: a pointer of which kind, a number in which bounds. It gives up after a million instructions, and refuses more
//! than 512 bytes of stack along any chain of calls.
//!
//! - **Branches multiply.** After a branch it follows the rest once for each state that it can tell apart. So a number in which
//!   several branches have left different values goes through [`launder_scalar`]; and what is done for each entry of a table has
//!   no branch, but arithmetic on bits, with `black_box` where the compiler would make a branch of it.
//! - **Constants cut branches off.** It reads frozen read-only data as constants, so a branch on `config!` or on an `offset!` that
//!   is absent is never followed.
//! - **Typed pointers are no numbers.** The pointers that BTF gives a type (the current task and what it leads to) may be loaded
//!   from, not calculated with. Where the address itself is wanted it goes through [`launder_ptr`].
//! - **Global functions are followed once.** `pub extern "C"`, `#[unsafe(no_mangle)]` and `#[inline(never)]` make one: it is
//!   verified by itself for any argument, and not again in each state in which it is called. Its stack is free again at its
//!   return. It takes five numbers at most and gives one, so the rest goes by way of maps, and no reference into one is held
//!   across the call: it changes them behind the compiler's back. All else is inlined into the hooks.
//! - **Loops are followed round by round.** So a round is a call of a global function, by [`repeat!`].
//! - **The stack is small.** What is large is put together in a map with an element for each CPU, a [`scratch`], or in place in the
//!   ring buffer.
//!
//! How much of the million each hook takes is in `/proc/PID/fdinfo/FD` of the running memtrace, as `verified_insns`.

use core::ptr;

use aya_ebpf::maps::PerCpuArray;

use crate::hooks::kernel::Object;

/// The same number, of which the verifier doesn't know that it is one of a few: it forgets that in `memory`, which must be in a
/// map.
#[inline(always)]
pub(crate) fn launder_scalar(number: u32, memory: &mut u32) -> u32 {
    let memory: *mut u32 = memory;
    // SAFETY: a valid reference. Volatile, so that the compiler takes the same way.
    unsafe {
        ptr::write_volatile(memory, number);
        ptr::read_volatile(memory)
    }
}

/// The address of an object as a number to calculate with: the verifier forgets its type in `memory`, which must be in a map.
#[inline(always)]
pub(crate) fn launder_ptr(object: Object, memory: &mut u64) -> u64 {
    let memory: *mut u64 = memory;
    // SAFETY: a valid reference. Volatile, so that the compiler takes the same way.
    unsafe {
        ptr::write_volatile(memory, object.address());
        ptr::read_volatile(memory)
    }
}

/// This CPU's element of a map that has one for each. Not to be held while a global function runs that uses the same.
#[inline(always)]
#[expect(
    clippy::mut_from_ref,
    reason = "the element is no part of the map's description"
)]
pub(crate) fn scratch<T>(map: &'static PerCpuArray<T>) -> Option<&'static mut T> {
    // SAFETY: a valid pointer to this CPU's own. Hooks that use the same map don't interrupt one another.
    map.get_ptr_mut(0).map(|own| unsafe { &mut *own })
}

/// Calls a global function so many times, or until it gives 1. Gives what the last call gave.
///
/// What goes on from round to round is kept in a map. The helper `bpf_loop` would do, too; but it is of 5.17, and before 6.4 its
/// callbacks make the verifier follow far more ways.
///
/// A call a round: the verifier measures the stack along each way from call to call (`check_max_stack_depth`), and with several in
/// each of a few nested loops there are very many.
macro_rules! repeat {
    ($times:expr, $round:path) => {{
        let mut left: u32 = $times;
        loop {
            if $round() != 0 {
                break 1;
            }
            left -= 1;
            if left == 0 {
                break 0;
            }
        }
    }};
}
pub(crate) use repeat;

/// The same for some thousands of times, a multiple of eight: eight calls a round, as the verifier counts the rounds, and one costs
/// it as much as four calls. Not for what repeats something itself.
macro_rules! repeat_often {
    ($times:expr, $round:path) => {{
        const ROUNDS: u32 = $times / 8;
        const _: () = assert!(ROUNDS * 8 == $times);
        let mut left: u32 = ROUNDS;
        loop {
            if $round() != 0
                || $round() != 0
                || $round() != 0
                || $round() != 0
                || $round() != 0
                || $round() != 0
                || $round() != 0
                || $round() != 0
            {
                break 1;
            }
            left -= 1;
            if left == 0 {
                break 0;
            }
        }
    }};
}
pub(crate) use repeat_often;
