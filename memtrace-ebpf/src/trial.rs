//! Programs that do nothing: `memtrace doctor` tries with them what the kernel grants, apart from what the hooks do.
#![no_std]
#![no_main]
#![allow(
    clippy::needless_pass_by_value,
    reason = "a program takes its context as aya's macros hand it over"
)]

use aya_ebpf::{
    macros::{fentry, perf_event, raw_tracepoint},
    programs::{FEntryContext, PerfEventContext, RawTracePointContext},
};

/// As the hooks' own: the kernel grants some things to GPL-compatible programs alone.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// For any kernel function.
#[fentry]
fn function(_ctx: FEntryContext) -> i32 {
    0
}

/// For any tracepoint.
#[raw_tracepoint]
fn tracepoint(_ctx: RawTracePointContext) -> i32 {
    0
}

/// For any timer.
#[perf_event]
fn timer(_ctx: PerfEventContext) -> u32 {
    0
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
