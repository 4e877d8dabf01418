//! System calls: the end of a thread's fault, and changes of mappings.

use aya_ebpf::{helpers::generated::bpf_probe_read_user, programs::RawTracePointContext};
use memtrace_ebpf::{
    arch, compat as numbers,
    record::{Call, Kind, VmaReason},
    syscall,
};

use crate::hooks::{
    advice,
    clock::now,
    compat, failed,
    fault::end::settle,
    kernel::{Object, config, offset},
    parts::send_objects,
    returned, ring, segment,
    thread::{self, CLOSED, EXEC_MM, Thread},
    verifier::launder_ptr,
    vma,
};

/// `MAP_FIXED`
const FIXED: u64 = 0x10;
/// `MAP_ANONYMOUS`
const ANONYMOUS: u64 = 0x20;
/// `SHM_REMAP`
const REMAP: u64 = 0o40000;

/// A system call begins.
#[inline(always)]
pub(crate) fn enter(ctx: &RawTracePointContext) {
    let task = Object::current();
    let Some(thread) = thread::find(task) else {
        return;
    };
    thread.busy = 1;
    returned::send_pending(thread, 0);
    let thread = if thread.open.state == CLOSED {
        thread
    } else {
        let Some(thread) = settle(thread, task, 0, now()) else {
            return;
        };
        thread
    };
    let own = ctx.arg::<u64>(1) as u32;
    if task.load::<u32>(offset!(task_compat)) & arch::COMPAT == 0 {
        thread.compat = 0;
        thread.call = own;
    } else {
        thread.compat = 1;
        thread.call = compat::number(own);
    }
    if syscall::makes_task(thread.call) {
        thread.began = now();
        thread.hooked = 0;
        thread.child = 0;
    }
    if numbers::has_arguments(thread.call) {
        arguments(thread, task, own);
        before(task);
    }
    thread.busy = 0;
}

/// Notes the arguments of a call.
#[inline(always)]
fn arguments(thread: &mut Thread, task: Object, own: u32) {
    if thread.compat == 0 {
        let regs = task.registers();
        thread.args = [
            regs.load(offset!(regs_arg_0)),
            regs.load(offset!(regs_arg_1)),
            regs.load(offset!(regs_arg_2)),
            regs.load(offset!(regs_arg_3)),
            regs.load(offset!(regs_arg_4)),
            regs.load(offset!(regs_arg_5)),
        ];
    } else {
        compat::compat_arguments(own);
    }
}

/// Notes what can be known only before a call.
#[inline(always)]
fn before(task: Object) {
    // Found again: that function changed it behind the compiler's back.
    let Some(thread) = thread::find(task) else {
        return;
    };
    let mm = task.follow(offset!(task_mm));
    if syscall::execs(thread.call) {
        thread.args[EXEC_MM] = mm.address();
    } else if thread.call == syscall::BRK {
        thread.args[1] = mm.load(offset!(mm_brk));
    } else if thread.call == syscall::SHMDT {
        let mm = launder_ptr(mm, &mut thread.launder_ptr);
        thread.args[1] = segment::attached_bytes(mm, thread.args[0]);
    }
}

/// A system call returns.
#[inline(always)]
pub(crate) fn exit(ctx: &RawTracePointContext) {
    let task = Object::current();
    let Some(thread) = thread::find(task) else {
        return;
    };
    thread.busy = 1;
    let ts = now();
    let Some(mut thread) = settle(thread, task, 0, ts) else {
        return;
    };
    let mm = task.follow(offset!(task_mm));
    let mut ret: i64 = ctx.arg(1);
    if thread.compat != 0 {
        ret = numbers::result(ret);
        if thread.call == numbers::OLD_MMAP {
            compat::compat_late_block(ret);
            // Found again, as before.
            let Some(changed) = thread::find(task) else {
                return;
            };
            thread = changed;
        }
    }
    let pre_exec = mm.address() == thread.pre_exec_mm;
    if syscall::changes_mappings(thread.call)
        && !pre_exec
        && (config!(summary) == 0 || takes_away(thread, ret))
    {
        changed(thread, mm, ret, ts);
    }
    if syscall::makes_task(thread.call) {
        returned::end(thread, task, ret, ts);
    }
    if (syscall::makes_task(thread.call) || syscall::execs(thread.call))
        && syscall::is_error(ret)
        && !pre_exec
        && config!(summary) == 0
    {
        failed::send_failed(ret, ts);
    }
    if syscall::changes_objects(thread.call) && ret == 0 {
        send_objects(thread.call, ts);
    }
    thread.call = syscall::NONE;
    thread.busy = 0;
}

/// Tells of a call that changes mappings.
#[inline(always)]
fn changed(thread: &mut Thread, mm: Object, returned: i64, ts: u64) {
    let mut ret = returned;
    if thread.call == syscall::PROCESS_MADVISE {
        advice::send_ranges(ret, ts);
        return;
    }
    if thread.call == syscall::SHMAT {
        if thread.compat != 0 && ret == 0 {
            let Some(attached) = word(thread.args[compat::ATTACHED]) else {
                ring::lose(Kind::Call as u32);
                return;
            };
            ret = i64::from(attached);
        }
        thread.args[3] = 0;
    }
    let maps_file = thread.call == syscall::MMAP && thread.args[3] & ANONYMOUS == 0
        || thread.call == syscall::SHMAT;
    if maps_file && !syscall::is_error(ret) {
        // So that user space knows the file, and which files are programs' code.
        vma::locate(thread, mm, ret as u64, ts, VmaReason::Call);
        if thread.call == syscall::SHMAT && thread.vma.start == ret as u64 {
            thread.args[3] = thread.vma.end - thread.vma.start;
        }
    }
    // In place: on the stack the hook and what it calls would need more than there is.
    ring::send_filled(Kind::Call, |record: &mut Call| {
        record.head = thread.call_head(Kind::Call, ts);
        record.number = thread.call;
        record.pad = 0;
        record.args = thread.args;
        record.ret = ret;
    });
}

/// A word of the current task's memory, where it can be read.
#[inline(always)]
fn word(address: u64) -> Option<u32> {
    let mut word = 0_u32;
    // SAFETY: the helper checks the address.
    let failed = unsafe { bpf_probe_read_user((&raw mut word).cast(), 4, address as *const _) };
    (failed == 0).then_some(word)
}

/// With `--summary`: whether the call may have taken pages away that a fork had left shared.
#[inline(always)]
fn takes_away(thread: &Thread, ret: i64) -> bool {
    match thread.call {
        // Or has mapped a program's or a library's file: by that its BSS is known.
        syscall::MMAP => thread.args[3] & FIXED != 0 || thread.args[3] & ANONYMOUS == 0,
        // And where the heap ends, by which it is told from other memory.
        syscall::BRK => ret as u64 != thread.args[1],
        syscall::SHMAT => thread.args[2] & REMAP != 0,
        syscall::MUNMAP | syscall::MREMAP | syscall::MADVISE | syscall::PROCESS_MADVISE => true,
        _ => false,
    }
}
